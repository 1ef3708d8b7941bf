"""Which prediction is responsible for which object. Letters: N objects of an image, M anchors."""

import torch
from torch import Tensor

from striate.core.instances import Instances
from striate.ops.boxes import area, iou, overlap

BELOW, BETWEEN = -1, -2
ASIDE = 0.5  # from this overlap on, an anchor belongs to what teaches nothing


def taught(objects: Instances) -> Tensor:
    """(N,) bool: the objects to be learnt, which are neither crowds nor ignored."""
    kept = torch.ones(len(objects), dtype=torch.bool, device=objects.boxes.device)
    for passed_over in (objects.crowd, objects.ignore):
        if passed_over is not None:
            kept &= ~passed_over
    return kept


def set_aside(anchors: Tensor, objects: Instances) -> Tensor:
    """(M,) bool: anchors on a crowd or an ignored object, which are no background: by IoU, or by half of the anchor.

    Args:
        anchors: (M, 4).
        objects: of the image.
    """
    regions = objects.boxes[~taught(objects)]
    if not len(regions):
        return torch.zeros(len(anchors), dtype=torch.bool, device=anchors.device)
    within = overlap(anchors[:, None], regions[None]) >= ASIDE * area(anchors)[:, None]
    return (within | (iou(anchors, regions) >= ASIDE)).any(dim=1)


def match_by_iou(overlaps: Tensor, *, high: float, low: float, every_object: bool) -> Tensor:
    """The object of each anchor, by overlap (Ren et al. 2015, section 3.1.2).

    Args:
        overlaps: (N, M) IoU of objects and anchors.
        high: an anchor with at least this overlap is matched to the object with which it has the largest.
        low: an anchor below it is background; from ``low`` to ``high`` it is neither.
        every_object: the anchors with the largest overlap of an object are matched too, however small it is: to the
            object with which they have the largest, as torchvision does.

    Returns:
        (M,) int64: the object, `BELOW` or `BETWEEN`.
    """
    if not len(overlaps):
        return torch.full((overlaps.shape[1],), BELOW, dtype=torch.int64, device=overlaps.device)
    best, objects = overlaps.max(dim=0)
    matched = objects.clone()
    matched[best < high] = BETWEEN
    matched[best < low] = BELOW
    if every_object and overlaps.shape[1]:
        anchors = (overlaps == overlaps.max(dim=1, keepdim=True).values).any(dim=0)
        matched[anchors] = objects[anchors]
    return matched


def sample(matched: Tensor, *, count: int, positives: float) -> tuple[Tensor, Tensor]:
    """Some of the matched anchors and some of the background, at random, for the loss (Ren et al. 2015, section 3.1.3).

    Args:
        matched: (M,) int64, as `match_by_iou` gives it.
        count: how many are taken in all; fewer where there are fewer.
        positives: the largest share of matched ones; background fills up what they leave.

    Returns:
        Two (K,) int64: anchors that are matched, and anchors that are background. Drawn from torch's own generator.
    """
    inside = (matched >= 0).nonzero()[:, 0]
    outside = (matched == BELOW).nonzero()[:, 0]
    taken = min(len(inside), int(count * positives))
    others = min(len(outside), count - taken)
    return (
        inside[torch.randperm(len(inside), device=inside.device)[:taken]],
        outside[torch.randperm(len(outside), device=outside.device)[:others]],
    )
