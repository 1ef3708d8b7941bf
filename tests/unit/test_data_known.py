"""Known data sets: found where their files lie, never fetched unasked. Tiny files in the published layouts."""

import inspect
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from striate.data import known
from striate.data.dataset import Dataset
from striate.data.formats.idx import write_idx
from striate.errors import DataError

GREY = np.random.default_rng(0).integers(0, 256, (4, 28, 28), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 1], dtype=np.uint8)


def mnist_like(folder: Path, stem: str = "", labels: np.ndarray = LABELS, test: str = "t10k") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for prefix in ("train", test):
        write_idx(folder / f"{stem}{prefix}-images-idx3-ubyte.gz", GREY)
        write_idx(folder / f"{stem}{prefix}-labels-idx1-ubyte.gz", labels)


def photo(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (3, 2), (value, 0, 0)).save(path)


PLACES = [
    # name, where below the root the files lie
    ("mnist", ""),  # the root is the folder itself
    ("mnist", "mnist"),  # the root is a folder of data sets
    ("mnist", "MNIST/raw"),  # as torchvision lays it out
    ("fashion-mnist", "fashion-mnist"),
    ("fashion-mnist", "FashionMNIST/raw"),
    ("kmnist", "KMNIST/raw"),
]


@pytest.mark.parametrize(("name", "place"), PLACES)
def test_finds_the_mnist_family(name: str, place: str, tmp_path: Path) -> None:
    mnist_like(tmp_path / "root" / place)
    dataset = known.load(name, root=tmp_path / "root")
    assert dataset.name == name
    assert dataset.licence
    assert len(dataset.classes) == 10  # all of them, whichever labels occur
    assert {split: len(rows) for split, rows in dataset.splits.items()} == {"train": 4, "test": 4}
    np.testing.assert_array_equal(dataset.images.read(2)[:, :, 0], GREY[2])


def test_without_a_root_the_folder_data_is_looked_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mnist_like(tmp_path / "data" / "mnist")
    assert len(known.load("mnist")) == 8


def test_the_folder_of_another_data_set_is_refused(tmp_path: Path) -> None:
    mnist_like(tmp_path / "mnist")
    with pytest.raises(DataError, match="the folder is mnist, not fashion-mnist"):
        known.load("fashion-mnist", root=tmp_path / "mnist")


def test_emnist_is_turned_upright_and_counted_from_zero(tmp_path: Path) -> None:
    mnist_like(tmp_path / "emnist", "emnist-letters-", LABELS + 1, "test")
    mnist_like(tmp_path / "emnist", "emnist-digits-", LABELS, "test")  # all of them lie in one folder
    letters = known.load("emnist-letters", root=tmp_path)
    assert len(letters) == 8
    assert letters.classes == tuple("abcdefghijklmnopqrstuvwxyz")
    assert letters.truths.labels[:4].tolist() == [0, 1, 2, 1]
    np.testing.assert_array_equal(letters.images.read(1)[:, :, 0], GREY[1].T)
    assert known.load("emnist-digits", root=tmp_path).truths.labels[:4].tolist() == [0, 1, 2, 1]


def test_names_and_classes_are_torchvisions() -> None:
    from torchvision import datasets

    assert list(known._FASHION) == datasets.FashionMNIST.classes
    assert list(known._KMNIST) == datasets.KMNIST.classes
    merged = datasets.EMNIST.classes_split_dict
    assert list(known._MERGED) == merged["balanced"] == merged["bymerge"]
    assert len(set(known._CIFAR100)) == 100


def cifar(folder: Path, hundred: bool) -> None:
    folder.mkdir(parents=True)
    record = bytes([3, 99] if hundred else [9]) + bytes(3072)
    for name in ("train.bin", "test.bin") if hundred else ("data_batch_1.bin", "test_batch.bin"):
        (folder / name).write_bytes(record)


@pytest.mark.parametrize("place", ["", "cifar10", "cifar-10-batches-bin"])
def test_reads_cifar10(place: str, tmp_path: Path) -> None:
    cifar(tmp_path / "root" / place, hundred=False)
    dataset = known.load("cifar10", root=tmp_path / "root")
    assert dataset.classes[int(dataset.truths.labels[0])] == "truck"


def test_reads_cifar100(tmp_path: Path) -> None:
    cifar(tmp_path / "cifar-100-binary", hundred=True)
    dataset = known.load("cifar100", root=tmp_path)
    assert dataset.classes[int(dataset.truths.labels[0])] == "worm"


def test_cifars_pickles_are_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(DataError, match="pickles run code: the binary version is needed"):
        known.load("cifar10", root=tmp_path)


def stl10(folder: Path) -> None:
    folder.mkdir()
    image = np.zeros((3, 96, 96), dtype=np.uint8)  # channel, column, row
    image[0, 5, 7] = 200
    for split in ("train", "test"):
        (folder / f"{split}_X.bin").write_bytes(image.tobytes())
        (folder / f"{split}_y.bin").write_bytes(bytes([10]))


def test_reads_stl10(tmp_path: Path) -> None:
    stl10(tmp_path / "stl10_binary")
    dataset = known.load("stl10", root=tmp_path)
    assert dataset.classes[int(dataset.truths.labels[0])] == "truck"
    assert dataset.images.read(0)[7, 5, 0] == 200
    (tmp_path / "stl10_binary" / "test_X.bin").write_bytes(b"short")
    with pytest.raises(DataError, match=r"test_X\.bin: 5 bytes do not fit 1 labels"):
        known.load("stl10", root=tmp_path)


def test_reads_svhn(tmp_path: Path) -> None:
    scipy_io = pytest.importorskip("scipy.io")
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 2), dtype=np.uint8)
    for split in ("train", "test"):
        scipy_io.savemat(tmp_path / f"{split}_32x32.mat", {"X": pixels, "y": np.array([[10], [3]], dtype=np.uint8)})
    dataset = known.load("svhn", root=tmp_path)
    assert dataset.truths.labels.tolist() == [0, 3, 0, 3]  # the digit 0 is stored as 10
    np.testing.assert_array_equal(dataset.images.read(1), pixels[:, :, :, 1])
    (tmp_path / "test_32x32.mat").write_bytes(b"MATLAB 5.0, or not")
    with pytest.raises(DataError, match=r"test_32x32\.mat: cannot be read"):
        known.load("svhn", root=tmp_path)


def flowers102(root: Path) -> None:
    scipy_io = pytest.importorskip("scipy.io")
    for k in (1, 2, 3, 4):
        photo(root / "flowers-102" / "jpg" / f"image_{k:05d}.jpg", k)
    sets = {"trnid": [[2]], "valid": [[1, 4]], "tstid": [[3]]}
    scipy_io.savemat(root / "flowers-102" / "setid.mat", {name: np.array(ids) for name, ids in sets.items()})
    scipy_io.savemat(root / "flowers-102" / "imagelabels.mat", {"labels": np.array([[77, 1, 102, 1]])})


def food101(root: Path) -> None:
    for split, names in (("train", ["a/1", "b/2"]), ("test", ["b/3"])):
        meta: dict[str, list[str]] = {"a": [], "b": []}
        for name in names:
            photo(root / "food-101" / "images" / f"{name}.jpg", 0)
            meta[name[0]].append(name)
        (root / "food-101" / "meta").mkdir(exist_ok=True)
        (root / "food-101" / "meta" / f"{split}.json").write_text(json.dumps(meta))


def oxford_pets(root: Path) -> None:
    notes = root / "oxford-iiit-pet" / "annotations"
    notes.mkdir(parents=True)
    (notes / "trainval.txt").write_text("Abyssinian_1 1 1 1\namerican_bulldog_2 2 2 1\n")
    (notes / "test.txt").write_text("Abyssinian_3 1 1 1\n")
    for name in ("Abyssinian_1", "american_bulldog_2", "Abyssinian_3"):
        photo(root / "oxford-iiit-pet" / "images" / f"{name}.jpg", 0)


def eurosat(root: Path) -> None:
    photo(root / "eurosat" / "2750" / "Forest" / "Forest_1.jpg", 0)
    photo(root / "eurosat" / "2750" / "River" / "River_1.jpg", 0)


def gtsrb(root: Path) -> None:
    photo(root / "gtsrb" / "GTSRB" / "Training" / "00000" / "00000_00000.ppm", 0)
    photo(root / "gtsrb" / "GTSRB" / "Training" / "00001" / "00000_00000.ppm", 0)
    photo(root / "gtsrb" / "GTSRB" / "Final_Test" / "Images" / "00000.ppm", 0)
    (root / "gtsrb" / "GT-final_test.csv").write_text("Filename;Width;ClassId\n00000.ppm;3;1\n")


def dtd(root: Path) -> None:
    (root / "dtd" / "dtd" / "labels").mkdir(parents=True)
    for split, name in (("train", "banded/a.jpg"), ("val", "dotted/b.jpg"), ("test", "banded/c.jpg")):
        photo(root / "dtd" / "dtd" / "images" / name, 0)
        (root / "dtd" / "dtd" / "labels" / f"{split}1.txt").write_text(f"{name}\n")


TREES: list[tuple[str, Callable[[Path], None], dict[str, list[tuple[str, str]]], str]] = [
    # name, how to make it, split -> (end of the id, class), a file that it cannot do without
    (
        "flowers102",
        flowers102,
        {
            "train": [("image_00002.jpg", "pink primrose")],
            "val": [("image_00001.jpg", "passion flower"), ("image_00004.jpg", "pink primrose")],
            "test": [("image_00003.jpg", "blackberry lily")],
        },
        "flowers-102/imagelabels.mat",
    ),
    (
        "food101",
        food101,
        {"train": [("a/1.jpg", "a"), ("b/2.jpg", "b")], "test": [("b/3.jpg", "b")]},
        "food-101/meta/test.json",
    ),
    (
        "oxford-pets",
        oxford_pets,
        {
            "train": [("Abyssinian_1.jpg", "Abyssinian"), ("american_bulldog_2.jpg", "american_bulldog")],
            "test": [("Abyssinian_3.jpg", "Abyssinian")],
        },
        "oxford-iiit-pet/annotations/test.txt",
    ),
    (
        "gtsrb",
        gtsrb,
        {
            "train": [("00000/00000_00000.ppm", "0"), ("00001/00000_00000.ppm", "1")],
            "test": [("Images/00000.ppm", "1")],
        },
        "gtsrb/GT-final_test.csv",
    ),
    (
        "dtd",
        dtd,
        {"train": [("a.jpg", "banded")], "val": [("b.jpg", "dotted")], "test": [("c.jpg", "banded")]},
        "dtd/dtd/labels/val1.txt",
    ),
]


def rows(dataset: Dataset) -> dict[str, list[tuple[str, str]]]:
    labels = dataset.truths.labels.tolist()
    return {
        split: [(dataset.ids[int(i)], dataset.classes[labels[int(i)]]) for i in members]
        for split, members in dataset.splits.items()
    }


@pytest.mark.parametrize(("name", "make", "expected", "needed"), TREES, ids=[row[0] for row in TREES])
def test_reads_a_published_tree(
    name: str,
    make: Callable[[Path], None],
    expected: dict[str, list[tuple[str, str]]],
    needed: str,
    tmp_path: Path,
) -> None:
    make(tmp_path)
    dataset = known.load(name, root=tmp_path)
    found = rows(dataset)
    assert list(found) == list(expected)
    for split, members in expected.items():
        assert len(found[split]) == len(members)
        for (id_, label), (end, expected_label) in zip(found[split], members, strict=True):
            assert id_.endswith(end)
            assert label == expected_label
    for i in range(len(dataset)):
        assert dataset.images.read(i).shape == (2, 3, 3)  # every path leads to a file
    (tmp_path / needed).unlink()
    with pytest.raises(DataError, match=r"cannot be read"):
        known.load(name, root=tmp_path)


def test_reads_eurosat_without_splits(tmp_path: Path) -> None:
    eurosat(tmp_path)
    dataset = known.load("eurosat", root=tmp_path)
    assert (dataset.name, dataset.classes, dict(dataset.splits)) == ("eurosat", ("Forest", "River"), {})


@pytest.mark.parametrize(("name", "make"), [(row[0], row[1]) for row in TREES] + [("eurosat", eurosat)])
def test_torchvision_finds_the_same_layout(
    name: str, make: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What --download would lay out is what is read here."""
    from torchvision import datasets

    make(tmp_path)
    options = {
        "flowers102": (datasets.Flowers102, {"split": "val"}),
        "food101": (datasets.Food101, {"split": "test"}),
        "oxford-pets": (datasets.OxfordIIITPet, {"split": "test"}),
        "gtsrb": (datasets.GTSRB, {"split": "test"}),
        "dtd": (datasets.DTD, {"split": "val"}),
        "eurosat": (datasets.EuroSAT, {}),
    }
    kind, arguments = options[name]
    if name == "flowers102":
        monkeypatch.setattr(kind, "_check_integrity", lambda self: True)  # these files are not the published
    theirs = kind(str(tmp_path), **arguments)
    ours = known.load(name, root=tmp_path)
    members = ours.splits.get(arguments.get("split", ""), np.arange(len(ours)))
    assert len(members) == len(theirs)
    if name not in ("dtd", "oxford-pets"):  # theirs number the classes of one split, as if the others had no more
        assert sorted(ours.truths.labels[members].tolist()) == sorted(theirs[i][1] for i in range(len(theirs)))


@pytest.mark.parametrize("name", [name for name in known.NAMES if name not in known.SAMPLES])
def test_what_is_not_there_is_described_and_not_fetched(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(root: Path) -> None:
        raise AssertionError("nothing may be fetched unasked")

    monkeypatch.setitem(known._KNOWN, name, replace(known._KNOWN[name], fetch=fetch))
    with pytest.raises(DataError) as raised:
        known.load(name, root=tmp_path / "root")
    message = str(raised.value)
    assert f"looked in {tmp_path / 'root'}, " in message
    assert "--root" in message
    assert f"--download fetch {known._KNOWN[name].megabytes:,} MB" in message
    assert known._KNOWN[name].licence in message
    assert not (tmp_path / "root").exists()


def test_a_download_is_read_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[Path] = []

    def fetch(root: Path) -> None:
        fetched.append(root)
        mnist_like(root / "MNIST" / "raw")

    monkeypatch.setitem(known._KNOWN, "mnist", replace(known._KNOWN["mnist"], fetch=fetch))
    assert len(known.load("mnist", root=tmp_path, download=True)) == 8
    assert len(known.load("mnist", root=tmp_path, download=True)) == 8
    assert fetched == [tmp_path]  # once: then the files are there


def test_a_download_that_fails_is_a_data_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(root: Path) -> None:
        raise OSError("no route to host")

    monkeypatch.setitem(known._KNOWN, "mnist", replace(known._KNOWN["mnist"], fetch=fetch))
    with pytest.raises(DataError, match=r"the download into .* failed \(no route to host\)\. Fetch it from http"):
        known.load("mnist", root=tmp_path, download=True)


@pytest.mark.parametrize("name", [name for name in known.NAMES if name not in known.SAMPLES])
def test_downloads_ask_torchvision_for_what_it_has(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every class and argument that a download uses exists; nothing is fetched."""
    from torchvision import datasets
    from torchvision.datasets import utils

    asked: list[str] = []

    def recorder(kind: str) -> Callable[..., None]:
        def call(*arguments: object, **options: object) -> None:
            bound = inspect.signature(getattr(datasets, kind)).bind(*arguments, **options)
            split = bound.arguments.get("split")
            if "split" in bound.arguments and kind not in ("SVHN", "STL10", "EMNIST"):
                assert f'"{split}"' in inspect.getsource(getattr(datasets, kind)), split
            asked.append(kind)

        return call

    def archive(*arguments: object, **options: object) -> None:
        bound = inspect.signature(download).bind(*arguments, **options)
        assert len(str(bound.arguments["md5"])) == 32
        asked.append("archive")

    download = utils.download_and_extract_archive
    monkeypatch.setattr(known, "_torchvision", recorder)
    monkeypatch.setattr(utils, "download_and_extract_archive", archive)
    known._KNOWN[name].fetch(tmp_path)
    assert asked


def test_the_published_sets_are_read_by_name(striate_data: Path) -> None:
    fashion = known.load("fashion-mnist", root=striate_data)  # a folder of data sets
    assert fashion.classes[int(fashion.truths.labels[0])] == "Ankle boot"  # the first image of the train set
    mnist = known.load("mnist", root=striate_data / "mnist")  # the folder itself
    assert mnist.truths.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert {split: len(rows) for split, rows in mnist.splits.items()} == {"train": 60_000, "test": 10_000}
