"""``striate data check --model``: the doctor asks a model, and what it says where that cannot be done."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import Cli
from PIL import Image


@pytest.fixture
def mislabelled(digits_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, dict[str, str]]:
    """Four hundred digits that the run has not seen, ten of them in a wrong folder; where they are and were."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "photos"
    shutil.copytree(digits_folder, folder)
    moved: dict[str, str] = {}
    for k in range(10):
        file = sorted((folder / str(k)).iterdir())[0]
        wrong = str((k + 3) % 10)
        file.rename(folder / wrong / f"wrong{k}.png")
        moved[f"{wrong}/wrong{k}.png"] = str(k)
    return Path("photos"), moved


def test_planted_errors_come_first_and_are_drawn(cli: Cli, run: Path, mislabelled: tuple[Path, dict[str, str]]) -> None:
    folder, moved = mislabelled
    found = cli("data", "check", folder, "--model", run, "--cache", "none", "--out", "look", "--json")
    assert found.code == 0, found.err
    opinion = found.json["opinion"]
    assert list(opinion) == ["model", "judged", "label_errors", "look_alikes", "pictures"]
    assert (opinion["model"], opinion["judged"]) == (str(run), 400)
    first = opinion["label_errors"][:10]
    assert sum(error["file"] in moved for error in first) >= 6  # the model has seen two epochs
    hits = [error for error in first if error["file"] in moved]
    assert sum(error["likely"] == moved[error["file"]] for error in hits) >= 0.8 * len(hits)
    own = [error["given_probability"] for error in opinion["label_errors"]]
    assert own == sorted(own)
    warned = [p["file"] for p in found.json["problems"] if p["check"] == "likely_label_error"]
    assert warned == [error["file"] for error in opinion["label_errors"]]
    assert {p["severity"] for p in found.json["problems"]} <= {"warning", "note"}
    assert opinion["pictures"][0] == "look/label_errors.png"
    with Image.open("look/label_errors.png") as picture:
        assert picture.mode == "RGB"
        assert min(picture.size) > 200


def test_a_person_sees_a_table_and_what_was_done(cli: Cli, run: Path, mislabelled: tuple[Path, dict[str, str]]) -> None:
    folder, moved = mislabelled
    found = cli("data", "check", folder, "--model", run, "--cache", "cache", "--fix", "good")
    assert found.code == 0, found.err
    assert "Judged 400 labels, each by a classifier that was trained on others, in 5 folds." in found.err
    lines = [line.split() for line in found.out.splitlines() if "wrong" in line]
    table = {line[0]: line[3] for line in lines if line[0] in moved}
    assert len(table) >= 6
    assert "To mend: Look at the first, which are the most likely" in found.out
    assert "Fit for training, with something to look at:" in found.out
    assert sum(file.suffix == ".png" for file in Path("good").rglob("*")) == 400  # nothing is dropped for an opinion
    assert list(Path("cache").rglob("*.rows"))
    again = cli("data", "check", folder, "--model", run, "--cache", "cache")
    assert again.out.splitlines()[:20] == found.out.splitlines()[:20]


def test_a_model_that_has_learnt_these_labels_says_so(cli: Cli, run: Path) -> None:
    found = cli("data", "check", "digits", "--model", run / "model.safetensors", "--cache", "none", "--json")
    notes = [p for p in found.json["problems"] if p["check"] == "model_cannot_tell"]
    assert [p["severity"] for p in notes] == ["note"]
    assert "was trained on the labels of this very data (train)" in notes[0]["message"]
    other = cli("data", "check", "digits", "--json")
    assert "opinion" not in other.json


def test_a_darker_copy_in_another_split_is_a_leak(
    cli: Cli, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for k in range(60):
        file = Path("data", "test" if k < 20 else "train", "ab"[k % 2], f"{k}.png")
        file.parent.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(random.integers(0, 256, (5, 5), dtype=np.uint8))
        small.resize((28, 28), Image.Resampling.BICUBIC).save(file)
    with Image.open("data/test/a/0.png") as picture:
        picture.point(lambda value: max(0, value - 1)).save("data/train/a/darker.png")
    found = cli("data", "check", "data", "--model", run, "--cache", "none", "--out", "look", "--json")
    leaks = [p for p in found.json["problems"] if p["check"] == "model_duplicate_across_splits"]
    assert [p["file"] for p in leaks] == ["train/a/darker.png"]
    assert leaks[0]["severity"] == "warning"
    assert "looks to the model like test/a/0.png (cosine" in leaks[0]["message"]
    assert found.json["opinion"]["look_alikes"][0]["files"] == ["test/a/0.png", "train/a/darker.png"]
    assert Path("look/look_alikes.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("digits", "--weights", "w.pth", "--out", "x"), 2, "--weights and --out: only with --model"),
        (("digits", "--model", "lenet5"), 2, "lenet5 has fresh weights"),
        (("digits", "--model", "resnet81"), 2, "Did you mean 'resnet18'"),
        (("digits", "--model", "lenet5", "--weights", "gone.pth"), 4, "gone.pth."),
    ],
)
def test_what_cannot_be_asked_is_answered_before_any_image_is_read(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: int, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    found = cli("data", "check", *arguments)
    assert found.code == code
    assert words in found.err
    assert found.out == ""


def test_few_images_are_said_and_not_judged(cli: Cli, run: Path, mislabelled: tuple[Path, dict[str, str]]) -> None:
    folder, _ = mislabelled
    for number in range(10):
        files = sorted((folder / str(number)).iterdir())
        for file in files[4 if number < 8 else 8 :]:
            file.unlink()
    for number in range(3, 8):
        shutil.rmtree(folder / str(number))
    found = cli("data", "check", folder, "--model", run, "--cache", "none")
    assert found.code == 0, found.err
    assert "fewer than 5 different images or groups are not judged: '0' (4), '1' (4), '2' (4)" in found.out
    assert "28 images are too few to say how alike two of them are by chance" in found.out
    assert "Judged 16 labels" in found.err
