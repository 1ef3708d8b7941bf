"""Losses by hand; against torchvision in tests/parity."""

import math

import pytest
import torch

from striate.ops.losses import box_loss, focal, smooth_l1


def test_focal_loss_by_hand():
    # A logit of 0 is a probability of 0.5: ln 2, turned down by 0.5 squared, weighted by alpha or 1 - alpha.
    logits, targets = torch.zeros(2), torch.tensor([1.0, 0.0])
    expected = math.log(2) * 0.25 * torch.tensor([0.25, 0.75])
    torch.testing.assert_close(focal(logits, targets), expected)
    torch.testing.assert_close(focal(logits, targets, alpha=-1, gamma=0), torch.full((2,), math.log(2)))


def test_what_is_right_teaches_little():
    easy, hard = focal(torch.tensor([6.0, -6.0]), torch.ones(2))
    assert hard / easy > 1e6


def test_smooth_l1_bends_at_beta():
    x = torch.tensor([0.0, 0.5, 1.0, 3.0])
    torch.testing.assert_close(smooth_l1(x, torch.zeros(4)), torch.tensor([0, 0.125, 0.5, 2.5]))
    torch.testing.assert_close(smooth_l1(x, torch.zeros(4), beta=0.0), x)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("l2", 8.0),  # 2 squared, twice
        ("smooth_l1", 3.0),  # 1.5, twice
        ("iou", math.log(3)),  # 4 of 12
        ("giou", 1 - 4 / 12),  # the hull is the union
        ("diou", 1 - 4 / 12 + 4 / 40),  # centres 2 apart, a diagonal of sqrt(40)
        ("ciou", 1 - 4 / 12 + 4 / 40),  # and the same shape
    ],
)
def test_box_losses_by_hand(kind, expected):
    boxes, targets = torch.tensor([[0.0, 0, 4, 2]]), torch.tensor([[2.0, 0, 6, 2]])
    torch.testing.assert_close(box_loss(kind, boxes, targets), torch.tensor([expected]))
    assert box_loss(kind, targets, targets).abs().max() < 1e-6
    assert box_loss(kind, torch.empty(0, 4), torch.empty(0, 4)).shape == (0,)


@pytest.mark.parametrize("kind", ["l2", "smooth_l1", "iou", "giou", "diou", "ciou"])
def test_losses_and_gradients_are_finite_for_boxes_apart_and_empty(kind):
    boxes = torch.tensor([[0.0, 0, 1, 1], [5, 5, 5, 5], [3, 3, 1, 1]], requires_grad=True)
    loss = box_loss(kind, boxes, torch.tensor([[50.0, 50, 60, 60], [5, 5, 9, 9], [0, 0, 9, 9]]))
    assert loss.isfinite().all()
    loss.sum().backward()
    assert boxes.grad.isfinite().all()
