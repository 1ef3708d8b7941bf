"""A data set: images, their truths, and who belongs to which split."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from striate.core.annotations import Annotations, Classifications
from striate.core.instances import Instances, InstanceSets, Polygons, Shape, Skeleton
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
    truths: Annotations  # where it says where, in pixels of the images as `Images.read` gives them
    splits: Mapping[str, Indices] = field(default_factory=dict[str, Indices])  # official ones; empty where none are
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])  # columns for --group-by
    skipped: tuple[Skipped, ...] = ()
    licence: str | None = None
    skeleton: Skeleton | None = None  # what the keypoints mean, where the truths have some

    def __len__(self) -> int:
        return len(self.ids)

    def fingerprint(self, indices: Indices) -> str:
        """SHA-256 over the ids, truths and contents of the images at ``indices``, whatever their order."""
        total = hashlib.sha256()
        for id_, row in sorted((self.ids[i], int(i)) for i in indices):
            names = "\0".join(self.classes[label] for label in self._labels_of(row))
            total.update(f"{id_}\0{names}\0".encode(errors="surrogateescape"))  # file names need not be UTF-8
            if isinstance(self.truths, InstanceSets):
                truth = self.truths[row]
                for column in (truth.boxes, truth.keypoints):
                    total.update(b"" if column is None else column.numpy().tobytes())
                total.update(_beyond_boxes(truth))
            total.update(self.images.content(row))
        return total.hexdigest()

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,) the class of each image, of a classification."""
        assert isinstance(self.truths, Classifications)
        return self.truths.labels.numpy()

    @property
    def instances(self) -> InstanceSets:
        """The truths that say where."""
        assert isinstance(self.truths, InstanceSets)
        return self.truths

    @cached_property
    def strata(self) -> NDArray[np.int64]:
        """(N,) the class that an image counts for where images are drawn by class.

        Its own; where images have many objects, the one of theirs that is rarest in the data, K where there is none.
        """
        if isinstance(self.truths, Classifications):
            return self.labels
        labels, count = self.truths.labels, len(self.classes)
        by_rarity = torch.bincount(labels, minlength=count).argsort(stable=True)
        rank = torch.empty(count + 1, dtype=torch.int64)
        rank[by_rarity], rank[count] = torch.arange(count), count
        rarest = torch.full((len(self),), count).scatter_reduce(0, self.truths.images, rank[labels], "amin")
        return torch.cat((by_rarity, torch.tensor([count])))[rarest].numpy()

    def images_with(self, indices: Indices) -> NDArray[np.int64]:
        """(K,) how many of the images at ``indices`` show each class."""
        if isinstance(self.truths, Classifications):
            return self.counts(indices)
        count = len(self.classes)
        part = self.truths.select(torch.from_numpy(indices))
        return torch.bincount((part.images * count + part.labels).unique() % count, minlength=count).numpy()

    def counts(self, indices: Indices) -> NDArray[np.int64]:
        """(K,) images of each class among those at ``indices``; where images have many objects, objects."""
        if isinstance(self.truths, Classifications):
            return np.bincount(self.labels[indices], minlength=len(self.classes))
        part = self.truths.select(torch.from_numpy(indices))
        return torch.bincount(part.labels, minlength=len(self.classes)).numpy()

    def _labels_of(self, row: int) -> list[int]:
        if isinstance(self.truths, Classifications):
            return [int(self.truths.labels[row])]
        return self.truths[row].labels.tolist()


def _beyond_boxes(truth: Instances) -> bytes:
    """Masks and marks of objects for a fingerprint; nothing where there are none, so that plain boxes keep theirs."""
    parts: list[bytes] = []
    for name, column in (("crowd", truth.crowd), ("ignore", truth.ignore)):
        if column is not None and column.any():
            parts += [name.encode(), column.numpy().tobytes()]
    for number, shape in enumerate(truth.shapes or ()):
        if shape != Polygons(rings=()):
            parts += [f"mask {number}".encode(), _outline(shape)]
    return b"\0".join(parts)


def _outline(shape: Shape) -> bytes:
    if isinstance(shape, Polygons):
        return b"\0".join(np.array(ring, dtype=np.float64).tobytes() for ring in shape.rings)
    return np.array((*shape.size, *shape.counts), dtype=np.int64).tobytes()
