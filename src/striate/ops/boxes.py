"""Boxes: their forms, areas and overlaps.

A box is (x1, y1, x2, y2) in pixels, float32, everywhere but here and in the files of data formats. Letters: N, M boxes.
"""

from typing import Literal

import torch
from torch import Tensor

Form = Literal["cxcywh", "xywh"]


def from_form(boxes: Tensor, form: Form) -> Tensor:
    """(..., 4) boxes as x1, y1, x2, y2, from centre and size or from corner and size."""
    place, size = boxes.split(2, dim=-1)
    first = place - size / 2 if form == "cxcywh" else place
    return torch.cat((first, first + size), dim=-1)


def to_form(boxes: Tensor, form: Form) -> Tensor:
    """(..., 4) boxes x1, y1, x2, y2 as centre and size or as corner and size."""
    first, last = boxes.split(2, dim=-1)
    return torch.cat(((first + last) / 2 if form == "cxcywh" else first, last - first), dim=-1)


def area(boxes: Tensor) -> Tensor:
    """(...) areas of (..., 4) boxes; a box turned inside out has none."""
    width, height = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).unbind(-1)
    return width * height


def overlap(boxes: Tensor, others: Tensor) -> Tensor:
    """Areas in common: (..., 4) and (..., 4) to (...), broadcasting."""
    first = torch.maximum(boxes[..., :2], others[..., :2])
    last = torch.minimum(boxes[..., 2:], others[..., 2:])
    return area(torch.cat((first, last), dim=-1))


def iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of all pairs: (N, 4) and (M, 4) to (N, M); of two empty boxes 0."""
    common = overlap(boxes[:, None], others[None])
    union = area(boxes)[:, None] + area(others)[None] - common
    return torch.where(union > 0, common / union, 0.0)


def generalised_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """GIoU (Rezatofighi et al. 2019, algorithm 1) of (..., 4) and (..., 4), broadcasting: -1 to 1."""
    common = overlap(boxes, others)
    union = area(boxes) + area(others) - common
    hull = area(_hull(boxes, others))
    return common / union.clamp(min=_EPSILON) - (hull - union) / hull.clamp(min=_EPSILON)


def distance_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """DIoU (Zheng et al. 2020, equation 7): IoU minus the centres' distance over the hull's diagonal, squared."""
    common = overlap(boxes, others)
    union = area(boxes) + area(others) - common
    hull = _hull(boxes, others)
    diagonal = (hull[..., 2:] - hull[..., :2]).square().sum(-1)
    centres = (boxes[..., :2] + boxes[..., 2:] - others[..., :2] - others[..., 2:]) / 2
    return common / union.clamp(min=_EPSILON) - centres.square().sum(-1) / diagonal.clamp(min=_EPSILON)


def complete_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """CIoU (Zheng et al. 2020, equations 8 to 11): DIoU minus a term for the difference of the sides' ratio."""
    common = overlap(boxes, others)
    plain = common / (area(boxes) + area(others) - common).clamp(min=_EPSILON)
    width, height = (boxes[..., 2:] - boxes[..., :2]).unbind(-1)
    other_width, other_height = (others[..., 2:] - others[..., :2]).unbind(-1)
    difference = torch.atan(other_width / other_height.clamp(min=_EPSILON)) - torch.atan(
        width / height.clamp(min=_EPSILON)
    )
    ratio = 4 / torch.pi**2 * difference.square()
    with torch.no_grad():  # the trade-off is no part of the gradient (the paper's section on optimisation)
        share = ratio / (1 - plain + ratio).clamp(min=_EPSILON)
    return distance_iou(boxes, others) - share * ratio


def clip(boxes: Tensor, size: tuple[int, int] | Tensor) -> Tensor:
    """(..., 4) boxes cut off at the border of an image.

    Args:
        boxes: x1, y1, x2, y2.
        size: height and width, of all or (..., 2) of each box.
    """
    limits = torch.as_tensor(size, dtype=boxes.dtype, device=boxes.device).flip(-1)
    return torch.minimum(boxes.clamp(min=0), torch.cat((limits, limits), dim=-1))


def at_least(boxes: Tensor, side: float) -> Tensor:
    """(...) bool: which of (..., 4) boxes are ``side`` pixels or more wide and high."""
    return ((boxes[..., 2:] - boxes[..., :2]) >= side).all(-1)


_EPSILON = 1e-7  # keeps quotients of empty boxes finite, as in torchvision


def _hull(boxes: Tensor, others: Tensor) -> Tensor:
    """The smallest box around each pair."""
    first = torch.minimum(boxes[..., :2], others[..., :2])
    return torch.cat((first, torch.maximum(boxes[..., 2:], others[..., 2:])), dim=-1)
