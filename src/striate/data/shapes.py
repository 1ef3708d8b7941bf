"""Masks: as runs of pixels, which is how they are stored and counted, and drawn where an image lies in an input."""

from collections.abc import Sequence
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


def draw_masks(shapes: Sequence[Shape], placements: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Masks in the input of a network.

    A pixel is inside where its centre is: within one of the rings (each by the even-odd rule), or on a pixel of the
    runs. What has no shape has no pixel.

    Args:
        shapes: M of them, in original images.
        placements: (M, 4) of the image of each, as `striate.core.batch.Batch.placement`.
        size: H, W of the input.

    Returns:
        (M, H, W) bool.
    """
    masks = np.zeros((len(shapes), *size), dtype=np.bool_)
    for mask, shape, placement in zip(masks, shapes, placements.astype(np.float64), strict=True):
        scale, shift = placement[:2], placement[2:]
        if isinstance(shape, RunLengths):
            columns, rows = (
                np.floor((np.arange(extent) + 0.5 - shift[axis]) / scale[axis]).astype(np.int64)
                for axis, extent in enumerate(size[::-1])
            )
            (top, bottom), (left, right) = (
                np.searchsorted(places, (0, end)) for places, end in zip((rows, columns), shape.size, strict=True)
            )
            mask[top:bottom, left:right] = mask_of(shape)[rows[top:bottom, None], columns[left:right]]
        else:
            for ring in shape.rings:
                _fill(mask, np.array(ring, dtype=np.float64).reshape(-1, 2) * scale + shift)
    return masks


def _fill(mask: NDArray[np.bool_], ring: NDArray[np.float64]) -> None:
    """Add to a (H, W) mask the pixels whose centres lie within a ring of (K, 2) points x, y."""
    low, high = np.clip(np.ceil(np.stack((ring.min(0), ring.max(0))) - 0.5), 0, mask.shape[::-1]).astype(np.int64)
    if (high <= low).any():
        return
    width, height = (high - low).tolist()
    x, y = (ring - low).T
    to_x, to_y = np.roll(x, -1), np.roll(y, -1)
    # Each edge crosses the lines through the centres of some rows; right of a crossing, inside and outside change.
    first, end = (
        np.clip(np.ceil(side - 0.5), 0, height).astype(np.int64) for side in (np.minimum(y, to_y), np.maximum(y, to_y))
    )
    edges = np.repeat(np.arange(len(ring)), end - first)
    begins = np.cumsum(end - first) - (end - first)
    rows = np.arange(len(edges)) - begins[edges] + first[edges]
    share = (rows + 0.5 - y[edges]) / (to_y - y)[edges]
    columns = np.clip(np.ceil(x[edges] + share * (to_x - x)[edges] - 0.5), 0, width).astype(np.int64)
    crossings = np.bincount(rows * (width + 1) + columns, minlength=height * (width + 1)).reshape(height, width + 1)
    mask[low[1] : high[1], low[0] : high[0]] |= crossings[:, :width].cumsum(1) % 2 == 1


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
