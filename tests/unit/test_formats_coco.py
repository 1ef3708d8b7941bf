"""COCO JSON, in the shapes that people and their tools make it in."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as reference
from pycocotools.coco import COCO

from striate.core.instances import Polygons, RunLengths, Skeleton
from striate.data.dataset import Dataset, ImageArrays
from striate.data.formats import coco
from striate.data.images import upright
from striate.data.objects import NO_CLASS_ID, NO_IMAGE_ID, NO_SIZE, OTHER_SIZE, OUTSIDE
from striate.data.open import open_dataset
from striate.data.samples import scenes
from striate.data.shapes import area_of, box_of, mask_of, run_lengths
from striate.errors import DataError

CATEGORIES = [{"id": 17, "name": "dog", "supercategory": "animal"}, {"id": 3, "name": "cat"}]


def few(name: str, count: int) -> Dataset:
    """The first images of a sample."""
    whole = scenes.load(name)
    return replace(
        whole,
        ids=whole.ids[:count],
        images=ImageArrays(np.stack([whole.images.read(row) for row in range(count)])),
        truths=whole.instances.select(slice(count)),
        splits={"train": np.arange(count)},
    )


def packed(mask: np.ndarray) -> tuple[Any, str]:
    """What pycocotools makes of a mask, and its text."""
    runs: Any = reference.encode(np.asfortranarray(mask.astype(np.uint8)))
    return runs, runs["counts"].decode()


def photo(path: Path, size: tuple[int, int] = (20, 30), orientation: int = 1) -> Path:
    """A JPEG of height, width as stored."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.zeros((*size, 3), np.uint8))
    exif = picture.getexif()
    exif[0x0112] = orientation
    picture.save(path, "JPEG", exif=exif)
    return path


def document(**changes: Any) -> dict[str, Any]:
    """Two images, the first with a dog and a cat."""
    plain: dict[str, Any] = {
        "images": [
            {"id": 900, "file_name": "a.jpg", "height": 20, "width": 30},
            {"id": 7, "file_name": "b.jpg", "height": 20, "width": 30},
        ],
        "annotations": [
            {"id": 1, "image_id": 900, "category_id": 17, "bbox": [1.5, 2, 10, 5.25], "area": 40.5, "iscrowd": 0},
            {"id": 2, "image_id": 900, "category_id": 3, "bbox": [0, 0, 30, 20]},
        ],
        "categories": CATEGORIES,
    }
    return plain | changes


def annotation(**changes: Any) -> dict[str, Any]:
    return {"id": 1, "image_id": 900, "category_id": 17, "bbox": [1, 2, 10, 5]} | changes


def written(folder: Path, content: object, name: str = "labels.json") -> Path:
    for image in ("a.jpg", "b.jpg"):
        photo(folder / image)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return folder / name


def test_boxes_classes_and_images_without_objects(tmp_path: Path) -> None:
    dataset = open_dataset(written(tmp_path, document()))
    assert (dataset.format, dataset.task, dataset.name) == ("COCO JSON", "detection", "labels")
    assert dataset.classes == ("cat", "dog")  # by id
    assert list(dataset.ids) == ["a.jpg", "b.jpg"]
    truths = dataset.instances
    assert truths.offsets.tolist() == [0, 2, 2]
    assert truths.boxes.tolist() == [[1.5, 2, 11.5, 7.25], [0, 0, 30, 20]]
    assert truths.labels.tolist() == [1, 0]
    assert truths.areas is not None
    assert truths.areas.tolist() == [40.5, 600]
    assert (truths.crowd, truths.shapes, truths.keypoints) == (None, None, None)
    assert dataset.images.read(1).shape == (20, 30, 3)
    assert dataset.skipped == ()


PLACES = [
    # where the file lies, where the images, which path is opened, ids, split
    ("annotations/instances_train2017.json", "train2017", ".", "train2017/a.jpg", "train"),
    ("annotations/instances_val2017.json", "images/val2017", ".", "images/val2017/a.jpg", "val"),
    ("annotations/test.json", "images", ".", "images/a.jpg", "test"),
    ("train/_annotations.coco.json", "train", ".", "train/a.jpg", "train"),
    ("valid/_annotations.coco.json", "valid", ".", "valid/a.jpg", "val"),
    ("labels.json", "images", ".", "images/a.jpg", None),
    ("labels.json", "data", ".", "data/a.jpg", None),
    ("labels.json", ".", "labels.json", "a.jpg", None),
    ("labels.json", "deep/down", "labels.json", "deep/down/a.jpg", None),
    ("annotations/instances_train2017.json", "train2017", "annotations/instances_train2017.json", "", None),
]


@pytest.mark.parametrize(("file", "images", "opened", "id_", "split"), PLACES)
def test_finds_the_images(file: str, images: str, opened: str, id_: str, split: str | None, tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        photo(tmp_path / images / name)
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(json.dumps(document()))
    dataset = open_dataset(tmp_path / opened)
    assert len(dataset) == 2
    assert dataset.images.read(0).shape == (20, 30, 3)
    assert list(dataset.splits) == ([split] if split else [])
    assert not id_ or dataset.ids[0] == id_


def test_classes_of_several_splits_go_by_name(tmp_path: Path) -> None:
    written(tmp_path / "train", document(), "_annotations.coco.json")
    other = document(categories=[{"id": 3, "name": "dog"}, {"id": 17, "name": "cat"}])
    written(tmp_path / "test", other, "_annotations.coco.json")
    dataset = open_dataset(tmp_path)
    names = [dataset.classes[label] for label in dataset.instances.labels.tolist()]
    assert [list(dataset.ids).index(id_) for id_ in ("test/a.jpg", "train/a.jpg")] == [0, 2]
    assert names == ["cat", "dog", "dog", "cat"]
    assert {name: rows.tolist() for name, rows in dataset.splits.items()} == {"train": [2, 3], "test": [0, 1]}


def test_the_group_of_classes_that_roboflow_adds_is_none(tmp_path: Path) -> None:
    categories = [{"id": 0, "name": "pets", "supercategory": "none"}]
    categories += [
        {"id": 17, "name": "dog", "supercategory": "pets"},
        {"id": 3, "name": "cat", "supercategory": "pets"},
    ]
    dataset = open_dataset(written(tmp_path, document(categories=categories)))
    assert dataset.classes == ("cat", "dog")
    assert [item.source for item in dataset.skipped] == ["labels.json category 0"]
    assert dataset.skipped[0].stray


def test_boxes_are_read_where_there_are_other_files(tmp_path: Path) -> None:
    written(tmp_path / "annotations", document(), "instances_train.json")
    written(tmp_path / "annotations", document(), "captions_train.json")
    dataset = open_dataset(tmp_path)
    assert len(dataset) == 2
    assert [item.source for item in dataset.skipped] == ["captions_train.json"]
    written(tmp_path / "annotations", document(), "instances_train_v2.json")
    with pytest.raises(
        DataError, match=r"instances_train.json, instances_train_v2.json are all of train. Name the one"
    ):
        open_dataset(tmp_path)


def test_masks_crowds_and_keypoints(tmp_path: Path) -> None:
    mask = np.zeros((20, 30), dtype=np.uint8)
    mask[3:9, 4:20] = 1
    polygon = [4, 3, 20, 3, 20, 9, 4, 9]
    category = {"id": 17, "name": "dog", "keypoints": ["left_eye", "right_eye", "nose"], "skeleton": [[1, 3], [2, 3]]}
    plain = {"size": [20, 30], "counts": list(run_lengths(mask.astype(bool)).counts)}
    content = document(
        categories=[category, {"id": 3, "name": "cat"}],
        annotations=[
            annotation(id=1, segmentation={"size": [20, 30], "counts": packed(mask)[1]}),
            annotation(id=2, segmentation=plain, iscrowd=1),
            annotation(id=3, segmentation=[polygon], keypoints=[0, 0, 2, 5.5, 6, 1, 9, 9, 0]),
            annotation(id=4, category_id=3),
        ],
    )
    dataset = open_dataset(written(tmp_path, content))
    assert dataset.skeleton == Skeleton(
        names=("left_eye", "right_eye", "nose"), flips=(1, 0, 2), edges=((0, 2), (1, 2))
    )
    truths = dataset.instances
    assert truths.shapes is not None
    for shape in truths.shapes[:2]:
        assert isinstance(shape, RunLengths)
        np.testing.assert_array_equal(mask_of(shape), mask)
    assert truths.shapes[2:] == (Polygons(rings=(tuple(map(float, polygon)),)), Polygons(rings=()))
    assert truths.crowd is not None
    assert truths.crowd.tolist() == [False, True, False, False]
    assert truths.areas is not None
    assert truths.areas.tolist() == [96, 96, 96, 50]  # of the masks; of the box without one
    assert truths.keypoints is not None
    assert truths.keypoints[2].tolist() == [[0.5, 0.5, 2], [6, 6.5, 1], [0, 0, 0]]  # the middle of pixel 0 is 0.5
    assert not truths.keypoints[[0, 1, 3]].any()


SKIPPED = [
    # changes of the document, source of what is skipped, words of why, whether something is lost
    ({"annotations": [annotation(image_id=5)]}, "annotation 1", f"{NO_IMAGE_ID} 5", True),
    ({"annotations": [annotation(category_id=5)]}, "annotation 1", f"{NO_CLASS_ID} id 5", True),
    ({"annotations": [annotation(category_id=None)]}, "annotation 1", f"{NO_CLASS_ID} id None", True),
    ({"annotations": [annotation(bbox=[1, 2, 3])]}, "annotation 1", "its bbox is [1, 2, 3], not four numbers", True),
    ({"annotations": [annotation(bbox=[1, 2, 3, "x"])]}, "annotation 1", "its bbox holds 'x', not a number", True),
    ({"annotations": [annotation(bbox=[1, 2, 0, 5])]}, "a.jpg object 1", f"{NO_SIZE}: 1 2 1 7", False),
    ({"annotations": [annotation(bbox=[1, 2, float("nan"), 5])]}, "a.jpg object 1", NO_SIZE, False),
    ({"annotations": [annotation(bbox=[31, 2, 5, 5])]}, "a.jpg object 1", f"{OUTSIDE}, 30x20 pixels: 31 2 36 7", False),
    ({"annotations": [annotation(), annotation()]}, "annotation 1", "the id occurs a second time, for the same", False),
    (
        {"annotations": [annotation(), annotation(bbox=[1, 1, 1, 1])]},
        "annotation 1",
        "the id occurs a second time, for another object: that is kept",
        False,
    ),
    ({"annotations": [annotation(segmentation=[[1, 2, 3]])]}, "annotation 1", "not three points or more", True),
    (
        {"annotations": [annotation(segmentation={"size": [20, 30], "counts": [5, 5]})]},
        "annotation 1",
        "its run lengths sum to 10, not to 20x30",
        True,
    ),
    (
        {
            "images": [{"id": 900, "file_name": "a.jpg"}],
            "annotations": [annotation(segmentation={"size": [4, 5], "counts": [4, 6, 10]})],
        },
        "a.jpg object 1",
        "the mask has 5x4 pixels, the image 30x20",
        False,
    ),
    ({"images": [{"id": 900, "file_name": "a.jpg"}] * 2}, "image 900", "the id occurs a second time, for a.jpg", True),
    ({"images": [{"id": 900, "file_name": "a.jpg"}, {"id": 1}]}, "image 1", "its file_name None", True),
    (
        {"images": [{"id": 900, "file_name": "a.jpg"}, {"id": 1, "file_name": "gone.jpg"}]},
        "image 1",
        "there is no file gone.jpg",
        True,
    ),
    (
        {"images": [{"id": 900, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg", "height": 40, "width": 60}]},
        "image 1",
        f"{OTHER_SIZE} 30x20 pixels, not 60x40 as stated: boxes would be off",
        True,
    ),
    (
        {"images": [{"id": 900, "file_name": "a.jpg", "height": 30, "width": 20}]},
        "image 900",
        f"{OTHER_SIZE} 30x20 pixels, not 20x30 as stated: read as the file is",
        False,
    ),
    ({"categories": [*CATEGORIES, {"id": 3, "name": "cow"}]}, "category 3", "the id occurs a second time", True),
]


@pytest.mark.parametrize(
    ("changes", "source", "words", "lost"), SKIPPED, ids=[f"{row[1]}: {row[2]}" for row in SKIPPED]
)
def test_what_cannot_be_used_is_recorded(
    changes: dict[str, Any], source: str, words: str, lost: bool, tmp_path: Path
) -> None:
    content = document(annotations=[annotation()]) | changes
    dataset = open_dataset(written(tmp_path, content))
    assert len(dataset.skipped) == 1
    assert dataset.skipped[0].source.endswith(source)
    assert words in dataset.skipped[0].reason
    assert dataset.skipped[0].stray != lost


def test_boxes_drawn_on_stored_pixels_are_turned_with_them(tmp_path: Path) -> None:
    """One box, stated for the pixels as stored and for the picture as shown: the same after reading."""
    box, mask = [3, 4, 10, 5], np.zeros((20, 30), dtype=bool)
    mask[4:9, 3:13] = True
    polygon = [3, 4, 13, 4, 13, 9, 3, 9]
    shapes: list[Any] = [{"size": [20, 30], "counts": list(run_lengths(mask).counts)}, [polygon]]
    category = {"id": 17, "name": "dog", "keypoints": ["a", "b"]}
    keypoints = [3, 4, 2, 0, 0, 0]  # the middle of a pixel
    for orientation in (1, 5, 6, 7, 8):
        folder = tmp_path / str(orientation)
        content = document(
            images=[{"id": 900, "file_name": "a.jpg", "height": 20, "width": 30}],
            annotations=[annotation(id=k, bbox=box, segmentation=s, keypoints=keypoints) for k, s in enumerate(shapes)],
            categories=[category],
        )
        file = written(folder, content)
        photo(folder / "a.jpg", (20, 30), orientation)
        dataset = open_dataset(file)
        assert dataset.skipped == ()
        there = upright(mask.view(np.uint8), orientation).astype(bool)
        point = np.zeros((20, 30), dtype=np.uint8)
        point[4, 3] = 1
        y, x = np.argwhere(upright(point, orientation))[0]
        rows, columns = np.flatnonzero(there.any(1)), np.flatnonzero(there.any(0))
        expected = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        truth = dataset.instances[0]
        assert truth.shapes is not None
        assert truth.keypoints is not None
        for k, shape in enumerate(truth.shapes):
            assert truth.boxes[k].tolist() == expected
            assert list(box_of(shape)) == expected
            assert truth.keypoints[k].tolist() == [[x + 0.5, y + 0.5, 2], [0, 0, 0]]
        assert isinstance(truth.shapes[0], RunLengths)
        np.testing.assert_array_equal(mask_of(truth.shapes[0]), there)


def test_run_lengths_are_those_of_pycocotools() -> None:
    generator = np.random.default_rng(0)
    masks = [generator.random((h, w)) < p for h, w, p in ((1, 1, 0.5), (37, 53, 0.5), (300, 200, 0.01), (64, 64, 0.99))]
    masks += [np.zeros((5, 7), dtype=bool), np.ones((5, 7), dtype=bool), np.ones((3000, 3000), dtype=bool)]
    for mask in masks:
        runs = run_lengths(mask)
        theirs, text = packed(mask)
        assert coco.to_text(runs) == text
        assert coco.from_text(text) == runs.counts
        np.testing.assert_array_equal(mask_of(runs), mask)
        assert area_of(runs) == reference.area(theirs)
        x, y, w, h = reference.toBbox(theirs).tolist()
        assert box_of(runs) == (x, y, x + w, y + h)


@pytest.mark.parametrize("text", ["\x00", "o", "P"])
def test_text_that_is_no_run_lengths_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"character of run lengths|middle of a run"):
        coco.from_text(text)


BROKEN = [
    ("", "is not JSON"),
    ('{"images": [], "annotations": [', "is not JSON .*truncated"),
    ("[]", "holds a list"),
    ('{"annotations": []}', "'categories' are not a list"),
    ('{"images": {}, "annotations": [], "categories": []}', "'images' are not a list"),
    ('{"images": [], "annotations": [], "categories": []}', "no image can be used. Expected a .json"),
    (
        '{"images": [{"id": 1, "file_name": "x.jpg"}], "annotations": [], "categories": []}',
        "no image can be used. labels.json image 1: there is no file x.jpg",
    ),
]


@pytest.mark.parametrize(("content", "words"), BROKEN)
def test_names_what_is_wrong(content: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words):
        coco.load(written(tmp_path, content))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
def test_pycocotools_reads_what_is_saved(tmp_path: Path) -> None:
    part = few("scenes-card", 3)
    coco.save(part, tmp_path / "out")
    theirs = COCO(str(tmp_path / "out" / "annotations" / "instances_train.json"))
    for row in range(3):
        annotation = theirs.loadAnns(theirs.getAnnIds(imgIds=[row + 1]))[0]
        truth = part.instances[row]
        assert truth.shapes is not None
        assert truth.areas is not None
        np.testing.assert_array_equal(theirs.annToMask(annotation), mask_of(truth.shapes[0]))  # pyright: ignore
        assert annotation["area"] == truth.areas[0] == theirs.annToMask(annotation).sum()
    after = open_dataset(tmp_path / "out")
    assert after.skeleton == part.skeleton
    assert after.task == "keypoints"
    assert after.instances.shapes == part.instances.shapes
    torch.testing.assert_close(after.instances.keypoints, part.instances.keypoints, atol=0, rtol=0)
    assert torch.equal(after.instances.boxes, part.instances.boxes)
