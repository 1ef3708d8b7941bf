"""Pictures that look alike: a perceptual hash of 64 bits, and a lookup that does not compare every pair.

The hash is the one by cosine transform of Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash
Functions": the picture in grey at 32x32, its discrete cosine transform, of that the 8x8 lowest frequencies without the
constant ones, and one bit for each: above or below their median. Resizing, encoding again, and changes of brightness
and contrast move few bits. Pairs within `DISTANCE` bits are candidates; those whose thumbnails correlate as well are
near duplicates.

The lookup is that of Norouzi, Punjani and Fleet 2012, "Fast Search in Hamming Space with Multi-Index Hashing": two
hashes within 11 bits agree, in one of four parts of 16 bits, up to 2 bits.
"""

from collections.abc import Iterator
from functools import cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from striate.data.preprocess import Pixels

SIDE = 32  # of the thumbnail in pixels
SMALLEST = (
    48  # below this many pixels the thumbnail is the picture itself, and the hash tells digits, not copies, apart
)
DISTANCE = 10  # bits of 64 in which the hashes of near duplicates differ at most
CORRELATION = 0.9  # of their thumbnails, at least
FLAT = 3.0  # standard deviation of a thumbnail, of 255, below which its hash is noise

_BANDS, _BAND_BITS = 4, 16
_CHUNK = 1 << 22  # candidate pairs at once: 100 MB


def thumbnail(pixels: Pixels) -> Pixels:
    """A picture in grey at 32x32.

    Args:
        pixels: (H, W, 1) or (H, W, 3) uint8.

    Returns:
        (32, 32) uint8.
    """
    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    small = picture.resize((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=2.0)
    return np.asarray(small.convert("L"))


def hashes(thumbnails: Pixels) -> NDArray[np.uint64]:
    """Perceptual hashes.

    Args:
        thumbnails: (N, 32, 32) uint8.

    Returns:
        (N,) uint64.
    """
    basis = _cosines()
    low = basis @ thumbnails.astype(np.float32) @ basis.T  # (N, 8, 8)
    values = low.reshape(len(thumbnails), 64)
    bits = values > np.median(values, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(np.uint64)[:, 0]


def near_pairs(thumbnails: Pixels) -> NDArray[np.int64]:
    """Pairs of pictures that look alike.

    Of pictures with the very same hash each is compared with the first of them only.

    Args:
        thumbnails: (N, 32, 32) uint8.

    Returns:
        (P, 2) int64, the smaller row first, each pair once. Flat pictures, such as blank pages, are in none.
    """
    floats = thumbnails.reshape(len(thumbnails), SIDE * SIDE).astype(np.float32)
    rows = np.flatnonzero(floats.std(axis=1) >= FLAT)
    floats = floats[rows]
    floats -= floats.mean(axis=1, keepdims=True)
    floats /= np.linalg.norm(floats, axis=1, keepdims=True)
    unique, first, inverse = np.unique(hashes(thumbnails[rows]), return_index=True, return_inverse=True)
    twins = np.stack([first[inverse], np.arange(len(rows))], axis=1)
    candidates = [twins[twins[:, 0] != twins[:, 1]]]
    candidates += [first[pairs] for pairs in within(unique, DISTANCE)]
    found: list[NDArray[np.int64]] = []
    for part in candidates:
        for start in range(0, len(part), _CHUNK // 64):
            pairs = part[start : start + _CHUNK // 64]
            correlation = np.einsum("ij,ij->i", floats[pairs[:, 0]], floats[pairs[:, 1]])
            found.append(rows[pairs[correlation >= CORRELATION]])
    together = np.sort(np.concatenate(found), axis=1) if found else np.zeros((0, 2), dtype=np.int64)
    return np.unique(together, axis=0)


def within(unique: NDArray[np.uint64], distance: int) -> Iterator[NDArray[np.int64]]:
    """Pairs of hashes that differ in at most ``distance`` bits, in parts; a pair may come more than once.

    Args:
        unique: (N,) uint64, all different.
        distance: bits, at most 11.

    Yields:
        (P, 2) int64, the smaller row first.
    """
    if distance >= _BANDS * 3:
        raise ValueError(f"distance {distance}: the lookup finds pairs up to {_BANDS * 3 - 1} bits apart")
    masks = [sum(1 << bit for bit in bits) for count in range(3) for bits in combinations(range(_BAND_BITS), count)]
    everyone = np.arange(len(unique))
    for band in range(_BANDS):
        keys = ((unique >> np.uint64(_BAND_BITS * band)) & np.uint64((1 << _BAND_BITS) - 1)).astype(np.int64)
        order = np.argsort(keys, kind="stable")
        sizes = np.bincount(keys, minlength=1 << _BAND_BITS)
        starts = np.concatenate([[0], np.cumsum(sizes)])
        for mask in masks:
            targets = keys ^ mask
            counts = sizes[targets]
            ends = np.cumsum(counts)
            begin = 0
            while begin < len(unique):  # as many rows at once as give about _CHUNK pairs
                so_far = ends[begin - 1] if begin else 0
                end = max(begin + 1, int(np.searchsorted(ends, so_far + _CHUNK, side="right")))
                chosen = slice(begin, end)
                left = np.repeat(everyone[chosen], counts[chosen])
                offsets = np.arange(len(left)) - np.repeat(ends[chosen] - counts[chosen] - so_far, counts[chosen])
                right = order[np.repeat(starts[targets[chosen]], counts[chosen]) + offsets]
                later = left < right
                left, right = left[later], right[later]
                close = np.bitwise_count(unique[left] ^ unique[right]) <= distance
                if close.any():
                    yield np.stack([left[close], right[close]], axis=1)
                begin = end


@cache
def _cosines() -> NDArray[np.float32]:
    """(8, 32): rows 1 to 8 of the discrete cosine transform of 32 values."""
    frequencies, places = np.arange(1, 9)[:, None], np.arange(SIDE)[None, :]
    return np.cos(np.pi * frequencies * (2 * places + 1) / (2 * SIDE)).astype(np.float32)
