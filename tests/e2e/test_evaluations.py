"""What evaluation says of its images: which they are, whether the model saw them, which could not be read."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from commands import Cli

from striate.errors import DataError
from striate.runs.folder import RunFolder
from striate.runs.prepare import changes, prepare

FAST = ["--model", "linear", "--epochs", 1, "--size", 28, "--precision", "float32", "--no-channels-last"]


@pytest.fixture
def data(digits_folder: Path, tmp_path: Path) -> Path:
    """Twenty digits of each of three classes."""
    for name in "137":
        (tmp_path / "data" / name).mkdir(parents=True)
        for file in sorted((digits_folder / name).iterdir())[:20]:
            shutil.copy(file, tmp_path / "data" / name)
    return tmp_path / "data"


def official(data: Path, target: Path, *splits: str) -> Path:
    """A copy with folders of splits, the images of a class dealt out in turn."""
    for folder in data.iterdir():
        for place, file in enumerate(sorted(folder.iterdir())):
            where = target / splits[place % len(splits)] / folder.name
            where.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, where)
    return target


def test_a_garbage_test_file_makes_no_other_data_of_it(data: Path, cli: Cli, tmp_path: Path) -> None:
    split = official(data, tmp_path / "split", "train", "val", "test")
    bad = next((split / "test" / "3").iterdir())
    bad.write_text("no image")
    run = tmp_path / "run"
    trained = cli("train", split, *FAST, "--max-bad", 0.1, "--out", run)
    assert trained.code == 0, trained.err
    for model in (run, run / "model.safetensors"):
        found = cli("evaluate", model, "--json")
        assert found.code == 0, found.err
        assert found.json["held_out"].startswith("held out")
        assert found.json["samples"] == len(list((split / "test").rglob("*.png"))) - 1
        assert "not what it was" not in found.err
    again = cli("train", "--resume", run)
    assert again.code == 0
    assert "not what it was" not in again.err


def test_all_images_of_its_own_data_include_those_it_was_trained_on(data: Path, cli: Cli, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert cli("train", data, *FAST, "--out", run).code == 0
    for model in (run, run / "model.safetensors"):
        found = cli("evaluate", model, "--split", "all", "--json")
        assert found.code == 0, found.err
        assert found.json["samples"] == 60
        assert "with the images that the model was trained on" in found.json["held_out"]


def test_without_test_the_validation_split_is_measured(data: Path, cli: Cli, tmp_path: Path) -> None:
    split = official(data, tmp_path / "split", "train", "val")
    trained = cli("train", split, *FAST, "--out", tmp_path / "run", "--json")
    assert trained.json["split"] == "val"
    for command in (["evaluate", tmp_path / "run"], ["evaluate", tmp_path / "run", split]):
        found = cli(*command, "--json")
        assert found.code == 0, found.err
        assert (found.json["split"], found.json["samples"]) == ("val", 30)


def test_data_under_the_home_folder_is_found(
    data: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    trained = cli("train", "~/data", *FAST, "--out", tmp_path / "run")
    assert trained.code == 0, trained.err
    settings = yaml.safe_load((tmp_path / "run" / "run.yaml").read_text())["settings"]
    assert settings["data"] == str(data)


def test_what_cannot_be_read_is_counted_and_named(data: Path, cli: Cli, tmp_path: Path) -> None:
    assert cli("train", data, *FAST, "--out", tmp_path / "run").code == 0
    bad, *others = sorted(data.rglob("*.png"))
    bad.write_bytes(bad.read_bytes()[:100])
    found = cli("evaluate", tmp_path / "run", data, "--json")
    assert found.code == 0, found.err
    assert found.json["samples"] == 59
    assert [Path(item["source"]).name for item in found.json["skipped"]] == [bad.name]
    assert "damaged" in found.json["skipped"][0]["reason"]
    assert "1 of the all split's 60 images could not be read" in found.err
    for other in others:
        other.write_text("no image")
    found = cli("evaluate", tmp_path / "run", data)
    assert found.code == 3
    assert "none of the 60 images" in found.err
    assert "Traceback" not in found.err


def test_a_run_whose_data_has_changed_says_so(data: Path, cli: Cli, tmp_path: Path) -> None:
    assert cli("train", data, *FAST, "--out", tmp_path / "run").code == 0
    run = RunFolder(tmp_path / "run")

    def found() -> list[str]:
        return changes(prepare(run.resolved, splits_file=run.split), run.document)

    assert found() == []
    assert "Note" not in cli("evaluate", run.path).err
    gone = next(file for file in data.rglob("*.png") if f"{file.parent.name}/{file.name}" in trained(run))
    shutil.move(gone, tmp_path)
    assert len(found()) == 1
    assert "changed since the run began (train)" in found()[0]
    evaluated = cli("evaluate", run.path)
    assert evaluated.code == 0
    assert "Note: 1 images of" in evaluated.err
    (data / "1").rename(data / "one")
    with pytest.raises(DataError, match="without 1 and with one"):
        found()


def trained(run: RunFolder) -> list[str]:
    return json.loads(run.split.read_text())["splits"]["train"]
