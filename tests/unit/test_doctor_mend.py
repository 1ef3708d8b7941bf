"""The corrected copy: what it keeps, what it drops and logs, and that the original is only read."""

import csv
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from striate.data.dataset import ImageArrays
from striate.data.doctor.checks import find_problems
from striate.data.doctor.examination import examine
from striate.data.doctor.mend import Mended, log_of, mend
from striate.data.formats import idx
from striate.data.images import probe, read_image
from striate.data.open import open_dataset
from striate.errors import DataError, UsageError


def noise(seed: int, height: int = 64, width: int = 64, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def write(path: Path, pixels: np.ndarray | Image.Image, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels.squeeze())).save(path, **options)
    return path


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    tags[0x010F] = "a camera"
    return tags


def mess(root: Path) -> Path:
    """A folder of classes with one of everything that can be mended."""
    seed = 0
    for part, count in (("train", 12), ("test", 4)):
        for name in ("cat", "dog"):
            for k in range(count):
                write(root / part / name / f"{k}.png", noise(seed := seed + 1))
    for k in range(3):
        write(root / "train/Cat " / f"{k}.png", noise(100 + k))
    shutil.copy(root / "test/cat/1.png", root / "train/cat/leak.png")
    shutil.copy(root / "train/cat/1.png", root / "train/cat/again.png")
    shutil.copy(root / "train/cat/2.png", root / "train/dog/really a cat.png")
    shutil.copy(root / "test/dog/2.png", root / "train/cat/really a dog.png")
    (root / "train/cat/empty.png").write_bytes(b"")
    (root / "train/dog/cut.png").write_bytes((root / "train/dog/1.png").read_bytes()[:500])
    (root / "train/dog/.DS_Store").write_bytes(b"x")
    (root / "train/owl").mkdir()
    write(root / "train/dog/png.jpg", noise(200), format="PNG")
    write(root / "train/dog/turned.png", noise(201, 40, 60), exif=exif(6))
    return root


def tree(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in root.rglob("*")
    }


def mended(path: Path, out: Path) -> Mended:
    return mend(examine(open_dataset(path)), out)


def log(copy: Mended) -> dict[str, dict[str, str]]:
    lines = [json.loads(line) for line in copy.log.read_text().splitlines()]
    assert len({line["file"] for line in lines}) == len(lines)
    return {line["file"]: line for line in lines}


def test_copy_of_a_folder(tmp_path: Path) -> None:
    data = mess(tmp_path / "data")
    before = tree(data)
    copy = mended(data, tmp_path / "out/clean")
    assert tree(data) == before

    assert copy.path == tmp_path / "out/clean"
    assert sorted(path.name for path in copy.path.parent.iterdir()) == ["clean", "clean.fixes.jsonl"]
    again = open_dataset(copy.path)
    assert [p for p in find_problems(examine(again)) if p.severity == "error"] == []
    assert again.skipped == ()
    assert again.classes == ("cat", "dog")
    after = tree(copy.path)
    untouched = {f"train/{c}/{k}.png" for c in ("cat", "dog") for k in range(12)}
    untouched |= {f"test/{c}/{k}.png" for c in ("cat", "dog") for k in range(4)}
    untouched -= {"train/cat/2.png", "test/dog/2.png"}
    assert {name: after[name] for name in untouched} == {name: before[name] for name in untouched}
    added = {name for name, kind in after.items() if kind != "folder"} - untouched
    assert added == {
        "train/cat/0-2.png",
        "train/cat/1-2.png",
        "train/cat/2.png",
        "train/dog/png.png",
        "train/dog/turned.png",
    }
    assert after["train/cat/2.png"] == before["train/Cat /2.png"]

    done = log(copy)
    assert {file: line["action"] for file, line in done.items()} == {
        "train/cat/leak.png": "dropped",
        "train/cat/again.png": "dropped",
        "train/cat/2.png": "dropped",
        "train/dog/really a cat.png": "dropped",
        "test/dog/2.png": "dropped",
        "train/cat/really a dog.png": "dropped",
        "train/cat/empty.png": "dropped",
        "train/dog/cut.png": "dropped",
        "train/dog/.DS_Store": "left out",
        "train/owl/": "left out",
        "train/Cat /0.png": "renamed",
        "train/Cat /1.png": "renamed",
        "train/Cat /2.png": "renamed",
        "train/dog/png.jpg": "renamed",
        "train/dog/turned.png": "turned",
    }
    assert "stays because it is in test" in done["train/cat/leak.png"]["reason"]
    assert "'cat' here" in done["train/cat/2.png"]["reason"]
    assert done["train/dog/png.jpg"]["now"] == "train/dog/png.png"
    assert copy.kept == len(again) == len(untouched) + len(added)
    assert copy.actions() == {"dropped": 8, "left out": 2, "renamed": 4, "turned": 1}


def test_copy_of_a_table(tmp_path: Path) -> None:
    data = tmp_path / "data"
    lines = []
    for k in range(12):
        write(data / f"images/{k}.png", noise(k))
        lines.append([f"images/{k}.png", "cat" if k % 2 else "dog", "test" if k < 4 else "train", f"scene {k // 3}"])
    shutil.copy(data / "images/1.png", data / "images/leak.png")
    write(tmp_path / "elsewhere.png", noise(99))
    lines += [
        ["images/leak.png", "cat", "train", "scene 9"],
        ["images/5.png", "dog", "train", "scene 9"],  # a second row with another label
        ["images/gone.png", "cat", "train", "scene 9"],
        [str(tmp_path / "elsewhere.png"), "Cat", "train", "scene 9"],
    ]
    with (data / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "label", "split", "scene"], *lines])
    before = tree(data)
    copy = mended(data / "list.csv", tmp_path / "clean")
    assert tree(data) == before

    assert copy.path == tmp_path / "clean/list.csv"
    again = open_dataset(copy.path)
    assert [p for p in find_problems(examine(again)) if p.severity == "error"] == []
    kept = [f"images/{k}.png" for k in range(12) if k != 5]
    assert sorted(again.ids) == sorted([*kept, "images/elsewhere.png"])
    assert again.classes == ("cat", "dog")
    assert {name: len(rows) for name, rows in again.splits.items()} == {"train": 8, "test": 4}
    row = again.ids.index("images/8.png")
    assert again.groups["scene"][row] == "scene 2"
    assert again.classes[int(again.truths.labels[row])] == "dog"
    assert log(copy)["images/5.png"]["reason"] == "is listed under two labels (list.csv line 15)"
    assert log(copy)["images/leak.png"]["action"] == "dropped"


def test_copy_of_images_in_memory_keeps_their_format(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    pixels = np.stack([noise(k, 8, 8, 1)[:, :, 0] for k in range(30)])
    pixels[3] = pixels[25]  # in train, and in test
    pixels[4] = pixels[7]  # 0 and 1
    labels = (np.arange(30) % 2).astype(np.uint8)
    for name, part in (("train", slice(0, 20)), ("t10k", slice(20, 30))):
        idx.write_idx(data / f"{name}-images-idx3-ubyte.gz", pixels[part])
        idx.write_idx(data / f"{name}-labels-idx1-ubyte.gz", labels[part])
    before = tree(data)
    copy = mended(data, tmp_path / "clean")
    assert tree(data) == before
    again = open_dataset(copy.path)
    assert again.format == idx.NAME
    assert {name: len(rows) for name, rows in again.splits.items()} == {"train": 17, "test": 10}
    assert isinstance(again.images, ImageArrays)
    rest = np.delete(pixels, [3, 4, 7], axis=0)
    assert np.array_equal(again.images.pixels[..., 0], rest)
    assert again.truths.labels.tolist() == np.delete(labels, [3, 4, 7]).tolist()
    assert set(log(copy)) == {"train[3]", "train[4]", "train[7]"}


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize(
    ("suffix", "mode", "options"),
    [
        (".png", "RGB", {}),
        (".png", "I;16", {}),
        (".webp", "RGB", {"lossless": True}),
        (".tif", "RGB", {"compression": "tiff_lzw"}),
        (".jpg", "RGB", {"quality": 80}),
        (".jpg", "RGB", {"quality": 90, "subsampling": 0}),
        (".jpg", "L", {"quality": 80}),
    ],
)
def test_turned_images_keep_their_pixels(
    tmp_path: Path, suffix: str, mode: str, options: dict[str, object], orientation: int
) -> None:
    smooth = Image.fromarray(noise(5, 6, 8)).resize((96, 64), Image.Resampling.BICUBIC)
    picture = (
        Image.fromarray(np.asarray(smooth.convert("L")).astype(np.uint16) * 257)
        if mode == "I;16"
        else smooth.convert(mode)
    )
    data = tmp_path / "data"
    file = write(data / f"a/turned{suffix}", picture, exif=exif(orientation), **options)
    write(data / "b/1.png", noise(1))
    copy = mended(data, tmp_path / "clean")
    new = copy.path / "a" / file.name
    assert probe(file).orientation == orientation
    assert probe(new).orientation == 1
    assert (probe(new).mode, probe(new).format) == (probe(file).mode, probe(file).format)
    old_pixels, new_pixels = read_image(file).astype(float), read_image(new).astype(float)
    assert old_pixels.shape == new_pixels.shape
    if suffix == ".jpg":  # rounded once more, with the same tables
        assert np.sqrt(np.mean((old_pixels - new_pixels) ** 2)) < 2
        with Image.open(new) as opened:
            assert opened.getexif()[0x010F] == "a camera"
    else:
        assert np.array_equal(old_pixels, new_pixels)


def test_where_a_copy_may_not_go(tmp_path: Path) -> None:
    data = mess(tmp_path / "data")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").write_text("x")
    (tmp_path / "file").write_text("x")
    for out, words in (
        (tmp_path / "full", "not empty"),
        (tmp_path / "file", "is a file"),
        (data, "not empty"),
        (data / "clean", "inside"),
        (data / "train/../../data/clean", "inside"),
    ):
        with pytest.raises(UsageError, match=words):
            mended(data, out)
    (tmp_path / "empty").mkdir()
    assert mended(data, tmp_path / "empty").kept
    shutil.rmtree(tmp_path / "empty")
    with pytest.raises(UsageError, match="log of an earlier copy"):
        mended(data, tmp_path / "empty")


def test_a_copy_comes_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = mess(tmp_path / "data")
    examination = examine(open_dataset(data))
    copied = 0
    copyfile = shutil.copyfile

    def full(source: Path, target: Path) -> None:
        nonlocal copied
        copied += 1
        if copied > 5:
            raise OSError(28, "No space left on device")
        copyfile(source, target)

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(DataError, match="No space left on device"):
        mend(examination, tmp_path / "out/clean")
    assert list((tmp_path / "out").iterdir()) == []


def test_nothing_left_is_refused(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        write(tmp_path / f"data/{name}/1.png", noise(0))
    with pytest.raises(DataError, match="no image would be left"):
        mended(tmp_path / "data", tmp_path / "clean")
    assert not (tmp_path / "clean").exists()
    assert not log_of(tmp_path / "clean").exists()
