"""COCO's metrics of 5,000 images with 100 detections each against pycocotools, loading included, in one process.

python benchmarks/coco_metric.py [TRIALS]

Ours starts with batches of tensors, as a detector leaves them; pycocotools with two JSON files, as its users have them
(``json``), and with the same dictionaries already in memory (``dict``). Both give the same twelve numbers to 1e-9, or
the script fails. Truths as in COCO's val2017: 7 objects per image on average, 80 classes, log-uniform sizes. Beside
wall time the processor time of all threads is counted, which other work on the machine changes less.
"""

import contextlib
import copy
import io
import json
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from striate.core.instances import InstanceSets
from striate.metrics.coco import DetectionMetric

IMAGES, FOUND, OBJECTS, CLASSES, BATCH = 5_000, 100, 7, 80, 16


def _data():
    generator = np.random.default_rng(0)
    counts = generator.poisson(OBJECTS, IMAGES)
    total = counts.sum()
    corner, size = generator.uniform(0, 400, (total, 2)), np.exp(generator.uniform(2, 6, (total, 2)))
    labels = generator.integers(0, CLASSES, total)
    ends = np.concatenate(([0], counts.cumsum()))
    images = np.arange(IMAGES).repeat(FOUND)
    near = (ends[images] + generator.random(len(images)) * counts[images]).astype(int).clip(max=total - 1)
    shift = generator.normal(0, 0.1, (len(images), 4)) * np.tile(size[near], 2)
    boxes = np.concatenate((corner[near], size[near]), 1) + shift
    boxes[:, 2:] = np.maximum(boxes[:, 2:], 1)
    boxes[:, 2:] += boxes[:, :2]
    guesses = np.where(generator.random(len(images)) < 0.7, labels[near], generator.integers(0, CLASSES, len(images)))
    return (
        InstanceSets(
            offsets=torch.arange(IMAGES + 1) * FOUND,
            boxes=torch.from_numpy(boxes).float(),
            labels=torch.from_numpy(guesses),
            scores=torch.from_numpy(generator.random(len(images))).float(),
        ),
        InstanceSets(
            offsets=torch.from_numpy(ends),
            boxes=torch.from_numpy(np.concatenate((corner, corner + size), 1)).float(),
            labels=torch.from_numpy(labels),
            crowd=torch.from_numpy(generator.random(total) < 0.01),
        ),
    )


def _dictionaries(objects):
    boxes = objects.boxes.double().numpy()
    rows = zip(
        objects.images.tolist(),
        objects.labels.tolist(),
        np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), 1).tolist(),
        (objects.crowd if objects.scores is None else objects.scores).tolist(),
        strict=True,
    )
    if objects.scores is not None:
        return [
            {"image_id": image + 1, "category_id": label + 1, "bbox": box, "score": score}
            for image, label, box, score in rows
        ]
    return [
        {
            "id": k,
            "image_id": image + 1,
            "category_id": label + 1,
            "bbox": box,
            "area": box[2] * box[3],
            "iscrowd": int(crowd),
        }
        for k, (image, label, box, crowd) in enumerate(rows, 1)
    ]


def ours(predictions, truths):
    metric = DetectionMetric(CLASSES)
    for found, true in zip(predictions, truths, strict=True):
        metric.update(found, true)
    return list(metric.compute().values())


def pycocotools(ground, found):
    with contextlib.redirect_stdout(io.StringIO()):
        if isinstance(ground, str):
            truth = COCO(ground)
        else:
            truth = COCO()
            truth.dataset = ground
            truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return list(evaluation.stats)


def _timed(function, *arguments):
    start = np.array((time.perf_counter(), time.process_time()))
    result = function(*arguments)
    return np.array((time.perf_counter(), time.process_time())) - start, result


def main(trials):
    predictions, truths = _data()
    rows = [slice(start, start + BATCH) for start in range(0, IMAGES, BATCH)]
    batches = [predictions.select(part) for part in rows], [truths.select(part) for part in rows]
    ground = {
        "images": [{"id": image} for image in range(1, IMAGES + 1)],
        "categories": [{"id": label} for label in range(1, CLASSES + 1)],
        "annotations": _dictionaries(truths),
    }
    found = _dictionaries(predictions)
    ratios = {"json": [], "dict": []}
    times = {"ours": [], "json": [], "dict": []}
    with tempfile.TemporaryDirectory() as folder:
        files = str(Path(folder, "truth.json")), str(Path(folder, "found.json"))
        for file, content in zip(files, (ground, found), strict=True):
            Path(file).write_text(json.dumps(content))
        for trial in range(trials):
            for kind, arguments in (("json", files), ("dict", (copy.deepcopy(ground), copy.deepcopy(found)))):
                # Ours before and after, so that what else the machine does falls on both.
                before, mine = _timed(ours, *batches)
                peer, theirs = _timed(pycocotools, *arguments)
                after, _ = _timed(ours, *batches)
                np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-9)
                times["ours"] += [before, after]
                times[kind].append(peer)
                ratios[kind].append(peer / ((before + after) / 2))
                print(f"trial {trial}, {kind}: ours {before} and {after} s, pycocotools {peer} s", flush=True)
    print(f"{platform.machine()}, Python {platform.python_version()}, torch threads {torch.get_num_threads()}")
    for name, seconds in times.items():
        print(f"{name}: {_range(seconds, 0, '.2f')} s of wall time, {_range(seconds, 1, '.2f')} s of processor time")
    for kind, values in ratios.items():
        print(f"ratio, {kind}: wall time {_range(values, 0, '.0f')}, processor time {_range(values, 1, '.0f')}")


def _range(values, column, form):
    numbers = [float(value[column]) for value in values]
    return f"median {statistics.median(numbers):{form}} ({min(numbers):{form}} to {max(numbers):{form}})"


if __name__ == "__main__":
    np.set_printoptions(precision=2, suppress=True)
    main(int(sys.argv[1]) if sys.argv[1:] else 3)
