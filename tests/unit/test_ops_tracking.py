import math

import numpy as np
import pytest
import torch
from scipy.linalg import solve_discrete_are

from striate.core.instances import Instances
from striate.ops.tracking import Motion, Tracker, begun, corrected, moved


def objects(boxes: np.ndarray | list[list[float]], labels: list[int] | None = None) -> Instances:
    rows = torch.as_tensor(np.asarray(boxes), dtype=torch.float32).reshape(-1, 4)
    return Instances(
        boxes=rows,
        labels=torch.zeros(len(rows), dtype=torch.int64) if labels is None else torch.tensor(labels),
        scores=torch.ones(len(rows)),
    )


TRANSITION, MEASURED = np.eye(7), np.eye(4, 7)
TRANSITION[0, 4] = TRANSITION[1, 5] = TRANSITION[2, 6] = 1


def noises(size: float, ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """Q and R as the module's text has them: shares of the area's root, twice that for areas, shares of the ratio."""
    root = math.sqrt(size)
    moving = [root / 20, root / 20, size / 10, ratio / 100, root / 160, root / 160, size / 80]
    measuring = [root / 20, root / 20, size / 10, ratio / 10]
    return np.diag(np.square(moving)), np.diag(np.square(measuring))


def test_a_step_is_that_of_the_textbook():
    motion = begun(torch.tensor([[10.0, 20, 50, 40], [0, 0, 10, 30]]))
    means, covariances = [m.copy() for m in motion.mean.numpy()], [c.copy() for c in motion.covariance.numpy()]
    np.testing.assert_allclose(means[0], [30, 30, 800, 2, 0, 0, 0])
    rng = np.random.default_rng(0)
    for _ in range(5):
        boxes = np.array([[10.0, 20, 50, 40], [0, 0, 10, 30]]) + rng.normal(0, 2, (2, 4)).round(3)
        motion = corrected(moved(motion), torch.from_numpy(boxes))
        for row, (x1, y1, x2, y2) in enumerate(boxes):
            process, _ = noises(means[row][2], means[row][3])
            mean = TRANSITION @ means[row]
            covariance = TRANSITION @ covariances[row] @ TRANSITION.T + process
            _, measuring = noises(mean[2], mean[3])
            seen = np.array([(x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1) * (y2 - y1), (x2 - x1) / (y2 - y1)])
            gain = covariance @ MEASURED.T @ np.linalg.inv(MEASURED @ covariance @ MEASURED.T + measuring)
            means[row] = mean + gain @ (seen - MEASURED @ mean)
            rest = np.eye(7) - gain @ MEASURED
            # Joseph's form: another way to the same covariance
            covariances[row] = rest @ covariance @ rest.T + gain @ measuring @ gain.T
        np.testing.assert_allclose(motion.mean.numpy(), means, rtol=1e-9)
        np.testing.assert_allclose(motion.covariance.numpy(), covariances, rtol=1e-7, atol=1e-9)


def test_the_covariance_settles_where_the_riccati_equation_says():
    box = torch.tensor([[100.0, 100, 140, 120]])
    motion = begun(box)
    for _ in range(400):
        motion = moved(corrected(motion, box))
    process, measuring = noises(800, 2)
    settled = solve_discrete_are(TRANSITION.T, MEASURED.T, process, measuring)
    np.testing.assert_allclose(motion.covariance[0].numpy(), settled, rtol=1e-5, atol=1e-9)


def test_velocity_is_learnt_and_carried_on():
    motion = begun(torch.tensor([[0.0, 0, 40, 20]]))
    for frame in range(1, 60):
        shift = 3.0 * frame
        motion = corrected(moved(motion), torch.tensor([[shift, 0, 40 + shift, 20]]))
    assert motion.mean[0, 4].item() == pytest.approx(3, abs=0.01)
    for _ in range(10):
        motion = moved(motion)
    np.testing.assert_allclose(motion.boxes, [[207, 0, 247, 20]], atol=0.5)


def test_a_shrinking_object_never_vanishes():
    mean = torch.tensor([[50.0, 50, 4, 1, 0, 0, -3]], dtype=torch.float64)
    motion = Motion(mean=mean, covariance=torch.eye(7, dtype=torch.float64)[None])
    for _ in range(20):
        motion = moved(motion)
        assert (motion.mean[:, 2] > 0).all()
        assert motion.boxes.isfinite().all()


def paths(count: int, frames: int, seed: int) -> np.ndarray:
    """(frames, count, 4): boxes on straight lines at different heights, half of them against the others."""
    rng = np.random.default_rng(seed)
    steps = np.arange(frames)[:, None]
    speed = rng.uniform(2, 6, count) * np.where(np.arange(count) % 2, 1, -1)
    x = np.where(speed > 0, 0, 400) + speed * steps
    y = 60.0 * np.arange(count) + 5 * np.sin(steps / 9)
    sizes = rng.uniform(30, 50, (count, 2))
    return np.stack((x, y, x + sizes[:, 0], y + sizes[:, 1]), axis=2)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_no_identity_is_switched(seed: int, missing: float):
    boxes = paths(6, 60, seed)
    rng = np.random.default_rng(seed + 100)
    tracker = Tracker()
    ids: list[set[int]] = [set() for _ in range(6)]
    for frame, truth in enumerate(boxes):
        there = np.flatnonzero(rng.random(6) >= missing) if frame > 3 else np.arange(6)
        order = rng.permutation(there)
        shaken = truth[order] + rng.normal(0, 1, (len(order), 4))
        found = tracker.update(objects(shaken))
        assert len(found.ids) == len(order)
        for number, box in zip(found.ids.tolist(), found.objects.boxes.numpy(), strict=True):
            (owner,) = [i for i, row in zip(order, shaken, strict=True) if np.allclose(row, box, atol=1e-3)]
            ids[owner].add(number)
    assert sorted(next(iter(own)) for own in ids if len(own) == 1) == [1, 2, 3, 4, 5, 6]


def test_two_that_cross_keep_their_numbers():
    tracker = Tracker()
    numbers: list[list[int]] = []
    for frame in range(40):  # they pass each other at different heights, overlapping on the way
        x = 6.0 * frame
        found = tracker.update(objects([[x, 0, x + 40, 40], [240 - x, 24, 280 - x, 64]]))
        numbers.append(found.ids.tolist())
    assert numbers == [[1, 2]] * 40


def test_births_wait_for_min_hits_and_deaths_for_max_age():
    box = [[10.0, 10, 30, 30]]
    tracker = Tracker(min_hits=3, max_age=2)
    for _ in range(4):
        assert tracker.update(objects([])).ids.tolist() == []
    assert [tracker.update(objects(box)).ids.tolist() for _ in range(4)] == [[], [], [1], [1]]
    for _ in range(2):
        tracker.update(objects([]))
    assert tracker.update(objects(box)).ids.tolist() == [1]
    for _ in range(3):
        tracker.update(objects([]))
    assert [tracker.update(objects(box)).ids.tolist() for _ in range(3)] == [[], [], [2]]


def test_a_gap_ends_a_probation_and_the_first_frames_have_none():
    box = [[10.0, 10, 30, 30]]
    tracker = Tracker()
    assert tracker.update(objects(box)).ids.tolist() == [1]
    tracker = Tracker(min_hits=2)
    for some in ([], [], box, [], box):
        assert tracker.update(objects(some)).ids.tolist() == []
    assert tracker.update(objects(box)).ids.tolist() == [1]


def test_classes_are_followed_apart_unless_told_otherwise():
    box = [[10.0, 10, 30, 30]]
    for per_class, expected in ((True, [[1], [2]]), (False, [[1], [1]])):
        tracker = Tracker(per_class=per_class)
        assert [tracker.update(objects(box, [label])).ids.tolist() for label in (0, 1)] == expected


def test_boxes_that_cannot_be_followed_are_left_out():
    nan = math.nan
    found = Tracker().update(objects([[5, 5, 5, 9], [nan, 0, 1, 1], [0, 0, 10, 10], [9, 9, 3, 3]]))
    assert found.objects.boxes.tolist() == [[0, 0, 10, 10]]
    assert found.ids.tolist() == [1]
