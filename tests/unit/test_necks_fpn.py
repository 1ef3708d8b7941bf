"""The feature pyramid network against torchvision's with the same weights."""

import re
from collections import OrderedDict

import pytest
import torch

from striate.models.necks.fpn import FPN


def _theirs(coarser):
    from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool, LastLevelP6P7

    extra = {
        "none": lambda: None,
        "pool": LastLevelMaxPool,
        "convolve C5": lambda: LastLevelP6P7(48, 24),
        "convolve P5": lambda: LastLevelP6P7(24, 24),
    }
    return FeaturePyramidNetwork([8, 16, 48], 24, extra_blocks=extra[coarser]())


@pytest.mark.parametrize("coarser", ["none", "pool", "convolve C5", "convolve P5"])
@pytest.mark.parametrize("sizes", [((16, 24), (8, 12), (4, 6)), ((13, 9), (7, 5), (4, 3))])
def test_the_pyramid_is_torchvisions(coarser, sizes):
    torch.manual_seed(0)
    theirs, ours = _theirs(coarser), FPN([8, 16, 48], 24, coarser=coarser)
    names = (("inner_blocks", "laterals"), ("layer_blocks", "outputs"), ("extra_blocks.", ""))
    state = {re.sub(r"(blocks\.\d)\.0", r"\1", name): tensor for name, tensor in theirs.state_dict().items()}
    for there, here in names:
        state = {name.replace(there, here): tensor for name, tensor in state.items()}
    ours.load_state_dict(state)
    maps = [torch.randn(2, channels, *size) for channels, size in zip((8, 16, 48), sizes, strict=True)]
    mine = ours(maps)
    other = list(theirs(OrderedDict((str(level), x) for level, x in enumerate(maps))).values())
    assert len(mine) == len(other) == ours.levels
    for a, b in zip(mine, other, strict=True):
        torch.testing.assert_close(a, b)


def test_weights_start_as_torchvisions():
    torch.manual_seed(0)
    neck = FPN([64, 512], coarser="convolve C5")
    assert not any(layer.bias.any() for layer in neck.modules() if isinstance(layer, torch.nn.Conv2d))
    # Uniform with variance 1 / fan-in: 1/64 for the first lateral, 1/2304 for the first output.
    assert abs(neck.laterals[0].weight.var() * 64 - 1) < 0.05
    assert abs(neck.outputs[0].weight.var() * 2304 - 1) < 0.05
