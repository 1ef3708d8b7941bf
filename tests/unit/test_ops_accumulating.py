"""Merging of many windows' boxes into one per object."""

import torch

from striate.ops.accumulating import accumulate


def test_boxes_that_agree_become_their_weighted_mean() -> None:
    boxes = torch.tensor([[10.0, 10, 50, 50], [14.0, 10, 54, 50], [200.0, 200, 240, 240]])
    found = accumulate(boxes, torch.tensor([0.6, 0.2, 0.4]), torch.tensor([1, 1, 1]))
    torch.testing.assert_close(found.boxes, torch.tensor([[11.0, 10, 51, 50], [200.0, 200, 240, 240]]))
    assert found.scores is not None
    torch.testing.assert_close(found.scores, torch.tensor([0.8 / 1.2, 0.4 / 1.2]))


def test_many_weak_windows_outvote_one_that_is_sure() -> None:
    weak = torch.tensor([[10.0, 10, 50, 50]]).repeat(5, 1) + torch.arange(5.0)[:, None]
    boxes = torch.cat((torch.tensor([[100.0, 100, 140, 140]]), weak))
    found = accumulate(boxes, torch.tensor([0.9, 0.3, 0.3, 0.3, 0.3, 0.3]), torch.zeros(6, dtype=torch.int64))
    assert len(found) == 2
    assert float(found.boxes[0, 0]) < 20


def test_classes_are_merged_apart() -> None:
    boxes = torch.tensor([[10.0, 10, 50, 50], [10.0, 10, 50, 50]])
    found = accumulate(boxes, torch.tensor([0.4, 0.6]), torch.tensor([3, 7]))
    assert found.labels.tolist() == [7, 3]


def test_nothing_becomes_nothing() -> None:
    found = accumulate(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    assert found.boxes.shape == (0, 4)
    assert len(found) == 0
