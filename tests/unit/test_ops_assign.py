"""The assignment problem, against scipy's solver."""

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from striate.ops.matching import assign


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (5, 5), (6, 40), (40, 6), (30, 100), (0, 4), (4, 0)])
@pytest.mark.parametrize("kind", ["uniform", "normal", "steps"])
def test_the_pairing_is_scipys_or_costs_the_same(shape, kind):
    generator = torch.Generator().manual_seed(sum(shape))
    for _ in range(10):
        costs = torch.randn(shape, generator=generator)
        if kind == "uniform":
            costs = torch.rand(shape, generator=generator) * 100
        if kind == "steps":  # with many equal sums
            costs = costs.round()
        rows, columns = assign(costs)
        expected = [torch.from_numpy(part) for part in linear_sum_assignment(costs.double().numpy())]
        assert rows.tolist() == sorted(set(rows.tolist()))
        assert len(set(columns.tolist())) == len(columns) == min(shape)
        if kind == "steps":
            assert costs[rows, columns].sum() == costs[expected[0], expected[1]].sum()
        else:
            assert torch.equal(rows, expected[0])
            assert torch.equal(columns, expected[1])


def test_what_is_not_finite_is_paired_last():
    costs = torch.tensor([[1.0, float("nan"), 2.0], [float("inf"), 5.0, 3.0]])
    rows, columns = assign(costs)
    assert (rows.tolist(), columns.tolist()) == ([0, 1], [0, 2])
    rows, columns = assign(torch.full((2, 3), float("nan")))
    assert rows.tolist() == [0, 1]
    assert len(set(columns.tolist())) == 2
