"""One file per data format: recognise, load, save. A new format is a new file here, and nothing else."""

import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Protocol, cast

from striate.data.dataset import Dataset, Indices
from striate.errors import DataError


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

    def recognise(self, path: Path) -> bool:
        """Whether the path, which exists, looks like this format; quick, and never raises `DataError`."""
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
    import numpy as np

    if not dataset.splits:
        return [(unsplit, np.arange(len(dataset), dtype=np.int64))]
    times = np.bincount(np.concatenate(list(dataset.splits.values())), minlength=len(dataset))
    if (times != 1).any():
        row = int(np.flatnonzero(times != 1)[0])
        raise DataError(f"{dataset.name}: {dataset.ids[row]} is in {times[row]} splits; it must be in one to be saved.")
    return list(dataset.splits.items())
