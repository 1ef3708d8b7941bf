"""Activations against torch's own layers and autograd."""

import math

import pytest
import torch

from striate.nn.activations import ACTIVATIONS, ScaledTanh


@pytest.fixture
def points():
    far = torch.tensor([-800.0, -90.0, -30.0, 30.0, 90.0, 800.0], dtype=torch.float64)
    return torch.cat([torch.linspace(-6, 6, 1000, dtype=torch.float64), far])  # an even number: 0 is not among them


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_value_is_that_of_the_layer(name, points):
    row = ACTIVATIONS[name]
    torch.testing.assert_close(row.value(points), row.module().double()(points), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_derivative_is_that_of_autograd(name, points):
    row = ACTIVATIONS[name]
    x = points.clone().requires_grad_()
    (expected,) = torch.autograd.grad(row.module().double()(x).sum(), x)
    derivative = row.derivative(points)
    torch.testing.assert_close(derivative, expected, rtol=1e-8, atol=1e-8)
    assert derivative.isfinite().all()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_value_and_derivative_keep_shape_and_dtype_and_leave_x_alone(name):
    row = ACTIVATIONS[name]
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        x = torch.zeros(2, 3, dtype=dtype)
        for result in (row.value(x), row.derivative(x)):
            assert (result.shape, result.dtype) == (x.shape, dtype)
        row.value(x).add_(1)
        assert (x == 0).all()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_range_is_kept_and_reached(name, points):
    row = ACTIVATIONS[name]
    low, high = row.range
    values = row.value(points)
    assert (values >= low).all()
    assert (values <= high).all()
    assert values.min() < low + 1e-6 if math.isfinite(low) else values.min() < -2
    assert values.max() > high - 1e-6 if math.isfinite(high) else values.max() > 2


def test_the_derivative_at_the_kink_is_that_of_autograd():
    for name in ("relu", "leaky_relu", "parametric_relu"):
        x = torch.zeros(1, requires_grad=True)
        (expected,) = torch.autograd.grad(ACTIVATIONS[name].module()(x).sum(), x)
        assert ACTIVATIONS[name].derivative(x.detach()) == expected


def test_scaled_tanh_maps_one_to_one():
    x = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(ScaledTanh()(x), x, atol=1e-4, rtol=0)  # appendix A: f(1) = 1
