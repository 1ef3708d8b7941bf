"""Losses of boxes and of unbalanced classes, one value per element; whoever calls them sums and divides."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from striate.ops.boxes import area, complete_iou, distance_iou, generalised_iou, overlap

BoxLoss = Literal["l2", "smooth_l1", "iou", "giou", "diou", "ciou"]


def focal(logits: Tensor, targets: Tensor, *, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Focal loss of independent classes (Lin et al. 2017, equation 5).

    Args:
        logits: any shape.
        targets: of the same shape, 0 to 1.
        alpha: weight of the positives; 1 - alpha that of the negatives. Below 0: no weights.
        gamma: how much what is already right is turned down.

    Returns:
        The shape of ``logits``.
    """
    probability = logits.sigmoid()
    wrong = probability + targets - 2 * probability * targets  # 1 - p_t
    loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="none") * wrong**gamma
    return loss if alpha < 0 else loss * (alpha * targets + (1 - alpha) * (1 - targets))


def smooth_l1(predicted: Tensor, targets: Tensor, *, beta: float = 1.0) -> Tensor:
    """Quadratic up to ``beta``, linear beyond (Girshick 2015, equation 3); the shape of its arguments."""
    return F.smooth_l1_loss(predicted, targets, beta=beta, reduction="none") if beta else (predicted - targets).abs()


def box_loss(kind: BoxLoss, boxes: Tensor, targets: Tensor) -> Tensor:
    """How far boxes are from those that they should be.

    Args:
        kind: ``l2`` and ``smooth_l1`` sum over the four coordinates, in whatever unit they are; the IoU family is 1
            minus the IoU named (``iou``: -log IoU, Yu et al. 2016).
        boxes: (N, 4).
        targets: (N, 4).

    Returns:
        (N,).
    """
    if kind == "l2":
        return (boxes - targets).square().sum(-1)
    if kind == "smooth_l1":
        return smooth_l1(boxes, targets).sum(-1)
    if kind == "iou":
        common = overlap(boxes, targets)
        union = area(boxes) + area(targets) - common
        return -torch.log((common / union.clamp(min=1e-7)).clamp(min=1e-6))
    return 1 - {"giou": generalised_iou, "diou": distance_iou, "ciou": complete_iou}[kind](boxes, targets)
