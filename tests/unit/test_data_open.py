"""From what a person types to a data set, and what is answered when it is none."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from striate.data.formats import formats
from striate.data.open import open_dataset
from striate.errors import DataError, UsageError


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("photos/cat/1.png", "photos/dog/2.png", "loose/1.png", "loose/labels.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".png"):
            Image.fromarray(np.zeros((2, 3), np.uint8)).save(tmp_path / name)
    (tmp_path / "loose" / "labels.csv").write_text("1.png,cat\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("text")
    return tmp_path


def test_a_known_name_comes_first_and_a_path_can_still_be_meant(place: Path) -> None:
    (place / "photos").rename(place / "digits")
    assert len(open_dataset("digits")) == 7000
    assert open_dataset("./digits").classes == ("cat", "dog")
    assert open_dataset(Path("digits")).classes == ("cat", "dog")


def test_a_path_says_its_name_and_format(place: Path) -> None:
    dataset = open_dataset("photos")
    assert (dataset.name, dataset.format, dataset.path) == ("photos", "folder of classes", Path("photos"))
    assert open_dataset("loose/labels.csv").format == "table of images"
    assert open_dataset(place / "photos" / ".").name == "photos"


UNKNOWN = [
    # what was typed, words of the answer
    ("digit", "neither a known data set nor a file or folder here. Did you mean 'digits'"),
    ("minst", "Did you mean 'mnist'"),
    ("phots", "Did you mean 'photos'"),
    ("qqqqqq", "The known ones are digits, scenes"),  # nothing is near: all of them
    ("loose/label.csv", "loose/label.csv: no such file or folder. Did you mean 'loose/labels.csv'"),
    ("photo/cat/1.png", "there is no photo. Did you mean 'photos'"),
]


@pytest.mark.parametrize(("data", "words"), UNKNOWN)
def test_a_mistyped_name_is_answered_with_the_nearest(data: str, words: str, place: Path) -> None:
    with pytest.raises(UsageError) as raised:
        open_dataset(data)
    assert words in str(raised.value)


UNRECOGNISED = [
    # path, what was seen there
    ("empty", "0 folders, 0 images, 0 other files, but no known data format"),
    (
        "loose",
        "0 folders, 1 image, 1 other file, but no known data format. There is a table in it: to read that, name loose",
    ),
    ("loose", "Move the images into one folder per class"),
    ("notes.txt", "a file of no known data format"),
    (".", None),  # folders of images are classes
]


@pytest.mark.parametrize(("path", "words"), UNRECOGNISED)
def test_what_no_format_recognises_is_described(path: str, words: str | None, place: Path) -> None:
    if words is None:
        assert open_dataset(path).classes == ("loose", "photos")
        return
    with pytest.raises(DataError) as raised:
        open_dataset(path)
    assert words in str(raised.value)
    for form in formats().values():
        assert form.EXPECTS in str(raised.value)


def test_the_folder_that_was_meant_is_named(place: Path) -> None:
    raw = place / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "train-images-idx3-ubyte.gz").write_bytes(b"")
    (place / "empty" / "photos.zip").write_bytes(b"")
    for path, words in (
        ("MNIST", "Its folder raw is read as IDX: name MNIST/raw."),
        ("MNIST/raw/train-images-idx3-ubyte.gz", "Its folder is read as IDX: name that."),
        ("empty/photos.zip", "an archive. Unpack it and name its folder."),
    ):
        with pytest.raises(DataError) as raised:
            open_dataset(path)
        assert words in str(raised.value)


def test_a_home_folder_is_expanded(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(place))
    assert open_dataset("~/photos").classes == ("cat", "dog")


def test_a_folder_that_cannot_be_read_is_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(path: Path) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refusing)
    with pytest.raises(DataError, match=r"photos: the folder cannot be read \(Permission denied\)"):
        open_dataset("photos")


def test_a_path_of_two_formats_is_ambiguous(place: Path) -> None:
    (place / "photos" / "train-images-idx3-ubyte").write_bytes(b"")
    with pytest.raises(DataError, match="can be read as folder of classes and as IDX"):
        open_dataset("photos")


@pytest.mark.parametrize("options", [{"root": Path("photos")}, {"download": True}])
def test_options_of_known_data_sets_are_refused_elsewhere(options: dict[str, object], place: Path) -> None:
    with pytest.raises(UsageError, match="is for known data sets, and 'photos' is none"):
        open_dataset("photos", **options)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="neither --root nor --download"):
        open_dataset("digits", **options)  # type: ignore[arg-type]
