"""What every data format promises: it recognises its own, and what it saves it loads again."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from striate.core.annotations import Classifications
from striate.data.dataset import Dataset, ImageArrays
from striate.data.formats import Format, format_named, formats
from striate.data.open import open_dataset
from striate.errors import DataError

NAMES = ("cifar", "folder", "idx", "table")


def made(*, shape: tuple[int, int, int], classes: tuple[str, ...], splits: tuple[str, ...], count: int = 12) -> Dataset:
    """A few random images; every class in every split."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)
    labels = torch.arange(count) // max(1, len(splits)) % len(classes)
    return Dataset(
        name="made",
        format="in memory",
        path=None,
        task="classification",
        classes=classes,
        ids=[f"made[{i}]" for i in range(count)],
        images=ImageArrays(pixels),
        truths=Classifications(labels=labels),
        splits={split: np.arange(k, count, len(splits), dtype=np.int64) for k, split in enumerate(splits)},
    )


def contents(dataset: Dataset) -> set[tuple[str, str | None, bytes]]:
    """Every image with its class and split, whatever the order and the ids."""
    split_of = {int(i): split for split, rows in dataset.splits.items() for i in rows}
    return {
        (dataset.classes[int(dataset.truths.labels[i])], split_of.get(i), dataset.images.read(i).tobytes())
        for i in range(len(dataset))
    }


def test_there_are_as_many_formats_as_files() -> None:
    assert tuple(formats()) == NAMES
    assert len({form.NAME for form in formats().values()}) == len(NAMES)
    for name, form in formats().items():
        assert format_named(form.NAME) is formats()[name]
    assert format_named("made up") is None


ROUND_TRIPS = [
    # format, shape of the images, class names, splits, why
    ("folder", (5, 7, 3), ("cat", "dog"), (), "no splits"),
    ("folder", (5, 7, 1), ("cat", "dog", "Ähre"), ("train", "val", "test"), "grey, all splits, a name beyond ASCII"),
    ("folder", (5, 7, 3), ("2", "10"), ("train", "test"), "numbers sort by value"),
    ("table", (5, 7, 3), ("cat", 'a, b; "c"\nd', "x/y"), (), "names that CSV must quote and folders cannot have"),
    ("table", (5, 7, 1), ("cat", "dog"), ("train", "val", "test"), "grey, all splits"),
    ("idx", (5, 7, 1), ("0", "1", "2"), ("train", "test"), "class names are the numbers"),
    ("idx", (5, 7, 1), ("cat", "dog"), ("train", "val", "test"), "class names lie beside"),
    ("cifar", (32, 32, 3), ("cat", "dog"), ("train", "test"), "class names lie beside"),
]


@pytest.mark.parametrize(
    ("name", "shape", "classes", "splits"),
    [row[:4] for row in ROUND_TRIPS],
    ids=[f"{row[0]}, {row[4]}" for row in ROUND_TRIPS],
)
def test_what_is_saved_is_loaded(
    name: str, shape: tuple[int, int, int], classes: tuple[str, ...], splits: tuple[str, ...], tmp_path: Path
) -> None:
    form: Format = formats()[name]
    before = made(shape=shape, classes=classes, splits=splits)
    form.save(before, tmp_path / "out")
    path = tmp_path / "out" / "labels.csv" if name == "table" else tmp_path / "out"
    after = open_dataset(path)
    assert after.format == form.NAME
    assert after.classes == tuple(sorted(classes)) or after.classes == classes
    assert contents(after) == contents(before)
    assert after.skipped == ()
    assert after.task == "classification"
    assert len(set(after.ids)) == len(after) == len(before)
    assert after.truths.labels.dtype == torch.int64

    # And once more from what was loaded: files are copied, not encoded anew.
    form.save(after, tmp_path / "again")
    again = form.load(tmp_path / "again" / "labels.csv" if name == "table" else tmp_path / "again")
    assert contents(again) == contents(before)
    assert list(again.ids) == list(after.ids)
    everything = np.arange(len(after), dtype=np.int64)
    assert again.fingerprint(everything) == after.fingerprint(everything)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_written_over(name: str, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="not empty"):
        formats()[name].save(made(shape=(32, 32, 1), classes=("0", "1"), splits=()), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


CANNOT = [
    # format, what it cannot hold, words of the message
    ("folder", made(shape=(5, 5, 1), classes=("a/b", "c"), splits=()), "cannot be the name of a folder"),
    ("folder", made(shape=(5, 5, 1), classes=("..", "c"), splits=()), "cannot be the name of a folder"),
    ("idx", made(shape=(5, 5, 3), classes=("a", "b"), splits=()), "grey images of one size"),
    ("idx", made(shape=(5, 5, 1), classes=tuple(map(str, range(300))), splits=()), "at most 256 classes"),
    ("idx", made(shape=(5, 5, 1), classes=("a", "b"), splits=("train", "extra")), "no place for a split 'extra'"),
    ("cifar", made(shape=(5, 5, 3), classes=("a", "b"), splits=()), "32x32 RGB"),
    ("cifar", made(shape=(32, 32, 3), classes=("a", "b"), splits=("train", "val")), "no place for a split 'val'"),
    (
        "folder",
        replace(made(shape=(5, 5, 1), classes=("a", "b"), splits=()), splits={"train": np.array([0, 1])}),
        "is in 0 splits",
    ),
]


@pytest.mark.parametrize(("name", "dataset", "words"), CANNOT, ids=[f"{row[0]}: {row[2]}" for row in CANNOT])
def test_says_what_it_cannot_hold(name: str, dataset: Dataset, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words):
        formats()[name].save(dataset, tmp_path / "out")


def test_a_format_recognises_only_its_own(tmp_path: Path) -> None:
    """Every format against what every other one saved, an empty folder and a file."""
    for name, form in formats().items():
        form.save(made(shape=(32, 32, 3 if name == "cifar" else 1), classes=("0", "1"), splits=()), tmp_path / name)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("text")
    paths = {name: tmp_path / name / "labels.csv" if name == "table" else tmp_path / name for name in NAMES}
    paths |= {"nothing": tmp_path / "empty", "a file": tmp_path / "file.txt"}
    for theirs, path in paths.items():
        for name, form in formats().items():
            assert form.recognise(path) == (name == theirs), (name, theirs)
