"""From the sample to a run, and from the run to evaluations, predictions and comparisons."""

import io
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from commands import Cli
from PIL import Image
from safetensors.torch import load_file, save_file

import striate
from striate.data.open import open_dataset
from striate.recipes import recipes
from striate.runs.folder import RunFolder


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty test digits as PNG files."""
    folder = tmp_path_factory.mktemp("digits")
    dataset = open_dataset("digits")
    for row in dataset.splits["test"][:40]:
        label = int(dataset.truths.labels[row])
        Image.fromarray(dataset.images.read(int(row))[:, :, 0]).save(folder / f"{row}-{label}.png")
    return folder


def test_train_prints_one_document_and_writes_the_run(run: Path) -> None:
    document = json.loads((run.parent / "out.json").read_text())
    assert document["schema"] == "striate.run/1"
    assert Path(document["model"]) == run / "model.safetensors"
    assert document["best"]["epoch"] in (1, 2)
    assert document["epochs"] == 2
    assert document["best"]["metrics"]["top1"] > 0.8
    assert {path.name for path in run.iterdir()} == {
        "run.yaml", "model.safetensors", "state", "metrics.jsonl", "split.json", "report.html",
    }  # fmt: skip
    said = (run.parent / "err.txt").read_text()
    assert "Data: digits" in said
    assert "95% interval" in said
    assert "report.html" in said


def test_run_yaml_holds_every_setting_with_its_source(run: Path) -> None:
    document = yaml.safe_load((run / "run.yaml").read_text())
    assert document["settings"]["epochs"] == 2
    assert document["sources"]["epochs"] == "command line"
    assert document["sources"]["model"] == "data"
    assert document["sources"]["size"] == "model"
    assert set(document["data"]["fingerprints"]) == {"train", "val", "test"}
    assert "auto" not in {document["settings"][name] for name in ("model", "size", "lr", "precision", "channels_last")}


def test_the_report_is_whole_and_fetches_nothing(run: Path) -> None:
    page = (run / "report.html").read_text()
    assert page.rstrip().endswith("</html>")
    assert 'src="http' not in page
    assert "lenet5_modern" in page


def test_evaluate_repeats_the_runs_own_numbers(run: Path, cli: Cli) -> None:
    found = cli("evaluate", run, "--split", "test", "--json")
    assert found.code == 0
    document = found.json
    assert document["schema"] == "striate.evaluation/1"
    assert (document["task"], document["split"], document["samples"]) == ("classification", "test", 1000)
    assert document["metrics"] == json.loads((run.parent / "out.json").read_text())["metrics"]
    assert len(document["per_class"]) == 10
    assert np.array(document["confusion"]).sum() == 1000
    low, high = document["top1_interval"]
    assert low < document["metrics"]["top1"] < high
    assert document["held_out"].startswith("held out")


@pytest.mark.parametrize(
    ("split", "words"), [("train", "trained on"), ("val", "best epoch was chosen on"), ("all", "trained on among them")]
)
def test_evaluate_says_how_the_split_relates_to_training(split: str, words: str, run: Path, cli: Cli) -> None:
    found = cli("evaluate", run / "model.safetensors", "digits", "--split", split)
    assert found.code == 0
    assert words in found.out


def test_evaluate_on_other_data_goes_by_class_names(run: Path, digits: Path, tmp_path: Path, cli: Cli) -> None:
    for file in digits.iterdir():
        name = file.stem.split("-")[1]
        if name in "379":
            (tmp_path / "some" / name).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, tmp_path / "some" / name)
    found = cli("evaluate", run, tmp_path / "some", "--json")
    assert found.code == 0
    assert found.json["split"] == "all"
    assert found.json["metrics"]["top1"] > 0.6  # labels 3, 7, 9, not 0, 1, 2
    (tmp_path / "some" / "3").rename(tmp_path / "some" / "three")
    found = cli("evaluate", run, tmp_path / "some")
    assert found.code == 3
    assert "does not know: three" in found.err


def test_predict_takes_files_folders_patterns_and_standard_input(
    run: Path, digits: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = sorted(digits.iterdir())
    stdin = io.TextIOWrapper(io.BytesIO(files[0].read_bytes()))
    monkeypatch.setattr("sys.stdin", stdin)
    found = cli("predict", run, files[0], digits, digits / "*-7.png", "-", "--json")
    assert found.code == 0
    document = found.json
    assert document["schema"] == "striate.predictions/1"
    sevens = [file for file in files if file.stem.endswith("-7")]
    assert [row["source"] for row in document["predictions"]] == [
        *map(str, [files[0], *files, *sevens]),
        f"image {1 + len(files) + len(sevens)}",
    ]
    right = sum(row["annotations"][0]["class"] == Path(row["source"]).stem[-1] for row in document["predictions"][1:41])
    assert right >= 30
    assert document["predictions"][0]["annotations"] == document["predictions"][-1]["annotations"]
    assert document["predictions"][0]["size"] == [28, 28]
    top = document["predictions"][0]["annotations"][0]["top"]
    assert len(top) == 5
    assert top[0]["score"] >= top[1]["score"]


def test_predict_lists_what_it_cannot_read(run: Path, digits: Path, tmp_path: Path, cli: Cli) -> None:
    good = sorted(digits.iterdir())[0]
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "half.png").write_bytes(good.read_bytes()[:150])
    shutil.copy(good, tmp_path / "good.png")
    found = cli("predict", run, tmp_path, "--json", "--out", tmp_path / "drawn")
    assert found.code == 3
    assert [Path(row["source"]).name for row in found.json["predictions"]] == ["good.png"]
    assert {Path(item["source"]).name for item in found.json["failed"]} == {"empty.png", "text.jpg", "half.png"}
    assert all(item["error"] for item in found.json["failed"])
    assert [path.name for path in (tmp_path / "drawn").iterdir()] == ["good.png"]
    with Image.open(tmp_path / "drawn" / "good.png") as drawn:
        assert drawn.size[0] >= 100


@pytest.mark.parametrize(
    ("source", "words"),
    [("https://example.org/a.jpg", "is a URL"), ("*.nothing", "nothing matches")],
)
def test_predict_answers_what_is_not_there(source: str, words: str, run: Path, cli: Cli) -> None:
    found = cli("predict", run, source)
    assert found.code == 2
    assert words in found.err


def test_predict_lists_what_is_not_there_and_predicts_the_rest(run: Path, digits: Path, cli: Cli) -> None:
    found = cli("predict", run, "nofile.png", sorted(digits.iterdir())[0], "--json")
    assert found.code == 3
    assert [item["source"] for item in found.json["failed"]] == ["nofile.png"]
    assert len(found.json["predictions"]) == 1
    with pytest.warns(UserWarning, match="1 inputs could not be read"):
        assert len(striate.load(run).predict(["nofile.png"])) == 0


def test_predict_sees_the_pixels_that_validation_saw(run: Path, digits: Path) -> None:
    """Arrays, Pillow images, bytes, tensors and files give the same scores as the loader's batches."""
    model = striate.load(run)
    dataset = open_dataset("digits")
    rows = [int(file.stem.split("-")[0]) for file in sorted(digits.iterdir())]
    arrays = [dataset.images.read(row) for row in rows]
    files = sorted(digits.iterdir())
    as_files = [row.annotation.scores for row in model.predict(files)]
    evaluated = striate.evaluate(run, quiet=True)
    for position, row in enumerate(rows):
        where = int((evaluated.indices == row).nonzero()[0])
        assert evaluated.predictions.scores is not None
        torch.testing.assert_close(as_files[position], evaluated.predictions.scores[where], atol=1e-5, rtol=1e-4)
    for sources in (
        arrays,
        [array[:, :, 0] for array in arrays],
        [Image.fromarray(array[:, :, 0]) for array in arrays],
        [torch.from_numpy(array.copy()).permute(2, 0, 1) for array in arrays],
        [torch.from_numpy(array.copy()).permute(2, 0, 1) / 255 for array in arrays],
        [file.read_bytes() for file in files],
    ):
        found = model.predict(sources)
        assert not found.failed
        for one, other in zip(found, as_files, strict=True):
            assert torch.equal(one.annotation.scores, other)


def test_predict_refuses_arrays_of_another_kind(run: Path) -> None:
    with pytest.warns(UserWarning, match="2 inputs could not be read"):
        found = striate.load(run).predict([np.zeros((28, 28), np.float32), np.zeros((2, 28, 28, 3), np.uint8)])
    assert len(found) == 0
    assert ["float32" in found.failed[0].error, "shape (2, 28, 28, 3)" in found.failed[1].error] == [True, True]


def test_runs_are_listed_shown_and_compared(run: Path, cli: Cli, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(run, other)
    text = (other / "run.yaml").read_text().replace("epochs: 2", "epochs: 3")
    (other / "run.yaml").write_text(text)
    listed = cli("runs", "list", run.parent, "--json").json["runs"]
    assert [(row["data"], row["model"], row["state"]) for row in listed] == [("digits", "lenet5_modern", "done")]
    assert "lenet5_modern" in cli("runs", "list", run.parent).out
    shown = cli("runs", "show", run)
    assert shown.code == 0
    assert "command line" in shown.out
    compared = cli("runs", "compare", run, other, "--json").json
    assert compared["settings"] == {"epochs": [2, 3]}
    assert cli("runs", "compare", run).code == 2
    assert "holds no run" in cli("runs", "show", run.parent).err


def test_a_run_is_never_written_over(run: Path, cli: Cli) -> None:
    found = cli("train", "digits", "--out", run)
    assert found.code == 2
    assert "never written over" in found.err


def test_resuming_a_finished_run_changes_nothing(run: Path, cli: Cli, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    assert cli("train", "--resume", copy, "--json").code == 0
    assert (copy / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()


def damage_card(path: Path, old: str, new: str) -> None:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        metadata = {key: value.replace(old, new) for key, value in file.metadata().items()}
    save_file(load_file(path), path, metadata=metadata)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:5000]), "truncated"),
        (lambda path: path.write_bytes(b""), "truncated"),
        (lambda path: torch.save({"a": torch.ones(1)}, path), "is a pickle"),
        (lambda path: save_file(load_file(path), path), "no striate card"),
        (lambda path: damage_card(path, "striate.model/1", "striate.model/9"), "striate.model/9; this version reads"),
        (lambda path: damage_card(path, "striate.model/1", "other/1"), "has the schema 'other'"),
        (lambda path: damage_card(path, "lenet5_modern", "lenet6_modern"), "Did you mean 'lenet5_modern'"),
        (lambda path: damage_card(path, "lenet5_modern", "linear"), "do not fit the model"),
        (lambda path: damage_card(path, '"mean"', '"meen"'), "card that cannot be read"),
    ],
    ids=["cut", "empty", "pickle", "no card", "newer", "other schema", "unknown model", "other model", "bad card"],
)
def test_a_bad_model_file_is_answered_in_words(damage, words: str, run: Path, cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    shutil.copy(run / "model.safetensors", path)
    damage(path)
    found = cli("evaluate", path, "digits")
    assert found.code == 4, found.err
    assert words in found.err
    assert "Traceback" not in found.err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["trian", "digits"], 2, "Did you mean 'train'"),
        (["train"], 2, "which data?"),
        (["train", "digitz"], 2, "Did you mean 'digits'"),
        (["train", "digits", "--epoch", "3"], 2, "--epochs"),
        (["train", "digits", "--set", "lr"], 2, "KEY=VALUE"),
        (["train", "digits", "--set", "learning_rate=1"], 2, "unknown setting"),
        (["train", "digits", "--model", "lenet6"], 2, "Did you mean"),
        (["train", "digits", "--model", "lenet5", "--size", "40"], 2, "32"),
        (["train", "digits", "--augment", "stronk"], 2, "Did you mean 'strong'"),
        (["train", "digits", "--device", "gpu"], 2, "cannot be used here"),
        (["train", "digits", "--config", "no.yaml"], 2, "no such file"),
        (["train", "digits", "--task", "detection"], 2, "classification"),
        (["train", "--resume", "nowhere"], 2, "does not exist"),
        (["train", "digits", "--validation", "1.5"], 2, "at most 0.9"),
        (["models", "resnett"], 2, "Did you mean 'resnet"),
        (["models", "--task", "clasification"], 2, "Did you mean 'classification'"),
        (["evaluate", "nowhere.safetensors"], 4, "no model file"),
    ],
)
def test_mistakes_are_answered_with_what_would_mend_them(
    arguments: list[str], code: int, words: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = cli(*arguments)
    assert (found.code, words in found.err) == (code, True), found.err
    assert "Traceback" not in found.err
    assert not list(tmp_path.iterdir())


def test_dry_run_shows_sources_and_trains_nothing(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = cli("train", "digits", "--dry-run", "--json", "--epochs", 4)
    assert found.code == 0
    document = found.json
    assert document["settings"]["epochs"] == {"value": 4, "source": "command line"}
    assert document["settings"]["precision"]["source"] == "measured"
    assert document["seconds_per_epoch"] > 0
    assert document["parameters"] == 61706
    assert not list(tmp_path.iterdir())


def test_find_lr_draws_and_suggests(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = cli("train", "digits", "--find-lr", "--json", "--precision", "float32")
    assert found.code == 0
    assert 1e-5 < found.json["suggestion"] < 1
    assert (tmp_path / "lr-range.svg").read_text().startswith("<?xml")


def test_help_of_every_command(cli: Cli) -> None:
    listed = cli("--help").out
    for command in ("train", "evaluate", "predict", "models", "data", "runs"):
        assert command in listed
        found = cli(command, "--help")
        assert (found.code, "Usage: striate" in found.out) == (0, True)


def test_help_names_the_recipes(cli: Cli) -> None:
    found = cli("train", "--help").out
    assert all(name in found for name in recipes())


def test_the_data_may_be_given_as_a_setting(cli: Cli) -> None:
    found = cli("train", "--set", "data=digitz")
    assert (found.code, "Did you mean 'digits'" in found.err) == (2, True)


def test_python_says_the_same(run: Path) -> None:
    model = striate.load(run)
    assert model.classes == tuple("0123456789")
    evaluated = striate.evaluate(run, split="test", quiet=True)
    assert evaluated.metrics["top1"] == json.loads((run.parent / "out.json").read_text())["metrics"]["top1"]
    assert math.isclose(sum(dict(model.predict(np.zeros((28, 28), np.uint8))[0].top(10)).values()), 1, rel_tol=1e-5)
    network = striate.create("lenet5_modern", classes=10, channels=1, weights=str(run / "model.safetensors"))
    assert torch.equal(next(network.parameters()), next(model.task.parameters()))
    assert RunFolder(run).result is not None
