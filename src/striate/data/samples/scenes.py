"""`scenes`, `scenes-one`, `scenes-card`: pictures with objects in known places, made from the digits of `digits`.

2,000 images to train with, 250 to validate and 250 to test, 128x128, in colour. They are drawn when they are read, and
always the same: image i of a split follows from the numbers of its own row alone. Digits of test images are of the test
images of `digits`, those of val images are every tenth of its train images, and train images have the rest.

- ``scenes``: up to eight digits of 14 to 64 pixels, turned by up to 25 degrees, in a colour that stands out from a
  textured background. Where they overlap, later ones cover earlier ones. A digit is left out when it would hide more
  than `HIDDEN` of an earlier one, or when more than `CROWDED` of the smaller of their boxes would lie in the other. One
  image in nine holds none.
- ``scenes-one``: the same with one digit in each image.
- ``scenes-card``: a playing card, turned by any angle. Its corners are the keypoints, named as by one who holds it
  upright: the band is at the top. Discs lie over some cards; a corner under one has the visibility 1, the others 2.

A box is tight around the pixels of which an object covers a quarter or more (`painting.THRESHOLD`), also those that a
later one hides; its mask and its area are of the pixels that are to be seen.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from striate.core.instances import InstanceSets, RunLengths, Skeleton
from striate.data.dataset import Dataset, ImageArrays, Indices
from striate.data.preprocess import Pixels
from striate.data.samples import digits
from striate.data.samples.painting import (
    INK,
    THRESHOLD,
    Integers,
    Numbers,
    centred,
    fixed,
    glyphs,
    ink,
    paint,
    rotation,
    sample,
    texture,
    uniform,
)
from striate.data.shapes import run_lengths

SIZE = 128  # height and width
IMAGES = {"train": 2000, "val": 250, "test": 250}
MOST = 8  # digits of an image
SIZES = np.arange(14, 65)  # of a digit's longer side before it is turned; small ones are as frequent as they are small
TURN = 0.2217  # tangent of half of 25 degrees
HIDDEN = 0.3  # share of a digit's pixels that later ones may hide
CROWDED = 0.5  # share of the smaller of two boxes that may lie in the other
PLACES = 4  # that are tried for a digit

CARD_WIDTHS = (28, 56)  # pixels; the height is 7/5 of it
DISC_RADII = (6, 12)  # pixels
CARD_HIDDEN = 0.4  # share of a card's pixels that discs may hide

CORNERS = Skeleton(
    names=("top_left", "top_right", "bottom_right", "bottom_left"),
    flips=(1, 0, 3, 2),
    edges=((0, 1), (1, 2), (2, 3), (3, 0)),
)

_VERSION = 1  # of the pictures, for their fingerprint
_SEEDS = {"scenes": 1, "scenes-one": 2, "scenes-card": 3}
_TASKS = {"scenes": "detection", "scenes-one": "localization", "scenes-card": "keypoints"}
_SPLIT_ROWS = 100_000  # from the first row of random numbers of one split to that of the next
_HEAD = 16  # random numbers of an image, for its background
_EACH = 16  # and of each thing on it


@dataclass(frozen=True, kw_only=True)
class _Thing:
    """What is painted on a background."""

    coverage: Pixels  # (h, w) uint8: how much of each pixel
    shade: Integers | Callable[[], Integers]  # (3,), or what gives (h, w, 3): it is looked at when it is painted
    left: int
    top: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawings:
    """Images that are drawn when they are read. See `striate.data.dataset.Images`."""

    seed: int
    rows: NDArray[np.int64]  # (N,) of the random numbers
    things: Sequence[Sequence[_Thing]]  # of each image, from the back to the front

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, index: int) -> Pixels:
        """See `Images.read`."""
        row = int(self.rows[index])
        drawn = uniform(self.seed, row, _HEAD)
        canvas = texture(SIZE, bool(_dark(drawn)), drawn, self.seed + 1000, row)
        for thing in self.things[index]:
            shade = thing.shade() if callable(thing.shade) else thing.shade
            paint(canvas, thing.coverage, shade, thing.left, thing.top)
        return canvas.astype(np.uint8)

    def content(self, index: int) -> bytes:
        """Which picture it is: all else follows from that."""
        return f"{_VERSION} {self.seed} {self.rows[index]}".encode()


@dataclass(frozen=True, kw_only=True, eq=False)
class _Truth:
    """One object."""

    label: int
    box: tuple[int, int, int, int]
    shape: RunLengths
    points: NDArray[np.float64] | None = None  # (4, 3)


def load(name: str = "scenes") -> Dataset:
    """One of the samples `scenes`, `scenes-one` and `scenes-card`."""
    seed = _SEEDS[name]
    source = digits.load()
    rows = np.concatenate([first * _SPLIT_ROWS + np.arange(count) for first, count in enumerate(IMAGES.values())])
    things: list[list[_Thing]] = []
    truths: list[list[_Truth]] = []
    splits: dict[str, Indices] = {}
    for split, count in IMAGES.items():
        first = len(things)
        splits[split] = np.arange(first, first + count, dtype=np.int64)
        drawn = uniform(seed, rows[splits[split]], _HEAD + MOST * _EACH)
        pixels, labels = digits_of(source, split)
        pictures = (
            _cards(pixels, drawn)
            if name == "scenes-card"
            else _scenes(pixels, labels, drawn, alone=name == "scenes-one")
        )
        for painted, truth in pictures:
            things.append(painted)
            truths.append(truth)
    return Dataset(
        name=name,
        format="sample drawn from MNIST's digits that ship with the package",
        path=None,
        task=_TASKS[name],
        classes=("card",) if name == "scenes-card" else source.classes,
        ids=[f"{split}[{i}]" for split, count in IMAGES.items() for i in range(count)],
        images=Drawings(seed=seed, rows=rows, things=things),
        truths=_packed(truths),
        splits=splits,
        licence=digits.LICENCE,
        skeleton=CORNERS if name == "scenes-card" else None,
    )


def digits_of(source: Dataset, split: str) -> tuple[Pixels, NDArray[np.int64]]:
    """(K, 28, 28) digits of a split, and (K,) what they are."""
    assert isinstance(source.images, ImageArrays)
    rows = source.splits["test" if split == "test" else "train"]
    if split != "test":
        tenth = np.arange(len(rows)) % 10 == 9
        rows = rows[tenth if split == "val" else ~tenth]
    return source.images.pixels[rows, :, :, 0], source.truths.labels.numpy()[rows]


def _dark(drawn: Numbers) -> NDArray[np.bool_]:
    """Of each row of random numbers whether its background is dark."""
    return np.asarray(drawn[..., 13] < 0.5)


def _pick(drawn: Numbers, count: int) -> NDArray[np.int64]:
    """Random numbers as whole numbers below ``count``."""
    return (drawn * count).astype(np.int64)


def _scenes(
    pixels: Pixels, labels: NDArray[np.int64], drawn: Numbers, *, alone: bool
) -> Iterator[tuple[list[_Thing], list[_Truth]]]:
    """What lies on each image, and what is true of it."""
    counts = np.ones(len(drawn), dtype=np.int64) if alone else _pick(drawn[:, 14], MOST + 1)
    each = drawn[:, _HEAD:].reshape(len(drawn), MOST, _EACH)
    used = np.arange(MOST) < counts[:, None]
    slots = each[used]  # (K, _EACH), of all images
    which = _pick(slots[:, 0], len(pixels))
    weights = np.cumsum(1_000_000 // SIZES)
    sizes = SIZES[np.searchsorted(weights, _pick(slots[:, 1], int(weights[-1])), side="right")]
    coverages = glyphs(pixels[which], sizes, (slots[:, 2] * 2 - 1) * TURN)
    shades = ink(np.repeat(_dark(drawn), counts), slots[:, 3:7])
    first = 0
    for count in counts.tolist():
        owner = np.full((SIZE, SIZE), -1, dtype=np.int8)  # which thing is to be seen at a pixel
        things: list[_Thing] = []
        boxes: list[tuple[int, int, int, int]] = []
        names: list[int] = []
        for k in range(first, first + count):
            coverage = coverages[k]
            place = _place(coverage, slots[k, 8:].reshape(PLACES, 2), owner, boxes, things)
            if place is not None:
                left, top = place
                height, width = coverage.shape
                owner[top : top + height, left : left + width][coverage > 0] = len(things)
                things.append(_Thing(coverage=coverage, shade=shades[k], left=left, top=top))
                boxes.append((left, top, left + width, top + height))
                names.append(int(labels[which[k]]))
        first += count
        yield (
            things,
            [
                _Truth(label=label, box=box, shape=run_lengths(owner == number))
                for number, (label, box) in enumerate(zip(names, boxes, strict=True))
            ],
        )


def _place(
    coverage: Pixels,
    drawn: Numbers,
    owner: NDArray[np.int8],
    boxes: Sequence[tuple[int, int, int, int]],
    things: Sequence[_Thing],
) -> tuple[int, int] | None:
    """Left and top of the first of the (PLACES, 2) random places where a digit hides no other too much."""
    height, width = coverage.shape
    for across, down in drawn.tolist():
        left, top = int(across * (SIZE - width + 1)), int(down * (SIZE - height + 1))
        box = (left, top, left + width, top + height)
        near = [k for k, other in enumerate(boxes) if _common(box, other)]
        if any(_crowded(box, boxes[k]) for k in near):
            continue
        if near:
            part = owner[top : top + height, left : left + width]
            covered = coverage > 0
            if any(
                _shown(owner, k) - np.count_nonzero(part[covered] == k)
                < (1 - HIDDEN) * np.count_nonzero(things[k].coverage)
                for k in near
            ):
                continue
        return left, top
    return None


def _shown(owner: NDArray[np.int8], thing: int) -> int:
    return int(np.count_nonzero(owner == thing))


def _common(box: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> int:
    """Pixels in both."""
    across, down = min(box[2], other[2]) - max(box[0], other[0]), min(box[3], other[3]) - max(box[1], other[1])
    return max(across, 0) * max(down, 0)


def _crowded(box: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    smaller = min((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (box, other))
    return _common(box, other) > CROWDED * smaller


def _cards(pixels: Pixels, drawn: Numbers) -> Iterator[tuple[list[_Thing], list[_Truth]]]:
    """As `_scenes`, of one card and the discs over it."""
    grids = centred(pixels)
    which = _pick(drawn[:, 14], len(pixels))
    widths = CARD_WIDTHS[0] + _pick(drawn[:, _HEAD], CARD_WIDTHS[1] - CARD_WIDTHS[0] + 1)
    discs = _pick(drawn[:, 15], 3)
    for row, digit, width, count in zip(drawn, which.tolist(), widths.tolist(), discs.tolist(), strict=True):
        dark = _dark(row)
        card, corners = _card(grids[digit], width, dark, row[_HEAD : _HEAD + _EACH])
        height, across = card.coverage.shape
        seen = np.zeros((SIZE, SIZE), dtype=np.bool_)
        seen[card.top : card.top + height, card.left : card.left + across] = card.coverage > 0
        things, whole = [card], np.count_nonzero(seen)
        visibility = np.full(len(corners), 2.0)
        for k in range(count):
            slot = row[_HEAD + (k + 1) * _EACH :]
            radius = DISC_RADII[0] + int(slot[0] * (DISC_RADII[1] - DISC_RADII[0] + 1))
            # Near a corner, for that is where something is to be learnt from it.
            middle = np.floor(corners[int(slot[1] * 4)] + (slot[2:4] * 2 - 1) * 2 * radius)
            disc = _disc(middle, radius, ink(dark, slot[4:8]))
            if disc is None:
                continue
            left = seen.copy()
            h, w = disc.coverage.shape
            left[disc.top : disc.top + h, disc.left : disc.left + w] &= disc.coverage == 0
            if np.count_nonzero(left) < (1 - CARD_HIDDEN) * whole:
                continue
            seen = left
            things.append(disc)
            away = corners - middle
            visibility[(away * away)[:, 0] + (away * away)[:, 1] < radius * radius] = 1
        box = (card.left, card.top, card.left + across, card.top + height)
        points = np.concatenate((corners, visibility[:, None]), axis=1)
        yield things, [_Truth(label=0, box=box, shape=run_lengths(seen), points=points)]


def _card(grid: Pixels, width: int, dark: NDArray[np.bool_], drawn: Numbers) -> tuple[_Thing, Numbers]:
    """A card somewhere on the image, and its (4, 2) corners."""
    height = width * 7 // 5
    cosine, sine = rotation((drawn[1:2] * 2 - 1) * 0.4142135623730951)  # an eighth of a turn either way
    c, s = float(cosine[0]), float(sine[0])
    for _ in range(int(drawn[2] * 4)):
        c, s = -s, c
    reach = np.array([abs(c) * width + abs(s) * height, abs(s) * width + abs(c) * height]) / 2
    low = np.floor(reach) + 1
    middle = low + np.floor(drawn[3:5] * (SIZE - 2 * low + 1))
    u, v = np.array([-width, width, width, -width]) / 2, np.array([-height, -height, height, height]) / 2
    corners = np.stack((middle[0] + u * c - v * s, middle[1] + u * s + v * c), axis=1)

    # Of each pixel around it the place on the card, from its middle, in 256ths of a pixel.
    side = 2 * int(low.max())
    half = 2 * np.arange(side, dtype=np.int32) + 1 - side
    (along,), (across,) = (fixed(np.array([part / 2]), 65536) for part in (c, s))
    x = along * half[None] + across * half[:, None] >> 8
    y = along * half[:, None] - across * half[None] >> 8
    inside = np.minimum(width * 128 - np.abs(x), height * 128 - np.abs(y))
    coverage = np.clip(inside + 128, 0, 255).astype(np.uint8)
    coverage[coverage < THRESHOLD] = 0

    rows, columns = np.flatnonzero(coverage.any(axis=1)), np.flatnonzero(coverage.any(axis=0))
    part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    left, top = int(middle[0]) - side // 2 + int(columns[0]), int(middle[1]) - side // 2 + int(rows[0])
    shade = partial(_face, grid, x[part], y[part], width, dark, drawn)
    return _Thing(coverage=coverage[part], shade=shade, left=left, top=top), corners


def _face(grid: Pixels, x: Integers, y: Integers, width: int, dark: NDArray[np.bool_], drawn: Numbers) -> Integers:
    """(h, w, 3) colours of the places (h, w) on a card: a band at the top, a digit upright below it."""
    height = width * 7 // 5
    face, band, mark = ink(np.array([dark, ~dark, ~dark]), np.stack((drawn[5:9], drawn[9:13], drawn[12:16])))
    shade = np.broadcast_to(face, (*x.shape, 3)).copy()
    edge = height * 40  # of the band, from the top, in 256ths of a pixel: 5/32 of the height
    shade[y < edge - height * 128] = band
    size = width * 11 // 16
    limit = INK * 256  # as far from the middle of the digit as there is nothing of it
    x, y = (np.clip(place * INK // size, -limit, limit) for place in (x, y - edge // 2))
    stroke = sample(grid[None], x[None], y[None])[0]
    return shade + ((mark - shade) * stroke[:, :, None].astype(np.int32) + 127) // 255


def _disc(middle: Numbers, radius: int, shade: Integers) -> _Thing | None:
    """A disc around the corner of four pixels, cut off at the border; None beyond it."""
    place = np.arange(-radius, radius) * 2 + 1  # twice the distance from the middle
    away = np.sqrt((place * place)[:, None] + (place * place)[None]) / 2
    coverage = np.clip(fixed(radius - away, 256) + 128, 0, 255).astype(np.uint8)
    coverage[coverage < THRESHOLD] = 0
    left, top = (int(centre) - radius for centre in middle)
    part = coverage[max(-top, 0) : max(SIZE - top, 0), max(-left, 0) : max(SIZE - left, 0)]
    if not part.size:
        return None
    return _Thing(coverage=part, shade=shade, left=max(left, 0), top=max(top, 0))


def _packed(images: Sequence[Sequence[_Truth]]) -> InstanceSets:
    truths = [truth for image in images for truth in image]
    points = [truth.points for truth in truths if truth.points is not None]
    return InstanceSets(
        offsets=torch.tensor([0, *np.cumsum([len(image) for image in images]).tolist()]),
        boxes=torch.tensor([truth.box for truth in truths], dtype=torch.float32),
        labels=torch.tensor([truth.label for truth in truths]),
        shapes=tuple(truth.shape for truth in truths),
        keypoints=torch.from_numpy(np.stack(points).astype(np.float32)) if points else None,
        areas=torch.tensor([sum(truth.shape.counts[1::2]) for truth in truths], dtype=torch.float32),
    )
