"""Which prediction is responsible for which object. Letters: N objects of an image, M anchors."""

import torch
from torch import Tensor

BELOW, BETWEEN = -1, -2


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
