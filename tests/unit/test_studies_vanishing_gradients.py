"""The study of gradients by depth."""

import math

import pytest
import torch
from torch import nn

from striate.engine.log import Display
from striate.studies.run import run_study
from striate.studies.vanishing_gradients import (
    BOTH,
    GLOROT_OF_HE,
    NORM,
    PLAIN,
    SHORTCUT,
    STUDY,
    Deep,
    Images,
    Net,
    Sizes,
    gradients,
    train,
)


@pytest.fixture(scope="module")
def images() -> Images:
    drawn = torch.Generator().manual_seed(0)
    labels = torch.arange(600) % 3
    means = torch.randn(3, 20, generator=drawn)
    return Images(means[labels] + 0.3 * torch.randn(600, 20, generator=drawn), labels, 3)


def net(activation: str = "relu", scale: float = 1.0, kind: str = PLAIN, depth: int = 8) -> Net:
    return Net(activation=activation, scale=scale, kind=kind, depth=depth)


def test_the_whole_path(tmp_path):
    sizes = Sizes(width=16, depths=(2, 4), per_class=10, steps=3, rates=(0.01,), seeds=2)
    result = run_study(STUDY, plan=sizes, data="digits", out=tmp_path / "study", display=Display(quiet=True))
    assert len(result.findings.parts) == 10
    assert result.page.read_text().count('class="chart"') == 6
    reach = result.findings.numbers["reach"]
    assert len(reach) == 3 * 3 * 4 * 2 + 2
    assert all(len(values) == 2 for values in reach.values())


def test_gradients_are_those_of_a_network_written_down_layer_by_layer(images: Images):
    """The same weights in torch's own modules, with the gradient of a function of the middle."""
    torch.manual_seed(3)
    network = Deep(net("tanh", depth=2), 20, 12, 3)
    layers = [network.first, *network.hidden]
    torch.manual_seed(3)
    again = Deep(net("tanh", depth=2), 20, 12, 3)
    rows = torch.randperm(600)[:256]
    x = images.values[rows]
    expected: list[float] = []
    first = nn.Sequential(layers[0], nn.Tanh(), layers[1], nn.Tanh())(x).detach().requires_grad_()
    loss = nn.functional.cross_entropy(network.last(torch.tanh(layers[2](first))), images.labels[rows])
    loss.backward()
    assert first.grad is not None
    expected.append(float(first.grad.norm()))
    assert again.first.weight.equal(network.first.weight)
    found = gradients(net("tanh", depth=2), images, 12, seed=3)
    assert found["outputs"][0] == pytest.approx(expected[0], rel=1e-4)
    assert len(found["outputs"]) == len(found["weights"]) == 2


@pytest.mark.parametrize("scale", [0.5, GLOROT_OF_HE, 2.0])
def test_scaling_relus_weights_scales_the_gradient_by_the_power_of_the_depth(images: Images, scale: float):
    """Without biases a network of ReLUs is homogeneous in each layer's weights (He et al. 2015, section 2.2)."""

    def ratio(scale: float) -> float:
        norms = gradients(net(scale=scale, depth=8), images, 64, seed=0)["outputs"]
        return norms[0] / norms[-1]

    assert ratio(scale) / ratio(1.0) == pytest.approx(scale**7, rel=0.15)


def test_batch_normalisation_makes_the_scale_of_the_weights_immaterial(images: Images):
    """Ioffe & Szegedy 2015, section 3.3."""
    for kind in (NORM, BOTH):
        of = [gradients(net(scale=scale, kind=kind), images, 32, seed=0)["outputs"] for scale in (0.5, 2.0)]
        assert of[0] == pytest.approx(of[1], rel=0.02)


def test_shortcuts_let_the_gradient_through(images: Images):
    def reach(kind: str) -> float:
        norms = gradients(net("sigmoid", kind=kind), images, 32, seed=0)["outputs"]
        return norms[0] / norms[-1]

    assert reach(PLAIN) < 1e-3
    assert 0.5 < reach(SHORTCUT) < 3


def test_training_takes_the_best_rate_and_survives_divergence(images: Images):
    sizes = Sizes(width=32, depths=(2, 2), per_class=1, steps=60, rates=(0.05, 1e9), seeds=1)
    found = train(net(depth=2), images, sizes, seed=0)
    assert found["rate"] == 0.05
    assert found["accuracy"] > 0.9
    assert len(found["losses"]) == 60
    only = train(net(depth=2), images, Sizes(**{**vars(sizes), "rates": (1e30,)}), seed=0)
    assert only["accuracy"] == 0
    assert not math.isfinite(only["losses"][-1])
