"""Data sets that are known by name."""

from pathlib import Path

from striate.data.dataset import Dataset
from striate.data.formats import idx
from striate.data.samples import digits
from striate.errors import DataError, UsageError

NAMES = ("digits", "mnist")


def load(name: str, *, root: Path | None, download: bool) -> Dataset:
    """Open by name."""
    if name == "digits":
        if root is not None or download:
            raise UsageError("digits ships with the package; it takes neither --root nor --download.")
        return digits.load()
    if root is None:
        raise DataError(f"{name}: name the folder of its files with --root.")
    return idx.load_family(root, name=name)
