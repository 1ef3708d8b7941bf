"""One file per data format: recognise, load, save. A new format is a new file here, and nothing else."""

import importlib
import pkgutil
import re
import shutil
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Literal, Protocol, cast

import numpy as np
from PIL import Image

from striate.data.dataset import Dataset, Indices
from striate.data.images import ImageFiles
from striate.errors import DataError

# What folders and the entries of a table may be called, in lower case.
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}

CLASSES = ("classification",)  # the tasks of formats whose truth is of whole images
OBJECTS = ("localization", "keypoints", "detection")  # and of those whose truth says where

# What a format may be able to hold, beside images and their classes or boxes.
Part = Literal[
    "masks",
    "polygons",  # one ring for each object, and nothing else
    "areas",
    "crowds",
    "ignored",
    "points",
    "hidden points",
    "point names",
    "lines",
    "boxes",  # those that are not simply around the points
    "class names",
    "empty classes",
    "groups",
    "licence",
]


class Format(Protocol):
    """What every module of this package offers."""

    @property
    def NAME(self) -> str:  # noqa: N802
        """What the format is called to a person; `Dataset.format` says it."""
        ...

    @property
    def EXPECTS(self) -> str:  # noqa: N802
        """What lies at a path of this format, for the message about one that is of none."""
        ...

    @property
    def TASKS(self) -> tuple[str, ...]:  # noqa: N802
        """The tasks whose truths it holds: `CLASSES` or `OBJECTS`."""
        ...

    @property
    def HOLDS(self) -> frozenset[Part]:  # noqa: N802
        """What it can hold, for the report of what is lost."""
        ...

    def recognise(self, path: Path) -> bool:
        """Whether the path, which exists, looks like this format; quick."""
        ...

    def load(self, path: Path) -> Dataset:
        """Read it; raises `DataError` where it is not what it looked like."""
        ...

    def save(self, dataset: Dataset, folder: Path) -> None:
        """Write ``dataset`` into a new or empty folder, so that `load` gives the same images, truths and splits.

        Raises:
            DataError: the folder holds something, or the format cannot hold this data.
        """
        ...


@cache
def formats() -> Mapping[str, Format]:
    """Every format, by the name of its module."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return {name: cast("Format", importlib.import_module(f"{__name__}.{name}")) for name in names}


def format_named(name: str) -> Format | None:
    """The format whose NAME is ``name``, as `Dataset.format` gives it; None for data that came from elsewhere."""
    return next((form for form in formats().values() if name == form.NAME), None)


def says_where(path: Path) -> bool:
    """Whether a format of objects recognises the path: to one of classes it then means nothing."""
    return any(form.recognise(path) for form in formats().values() if form.TASKS == OBJECTS)


def new_folder(folder: Path) -> Path:
    """Make a folder to save into; raises `DataError` when there is something in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        occupied = any(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder}: cannot be made or read ({error.strerror}). Name another folder.") from error
    if occupied:
        raise DataError(f"{folder}: is not empty, and nothing is written over. Name a new folder.")
    return folder


def parts(dataset: Dataset, unsplit: str) -> Iterable[tuple[str, Indices]]:
    """Each split with its rows; ``unsplit`` is what all rows are called where there are no official splits.

    Raises:
        DataError: a row is in no split or in two.
    """
    if not dataset.splits:
        return [(unsplit, np.arange(len(dataset), dtype=np.int64))]
    times = np.bincount(np.concatenate(list(dataset.splits.values())), minlength=len(dataset))
    if (times != 1).any():
        row = int(np.flatnonzero(times != 1)[0])
        raise DataError(f"{dataset.name}: {dataset.ids[row]} is in {times[row]} splits; it must be in one to be saved.")
    return list(dataset.splits.items())


def sorted_classes(names: set[str]) -> tuple[str, ...]:
    """Class names in the order of their labels: by value where all are whole numbers, else by code point."""
    if all(re.fullmatch(r"[+-]?[0-9]+", name) for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def inner_name(id_: str, label: str) -> str:
    """What is left of an id after its split and class: the file's place inside its class folder."""
    pieces = _pieces(id_)
    if len(pieces) > 1 and pieces[0].casefold() in SPLIT_NAMES:
        pieces = pieces[1:]
    if len(pieces) > 1 and pieces[0] == label:
        pieces = pieces[1:]
    return _safe(pieces)


def bare_name(id_: str) -> str:
    """What is left of an id after its split and the folder of images, in any order: of formats without classes."""
    pieces = _pieces(id_)
    while len(pieces) > 1 and pieces[0].casefold() in (*SPLIT_NAMES, "images", "jpegimages"):
        pieces = pieces[1:]
    return _safe(pieces)


def _pieces(id_: str) -> list[str]:
    return [piece for piece in PurePosixPath(id_.replace("\\", "/")).parts if piece not in ("/", "..", ".")]


def _safe(pieces: Iterable[str]) -> str:
    return re.sub(r"[\[\]:*?\"<>|]+", "-", "/".join(pieces)).strip("-") or "image"


def write_image(dataset: Dataset, row: int, target: Path) -> Path:
    """Copy image ``row`` to a path: the file byte for byte, or pixels in memory as PNG.

    Returns:
        Where it lies; a name that is taken gets a number.
    """
    source = dataset.images.paths[row] if isinstance(dataset.images, ImageFiles) else None
    target = target if source else target.with_name(f"{target.name}.png")
    free, count = target, 1
    while free.exists():
        count += 1
        free = target.with_stem(f"{target.stem}-{count}")
    free.parent.mkdir(parents=True, exist_ok=True)
    if source:
        shutil.copyfile(source, free)
    else:
        pixels = dataset.images.read(row)
        Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(free)
    return free
