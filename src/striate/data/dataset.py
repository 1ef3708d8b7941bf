"""A data set: images, their truths, and who belongs to which split."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from striate.core.annotations import Classifications
from striate.data.preprocess import Pixels

Indices = NDArray[np.int64]


class Images(Protocol):
    """Where images come from. Two kinds exist: `ImageFiles` (data/images.py) and `ImageArrays`."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> Pixels:
        """Image ``index`` as (H, W, 1) or (H, W, 3) uint8, EXIF orientation applied; raises `DataError`."""
        ...

    def content(self, index: int) -> bytes:
        """What the fingerprint of image ``index`` is made of."""
        ...


@dataclass(frozen=True)
class ImageArrays:
    """Small images of one size, in memory."""

    pixels: Pixels  # (N, H, W, 1) or (N, H, W, 3) uint8

    def __len__(self) -> int:
        return self.pixels.shape[0]

    def read(self, index: int) -> Pixels:
        """See `Images.read`."""
        return self.pixels[index]

    def content(self, index: int) -> bytes:
        """The pixels."""
        return self.pixels[index].tobytes()


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """Something in the data that could not be used."""

    source: str  # file, relative to the data's root, or the file with its row
    reason: str
    stray: bool = False  # no image of a class is lost: a hidden file, a file of another kind, an empty folder


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Images with truths. Row i of every field is the same image."""

    name: str  # "digits"; for a path its last part
    format: str  # the format's own words, as in "folder of classes"
    path: Path | None  # None for data that ships with the package
    task: str  # which task the truths are for
    classes: tuple[str, ...]  # class names; a label is an index into them
    ids: Sequence[str]  # what names the image to a person: a path relative to `path`, or "train[12]"
    images: Images
    truths: Classifications
    splits: Mapping[str, Indices] = field(default_factory=dict[str, Indices])  # official ones; empty where none are
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])  # columns for --group-by
    skipped: tuple[Skipped, ...] = ()
    licence: str | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def fingerprint(self, indices: Indices) -> str:
        """SHA-256 over the ids, truths and contents of the images at ``indices``, whatever their order."""
        total = hashlib.sha256()
        labels = self.truths.labels.numpy()
        for row in sorted((self.ids[i], int(i)) for i in indices):
            total.update(
                f"{row[0]}\0{self.classes[labels[row[1]]]}\0".encode(errors="surrogateescape")
            )  # file names need not be UTF-8
            total.update(self.images.content(row[1]))
        return total.hexdigest()
