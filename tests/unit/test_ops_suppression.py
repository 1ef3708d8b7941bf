"""Suppression by hand, and against plain Python readings of the algorithms."""

import math

import pytest
import torch

from striate.ops import suppression
from striate.ops.boxes import iou
from striate.ops.suppression import Suppression, nms


def _random(count, classes, seed=0, ties=False):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 60
    boxes = torch.cat((corner, corner + 5 + torch.rand(count, 2, generator=generator) * 30), dim=1)
    scores = torch.rand(count, generator=generator)
    if ties:
        scores = (scores * 5).round() / 5
    return boxes, scores, torch.randint(classes, (count,), generator=generator)


def _plain_nms(boxes, scores, labels, threshold):
    """Greedy suppression as every textbook has it; of equal scores the first."""
    overlaps = iou(boxes.double(), boxes.double())
    order = sorted(range(len(boxes)), key=lambda i: (-scores[i].item(), i))
    kept = []
    for i in order:
        if all(labels[i] != labels[j] or overlaps[i, j] <= threshold for j in kept):
            kept.append(i)
    return kept


@pytest.mark.parametrize("one_pass", [True, False])
@pytest.mark.parametrize(("count", "classes"), [(1, 1), (40, 1), (150, 4), (60, 60)])
@pytest.mark.parametrize("ties", [False, True])
def test_nms_is_the_textbooks_whichever_way_it_goes(monkeypatch, one_pass, count, classes, ties):
    monkeypatch.setattr(suppression, "WORTH_A_CALL", math.inf if one_pass else 0)
    boxes, scores, labels = _random(count, classes, ties=ties)
    assert nms(boxes, scores, labels, 0.4).tolist() == _plain_nms(boxes, scores, labels, 0.4)


@pytest.mark.parametrize("one_pass", [True, False])
def test_classes_that_no_box_has_and_no_boxes_at_all(monkeypatch, one_pass):
    monkeypatch.setattr(suppression, "WORTH_A_CALL", math.inf if one_pass else 0)
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 10]])
    kept = nms(boxes, torch.tensor([0.1, 0.9, 0.5]), torch.tensor([900, 900, 3]), 0.5)
    assert kept.tolist() == [1, 2]
    empty = nms(boxes[:0], torch.empty(0), torch.empty(0, dtype=torch.int64), 0.5)
    assert (empty.shape, empty.dtype) == ((0,), torch.int64)


def test_boxes_left_of_the_image_do_not_meet_those_of_another_class():
    boxes = torch.tensor([[-100.0, -100, -50, -50], [-100, -100, -50, -50]])
    assert nms(boxes, torch.tensor([0.5, 0.4]), torch.tensor([0, 1]), 0.5).tolist() == [0, 1]


def test_a_large_class_number_costs_no_precision():
    boxes, scores, _ = _random(200, 1)
    first = nms(boxes, scores, torch.zeros(200, dtype=torch.int64), 0.45)
    assert nms(boxes, scores, torch.full((200,), 1202), 0.45).tolist() == first.tolist()


def _plain_soft(boxes, scores, labels, sigma, floor, limit, per_class):
    """Figure 2 of Bodla et al. 2017 with the Gaussian of equation 2."""
    overlaps, left, open_ = iou(boxes, boxes), scores.tolist(), list(range(len(boxes)))
    found = []
    while open_ and len(found) < limit:
        best = max(open_, key=lambda i: (left[i], -i))
        if left[best] < floor:
            break
        found.append((best, left[best]))
        open_.remove(best)
        for i in open_:
            if not per_class or labels[i] == labels[best]:
                left[i] *= math.exp(-(overlaps[best, i].item() ** 2) / sigma)
    return found


@pytest.mark.parametrize("per_class", [True, False])
def test_soft_suppression_is_the_papers_algorithm(per_class):
    boxes, scores, labels = _random(60, 3)
    chosen = Suppression(kind="soft", score=0.1, limit=40, per_class=per_class)
    found = chosen(boxes, scores, labels)
    expected = _plain_soft(*_sorted(boxes, scores, labels, 0.1), sigma=0.5, floor=0.1, limit=40, per_class=per_class)
    rows, values = zip(*expected, strict=True)
    ordered = _sorted(boxes, scores, labels, 0.1)
    torch.testing.assert_close(found.boxes, ordered[0][list(rows)])
    torch.testing.assert_close(found.scores, torch.tensor(values))
    assert torch.equal(found.labels, ordered[2][list(rows)])
    assert (found.scores.diff() <= 0).all()


def _sorted(boxes, scores, labels, floor):
    order = [i for i in sorted(range(len(boxes)), key=lambda i: -scores[i].item()) if scores[i] >= floor]
    return boxes[order], scores[order], labels[order]


def test_hard_suppression_sorts_cuts_and_limits():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10], [40, 0, 50, 10], [60, 0, 70, 10]])
    scores = torch.tensor([0.6, 0.9, 0.7, 0.04, 0.7])
    labels = torch.tensor([0, 0, 1, 0, 0])
    found = Suppression(limit=2)(boxes, scores, labels)
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.7]))
    assert found.boxes[1].tolist() == [20, 0, 30, 10]  # of equal scores the first
    assert len(Suppression()(boxes, scores, labels)) == 3


def test_without_classes_boxes_of_all_suppress_each_other():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9]])
    scores, labels = torch.tensor([0.6, 0.9]), torch.tensor([0, 1])
    assert Suppression()(boxes, scores, labels).labels.tolist() == [1, 0]
    assert Suppression(per_class=False)(boxes, scores, labels).labels.tolist() == [1]
    assert len(Suppression(kind="none")(boxes, scores, torch.tensor([0, 0]))) == 2


@pytest.mark.parametrize("kind", ["hard", "soft", "none"])
def test_nothing_above_the_threshold_is_nothing_found(kind):
    boxes, scores, labels = _random(5, 2)
    assert len(Suppression(kind=kind, score=2.0)(boxes, scores, labels)) == 0
    diverged = torch.full((5,), torch.nan)
    assert len(Suppression(kind=kind)(boxes, diverged, labels)) == 0
