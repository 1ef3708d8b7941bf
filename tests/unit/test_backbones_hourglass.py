"""The stacked hourglass of CornerNet: its shapes, its depth and its parameters as the paper describes them."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from striate.models.backbones.hourglass import VARIANTS, Hourglass, HourglassModule, Residual, Spec, build

SMALL = Spec(stacks=2, stem=8, widths=(8, 8, 12, 16), blocks=(1, 1, 1, 2))


def _depth(module) -> int:
    """Convolutions on the longest way through."""
    if isinstance(module, Residual):
        return 2
    if isinstance(module, HourglassModule):
        return max(_depth(module.shortcut), sum(_depth(part) for part in (module.down, module.inner, module.up)))
    if isinstance(module, nn.Sequential):
        return sum(_depth(part) for part in module)
    return 1


def test_the_longest_way_has_104_layers():
    with torch.device("meta"):
        network = build("hourglass104", channels=3)
    links = sum(1 + _depth(link.block) for link in network.links)
    assert _depth(network.stem) + sum(map(_depth, (*network.hourglasses, *network.heads))) + links == 104


@torch.no_grad()
def test_maps_as_published():
    """511x511 pixels to 128x128 (section 4.1), five times halved (section 3.5); with a sixteenth of the channels."""
    published = VARIANTS["hourglass104"]
    narrow = replace(published, stem=8, widths=tuple(width // 16 for width in published.widths))
    network, seen = Hourglass(narrow, channels=3), []
    inner = network.hourglasses[0]
    while isinstance(inner, HourglassModule):
        inner.down.register_forward_hook(lambda module, _, output: seen.append(tuple(output.shape[1:])))
        inner = inner.inner
    maps = network(torch.randn(2, 3, 511, 511))
    assert [tuple(x.shape[1:]) for x in maps] == [(256 // 16, 128, 128)] * 2
    assert [(16 * width, *size) for width, *size in seen] == [
        (256, 64, 64),
        (384, 32, 32),
        (384, 16, 16),
        (384, 8, 8),
        (512, 4, 4),
    ]
    assert [(stage.channels, stage.stride) for stage in network.stages] == [(256 // 16, 4)] * 2


def test_parameters_are_those_of_the_description():
    """Every convolution of section 3.5 and the published code, by hand: no bias, two numbers a channel after."""

    def conv(before, after, kernel=3):
        return before * after * kernel**2 + 2 * after

    def block(before, after, stride=1):
        shortcut = conv(before, after, 1) if stride > 1 or before != after else 0
        return conv(before, after) + conv(after, after) + shortcut

    widths = (256, 256, 384, 384, 384, 512)
    hourglass = 4 * block(512, 512)
    for fine, coarse in pairwise(widths):
        hourglass += 2 * block(fine, fine) + block(fine, coarse, 2) + 2 * block(coarse, coarse) + block(coarse, fine)
    stem = conv(3, 128, 7) + block(128, 256, 2)
    link = 2 * conv(256, 256, 1) + block(256, 256)
    with torch.device("meta"):
        network = build("hourglass104", channels=3)
    total = sum(parameter.numel() for parameter in network.parameters())
    assert total == stem + 2 * (hourglass + conv(256, 256)) + link


@pytest.mark.parametrize("size", [(64, 64), (50, 83)])
def test_any_size_goes_down_and_up_and_every_weight_learns(size):
    torch.manual_seed(0)
    network = Hourglass(SMALL, channels=1)
    maps = network(torch.randn(2, 1, *size))
    expected = (2, 8, -(-size[0] // 4), -(-size[1] // 4))
    assert [tuple(x.shape) for x in maps] == [expected] * 2
    maps[-1].square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
