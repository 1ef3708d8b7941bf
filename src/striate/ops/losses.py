"""Losses of boxes and of unbalanced classes, one value per element; whoever calls them sums and divides."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

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


def focal_of_labels(logits: Tensor, labels: Tensor, *, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Focal loss where nearly all is background: `focal`, summed over each image, in a fraction of its time.

    Loss and gradient are written down in one go, as if nothing were there, and mended at the few places where
    something is; targets of the logits' size are never made.

    Args:
        logits: (B, M, K).
        labels: (B, M) int64: the class, -1 background, -2 neither, as `striate.ops.matching` has it.
        alpha: weight of the positives; 1 - alpha that of the negatives.
        gamma: how much what is already right is turned down.

    Returns:
        (B,) float32 (float64 of such logits).
    """
    exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return _FocalOfLabels.apply(exact, labels, alpha, gamma)  # pyright: ignore[reportReturnType]


class _FocalOfLabels(torch.autograd.Function):
    """With x the logit and p its probability, background costs (1 - alpha) p^gamma softplus(x), an object of the class
    alpha (1 - p)^gamma softplus(-x).
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, alpha: float, gamma: float) -> Tensor:
        there = (labels >= 0).nonzero(as_tuple=True)
        places = (*there, labels[there])
        neither = (labels < -1).nonzero(as_tuple=True)
        probability, cost = logits.sigmoid(), F.softplus(logits)
        factor = probability**gamma
        factor *= 1 - alpha
        loss = factor * cost
        found = logits[places]
        right, found_cost = found.sigmoid(), F.softplus(-found)
        found_factor = alpha * (1 - right) ** gamma
        loss[places] = found_factor * found_cost
        loss[neither] = 0
        if ctx.needs_input_grad[0]:
            # The derivative of background is factor (gamma (1 - p) softplus(x) + p); an object's mirrors it.
            slope = cost.addcmul_(cost, probability, value=-1).mul_(gamma).add_(probability).mul_(factor)
            slope[places] = -found_factor * (gamma * right * found_cost + 1 - right)
            slope[neither] = 0
            ctx.save_for_backward(slope)
        return loss.sum(dim=(1, 2))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # pyright: ignore
        (slope,) = ctx.saved_tensors
        return slope * gradient[:, None, None], None, None, None


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


def quality_focal(logits: Tensor, targets: Tensor, *, gamma: float = 2.0) -> Tensor:
    """Quality focal loss: the target is how good a box is (Li et al. 2020, "Generalized Focal Loss", section 3).

    Args:
        logits: any shape.
        targets: of the same shape, 0 to 1.
        gamma: beta of the paper, which takes 2.

    Returns:
        |target - probability|^gamma times the cross-entropy; the shape of ``logits``.
    """
    away = (targets - logits.sigmoid()).abs()
    return away**gamma * F.binary_cross_entropy_with_logits(logits, targets, reduction="none")


def distribution_focal(logits: Tensor, targets: Tensor) -> Tensor:
    """Distribution focal loss: all weight on the two whole numbers around a target (Li et al. 2020, section 3).

    Args:
        logits: (..., n + 1), of a distribution over 0, 1, ..., n.
        targets: (...), cut off to 0 up to n.

    Returns:
        (...).
    """
    last = logits.shape[-1] - 1
    targets = targets.clamp(0, last)
    below = targets.floor().clamp(max=last - 1)
    share = (targets - below)[..., None]
    likely = logits.log_softmax(-1)
    left = likely.gather(-1, below.long()[..., None])
    right = likely.gather(-1, below.long()[..., None] + 1)
    return -((1 - share) * left + share * right)[..., 0]
