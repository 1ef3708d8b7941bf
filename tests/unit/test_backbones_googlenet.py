"""GoogLeNet: its two Inception modules, and the auxiliary classifiers against torchvision's."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from striate.models.backbones.googlenet import INCEPTION, VARIANTS, Inception, NaiveInception
from striate.models.catalog import CATALOG, create, load, published
from striate.models.weights import from_ours


def _macs(module, images):
    with FlopCounterMode(display=False) as counter:
        module(images)
    return counter.get_total_flops() // 2


def _count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_naive_module_hands_on_every_channel_and_is_three_times_as_dear():
    """Stanford's CS231n of 2017, lecture 9, on 28x28x256: 672 channels and 854M operations, reduced 480 and 358M.

    The lecture's own list adds up to 271M: its total counts the 3x3 convolution twice.
    """
    with torch.device("meta"):
        images = torch.empty(1, 256, 28, 28)
        naive = NaiveInception(256, 128, 192, 96)
        reduced = Inception(256, (128, 64, 192, 64, 96, 64), VARIANTS["googlenet"])
        assert naive(images).shape == (1, 672, 28, 28)
        assert reduced(images).shape == (1, 480, 28, 28)
        assert round(_macs(naive, images) / 1e6) == 854
        assert round(_macs(reduced, images) / 1e6) == 271
        threefold = 28 * 28 * 192 * 9 * 64
        assert round((_macs(reduced, images) + threefold) / 1e6) == 358


def test_naive_modules_grow_from_stage_to_stage_where_reduced_ones_keep_their_width():
    """Figure 2a with the filters of table 1, at the widths that would reach each row."""
    naive_channels = reduced_channels = 480
    naive_parameters = reduced_parameters = 0
    for row in ("4a", "4b", "4c", "4d", "4e"):
        conv1x1, _, conv3x3, _, conv5x5, _ = INCEPTION[row]
        with torch.device("meta"):
            naive = NaiveInception(naive_channels, conv1x1, conv3x3, conv5x5)
            reduced = Inception(reduced_channels, INCEPTION[row], VARIANTS["googlenet"])
            naive_channels = naive(torch.empty(1, naive_channels, 14, 14)).shape[1]
            reduced_channels = reduced(torch.empty(1, reduced_channels, 14, 14)).shape[1]
        naive_parameters += _count(naive)
        reduced_parameters += _count(reduced)
    assert (naive_channels, reduced_channels) == (480 + 448 + 448 + 448 + 464 + 704, 832)
    assert naive_parameters > 8 * reduced_parameters


def test_parameters_without_the_auxiliary_classifiers():
    """6,998,552 in Caffe's bvlc_googlenet; 6,624,904 (num_params) and 1.498 billion operations in torchvision."""
    for name, expected in (("googlenet", 6_998_552), ("googlenet_bn", 6_624_904)):
        network = published(name)
        assert _count(network.backbone) + _count(network.head) == expected


def _without_dropout(network):
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return network.train()


@pytest.mark.parametrize("size", [(64, 64), (224, 224)])
def test_auxiliary_logits_and_all_gradients_in_training_are_torchvisions(size):
    from torchvision.models import googlenet

    torch.manual_seed(0)
    theirs = _without_dropout(googlenet(num_classes=7, aux_logits=True, init_weights=False))
    state = {key: tensor.clone() for key, tensor in theirs.state_dict().items()}
    ours = _without_dropout(load("googlenet_bn", state, where="memory", origin="torchvision", size=size))

    images, labels = torch.randn(2, 3, *size), torch.tensor([1, 3])
    logits = ours.training_logits(images)
    final, second, first = theirs(images)
    assert list(logits) == ["", "inception4a", "inception4d"]
    for mine, other in zip(logits.values(), (final, first, second), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)

    sum(F.cross_entropy(x, labels) for x in logits.values()).backward()
    sum(F.cross_entropy(x, labels) for x in (final, first, second)).backward()
    gradients = from_ours(
        {key: p.grad for key, p in ours.named_parameters()}, CATALOG["googlenet_bn"].origins["torchvision"]
    )
    expected = {key: p.grad for key, p in theirs.named_parameters()}
    assert gradients.keys() == expected.keys()
    for key, gradient in gradients.items():
        scale = expected[key].abs().max().clamp(min=1e-6)
        torch.testing.assert_close(gradient / scale, expected[key] / scale, rtol=1e-3, atol=1e-3, msg=key)


def test_the_auxiliary_pooling_of_the_paper_is_five_by_five_with_stride_three():
    """Section 5: 4x4x512 after the pooling at (4a), 4x4x528 at (4d), at the published size without a second pooling."""
    network = create("googlenet", classes=3, channels=3, size=(224, 224))
    for stage, channels in (("inception4a", 512), ("inception4d", 528)):
        x = torch.randn(1, channels, 14, 14)
        head = network.auxiliary[stage]
        pooled = head.get_submodule("pool4x4")(head.get_submodule("pool")(x))
        assert pooled.shape == (1, channels, 4, 4)
        torch.testing.assert_close(pooled, F.avg_pool2d(x, 5, 3))


@torch.no_grad()
def test_without_normalisation_signals_keep_their_scale_and_every_first_loss_is_near_ln_of_the_classes():
    torch.manual_seed(0)
    network = create("googlenet", classes=5, channels=3, size=(128, 128)).train()
    images = torch.randn(8, 3, 128, 128)
    assert all(0.1 < features.std() < 2 for features in network.backbone(images))
    for logits in network.training_logits(images).values():
        assert abs(F.cross_entropy(logits, torch.arange(8) % 5).item() - math.log(5)) < 0.3
