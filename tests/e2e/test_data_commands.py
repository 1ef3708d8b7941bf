"""``striate data``: check, mend, count, split and show, and what it says to nonsense."""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import Cli, striate
from PIL import Image

from striate.config import Layer, resolve
from striate.data.open import open_dataset
from striate.data.split import Splits
from striate.errors import DataError
from striate.runs.prepare import prepare


def photo(seed: int, height: int = 80, width: int = 100) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three classes of ten pictures, in the current folder."""
    monkeypatch.chdir(tmp_path)
    for k in range(30):
        file = tmp_path / "photos" / ("cat", "dog", "owl")[k % 3] / f"scene{k // 2}_{k}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        photo(k).save(file, quality=95)
    return Path("photos")


def spoil(photos: Path) -> None:
    shutil.copy(photos / "cat/scene0_0.jpg", photos / "dog/wrong.jpg")
    (photos / "cat/cut.jpg").write_bytes((photos / "cat/scene0_0.jpg").read_bytes()[:900])
    (photos / "owl/.DS_Store").write_bytes(b"x")
    (photos / "Owl").mkdir()
    for k in range(10):
        photo(100 + k).save(photos / f"Owl/{k}.jpg", format="PNG" if k == 0 else "JPEG")


def test_check_as_a_process_says_what_the_data_is_and_that_it_is_fit(photos: Path) -> None:
    process = striate("data", "check", photos)
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "Data: photos, folder of classes, 3 classes, 30 images\n")
    assert out == "Fit for training: nothing was found that would make it go wrong.\n"


def test_check_fix_and_check_again_as_processes(photos: Path) -> None:
    spoil(photos)
    before = {path: path.read_bytes() for path in photos.rglob("*") if path.is_file()}
    process = striate("data", "check", photos, "--json")
    out, err = process.communicate()
    assert process.returncode == 3, err
    document = json.loads(out)
    assert list(document) == ["schema", "data", "format", "images", "problems", "counts"]
    assert document["schema"] == "striate.data_check/1"
    assert (document["data"], document["format"], document["images"]) == ("photos", "folder of classes", 42)
    assert document["counts"] == {
        "class_names": 1,
        "two_labels": 1,
        "damaged_file": 1,
        "wrong_extension": 1,
        "hidden_file": 1,
    }
    assert list(document["problems"][0]) == ["check", "severity", "file", "row", "message", "fix"]
    assert {p["check"] for p in document["problems"] if p["severity"] == "error"} == {
        "class_names",
        "two_labels",
        "damaged_file",
    }

    process = striate("data", "check", photos, "--fix", "clean", "--json")
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert json.loads(out)["fixed"] == {
        "path": "clean",
        "log": "clean.fixes.jsonl",
        "images": 39,
        "actions": {"dropped": 3, "left out": 1, "renamed": 11},
        "errors_left": {},
    }
    assert {path: path.read_bytes() for path in photos.rglob("*") if path.is_file()} == before
    process = striate("data", "check", "clean")
    out, err = process.communicate()
    assert process.returncode == 0, err + out
    assert "Fit for training" in out


def test_check_for_people(photos: Path, cli: Cli) -> None:
    spoil(photos)
    for k in range(6):
        shutil.copy(photos / "dog/scene0_1.jpg", photos / f"dog/again{k}.jpg")
    found = cli("data", "check", photos)
    assert found.code == 3
    assert "error  two labels (1)\n    dog/wrong.jpg: is the same picture as cat/scene0_0.jpg" in found.out
    assert "warning  duplicate (6)" in found.out
    assert "    ... and 2 more\n" in found.out
    assert "not read: 1 entry" in found.err
    verdict = found.out.splitlines()[-1]
    assert verdict.startswith("Not fit for training: class names (1), two labels (1), damaged file (1).")
    assert verdict.endswith("'striate data check photos --fix OUT' writes a corrected copy.")

    found = cli("data", "check", photos, "--fix", "clean")
    assert found.code == 0
    assert "Wrote clean: 39 images (9 dropped, 1 left out, 11 renamed)." in found.out
    assert found.out.splitlines()[-1] == "The copy is free of errors: 'striate train clean'."


def test_a_copy_that_cannot_be_mended_is_told(photos: Path, cli: Cli) -> None:
    shutil.rmtree(photos / "cat")
    shutil.rmtree(photos / "dog")
    found = cli("data", "check", photos, "--fix", "clean")
    assert found.code == 3
    assert found.out.splitlines()[-1] == "The copy is still not fit for training: the rest needs a person."


def test_check_and_training_agree_on_what_is_too_bad(photos: Path, cli: Cli) -> None:
    settings = resolve(Layer(source="test", values={"data": str(photos), "model": "linear"}))
    for stray in ("cat/.DS_Store", "dog/Thumbs.db", "owl/notes.txt", "README.md"):
        (photos / stray).write_text("x")
    (photos / "empty").mkdir()
    assert cli("data", "check", photos).code == 0
    assert len(prepare(settings).dataset) == 30
    (photos / "cat/cut.jpg").write_bytes((photos / "cat/scene0_0.jpg").read_bytes()[:900])
    assert cli("data", "check", photos).code == 3
    with pytest.raises(DataError, match="1 of 31 files are bad"):
        prepare(settings)


def test_damage_that_only_a_decoder_sees_stops_nothing(photos: Path, cli: Cli) -> None:
    for k in range(120):
        photo(1000 + k, 16, 16).save(photos / f"{('cat', 'dog')[k % 2]}/small{k}.png")
    file = photos / "cat/small0.png"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    document = cli("data", "check", photos, "--json").json
    assert [p["file"] for p in document["problems"] if p["check"] == "damaged_file"] == ["cat/small0.png"]
    prepared = prepare(resolve(Layer(source="test", values={"data": str(photos), "model": "linear"})))
    assert len(prepared.dataset) == 150
    assert cli("data", "show", photos, "--augment", "light").code == 0


def test_stats(photos: Path, cli: Cli) -> None:
    found = cli("data", "stats", photos, "--json")
    assert found.code == 0
    assert found.json["schema"] == "striate.data_stats/1"
    assert found.json["splits"] == {"all": {"images": 30, "classes": {"cat": 10, "dog": 10, "owl": 10}}}
    assert found.json["sizes"]["median"] == [80, 100]
    assert found.json["formats"] == {"JPEG": 30}
    found = cli("data", "stats", photos)
    assert "80x100 (height x width), all of them" in found.out
    assert "not stated" in found.out
    assert "CC BY-SA 3.0" in cli("data", "stats", "digits").out


def test_split(photos: Path, cli: Cli) -> None:
    found = cli("data", "split", photos, "--group-by", r"scene(\d+)_", "--seed", 3, "--json")
    assert found.code == 0, found.err
    file = Path("photos.split.json")
    assert found.json["schema"] == "striate.data_split/1"
    assert found.json["file"] == str(file)
    counts = found.json["splits"]
    assert sum(part["images"] for part in counts.values()) == 30
    splits = Splits.load(file, open_dataset(photos))
    assert {name: len(rows) for name, rows in splits.indices.items()} == {n: p["images"] for n, p in counts.items()}
    assert splits.fingerprints == found.json["fingerprints"]
    assert (splits.seed, splits.notes) == (3, ())

    content = file.read_bytes()
    found = cli("data", "split", photos)
    assert (found.code, "is there already" in found.err, "--force" in found.err) == (2, True, True)
    assert file.read_bytes() == content
    found = cli("data", "split", photos, "--force", "--fractions", "0.5,0.2,0.3")
    assert found.code == 0
    assert "Drawn 50/20/30 by class, seed 0." in found.out
    assert "Wrote photos.split.json." in found.out
    assert len(json.loads(file.read_text())["splits"]["test"]) == 9
    assert cli("data", "split", photos, "--out", "there/own.json").code == 0
    assert Path("there/own.json").is_file()


@pytest.mark.parametrize("text", ["half", "0.5,0.5", "0.5,0.5,0.5", "0,0.5,0.5"])
def test_fractions_that_make_no_sense(photos: Path, cli: Cli, text: str) -> None:
    found = cli("data", "split", photos, "--fractions", text)
    assert found.code == 2
    assert "fractions" in found.err
    assert not Path("photos.split.json").exists()


def test_fractions_do_not_move_official_splits(photos: Path, cli: Cli) -> None:
    found = cli("data", "split", "digits", "--fractions", "0.8,0.1,0.1")
    assert found.code == 2
    assert "digits has official splits (train and test)" in found.err


def test_show(photos: Path, cli: Cli) -> None:
    (photos / "cat/scene99_99.jpg").write_bytes(b"broken")
    found = cli("data", "show", photos, "--split", "all", "--count", 400)
    assert found.code == 0, found.err
    assert "because unreadable: 1 image." in found.out
    assert "Wrote photos-all.png." in found.out
    with Image.open("photos-all.png") as sheet:
        assert sheet.mode == "RGB"
        assert min(sheet.size) > 300
    first = cli("data", "show", photos, "--count", 3, "--out", "a.png")
    again = cli("data", "show", photos, "--count", 3, "--out", "b.png")
    other = cli("data", "show", photos, "--count", 3, "--seed", 1, "--out", "c.png")
    assert (first.code, again.code, other.code) == (0, 0, 0)
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes() != Path("c.png").read_bytes()
    found = cli("data", "show", photos, "--split", "tset")
    assert found.code == 3
    assert "there is no split 'tset'" in found.err
    for arguments, words in (
        (("--out", "a.jpg"), "PNG"),
        (("--size", "64"), "--augment"),
        (("--augment", "stronk"), "strong"),
    ):
        found = cli("data", "show", photos, *arguments)
        assert found.code == 2
        assert words in found.err


def test_show_augmented_is_what_training_sees(photos: Path, cli: Cli) -> None:
    found = cli("data", "show", photos, "--augment", "strong", "--out", "strong.png")
    assert found.code == 0, found.err
    same = cli("data", "show", photos, "--augment", "strong", "--out", "same.png")
    none = cli("data", "show", photos, "--augment", "none", "--out", "none.png", "--size", "80x100")
    assert (same.code, none.code) == (0, 0)
    assert Path("strong.png").read_bytes() == Path("same.png").read_bytes()
    with Image.open("none.png") as sheet:  # nothing is done, not even resized: every version is the original
        pixels = np.asarray(sheet)
    inner = pixels[:, 12 : 12 + 176], pixels[:, 12 + 188 + 24 : 12 + 188 + 24 + 176]
    rows = slice(40, 40 + 160)
    assert np.array_equal(inner[0][rows], inner[1][rows])


# what is given as DATA, the exit code, what the message must hold
NONSENSE = [
    ("nowhere", 2, "neither a known data set nor a file or folder"),
    ("digts", 2, "Did you mean 'digits'"),
    ("photo", 2, "Did you mean 'photos'"),
    ("photos/cats", 2, "photos/cat"),
    ("empty", 3, "no known data format"),
    ("texts", 3, "no known data format"),
    ("flat", 3, "one folder per class"),
    ("photos/cat/scene0_0.jpg", 3, "a file of no known data format"),
    ("mnist", 3, "--root"),
]


@pytest.mark.parametrize("command", ["check", "stats", "split", "show"])
@pytest.mark.parametrize(("data", "code", "words"), NONSENSE, ids=[row[0] for row in NONSENSE])
def test_nonsense_gets_one_message(photos: Path, cli: Cli, command: str, data: str, code: int, words: str) -> None:
    for name in ("empty", "texts/one", "flat"):
        Path(name).mkdir(parents=True)
    Path("texts/one/a.txt").write_text("x")
    photo(0).save("flat/1.jpg")
    found = cli("data", command, data)
    assert (found.code, found.out) == (code, "")
    assert found.err.startswith("striate: ")
    assert words in found.err
    assert "Traceback" not in found.err


def test_odd_images_and_names_do_not_stop_anything(photos: Path, cli: Cli) -> None:
    Image.new("RGB", (1, 1)).save(photos / "cat/pixel.png")
    Image.new("L", (1, 3000)).save(photos / "cat/line.png")
    if sys.platform == "linux":
        shutil.copy(photos / "cat/scene0_0.jpg", os.fsencode(photos / "cat") + b"/\xff\xfe.jpg")
    for command in (("check", photos), ("stats", photos), ("split", photos), ("show", photos, "--count", 400)):
        found = cli("data", *command)
        assert found.code == 0, found.err
    document = cli("data", "check", photos, "--json").json
    assert "cat/pixel.png" in [problem["file"] for problem in document["problems"]]
    if sys.platform == "linux":
        assert "cat/\udcff\udcfe.jpg" in [problem["file"] for problem in document["problems"]]
        found = cli("data", "check", photos, "--fix", "clean")
        assert found.code == 0, found.err


def test_a_file_that_fills_the_way_is_told(photos: Path, cli: Cli) -> None:
    Path("file").write_text("x")
    for arguments in (("split", photos, "--out", "file/x.json"), ("show", photos, "--out", "file/x.png")):
        found = cli("data", *arguments)
        assert found.code == 3
        assert "cannot be written" in found.err
    found = cli("data", "check", photos, "--fix", photos)
    assert found.code == 2
    assert "not empty" in found.err


def test_mistyped_command(cli: Cli) -> None:
    found = cli("data", "chekc", "digits")
    assert found.code == 2
    assert "Did you mean 'check'?" in found.err
