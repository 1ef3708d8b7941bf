"""Localization on examples that are judged by eye, and the order of batches."""

import pickle

import pytest
import torch
from torchvision.ops import box_iou

from striate.core.instances import InstanceSets
from striate.errors import DataError, DivergedError
from striate.metrics.localization import LocalizationMetric


def sets(boxes: list[list[float]], labels: list[int], each: int = 1, **columns: torch.Tensor) -> InstanceSets:
    return InstanceSets(
        offsets=torch.arange(0, len(labels) + 1, each),
        boxes=torch.tensor(boxes).reshape(-1, 4),
        labels=torch.tensor(labels, dtype=torch.int64),
        **columns,
    )


TRUE = sets([[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10], [20, 20, 40, 40]], [0, 0, 1, 1])
# IoU 1, 1/2 exactly, 0 and 1; the last has the wrong class.
FOUND = sets([[0, 0, 10, 10], [0, 0, 10, 5], [50, 50, 60, 60], [20, 20, 40, 40]], [0, 0, 1, 0])


def test_shares():
    metric = LocalizationMetric(2)
    metric.update(FOUND, TRUE)
    expected = {"IoU": 2.5 / 4, "top1": 3 / 4, "gt_known_localization": 3 / 4, "top1_localization": 2 / 4}
    assert metric.compute() == expected
    cat, dog = metric.per_class(("cat", "dog"))
    assert cat == {
        "name": "cat",
        "IoU": 0.75,
        "top1": 1,
        "gt_known_localization": 1,
        "top1_localization": 1,
        "objects": 2,
    }
    assert dog == {
        "name": "dog",
        "IoU": 0.5,
        "top1": 0.5,
        "gt_known_localization": 0.5,
        "top1_localization": 0,
        "objects": 2,
    }


def test_several_objects_per_image_and_some_that_do_not_count():
    truths = sets(TRUE.boxes.tolist(), TRUE.labels.tolist(), each=2, ignore=torch.tensor([False, False, True, False]))
    found = sets(FOUND.boxes.tolist(), FOUND.labels.tolist(), each=2)
    metric = LocalizationMetric(2)
    metric.update(found, truths)
    assert metric.count == 3
    assert metric.compute()["IoU"] == pytest.approx(2.5 / 3, abs=1e-9)


def test_iou_is_torchvisions_and_batches_change_nothing():
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(2, 300, 2, generator=generator) * 50
    boxes = torch.cat((corners, corners + torch.rand(2, 300, 2, generator=generator) * 60), dim=2)
    labels = torch.randint(0, 7, (2, 300), generator=generator)
    pair = [InstanceSets(offsets=torch.arange(301), boxes=b, labels=k) for b, k in zip(boxes, labels, strict=True)]
    whole = LocalizationMetric(7)
    whole.update(*pair)
    expected = box_iou(boxes[0].double(), boxes[1].double()).diagonal()
    assert whole.compute()["IoU"] == pytest.approx(float(expected.mean()), abs=1e-9)
    assert whole.compute()["gt_known_localization"] == float((expected >= 0.5).double().mean())
    merged = LocalizationMetric(7)
    for process in (2, 0, 1):
        part = LocalizationMetric(7)
        for rows in torch.arange(process, 300, 3).split(7):
            part.update(*(sets.select(rows) for sets in pair))
        merged.merge(pickle.loads(pickle.dumps(part)))
    assert merged.compute() == whole.compute()


def test_what_is_refused():
    metric = LocalizationMetric(2)
    with pytest.raises(DataError, match="no object to measure on"):
        metric.compute()
    with pytest.raises(ValueError, match="image 0 has 2 and 1"):
        metric.update(sets(FOUND.boxes.tolist(), FOUND.labels.tolist(), each=2), TRUE)
    with pytest.raises(ValueError, match="predicted label 2"):
        metric.update(sets(FOUND.boxes.tolist(), [0, 0, 2, 0]), TRUE)
    with pytest.raises(DivergedError, match="1 of 4 objects"):
        metric.update(sets([[0, 0, float("nan"), 1], *FOUND.boxes.tolist()[1:]], [0, 0, 1, 0]), TRUE)


def test_an_empty_batch_and_empty_boxes():
    metric = LocalizationMetric(1)
    metric.update(sets([], []), sets([], []))
    metric.update(sets([[5, 5, 5, 5]], [0]), sets([[5, 5, 5, 5]], [0]))
    assert metric.compute()["IoU"] == 0
