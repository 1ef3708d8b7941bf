"""Whole networks against independent references with the same random weights: outputs and gradients."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from striate.models.backbones.lenet import C3_TABLE
from striate.models.catalog import create


class _OptionA(nn.Module):
    """The shortcut of He et al. 2016, section 3.3 (A), by a strided pooling of one pixel and a concatenation."""

    def forward(self, x):
        halved = F.avg_pool2d(x, 1, 2)
        return torch.cat([halved, torch.zeros_like(halved)], 1)


class _None(nn.Module):
    """No shortcut at all."""

    def __init__(self, stride):
        super().__init__()
        self.stride = stride

    def forward(self, x):
        halved = x[:, :, :: self.stride, :: self.stride] * 0
        return halved if self.stride == 1 else torch.cat([halved, halved], 1)


def _by_torchvision(shortcut):
    """resnet20 or plain20 of torchvision's BasicBlock."""
    from torchvision.models.resnet import BasicBlock

    blocks, channels = [], 16
    for stage, width in enumerate((16, 32, 64)):
        for index in range(3):
            stride = 2 if stage and not index else 1
            around = (_OptionA() if stride == 2 else None) if shortcut else _None(stride)
            blocks.append(BasicBlock(channels, width, stride, around))
            channels = width
    stem = (nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


@pytest.mark.parametrize("name", ["resnet20", "plain20"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("size", [(32, 32), (19, 26)])
def test_resnet_is_torchvisions_block_by_block(name, training, size):
    torch.manual_seed(0)
    ours = create(name, classes=10, channels=3, size=size)
    for tensor in ours.state_dict().values():  # norms that do something
        if tensor.dim() == 1:
            tensor.uniform_(0.5, 1.5)
    theirs = _by_torchvision(shortcut=name == "resnet20")
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    ours.double().train(training)
    theirs.double().train(training)
    images = torch.randn(4, 3, *size, dtype=torch.float64)
    ours_out, theirs_out = ours(images), theirs(images)
    torch.testing.assert_close(ours_out, theirs_out, rtol=1e-5, atol=1e-5)
    F.cross_entropy(ours_out, torch.arange(4)).backward()
    F.cross_entropy(theirs_out, torch.arange(4)).backward()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-7)


def _lenet5_by_hand(x, state):
    """LeNet-5 from the equations of the 1998 paper, unit by unit where that is bearable."""

    def squash(a):
        return 1.7159 * (torch.exp(4 * a / 3) - 1) / (torch.exp(4 * a / 3) + 1)  # A tanh(S a), S = 2/3

    def subsample(maps, name):
        total = F.avg_pool2d(maps, 2) * 4
        coefficient, bias = (state[f"backbone.{name}.0.{key}"].view(-1, 1, 1) for key in ("coefficient", "bias"))
        return squash(total * coefficient + bias)

    c1 = squash(F.conv2d(x, state["backbone.c1.0.weight"], state["backbone.c1.0.bias"]))
    s2 = subsample(c1, "s2")
    kernels, bias = list(state["backbone.c3.0.kernels"]), state["backbone.c3.0.bias"]
    c3 = []
    for to, sources in enumerate(C3_TABLE):
        kernel = torch.stack([kernels.pop(0) for _ in sources])[None]
        c3.append(F.conv2d(s2[:, list(sources)], kernel, bias[to : to + 1]))
    s4 = subsample(squash(torch.cat(c3, 1)), "s4")
    c5 = squash(s4.flatten(1) @ state["backbone.c5.0.weight"].flatten(1).T + state["backbone.c5.0.bias"])
    f6 = squash(c5 @ state["head.f6.0.weight"].T + state["head.f6.0.bias"])
    return torch.stack([-((f6 - code) ** 2).sum(1) for code in state["head.output.codes"]], 1)


def test_lenet5_is_the_papers_equations():
    torch.manual_seed(0)
    model = create("lenet5", classes=10, channels=1, size=(32, 32)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)  # into the curved part of the squashing
    images = torch.randn(3, 1, 32, 32, dtype=torch.float64)
    scores = model(images)
    torch.testing.assert_close(scores, _lenet5_by_hand(images, model.state_dict()), rtol=1e-9, atol=1e-9)
    # Equation 9 without its rubbish class is cross-entropy on these scores.
    penalties = -scores
    labels = torch.tensor([3, 1, 4])
    equation = (penalties[range(3), labels] + torch.logsumexp(-penalties, 1)).mean()
    torch.testing.assert_close(F.cross_entropy(scores, labels), equation)


def test_lenet5_modern_is_the_usual_sequence():
    model = create("lenet5_modern", classes=10, channels=1, size=(28, 28))
    usual = nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(16 * 5 * 5, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    )
    weights = model.state_dict().values()
    usual.load_state_dict({key: w.view_as(t) for (key, t), w in zip(usual.state_dict().items(), weights, strict=True)})
    images = torch.randn(3, 1, 28, 28)
    torch.testing.assert_close(model(images), usual(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "hidden"), [("linear", ()), ("lenet300", (300,)), ("lenet300-100", (300, 100))])
def test_perceptrons_are_matrix_products(name, hidden):
    model = create(name, classes=10, channels=2, size=(5, 7)).double()
    state = list(model.state_dict().values())
    images = torch.randn(3, 2, 5, 7, dtype=torch.float64)
    x = images.flatten(1)
    for layer in range(len(hidden)):
        x = 1.7159 * torch.tanh((x @ state[2 * layer].T + state[2 * layer + 1]) * 2 / 3)
        assert x.shape == (3, hidden[layer])
    torch.testing.assert_close(model(images), x @ state[-2].T + state[-1])


def test_a_pattern_is_the_network_it_spells():
    torch.manual_seed(0)
    text = "[[CONV 8 -> RELU]*2 -> POOL]*2 -> CONV 6 4x4 /2 -> TANH -> FC 9 -> SIGMOID -> FC"
    model = create(text, classes=4, channels=3, size=(21, 30)).double()
    weights = list(model.state_dict().values())
    x = images = torch.randn(2, 3, 21, 30, dtype=torch.float64)
    for _ in range(2):
        for _ in range(2):
            x = F.relu(F.conv2d(x, weights.pop(0), weights.pop(0), padding=1))
        x = F.max_pool2d(x, 2)
    height, width = (math.ceil(side / 2) for side in x.shape[2:])
    x = torch.tanh(F.conv2d(F.pad(x, (1, 2, 1, 2)), weights.pop(0), weights.pop(0), stride=2))
    assert x.shape[2:] == (height, width)
    x = torch.sigmoid(F.linear(x.flatten(1), weights.pop(0), weights.pop(0)))
    torch.testing.assert_close(model(images), F.linear(x, *weights))
