"""What AlexNet's table cannot say: where its parameters and its work are, and what its two towers see."""

import pytest
import torch
from torch import nn

from striate.models.backbones import alexnet
from striate.models.catalog import published
from striate.nn.lrn import local_response_norm


def _macs(name):
    """Multiply-accumulates of every layer, from its weight and its output."""
    network, found = published(name).eval(), {}
    for label, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(
                lambda layer, _, output, label=label: found.update({label: layer.weight[0].numel() * output.numel()})
            )
    network(torch.empty(1, network.channels, *network.size, device="meta"))
    return found


@pytest.mark.parametrize(("name", "share"), [("alexnet_one_tower", 0.06), ("alexnet_two_tower", 0.04)])
def test_convolutions_hold_a_small_share_of_the_parameters_and_do_most_of_the_work(name, share):
    network, macs = published(name), _macs(name)
    held = sum(p.numel() for p in network.backbone.parameters()) / sum(p.numel() for p in network.parameters())
    assert held == pytest.approx(share, abs=0.005)
    assert sum(count for label, count in macs.items() if label.startswith("backbone")) / sum(macs.values()) > 0.9


def test_normalisation_is_the_papers_formula():
    maps = 100 * torch.randn(2, 9, 3, 4, dtype=torch.float64)  # large, so that alpha counts beside k
    sums = torch.stack([maps[:, max(0, i - 2) : i + 3].square().sum(1) for i in range(9)], 1)
    torch.testing.assert_close(local_response_norm()(maps), maps / (2 + 1e-4 * sums) ** 0.75, rtol=1e-9, atol=0)


@torch.no_grad()
def test_a_tower_does_not_see_the_other_before_conv3():
    backbone = alexnet.AlexNet(alexnet.VARIANTS["alexnet_two_tower"], channels=3)
    maps = torch.rand(1, 96, 15, 15)
    other = maps.clone()
    other[:, 48:] += 1
    first, second = backbone.stage2.conv2(maps), backbone.stage2.conv2(other)
    assert torch.equal(first[:, :128], second[:, :128])
    assert not torch.equal(first[:, 128:], second[:, 128:])
    met = [backbone.stage3.conv3(torch.cat([x[:, :128], y[:, 128:]], 1)) for x, y in ((first, first), (first, second))]
    assert not torch.equal(met[0][:, :192], met[1][:, :192])
