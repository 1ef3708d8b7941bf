"""The corrected copy of images with objects: what becomes of boxes, points and masks, and what a person has to mend."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from striate.core.instances import InstanceSets, Skeleton
from striate.data.dataset import Dataset, ImageArrays
from striate.data.doctor.checks import find_problems
from striate.data.doctor.examination import examine
from striate.data.doctor.mend import Mended, check_target, mend
from striate.data.open import open_dataset
from striate.errors import DataError, UsageError

HEIGHT, WIDTH = 60, 120
TRIANGLE = [[2, 2, 20, 2, 20, 20]]


def photo(file: Path, seed: int, orientation: int = 1) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))
    exif = picture.getexif()
    exif[0x0112] = orientation
    picture.save(file, exif=exif)


def mess(root: Path) -> Path:
    """COCO's folders with one of everything that can be mended."""
    objects: dict[str, dict[str, list[dict[str, Any]]]] = {
        "train": {
            "good.png": [{"bbox": [2, 2, 18, 18], "segmentation": TRIANGLE, "area": 162}],
            "over.png": [
                {"bbox": [100, 10, 30, 20], "area": 600},
                {"bbox": [-5, 10, 25, 20], "segmentation": TRIANGLE, "area": 162},
                {"bbox": [10.5, 40, 20, 20.5], "area": 410},  # half a pixel over: tools round
            ],
            "twice.png": [{"bbox": [5, 5, 20, 20]}, {"bbox": [5.1, 5, 20, 20]}, {"bbox": [5, 5, 20, 20], "iscrowd": 1}],
            "lost.png": [{"bbox": [5, 5, 0, 20]}, {"bbox": [200, 5, 20, 20]}, {"bbox": [30, 5, 20, 20]}],
            "empty.png": [],
            "broken.png": [{"bbox": [5, 5, 20, 20]}],
            "leak.png": [{"bbox": [5, 5, 20, 20]}],
            "again.png": [],
            "turned.png": [{"bbox": [5, 60, 20, 50], "category_id": 9}],
        },
        "test": {"held.png": [{"bbox": [5, 5, 20, 20]}]},
    }
    categories = [{"id": 1, "name": "cat"}, {"id": 9, "name": "Cat "}]
    (root / "annotations").mkdir(parents=True)
    number = 0
    for part, images in objects.items():
        annotations: list[dict[str, Any]] = []
        for place, (name, found) in enumerate(images.items()):
            photo(root / part / name, number + place, orientation=6 if name == "turned.png" else 1)
            for one in found:
                annotations.append({"id": len(annotations), "image_id": name, "category_id": 1, **one})
        number += len(images)
        document = {
            "images": [{"id": name, "file_name": name} for name in images],
            "annotations": annotations,
            "categories": categories,
        }
        (root / "annotations" / f"instances_{part}.json").write_text(json.dumps(document))
    (root / "train/broken.png").write_bytes((root / "train/good.png").read_bytes()[:500])
    shutil.copy(root / "test/held.png", root / "train/leak.png")
    shutil.copy(root / "train/good.png", root / "train/again.png")  # sorts first, and has no object
    return root


def boxes(dataset: Dataset, id_: str) -> list[list[float]]:
    return dataset.instances[list(dataset.ids).index(id_)].boxes.tolist()


def log(copy: Mended) -> list[tuple[str, str, str]]:
    lines = [json.loads(line) for line in copy.log.read_text().splitlines()]
    return [(line["file"], line["action"], line["reason"]) for line in lines]


def test_copy_of_objects(tmp_path: Path) -> None:
    data = mess(tmp_path / "data")
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    copy = mend(examine(open_dataset(data)), tmp_path / "clean")
    assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == before

    again = open_dataset(copy.path)
    assert (again.format, again.classes, again.skipped) == ("COCO JSON", ("cat",), ())
    assert copy.kept == len(again) == 7
    assert {part: len(rows) for part, rows in again.splits.items()} == {"train": 6, "test": 1}
    found = {problem.check: problem.severity for problem in find_problems(examine(again))}
    assert "error" not in found.values()
    assert not found.keys() & {"box_outside", "duplicate_box", "duplicate", "box_without_size"}

    assert boxes(again, "train/over.png") == [[100, 10, 120, 30], [0, 10, 20, 30], [10.5, 40, 30.5, 60.5]]
    over = again.instances[list(again.ids).index("train/over.png")]
    assert over.areas is not None
    assert over.areas.tolist() == [400, 162, 410]  # of an object with a mask it is the mask's
    assert boxes(again, "train/twice.png") == [[5, 5, 25, 25], [5, 5, 25, 25]]  # the other one is a crowd
    assert boxes(again, "train/lost.png") == [[30, 5, 50, 25]]
    assert boxes(again, "train/empty.png") == []
    assert boxes(again, "train/turned.png") == [[5, 60, 25, 110]]
    assert boxes(again, "train/good.png") == [[2, 2, 20, 20]]
    for id_ in again.ids:
        assert (copy.path / id_).read_bytes() == before[data / id_]

    assert copy.actions() == {"dropped": 3, "left out": 2, "renamed": 1, "cut off": 2, "merged": 1}
    assert log(copy) == [
        (
            "train/again.png",
            "dropped",
            "is the same picture as train/good.png, which stays; objects here: 0, there: 1",
        ),
        ("train/broken.png", "dropped", log(copy)[1][2]),
        (
            "train/leak.png",
            "dropped",
            "is the same picture as test/held.png, which stays because it is in test; objects here: 1, there: 1",
        ),
        ("train/lost.png object 1", "left out", "the box has no size: 5 5 5 25"),
        ("train/lost.png object 2", "left out", "the box lies outside of the image, 120x60 pixels: 200 5 220 25"),
        ("data", "renamed", "the class 'Cat ' is now 'cat'"),
        ("train/over.png", "cut off", "the box 100 10 130 30 left the image; now it is 100 10 120 30"),
        ("train/over.png", "cut off", "the box -5 10 20 30 left the image; now it is 0 10 20 30"),
        ("train/twice.png", "merged", "the box 5.1 5 25.1 25 of 'cat' is there more than once; one stays"),
    ]


def arrays(boxes: torch.Tensor) -> Dataset:
    """Twenty images in memory, with one box each."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, HEIGHT, WIDTH, 3), dtype=np.uint8)
    return Dataset(
        name="arrays",
        format="in memory",
        path=None,
        task="localization",
        classes=("cat", "dog"),
        ids=[f"{k:02}" for k in range(20)],
        images=ImageArrays(pixels),
        truths=InstanceSets(offsets=torch.arange(21), boxes=boxes, labels=torch.arange(20) % 2),
    )


def good() -> torch.Tensor:
    low = torch.stack((torch.arange(20.0) + 61, torch.arange(20.0) / 2), dim=1)
    return torch.cat((low, low + torch.tensor([20.0, 30.0])), dim=1)


def test_images_in_memory_and_boxes_that_training_refuses(tmp_path: Path) -> None:
    stated = good()
    stated[3] = torch.tensor([5.0, 5, 5, 30])
    stated[4] = torch.tensor([500.0, 5, 530, 30])
    copy = mend(examine(arrays(stated)), tmp_path / "clean")
    again = open_dataset(copy.path)
    assert again.instances.counts.tolist() == [1, 1, 1, 0, 0, *[1] * 15]
    assert log(copy) == [
        ("03", "left out", "the box 5 5 5 30 has no area"),
        ("04", "left out", "the box lies outside of the image: 500 5 530 30"),
    ]


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        (good()[:, [1, 0, 3, 2]], "if x and y are swapped, none does"),
        (good() / torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT]), "shares of the image, not pixels"),
    ],
)
def test_boxes_that_are_stated_otherwise_are_not_cut_off(boxes: torch.Tensor, words: str, tmp_path: Path) -> None:
    """A copy would hide it: cut off at the border, they all lie inside."""
    with pytest.raises(DataError, match="no copy is written, which would hide this") as refused:
        mend(examine(arrays(boxes)), tmp_path / "clean")
    assert words in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_lines_in_pixels_are_not_left_out(tmp_path: Path) -> None:
    for name in ("images", "labels"):
        (tmp_path / "data" / name).mkdir(parents=True)
    for name in "ab":
        photo(tmp_path / f"data/images/{name}.png", ord(name))
    (tmp_path / "data/labels/a.txt").write_text("0 0.5 0.5 0.2 0.3\n")
    (tmp_path / "data/labels/b.txt").write_text("0 60 30 20 20\n")
    with pytest.raises(DataError, match=r"labels/b.txt line 1: has 60 where shares of the image"):
        mend(examine(open_dataset(tmp_path / "data")), tmp_path / "clean")


def test_points_and_masks_are_kept(tmp_path: Path) -> None:
    whole = arrays(good())
    points = torch.tensor([[70.0, 10.0, 2.0]]).repeat(20, 1, 1)
    stated = replace(
        whole,
        truths=replace(whole.instances, keypoints=points),
        skeleton=Skeleton(names=("nose",), flips=(0,)),
        licence="CC0",
    )
    again = open_dataset(mend(examine(stated), tmp_path / "clean").path)
    assert (again.skeleton, again.licence) == (stated.skeleton, "CC0")
    assert torch.equal(again.instances.boxes, whole.instances.boxes)
    assert again.instances.keypoints is not None
    assert torch.equal(again.instances.keypoints, points)


def test_images_of_no_split_stay(tmp_path: Path) -> None:
    stated = replace(arrays(good()), splits={"train": np.arange(12), "test": np.arange(15, 20)})
    again = open_dataset(mend(examine(stated), tmp_path / "clean").path)
    assert len(again) == 20
    assert {part: len(rows) for part, rows in again.splits.items()} == {"train": 12, "test": 5}


def test_an_image_of_two_splits_is_refused_before_anything_is_looked_at(tmp_path: Path) -> None:
    stated = replace(arrays(good()), splits={"train": np.arange(12), "test": np.arange(11, 20)})
    with pytest.raises(UsageError, match="11 is in several splits"):
        check_target(stated, tmp_path / "clean")


def test_objects_of_unknown_classes_do_not_become_background(tmp_path: Path) -> None:
    data = mess(tmp_path / "data")
    file = data / "annotations/instances_train.json"
    document = json.loads(file.read_text())
    document["annotations"][0]["category_id"] = 77
    file.write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"which would hide this: .*77"):
        mend(examine(open_dataset(data)), tmp_path / "clean")


def test_copies_with_other_objects_stay_for_a_person(tmp_path: Path) -> None:
    whole = arrays(good())
    pixels = np.stack([whole.images.read(0 if row in (5, 6) else row) for row in range(20)])
    boxes = good()
    boxes[6] = boxes[0]
    stated = replace(whole, images=ImageArrays(pixels), truths=replace(whole.instances, boxes=boxes))
    copy = mend(examine(stated), tmp_path / "clean")
    assert [line[:2] for line in log(copy)] == [("06", "dropped")]  # says the same as 00; 05 says something else


def test_objects_are_merged_only_where_they_are_the_same(tmp_path: Path) -> None:
    box, wide = [5.0, 5, 25, 25], [-300.0, -200, 500, 300]
    stated = replace(
        arrays(good()),
        ids=["a"],
        images=ImageArrays(np.zeros((1, HEIGHT, WIDTH, 3), dtype=np.uint8)),
        truths=InstanceSets(
            offsets=torch.tensor([0, 6]),
            boxes=torch.tensor([box, box, box, box, wide, [-310.0, -200, 500, 300]]),
            labels=torch.zeros(6, dtype=torch.int64),
            ignore=torch.tensor([True, False, False, False, False, False]),
            keypoints=torch.tensor([[9.0, 9, 2], [9, 9, 2], [9, 9, 2], [8, 8, 2], [9, 9, 2], [9, 9, 2]])[:, None],
            areas=torch.tensor([400.0, 400, 400, 400, 77, 400_000]),
        ),
        skeleton=Skeleton(names=("nose",), flips=(0,)),
    )
    again = open_dataset(mend(examine(stated), tmp_path / "clean").path)
    assert again.instances.boxes.tolist() == [box, box, box, [0, 0, WIDTH, HEIGHT], [0, 0, WIDTH, HEIGHT]]
    assert again.instances.areas is not None
    assert again.instances.areas.tolist()[3:] == [77, 400_000]  # neither was the area of its box


def test_a_copy_beside_the_file_of_objects_lies_outside_of_the_images_folder(tmp_path: Path) -> None:
    data = mess(tmp_path / "data")
    dataset = open_dataset(data / "annotations/instances_train.json")
    with pytest.raises(UsageError, match="lies inside of"):
        check_target(dataset, data / "clean")
    check_target(dataset, tmp_path / "clean")
