"""The COCO metrics against pycocotools, on random data sets with everything that is odd."""

import contextlib
import io
import pickle
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from striate.core.instances import InstanceSets
from striate.errors import DataError, DivergedError
from striate.metrics.coco import DetectionMetric

Draw = Callable[..., tuple[InstanceSets, InstanceSets]]
NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


class Reference(COCOeval):
    """pycocotools, which also honours "ignore": its own `_prepare` overwrites it with "iscrowd"."""

    def _prepare(self):
        super()._prepare()
        for annotations in self._gts.values():
            for annotation in annotations:
                annotation["ignore"] = annotation["iscrowd"] or annotation["set_aside"]


def annotations(objects: InstanceSets) -> list[dict]:
    """Dictionaries as in COCO's files, made one by one."""
    rows = []
    for image, instances in enumerate(objects, 1):
        for k in range(len(instances)):
            x1, y1, x2, y2 = instances.boxes[k].tolist()
            row = {
                "id": len(rows) + 1,
                "image_id": image,
                "category_id": int(instances.labels[k]) + 1,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1) if instances.areas is None else float(instances.areas[k]),
                "iscrowd": 0 if instances.crowd is None else int(instances.crowd[k]),
                "set_aside": 0 if instances.ignore is None else int(instances.ignore[k]),
            }
            if instances.scores is not None:
                row["score"] = float(instances.scores[k])
            rows.append(row)
    return rows


def reference(predictions: InstanceSets, truths: InstanceSets, classes: int) -> COCOeval:
    with contextlib.redirect_stdout(io.StringIO()):
        ground = COCO()
        ground.dataset = {
            "images": [{"id": image} for image in range(1, len(truths) + 1)],
            "categories": [{"id": label} for label in range(1, classes + 1)],
            "annotations": annotations(truths),
        }
        ground.createIndex()
        found = annotations(predictions)
        evaluation = Reference(ground, ground.loadRes(found) if found else COCO(), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


CASES = {
    "plain": {"images": 40, "classes": 3},
    "one class": {"images": 30, "classes": 1},
    "crowds": {"images": 60, "classes": 2, "crowd": 0.25},
    "to be ignored": {"images": 60, "classes": 3, "ignore": 0.3},
    "crowds, to be ignored, areas of masks": {
        "images": 80,
        "classes": 4,
        "crowd": 0.1,
        "ignore": 0.1,
        "areas": True,
    },
    "ties of scores and overlaps": {"images": 60, "classes": 2, "ties": True, "crowd": 0.1},
    "classes without objects": {"images": 30, "classes": 9, "absent": 4},
    "more than a hundred detections of a class": {"images": 8, "classes": 1, "found": 300, "objects": 60},
    "small objects only": {"images": 30, "classes": 2, "side": 20},
    "one image": {"images": 1, "classes": 2},
}


def measured(predictions: InstanceSets, truths: InstanceSets, classes: int) -> DetectionMetric:
    metric = DetectionMetric(classes)
    for start in range(0, len(truths), 7):  # in uneven batches, as in life
        rows = slice(start, start + 7)
        metric.update(predictions.select(rows), truths.select(rows))
    return metric


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_against_pycocotools(draw: Draw, case: str, seed: int, capfd: pytest.CaptureFixture[str]):
    options = CASES[case]
    predictions, truths = draw(seed, **options)
    expected = reference(predictions, truths, options["classes"])
    metric = measured(predictions, truths, options["classes"])
    if (expected.stats == -1).all():  # no object in the one image
        with pytest.raises(DataError, match="no object to find"):
            metric.compute()
        return
    metrics = metric.compute()
    assert metrics == pytest.approx(
        {name: value for name, value in zip(NAMES, expected.stats, strict=True) if value > -1}, abs=1e-9
    )
    curves = metric.curves()
    np.testing.assert_allclose(curves.precision, expected.eval["precision"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(curves.recall, expected.eval["recall"], rtol=0, atol=1e-9)
    assert capfd.readouterr() == ("", "")

    rows = metric.per_class([f"class {label}" for label in range(options["classes"])])
    for label, row in enumerate(rows):
        precision = expected.eval["precision"][:, :, label, 0, 2]
        if precision.max() == -1:
            assert row["AP"] is row["AP50"] is None
            assert row["objects"] == 0
        else:
            assert row["AP"] == pytest.approx(precision.mean(), abs=1e-9)
            assert row["AP50"] == pytest.approx(precision[0].mean(), abs=1e-9)
            assert row["objects"] > 0


def test_nothing_found_is_zero(draw: Draw):
    predictions, truths = draw(0, images=10, classes=2, found=0)
    metrics = measured(predictions, truths, 2).compute()
    assert set(metrics.values()) == {0.0}
    assert {"AP", "AP50", "AR100"} <= set(metrics)


def test_a_perfect_detector(draw: Draw):
    _, truths = draw(0, images=10, classes=2)
    predictions = InstanceSets(
        offsets=truths.offsets, boxes=truths.boxes, labels=truths.labels, scores=torch.ones(len(truths.boxes))
    )
    metrics = measured(predictions, truths, 2).compute()
    assert metrics["AP"] == metrics["AP50"] == metrics["AR100"] == 1.0


def test_nothing_to_measure(draw: Draw):
    with pytest.raises(DataError, match="no image"):
        DetectionMetric(2).compute()
    predictions, truths = draw(0, images=10, classes=2, objects=0)
    assert len(predictions.boxes)
    with pytest.raises(DataError, match="no object to find in any of the 10 images"):
        measured(predictions, truths, 2).compute()


def test_processes_and_batches_change_nothing(draw: Draw):
    predictions, truths = draw(5, images=60, classes=2, ties=True, crowd=0.1)
    whole = DetectionMetric(2)
    whole.update(predictions, truths)
    expected = whole.compute()
    parts = []
    for process in range(3):
        part = DetectionMetric(2)
        mine = torch.arange(process, 60, 3)
        for rows in mine.split(4):
            part.update(predictions.select(rows), truths.select(rows), rows)
        parts.append(part)
    sent = [pickle.loads(pickle.dumps(part)) for part in parts]
    for order in ((0, 1, 2), (2, 0, 1)):
        merged = DetectionMetric(2)
        for process in order:
            merged.merge(sent[process])
        assert merged.count == 60
        assert merged.compute() == expected


def test_more_images_after_a_result(draw: Draw):
    predictions, truths = draw(6, images=20, classes=2)
    metric = DetectionMetric(2)
    metric.update(predictions.select(slice(0, 10)), truths.select(slice(0, 10)))
    first = metric.compute()
    assert len(pickle.dumps(metric)) < 100_000  # the curves stay at home
    metric.update(predictions.select(slice(10, 20)), truths.select(slice(10, 20)))
    assert metric.compute() == measured(predictions, truths, 2).compute() != first


def test_what_is_refused(draw: Draw):
    predictions, truths = draw(7, images=10, classes=2)
    with pytest.raises(ValueError, match="10 images with predictions, 9 with truths"):
        DetectionMetric(2).update(predictions, truths.select(slice(0, 9)))
    with pytest.raises(ValueError, match="predictions must have scores"):
        DetectionMetric(2).update(truths, truths)
    with pytest.raises(ValueError, match=re.escape("label 1 is outside of 0..0")):
        DetectionMetric(1).update(predictions, truths)
    broken = InstanceSets(
        offsets=predictions.offsets, boxes=predictions.boxes, labels=predictions.labels, scores=predictions.scores / 0
    )
    with pytest.raises(DivergedError, match="diverged"):
        DetectionMetric(2).update(broken, truths)
