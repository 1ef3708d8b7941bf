"""Detection, localization and keypoints through the real commands, on a handful of the sample's images."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import Cli
from PIL import Image
from safetensors.torch import load_file
from scenes import PARTS, some

import striate
from striate.core.batch import Batch
from striate.core.instances import InstanceSets
from striate.data.dataset import ImageArrays
from striate.data.formats import coco
from striate.data.open import open_dataset
from striate.runs.detecting import details
from striate.tasks.detection import Detection

PLAIN = ["--precision", "float32", "--no-channels-last", "--workers", 1]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some scenes as a folder of COCO's."""
    folder = tmp_path_factory.mktemp("scenes") / "coco"
    coco.save(some("scenes"), folder)
    return folder


@pytest.fixture(scope="module")
def detector(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch."""
    out = tmp_path_factory.mktemp("detector") / "run"
    settings = {"model": "ssd", "backbone": "mobilenet_v3_small", "epochs": 1, "batch": 4, "precision": "float32"}
    return striate.train(scenes, out=out, quiet=True, channels_last=False, workers=1, **settings).path


def test_a_detector_is_trained_evaluated_and_reported(cli: Cli, detector: Path) -> None:
    found = cli("evaluate", detector, "--json")
    assert found.code == 0, found.err
    document = found.json
    assert document["task"] == "detection"
    assert document["split"] == "test"
    assert 0 <= document["metrics"]["AP"] <= document["metrics"]["AP50"] <= 1
    assert len(document["per_class"]) == 10
    assert document["speed"]["latency_ms"] > 0
    assert set(document["mistakes"]["counts"]) >= {"missed", "background", "localization"}
    assert len(document["confusion"]) == 11
    card = striate.load(detector).card
    assert card.backbone == "mobilenet_v3_small"
    assert len(card.task["thresholds"]) == 10
    report = (detector / "report.html").read_text()
    assert "Worst images" in report
    assert "Precision over recall" in report


def test_the_thresholds_cost_no_pass_over_the_images(
    cli: Cli, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each validation image is looked at once in an epoch; the thresholds are those of a pass of their own."""
    seen: list[int] = []
    predict = Detection.predict

    def counted(task: Detection, batch: Batch) -> InstanceSets:
        seen.extend(batch.indices.tolist())
        return predict(task, batch)

    monkeypatch.setattr(Detection, "predict", counted)
    given = ["--model", "ssd", "--backbone", "mobilenet_v3_small", "--epochs", 2, "--batch", 4, *PLAIN]
    found = cli("train", scenes, *given, "--out", tmp_path / "run")
    assert found.code == 0, found.err
    assert "by class: the best F1 on val" in found.err
    validation = open_dataset(scenes).splits["val"].tolist()
    assert [seen.count(row) for row in validation] == [2] * len(validation)
    again = striate.evaluate(tmp_path / "run", split="val", quiet=True)
    assert isinstance(again.predictions, InstanceSets)
    assert isinstance(again.truths, InstanceSets)
    chosen = details(again.predictions, again.truths, again.classes, None).thresholds
    assert striate.load(tmp_path / "run").card.task["thresholds"] == pytest.approx(chosen)


def test_the_order_of_the_datas_classes_changes_no_number(
    detector: Path, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels are told by their names: data that numbers the same classes the other way round measures the same."""
    other = tmp_path / "other"
    shutil.copytree(scenes, other)
    for file in other.rglob("*.json"):
        document = json.loads(file.read_text())
        ids = sorted(category["id"] for category in document["categories"])
        number = dict(zip(ids, reversed(ids), strict=True))
        for category in document["categories"]:
            category["id"] = number[category["id"]]
        for annotation in document["annotations"]:
            annotation["category_id"] = number[annotation["category_id"]]
        file.write_text(json.dumps(document))
    one, two = open_dataset(scenes), open_dataset(other)
    assert two.classes == one.classes[::-1]
    assert not torch.equal(two.instances.labels, one.instances.labels)

    def knowing(task: Detection, batch: Batch) -> InstanceSets:
        """The truth in the model's own order, since a detector of one epoch finds nothing."""
        truth = one.instances.select(batch.indices)
        return replace(truth, scores=torch.ones(len(truth.labels)))

    monkeypatch.setattr(Detection, "predict", knowing)
    before, after = (striate.evaluate(detector, data, split="test", quiet=True) for data in (scenes, other))
    assert after.classes == before.classes
    assert isinstance(before.truths, InstanceSets)
    assert isinstance(after.truths, InstanceSets)
    assert torch.equal(after.truths.labels, before.truths.labels)
    assert before.metrics["AP"] == 1
    assert after.metrics == before.metrics


def test_a_person_reads_the_evaluation(cli: Cli, detector: Path) -> None:
    found = cli("evaluate", detector)
    assert found.code == 0, found.err
    for words in ("AP50", "images/s", "threshold", "missed"):
        assert words in found.out


def test_boxes_come_back_in_pixels_of_the_image_as_it_was(cli: Cli, detector: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (300, 500, 3), dtype=np.uint8)).save(tmp_path / "wide.png")
    found = cli("predict", detector, tmp_path / "wide.png", "--score", 0.01, "--json")
    assert found.code == 0, found.err
    row = found.json["predictions"][0]
    assert row["size"] == [300, 500]
    boxes = np.array([one["box"] for one in row["annotations"]])
    assert len(boxes) > 0
    assert (boxes[:, 2:] <= [500.01, 300.01]).all()
    assert (boxes >= 0).all()
    assert boxes[:, 2].max() > 200  # a network of 128 pixels that kept its own would stay below
    scores = [one["score"] for one in row["annotations"]]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("form", ["coco", "yolo", "csv"])
def test_what_was_found_is_written_for_other_programs(
    cli: Cli, detector: Path, scenes: Path, tmp_path: Path, form: str
) -> None:
    image = next(scenes.rglob("*.png"))
    found = cli("predict", detector, image, "--score", 0.01, "--out", tmp_path / "out", "--write", form)
    assert found.code == 0, found.err
    assert {"coco": "coco.json", "yolo": "data.yaml", "csv": "predictions.csv"}[form] in {
        file.name for file in (tmp_path / "out").iterdir()
    }
    assert (tmp_path / "out" / f"{image.stem}.png").is_file()
    again = cli("predict", detector, image, "--out", tmp_path / "out", "--write", form)
    assert again.code == 2
    assert "is there already" in again.err


def test_tiles_and_views(cli: Cli, detector: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    Image.fromarray(rng.integers(0, 255, (200, 260, 3), dtype=np.uint8)).save(tmp_path / "large.png")
    found = cli("predict", detector, tmp_path / "large.png", "--tile", 128, "--views", "--score", 0.01, "--json")
    assert found.code == 0, found.err
    boxes = np.array([one["box"] for one in found.json["predictions"][0]["annotations"]])
    assert (boxes[:, 2:] <= [260.01, 200.01]).all()


def test_an_image_without_a_find_is_an_answer_too(cli: Cli, detector: Path, tmp_path: Path) -> None:
    Image.new("RGB", (90, 60)).save(tmp_path / "empty.png")
    for given in ([], ["--views"], ["--tile", 64]):
        found = cli("predict", detector, tmp_path / "empty.png", "--score", 1, *given, "--json")
        assert found.code == 0, found.err
        assert found.json["predictions"][0]["annotations"] == []
    assert "nothing found" in cli("predict", detector, tmp_path / "empty.png", "--score", 1).out


def test_views_and_tiles_keep_to_score_and_limit(cli: Cli, detector: Path, scenes: Path) -> None:
    image = next(scenes.rglob("*.png"))
    for given in (["--views"], ["--tile", 64]):
        found = cli("predict", detector, image, "--score", 0.02, "--limit", 1, *given, "--json")
        assert found.code == 0, found.err
        rows = found.json["predictions"][0]["annotations"]
        assert len(rows) <= 1
        assert all(row["score"] >= 0.02 for row in rows)


def test_a_run_to_start_from_brings_its_normalisation(cli: Cli, detector: Path, scenes: Path, tmp_path: Path) -> None:
    given = ["--model", "ssd", "--backbone", "mobilenet_v3_small", "--epochs", 1, "--batch", 4, *PLAIN]
    found = cli("train", scenes, "--weights", detector, *given, "--out", tmp_path / "next")
    assert found.code == 0, found.err
    before, after = striate.load(detector).card.preprocessing, striate.load(tmp_path / "next").card.preprocessing
    assert before.mean == after.mean
    assert before.std == after.std


def test_two_objects_are_measured_in_the_order_that_is_learnt(cli: Cli, tmp_path: Path) -> None:
    whole = open_dataset("scenes")
    rows = (whole.instances.counts == 2).nonzero()[:24, 0].numpy()
    pairs = replace(
        whole,
        ids=[f"{place:03}.png" for place in range(len(rows))],
        images=ImageArrays(np.stack([whole.images.read(int(row)) for row in rows])),
        truths=whole.instances.select(torch.from_numpy(rows)),
        splits={"train": np.arange(12), "val": np.arange(12, 18), "test": np.arange(18, 24)},
    )
    coco.save(pairs, tmp_path / "pairs")
    given = ["--task", "localization", "--model", "mobilenet_v3_small", "--epochs", 1, "--batch", 4, *PLAIN]
    assert cli("train", tmp_path / "pairs", *given, "--out", tmp_path / "run").code == 0
    found = striate.evaluate(tmp_path / "run", quiet=True)
    assert isinstance(found.truths, InstanceSets)
    for truth in found.truths:
        centres = truth.boxes[:, 0] + truth.boxes[:, 2]
        assert bool((centres.diff() >= 0).all())
    other = cli("evaluate", tmp_path / "run", "scenes", "--split", "test")
    assert other.code == 3
    assert "finds 2 objects in every image" in other.err


def test_a_detector_resumes_to_the_same_weights(cli: Cli, scenes: Path, tmp_path: Path) -> None:
    given = ["train", scenes, "--model", "ssd", "--backbone", "mobilenet_v3_small", "--epochs", 2, "--batch", 4, *PLAIN]
    assert cli(*given, "--out", tmp_path / "whole").code == 0
    # The state after the first epoch, as a killed run leaves it.
    shutil.copytree(tmp_path / "whole", tmp_path / "again")
    whole = (tmp_path / "whole" / "model.safetensors").read_bytes()
    found = cli("train", "--resume", tmp_path / "again")
    assert found.code == 0, found.err
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == whole


def test_head_by_head_is_said_and_the_body_stays_as_the_first_head_left_it(cli: Cli, tmp_path: Path) -> None:
    coco.save(some("scenes-one"), tmp_path / "data")
    given = [
        "train",
        tmp_path / "data",
        "--task",
        "localization",
        "--model",
        "mobilenet_v3_small",
        "--batch",
        4,
        *PLAIN,
    ]
    runs: dict[str, dict[str, torch.Tensor]] = {}
    for first in (1, 3):  # both have had the same first epoch
        run = tmp_path / f"run{first}"
        way = ["--heads", "class_first", "--first-epochs", 1, "--schedule", "constant"]
        found = cli(*given, *way, "--epochs", first + 1, "--out", run)
        assert found.code == 0, found.err
        rows = [line.split(maxsplit=3) for line in found.err.splitlines() if line.startswith("  ")]
        assert ["body", "from epoch 1 to 1, then frozen"] in [[row[0], row[-1]] for row in rows]
        assert ["box", "from epoch 2"] in [[row[0], row[-1]] for row in rows]
        assert "Head by head" in found.err
        state = load_file(run / "state" / "epoch.safetensors")
        runs[run.name] = {name: value for name, value in state.items() if name.startswith("task.")}
    one, other = runs.values()
    assert any("running_mean" in name for name in one)
    changed = {name for name in one if not torch.equal(one[name], other[name])}
    assert changed
    assert all(name.startswith("task.network.heads.boxes.") for name in changed)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--first-epochs", 2], "does nothing with --heads jointly"),
        (["--heads", "class_first", "--epochs", 1], "give --epochs 2 or more"),
        (["--heads", "box_first", "--epochs", 3, "--first-epochs", 3], "give --epochs 4 or more"),
    ],
)
def test_heads_that_would_never_learn_are_refused(cli: Cli, given: list[object], said: str) -> None:
    found = cli("train", "scenes-one", "--model", "mobilenet_v3_small", *given)
    assert found.code == 2, found.err
    assert said in found.err


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("fcos", "point"),
        ("strider_n", "point"),
        ("retinanet", "anchor"),
        ("ssd", "default box"),
        ("yolo", "cell"),
        ("centernet", "cell"),
        ("cornernet", "corner"),
        ("detr", "query"),
        ("faster_rcnn", "anchor"),  # those that propose
        ("fast_rcnn_windows", "proposal"),
    ],
)
def test_targets_are_drawn(cli: Cli, scenes: Path, tmp_path: Path, model: str, kind: str) -> None:
    given = ["explain", model, scenes, "--targets", "--backbone", "mobilenet_v3_small", "--count", 2]
    found = cli(*given, "--out", tmp_path, "--json")
    assert found.code == 0, found.err
    images = found.json["images"]
    assert len(images) == 2
    assert sum(image["assigned"] for image in images) > 0
    for image in images:
        assert image["kind"] == kind
        assert 0 <= image["unanswered"] <= image["objects"]
        with Image.open(image["picture"]) as picture:
            assert picture.getextrema() != ((255, 255),) * 3
            assert min(picture.size) >= 128  # the images are


def test_crowds_are_listed_apart_from_objects_that_nothing_answers_for(cli: Cli, scenes: Path, tmp_path: Path) -> None:
    shutil.copytree(scenes, tmp_path / "data")
    for file in (tmp_path / "data").rglob("*.json"):
        document = json.loads(file.read_text())
        for annotation in document["annotations"]:
            annotation["iscrowd"] = 1
        file.write_text(json.dumps(document))
    given = ["explain", "fcos", tmp_path / "data", "--targets", "--backbone", "resnet18", "--count", 2]
    found = cli(*given, "--out", tmp_path / "targets", "--json")
    assert found.code == 0, found.err
    assert sum(image["objects"] for image in found.json["images"]) > 0
    for image in found.json["images"]:
        assert (image["unanswered"], image["passed_over"]) == (0, image["objects"])


@pytest.mark.parametrize(("sample", "headline"), [("scenes-one", "top1_localization"), ("scenes-card", "PCK")])
def test_tasks_with_a_fixed_number_of_objects(cli: Cli, tmp_path: Path, sample: str, headline: str) -> None:
    coco.save(some(sample), tmp_path / "data")
    task = "keypoints" if sample == "scenes-card" else "localization"
    given = ["--task", task, "--model", "mobilenet_v3_small", "--epochs", 1, "--batch", 4]
    found = cli("train", tmp_path / "data", *given, *PLAIN, "--out", tmp_path / "run", "--json")
    assert found.code == 0, found.err
    assert headline in found.json["metrics"]
    image = next((tmp_path / "data").rglob("*.png"))
    predicted = cli("predict", tmp_path / "run", image, "--out", tmp_path / "out", "--json")
    assert predicted.code == 0, predicted.err
    (row,) = predicted.json["predictions"][0]["annotations"]
    assert len(row["box"]) == 4
    assert ("keypoints" in row) == (task == "keypoints")
    if task == "keypoints":
        corners = ("top_left", "top_right", "bottom_right", "bottom_left")
        measured = cli("evaluate", tmp_path / "run", "--json")
        assert [row["name"] for row in measured.json["per_point"]] == list(corners)
        shares = [row["PCK"] * row["labelled"] for row in measured.json["per_point"]]
        total = sum(row["labelled"] for row in measured.json["per_point"])
        assert sum(shares) / total == pytest.approx(measured.json["metrics"]["PCK"])
        for shown in (cli("evaluate", tmp_path / "run").out, (tmp_path / "run" / "report.html").read_text()):
            assert all(corner in shown for corner in corners)
    else:
        slid = cli("predict", tmp_path / "run", image, "--slide", "1,1.5", "--json")
        assert slid.code == 0, slid.err
        assert slid.json["predictions"][0]["annotations"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--task", "localization"], "object"),
        (["--task", "classification"], "detection"),
        (["--task", "detecton"], "detection"),
        (["--mixup", "0.2"], "--mixup is for classification"),
        (["--resize", "crop"], "take fit"),
        (["--model", "retinanot"], "retinanet"),
        (["--model", "ssd300", "--size", "128"], "300x300"),
        (["--backbone", "resnet20"], "stride"),
        (["--box-loss", "giou"], "--box-loss is for localization"),
    ],
)
def test_what_does_not_fit_is_said_before_training(cli: Cli, scenes: Path, given: list[str], said: str) -> None:
    found = cli("train", scenes, *given, "--epochs", 1)
    assert found.code in (2, 3), found.err
    assert said in found.err


def test_commands_of_classes_refuse_a_detector(cli: Cli, detector: Path, digits_folder: Path) -> None:
    found = cli("evaluate", detector, digits_folder)
    assert found.code == 2
    assert "is a model for detection" in found.err


def test_images_without_objects_count(cli: Cli, scenes: Path, detector: Path, tmp_path: Path) -> None:
    (file,) = [path for path in scenes.rglob("*.json") if "test" in path.name] or list(scenes.rglob("*.json"))[:1]
    document = json.loads(file.read_text())
    kept = document["annotations"][:1]
    shutil.copytree(scenes, tmp_path / "few")
    (tmp_path / "few" / file.relative_to(scenes)).write_text(json.dumps({**document, "annotations": kept}))
    found = cli("evaluate", detector, tmp_path / "few", "--split", "test", "--json")
    assert found.code == 0, found.err
    assert found.json["samples"] == PARTS["test"]


def test_concatenated_predictions_keep_images_apart() -> None:
    parts = some("scenes").instances
    joined = InstanceSets.concatenate([parts.select(slice(0, 3)), parts.select(slice(3, 9))])
    assert torch.equal(joined.boxes, parts.select(slice(0, 9)).boxes)
    assert torch.equal(joined.counts, parts.select(slice(0, 9)).counts)
