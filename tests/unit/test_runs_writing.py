import contextlib
import csv
import io
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from striate.core.instances import Instances, InstanceSets, Polygons, Skeleton
from striate.errors import UsageError
from striate.runs.model import Predictions
from striate.runs.pictures import save_annotated
from striate.runs.writing import FORMS, check_writable, save_predictions, stems

CLASSES = ["cat", 'dog, "big"', "猫"]
SIZES = [(100, 200), (50, 50), (30, 40)]
SOURCES = ["a/7.jpg", "b/12.png", "c/3.jpg"]


def found(**columns: object) -> list[Instances]:
    first = Instances(
        boxes=torch.tensor([[10.0, 20, 60, 80], [100.25, 0, 200, 50.5]]),
        labels=torch.tensor([0, 2]),
        scores=torch.tensor([0.9, 0.4]),
        **columns,  # pyright: ignore[reportArgumentType]
    )
    last = Instances(boxes=torch.tensor([[0.0, 0, 40, 30]]), labels=torch.tensor([1]), scores=torch.tensor([0.123456]))
    nothing = Instances(boxes=torch.empty(0, 4), labels=torch.empty(0).long(), scores=torch.empty(0))
    return [first, nothing, last]


def test_coco_files_are_read_and_scored_by_its_own_tools(tmp_path: Path):
    saved = save_predictions(SOURCES, SIZES, found(), CLASSES, tmp_path, "coco")
    assert saved.files == (tmp_path / "coco.json", tmp_path / "coco_results.json")
    assert saved.objects == 3
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(saved.files[0]))
        results = truth.loadRes(str(saved.files[1]))
        evaluation = COCOeval(truth, results, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)
    assert sorted(truth.imgs) == [3, 7, 12]  # the file names are numbers
    assert truth.imgs[12] == {"id": 12, "file_name": "b/12.png", "height": 50, "width": 50}
    assert {row["id"]: row["name"] for row in truth.cats.values()} == {1: "cat", 2: 'dog, "big"', 3: "猫"}
    (entry,) = truth.imgToAnns[3]
    assert entry["bbox"] == [0, 0, 40, 30]
    assert entry["score"] == pytest.approx(0.123456)


def test_images_whose_names_are_no_numbers_are_counted(tmp_path: Path):
    save_predictions(["a.jpg", "2.jpg", "2.png"], SIZES, found(), CLASSES, tmp_path, "coco")
    assert [row["id"] for row in json.loads((tmp_path / "coco.json").read_text())["images"]] == [1, 2, 3]


def test_masks_and_keypoints_go_to_coco(tmp_path: Path):
    masks = torch.from_numpy(np.random.default_rng(0).random((2, 100, 200)) < 0.3)
    points = torch.tensor([[[1.0, 2, 2], [0, 0, 0]]] * 2)
    skeleton = Skeleton(names=("nose", "tail"), flips=(0, 1), edges=((0, 1),))
    some = found(masks=masks, keypoints=points)
    save_predictions(SOURCES[:1], SIZES[:1], some[:1], CLASSES, tmp_path, "coco", skeleton=skeleton)
    with contextlib.redirect_stdout(io.StringIO()):
        whole = COCO(str(tmp_path / "coco.json"))
    for entry, mask in zip(whole.anns.values(), masks, strict=True):
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # pycocotools under NumPy 2
            decoded = whole.annToMask(entry)
        np.testing.assert_array_equal(decoded, mask.numpy())
        assert entry["keypoints"] == [1, 2, 2, 0, 0, 0]
        assert entry["num_keypoints"] == 1
    assert whole.cats[1]["keypoints"] == ["nose", "tail"]
    assert whole.cats[1]["skeleton"] == [[1, 2]]


def test_polygons_stay_polygons(tmp_path: Path):
    ring = (0.0, 0.0, 10.0, 0.0, 10.0, 10.0)
    some = found(shapes=(Polygons(rings=(ring,)),) * 2)
    save_predictions(SOURCES, SIZES, some, CLASSES, tmp_path, "coco")
    entry, *_, last = json.loads((tmp_path / "coco_results.json").read_text())
    assert entry["segmentation"] == [list(ring)]
    assert "segmentation" not in last


def test_yolo_rows_are_shares_of_the_image(tmp_path: Path):
    saved = save_predictions(SOURCES, SIZES, found(), CLASSES, tmp_path, "yolo")
    assert len(saved.files) == 4
    rows = [line.split() for line in (tmp_path / "labels" / "7.txt").read_text().splitlines()]
    assert [row[0] for row in rows] == ["0", "2"]
    np.testing.assert_allclose([float(v) for v in rows[0][1:]], [0.175, 0.5, 0.25, 0.6, 0.9], atol=1e-6)
    assert (tmp_path / "labels" / "12.txt").read_text() == ""
    assert yaml.safe_load((tmp_path / "data.yaml").read_text()) == {"names": dict(enumerate(CLASSES))}


def test_yolo_keypoints_stand_before_the_score(tmp_path: Path):
    points = torch.tensor([[[20.0, 50, 2]]] * 2)
    save_predictions(SOURCES[:1], SIZES[:1], found(keypoints=points)[:1], CLASSES, tmp_path, "yolo")
    row = (tmp_path / "labels" / "7.txt").read_text().splitlines()[0].split()
    np.testing.assert_allclose([float(v) for v in row[5:]], [0.1, 0.5, 2, 0.9], atol=1e-6)
    assert yaml.safe_load((tmp_path / "data.yaml").read_text())["kpt_shape"] == [1, 3]


def test_csv_has_a_row_per_object(tmp_path: Path):
    points = torch.tensor([[[1.0, 2, 2]]] * 2)
    skeleton = Skeleton(names=("nose",), flips=(0,))
    save_predictions(SOURCES, SIZES, found(keypoints=points), CLASSES, tmp_path, "csv", skeleton=skeleton)
    with (tmp_path / "predictions.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = list(csv.reader(file))
    assert header == ["image", "class", "label", "score", "x1", "y1", "x2", "y2", "nose x", "nose y", "nose visibility"]
    assert rows[1] == ["a/7.jpg", "猫", "2", "0.4", "100.25", "0.0", "200.0", "50.5", "1.0", "2.0", "2.0"]
    assert rows[2][:4] == ["c/3.jpg", 'dog, "big"', "1", "0.123456"]


@pytest.mark.parametrize("form", FORMS)
def test_nothing_is_written_over(tmp_path: Path, form: str):
    saved = save_predictions(SOURCES, SIZES, found(), CLASSES, tmp_path, form)  # pyright: ignore[reportArgumentType]
    saved.files[-1].write_text("mine")
    for file in saved.files[:-1]:
        file.unlink()
    with pytest.raises(UsageError, match="is there already"):
        save_predictions(SOURCES, SIZES, found(), CLASSES, tmp_path, form)  # pyright: ignore[reportArgumentType]
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [saved.files[-1]]
    assert saved.files[-1].read_text() == "mine"


@pytest.mark.parametrize("form", FORMS)
def test_what_cannot_be_written_is_said(tmp_path: Path, form: str):
    some = found(masks=torch.zeros(2, 100, 200, dtype=torch.bool))
    some[2].boxes[0, 1] = float("nan")
    saved = save_predictions(SOURCES, SIZES, some, CLASSES, tmp_path, form)  # pyright: ignore[reportArgumentType]
    assert saved.objects == 2
    assert "1 objects whose boxes are not finite" in str(saved)
    assert ("2 masks are left out" in str(saved)) == (form != "coco")


@pytest.mark.parametrize("form", FORMS)
def test_no_images_make_valid_files(tmp_path: Path, form: str):
    assert save_predictions([], [], [], CLASSES, tmp_path, form).objects == 0  # pyright: ignore[reportArgumentType]


def test_names_do_not_collide():
    assert stems(["x/a.jpg", "y/a.png", "A.jpg", "a-2.jpg"]) == ["a", "a-2", "A-3", "a-2-2"]


@pytest.mark.parametrize("form", FORMS)
def test_what_is_there_already_is_refused_beforehand(tmp_path: Path, form):
    check_writable(SOURCES, tmp_path, form, task="detection")
    save_predictions(SOURCES, SIZES, found(), CLASSES, tmp_path, form)
    with pytest.raises(UsageError, match="is there already"):
        check_writable(SOURCES, tmp_path, form, task="detection")
    with pytest.raises(UsageError, match="this is a model for classification"):
        check_writable(SOURCES, tmp_path / "other", form, task="classification")


def test_pictures_are_named_apart_where_file_systems_do_not_tell_cases_apart(tmp_path: Path):
    inputs = [tmp_path / "one" / "A.png", tmp_path / "two" / "a.png"]
    for file in inputs:
        file.parent.mkdir()
        Image.new("RGB", (8, 8)).save(file)
    nothing = Instances(boxes=torch.empty(0, 4), labels=torch.empty(0).long(), scores=torch.empty(0))
    predicted = Predictions(
        model="m",
        classes=("cat",),
        sources=tuple(map(str, inputs)),
        sizes=((8, 8), (8, 8)),
        annotations=InstanceSets.of([nothing, nothing]),
    )
    assert [file.name for file in save_annotated(predicted, inputs, tmp_path / "out")] == ["A.png", "a-2.png"]
