"""Objects in columns: one image's, many images', and both in other coordinates."""

import pytest
import torch

from striate.core.batch import Batch
from striate.core.instances import Instances, InstanceSets, Polygons

FIRST = Instances(
    boxes=torch.tensor([[0.0, 0, 10, 20], [5, 5, 15, 25]]),
    labels=torch.tensor([1, 0]),
    shapes=(Polygons(rings=((0, 0, 10, 0, 10, 20),)), Polygons(rings=((5, 5, 15, 5, 15, 25),))),
    keypoints=torch.tensor([[[1.0, 2, 2]], [[3, 4, 0]]]),
    areas=torch.tensor([200.0, 100]),
)
NOTHING = Instances(boxes=torch.empty(0, 4), labels=torch.empty(0, dtype=torch.int64))
LAST = Instances(
    boxes=torch.tensor([[1.0, 2, 3, 4]]),
    labels=torch.tensor([2]),
    shapes=(Polygons(rings=((1, 2, 3, 2, 3, 4),)),),
    keypoints=torch.tensor([[[2.0, 3, 1]]]),
    areas=torch.tensor([4.0]),
    crowd=torch.tensor([True]),
)


def _same(one, other):
    assert torch.equal(one.boxes, other.boxes)
    assert torch.equal(one.labels, other.labels)
    assert one.shapes == other.shapes or not len(one)
    assert (one.areas is None) == (other.areas is None) or not len(one)


@pytest.fixture
def sets():
    return InstanceSets.of([FIRST, NOTHING, LAST])


def test_packed_images_come_out_as_they_went_in(sets):
    assert len(sets) == 3
    assert sets.counts.tolist() == [2, 0, 1]
    assert sets.images.tolist() == [0, 0, 2]
    for found, image in zip(sets, [FIRST, NOTHING, LAST], strict=True):
        _same(found, image)
    _same(sets[-1], LAST)
    with pytest.raises(IndexError):
        sets[3]


def test_a_crowd_in_one_image_stays_a_crowd_beside_images_without(sets):
    assert sets.crowd.tolist() == [False, False, True]
    assert sets.ignore is None
    assert InstanceSets.concatenate([InstanceSets.of([FIRST]), sets]).crowd.tolist() == [False] * 4 + [True]


def test_a_column_that_an_image_lacks_is_no_column():
    bare = Instances(boxes=torch.ones(1, 4), labels=torch.tensor([0]))
    assert InstanceSets.of([FIRST, bare]).areas is None
    assert InstanceSets.of([FIRST, NOTHING]).areas.tolist() == [200, 100]  # an image without objects lacks nothing


def test_no_images_and_no_objects():
    none = InstanceSets.of([])
    assert (len(none), none.boxes.shape, list(none)) == (0, (0, 4), [])
    empty = InstanceSets.of([NOTHING, NOTHING])
    assert (len(empty), len(empty.boxes), empty.counts.tolist()) == (2, 0, [0, 0])


@pytest.mark.parametrize(
    "chosen", [torch.tensor([2, 0, 0]), torch.tensor([1]), torch.tensor([], dtype=torch.int64), slice(1, 3)]
)
def test_selecting_images(sets, chosen):
    expected = torch.arange(3)[chosen].tolist()
    found = sets.select(chosen)
    assert len(found) == len(expected)
    for image, place in zip(found, expected, strict=True):
        _same(image, sets[place])


@pytest.mark.parametrize("rows", [torch.tensor([1, 0]), torch.tensor([False, True]), slice(0, 1)])
def test_selecting_objects(rows):
    found = FIRST.select(rows)
    assert torch.equal(found.boxes, FIRST.boxes[rows])
    numbers = torch.arange(2)[rows].tolist()
    assert found.shapes == tuple(FIRST.shapes[number] for number in numbers)
    assert torch.equal(found.keypoints, FIRST.keypoints[rows])


def test_keeping_some_objects_keeps_all_images(sets):
    found = sets.keep(torch.tensor([False, True, False]))
    assert found.counts.tolist() == [1, 0, 0]
    assert torch.equal(found.boxes, FIRST.boxes[1:])
    assert found.shapes == FIRST.shapes[1:]


def test_placed_and_restored_are_each_others_inverse_within_the_image(sets):
    # Twice as wide, half as high, moved by 3 and 4, by image.
    placement = torch.tensor([[2.0, 0.5, 3, 4], [1, 1, 0, 0], [1, 1, 10, 0]])
    there = sets.placed(placement)
    assert there.boxes.tolist() == [[3, 4, 23, 14], [13, 6.5, 33, 16.5], [11, 2, 13, 4]]
    assert there.keypoints.tolist() == [[[5, 5, 2]], [[9, 6, 0]], [[12, 3, 1]]]  # visibility is no coordinate
    assert torch.equal(there.areas, sets.areas)  # of the original image
    back = there.restored(placement, torch.tensor([[100, 100], [9, 9], [100, 100]]))
    torch.testing.assert_close(back.boxes, sets.boxes)
    torch.testing.assert_close(back.keypoints, sets.keypoints)
    cut = there.restored(placement, torch.tensor([[12, 8], [9, 9], [3, 2]]))  # height, width
    torch.testing.assert_close(cut.boxes, torch.tensor([[0.0, 0, 8, 12], [5, 5, 8, 12], [1, 2, 2, 3]]))


def test_a_batch_restores_its_predictions_and_knows_its_padding(sets):
    batch = Batch(
        images=torch.zeros(3, 3, 40, 60),
        sizes=torch.tensor([[20, 30], [40, 30], [10, 10]]),
        truths=sets,
        indices=torch.arange(3),
        placement=torch.tensor([[2.0, 2, 0, 0], [1, 1, 0, 0], [3, 3, 0, 0]]),
    )
    assert batch.content.tolist() == [[40, 60], [40, 30], [30, 30]]
    torch.testing.assert_close(batch.restored(sets).boxes[0], torch.tensor([0.0, 0, 5, 10]))
    half = batch.select(slice(1, 3))
    assert len(half) == len(half.instances) == 2
    assert half.placement.tolist() == batch.placement[1:].tolist()
