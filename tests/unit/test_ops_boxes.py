"""Boxes by hand."""

import pytest
import torch

from striate.ops.boxes import area, at_least, clip, complete_iou, distance_iou, from_form, generalised_iou, iou, overlap
from striate.ops.boxes import to_form as to

A = torch.tensor([0.0, 0, 4, 2])


@pytest.mark.parametrize(("form", "said"), [("cxcywh", [2.0, 1, 4, 2]), ("xywh", [0.0, 0, 4, 2])])
def test_forms_and_back(form, said):
    assert to(A, form).tolist() == said
    assert torch.equal(from_form(torch.tensor(said), form), A)


@pytest.mark.parametrize(
    ("other", "common", "expected", "hull"),
    [
        ([0, 0, 4, 2], 8, 1.0, 8),  # itself
        ([2, 0, 6, 2], 4, 4 / 12, 12),  # half of each
        ([4, 0, 8, 2], 0, 0.0, 16),  # side by side
        ([6, 0, 10, 2], 0, 0.0, 20),  # apart
        ([1, 0, 2, 2], 2, 2 / 8, 8),  # within
        ([2, 1, 2, 1], 0, 0.0, 8),  # a point
    ],
)
def test_overlaps(other, common, expected, hull):
    other = torch.tensor(other, dtype=torch.float32)
    assert overlap(A, other) == common
    torch.testing.assert_close(iou(A[None], other[None]), torch.tensor([[expected]]))
    union = 8 + area(other) - common
    torch.testing.assert_close(generalised_iou(A, other), expected - (hull - union) / hull)


def test_the_farther_the_centres_the_smaller_diou():
    other = torch.tensor([2.0, 0, 6, 2])  # centres 2 apart, the hull 6 by 2
    torch.testing.assert_close(distance_iou(A, other), torch.tensor(4 / 12 - 4 / 40))
    torch.testing.assert_close(complete_iou(A, other), distance_iou(A, other))  # the sides' ratio is the same


def test_empty_and_inverted_boxes_have_no_area_and_no_overlap():
    point, inverted = torch.tensor([[1.0, 1, 1, 1]]), torch.tensor([[3.0, 3, 1, 1]])
    assert area(torch.cat((point, inverted))).tolist() == [0, 0]
    assert iou(point, point).tolist() == [[0]]
    for measure in (generalised_iou, distance_iou, complete_iou):
        assert measure(point, point).isfinite().all()


def test_gradients_are_finite_where_boxes_are_apart_or_empty():
    boxes = torch.tensor([[0.0, 0, 1, 1], [5, 5, 5, 5]], requires_grad=True)
    for measure in (generalised_iou, distance_iou, complete_iou):
        boxes.grad = None
        measure(boxes, torch.tensor([[2.0, 2, 3, 3], [5, 5, 5, 5]])).sum().backward()
        assert boxes.grad.isfinite().all()


def test_no_boxes():
    assert iou(torch.empty(0, 4), A[None]).shape == (0, 1)
    assert iou(A[None], torch.empty(0, 4)).shape == (1, 0)


@pytest.mark.parametrize("size", [(10, 20), torch.tensor([10, 20])])
def test_clip_is_height_before_width(size):
    assert clip(torch.tensor([[-5.0, -5, 50, 50]]), size).tolist() == [[0, 0, 20, 10]]


def test_at_least_asks_both_sides():
    boxes = torch.tensor([[0.0, 0, 4, 2], [0, 0, 4, 4], [0, 0, 3.9, 4]])
    assert at_least(boxes, 4).tolist() == [False, True, False]
