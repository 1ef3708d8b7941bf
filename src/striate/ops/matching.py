"""Which prediction is responsible for which object. Letters: N objects of an image, M anchors."""

import numpy as np
import torch
from numpy.typing import NDArray
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


def assign(costs: Tensor) -> tuple[Tensor, Tensor]:
    """The pairing of rows and columns with the least sum of costs (the assignment problem), exactly.

    By shortest augmenting paths, from one row to the next, with prices that keep every reduced cost at zero or above
    (Crouse 2016, "On implementing 2D rectangular assignment algorithms", which scipy's `linear_sum_assignment`
    follows too). Of several best pairings one is given, always the same one.

    Args:
        costs: (N, M), on any device. What is not finite is taken for a cost larger than all others.

    Returns:
        Two (min(N, M),) int64 on the CPU: rows, ascending, and the column of each.
    """
    table = costs.detach().cpu().double()
    rows, columns = table.shape
    if rows > columns:
        columns_first, rows_then = assign(table.T)
        order = rows_then.argsort()
        return rows_then[order], columns_first[order]
    if not table.isfinite().all():
        finite = table[table.isfinite()]
        beyond = float(finite.abs().max()) * 2 * (rows + 1) + 1 if len(finite) else 0.0  # dearer than any whole pairing
        table = table.nan_to_num(nan=beyond, posinf=beyond, neginf=beyond)
    cost: NDArray[np.float64] = table.numpy()
    row_price, column_price = np.zeros(rows), np.zeros(columns)
    partner = np.full(columns, -1)  # the row of each column
    for start in range(rows):
        distance = np.full(columns, np.inf)  # of the shortest path so far from `start` to each column
        before = np.full(columns, -1)  # the column before it on this path; -1: `start` itself
        closed = np.zeros(columns, dtype=bool)
        row, column, length = start, -1, 0.0
        while row >= 0:
            through = length + cost[row] - row_price[row] - column_price
            shorter = ~closed & (through < distance)
            distance[shorter], before[shorter] = through[shorter], column
            column = int(np.where(closed, np.inf, distance).argmin())
            length = float(distance[column])
            closed[column] = True
            row = int(partner[column])
        left = length - distance[closed]  # of the columns on the way, 0 for the free one at its end
        matched = partner[closed]
        row_price[start] += length
        row_price[matched[matched >= 0]] += left[matched >= 0]
        column_price[closed] -= left
        while column >= 0:  # the path's rows move on by one column, and `start` gets the first
            earlier = int(before[column])
            partner[column] = start if earlier < 0 else partner[earlier]
            column = earlier
    paired = np.flatnonzero(partner >= 0)
    order = partner[paired].argsort()
    return torch.from_numpy(partner[paired][order]), torch.from_numpy(paired[order])
