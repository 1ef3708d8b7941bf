"""Drawing for the samples that are made on the fly, with whole numbers only.

A pixel is the same on every machine and with every version of NumPy, because nothing depends on how a library rounds,
sums or draws at random: random numbers are a hash of where they are used, sine and cosine come from the tangent of
half the angle (c = (1 - t^2) / (1 + t^2), s = 2t / (1 + t^2)), and pixels are mixed in fixed point.

Letters: N images, K digits, S side of a patch.
"""

import numpy as np
from numpy.typing import NDArray

from striate.data.preprocess import Pixels

Numbers = NDArray[np.float64]
Integers = NDArray[np.int32]

THRESHOLD = 64  # of 255: a pixel that a digit covers less than this is not its own, and left unpainted
INK = 20  # pixels: the longer side of a digit of MNIST (LeCun et al. 1998, section III-A)

_MARGINED = 48  # side of the grid on which a digit lies before it is turned: its corners stay inside
_STEP = np.uint64(0x9E3779B97F4A7C15)


def uniform(seed: int, rows: NDArray[np.int64] | int, columns: int) -> Numbers:
    """Random numbers in [0, 1) that depend on nothing but ``seed``, their row and their column.

    SplitMix64 (Steele, Lea and Flood 2014, figure 14), with a place in the table for a state.

    Args:
        seed: which table.
        rows: (N,) which rows of it, or one.
        columns: how many of each row, below 2^20.

    Returns:
        (N, columns), or (columns,) of one row.
    """
    place = (np.asarray(rows, dtype=np.uint64)[..., None] << np.uint64(20)) + np.arange(columns, dtype=np.uint64)
    mixed = _mix(place + _mix(np.array([seed], dtype=np.uint64)))
    return (mixed >> np.uint64(11)).astype(np.float64) / 2.0**53


def glyphs(digits: Pixels, sizes: NDArray[np.int64], tangents: Numbers) -> list[Pixels]:
    """Digits, scaled and turned.

    Args:
        digits: (K, 28, 28) uint8, bright ink on 0.
        sizes: (K,) pixels that a side of 20 becomes.
        tangents: (K,) tangent of half the angle of turning, clockwise; at most 0.2217 (25 degrees) either way.

    Returns:
        K arrays (h, w) uint8, how much of each pixel is covered; cut close around what reaches `THRESHOLD`, and 0
        where it does not.
    """
    cut: list[Pixels] = [np.empty((0, 0), np.uint8)] * len(digits)
    order = np.argsort(sizes, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(sizes[order])) + 1):
        size = int(sizes[members[0]])
        turned = _turned(centred(digits[members]), size, tangents[members])
        turned[turned < THRESHOLD] = 0
        for k, (member, (top, left, bottom, right)) in enumerate(zip(members.tolist(), _extents(turned), strict=True)):
            cut[member] = turned[k, top:bottom, left:right].copy()
    return cut


def rotation(tangents: Numbers) -> tuple[Numbers, Numbers]:
    """Cosine and sine of angles, from the tangents of half of them."""
    square = tangents * tangents
    return (1 - square) / (1 + square), 2 * tangents / (1 + square)


def fixed(numbers: Numbers, unit: int) -> Integers:
    """Numbers in whole units of 1 / ``unit``, rounded."""
    return np.floor(numbers * unit + 0.5).astype(np.int32)


def centred(digits: Pixels) -> Pixels:
    """(K, 28, 28) digits, the middle of their ink in the middle of (K, 48, 48)."""
    grids = np.zeros((len(digits), _MARGINED, _MARGINED), dtype=np.uint8)
    for grid, digit, (top, left, bottom, right) in zip(grids, digits, _extents(digits), strict=True):
        down, across = (_MARGINED - bottom + top) // 2, (_MARGINED - right + left) // 2
        grid[down : down + bottom - top, across : across + right - left] = digit[top:bottom, left:right]
    return grids


def sample(grids: Pixels, x: Integers, y: Integers) -> Pixels:
    """Bilinear values of (K, 48, 48) grids at (K, S, S) places, in 256ths of a pixel from their middle."""
    middle = _MARGINED * 128 - 128  # pixel centres lie half a pixel in
    x, y = x + middle, y + middle
    place = (y >> 8) * _MARGINED + (x >> 8) + (np.arange(len(grids), dtype=np.int32) * _MARGINED**2)[:, None, None]
    flat, index = grids.reshape(-1).astype(np.uint16), place.astype(np.intp)  # 255 x 256 fits into 16 bits
    across, down = (x & 255).astype(np.uint16), (y & 255).astype(np.uint16)
    corners = [flat[step:].take(index, mode="clip") for step in (0, 1, _MARGINED, _MARGINED + 1)]  # clip: no checks
    above = corners[0] * (256 - across) + corners[1] * across >> 8
    below = corners[2] * (256 - across) + corners[3] * across >> 8
    return (above * (256 - down) + below * down >> 8).astype(np.uint8)


def colour(brightness: NDArray[np.int64], drawn: Numbers) -> Integers:
    """(..., 3) colours of a (...) brightness (0.30 red + 0.59 green + 0.11 blue), and a hue from (..., 3) numbers."""
    hue = np.floor(drawn * 160).astype(np.int32)
    bright = (77 * hue[..., 0] + 151 * hue[..., 1] + 28 * hue[..., 2]) >> 8
    return np.clip(hue + (brightness - bright)[..., None], 0, 255).astype(np.int32)


def texture(size: int, dark: bool, drawn: Numbers, seed: int, index: int) -> Integers:
    """A background: two colours of like brightness, mixed by a plain, ramp, stripes, squares or clouds, and noise.

    Args:
        size: height and width.
        dark: brightness of the first colour 25 to 54 rather than 200 to 229.
        drawn: (13,) random numbers.
        seed: of its noise.
        index: of its noise.

    Returns:
        (size, size, 3) int32, 0 to 255.
    """
    base = (25 if dark else 200) + int(drawn[0] * 30)
    both = np.array([base, base + (15 if drawn[1] < 0.5 else -15)])
    first, second = colour(both, drawn[2:8].reshape(2, 3) / 2)
    noise = np.floor(uniform(seed, index, size * size + 64) * 256).astype(np.int32)
    weight = _pattern(size, drawn[8:12], noise[size * size :])[:, :, None]
    grain = (noise[: size * size].reshape(size, size, 1) - 128) * int(drawn[12] * 25) // 128
    return np.clip(first + ((second - first) * weight >> 8) + grain, 0, 255)


def ink(dark: NDArray[np.bool_], drawn: Numbers) -> Integers:
    """(..., 3) colours from (..., 4) random numbers, 110 or more brighter or darker than the `texture`'s first colour.

    Args:
        dark: (...) of the texture that they shall be seen on.
        drawn: (..., 4).
    """
    return colour(np.where(dark, 165, 15) + (drawn[..., 0] * 75).astype(np.int64), drawn[..., 1:4])


def paint(canvas: Integers, coverage: Pixels, shade: Integers, left: int, top: int) -> None:
    """Lay a colour over a part of a (H, W, 3) canvas, as far as each of its pixels is covered."""
    height, width = coverage.shape
    part = canvas[top : top + height, left : left + width]
    part += ((shade - part) * coverage[:, :, None].astype(np.int32) + 127) // 255


def _extents(pictures: Pixels) -> list[list[int]]:
    """Top, left, bottom, right of what is not 0 on (K, H, W) pictures."""
    sides: list[NDArray[np.int64]] = []
    for axis in (2, 1):
        full: NDArray[np.bool_] = np.any(pictures, axis=axis)
        sides += [full.argmax(axis=1), full.shape[1] - full[:, ::-1].argmax(axis=1)]
    top, bottom, left, right = sides
    return np.stack((top, left, bottom, right), axis=1).tolist()


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = state * _STEP
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def _turned(grids: Pixels, size: int, tangents: Numbers) -> Pixels:
    """(K, 48, 48) digits as (K, S, S): of each pixel the place on the grid is found."""
    cosine, sine = rotation(tangents)
    side = size * 4 // 3 + 4
    # Twice the distance from the middle, so that it is whole; and what one such half pixel is on the grid, in 65536ths.
    half = 2 * np.arange(side, dtype=np.int32) + 1 - side
    along, across = (fixed(part * (INK / size) / 2, 65536) for part in (cosine, sine))
    x = (along[:, None] * half)[:, None, :] + (across[:, None] * half)[:, :, None] >> 8
    y = (along[:, None] * half)[:, :, None] - (across[:, None] * half)[:, None, :] >> 8
    return sample(grids, x, y)


def _pattern(size: int, drawn: Numbers, noise: Integers) -> Integers:
    """(size, size) of 0 to 256: how much of the second colour."""
    kind = int(drawn[0] * 5)
    cosine, sine = rotation(drawn[1:2] * 2 - 1)  # up to a quarter turn either way
    place = np.arange(size, dtype=np.int32)
    along = fixed(cosine, 256) * place[None] + fixed(sine, 256) * place[:, None]
    period = 8 + int(drawn[2] * 24)
    if kind == 0:
        return np.zeros((size, size), dtype=np.int32)
    if kind == 1:
        low, high = int(along.min()), int(along.max())
        return (along - low) * 256 // (high - low)
    if kind == 2:  # a wave of triangles
        return np.abs((along * 2 // period) % 512 - 256)
    if kind == 3:
        return ((place[None] // period + place[:, None] // period) % 2 * 256).astype(np.int32)
    # Random values on a grid of 8x8, and between them as the straight line goes.
    step = size // 7 + 1
    near, far = place // step, place % step
    grid = noise[:64].reshape(8, 8)
    rows = grid[near] * (step - far)[:, None] + grid[near + 1] * far[:, None]
    return (rows[:, near] * (step - far) + rows[:, near + 1] * far) // (step * step)
