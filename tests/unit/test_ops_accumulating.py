"""Merging of many windows' boxes into one per object."""

from typing import Any

import pytest
import torch
from torch import Tensor

from striate.ops import accumulating
from striate.ops.accumulating import accumulate
from striate.ops.boxes import iou


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


def plainly(boxes: Tensor, scores: Tensor, apart: float) -> list[tuple[list[float], float]]:
    """As the paper says it: of all pairs the one that matches best, over and over; cubic."""
    left = [(box, float(score)) for box, score in zip(boxes.double(), scores.double(), strict=True)]
    while True:
        best: tuple[float, int, int] | None = None
        for i in range(len(left)):
            for j in range(i + 1, len(left)):
                one, other = left[i][0], left[j][0]
                away = ((one[:2] + one[2:] - other[:2] - other[2:]) / 2).norm()
                mean = ((one[2:] - one[:2]).norm() + (other[2:] - other[:2]).norm()) / 2
                worse = float(away / mean + 1 - iou(one[None], other[None])[0, 0])
                if worse <= apart and (best is None or worse < best[0]):
                    best = worse, i, j
        if best is None:
            return [(box.tolist(), score) for box, score in left]
        (one, mine), (other, yours) = left[best[1]], left[best[2]]
        left = [row for k, row in enumerate(left) if k not in best[1:]]
        left.append(((one * mine + other * yours) / (mine + yours), mine + yours))


@pytest.mark.parametrize("seed", range(4))
def test_the_pairs_that_match_best_are_merged_first(seed: int) -> None:
    torch.manual_seed(seed)
    corner = torch.rand(16, 2) * 20
    boxes = torch.cat((corner, corner + 20 + torch.rand(16, 2) * 20), dim=1)
    scores = torch.rand(16) + 0.05
    found = accumulate(boxes, scores, torch.zeros(16).long())
    expected = sorted(plainly(boxes, scores, 0.5), key=lambda row: -row[1])
    assert 1 < len(expected) < 16
    assert found.scores is not None
    torch.testing.assert_close(found.boxes, torch.tensor([box for box, _ in expected]))
    torch.testing.assert_close(found.scores, torch.tensor([score for _, score in expected]) / scores.sum())


def test_the_work_grows_with_the_square_of_the_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = 0
    pairs = accumulating._pairs  # pyright: ignore[reportPrivateUsage]

    def counted(places: Any, row: int, others: Any, apart: float) -> Any:
        nonlocal compared
        compared += len(others)
        return pairs(places, row, others, apart)

    monkeypatch.setattr(accumulating, "_pairs", counted)
    boxes = torch.tensor([[10.0, 10, 50, 50]]).repeat(60, 1) + torch.linspace(0, 2, 60)[:, None]
    assert len(accumulating.accumulate(boxes, torch.ones(60), torch.zeros(60).long())) == 1
    assert compared <= 60**2  # 59 merges over all that is left would be 35,990
