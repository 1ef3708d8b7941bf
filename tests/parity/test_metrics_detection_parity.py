"""Matching, curves, confusion, VOC's AP and TIDE against references that know nothing of them."""

import contextlib
import io
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import tidecv
import torch
from hotcoco import COCO, COCOeval

from striate.core.instances import InstanceSets
from striate.metrics.coco import DetectionMetric
from striate.metrics.detection import best_f1, confusion, precision_recall
from striate.metrics.tide import KINDS, mistakes
from striate.metrics.voc import VocMetric

Draw = Callable[..., tuple[InstanceSets, InstanceSets]]
CASES = {
    "plain": {"images": 40, "classes": 3},
    "one class": {"images": 30, "classes": 1},
    "crowds and difficult ones": {"images": 60, "classes": 3, "crowd": 0.15, "ignore": 0.2},
    "ties": {"images": 60, "classes": 2, "ties": True, "ignore": 0.2},
    "classes without objects": {"images": 30, "classes": 9, "absent": 4},
    "more than a hundred detections of a class": {"images": 8, "classes": 1, "found": 300, "objects": 60},
}
cases = pytest.mark.parametrize("case", CASES)
seeds = pytest.mark.parametrize("seed", [1, 2])


@cases
@seeds
def test_area_under_the_curves_is_that_of_coco(draw: Draw, case: str, seed: int):
    predictions, truths = draw(seed, **CASES[case])
    classes = CASES[case]["classes"]
    metric = DetectionMetric(classes)
    metric.update(predictions, truths)
    rows = metric.per_class(["?"] * classes)
    for iou, level in ((0.5, 0), (0.75, 5), (0.95, 9)):
        curves = precision_recall(predictions, truths, classes, iou=iou)
        for label, (curve, row) in enumerate(zip(curves, rows, strict=True)):
            if row["AP"] is None:
                assert curve.average_precision is None
                continue
            expected = metric.curves().precision[level, :, label, 0, 2].mean()
            assert curve.average_precision == pytest.approx(expected, abs=1e-9)
            assert curve.objects == row["objects"]
            assert curve.recall.max(initial=0) == pytest.approx(metric.curves().recall[level, label, 0, 2], abs=1e-12)


@cases
@seeds
def test_the_best_f1_by_trying_every_threshold(draw: Draw, case: str, seed: int):
    """What is above a threshold, matched anew, gives the F1 that the curve promised, and no threshold a better one."""
    predictions, truths = draw(seed, **CASES[case])
    classes = CASES[case]["classes"]
    rows = best_f1(precision_recall(predictions, truths, classes), [f"class {k}" for k in range(classes)])
    for label, row in enumerate(rows):
        best = (-1.0, 0.0, 0.0, 0.0)
        for threshold in np.unique(predictions.scores.numpy())[::-1][:40]:
            shown = predictions.keep(predictions.scores >= float(threshold))
            curve = precision_recall(shown, truths, classes)[label]
            if curve.objects and len(curve.right):
                right = int(curve.right.sum())
                precision, recall = right / len(curve.right), right / curve.objects
                f1 = 2 * precision * recall / (precision + recall) if right else 0.0
                best = max(best, (f1, float(threshold), precision, recall), key=lambda found: found[0])
                if float(threshold) == row["threshold"]:
                    assert (row["f1"], row["precision"], row["recall"]) == pytest.approx((f1, precision, recall))
        if row["f1"] is not None:
            assert row["f1"] >= best[0] - 1e-12
            if row["threshold"] is not None and best[1] == row["threshold"]:
                assert row["f1"] == pytest.approx(best[0])


def hotcoco_pair(predictions: InstanceSets, truths: InstanceSets, classes: int) -> COCOeval:
    def rows(objects: InstanceSets) -> np.ndarray:
        boxes = objects.boxes.double().numpy()
        return np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), 1)

    ground = COCO.from_arrays(
        [{"id": image} for image in range(len(truths))],
        [{"id": label, "name": str(label)} for label in range(classes)],
        truths.images.numpy(),
        truths.labels.numpy(),
        rows(truths),
    )
    found = np.column_stack((predictions.images, rows(predictions), predictions.scores, predictions.labels))
    return COCOeval(ground, ground.load_res(found), "bbox")


@seeds
@pytest.mark.parametrize("case", ["plain", "one class", "classes without objects"])
@pytest.mark.parametrize(("score", "iou"), [(0.0, 0.5), (0.5, 0.5), (0.3, 0.7)])
def test_confusion_against_hotcoco(draw: Draw, case: str, seed: int, score: float, iou: float):
    predictions, truths = draw(seed, **CASES[case])
    classes = CASES[case]["classes"]
    expected = hotcoco_pair(predictions, truths, classes).confusion_matrix(iou, 100, score)["matrix"]
    np.testing.assert_array_equal(confusion(predictions, truths, classes, score=score, iou=iou), expected)


def devkit(predictions: InstanceSets, truths: InstanceSets, label: int) -> tuple[Fraction, Fraction] | None:
    """VOCevaldet.m and VOCap.m of the development kit, read line by line; with fractions for counts."""
    ground = {}
    positives = 0
    for image, objects in enumerate(truths):
        rows = (objects.labels == label).nonzero()[:, 0].tolist()
        difficult = [
            any(column is not None and bool(column[row]) for column in (objects.ignore, objects.crowd)) for row in rows
        ]
        ground[image] = ([objects.boxes[row].tolist() for row in rows], difficult, [False] * len(rows))
        positives += len(rows) - sum(difficult)
    if not positives:
        return None
    results = [
        (float(objects.scores[row]), image, objects.boxes[row].tolist())
        for image, objects in enumerate(predictions)
        for row in (objects.labels == label).nonzero()[:, 0].tolist()
    ]
    results.sort(key=lambda result: -result[0])
    right = wrong = 0
    recalls, precisions = [], []
    for _, image, box in results:
        boxes, difficult, detected = ground[image]
        overlap, nearest = -1.0, -1
        for number, other in enumerate(boxes):
            width = min(box[2], other[2]) - max(box[0], other[0])
            height = min(box[3], other[3]) - max(box[1], other[1])
            if width > 0 and height > 0:
                union = (box[2] - box[0]) * (box[3] - box[1]) - width * height
                union += (other[2] - other[0]) * (other[3] - other[1])
                if width * height / union > overlap:
                    overlap, nearest = width * height / union, number
        if overlap >= 0.5 and difficult[nearest]:
            continue
        if overlap >= 0.5 and not detected[nearest]:
            right += 1
            detected[nearest] = True
        else:
            wrong += 1
        recalls.append(Fraction(right, positives))
        precisions.append(Fraction(right, right + wrong))

    tenths = [Fraction(k, 10) for k in range(11)]
    reached = [[p for r, p in zip(recalls, precisions, strict=True) if r >= tenth] for tenth in tenths]
    eleven = sum((max(above, default=Fraction(0)) for above in reached), Fraction(0)) / 11
    recalls, precisions = [Fraction(0), *recalls, Fraction(1)], [Fraction(0), *precisions, Fraction(0)]
    for k in range(len(precisions) - 2, -1, -1):
        precisions[k] = max(precisions[k], precisions[k + 1])
    steps = [k for k in range(1, len(recalls)) if recalls[k] != recalls[k - 1]]
    return sum(((recalls[k] - recalls[k - 1]) * precisions[k] for k in steps), Fraction(0)), eleven


@cases
@seeds
def test_voc_against_its_development_kit(draw: Draw, case: str, seed: int):
    predictions, truths = draw(seed, **CASES[case])
    classes = CASES[case]["classes"]
    metric = VocMetric(classes)
    for rows in (slice(0, 5), slice(5, None)):
        metric.update(predictions.select(rows), truths.select(rows))
    expected = [devkit(predictions, truths, label) for label in range(classes)]
    for row, pair in zip(metric.per_class([""] * classes), expected, strict=True):
        if pair is None:
            assert row["VOC_AP"] is row["VOC07_AP"] is None
        else:
            assert (row["VOC_AP"], row["VOC07_AP"]) == pytest.approx([float(value) for value in pair], abs=1e-12)
    known = np.array([pair for pair in expected if pair is not None], float)
    assert list(metric.compute().values()) == pytest.approx(known.mean(0).tolist(), abs=1e-12)


def by_tidecv(predictions: InstanceSets, truths: InstanceSets):
    ground, found = tidecv.Data("truth"), tidecv.Data("found")
    for image, (true, mine) in enumerate(zip(truths, predictions, strict=True)):
        for objects, data in ((true, ground), (mine, found)):
            boxes = objects.boxes.double().numpy()
            data.add_image(image, str(image))
            for k, (box, label) in enumerate(zip(boxes, objects.labels.tolist(), strict=True)):
                place = [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()]
                if data is ground:
                    data.add_ground_truth(image, label, place)
                else:
                    data.add_detection(image, label, float(objects.scores[k]), place)
    with contextlib.redirect_stdout(io.StringIO()):
        return tidecv.TIDE().evaluate(ground, found, mode=tidecv.TIDE.BOX)


@pytest.mark.parametrize("classes", [1, 2, 5])
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_mistakes_against_tidecv(draw: Draw, monkeypatch: pytest.MonkeyPatch, classes: int, seed: int):
    # Its 101 recalls are k / 100, which is not always the nearest number that COCO's are.
    monkeypatch.setattr("striate.metrics.detection.RECALLS", np.arange(101) / 100)
    predictions, truths = draw(seed, images=60, classes=classes, found=20)
    # Rougher boxes for half of the detections, so that every kind occurs.
    shift = torch.from_numpy(np.random.default_rng(seed).normal(0, 12, predictions.boxes.shape)).float()
    boxes = predictions.boxes + shift * (torch.arange(len(shift)) % 2)[:, None]
    boxes[:, 2:] = torch.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    predictions = InstanceSets(
        offsets=predictions.offsets, boxes=boxes, labels=predictions.labels, scores=predictions.scores
    )
    run = by_tidecv(predictions, truths)
    found = mistakes(predictions, truths, classes)
    names = dict(zip(("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss"), KINDS, strict=True))
    counts = {names[kind.short_name]: count for kind, count in run.count_errors().items()}
    costs = {names[kind.short_name]: cost / 100 for kind, cost in run.fix_main_errors().items()}
    special = {kind.short_name: cost / 100 for kind, cost in run.fix_special_errors().items()}
    assert found.base == pytest.approx(run.ap / 100, abs=1e-9)
    assert found.counts == counts
    assert all(count for kind, count in counts.items() if classes > 1 or kind not in ("classification", "both"))
    assert {kind: found.costs[kind] for kind in KINDS} == pytest.approx(costs, abs=1e-9)
    assert found.costs["false_positive"] == pytest.approx(special["FalsePos"], abs=1e-9)
    assert found.costs["false_negative"] == pytest.approx(special["FalseNeg"], abs=1e-9)
