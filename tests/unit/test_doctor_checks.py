"""Every check on data made wrong in one way, and on data with nothing wrong."""

import os
import shutil
import struct
import sys
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from striate.core.annotations import Classifications
from striate.data.dataset import Dataset, ImageArrays
from striate.data.doctor.checks import find_problems
from striate.data.doctor.examination import Problem, class_key, content, examine
from striate.data.open import open_dataset
from striate.errors import UsageError


def noise(seed: int, height: int = 64, width: int = 64, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def write(path: Path, pixels: np.ndarray | Image.Image, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels.squeeze())
    picture.save(path, **options)
    return path


def sound(root: Path, *, splits: bool = False) -> Path:
    """Two classes of twelve images; with splits also six of each in test."""
    seed = 0
    for part, count in (("train/", 12), ("test/", 6)) if splits else (("", 12),):
        for name in ("cat", "dog"):
            for k in range(count):
                write(root / f"{part}{name}/{k}.png", noise(seed := seed + 1))
    return root


def problems(path: Path, **options: str) -> list[Problem]:
    return find_problems(examine(open_dataset(path), **options))


@pytest.mark.parametrize("splits", [False, True])
def test_nothing_is_found_in_sound_data(tmp_path: Path, splits: bool) -> None:
    assert problems(sound(tmp_path / "data", splits=splits)) == []


def bomb(path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0" * 99)))


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


Break = Callable[[Path], object]

# what it is, how the folder of classes is broken, whether it has splits, (check, severity, file) of all that is found
FOLDERS: list[tuple[str, Break, bool, list[tuple[str, str, str | None]]]] = [
    (
        "zero bytes",
        lambda d: (d / "cat/x.jpg").write_bytes(b""),
        False,
        [("empty_file", "error", "cat/x.jpg")],  # one of 25 is more than a hundredth
    ),
    (
        "text",
        lambda d: (d / "cat/x.jpg").write_text("no picture"),
        False,
        [("not_an_image", "error", "cat/x.jpg")],
    ),
    (
        "truncated",
        lambda d: (d / "cat/x.png").write_bytes((d / "cat/1.png").read_bytes()[:-3000]),
        False,
        [("damaged_file", "error", "cat/x.png")],
    ),
    ("decompression bomb", lambda d: bomb(d / "cat/x.png"), False, [("too_large", "error", "cat/x.png")]),
    (
        "pixels of unknown range",
        lambda d: write(d / "cat/x.tif", Image.fromarray(np.full((64, 64), 1e6, dtype=np.float32))),
        False,
        [("unsupported_pixels", "error", "cat/x.tif")],
    ),
    (
        "PNG called JPEG",
        lambda d: write(d / "cat/x.jpg", noise(99), format="PNG"),
        False,
        [("wrong_extension", "warning", "cat/x.jpg")],
    ),
    (
        "image called .dat",
        lambda d: write(d / "cat/x.dat", noise(99), format="PNG"),
        False,
        [("wrong_extension", "warning", "cat/x.dat")],
    ),
    (
        "text beside the images",
        lambda d: (d / "cat/x.txt").write_text("x"),
        False,
        [("not_read", "note", "cat/x.txt")],
    ),
    ("loose image", lambda d: write(d / "x.png", noise(99)), False, [("not_read", "warning", "x.png")]),
    ("hidden file", lambda d: (d / "cat/.DS_Store").write_text("x"), False, [("hidden_file", "note", "cat/.DS_Store")]),
    ("hidden folder", lambda d: (d / ".git").mkdir(), False, [("hidden_file", "note", ".git/")]),
    ("empty folder", lambda d: (d / "owl").mkdir(), False, [("empty_folder", "warning", "owl/")]),
    (
        "grey image",
        lambda d: write(d / "cat/x.png", noise(99, channels=1)),
        False,
        [("mixed_colour", "note", None)],
    ),
    (
        "CMYK",
        lambda d: write(d / "cat/x.jpg", Image.fromarray(noise(99)).convert("CMYK")),
        False,
        [("odd_mode", "note", "cat/x.jpg")],
    ),
    (
        "16 bits",
        lambda d: write(d / "cat/x.png", noise(99, channels=1).astype(np.uint16) * 257),
        False,
        [("odd_mode", "note", "cat/x.png"), ("mixed_colour", "note", None)],
    ),
    (
        "palette",
        lambda d: write(d / "cat/x.png", Image.fromarray(noise(99)).convert("P")),
        False,
        [("odd_mode", "note", "cat/x.png")],
    ),
    (
        "transparency",
        lambda d: write(d / "cat/x.png", Image.fromarray(noise(99)).convert("RGBA")),
        False,
        [("odd_mode", "note", "cat/x.png")],
    ),
    (
        "turned by EXIF",
        lambda d: write(d / "cat/x.jpg", noise(99), exif=exif(6)),
        False,
        [("exif_rotation", "note", "cat/x.jpg")],
    ),
    (
        "two frames",
        lambda d: write(
            d / "cat/x.tif", Image.fromarray(noise(99)), save_all=True, append_images=[Image.fromarray(noise(98))]
        ),
        False,
        [("several_frames", "note", "cat/x.tif")],
    ),
    (
        "one pixel",
        lambda d: write(d / "cat/x.png", Image.new("RGB", (1, 1))),
        False,
        [("near_duplicate_not_checked", "note", None), ("tiny_image", "warning", "cat/x.png")],
    ),
    ("banner", lambda d: write(d / "cat/x.png", noise(99, 60, 700)), False, [("extreme_aspect", "note", "cat/x.png")]),
    (
        "the same file twice",
        lambda d: shutil.copy(d / "cat/1.png", d / "cat/x.png"),
        False,
        [("duplicate", "warning", "cat/x.png")],
    ),
    (
        "the same pixels in another file format",
        lambda d: write(d / "cat/x.bmp", Image.open(d / "cat/1.png")),
        False,
        [("duplicate", "warning", "cat/x.bmp")],
    ),
    (
        "the same pixels, turned back by EXIF",
        lambda d: write(d / "cat/x.png", Image.open(d / "cat/1.png").rotate(180), exif=exif(3)),
        False,
        [("duplicate", "warning", "cat/x.png"), ("exif_rotation", "note", "cat/x.png")],
    ),
    (
        "one picture, two classes",
        lambda d: shutil.copy(d / "cat/1.png", d / "dog/x.png"),
        False,
        [("two_labels", "error", "dog/x.png")],
    ),
    (
        "the same file in train and test",
        lambda d: shutil.copy(d / "test/cat/1.png", d / "train/cat/x.png"),
        True,
        [("duplicate_across_splits", "error", "train/cat/x.png")],
    ),
    (
        "twice in train and once in test",
        lambda d: [shutil.copy(d / "test/cat/1.png", d / f"train/cat/x{k}.png") for k in range(2)],
        True,
        [
            ("duplicate_across_splits", "error", "train/cat/x0.png"),
            ("duplicate_across_splits", "error", "train/cat/x1.png"),
        ],
    ),
    (
        "one picture, two classes, two splits",
        lambda d: shutil.copy(d / "test/cat/1.png", d / "train/dog/x.png"),
        True,
        [("two_labels", "error", "train/dog/x.png")],
    ),
    (
        "class that is not in test",
        lambda d: shutil.rmtree(d / "test/dog"),
        True,
        [("class_missing_from_split", "warning", None)],
    ),
    (
        "class of nine images",
        lambda d: [(d / f"cat/{k}.png").unlink() for k in range(3)],
        False,
        [("few_images", "warning", None)],
    ),
    (
        "twelve times as many",
        lambda d: [write(d / f"dog/x{k}.png", noise(1000 + k, 8, 8)) for k in range(108)],
        False,
        [("imbalance", "warning", None), ("near_duplicate_not_checked", "note", None)],
    ),
    ("one class", lambda d: shutil.rmtree(d / "dog"), False, [("one_class", "error", None)]),
    (
        "classes that differ in case",
        lambda d: [write(d / f"Cat/{k}.png", noise(200 + k)) for k in range(10)],
        False,
        [("class_names", "error", None)],
    ),
    (
        "one picture under two spellings of a class",
        lambda d: [shutil.copytree(d / "cat", d / "cat "), write(d / "cat/x.png", noise(99))],
        False,
        [("class_names", "error", None)] + [("duplicate", "warning", f"cat/{k}.png") for k in range(12)],
    ),
]


@pytest.mark.parametrize(("spoil", "splits", "expected"), [row[1:] for row in FOLDERS], ids=[row[0] for row in FOLDERS])
def test_what_is_wrong_with_a_folder_is_found_and_nothing_else(
    tmp_path: Path, spoil: Break, splits: bool, expected: list[tuple[str, str, str | None]]
) -> None:
    spoil(sound(tmp_path / "data", splits=splits))
    found = problems(tmp_path / "data")
    assert sorted((p.check, p.severity, p.file or "") for p in found) == sorted((c, s, f or "") for c, s, f in expected)
    assert all(p.message and p.fix for p in found)


def smooth(seed: int, side: int = 96) -> Image.Image:
    return Image.fromarray(noise(seed, 6, 6)).resize((side, side), Image.Resampling.BICUBIC)


def test_near_copies_are_named_with_what_matters_most(tmp_path: Path) -> None:
    data = sound(tmp_path / "data", splits=True)
    for k, (first, second) in enumerate(
        (("train/cat/a", "train/cat/b"), ("train/cat/c", "test/cat/d"), ("train/cat/e", "test/dog/f"))
    ):
        write(data / f"{first}.png", smooth(k))
        write(data / f"{second}.jpg", smooth(k, 80), quality=70)
    found = [(p.check, p.severity, p.file) for p in problems(data)]
    assert found == [
        ("near_duplicate_across_splits", "warning", "train/cat/c.png"),
        ("near_duplicate_two_labels", "warning", "train/cat/e.png"),
        ("near_duplicate", "note", "train/cat/b.jpg"),
    ]


def test_near_copies_may_straddle_a_drawn_split(tmp_path: Path) -> None:
    data = sound(tmp_path / "data")
    write(data / "cat/a.png", smooth(0))
    write(data / "cat/b.jpg", smooth(0, 80), quality=70)
    (found,) = problems(data)
    assert (found.check, found.severity, found.file) == ("near_duplicate", "warning", "cat/b.jpg")
    assert "--group-by" in found.fix


def test_few_unreadable_files_are_no_error(tmp_path: Path) -> None:
    data = sound(tmp_path / "data")
    for k in range(100):
        write(data / f"{'cat' if k % 2 else 'dog'}/more{k}.png", noise(1000 + k, 8, 8))
    (data / "cat/x.png").write_bytes(b"")
    assert [(p.check, p.severity) for p in problems(data)] == [
        ("empty_file", "warning"),
        ("near_duplicate_not_checked", "note"),
    ]


def test_rows_of_a_table_are_named_by_their_lines(tmp_path: Path) -> None:
    sound(tmp_path)
    rows = [f"{name}/{k}.png,{name}" for name in ("cat", "dog") for k in range(12)]
    rows[3:3] = ["gone.png,cat", "cat/0.png,dog", "cat/5.png"]
    (tmp_path / "table.csv").write_text("path,label\n" + "\n".join(rows) + "\n")
    found = problems(tmp_path / "table.csv")
    assert [(p.check, p.severity, p.file, p.row) for p in found] == [
        ("skipped_row", "error", "table.csv", 5),  # three rows of 27 are more than a hundredth
        ("two_labels", "error", "table.csv", 6),
        ("skipped_row", "error", "table.csv", 7),
    ]


def arrays(pixels: np.ndarray, labels: list[int], classes: tuple[str, ...] = ("a", "b")) -> Dataset:
    return Dataset(
        name="arrays",
        format="arrays",
        path=None,
        task="classification",
        classes=classes,
        ids=[f"train[{k}]" for k in range(len(labels))],
        images=ImageArrays(pixels),
        truths=Classifications(labels=torch.tensor(labels)),
    )


def test_images_in_memory_are_named_by_their_number() -> None:
    pixels = np.stack([noise(k, 8, 8, 1) for k in range(24)])
    pixels[20] = pixels[4]
    dataset = arrays(pixels, [0, 1] * 12)
    found = find_problems(examine(dataset))
    assert [(p.check, p.file, p.row) for p in found] == [
        ("duplicate", "train[20]", 20),
        ("near_duplicate_not_checked", None, None),
    ]
    wrong = replace(dataset, truths=Classifications(labels=torch.tensor([0, 1] * 11 + [2, -1])))
    found = [p for p in find_problems(examine(wrong)) if p.severity == "error"]
    assert [(p.check, p.row) for p in found] == [("label_out_of_range", 22), ("label_out_of_range", 23)]


def test_a_class_name_without_images_is_told() -> None:
    dataset = arrays(np.stack([noise(k, 8, 8, 1) for k in range(24)]), [0, 1] * 12, ("a", "b", "c"))
    found = [p for p in find_problems(examine(dataset)) if p.severity != "note"]
    assert [p.check for p in found] == ["empty_class"]
    assert "'c'" in found[0].message


def test_groups_torn_by_official_splits_are_told(tmp_path: Path) -> None:
    data = sound(tmp_path / "data", splits=True)
    found = problems(data, group_by=r"^(\d+)")
    assert {p.check for p in found} == {"groups"}
    # the sixth of those in test is among the images that make val
    assert any("5 groups are in both official splits train and test" in p.message for p in found)
    with pytest.raises(UsageError, match="matches no file name"):
        problems(data, group_by="scene_(.*)")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not allow such names")
def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    data = sound(tmp_path / "data")
    shutil.copy(data / "cat/1.png", os.fsencode(data / "cat") + b"/z\xff.png")
    (found,) = problems(data)
    assert (found.check, found.file) == ("duplicate", "cat/z\udcff.png")


def test_content_is_of_the_pixels() -> None:
    grey = noise(0, channels=1)
    assert content(grey) == content(np.repeat(grey, 3, axis=2))
    assert content(grey) != content(grey.reshape(32, 128, 1))
    colour = np.repeat(grey, 3, axis=2)
    colour[5, 5, 2] ^= 1
    assert content(colour) != content(grey)


@pytest.mark.parametrize(
    ("names", "same"),
    [
        (("cat", "Cat"), True),
        (("cat", "cat "), True),
        (("polar bear", "Polar  Bear"), True),
        (("polarbear", "polar bear"), True),
        (("caf\u00e9", "cafe\u0301"), True),  # composed and combining
        (("cat", "cats"), False),
        (("a", "A"), False),  # letters of handwriting
        (("1", "01"), False),
    ],
)
def test_names_that_differ_only_in_case_or_space(names: tuple[str, str], same: bool) -> None:
    assert (class_key(names[0]) == class_key(names[1])) is same


def test_all_of_mnist_is_sound(striate_data: Path) -> None:
    found = find_problems(examine(open_dataset("mnist", root=striate_data / "mnist")))
    assert [p.check for p in found] == ["near_duplicate_not_checked"]
