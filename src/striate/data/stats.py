"""What is in a data set, in figures."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.core.instances import InstanceSets
from striate.data.dataset import Dataset, ImageArrays
from striate.data.images import Header, ImageError, ImageFiles
from striate.data.preprocess import Pixels
from striate.data.survey import Progress, survey

Size = tuple[int, int]  # height, width in pixels

_MODES = {1: "L", 3: "RGB"}  # Pillow's words for images in memory
_FREQUENT = 5  # sizes that are named


@dataclass(frozen=True, kw_only=True)
class Stats:
    """Figures of a data set. Sizes and colours are of the images that can be decoded."""

    dataset: Dataset
    # Images per class for each official split; one "all" where there is none. Of data with objects: objects per class.
    counts: Mapping[str, Sequence[int]]
    images: Mapping[str, int]  # of the same splits
    without: Mapping[str, int]  # of these, images without any object
    unreadable: int
    smallest: Size  # by area
    median: Size  # of heights and of widths apart
    largest: Size
    frequent: Sequence[tuple[Size, int]]  # the most frequent sizes with their images
    sizes: int  # how many different ones
    aspect: tuple[float, float, float]  # width / height: least, median, most
    modes: Mapping[str, int]  # Pillow's words -> images
    formats: Mapping[str, int]  # of the files; empty where images lie in none of their own
    bytes: int | None  # of the image files, or of the pixels in memory; None: images are drawn when they are read
    mean: tuple[
        float, ...
    ]  # per channel, of pixels scaled to 0..1; each image counts alike. One channel if all are grey
    std: tuple[float, ...]

    @property
    def objects(self) -> bool:
        """Whether images have objects rather than a class."""
        return isinstance(self.dataset.truths, InstanceSets)

    def to_json(self) -> dict[str, Any]:
        """The ``striate.data_stats/1`` document."""
        dataset = self.dataset
        return {
            "schema": "striate.data_stats/1",
            "data": dataset.name,
            "format": dataset.format,
            "licence": dataset.licence,
            "images": len(dataset),
            "unreadable": self.unreadable,
            "classes": list(dataset.classes),
            "splits": {
                name: {"images": self.images[name], "classes": dict(zip(dataset.classes, row, strict=True))}
                | ({"objects": sum(row), "without_objects": self.without[name]} if self.objects else {})
                for name, row in self.counts.items()
            },
            "sizes": {
                "smallest": list(self.smallest),
                "median": list(self.median),
                "largest": list(self.largest),
                "different": self.sizes,
                "frequent": [{"size": list(size), "images": count} for size, count in self.frequent],
            },
            "aspect": dict(zip(("least", "median", "most"), self.aspect, strict=True)),
            "modes": dict(self.modes),
            "formats": dict(self.formats),
            "bytes": self.bytes,
            "mean": list(self.mean),
            "std": list(self.std),
        }


@dataclass(frozen=True, slots=True)
class _Seen:
    size: Size
    mode: str
    format: str
    sums: NDArray[np.float64]  # (2, channels): of the pixels and of their squares, per pixel, scaled to 0..1


def measure(dataset: Dataset, *, progress: Progress | None = None) -> Stats:
    """Look at every image of a data set.

    Args:
        dataset: as opened.
        progress: is told how many images have been looked at.
    """
    seen = [one for one in survey(dataset.images, _look, progress=progress) if one is not None]
    sizes = np.array([one.size for one in seen], dtype=np.int64).reshape(-1, 2)
    none = len(seen) == 0
    order = np.argsort(sizes.prod(axis=1), kind="stable")
    aspects = sizes[:, 1] / sizes[:, 0]
    middle = [0, 0] if none else np.median(sizes, axis=0).round().astype(int).tolist()
    frequent = Counter(one.size for one in seen)
    channels = max((one.sums.shape[1] for one in seen), default=1)
    first, second = np.zeros((2, channels))
    for one in seen:
        first, second = first + one.sums[0] / len(seen), second + one.sums[1] / len(seen)
    std = np.sqrt(np.maximum(second - first**2, 0))
    parts = dataset.splits or {"all": np.arange(len(dataset), dtype=np.int64)}
    return Stats(
        dataset=dataset,
        counts={name: dataset.counts(rows).tolist() for name, rows in parts.items()},
        images={name: len(rows) for name, rows in parts.items()},
        without={name: int((dataset.strata[rows] == len(dataset.classes)).sum()) for name, rows in parts.items()},
        unreadable=len(dataset) - len(seen),
        smallest=(0, 0) if none else seen[int(order[0])].size,
        median=(middle[0], middle[1]),
        largest=(0, 0) if none else seen[int(order[-1])].size,
        frequent=frequent.most_common(_FREQUENT),
        sizes=len(frequent),
        aspect=(0, 0, 0) if none else (float(aspects.min()), float(np.median(aspects)), float(aspects.max())),
        modes=dict(Counter(one.mode for one in seen).most_common()),
        formats=dict(Counter(one.format for one in seen if one.format).most_common()),
        bytes=_bytes(dataset),
        mean=tuple(float(value) for value in first),
        std=tuple(float(value) for value in std),
    )


def _look(row: int, header: Header | None, pixels: Pixels | ImageError) -> _Seen | None:
    if isinstance(pixels, ImageError):
        return None
    values = np.arange(256) / 255
    counts = np.stack([np.bincount(pixels[:, :, k].ravel(), minlength=256) for k in range(pixels.shape[2])], axis=1)
    sums = np.stack([values @ counts, values**2 @ counts]) / (pixels.shape[0] * pixels.shape[1])
    mode = header.mode if header is not None else _MODES[pixels.shape[2]]
    return _Seen((pixels.shape[0], pixels.shape[1]), mode, header.format if header is not None else "", sums)


def _bytes(dataset: Dataset) -> int | None:
    if isinstance(dataset.images, ImageFiles):
        return sum(path.stat().st_size for path in dataset.images.paths if path.exists())
    return dataset.images.pixels.nbytes if isinstance(dataset.images, ImageArrays) else None
