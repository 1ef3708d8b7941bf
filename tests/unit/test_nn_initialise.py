"""Variances of the initial weights against their formulas."""

import math

import pytest
import torch
from torch import nn

from striate.nn.initialise import initialise


@pytest.mark.parametrize(
    ("follower", "variance"),
    [
        ("rectifier", 2 / 400),
        ("leaky", 2 / ((1 + 0.01**2) * 400)),
        ("parametric", 2 / ((1 + 0.25**2) * 400)),
        ("saturating", 2 / (400 + 300)),
        ("nothing", 1 / 400),
        ("softmax", 0.01**2),
    ],
)
def test_variance(follower, variance):
    torch.manual_seed(0)
    layer = nn.Linear(400, 300)
    initialise(layer, follower)
    assert math.isclose(layer.weight.var().item(), variance, rel_tol=0.02)
    assert (layer.bias == 0).all()


def test_rectifiers_keep_the_scale_through_many_layers():
    torch.manual_seed(0)
    x = torch.randn(64, 1024)
    for _ in range(12):
        layer = nn.Linear(1024, 1024)
        initialise(layer, "rectifier")
        x = layer(x).relu()
    assert 0.4 < x.square().mean() < 2.5  # He et al. 2015: the second moment is kept; by Glorot it would be 2^-12
