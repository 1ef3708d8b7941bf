"""What the published tables cannot say of the residual networks: blocks, shortcuts and strides."""

import pytest
import torch
from torch import nn

from striate.models.catalog import create, published
from striate.nn.shortcut import ZeroPadding


def _weights(block):
    """Weights of a block's own convolutions, without its shortcut."""
    return sum(
        layer.weight.numel()
        for name, layer in block.named_modules()
        if isinstance(layer, nn.Conv2d) and not name.startswith("shortcut")
    )


def test_a_bottleneck_of_256_64_64_256_has_69632_weights_where_one_3x3_convolution_has_589824():
    assert _weights(published("resnet50").backbone.stage1[1]) == 69_632
    with torch.device("meta"):
        assert nn.Conv2d(256, 256, 3, bias=False).weight.numel() == 589_824


def test_32_groups_of_4_channels_cost_what_the_bottleneck_of_64_costs():
    """Xie et al. 2017, equation 4: C (256 d + 3 3 d d + d 256), about 70,000."""
    assert _weights(published("resnext50_32x4d").backbone.stage1[1]) == 32 * (256 * 4 + 3 * 3 * 4 * 4 + 4 * 256)


@pytest.mark.parametrize(
    "name", ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnet50_v1", "resnet34_a", "plain34"]
)
def test_depth_counts_the_layers_of_weights_without_projections(name):
    network = published(name)
    weighted = [
        key
        for key, layer in network.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear) and ".shortcut" not in key
    ]
    assert len(weighted) == int("".join(filter(str.isdigit, name.removesuffix("_v1"))))


@pytest.mark.parametrize(("name", "halving"), [("resnet50", "conv2"), ("resnet50_v1", "conv1")])
def test_the_map_is_halved_by_the_3x3_convolution_or_as_published_by_the_first(name, halving):
    backbone = published(name).backbone
    for stage in (backbone.stage2, backbone.stage3, backbone.stage4):
        strides = {key: layer.stride[0] for key, layer in stage[0].named_children() if isinstance(layer, nn.Conv2d)}
        assert strides == {"conv1": 1, "conv2": 1, "conv3": 1} | {halving: 2}


def test_option_a_keeps_every_second_pixel_and_adds_channels_of_zeros():
    x = torch.arange(2 * 3 * 5 * 4.0).reshape(2, 3, 5, 4)
    y = ZeroPadding(2, 2)(x)
    assert y.shape == (2, 5, 3, 2)
    assert torch.equal(y[:, :3], x[:, :, ::2, ::2])
    assert not y[:, 3:].any()


@pytest.mark.parametrize(("name", "shortcuts"), [("resnet18", 1), ("resnet18_a", 1), ("plain18", 0)])
@torch.no_grad()
def test_a_block_of_zero_weights_passes_on_its_shortcut_alone(name, shortcuts):
    """Equation 1 with F = 0: the block of an identity shortcut gives back what it got, a plain one nothing."""
    block = create(name, classes=2, channels=1, size=(33, 33)).backbone.stage1[0].eval()
    block.conv2.weight.zero_()
    x = torch.rand(1, 64, 3, 3)
    assert torch.equal(block(x), shortcuts * x)


def test_option_a_has_the_plain_network_s_parameters_and_option_b_the_projections_more():
    """Section 3.3: A introduces no extra parameter; B one 1x1 convolution, here with normalisation, per new width."""

    def count(name):
        return sum(parameter.numel() for parameter in published(name).parameters())

    projections = sum(a * b + 2 * b for a, b in ((64, 128), (128, 256), (256, 512)))
    for depth in (18, 34):
        assert count(f"plain{depth}") == count(f"resnet{depth}_a") == count(f"resnet{depth}") - projections


@pytest.mark.parametrize("name", ["preact_resnet18", "resnetv2_18", "preact_resnet164"])
@torch.no_grad()
def test_a_unit_of_zero_weights_is_the_identity(name):
    """He et al. 2016, "Identity Mappings", equation 4: nothing but the sum on the path, negative values included."""
    unit = create(name, classes=2, channels=1, size=(33, 33)).backbone.stage1[1].eval()
    last = list(unit.children())[-2]
    assert isinstance(last, nn.Conv2d)
    last.weight.zero_()
    x = torch.randn(1, unit.conv1.in_channels, 3, 3)
    assert torch.equal(unit(x), x)


@torch.no_grad()
def test_the_first_unit_splits_after_the_activation_as_published_and_before_it_in_timm():
    x = -torch.rand(1, 1, 33, 33)
    for name, activated in (("preact_resnet18", True), ("resnetv2_18", False)):
        backbone = create(name, classes=2, channels=1, size=(33, 33)).backbone.eval()
        backbone.stem.conv.weight.fill_(1)  # then every pixel of the map is negative
        assert (backbone(x)[0] >= 0).all() == activated
        assert (backbone.stage1[0].norm1 is None) == activated


@torch.no_grad()
def test_squeeze_and_excitation_scale_the_branch_and_not_the_shortcut():
    """Hu et al. 2018, figure 3: the gate stands before the sum."""
    block = create("seresnet18", classes=2, channels=1, size=(33, 33)).backbone.stage1[0].eval()
    block.se.expand.weight.zero_()
    block.se.expand.bias.fill_(-1000)  # the gate is shut
    x = torch.rand(1, 64, 3, 3)
    assert torch.equal(block(x), x)
