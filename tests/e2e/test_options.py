"""Settings that change how training runs, each through the real command."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from commands import Cli
from safetensors.torch import load_file

FAST = ["digits", "--model", "linear", "--epochs", "1", "--augment", "none"]
PLAIN = ["--precision", "float32", "--no-channels-last"]


def settings(run: Path) -> dict[str, object]:
    return yaml.safe_load((run / "run.yaml").read_text())["settings"]


@pytest.mark.parametrize(
    "options",
    [
        ["--accumulate", "4", "--clip", "1", "--ema", "0.9", "--deterministic"],
        ["--optimizer", "sgd", "--schedule", "step", "--warmup", "0.2", "--l1", "1e-5", "--decay-all"],
        ["--optimizer", "adam", "--schedule", "plateau", "--patience", "1", "--class-weights", "auto"],
        ["--precision", "float16"],
        ["--precision", "bfloat16", "--channels-last", "--no-nesterov", "--schedule", "constant"],
        ["--augment", "geometric(rotation=5, elastic=10)", "--validation", "0.1", "--workers", "1"],
    ],
    ids=lambda options: " ".join(options),
)
def test_trains_with(options: list[str], cli: Cli, tmp_path: Path) -> None:
    given = [] if "--precision" in options else PLAIN
    found = cli("train", *FAST, *given, *options, "--out", tmp_path / "run", "--json")
    assert found.code == 0, found.err
    assert found.json["metrics"]["top1"] > 0.6


@pytest.mark.slow  # compiling takes most of a minute
def test_compiles(cli: Cli, tmp_path: Path) -> None:
    found = cli("train", *FAST, *PLAIN, "--compile", "--out", tmp_path / "run", "--json")
    assert found.code == 0, found.err
    assert found.json["metrics"]["top1"] > 0.6
    assert not [name for name in load_file(tmp_path / "run" / "model.safetensors") if "orig_mod" in name]


def test_without_validation_the_last_epoch_is_kept(cli: Cli, tmp_path: Path) -> None:
    found = cli("train", *FAST, *PLAIN, "--validation", 0, "--out", tmp_path / "run", "--json")
    assert found.code == 0, found.err
    assert "6,000 train, 1,000 test" in found.err
    assert found.json["best"] == {"epoch": 1, "split": "none", "metrics": {}}
    assert found.json["split"] == "test"


def test_trains_on_few_images_and_watches_other_splits(cli: Cli, tmp_path: Path) -> None:
    run, given = tmp_path / "run", ["--per-class", 20, "--watch", "train,test", "--epochs", 2]
    found = cli("train", *FAST, *PLAIN, *given, "--out", run, "--json")
    assert found.code == 0, found.err
    assert "200 train, 1,000 val, 1,000 test, 4,800 unused" in found.err
    events = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = [event for event in events if event["event"] == "epoch"][-1]
    assert set(last["watched"]) == {"train", "test"}
    kept = found.json["best"]["epoch"]
    of_kept = next(event for event in events if event["event"] == "epoch" and event["epoch"] == kept)
    assert of_kept["watched"]["test"] == pytest.approx(found.json["metrics"])
    assert "Accuracy on val and train and test" in (run / "report.html").read_text()
    held_out = cli("evaluate", run / "model.safetensors", "--split", "unused", "--json")
    assert held_out.json["samples"] == 4800
    assert held_out.json["held_out"].startswith("held out")
    wrong = cli("train", *FAST, "--watch", "tset", "--out", tmp_path / "none")
    assert wrong.code == 2
    assert not (tmp_path / "none").exists()
    assert "test" in wrong.err


def test_batch_auto_says_what_it_chose(cli: Cli, tmp_path: Path) -> None:
    found = cli("train", *FAST, *PLAIN, "--batch", "auto", "--out", tmp_path / "run")
    assert found.code == 0, found.err
    chosen = settings(tmp_path / "run")["batch"]
    assert f"Batch: {chosen} images" in found.err
    assert 1 <= int(str(chosen)) <= 625


def test_starts_from_the_weights_of_a_model_file(cli: Cli, tmp_path: Path) -> None:
    assert cli("train", *FAST, *PLAIN, "--out", tmp_path / "first").code == 0
    first = tmp_path / "first" / "model.safetensors"
    found = cli("train", *FAST, *PLAIN, "--weights", first, "--lr", 1e-9, "--out", tmp_path / "second")
    assert found.code == 0, found.err
    assert "first loss" in found.err.lower()  # far below ln 10
    one, two = load_file(first), load_file(tmp_path / "second" / "model.safetensors")
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)
    wrong = cli("train", *FAST, *PLAIN, "--model", "lenet300", "--weights", first, "--out", tmp_path / "third")
    assert wrong.code == 4
    assert "do not fit the model" in wrong.err


def test_an_old_run_is_a_file_of_settings(cli: Cli, tmp_path: Path) -> None:
    assert cli("train", *FAST, *PLAIN, "--seed", 3, "--lr", 0.003, "--out", tmp_path / "first").code == 0
    again = cli("train", "--config", tmp_path / "first", "--out", tmp_path / "second")
    assert again.code == 0, again.err
    models = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("first", "second")]
    assert models[0] == models[1]  # the same seed, machine and settings: the same numbers
    document = yaml.safe_load((tmp_path / "second" / "run.yaml").read_text())
    assert document["sources"]["lr"].startswith("file ")


def test_resume_and_evaluate_from_another_folder(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits_folder: Path
) -> None:
    shutil.copytree(digits_folder, tmp_path / "work" / "digits folder")
    monkeypatch.chdir(tmp_path / "work")
    assert cli("train", "digits folder", *FAST[1:], *PLAIN, "--out", "run", "--size", 28).code == 0
    shutil.copy("run/model.safetensors", tmp_path / "alone.safetensors")
    monkeypatch.chdir(tmp_path)
    for model in ("work/run", "alone.safetensors"):
        found = cli("evaluate", model, "--json")
        assert found.code == 0, found.err
        assert (found.json["split"], found.json["held_out"][:8]) == ("test", "held out")
    assert cli("train", "--resume", "work/run").code == 0


def test_the_record_holds_every_epoch_and_the_end(cli: Cli, tmp_path: Path) -> None:
    assert cli("train", *FAST[:-4], "--epochs", 3, "--augment", "none", *PLAIN, "--out", tmp_path / "run").code == 0
    events = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [event["epoch"] for event in events if event["event"] == "epoch"] == [1, 2, 3]
    assert events[-1]["event"] == "end"
    assert events[-1]["result"]["schema"] == "striate.run/1"


def test_a_split_file_says_who_is_trained_on(cli: Cli, tmp_path: Path, digits_folder: Path) -> None:
    file = tmp_path / "split.json"
    made = cli("data", "split", digits_folder, "--fractions", "0.5,0.25,0.25", "--out", file)
    assert made.code == 0, made.err
    found = cli("train", digits_folder, *FAST[1:], *PLAIN, "--size", 28, "--splits", file, "--out", tmp_path / "run")
    assert found.code == 0, found.err
    wanted, used = (json.loads(path.read_text())["splits"] for path in (file, tmp_path / "run" / "split.json"))
    assert used == wanted


def test_an_extra_that_is_missing_leaves_nothing_behind(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("striate.runs.tensorboard.find_spec", lambda name: None)
    found = cli("train", *FAST, "--tensorboard", "--out", tmp_path / "run")
    assert found.code == 2
    assert "striate[tensorboard]" in found.err
    assert not (tmp_path / "run").exists()
