"""`scenes` and its variants: the pictures are always the same, and what is said of them is true."""

import hashlib
from functools import cache

import numpy as np
import pytest
import torch

from striate.core.instances import InstanceSets, RunLengths
from striate.data.dataset import Dataset
from striate.data.known import load
from striate.data.samples import digits, scenes
from striate.data.samples.painting import THRESHOLD, glyphs, uniform
from striate.data.shapes import mask_of

NAMES = ("scenes", "scenes-one", "scenes-card")


@cache
def opened(name: str) -> tuple[Dataset, InstanceSets]:
    dataset = load(name)
    assert isinstance(dataset.truths, InstanceSets)
    return dataset, dataset.truths


def masks(truths: InstanceSets, image: int) -> list[np.ndarray]:
    return [mask_of(shape) for shape in truths[image].shapes or () if isinstance(shape, RunLengths)]


def test_random_numbers_are_those_of_splitmix64() -> None:
    """Its first three numbers from the state 0, as implementations elsewhere test themselves with."""
    published = (0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F)
    assert uniform(0, 0, 4)[1:].tolist() == [(number >> 11) / 2**53 for number in published]
    assert uniform(3, 5, 3).tolist() == uniform(3, np.array([4, 5]), 4)[1, :3].tolist()
    many = uniform(7, np.arange(100), 1000)
    assert 0 <= many.min() < 1e-4
    assert 1 - 1e-4 < many.max() < 1
    assert abs(many.mean() - 0.5) < 4 / np.sqrt(12 * many.size)  # four standard deviations
    assert len(np.unique(many)) == many.size


@pytest.mark.parametrize("name", NAMES)
def test_it_is_what_it_says(name: str) -> None:
    dataset, truths = opened(name)
    assert {split: len(rows) for split, rows in dataset.splits.items()} == {"train": 2000, "val": 250, "test": 250}
    assert len(dataset) == len(truths) == len(dataset.images) == 2500
    assert dataset.name == name
    assert dataset.task == {"scenes": "detection", "scenes-one": "localization", "scenes-card": "keypoints"}[name]
    assert dataset.licence == digits.LICENCE
    for image in (0, 2249, 2499):
        pixels = dataset.images.read(image)
        assert (pixels.shape, pixels.dtype) == ((128, 128, 3), np.uint8)
        np.testing.assert_array_equal(pixels, dataset.images.read(image))
    assert truths.boxes.dtype == torch.float32
    assert (truths.boxes[:, :2] >= 0).all()
    assert (truths.boxes[:, 2:] <= 128).all()
    assert (truths.boxes[:, 2:] > truths.boxes[:, :2]).all()
    counts = truths.counts
    if name == "scenes":
        assert counts.bincount().min() > 100  # 0 to 8, and many images of each
        assert len(counts.bincount()) == 9
        assert truths.labels.bincount().min() > 900
    else:
        assert (counts == 1).all()


GOLDEN = {
    # of the pixels of the first and the last image of each split and of all boxes, areas and points
    "scenes": "f6e38532ffb8390d",
    "scenes-one": "1fda12ac0d5bbb1b",
    "scenes-card": "591e6e2f1c78c7fb",
}


@pytest.mark.parametrize("name", NAMES)
def test_it_is_the_same_everywhere(name: str) -> None:
    dataset, truths = opened(name)
    total = hashlib.sha256()
    for row in (0, 1999, 2000, 2249, 2250, 2499):
        total.update(dataset.images.read(row).tobytes())
    for column in (truths.boxes, truths.areas, truths.keypoints):
        total.update(b"" if column is None else column.numpy().tobytes())
    assert total.hexdigest()[:16] == GOLDEN[name]


@pytest.mark.parametrize("name", NAMES)
def test_boxes_masks_and_areas_belong_together(name: str) -> None:
    _, truths = opened(name)
    for image in range(0, 2500, 50):
        together = np.zeros((128, 128), dtype=np.int64)
        truth = truths[image]
        assert truth.areas is not None
        for mask, box, area in zip(masks(truths, image), truth.boxes.tolist(), truth.areas.tolist(), strict=True):
            x1, y1, x2, y2 = map(int, box)
            assert mask.sum() == area > 0
            assert mask[y1:y2, x1:x2].sum() == area  # nothing of it lies outside of its box
            together += mask
        assert together.max(initial=0) <= 1  # a pixel shows one object
        if len(truth) == 1 and name != "scenes-card":  # nothing hides it: the box is tight
            y, x = np.nonzero(masks(truths, image)[0])
            assert truth.boxes[0].tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]


def test_objects_are_where_the_pixels_differ_from_the_background() -> None:
    """The same picture without its digits differs on the masks, and nowhere else."""
    dataset, truths = opened("scenes")
    drawings = dataset.images
    assert isinstance(drawings, scenes.Drawings)
    bare = scenes.Drawings(seed=drawings.seed, rows=drawings.rows, things=[()] * len(drawings))
    for image in range(0, 2500, 100):
        found = np.abs(drawings.read(image).astype(int) - bare.read(image)).max(axis=2)
        objects = np.any([np.zeros((128, 128), dtype=bool), *masks(truths, image)], axis=0)
        assert (found[~objects] == 0).all()
        if objects.any():
            assert np.median(found[objects]) > 90  # they can be seen


def test_little_of_a_digit_is_hidden() -> None:
    dataset, truths = opened("scenes")
    assert isinstance(dataset.images, scenes.Drawings)
    whole = [(thing.coverage > 0).sum() for things in dataset.images.things for thing in things]
    assert truths.areas is not None
    shares = truths.areas.numpy() / np.array(whole)
    assert shares.min() >= 1 - scenes.HIDDEN
    assert (shares < 1).mean() > 0.1  # but some is
    sides = (truths.boxes[:, 2:] - truths.boxes[:, :2]).max(dim=1).values
    assert sides.min() < 16
    assert sides.max() > 62


def test_splits_share_no_digit() -> None:
    source = digits.load()
    parts = {split: scenes.digits_of(source, split)[0] for split in scenes.IMAGES}
    assert {split: len(part) for split, part in parts.items()} == {"train": 5400, "val": 600, "test": 1000}
    seen = {split: {digit.tobytes() for digit in part} for split, part in parts.items()}
    assert not seen["train"] & seen["val"]
    assert not seen["train"] & seen["test"]
    assert not seen["val"] & seen["test"]


def test_a_digit_that_is_not_turned_and_keeps_its_size_keeps_its_pixels() -> None:
    source = scenes.digits_of(digits.load(), "test")[0][:50]
    for digit, coverage in zip(source, glyphs(source, np.full(50, 20), np.zeros(50)), strict=True):
        kept = np.where(digit >= THRESHOLD, digit, 0)
        rows, columns = np.flatnonzero(kept.any(1)), np.flatnonzero(kept.any(0))
        np.testing.assert_array_equal(coverage, kept[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def test_cards_have_their_corners_in_order() -> None:
    dataset, truths = opened("scenes-card")
    assert dataset.classes == ("card",)
    assert dataset.skeleton == scenes.CORNERS
    points = truths.keypoints
    assert points is not None
    corners = points[:, :, :2]
    assert ((corners > 0) & (corners < 128)).all()
    top, right = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 1]
    np.testing.assert_allclose(corners[:, 3] - corners[:, 0], right, atol=1e-4)  # a parallelogram
    np.testing.assert_allclose((top * right).sum(1), 0, atol=0.01, rtol=0)  # with right angles
    assert (top[:, 0] * right[:, 1] - top[:, 1] * right[:, 0] > 0).all()  # clockwise, as the picture is seen
    np.testing.assert_allclose(right.norm(dim=1), top.norm(dim=1) * 7 / 5, atol=1, rtol=0)  # whole pixels
    low, high = corners.amin(1), corners.amax(1)
    np.testing.assert_allclose(truths.boxes, torch.cat((low, high), 1), atol=1.5, rtol=0)
    angle = torch.atan2(top[:, 1], top[:, 0])
    assert torch.histc(angle, 8, -torch.pi, torch.pi).min() > 200  # any way up
    seen = points[:, :, 2]
    assert set(seen.unique().tolist()) == {1, 2}
    assert 0.02 < (seen == 1).float().mean() < 0.3
    assert isinstance(dataset.images, scenes.Drawings)
    for image in range(0, 2500, 20):
        things = dataset.images.things[image]
        mask = masks(truths, image)[0]
        middle = corners[image].mean(0)
        inner = (corners[image] + 3 * (middle - corners[image]) / (middle - corners[image]).norm(dim=1)[:, None]).int()
        if len(things) == 1:
            assert all(mask[y, x] for x, y in inner.tolist())  # three pixels in from its corner a card is to be seen
            assert (seen[image] == 2).all()


def test_mirrored_corners_keep_their_meaning() -> None:
    names = scenes.CORNERS.names
    assert [names[flip] for flip in scenes.CORNERS.flips] == ["top_right", "top_left", "bottom_left", "bottom_right"]
