"""The folder of classes."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from striate.data.formats import folder
from striate.errors import DataError

TREES = [
    # files, classes, images per split (None: no splits), skipped source -> words of the reason; why
    (["cat/1.png", "dog/2.png"], ("cat", "dog"), None, {}),
    # deeper folders belong to their class
    (["cat/a/1.png", "cat/b/c/2.png", "dog/3.png"], ("cat", "dog"), None, {}),
    (["train/cat/1.png", "val/cat/2.png", "test/dog/3.png"], ("cat", "dog"), {"train": 1, "val": 1, "test": 1}, {}),
    # the other names of the splits, in any case
    (["Training/a/1.png", "validation/a/2.png", "TESTING/a/3.png"], ("a",), {"train": 1, "val": 1, "test": 1}, {}),
    (["train/a/1.png", "valid/a/2.png"], ("a",), {"train": 1, "val": 1}, {}),
    # only a test set, as for evaluation
    (["test/a/1.png", "test/b/2.png"], ("a", "b"), {"test": 2}, {}),
    # "test" among other folders, without train: a class of that name
    (["test/1.png", "exam/2.png"], ("exam", "test"), None, {}),
    # what is no split beside train
    (["train/a/1.png", "extra/a/2.png"], ("a",), {"train": 1}, {"extra/": "no split"}),
    # a test set without truth, as in competitions: one entry, not thousands
    (
        ["train/a/1.png", "test/1.png", "test/2.png"],
        ("a",),
        {"train": 1},
        {"test/1.png (and 1 more images)": "no class folder"},
    ),
    # suffixes in any case; others are skipped
    (["a/1.JPG.PNG", "a/2.PNG", "a/notes.txt", "a/noext"], ("a",), None, {"a/notes.txt": ".txt", "a/noext": "none"}),
    # hidden files and folders
    (
        ["a/1.png", "a/.2.png", "a/Thumbs.db", ".git/1.png", "__MACOSX/a/1.png", "a/.hidden/1.png"],
        ("a",),
        None,
        {
            "a/.2.png": "hidden file",
            "a/Thumbs.db": "hidden file",
            ".git/": "hidden",
            "__MACOSX/": "hidden",
            "a/.hidden/": "hidden",
        },
    ),
    # loose files at the top
    (["a/1.png", "readme.md", "loose.png"], ("a",), None, {"readme.md": ".md", "loose.png": "no class folder"}),
    # an empty class
    (["a/1.png", "b/notes.txt"], ("a",), None, {"b/notes.txt": ".txt", "b/": "makes no class"}),
    # numbers sort by value, words and mixtures by code point as in torchvision
    (["10/1.png", "9/1.png", "-1/1.png"], ("-1", "9", "10"), None, {}),
    (["10/1.png", "9/1.png", "b/1.png", "B/1.png"], ("10", "9", "B", "b"), None, {}),
    # names with spaces and beyond ASCII
    (["ein Käse/1 2.png", "猫/ñ.png"], ("ein Käse", "猫"), None, {}),
]


def grow(root: Path, files: list[str]) -> None:
    for k, name in enumerate(files):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() == ".png":
            Image.fromarray(np.full((2, 3), k, dtype=np.uint8)).save(path, "PNG")
        else:
            path.write_text("text")


@pytest.mark.parametrize(("files", "classes", "splits", "skipped"), TREES)
def test_reads_a_tree(
    files: list[str], classes: tuple[str, ...], splits: dict[str, int] | None, skipped: dict[str, str], tmp_path: Path
) -> None:
    grow(tmp_path, files)
    assert folder.recognise(tmp_path)
    dataset = folder.load(tmp_path)
    assert dataset.classes == classes
    assert {name: len(rows) for name, rows in dataset.splits.items()} == (splits or {})
    assert {entry.source for entry in dataset.skipped} == set(skipped)
    for entry in dataset.skipped:
        assert skipped[entry.source] in entry.reason
    for i, id_ in enumerate(dataset.ids):
        assert dataset.classes[int(dataset.truths.labels[i])] in id_.split("/")
        assert (dataset.images.read(i) == files.index(id_)).all()
    assert list(dataset.ids) == sorted(dataset.ids)


def test_agrees_with_torchvision(tmp_path: Path) -> None:
    from torchvision.datasets import ImageFolder

    grow(tmp_path, ["b/1.png", "b/x/2.png", "a/3.png", "C/4.png", "a b/5.png"])
    ours, theirs = folder.load(tmp_path), ImageFolder(str(tmp_path))
    assert list(ours.classes) == theirs.classes
    labels = {str(tmp_path / id_): int(ours.truths.labels[i]) for i, id_ in enumerate(ours.ids)}
    assert labels == dict(theirs.samples)


def test_a_link_into_itself_ends(tmp_path: Path) -> None:
    grow(tmp_path, ["a/1.png"])
    (tmp_path / "a" / "again").symlink_to(tmp_path / "a", target_is_directory=True)
    dataset = folder.load(tmp_path)
    assert list(dataset.ids) == ["a/1.png"]
    assert [entry.source for entry in dataset.skipped] == ["a/again/"]


def test_a_linked_class_is_read(tmp_path: Path) -> None:
    grow(tmp_path / "elsewhere", ["x/1.png"])
    grow(tmp_path / "data", ["a/2.png"])
    (tmp_path / "data" / "b").symlink_to(tmp_path / "elsewhere" / "x", target_is_directory=True)
    assert list(folder.load(tmp_path / "data").ids) == ["a/2.png", "b/1.png"]


def test_a_file_name_that_is_not_utf8(tmp_path: Path) -> None:
    grow(tmp_path, ["a/1.png"])
    (tmp_path / "a" / "1.png").rename(tmp_path / "a" / "\udcff.png")
    dataset = folder.load(tmp_path)
    assert dataset.images.read(0).shape == (2, 3, 1)
    assert len(dataset.fingerprint(np.array([0]))) == 64


@pytest.mark.parametrize("inner", ["photos/cat/1.png photos/dog/2.png", "photos/train/cat/1.png photos/test/cat/2.png"])
def test_a_folder_around_the_folder_is_named(inner: str, tmp_path: Path) -> None:
    """As archives unpack; read as it is, all would be of one class."""
    grow(tmp_path, inner.split())
    with pytest.raises(DataError, match=r"class folder, photos, is itself a folder of classes\. Name .*photos"):
        folder.load(tmp_path)


def test_a_folder_that_cannot_be_read_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grow(tmp_path, ["a/1.png", "a/locked/2.png", "b/3.png"])
    scandir = os.scandir

    def refusing(path: Path) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    dataset = folder.load(tmp_path)
    assert list(dataset.ids) == ["a/1.png", "b/3.png"]
    assert [(entry.source, entry.reason) for entry in dataset.skipped] == [("a/locked/", "the folder cannot be read")]


def test_splits_without_classes_are_an_error(tmp_path: Path) -> None:
    grow(tmp_path, ["train/1.png", "test/2.png"])
    with pytest.raises(DataError, match=r"no class folder with images in its splits\. Expected one sub-folder"):
        folder.load(tmp_path)


def test_names_that_collide_when_saved_are_kept_apart(tmp_path: Path) -> None:
    grow(tmp_path, ["train/a/1.png", "test/a/1.png", "train/b/1.png"])
    dataset = folder.load(tmp_path)
    folder.save(replace(dataset, splits={}), tmp_path / "out")
    assert sorted(folder.load(tmp_path / "out").ids) == ["a/1-2.png", "a/1.png", "b/1.png"]
