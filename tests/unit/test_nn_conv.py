"""The convolution unit, squeeze and excitation, and stochastic depth against torchvision's."""

import pytest
import torch
from torch import nn

from striate.nn.conv import ConvNormAct
from striate.nn.drop_path import DropPath
from striate.nn.squeeze_excite import SqueezeExcite


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "groups"), [(1, 1, 1, 1), (3, 2, 1, 1), (5, 1, 2, 4), ((1, 7), 1, 1, 2)]
)
def test_a_unit_is_torchvisions(kernel, stride, dilation, groups):
    from torchvision.ops import Conv2dNormActivation

    torch.manual_seed(0)
    theirs = Conv2dNormActivation(8, 12, kernel, stride, dilation=dilation, groups=groups)
    ours = ConvNormAct(8, 12, kernel, stride, dilation=dilation, groups=groups)
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    images = torch.randn(2, 8, 11, 9)
    torch.testing.assert_close(ours(images), theirs(images), rtol=0, atol=0)
    torch.testing.assert_close(ours.norm.running_var, theirs[1].running_var)


def test_a_unit_without_activation_is_linear():
    unit = ConvNormAct(3, 4, 3, activation=None).eval()
    images = torch.randn(1, 3, 5, 5)
    torch.testing.assert_close(unit(-images), -unit(images))


@pytest.mark.parametrize("gate", [nn.Sigmoid, nn.Hardsigmoid])
def test_squeeze_and_excitation_is_torchvisions(gate):
    from torchvision.ops import SqueezeExcitation

    torch.manual_seed(0)
    theirs = SqueezeExcitation(8, 2, scale_activation=gate)
    ours = SqueezeExcite(8, 2, gate=gate)
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    maps = torch.randn(2, 8, 5, 7)
    torch.testing.assert_close(ours(maps), theirs(maps))


def test_drop_path_drops_whole_samples_and_keeps_the_expectation():
    torch.manual_seed(0)
    drop = DropPath(0.25).train()
    samples = drop(torch.ones(4000, 3, 2))
    assert {round(value, 5) for value in samples.unique().tolist()} == {0.0, round(1 / 0.75, 5)}
    assert (samples == samples[:, :1, :1]).all()
    assert abs((samples[:, 0, 0] == 0).float().mean() - 0.25) < 0.03
    assert abs(samples.mean() - 1) < 0.03


def test_drop_path_is_silent_in_eval():
    images = torch.randn(3, 2)
    assert DropPath(0.9).eval()(images) is images


@pytest.mark.parametrize("size", [(8, 8), (9, 7), (10, 3), (1, 2)])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (5, 2), (3, 1), (5, 3)])
def test_same_padding_is_tensorflows(size, kernel, stride):
    from timm.layers import Conv2dSame

    torch.manual_seed(0)
    theirs = Conv2dSame(2, 3, kernel, stride, bias=False)
    ours = ConvNormAct(2, 3, kernel, stride, padding="same", activation=None).eval()
    ours.conv.load_state_dict(theirs.state_dict())
    images = torch.randn(1, 2, *size)
    torch.testing.assert_close(ours(images) * (1 + ours.norm.eps) ** 0.5, theirs(images))
