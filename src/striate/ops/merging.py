"""One answer of several: detections of an image's windows joined across their seams, and of several views fused.

Letters: N, M detections, V views, T windows, P keypoints. Boxes are x1, y1, x2, y2 in pixels, float32.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import torch
from torch import Tensor

from striate.core.instances import Instances
from striate.errors import UsageError
from striate.ops.boxes import area, clip, iou, overlap
from striate.ops.suppression import nms

# A box that comes this near to an inner border of its window is taken to be cut there: a part of the window's side or
# of its own, whichever is more, since detectors are off by a part of the box.
CUT, CUT_OF_BOX = 0.01, 0.1


@dataclass(frozen=True, kw_only=True)
class Window:
    """A part of an image, in whole pixels of it."""

    x1: int
    y1: int
    x2: int
    y2: int

    @property
    def rows(self) -> slice:
        """Of the image."""
        return slice(self.y1, self.y2)

    @property
    def columns(self) -> slice:
        """Of the image."""
        return slice(self.x1, self.x2)


def windows(size: tuple[int, int], tile: int, overlap: float) -> list[Window]:
    """Windows that cover an image, row after row; neighbours share at least the asked part, the last ones more.

    Each begins ``tile * (1 - overlap)`` pixels after the one before it, and the last one of a row or a column ends with
    the image. An image that is smaller than a window has one window there, as large as itself.

    Args:
        size: height and width of the image.
        tile: side of a window in pixels.
        overlap: what neighbours share, as a part of their side: 0 or more, below 1.

    Raises:
        UsageError: a tile or an overlap that makes no windows.
    """
    if tile < 1 or not 0 <= overlap < 1:
        raise UsageError(
            f"tiles of {tile} pixels with an overlap of {overlap:g} cannot be cut: the side must be 1 or more (640 is "
            "usual), the overlap 0 or more and below 1 (0.2 is usual)."
        )
    step = max(1, math.floor(tile * (1 - overlap) + 1e-9))
    rows, columns = (_starts(length, tile, step) for length in size)
    height, width = (min(tile, length) for length in size)
    return [Window(x1=x, y1=y, x2=x + width, y2=y + height) for y in rows for x in columns]


def _starts(length: int, tile: int, step: int) -> list[int]:
    last = max(0, length - tile)
    return [*range(0, last, step), last]


def join_windows(
    found: Sequence[Instances],
    places: Sequence[Window],
    size: tuple[int, int],
    *,
    same: float = 0.5,
    share: float = 0.5,
) -> Instances:
    """The objects of an image of those that were found in its windows.

    A box is *cut* where it comes near to a border of its window that is not one of the image (within a hundredth of
    the window's side, or a tenth of the box's). Of what two windows both see, only the parts of boxes inside are
    compared. Two boxes of a class from two windows are of one object when

    - neither is cut, and their IoU is ``same`` or more;
    - one is cut, and ``share`` or more of its part lies in the other's;
    - both are cut, and ``share`` or more of the smaller part lies in the other.

    Pairs are joined by falling IoU of the parts, and an object has at most one box of each window. It takes its most
    confident box that is not cut; where all are cut, the box around all of them. Its score is the greatest. In the
    end boxes of a class that overlap a better one by an IoU of more than ``same`` go, as in any detector.

    Keypoints come from the box whose place or, of cut ones, whose score is taken. Masks are left out. Windows without
    overlap share nothing, and nothing is joined.

    Args:
        found: T times the detections in a window, in its pixels, with scores.
        places: T windows. One may be the whole image, for objects that are larger than a window.
        size: height and width of the image.
        same: IoU from which whole boxes are of one object.
        share: part of a box from which cut ones are.

    Returns:
        In the image's pixels, most confident first.
    """
    parts = [_moved(part, place) for part, place in zip(found, places, strict=True)]
    cut = [_cut(part.boxes, place, size) for part, place in zip(parts, places, strict=True)]
    starts = torch.tensor([0] + [len(part) for part in parts]).cumsum(0).tolist()
    pairs: list[tuple[float, int, int]] = []
    for one, other in combinations(range(len(parts)), 2):
        common = _common(places[one], places[other])
        if common is None or not len(parts[one]) or not len(parts[other]):
            continue
        joined, strength = _alike(parts[one], parts[other], cut[one], cut[other], common, same, share)
        for row, column in joined.nonzero().tolist():
            pairs.append((-float(strength[row, column]), starts[one] + row, starts[other] + column))
    owners = [window for window, part in enumerate(parts) for _ in range(len(part))]
    groups = _grouped(sorted(pairs), owners)

    everything = _together(parts)
    is_cut: list[bool] = torch.cat([torch.empty(0, dtype=torch.bool), *cut]).tolist()
    scores = _scores(everything)
    order: list[int] = scores.argsort(descending=True, stable=True).tolist()
    rank = {row: place for place, row in enumerate(order)}
    chosen: list[int] = []  # whose place is taken, of each group
    best: list[int] = []
    hulls: dict[int, Tensor] = {}
    for group in groups:
        rows = sorted(group, key=rank.__getitem__)
        whole = [row for row in rows if not is_cut[row]]
        if not whole and len(rows) > 1:
            members = everything.boxes[rows]
            hulls[len(chosen)] = torch.cat((members[:, :2].amin(0), members[:, 2:].amax(0)))
        chosen.append(whole[0] if whole else rows[0])
        best.append(rows[0])
    merged = everything.select(torch.tensor(chosen, dtype=torch.int64))
    boxes = merged.boxes.clone()
    for place, hull in hulls.items():
        boxes[place] = hull
    merged = replace(merged, boxes=clip(boxes, size), scores=scores[best])
    assert merged.scores is not None
    return merged.select(nms(merged.boxes, merged.scores, merged.labels, same))


def suppress(views: Sequence[Instances], *, threshold: float = 0.5) -> Instances:
    """The detections of several views of one image, without those that overlap a better one of their class.

    Args:
        views: V times detections in the same pixels, with scores.
        threshold: of the IoU.

    Returns:
        Most confident first, scores as they were. Masks are left out.
    """
    everything = _together(views)
    return everything.select(nms(everything.boxes, _scores(everything), everything.labels, threshold))


def fuse(views: Sequence[Instances], *, threshold: float = 0.55, weights: Sequence[float] | None = None) -> Instances:
    """Weighted boxes fusion (Solovyev, Wang and Gabruseva 2021, "Weighted boxes fusion", section 3).

    Class by class, boxes take their turns by falling score. Each joins the fused box with which it has the greatest
    IoU, if that is above ``threshold``, else it begins a new one. A fused box is the mean of its boxes weighted by
    their scores. Its score is their mean score times min(V, boxes) / V: what few views have seen counts less. With
    weights the score of each box is multiplied by that of its view first, and the last division is by the sum of the
    weights, as in the authors' package ``ensemble-boxes``.

    Args:
        views: V times detections of one image in the same pixels, with scores, each without duplicates.
        threshold: the authors' 0.55, which they found close to the best.
        weights: V of them; all 1 where there are none.

    Returns:
        Most confident first. Keypoints are those of the most confident box of each. Masks are left out, and so are
        boxes without an area or a score.
    """
    weights = [1.0] * len(views) if weights is None else list(weights)
    everything = _together(views)
    if not len(everything):
        return everything
    of_view = torch.tensor(weights).repeat_interleave(torch.tensor([len(view) for view in views]))
    scores = _scores(everything).double() * of_view
    rows = ((area(everything.boxes) > 0) & (scores > 0)).nonzero()[:, 0]
    rows = rows[scores[rows].argsort(descending=True, stable=True)]
    total = sum(weights)
    fused: list[Tensor] = []
    first: list[int] = []
    means: list[float] = []
    for label in everything.labels[rows].unique().tolist():
        own = rows[everything.labels[rows] == label]
        boxes, shares = everything.boxes[own].double(), scores[own]
        sums = torch.zeros(len(own), 4, dtype=torch.float64)  # of boxes times scores, one row per fused box
        weight, count = torch.zeros(len(own), dtype=torch.float64), [0] * len(own)
        begun = 0
        for row in range(len(own)):
            place = begun
            if begun:
                overlaps = iou(boxes[row : row + 1], sums[:begun] / weight[:begun, None])[0]
                nearest = int(overlaps.argmax())
                place = nearest if float(overlaps[nearest]) > threshold else begun
            if place == begun:
                first.append(int(own[row]))
                begun += 1
            sums[place] += boxes[row] * shares[row]
            weight[place] += shares[row]
            count[place] += 1
        fused += (sums[:begun] / weight[:begun, None]).float().unbind(0)
        # The mean, weight / count, times min(V, count) / total.
        means += [float(weight[place]) / count[place] * min(len(views), count[place]) / total for place in range(begun)]
    merged = everything.select(torch.tensor(first, dtype=torch.int64))
    if not first:
        return merged
    found = replace(merged, boxes=torch.stack(fused), scores=torch.tensor(means))
    return found.select(torch.tensor(means).argsort(descending=True, stable=True))


def mirrored(objects: Instances, width: int, flips: Sequence[int] = ()) -> Instances:
    """Boxes and keypoints of an image's mirror image, left for right. Masks are left out.

    Args:
        objects: N, in an image or its mirror image.
        width: of the image.
        flips: P, which point each becomes (`striate.core.instances.Skeleton`); needed where there are keypoints.
    """
    x1, y1, x2, y2 = objects.boxes.unbind(1)
    points = objects.keypoints
    if points is not None:
        points = points[:, list(flips)] if flips else points
        points = torch.stack((width - points[..., 0], *points[..., 1:].unbind(-1)), dim=-1)
    boxes = torch.stack((width - x2, y1, width - x1, y2), dim=1)
    return replace(objects, boxes=boxes, keypoints=points, masks=None, shapes=None)


def rescaled(objects: Instances, factors: tuple[float, float]) -> Instances:
    """Boxes and keypoints of an image that was scaled, in pixels of the scaled one. Masks are left out.

    Args:
        objects: N.
        factors: of the height and of the width.
    """
    down, across = factors
    points = objects.keypoints
    if points is not None:
        points = points * points.new_tensor([across, down, 1.0])
    boxes = objects.boxes * objects.boxes.new_tensor([across, down, across, down])
    return replace(objects, boxes=boxes, keypoints=points, masks=None, shapes=None)


def _moved(objects: Instances, place: Window) -> Instances:
    shift = objects.boxes.new_tensor([place.x1, place.y1])
    points = objects.keypoints
    if points is not None:
        points = torch.cat((points[..., :2] + shift, points[..., 2:]), dim=-1)
    return replace(objects, boxes=objects.boxes + shift.repeat(2), keypoints=points)


def _cut(boxes: Tensor, place: Window, size: tuple[int, int]) -> Tensor:
    """(N,) bool: which boxes come near to a border of the window inside of the image."""
    height, width = size
    sides = boxes.new_tensor([place.x2 - place.x1, place.y2 - place.y1])
    reach = torch.maximum(CUT * sides, CUT_OF_BOX * (boxes[:, 2:] - boxes[:, :2]))
    low = boxes.new_tensor([place.x1 if place.x1 > 0 else -math.inf, place.y1 if place.y1 > 0 else -math.inf])
    high = boxes.new_tensor([place.x2 if place.x2 < width else math.inf, place.y2 if place.y2 < height else math.inf])
    return ((boxes[:, :2] <= low + reach) | (boxes[:, 2:] >= high - reach)).any(1)


def _common(one: Window, other: Window) -> Tensor | None:
    """(4,) what both windows see."""
    x1, y1 = max(one.x1, other.x1), max(one.y1, other.y1)
    x2, y2 = min(one.x2, other.x2), min(one.y2, other.y2)
    return torch.tensor([x1, y1, x2, y2], dtype=torch.float32) if x1 < x2 and y1 < y2 else None


def _within(boxes: Tensor, region: Tensor) -> Tensor:
    return torch.cat((torch.maximum(boxes[:, :2], region[:2]), torch.minimum(boxes[:, 2:], region[2:])), dim=1)


def _alike(
    one: Instances, other: Instances, cut: Tensor, other_cut: Tensor, common: Tensor, same: float, share: float
) -> tuple[Tensor, Tensor]:
    """(N, M) bool, which boxes of two windows are of one object, and the IoU of their parts in the common region."""
    parts, other_parts = _within(one.boxes, common.to(one.boxes)), _within(other.boxes, common.to(one.boxes))
    sizes, other_sizes = area(parts)[:, None], area(other_parts)[None]
    both = overlap(parts[:, None], other_parts[None])
    is_cut, is_other_cut = cut[:, None], other_cut[None]
    smaller = torch.minimum(sizes, other_sizes)
    of = torch.where(is_cut & is_other_cut, smaller, torch.where(is_cut, sizes, other_sizes))
    joined = torch.where(is_cut | is_other_cut, (both > 0) & (both >= share * of), iou(one.boxes, other.boxes) >= same)
    strength = both / (sizes + other_sizes - both).clamp(min=1e-9)
    return joined & (one.labels[:, None] == other.labels[None]), strength


def _grouped(pairs: Sequence[tuple[float, int, int]], owners: Sequence[int]) -> list[list[int]]:
    """Rows that were joined pair by pair, in which no owner appears twice."""
    groups = {row: [row] for row in range(len(owners))}
    group_of = list(range(len(owners)))
    for _, one, other in pairs:
        mine, theirs = groups[group_of[one]], groups[group_of[other]]
        if mine is theirs or {owners[row] for row in mine} & {owners[row] for row in theirs}:
            continue
        gone = group_of[other]
        mine += theirs
        for row in theirs:
            group_of[row] = group_of[one]
        del groups[gone]
    return list(groups.values())


def _together(parts: Sequence[Instances]) -> Instances:
    """All detections of ``parts``, on the CPU: boxes, labels, scores, and keypoints where all that have objects do."""
    full = [part.to("cpu") for part in parts if len(part)]
    points = [part.keypoints for part in full if part.keypoints is not None]
    return Instances(
        boxes=torch.cat([part.boxes for part in full]) if full else torch.empty(0, 4),
        labels=torch.cat([part.labels for part in full]) if full else torch.empty(0, dtype=torch.int64),
        scores=torch.cat([_scores(part) for part in full]) if full else torch.empty(0),
        keypoints=torch.cat(points) if points and len(points) == len(full) else None,
    )


def _scores(objects: Instances) -> Tensor:
    if objects.scores is None:
        raise ValueError("only detections with scores can be merged")
    return objects.scores
