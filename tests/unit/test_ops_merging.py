import pytest
import torch

from striate.core.instances import Instances
from striate.errors import UsageError
from striate.ops.merging import Window, fuse, join_windows, mirrored, rescaled, suppress, windows


def objects(boxes: list[list[float]], labels: list[int], scores: list[float], **columns: torch.Tensor) -> Instances:
    return Instances(
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor(labels, dtype=torch.int64),
        scores=torch.tensor(scores),
        **columns,
    )


@pytest.mark.parametrize(
    ("length", "tile", "overlap", "starts"),
    [
        (1000, 640, 0.2, [0, 360]),
        (1152, 640, 0.2, [0, 512]),  # the second one ends with the image anyway
        (1153, 640, 0.2, [0, 512, 513]),
        (640, 640, 0.2, [0]),
        (300, 640, 0.2, [0]),
        (10, 4, 0.0, [0, 4, 6]),
        (5, 2, 0.99, [0, 1, 2, 3]),
    ],
)
def test_windows_begin_a_step_apart_and_the_last_ends_with_the_image(length, tile, overlap, starts):
    places = windows((length, 7), tile, overlap)
    assert [place.y1 for place in places[:: len(places) // len(starts)]] == starts
    assert max(place.y2 for place in places) == length
    seen = torch.zeros(length, 7)
    for place in places:
        seen[place.rows, place.columns] += 1
        assert place.y2 - place.y1 == min(tile, length)
    assert (seen > 0).all()


@pytest.mark.parametrize(("tile", "overlap"), [(0, 0.2), (640, 1.0), (640, -0.1), (640, float("nan"))])
def test_windows_that_cannot_be_cut_are_refused(tile: int, overlap: float):
    with pytest.raises(UsageError, match="cannot be cut"):
        windows((100, 100), tile, overlap)


LEFT, RIGHT = Window(x1=0, y1=0, x2=100, y2=100), Window(x1=80, y1=0, x2=180, y2=100)
SIZE = (100, 180)


def joined(left: Instances, right: Instances) -> list[list[float]]:
    return join_windows([left, right], [LEFT, RIGHT], SIZE).boxes.tolist()


def test_the_two_halves_of_an_object_become_one():
    # 30 to 150 in the image: cut in both windows.
    found = join_windows(
        [objects([[30, 10, 100, 50]], [3], [0.6]), objects([[0, 12, 70, 52]], [3], [0.9])], [LEFT, RIGHT], SIZE
    )
    assert found.boxes.tolist() == [[30, 10, 150, 52]]
    assert found.scores is not None
    assert found.scores.tolist() == pytest.approx([0.9])
    assert found.labels.tolist() == [3]


def test_a_whole_box_beats_a_cut_one_that_is_more_confident():
    left, right = objects([[85, 10, 100, 50]], [0], [0.9]), objects([[5, 10, 40, 50]], [0], [0.6])
    assert joined(left, right) == [[85, 10, 120, 50]]


def test_a_whole_object_that_both_see_is_one():
    left, right = objects([[84, 10, 96, 50]], [0], [0.9]), objects([[4, 11, 16, 50]], [0], [0.6])
    assert joined(left, right) == [[84, 10, 96, 50]]


def test_neighbours_and_other_classes_stay_apart():
    left, right = objects([[60, 10, 100, 30]], [0], [0.9]), objects([[0, 40, 40, 60]], [0], [0.6])
    assert joined(left, right) == [[60, 10, 100, 30], [80, 40, 120, 60]]  # both cut, one over the other
    right = objects([[0, 10, 40, 30]], [1], [0.6])
    assert len(joined(left, right)) == 2


def test_a_small_object_inside_of_a_cut_large_one_stays():
    left = objects([[20, 0, 100, 90], [84, 40, 94, 50]], [0, 0], [0.9, 0.8])
    right = objects([[0, 0, 60, 90], [4, 40, 14, 50]], [0, 0], [0.7, 0.6])
    assert joined(left, right) == [[20, 0, 140, 90], [84, 40, 94, 50]]


def test_the_whole_image_mends_what_no_window_sees_whole():
    places = [LEFT, RIGHT, Window(x1=0, y1=0, x2=180, y2=100)]
    parts = [
        objects([[10, 5, 100, 95]], [0], [0.9]),
        objects([[0, 5, 90, 95]], [0], [0.9]),
        objects([[11, 5, 169, 95]], [0], [0.5]),
    ]
    found = join_windows(parts, places, SIZE)
    assert found.boxes.tolist() == [[11, 5, 169, 95]]
    assert found.scores is not None
    assert found.scores.tolist() == pytest.approx([0.9])


def test_keypoints_move_with_their_box():
    points = torch.tensor([[[5.0, 6, 2]]])
    empty = objects([], [], [])
    found = join_windows([empty, objects([[4, 4, 9, 9]], [0], [0.5], keypoints=points)], [LEFT, RIGHT], SIZE)
    assert found.keypoints is not None
    assert found.keypoints.tolist() == [[[85, 6, 2]]]
    assert len(join_windows([empty, empty], [LEFT, RIGHT], SIZE)) == 0


def test_fusion_by_hand():
    # Solovyev et al. 2021, section 3, with three views of which two have seen the first object.
    views = [
        objects([[0, 0, 10, 10], [50, 50, 60, 60]], [0, 0], [0.8, 0.3]),
        objects([[1, 0, 11, 10]], [0], [0.4]),
        objects([[0, 0, 10, 10]], [1], [0.5]),
    ]
    found = fuse(views)
    assert found.scores is not None
    assert found.labels.tolist() == [0, 1, 0]
    assert found.boxes[0].tolist() == pytest.approx([1 / 3, 0, 31 / 3, 10])
    assert found.scores.tolist() == pytest.approx([0.6 * 2 / 3, 0.5 / 3, 0.3 / 3])


def test_fusing_nothing():
    empty = objects([], [], [])
    assert len(fuse([empty, empty])) == 0
    assert len(suppress([empty])) == 0
    assert len(fuse([objects([[5, 5, 5, 5]], [0], [0.4])])) == 0  # no box at all, as in ensemble-boxes


def test_suppression_keeps_the_best_as_it_is():
    views = [objects([[0, 0, 10, 10]], [0], [0.4]), objects([[1, 0, 11, 10], [0, 0, 10, 10]], [0, 1], [0.8, 0.1])]
    found = suppress(views)
    assert found.boxes.tolist() == [[1, 0, 11, 10], [0, 0, 10, 10]]


def test_mirrored_twice_is_the_same_and_left_becomes_right():
    points = torch.tensor([[[2.0, 3, 2], [4, 5, 1]]])
    one = objects([[1, 2, 6, 8]], [0], [0.5], keypoints=points)
    mirror = mirrored(one, 20, (1, 0))
    assert mirror.boxes.tolist() == [[14, 2, 19, 8]]
    assert mirror.keypoints is not None
    assert mirror.keypoints.tolist() == [[[16, 5, 1], [18, 3, 2]]]
    again = mirrored(mirror, 20, (1, 0))
    assert again.keypoints is not None
    assert torch.equal(again.boxes, one.boxes)
    assert torch.equal(again.keypoints, points)
    small = rescaled(one, (0.5, 2.0))
    assert small.boxes.tolist() == [[2, 1, 12, 4]]
    assert small.keypoints is not None
    assert small.keypoints.tolist() == [[[4, 1.5, 2], [8, 2.5, 1]]]
