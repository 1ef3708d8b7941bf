"""From one format to another: what is lost is said, what is not said is there."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from striate.core.annotations import Classifications
from striate.core.instances import InstanceSets, Polygons, RunLengths, Skeleton
from striate.data.convert import convert, losses, renamed
from striate.data.dataset import Dataset, ImageArrays
from striate.data.formats import formats
from striate.data.open import open_dataset
from striate.errors import DataError, UsageError


def full() -> Dataset:
    """Three images with two, none and one object, and something of everything."""
    boxes = torch.tensor([[1.0, 1, 9, 9], [2, 2, 6, 8], [0, 0, 10, 10]])
    return Dataset(
        name="full",
        format="in memory",
        path=None,
        task="detection",
        classes=("cat", "dog", "cow"),
        ids=["a", "b", "c"],
        images=ImageArrays(np.zeros((3, 10, 12, 3), np.uint8)),
        truths=InstanceSets(
            offsets=torch.tensor([0, 2, 2, 3]),
            boxes=boxes,
            labels=torch.tensor([0, 1, 0]),
            shapes=(
                RunLengths(size=(10, 12), counts=(10, 20, 90)),
                Polygons(rings=((2, 2, 6, 2, 6, 8), (2, 2, 3, 3, 2, 3))),
                Polygons(rings=()),
            ),
            keypoints=torch.tensor([[[1.0, 1, 2], [9, 9, 1]], [[2, 2, 2], [6, 8, 2]], [[0, 0, 2], [0, 0, 0]]]),
            crowd=torch.tensor([True, False, False]),
            ignore=torch.tensor([False, True, True]),
            areas=torch.tensor([20.0, 24, 100]),
        ),
        groups={"scene": ["1", "2", "3"]},
        licence="CC0",
        skeleton=Skeleton(names=("nose", "tail"), flips=(0, 1), edges=((0, 1),)),
    )


LOST = {
    "coco": ["1 column (scene)"],
    "yolo": [
        "1 column (scene)",
        "the licence, CC0",
        "2 masks",
        "1 area",
        "1 crowd flag",
        "2 flags of objects to ignore",
        "1 line between points",
    ],
    "voc": [
        "1 class without images (cow)",
        "1 column (scene)",
        "the licence, CC0",
        "2 masks",
        "1 area",
        "1 crowd flag",
        "5 points",
        "1 mark of a hidden point",
        "1 point that is not labelled",
        "2 names of points (nose, tail)",
        "1 line between points",
    ],
    "boxes_csv": [
        "1 class without images (cow)",
        "1 column (scene)",
        "the licence, CC0",
        "2 masks",
        "1 area",
        "5 points",
        "1 mark of a hidden point",
        "1 point that is not labelled",
        "2 names of points (nose, tail)",
        "1 line between points",
    ],
}


@pytest.mark.parametrize("to", LOST)
def test_says_what_is_lost_and_saves_the_rest(to: str, tmp_path: Path) -> None:
    assert convert(full(), to, tmp_path / "out") == LOST[to]
    after = open_dataset(tmp_path / "out" / ("boxes.csv" if to == "boxes_csv" else ""))
    assert after.instances.counts.tolist() == [2, 0, 1]
    np.testing.assert_allclose(after.instances.boxes, full().instances.boxes, atol=1e-4)
    assert [after.classes[label] for label in after.instances.labels] == ["cat", "dog", "cat"]
    again = losses(after, formats()[to])
    assert again == []  # nothing that it holds now is lost a second time


def test_points_lose_boxes_and_classes(tmp_path: Path) -> None:
    whole = full()
    part = replace(
        whole,
        ids=["b", "c"],
        images=ImageArrays(np.zeros((2, 10, 12, 3), np.uint8)),
        truths=replace(whole.instances.select(torch.tensor([1, 2])), shapes=None, areas=None, crowd=None, ignore=None),
        groups={},
        licence=None,
    )
    assert convert(part, "pts", tmp_path / "out") == [
        "2 classes without images (dog, cow)",
        "3 class names (cat, dog, cow)",
        "1 point that is not labelled",
        "1 box that is not around its points",
        "2 names of points (nose, tail)",
        "1 line between points",
    ]


def test_polygons_are_kept_by_yolo_where_they_stand_for_the_boxes(tmp_path: Path) -> None:
    whole = full().instances
    rings = [(x1, y1, x2, y1, x2, y2) for x1, y1, x2, y2 in whole.boxes.tolist()]
    truths = InstanceSets(
        offsets=whole.offsets,
        boxes=whole.boxes,
        labels=whole.labels,
        shapes=tuple(Polygons(rings=(ring,)) for ring in rings),
        areas=torch.tensor([32.0, 12, 50]),
    )
    data = replace(full(), truths=truths, skeleton=None, groups={}, licence=None)
    assert convert(data, "yolo", tmp_path / "out") == []
    after = open_dataset(tmp_path / "out").instances
    assert after.shapes is not None
    for shape, ring in zip(after.shapes, rings, strict=True):
        assert isinstance(shape, Polygons)
        np.testing.assert_allclose(shape.rings[0], ring, atol=1e-4)


def test_a_format_of_another_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"say what is where, which folder of classes does not hold. These do: boxes_csv,"
    ):
        convert(full(), "folder", tmp_path / "out")
    classified = replace(full(), truths=Classifications(labels=torch.tensor([0, 1, 0])), task="classification")
    with pytest.raises(
        DataError, match=r"are classes of whole images, which YOLO does not hold. These do: cifar, folder"
    ):
        convert(classified, "yolo", tmp_path / "out")
    assert convert(replace(classified, skeleton=None), "folder", tmp_path / "out") == [
        "1 class without images (cow)",
        "1 column (scene)",
        "the licence, CC0",
    ]
    with pytest.raises(UsageError, match=r"'coc' is no format. Did you mean 'coco'"):
        convert(full(), "coc", tmp_path / "out")


def test_classes_are_renamed_joined_and_dropped() -> None:
    joined = renamed(full(), {"cat": "animal", "cow": "animal"})
    assert joined.classes == ("animal", "dog")
    assert joined.truths.labels.tolist() == [0, 1, 0]
    fewer = renamed(full(), {"cat": None})
    assert fewer.classes == ("dog", "cow")
    assert fewer.truths.labels.tolist() == [0]
    assert fewer.instances.counts.tolist() == [1, 0, 0]
    with pytest.raises(UsageError, match=r"has no class 'cta'. Did you mean 'cat'"):
        renamed(full(), {"cta": "x"})
    classified = replace(full(), truths=Classifications(labels=torch.tensor([0, 1, 2])))
    assert renamed(classified, {"cow": "cat"}).truths.labels.tolist() == [0, 1, 0]
    with pytest.raises(UsageError, match="would have none"):
        renamed(classified, {"cow": None})
