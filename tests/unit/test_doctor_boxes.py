"""The doctor's checks of boxes and points: what is wrong is found, and what is right is left alone."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from striate.core.instances import InstanceSets, Skeleton
from striate.data.dataset import Dataset, ImageArrays
from striate.data.doctor.boxes import OBJECT_CHECKS
from striate.data.doctor.checks import find_problems
from striate.data.doctor.examination import Problem, examine
from striate.data.open import open_dataset

HEIGHT, WIDTH, IMAGES, EACH = 60, 120, 20, 3


def clean() -> Dataset:
    """Twenty images, 60 high and 120 wide, with three objects of two classes each."""
    generator = np.random.default_rng(0)
    low = np.stack((generator.integers(60, 80, 60), generator.integers(0, 20, 60)), axis=1)
    # The three of an image lie in three columns: none covers another.
    low[:, 0] = np.tile((1, 41, 81), IMAGES) + generator.integers(0, 8, 60)
    boxes = np.concatenate((low, low + generator.integers(10, 30, (60, 2))), axis=1)
    return Dataset(
        name="clean",
        format="in memory",
        path=None,
        task="detection",
        classes=("cat", "dog"),
        ids=[f"train[{i}]" for i in range(IMAGES)],
        images=ImageArrays(generator.integers(0, 256, (IMAGES, HEIGHT, WIDTH, 3), dtype=np.uint8)),
        truths=InstanceSets(
            offsets=torch.arange(IMAGES + 1) * EACH,
            boxes=torch.from_numpy(boxes).float(),
            labels=torch.arange(IMAGES * EACH) % 2,
        ),
    )


def changed(change: Callable[[torch.Tensor], torch.Tensor]) -> Dataset:
    """The clean data with other boxes: changed in place, or given."""
    whole = clean()
    boxes = whole.instances.boxes.clone()
    given = change(boxes)
    return replace(whole, truths=replace(whole.instances, boxes=given if given.shape == boxes.shape else boxes))


def found(dataset: Dataset) -> list[Problem]:
    examination = examine(dataset)
    return [problem for check in OBJECT_CHECKS for problem in check(examination)]


def sized(boxes: torch.Tensor) -> torch.Tensor:
    """Width and height of boxes."""
    return boxes[:, 2:] - boxes[:, :2]


def wide(boxes: torch.Tensor) -> torch.Tensor:
    """Widths and heights with which the boxes stay inside, and would not with one for the other."""
    return torch.stack((torch.where(boxes[:, 0] < 60, 50.0, 30.0), torch.full((60,), 8.0)), dim=1)


def test_clean_data_has_no_problem() -> None:
    assert find_problems(examine(clean())) == []


def with_points(place: tuple[float, float], visibility: float) -> Dataset:
    whole = clean()
    middle = (whole.instances.boxes[:, :2] + whole.instances.boxes[:, 2:]) / 2
    points = torch.cat((middle, torch.full((60, 1), 2.0)), dim=1)[:, None]
    points[5, 0] = torch.tensor((*place, visibility))
    return replace(
        whole, truths=replace(whole.instances, keypoints=points), skeleton=Skeleton(names=("nose",), flips=(0,))
    )


def with_pairs(dataset: Dataset, labels: tuple[int, int], shift: float) -> Dataset:
    boxes, classes = dataset.instances.boxes.clone(), dataset.instances.labels.clone()
    boxes[1] = boxes[0] + shift
    classes[:2] = torch.tensor(labels)
    return replace(dataset, truths=replace(dataset.instances, boxes=boxes, labels=classes))


def emptied(dataset: Dataset, images: int) -> Dataset:
    gone = dataset.instances.images >= images
    return replace(dataset, truths=dataset.instances.keep(gone))


def crowded() -> Dataset:
    whole = clean()
    one = whole.instances
    boxes = torch.cat(
        (one.boxes, torch.stack([torch.tensor([i / 2, i / 4, i / 2 + 9, i / 4 + 9]) for i in range(120)]))
    )
    offsets = one.offsets.clone()
    offsets[-1] += 120
    labels = torch.cat((one.labels, torch.arange(120) % 2))
    return replace(whole, truths=InstanceSets(offsets=offsets, boxes=boxes, labels=labels))


PROBLEMS = [
    # data, check, severity, image, words
    (changed(lambda b: b[4].add_(100)), "box_outside", "warning", "train[1]", "1 box leaves the image by up to"),
    (
        changed(lambda b: b[:, [1, 0, 3, 2]]),
        "boxes_misread",
        "error",
        None,
        "if x and y are swapped, none does",
    ),
    (
        changed(lambda b: torch.cat((b[:, :2], b[:, :2] + wide(b).flip(1)), 1)),
        "boxes_misread",
        "error",
        None,
        "if width and height are swapped, none does",
    ),
    (
        changed(lambda b: torch.cat((b[:, :2], b[:, :2] + b[:, 2:]), 1)),
        "boxes_misread",
        "error",
        None,
        "if the lower right corner stands where width and height are expected, none does",
    ),
    (
        changed(lambda b: torch.cat((b[:, :2], sized(b)), 1)),
        "boxes_misread",
        "error",
        None,
        "if width and height stand where the lower right corner is expected, none does",
    ),
    (
        changed(lambda b: b / torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT])),
        "boxes_normalised",
        "error",
        None,
        "60 boxes lie within one pixel: shares of the image",
    ),
    (with_pairs(clean(), (0, 0), 0), "duplicate_box", "warning", "train[0]", "1 box is there more than once"),
    (
        with_pairs(clean(), (0, 1), 0),
        "box_of_two_classes",
        "warning",
        "train[0]",
        "1 box has two classes: 'cat' and 'dog'",
    ),
    (with_pairs(clean(), (0, 0), 1), "crowded_objects", "note", None, "2 of 60 objects share an IoU above 0.7"),
    (emptied(clean(), 5), "images_without_objects", "note", None, "5 of 20 images have no object"),
    (emptied(clean(), 20), "no_objects", "error", None, "no image has an object"),
    (changed(lambda b: b[4, 2:].copy_(b[4, :2] + 4)), "tiny_objects", "note", None, "1 of 60 objects are smaller"),
    (crowded(), "many_objects", "note", "train[19]", "has 123 objects"),
    (with_points((200, 5), 2), "point_outside", "warning", "train[1]", "1 point lies outside of the image"),
    (with_points((1, 59), 2), "point_far_from_box", "warning", "train[1]", "1 point lies far from the box"),
    (with_points((1, 1), 0), "objects_without_points", "note", None, "1 of 60 objects have no point"),
    (with_points((90, 10), 3), "odd_visibility", "error", None, "1 point has a visibility"),
]


@pytest.mark.parametrize(
    ("dataset", "check", "severity", "file", "words"), PROBLEMS, ids=[f"{row[1]}: {row[4]}" for row in PROBLEMS]
)
def test_finds(dataset: Dataset, check: str, severity: str, file: str | None, words: str) -> None:
    problems = [problem for problem in found(dataset) if problem.check == check]
    assert len(problems) == 1
    assert (problems[0].severity, problems[0].file) == (severity, file)
    assert words in problems[0].message
    assert problems[0].fix


def test_a_few_boxes_that_are_off_are_no_suspicion() -> None:
    assert not [problem for problem in found(changed(lambda b: b[:2].add_(100))) if problem.check == "boxes_misread"]


def coco(folder: Path, orientation: int = 1, **changes: Any) -> Dataset:
    """A COCO file of three images, 60x120 as stored, in each one object; ``changes`` of the first object and image."""
    generator = np.random.default_rng(0)
    images: list[dict[str, Any]] = []
    for name in "abc":
        picture = Image.fromarray(generator.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))
        exif = picture.getexif()
        exif[0x0112] = orientation
        picture.save(folder / f"{name}.png", exif=exif)
        images.append({"id": name, "file_name": f"{name}.png"})
    annotations: list[dict[str, Any]] = [
        {"id": k, "image_id": name, "category_id": 1, "bbox": [70, 10, 20, 20]} for k, name in enumerate("abc")
    ]
    annotations[0].update({key: value for key, value in changes.items() if key not in ("width", "height", "file_name")})
    images[0].update({key: value for key, value in changes.items() if key in ("width", "height", "file_name")})
    document = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]}
    (folder / "labels.json").write_text(json.dumps(document))
    return open_dataset(folder / "labels.json")


LOST = [
    # changes, check, severity
    ({"image_id": "x"}, "unknown_image_id", "error"),
    ({"category_id": 7}, "unknown_class_id", "error"),
    ({"id": 1, "bbox": [1, 1, 30, 30]}, "listed_twice", "warning"),
    ({"bbox": [1, 1, 0, 5]}, "box_without_size", "warning"),
    ({"bbox": [1, 1, 5, -5]}, "box_without_size", "warning"),
    ({"bbox": [130, 1, 5, 5]}, "box_outside", "warning"),
    ({"width": 640, "height": 480}, "size_disagrees", "warning"),
    ({"file_name": "gone.png"}, "missing_file", "warning"),
]


@pytest.mark.parametrize(("changes", "check", "severity"), LOST, ids=[row[1] for row in LOST])
def test_what_the_loader_could_not_use_is_a_problem(
    changes: dict[str, Any], check: str, severity: str, tmp_path: Path
) -> None:
    problems = find_problems(examine(coco(tmp_path, **changes)))
    assert [problem.severity for problem in problems if problem.check == check] == [severity]
    assert not [problem for problem in problems if problem.check in ("not_read", "skipped_row")]


def test_boxes_of_stored_pixels_on_turned_images_are_found(tmp_path: Path) -> None:
    """Upright they are 60 wide and 120 high: a box from 70 to 90 across fits only what is stored."""
    whole = coco(tmp_path, orientation=6, bbox=[40, 10, 60, 20])
    # The loader left out the other two, which lie outside altogether.
    checks = {problem.check: problem.severity for problem in find_problems(examine(whole))}
    assert checks["boxes_not_turned"] == "error"
    assert checks["exif_rotation"] == "note"


def test_boxes_that_fit_turned_images_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    whole = coco(tmp_path / "one", orientation=3)
    checks = {problem.check: problem.severity for problem in find_problems(examine(whole))}
    assert checks["boxes_on_turned_images"] == "note"
    assert "error" not in checks.values()


def yolo(folder: Path, **labels: str) -> Dataset:
    """YOLO's folders with the images a and b, and a text file of each name with what it holds."""
    generator = np.random.default_rng(0)
    for name in ("images", "labels"):
        (folder / name).mkdir()
    for name in "ab":
        pixels = generator.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{name}.png")
    for name, text in ({"a": "0 0.5 0.5 0.2 0.3\n", "b": "0 0.4 0.5 0.2 0.3\n"} | labels).items():
        (folder / "labels" / f"{name}.txt").write_text(text)
    return open_dataset(folder)


def test_shares_that_are_pixels_are_a_finding_of_their_own(tmp_path: Path) -> None:
    problems = find_problems(examine(yolo(tmp_path, b="0 60 30 20 20\n0 20 30 20 20\n")))
    pixels = [problem for problem in problems if problem.check == "boxes_in_pixels"]
    assert [(problem.severity, problem.file) for problem in pixels] == [
        ("error", "labels/b.txt line 1"),
        ("error", "labels/b.txt line 2"),
    ]
    assert "has 60 where shares of the image" in pixels[0].message
    assert not [problem for problem in problems if problem.check in ("not_read", "skipped_row")]


def test_annotations_without_an_image_are_found(tmp_path: Path) -> None:
    problems = find_problems(examine(yolo(tmp_path, gone="0 0.5 0.5 0.2 0.3\n")))
    found = [problem for problem in problems if problem.check == "annotation_without_image"]
    assert [(problem.severity, problem.file) for problem in found] == [("warning", "labels/gone.txt")]
    assert not [problem for problem in problems if problem.check in ("not_read", "skipped_row")]
