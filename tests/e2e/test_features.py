"""Feature extraction through the real command: one model file, right for every classifier, resumed from the cache."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import Cli
from PIL import Image
from safetensors.torch import load_file

import striate
from striate.core.annotations import Classifications

GIVEN = ["digits", "--per-class", 30, "--transfer", "features"]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network that has learnt digits."""
    folder = tmp_path_factory.mktemp("start")
    settings = {"model": "lenet5_modern", "per_class": 60, "precision": "float32", "channels_last": False}
    return striate.train("digits", **settings, epochs=4, out=folder / "run", quiet=True).path


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("classifier", ["logistic", "svm", "softmax", "knn"])
def test_a_classifier_on_features_is_a_model_like_any_other(
    classifier: str, cli: Cli, start: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    found = cli("train", *GIVEN, "--from", start, "--classifier", classifier, "--folds", 3, "--out", run, "--json")
    assert found.code == 0, found.err
    assert "300 images x 84 at input of head" in found.err
    assert found.json["metrics"]["top1"] > 0.75
    evaluated = cli("evaluate", run / "model.safetensors", "--split", "val", "--json")
    assert evaluated.code == 0, evaluated.err
    # what was measured on the cached features is what the whole model file gives
    assert evaluated.json["metrics"] == pytest.approx(found.json["best"]["metrics"], abs=2e-3)
    image = tmp_path / "seven.png"
    Image.fromarray(np.zeros((28, 28), dtype=np.uint8)).save(image)
    assert cli("predict", run, image, "--json").json["predictions"][0]["annotations"][0]["score"] <= 1
    inspected = cli("inspect", run, "--json")
    assert inspected.code == 0, inspected.err
    assert "Cross-validation" in (run / "report.html").read_text()


def test_logistic_regression_is_scikit_learns(cli: Cli, start: Path, tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    from striate.data.open import open_dataset
    from striate.data.split import Splits
    from striate.models.features import FeatureExtractor

    run = tmp_path / "run"
    found = cli("train", *GIVEN, "--from", start, "--penalty", 2.0, "--out", run)
    assert found.code == 0, found.err
    dataset = open_dataset("digits")
    rows = Splits.load(run / "split.json", dataset).indices
    before, after = striate.load(start), striate.load(run)

    def images(name: str) -> torch.Tensor:
        pixels = [before.card.preprocessing(dataset.images.read(int(row))) for row in rows[name]]
        return torch.from_numpy(np.stack(pixels))

    extract = FeatureExtractor(before.task.network)
    with torch.no_grad():
        features, others = extract(images("train")).numpy(), extract(images("val")).numpy()
    scaler = StandardScaler().fit(features)
    labels = dataset.truths.labels.numpy()
    theirs = LogisticRegression(C=0.5, max_iter=5000, tol=1e-8).fit(scaler.transform(features), labels[rows["train"]])
    ours = after.predict_tensor(images("val"))
    assert isinstance(ours, Classifications)
    np.testing.assert_allclose(
        ours.scores, theirs.predict_proba(scaler.transform(others)), atol=1e-2
    )  # lbfgs stops early


def test_goes_on_from_the_cache_and_computes_nothing_twice(cli: Cli, start: Path, tmp_path: Path) -> None:
    first = cli("train", *GIVEN, "--from", start, "--penalty", 1, "--out", tmp_path / "first")
    assert "from" not in next(line for line in first.err.splitlines() if line.startswith("Features of train"))
    second = cli("train", *GIVEN, "--from", start, "--classifier", "knn", "--penalty", 3, "--out", tmp_path / "second")
    assert "300 of them from" in second.err
    resumed = cli("train", "--resume", tmp_path / "second", "--json")
    assert resumed.code == 0, resumed.err
    assert resumed.json["metrics"]["top1"] > 0.7


def test_goes_on_from_another_folder(cli: Cli, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli("train", *GIVEN, "--from", start, "--penalty", 1, "--cache", "mine", "--out", "run").code == 0
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    resumed = cli("train", "--resume", tmp_path / "run")
    assert resumed.code == 0, resumed.err
    assert "300 of them from" in resumed.err


@pytest.mark.parametrize("classifier", ["softmax", "knn"])
def test_too_few_images_for_the_folds_get_a_penalty_that_fits(
    classifier: str, cli: Cli, start: Path, tmp_path: Path
) -> None:
    given = ["--from", start, "--transfer", "auto", "--classifier", classifier]
    found = cli("train", "digits", "--per-class", 3, *given, "--out", tmp_path / "run", "--json")
    assert found.code == 0, found.err
    assert found.json["metrics"]["top1"] > 0.5


def test_the_settings_of_a_run_can_be_used_again(cli: Cli, start: Path, tmp_path: Path) -> None:
    given = ["--from", start, "--transfer", "auto", "--folds", 2]
    first = cli("train", "digits", "--per-class", 5, *given, "--out", tmp_path / "first", "--json")
    assert first.code == 0, first.err
    again = cli("train", "--config", tmp_path / "first", "--out", tmp_path / "again", "--json")
    assert again.code == 0, again.err
    assert again.json["metrics"] == pytest.approx(first.json["metrics"], abs=1e-3)


def test_features_of_an_earlier_stage(cli: Cli, start: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    stage = "s4" if "s4" in striate.inspect(start).stages[-2].name else striate.inspect(start).stages[-2].name
    found = cli("train", *GIVEN, "--from", start, "--layer", stage, "--penalty", 1, "--out", run, "--json")
    assert found.code == 0, found.err
    copy = tmp_path / "elsewhere.safetensors"
    shutil.copy(run / "model.safetensors", copy)
    evaluated = cli("evaluate", copy, "--split", "val", "--json")
    assert evaluated.json["metrics"] == pytest.approx(found.json["best"]["metrics"], abs=2e-3)


@pytest.mark.parametrize("given", [("--layer", "s4"), ("--classifier", "knn")])
def test_another_head_stays_behind_when_the_network_is_taken_on(
    given: tuple[str, str], cli: Cli, start: Path, tmp_path: Path
) -> None:
    first = cli("train", *GIVEN, "--from", start, *given, "--penalty", 1, "--out", tmp_path / "first")
    assert first.code == 0, first.err
    on = ["--transfer", "finetune", "--unfreeze", 0, "--epochs", 1, "--out", tmp_path / "second"]
    second = cli("train", "digits", "--per-class", 30, "--from", tmp_path / "first", *on)
    assert second.code == 0, second.err
    assert "stays behind" in second.err
    before, after = (load_file(run / "model.safetensors") for run in (start, tmp_path / "second"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("backbone."))


def test_bad_input_is_answered_with_what_to_do(cli: Cli, start: Path, tmp_path: Path) -> None:
    few = ["digits", "--per-class", 3, "--transfer", "features", "--from", start]
    for given, code, words in (
        (few, 3, "has 3 training image(s), fewer than the 5 folds"),
        ([*GIVEN, "--from", start, "--layer", "convv1"], 2, "takes the features of a stage"),
        ([*GIVEN, "--from", start, "--lr", 0.1], 2, "nothing is trained by steps"),
        ([*GIVEN], 2, "give --weights FILE"),
        ([*GIVEN, "--from", start, "--classifier", "knn", "--penalty", 2.5], 2, "which is whole"),
        ([*GIVEN, "--from", tmp_path], 4, "is no run"),
        ([*GIVEN, "--from", tmp_path / "nothing", "--model", "lenet1"], 4, "there is no checkpoint"),
        ([*GIVEN, "--model", "resnet20", "--weights", start, "--size", 28], 4, "do not fit"),
    ):
        found = cli("train", *given, "--out", tmp_path / "none")
        assert words in found.err, found.err
        assert found.code in (code, 4)
    enough = cli("train", *few, "--penalty", 1, "--out", tmp_path / "one", "--json")
    assert enough.code == 0, enough.err


def test_a_class_without_a_training_image_is_never_predicted(cli: Cli, start: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for split, names in (("train", "ab"), ("test", "abc")):
        for name in names:
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for number in range(6):
                pixels = generator.integers(0, 256, (28, 28), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / split / name / f"{number}.png")
    run = tmp_path / "run"
    given = ["--from", start, "--transfer", "features", "--penalty", 1, "--validation", 0, "--out", run]
    found = cli("train", tmp_path / "data", *given)
    assert found.code == 0, found.err
    confusion = np.array(json.loads(cli("evaluate", run, "--json").out)["confusion"])
    assert confusion[:, 2].sum() == 0
    assert confusion.sum() == 18


def test_auto_measures_and_says_what_it_chose_and_why(
    cli: Cli, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ["digits", "--per-class", 30, "--transfer", "auto", "--from", start, "--folds", 3]
    few = cli("train", *given, "--out", tmp_path / "few", "--json")
    assert few.code == 0, few.err
    assert "300 training images, 30 of a typical class, which is little" in few.err
    assert "asks for a logistic classifier on frozen features" in few.err
    monkeypatch.setattr("striate.runs.transfer.MUCH_PER_CLASS", 30)
    plain = ["--epochs", 1, "--precision", "float32", "--no-channels-last"]
    much = cli("train", *given, *plain, "--out", tmp_path / "much", "--json")
    assert much.code == 0, much.err
    assert "asks for fine-tuning of all stages" in much.err
    assert "asks for fine-tuning" in (tmp_path / "much" / "report.html").read_text()
    alone = cli("train", "digits", "--per-class", 1, *given[3:], "--out", tmp_path / "alone", "--json")
    assert alone.code == 0, alone.err
    assert "Classes with a single image leave nothing to measure" in alone.err
    refused = cli("train", *given, "--dry-run")
    assert refused.code == 2
    assert "leave one of them out" in refused.err
