"""The study of dense, locally connected and convolutional layers."""

import json

import numpy as np
import pytest
import torch

from striate.engine.log import Display
from striate.studies.run import run_study
from striate.studies.why_convolution import (
    CONVOLUTION,
    DENSE,
    KINDS,
    LOCAL,
    POOLED,
    SHARED,
    STUDY,
    WIDE,
    LocallyConnected,
    Sizes,
    build,
    equivariance_error,
    moved,
)


def parameters(kind: str) -> int:
    return sum(parameter.numel() for parameter in build(kind).parameters())


def test_parameters_are_those_of_the_arithmetic():
    first, second, last = 12 * 12 * 8, 4 * 4 * 16, 256 * 10 + 10
    assert parameters(DENSE) == (28 * 28 + 1) * first + (first + 1) * second + last
    assert parameters(LOCAL) == (25 + 1) * first + (25 * 8 + 1) * second + last
    assert parameters(CONVOLUTION) == parameters(POOLED) == (25 + 1) * 8 + (25 * 8 + 1) * 16 + last
    assert parameters(CONVOLUTION) < parameters(WIDE) < parameters(LOCAL)


@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds_have_the_same_maps_below_the_classes(kind: str):
    network = build(kind, channels=3, classes=7)
    maps = network[:2](torch.randn(2, 3, 28, 28))
    assert maps.shape[2:] == (4, 4)
    assert maps.shape[1] == (64 if kind == WIDE else 16)
    assert network(torch.randn(2, 3, 28, 28)).shape == (2, 7)


def test_with_equal_weights_everywhere_a_locally_connected_layer_is_a_convolution():
    torch.manual_seed(0)
    convolution = torch.nn.Conv2d(3, 4, 5, stride=2)
    local = LocallyConnected(3, 4, kernel=5, stride=2, side=13)
    with torch.no_grad():
        local.weight.copy_(convolution.weight.flatten(1).expand(25, 4, 75))
        local.bias.copy_(convolution.bias[:, None].expand(4, 25))
    images = torch.randn(2, 3, 13, 13)
    torch.testing.assert_close(local(images), convolution(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("rows", "columns"), [(0, 0), (2, 0), (-3, 0), (0, 1), (0, -4), (1, -2)])
def test_images_move_and_zeros_come_in(rows: int, columns: int):
    images = torch.arange(1.0, 37.0).reshape(1, 1, 6, 6)
    expected = np.roll(images.numpy(), (rows, columns), (2, 3))
    expected[..., : max(rows, 0), :] = expected[..., 6 + min(rows, 0) :, :] = 0
    expected[..., :, : max(columns, 0)] = expected[..., :, 6 + min(columns, 0) :] = 0
    np.testing.assert_array_equal(moved(images, rows, columns).numpy(), expected)


def test_convolutions_are_equivariant_and_others_are_not():
    torch.manual_seed(0)
    images = torch.zeros(4, 1, 28, 28)
    images[..., 4:24, 4:20] = torch.rand(4, 1, 20, 16)
    for kind in KINDS:
        network = build(kind)
        errors = [
            equivariance_error(network[:1], images, pixels=2),
            equivariance_error(network[:2], images, pixels=4),
        ]
        assert max(errors) < 1e-5 if kind in SHARED else min(errors) > 0.3


def test_the_whole_path(tmp_path):
    sizes = Sizes(per_class=(2, 4), test_per_class=2, steps=3, seeds=2, shifts=(0, 2, 4), batch=8)
    result = run_study(STUDY, plan=sizes, data="digits", out=tmp_path / "study", display=Display(quiet=True))
    parts = result.findings.parts
    assert len(parts) == 7
    assert parts[0].holds  # counted
    assert "1,202,058 dense, 83,978 local, 5,994 shared" in parts[0].measured
    assert parts[4].holds  # equivariance needs no training
    document = json.loads((tmp_path / "study" / "study.json").read_text())
    assert [len(document["numbers"]["accuracy"][kind]["4"]) for kind in KINDS] == [3] * 5
    assert result.page.read_text().count('class="chart"') == 2
    assert "data:image/png" in result.page.read_text()
