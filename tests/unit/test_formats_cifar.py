"""CIFAR's binary version."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from striate.data.formats import cifar
from striate.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)  # planes, as the files hold them


def records(labels: list[tuple[int, ...]], pixels: np.ndarray = PIXELS) -> bytes:
    return b"".join(bytes(label) + image.tobytes() for label, image in zip(labels, pixels, strict=True))


def ten(folder: Path) -> Path:
    (folder / "data_batch_1.bin").write_bytes(records([(0,), (1,)], PIXELS[:2]))
    (folder / "data_batch_10.bin").write_bytes(records([(2,)], PIXELS[3:]))
    (folder / "data_batch_2.bin").write_bytes(records([(2,)], PIXELS[2:3]))
    (folder / "test_batch.bin").write_bytes(records([(1,), (0,)], PIXELS[:2]))
    (folder / "batches.meta.txt").write_text("airplane\nautomobile\nbird\n\n")  # the published file ends so
    return folder


def hundred(folder: Path) -> Path:
    (folder / "train.bin").write_bytes(records([(1, 0), (0, 1), (1, 2)], PIXELS[:3]))
    (folder / "test.bin").write_bytes(records([(0, 1)], PIXELS[3:]))
    (folder / "fine_label_names.txt").write_text("apple\nbaby\nbear\n")
    (folder / "coarse_label_names.txt").write_text("animals\nplants\n")
    return folder


def test_reads_cifar10(tmp_path: Path) -> None:
    dataset = cifar.load(ten(tmp_path))
    assert dataset.classes == ("airplane", "automobile", "bird")
    assert dataset.truths.labels.tolist() == [0, 1, 2, 2, 1, 0]
    assert {name: list(rows) for name, rows in dataset.splits.items()} == {"train": [0, 1, 2, 3], "test": [4, 5]}
    for row, image in enumerate([0, 1, 2, 3, 0, 1]):  # the batches in the order of their numbers, 2 before 10
        for channel in range(3):
            np.testing.assert_array_equal(dataset.images.read(row)[:, :, channel], PIXELS[image, channel])


def test_reads_cifar100(tmp_path: Path) -> None:
    dataset = cifar.load(hundred(tmp_path))
    assert dataset.classes == ("apple", "baby", "bear")
    assert dataset.truths.labels.tolist() == [0, 1, 2, 1]
    assert list(dataset.groups["coarse"]) == ["plants", "animals", "plants", "animals"]
    np.testing.assert_array_equal(dataset.images.read(3), PIXELS[3].transpose(1, 2, 0))


def test_cifar100_round_trip(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    before = cifar.load(hundred(tmp_path / "in"))
    cifar.save(before, tmp_path / "out")
    for name in ("train.bin", "test.bin", "fine_label_names.txt", "coarse_label_names.txt"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "in" / name).read_bytes()


def test_without_names_the_numbers_are_the_names(tmp_path: Path) -> None:
    (ten(tmp_path) / "batches.meta.txt").unlink()
    assert cifar.load(tmp_path).classes == ("0", "1", "2")


BROKEN = [
    # file, content, words of the message
    ("data_batch_1.bin", records([(0,)], PIXELS[:1])[:-1], "3,072 bytes are no whole number of records of 3,073 bytes"),
    ("data_batch_1.bin", records([(7,)], PIXELS[:1]), "label 7, but there are only 3 class names"),
    ("batches.meta.txt", b"caf\xe9", "cannot be read"),  # Latin-1
]


@pytest.mark.parametrize(("name", "content", "words"), BROKEN)
def test_names_what_is_wrong(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    (ten(tmp_path) / name).write_bytes(content)
    with pytest.raises(DataError, match=words):
        cifar.load(tmp_path)


def test_no_images_at_all(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1.bin").write_bytes(b"")
    with pytest.raises(DataError, match="no images"):
        cifar.load(tmp_path)


def test_a_folder_of_pickles_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1").write_bytes(b"\x80\x04.")
    assert not cifar.recognise(tmp_path)


def test_an_image_that_does_not_fit_is_named(tmp_path: Path) -> None:
    dataset = cifar.load(ten(tmp_path))
    from striate.data.dataset import ImageArrays

    small = replace(dataset, images=ImageArrays(np.zeros((6, 8, 8, 3), np.uint8)))
    with pytest.raises(DataError, match=r"train\[0\]: is \(8, 8, 3\)"):
        cifar.save(small, tmp_path / "out")
