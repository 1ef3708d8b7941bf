"""Masks as runs of pixels, which is how they are stored and counted."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from striate.core.instances import RunLengths, Shape


def run_lengths(mask: NDArray[np.bool_]) -> RunLengths:
    """A (H, W) mask, column after column, as runs outside and inside by turns."""
    flat = mask.ravel(order="F")
    ends = [*((flat[1:] != flat[:-1]).nonzero()[0] + 1).tolist(), flat.size]
    counts = [end - start for start, end in pairwise([0, *ends])]
    if flat.size and flat[0]:
        counts.insert(0, 0)
    return RunLengths(size=(mask.shape[0], mask.shape[1]), counts=tuple(counts))


def mask_of(runs: RunLengths) -> NDArray[np.bool_]:
    """The (H, W) mask of runs that cover it exactly."""
    inside = np.arange(len(runs.counts)) % 2 == 1
    return np.repeat(inside, runs.counts).reshape(runs.size, order="F")


def area_of(shape: Shape) -> float:
    """Pixels inside runs; for polygons the area within their rings (shoelace formula), overlaps counted twice."""
    if isinstance(shape, RunLengths):
        return float(sum(shape.counts[1::2]))
    total = 0.0
    for ring in shape.rings:
        x, y = np.array(ring, dtype=np.float64).reshape(-1, 2).T
        total += abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
    return total


def box_of(shape: Shape) -> tuple[float, float, float, float]:
    """x1, y1, x2, y2 around it; all 0 around nothing."""
    if isinstance(shape, RunLengths):
        height = shape.size[0]
        ends = np.cumsum(np.array(shape.counts, dtype=np.int64))
        first, last = ends[:-1:2], ends[1::2]  # of each run inside
        first, last = first[last > first], last[last > first]
        if not len(first):
            return 0.0, 0.0, 0.0, 0.0
        left, right = first // height, (last - 1) // height
        one_column = left == right  # a run over the end of a column spans all rows
        top = np.where(one_column, first % height, 0)
        bottom = np.where(one_column, (last - 1) % height + 1, height)
        return float(left.min()), float(top.min()), float(right.max() + 1), float(bottom.max())
    points = np.concatenate([np.array(ring, dtype=np.float64).reshape(-1, 2) for ring in shape.rings])
    low, high = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return low[0], low[1], high[0], high[1]
