import torch

from striate.core.instances import Instances
from striate.ops.pairing import pair


def objects(boxes: list[list[float]], labels: list[int], scores: list[float] | None = None, **marks: list[bool]):
    return Instances(
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor(labels, dtype=torch.int64),
        scores=None if scores is None else torch.tensor(scores),
        **{name: torch.tensor(column) for name, column in marks.items()},
    )


ONE, OTHER, FAR = [0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 30.0, 10.0], [50.0, 50.0, 60.0, 60.0]
NEAR = [1.0, 0.0, 11.0, 10.0]  # IoU 9 / 11 with ONE


def test_the_most_confident_gets_the_object_and_a_second_one_is_a_false_alarm():
    found = pair(objects([ONE, NEAR, FAR], [0, 0, 0], [0.5, 0.9, 0.8]), objects([ONE, OTHER], [0, 0]))
    assert found.tolist() == [-1, 0, -1]


def test_the_right_class_comes_before_a_wrong_one():
    found = pair(objects([ONE, NEAR], [1, 0], [0.9, 0.3]), objects([ONE], [0]))
    assert found.tolist() == [-1, 0]
    assert pair(objects([ONE], [1], [0.9]), objects([ONE], [0])).tolist() == [0]


def test_the_threshold_holds():
    true = objects([ONE], [0])
    assert pair(objects([NEAR], [0], [1.0]), true, threshold=0.81).tolist() == [0]
    assert pair(objects([NEAR], [0], [1.0]), true, threshold=0.82).tolist() == [-1]


def test_crowds_and_ignored_objects_take_any_number_of_what_is_left():
    true = objects([[0, 0, 100, 100], OTHER, ONE], [0, 1, 0], crowd=[True, False, False], ignore=[False, True, False])
    predicted = objects([ONE, FAR, FAR, FAR, OTHER, OTHER], [0, 0, 0, 1, 1, 1], [0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    assert pair(predicted, true).tolist() == [2, 0, 0, -1, 1, 1]


def test_nothing_pairs_with_nothing():
    empty = objects([], [])
    assert pair(empty, objects([ONE], [0])).tolist() == []
    assert pair(objects([ONE], [0], [1.0]), empty).tolist() == [-1]
