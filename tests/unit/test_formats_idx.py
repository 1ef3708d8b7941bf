"""IDX, against an independent reader and torchvision."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from striate.data.formats import idx
from striate.errors import DataError

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 4, 5), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 2, 1, 0], dtype=np.uint8)


def image_bytes(images: np.ndarray = IMAGES) -> bytes:
    return struct.pack(">IIII", 0x00000803, *images.shape) + images.tobytes()


def label_bytes(labels: np.ndarray = LABELS) -> bytes:
    return struct.pack(">II", 0x00000801, len(labels)) + labels.tobytes()


NAMES = [
    # images file, labels file, split; why
    ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "train"),  # as unpacked
    ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", "train"),  # as published
    ("t10k-images.idx3-ubyte", "t10k-labels.idx1-ubyte", "test"),  # as some tools unpack them
    ("train-images-idx3-ubyte", "train-labels-idx1-ubyte.gz", "train"),  # half unpacked
    ("emnist-letters-test-images-idx3-ubyte.gz", "emnist-letters-test-labels-idx1-ubyte.gz", "test"),  # EMNIST
]


@pytest.mark.parametrize(("images", "labels", "split"), NAMES)
def test_finds_the_files_by_name(images: str, labels: str, split: str, tmp_path: Path) -> None:
    for name, content in ((images, image_bytes()), (labels, label_bytes())):
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert idx.recognise(tmp_path)
    dataset = idx.load(tmp_path)
    np.testing.assert_array_equal(np.stack([dataset.images.read(i)[..., 0] for i in range(6)]), IMAGES)
    np.testing.assert_array_equal(dataset.truths.labels, LABELS)
    assert {name: list(rows) for name, rows in dataset.splits.items()} == {split: [0, 1, 2, 3, 4, 5]}
    assert dataset.classes == ("0", "1", "2")
    assert dataset.ids[3] == f"{split}[3]"


def test_the_official_split_is_kept(tmp_path: Path) -> None:
    idx.write_idx(tmp_path / "train-images-idx3-ubyte.gz", IMAGES[:4])
    idx.write_idx(tmp_path / "train-labels-idx1-ubyte.gz", LABELS[:4])
    idx.write_idx(tmp_path / "t10k-images-idx3-ubyte.gz", IMAGES[4:])
    idx.write_idx(tmp_path / "t10k-labels-idx1-ubyte.gz", LABELS[4:])
    dataset = idx.load(tmp_path)
    assert {name: list(rows) for name, rows in dataset.splits.items()} == {"train": [0, 1, 2, 3], "test": [4, 5]}
    assert list(dataset.ids)[3:5] == ["train[3]", "test[0]"]
    np.testing.assert_array_equal(dataset.images.read(4)[..., 0], IMAGES[4])


BROKEN = [
    # images file, labels file, words of the message
    (image_bytes()[:-1], label_bytes(), "6 x 4 x 5 = 120 bytes, but 119 follow"),  # truncated
    (image_bytes() + b"\0", label_bytes(), "but 121 follow"),  # too long
    (image_bytes()[:9], label_bytes(), "truncated in its header"),
    (b"", label_bytes(), "starts with nothing"),
    (label_bytes(), label_bytes(), "starts with 00 00 08 01, but IDX bytes of 3 dimensions"),  # swapped
    (b"\x00\x00\x0d\x03" + image_bytes()[4:], label_bytes(), "starts with 00 00 0d 03"),  # floats
    (image_bytes(), label_bytes(LABELS[:5]), "6 images, but 5 labels"),
    (image_bytes(IMAGES[:0]), label_bytes(LABELS[:0]), "hold no images"),
    (image_bytes(), None, "train-labels-idx1-ubyte: cannot be read"),
    # a header that claims more than memory holds: compared, not allocated
    (struct.pack(">IIII", 0x803, *[2**32 - 1] * 3), label_bytes(), "but 0 follow"),
]


@pytest.mark.parametrize(("images", "labels", "words"), BROKEN, ids=[row[2] for row in BROKEN])
def test_names_what_is_wrong(images: bytes, labels: bytes | None, words: str, tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(images)
    if labels is not None:
        (tmp_path / "train-labels-idx1-ubyte").write_bytes(labels)
    with pytest.raises(DataError) as raised:
        idx.load(tmp_path)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-9], lambda data: data[:20], lambda data: b"\x1f\x8b" + data[9:]]
)
def test_damaged_gzip_is_named(damage: object, tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(damage(gzip.compress(image_bytes())))  # type: ignore[operator]
    with pytest.raises(DataError, match="damaged gzip"):
        idx.load(tmp_path)


def test_too_few_class_names_are_named(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(image_bytes())
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(label_bytes())
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    with pytest.raises(DataError, match="image 2 has label 2, but there are only 2 class names"):
        idx.load(tmp_path)


def test_two_families_in_one_folder_are_told_apart(tmp_path: Path) -> None:
    for stem in ("emnist-digits-", "emnist-letters-"):
        (tmp_path / f"{stem}train-images-idx3-ubyte").write_bytes(image_bytes())
        (tmp_path / f"{stem}train-labels-idx1-ubyte").write_bytes(label_bytes())
    with pytest.raises(DataError, match=r"2 data sets \(emnist-digits-, emnist-letters-\)"):
        idx.load(tmp_path)


def test_reads_mnist_as_an_independent_reader_does(striate_data: Path) -> None:
    dataset = idx.load(striate_data / "mnist")
    assert {name: len(rows) for name, rows in dataset.splits.items()} == {"train": 60_000, "test": 10_000}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        with gzip.open(striate_data / "mnist" / f"{prefix}-images-idx3-ubyte.gz") as file:
            magic, count, height, width = struct.unpack(">4i", file.read(16))
            pixels = np.frombuffer(file.read(), np.uint8).reshape(count, height, width)
        with gzip.open(striate_data / "mnist" / f"{prefix}-labels-idx1-ubyte.gz") as file:
            labels = np.frombuffer(file.read()[8:], np.uint8)
        assert magic == 2051
        rows = dataset.splits[split]
        for i in range(0, count, 997):
            np.testing.assert_array_equal(dataset.images.read(int(rows[i]))[..., 0], pixels[i])
        np.testing.assert_array_equal(dataset.truths.labels.numpy()[rows], labels)


def test_reads_what_torchvision_reads(tmp_path: Path) -> None:
    from torchvision.datasets import MNIST

    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix in ("train", "t10k"):
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(image_bytes())
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(label_bytes())
    theirs, ours = MNIST(str(tmp_path)), idx.load(raw)
    np.testing.assert_array_equal(theirs.data, np.stack([ours.images.read(i)[..., 0] for i in range(6)]))
    np.testing.assert_array_equal(theirs.targets, ours.truths.labels[:6])
