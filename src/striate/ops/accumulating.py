"""One box out of many windows that saw the same object: greedy merging (Sermanet et al. 2014, "OverFeat", section 4.3).

Non-maximum suppression keeps one of the boxes; this averages those that agree and adds up their confidence, so that
many windows that say the same outvote one that is sure. Letters: N boxes.
"""

from heapq import heapify, heappop, heappush

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from striate.core.instances import Instances

APART = 0.5  # pairs that match worse than this are two objects


def accumulate(boxes: Tensor, scores: Tensor, labels: Tensor, *, apart: float = APART) -> Instances:
    """Merge the boxes of each class until none match.

    The two boxes that match best become their mean, weighted by confidence, with the sum of their confidences; and so
    on until the best match is worse than ``apart``. How badly two boxes match is the distance of their centres over
    their mean diagonal, plus one minus their IoU. (The paper adds the area in common to the distance, by which boxes
    that share more would match worse, and gives no unit or threshold: this is what it must mean.)

    Args:
        boxes: (N, 4) float32.
        scores: (N,) float32.
        labels: (N,) int64.
        apart: see above; 0 to 2.

    Returns:
        What is left, most confident first. The score is the summed confidence over that of all boxes of all classes.
    """
    total = float(scores.sum()) or 1.0
    left: list[tuple[Tensor, float, int]] = []
    for label in labels.unique().tolist():
        mine = labels == label
        merged, confidence = _merged(boxes[mine], scores[mine], apart)
        left += [(box, float(score), label) for box, score in zip(merged, confidence, strict=True)]
    left.sort(key=lambda row: -row[1])
    return Instances(
        boxes=torch.stack([row[0] for row in left]) if left else boxes.new_zeros(0, 4),
        scores=torch.tensor([row[1] / total for row in left], dtype=torch.float32),
        labels=torch.tensor([row[2] for row in left], dtype=torch.int64),
    )


def _merged(boxes: Tensor, scores: Tensor, apart: float) -> tuple[Tensor, Tensor]:
    """The boxes of one class, merged, and their summed confidences; time and memory grow with N^2 log N.

    All pairs that match lie in a heap, the best on top. A merged box is a new one, whose pairs with all others come to
    the heap; pairs of a box that is merged already are passed over when they come up. Of pairs that match equally the
    older boxes go first.
    """
    count = len(boxes)
    places, weights = np.zeros((2 * count, 4)), np.zeros(2 * count)  # of boxes, then of merged ones: N - 1 at most
    places[:count], weights[:count] = boxes.numpy(), scores.numpy()
    alive = np.arange(2 * count) < count
    heap: list[tuple[float, int, int]] = []
    for row in range(1, count):
        heap += _pairs(places, row, np.arange(row), apart)
    heapify(heap)
    while heap:
        _, one, other = heappop(heap)
        if not (alive[one] and alive[other]):
            continue
        alive[[one, other]] = False
        pair = weights[[one, other]]
        places[count] = pair @ places[[one, other]] / max(pair.sum(), 1e-12)
        weights[count] = pair.sum()
        for match in _pairs(places, count, np.flatnonzero(alive), apart):
            heappush(heap, match)
        alive[count] = True
        count += 1
    return torch.from_numpy(places[alive]).to(boxes.dtype), torch.from_numpy(weights[alive]).to(scores.dtype)


def _pairs(
    places: NDArray[np.float64], row: int, others: NDArray[np.int64], apart: float
) -> list[tuple[float, int, int]]:
    """How badly the box ``row`` matches each of ``others``, both numbers; those that match worse than ``apart`` not."""
    box, rest = places[row], places[others]
    centres = np.hypot(*((box[:2] + box[2:] - rest[:, :2] - rest[:, 2:]) / 2).T)
    diagonals = [np.maximum(np.hypot(*(each[..., 2:] - each[..., :2]).T), 1e-6) for each in (box, rest)]
    inner = np.maximum(np.minimum(box[2:], rest[:, 2:]) - np.maximum(box[:2], rest[:, :2]), 0).prod(1)
    areas = [np.prod(np.maximum(each[..., 2:] - each[..., :2], 0), axis=-1) for each in (box, rest)]
    shared = inner / np.maximum(areas[0] + areas[1] - inner, 1e-12)
    worse = centres / ((diagonals[0] + diagonals[1]) / 2) + 1 - shared
    return [(float(worse[k]), int(others[k]), row) for k in np.flatnonzero(worse <= apart)]
