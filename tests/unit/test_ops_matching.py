"""Matching, sampling and what is set aside, by hand."""

import pytest
import torch

from striate.core.instances import Instances
from striate.ops.matching import BELOW, BETWEEN, match_by_iou, sample, set_aside, taught

OVERLAPS = torch.tensor([[0.9, 0.6, 0.45, 0.2, 0.0], [0.1, 0.7, 0.35, 0.3, 0.0]])


def test_thresholds_divide_matched_neither_and_background():
    assert match_by_iou(OVERLAPS, high=0.7, low=0.4, every_object=False).tolist() == [0, 1, BETWEEN, BELOW, BELOW]


def test_every_object_gets_its_best_anchors():
    overlaps = torch.tensor([[0.9, 0.2, 0.2], [0.1, 0.3, 0.3]])
    assert match_by_iou(overlaps, high=0.7, low=0.4, every_object=False).tolist() == [0, BELOW, BELOW]
    assert match_by_iou(overlaps, high=0.7, low=0.4, every_object=True).tolist() == [0, 1, 1]  # ties: both


def test_without_objects_all_is_background():
    assert match_by_iou(torch.empty(0, 3), high=0.5, low=0.5, every_object=True).tolist() == [BELOW] * 3
    assert match_by_iou(torch.empty(2, 0), high=0.5, low=0.5, every_object=True).tolist() == []


@pytest.mark.parametrize(
    ("inside", "outside", "expected"),
    [(100, 100, (4, 12)), (2, 100, (2, 14)), (0, 100, (0, 16)), (100, 3, (4, 3)), (0, 0, (0, 0))],
)
def test_sampling_fills_up_with_background(inside, outside, expected):
    matched = torch.cat((torch.full((5,), BETWEEN), torch.arange(inside), torch.full((outside,), BELOW)))
    positives, negatives = sample(matched, count=16, positives=0.25)
    assert (len(positives), len(negatives)) == expected
    assert (matched[positives] >= 0).all()
    assert (matched[negatives] == BELOW).all()
    assert len(set(positives.tolist())) == len(positives)


def test_sampling_follows_torchs_generator():
    matched = torch.full((1000,), BELOW)
    draws = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        draws.append(sample(matched, count=10, positives=0.5)[1].tolist())
    assert draws[0] == draws[1] != draws[2]


def test_crowds_and_ignored_objects_are_not_taught_and_set_their_anchors_aside():
    objects = Instances(
        boxes=torch.tensor([[0.0, 0, 100, 100], [200, 0, 210, 10], [0, 200, 10, 210]]),
        labels=torch.tensor([0, 1, 2]),
        crowd=torch.tensor([True, False, False]),
        ignore=torch.tensor([False, True, False]),
    )
    assert taught(objects).tolist() == [False, False, True]
    anchors = torch.tensor(
        [
            [10.0, 10, 20, 20],  # within the crowd
            [95, 0, 105, 10],  # half in it
            [96, 0, 106, 10],  # less
            [201, 0, 211, 10],  # on the ignored object, IoU 90 / 110
            [190, 0, 230, 40],  # it is within, and small
            [0, 200, 10, 210],  # on the object that is taught
        ]
    )
    assert set_aside(anchors, objects).tolist() == [True, True, False, True, False, False]


def test_without_marks_all_are_taught_and_nothing_is_aside():
    objects = Instances(boxes=torch.ones(2, 4), labels=torch.tensor([0, 1]))
    assert taught(objects).all()
    assert not set_aside(torch.tensor([[0.0, 0, 2, 2]]), objects).any()
