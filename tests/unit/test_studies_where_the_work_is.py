"""The study of parameters, work and time."""

from time import sleep

import pytest
import torch
from torch import nn

import striate
from striate.engine.log import Display
from striate.studies.run import run_study
from striate.studies.where_the_work_is import CONVOLUTION, GROUPS, STUDY, Sizes, early_stage, time_layers


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory):
    """The whole path, on small networks."""
    sizes = Sizes(
        batch=2,
        deep_batch=2,
        repetitions=2,
        alexnet="lenet5_modern",
        taught="lenet5",
        vgg="resnet20",
        resnet="resnet20",
    )
    return run_study(STUDY, plan=sizes, out=tmp_path_factory.mktemp("study") / "work", display=Display(quiet=True))


def test_the_whole_path(tiny):
    assert tiny.findings.verdict != "holds"  # what is claimed of the real networks is not so of these
    assert not tiny.findings.parts[4].holds
    for name, by_kind in tiny.findings.numbers["shares"].items():
        for what, shares in by_kind.items():
            tolerance = 0.3 if "time" in what else 1e-9  # medians over the repetitions need not add up
            assert sum(shares.values()) == pytest.approx(1, abs=tolerance), (name, what)
            assert set(shares) == set(GROUPS)
    page = tiny.page.read_text()
    assert page.count("<svg ") >= 4
    assert "lenet5_modern, layer by layer" in page


def test_counts_of_the_real_networks():
    """Parameters as torchvision documents them; multiply-accumulates of the convolutions worked out by hand."""
    found = striate.inspect("alexnet", batch=None)
    convolutions = sum(layer.parameters for layer in found.layers if layer.type == "Conv2d")
    assert (convolutions, found.parameters) == (2_469_696, 61_100_840)
    vgg = striate.inspect("vgg16", batch=None)
    full = sum(layer.parameters for layer in vgg.layers if layer.type == "Linear")
    assert full == 25088 * 4096 + 4096 * 4096 + 4096 * 1000 + 4096 + 4096 + 1000
    early = [layer.macs for layer in vgg.layers if layer.type == "Conv2d" and early_stage(layer.name)]
    assert sum(early) == 9 * (3 * 64 + 64 * 64) * 224**2 + 9 * (64 * 128 + 128 * 128) * 112**2


def test_time_is_attributed_to_the_layer_that_takes_it(monkeypatch: pytest.MonkeyPatch):
    class Slow(torch.autograd.Function):
        """Sleeps 20 ms forwards and 40 ms backwards."""

        @staticmethod
        def forward(context, images):
            sleep(0.02)
            return images * 1

        @staticmethod
        def backward(context, gradient):
            sleep(0.04)
            return gradient

    class Sleeper(nn.Module):
        def forward(self, images):
            return Slow.apply(images)

    class Network(nn.Sequential):
        channels, size = 1, (8, 8)

    def create(name: str) -> nn.Module:
        layers = [nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(inplace=True), Sleeper(), nn.Flatten(), nn.Linear(128, 1000)]
        return Network(*layers)

    monkeypatch.setattr(striate, "create", create, raising=False)
    timed = time_layers("any", 4, True, 3)
    assert set(timed["layers"]) == {"0", "1", "2", "3", "4"}
    assert timed["layers"]["2"] >= 0.06  # it cannot take less than it sleeps
    forwards = time_layers("any", 4, False, 3)
    assert forwards["layers"]["2"] >= 0.02
    assert forwards["layers"]["2"] < timed["layers"]["2"]
    assert timed["shares"][CONVOLUTION] < timed["shares"]["the rest"]
