"""What every data format promises: it recognises its own, and what it saves it loads again."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from striate.core.annotations import Classifications
from striate.core.instances import InstanceSets, Polygons, RunLengths, Skeleton
from striate.data.dataset import Dataset, ImageArrays
from striate.data.formats import CLASSES, OBJECTS, Format, format_named, formats
from striate.data.open import open_dataset
from striate.errors import DataError

OF_CLASSES = ("cifar", "folder", "idx", "table")
OF_OBJECTS = ("boxes_csv", "coco", "pts", "voc", "yolo")
NAMES = tuple(sorted(OF_CLASSES + OF_OBJECTS))
FILES = {"table": "labels.csv", "boxes_csv": "boxes.csv"}  # what to open of what these save


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


def objects(
    *, splits: tuple[str, ...] = ("train", "val", "test"), masks: str = "", points: bool = False, flags: str = ""
) -> Dataset:
    """Six images, 40 high and 60 wide, with 3, 0, 1, 2, 1 and 0 objects; with points one each."""
    counts = [1] * 6 if points else [3, 0, 1, 2, 1, 0]
    generator = np.random.default_rng(1)
    total = sum(counts)
    low = generator.integers(0, 20, (total, 2))
    boxes = torch.from_numpy(np.concatenate((low, low + generator.integers(4, 20, (total, 2))), axis=1)).float()
    shapes = None
    if masks == "polygons":
        rings = [(x1, y1, x2, y1, x2, y2, x1, y2) for x1, y1, x2, y2 in boxes.tolist()]
        shapes = tuple(Polygons(rings=(ring,)) for ring in rings)
    if masks == "runs":
        shapes = tuple(RunLengths(size=(40, 60), counts=(100 + k, 7, 2293 - k)) for k in range(total))
    keypoints = skeleton = None
    if points:
        skeleton = Skeleton(names=("0", "1", "2"), flips=(0, 1, 2))
        corners = torch.stack((boxes[:, :2], boxes[:, 2:], (boxes[:, :2] + boxes[:, 2:]) / 2), dim=1)
        keypoints = torch.cat((corners, torch.full((total, 3, 1), 2.0)), dim=2)
    pixels = generator.integers(0, 256, (6, 40, 60, 3), dtype=np.uint8)
    return Dataset(
        name="made",
        format="in memory",
        path=None,
        task="keypoints" if points else "detection",
        classes=("object",) if points else ("cat", 'a "big" dog, Ähre'),
        ids=[f"made[{i}]" for i in range(6)],
        images=ImageArrays(pixels),
        truths=InstanceSets(
            offsets=torch.tensor([0, *np.cumsum(counts)]),
            boxes=boxes,
            labels=torch.arange(total) % (1 if points else 2),
            shapes=shapes,
            keypoints=keypoints,
            crowd=torch.arange(total) % 3 == 0 if flags == "crowd" else None,
            ignore=torch.arange(total) % 3 == 1 if flags == "ignore" else None,
        ),
        splits={split: np.arange(k, 6, len(splits), dtype=np.int64) for k, split in enumerate(splits)},
        skeleton=skeleton,
    )


def found(dataset: Dataset, decimals: int) -> set[tuple[object, ...]]:
    """Every image with its split and its objects, whatever the order and the ids."""
    split_of = {int(i): split for split, rows in dataset.splits.items() for i in rows}
    images: set[tuple[object, ...]] = set()
    for i, truth in enumerate(dataset.instances):
        told: list[object] = []
        for k, label in enumerate(truth.labels.tolist()):
            columns = (truth.boxes, truth.keypoints, truth.crowd, truth.ignore)
            values = [None if column is None else column[k].double().numpy().round(decimals) for column in columns]
            shape = None if truth.shapes is None else repr(truth.shapes[k])
            told.append((dataset.classes[label], *(repr(value) for value in values), shape))
        images.add((split_of.get(i), dataset.images.read(i).tobytes(), tuple(told)))
    return images


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
        assert (CLASSES if name in OF_CLASSES else OBJECTS) == form.TASKS
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
    after = open_dataset(tmp_path / "out" / FILES.get(name, ""))
    assert after.format == form.NAME
    assert after.classes == tuple(sorted(classes)) or after.classes == classes
    assert contents(after) == contents(before)
    assert after.skipped == ()
    assert after.task == "classification"
    assert len(set(after.ids)) == len(after) == len(before)
    assert after.truths.labels.dtype == torch.int64

    # And once more from what was loaded: files are copied, not encoded anew.
    form.save(after, tmp_path / "again")
    again = form.load(tmp_path / "again" / FILES.get(name, ""))
    assert contents(again) == contents(before)
    assert list(again.ids) == list(after.ids)
    everything = np.arange(len(after), dtype=np.int64)
    assert again.fingerprint(everything) == after.fingerprint(everything)


WITHOUT_LOSS = [
    # format, what is saved, decimals to which boxes and points are the same, why
    ("coco", {}, 9, "boxes"),
    ("coco", {"splits": ()}, 9, "no splits"),
    ("coco", {"masks": "polygons"}, 9, "polygons"),
    ("coco", {"masks": "runs", "flags": "crowd"}, 9, "run lengths and crowds"),
    ("coco", {"flags": "ignore"}, 9, "objects to ignore"),
    ("coco", {"points": True}, 9, "points"),
    ("yolo", {}, 4, "boxes"),
    ("yolo", {"splits": ()}, 4, "no splits"),
    ("yolo", {"splits": ("train", "val")}, 4, "two splits"),
    ("yolo", {"points": True}, 4, "points"),
    ("voc", {}, 9, "boxes"),
    ("voc", {"splits": (), "flags": "ignore"}, 9, "no splits, objects to ignore"),
    ("boxes_csv", {}, 9, "boxes"),
    ("boxes_csv", {"splits": (), "flags": "ignore"}, 9, "no splits, objects to ignore"),
    ("boxes_csv", {"flags": "crowd"}, 9, "crowds"),
    ("pts", {"points": True}, 5, "points"),
    ("pts", {"points": True, "splits": ()}, 5, "no splits"),
]


@pytest.mark.parametrize(
    ("name", "what", "decimals"),
    [row[:3] for row in WITHOUT_LOSS],
    ids=[f"{row[0]}, {row[3]}" for row in WITHOUT_LOSS],
)
def test_objects_that_are_saved_are_loaded(name: str, what: dict[str, Any], decimals: int, tmp_path: Path) -> None:
    form = formats()[name]
    before = objects(**what)
    form.save(before, tmp_path / "out")
    after = open_dataset(tmp_path / "out" / FILES.get(name, ""))
    assert after.format == form.NAME
    assert after.task == before.task
    assert set(after.classes) == set(before.classes)
    assert after.skeleton == before.skeleton
    assert after.skipped == ()
    assert found(after, decimals) == found(before, decimals)

    form.save(after, tmp_path / "again")
    again = form.load(tmp_path / "again" / FILES.get(name, ""))
    assert list(again.ids) == list(after.ids)
    assert found(again, decimals) == found(after, decimals)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_written_over(name: str, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    data = made(shape=(32, 32, 1), classes=("0", "1"), splits=()) if name in OF_CLASSES else objects(points=True)
    with pytest.raises(DataError, match="not empty"):
        formats()[name].save(data, tmp_path)
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
    ("pts", objects(), "has no points"),
    ("pts", replace(objects(), truths=replace(objects().instances, keypoints=torch.zeros(7, 2, 3))), "hold one"),
]


@pytest.mark.parametrize(("name", "dataset", "words"), CANNOT, ids=[f"{row[0]}: {row[2]}" for row in CANNOT])
def test_says_what_it_cannot_hold(name: str, dataset: Dataset, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words):
        formats()[name].save(dataset, tmp_path / "out")


def test_a_format_recognises_only_its_own(tmp_path: Path) -> None:
    """Every format against what every other one saved, an empty folder and a file."""
    for name, form in formats().items():
        data = made(shape=(32, 32, 3 if name == "cifar" else 1), classes=("0", "1"), splits=())
        form.save(data if name in OF_CLASSES else objects(points=True), tmp_path / name)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("text")
    paths = {name: tmp_path / name / FILES.get(name, "") for name in NAMES}
    paths |= {"nothing": tmp_path / "empty", "a file": tmp_path / "file.txt"}
    for theirs, path in paths.items():
        for name, form in formats().items():
            assert form.recognise(path) == (name == theirs), (name, theirs)
