"""What the studies of overfitting share: equal steps for any number of images, and when a remedy counts as a help."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

import striate
from striate.studies import shrinking
from striate.studies.shrinking import BATCH, Errors, Sizes, Way
from striate.studies.study import summary


class FakeLab:
    """Trains nothing; the test error is a hundredth of the seed plus one."""

    seeds = range(2)

    def __init__(self) -> None:
        self.trained: dict[tuple[str, int], dict[str, Any]] = {}

    def plan(self, steps: int) -> None:
        self.planned = steps

    def images(self, split: str, *, per_class: int) -> Any:
        return SimpleNamespace(classes=tuple("0123456789"))

    def train(self, label: str, *, seed: int, **settings: Any) -> Any:
        self.trained[label, seed] = settings
        return SimpleNamespace(path=Path("none"), metrics={"top1": 1 - (seed + 1) / 100})

    def once(self, label: str, compute: Any, *arguments: Any) -> float:
        return 0.005


def test_every_training_takes_as_many_steps():
    lab: Any = FakeLab()
    plain, small = shrinking.train_all(
        lab,
        Sizes(per_class=(60, 600, 6000), steps=600, seeds=2),
        {"without": {}, "small": {"model": "linear"}},
    )
    steps = {s["epochs"] * math.ceil(10 * s["per_class"] / BATCH) for s in lab.trained.values()}
    assert steps == {600}
    assert lab.planned == 2 * len(lab.trained) == 24
    assert plain.images == [600, 6000, 60000]
    assert [each.test for each in plain.errors[0]] == pytest.approx([0.01, 0.02])
    assert [each.train for each in plain.errors[0]] == [0.005, 0.005]
    assert lab.trained["without, 60 per class", 0] == dict(shrinking.PLAIN) | {"per_class": 60, "epochs": 100}
    assert lab.trained["small, 60 per class", 0]["model"] == "linear"
    assert (small.gap[0].mean, small.train[2].mean) == (pytest.approx(0.01), pytest.approx(0.005))
    assert shrinking.passes(plain.images, 600) == "100 passes over 600 images, 10 passes over 6,000, 1 pass over 60,000"


def way(name: str, *tests: float) -> Way:
    return Way(name=name, images=[10], errors=[[Errors(train=0.0, test=test) for test in tests]])


def test_errors_saved_are_paired_by_seed():
    share = shrinking.saved(way("a", 0.1, 0.2), way("b", 0.05, 0.1))[0]
    assert (share.mean, share.margin) == (pytest.approx(0.5), pytest.approx(0))
    assert shrinking.saved(way("a", 0.0), way("b", 0.1))[0].mean == 0


@pytest.mark.parametrize(
    ("shares", "word"),
    [
        ([0.2, 0.21, 0.22], "helps"),
        ([-0.2, -0.21, -0.22], "harms"),
        ([0.2, -0.1, 0.3], "makes no clear difference"),  # the interval reaches below zero
        ([0.01, 0.011, 0.012], "makes no clear difference"),  # too little
        ([0.2], "helps"),
    ],
)
def test_a_remedy_helps_by_enough_and_beyond_chance(shares: list[float], word: str):
    assert shrinking.effect(summary(shares)) == word


def test_the_network_is_as_documented():
    network = striate.create(shrinking.network(), classes=10, channels=1, size=28)
    assert sum(parameter.numel() for parameter in network.parameters()) == 206_954
    dropped = striate.create(shrinking.network(dropout="DROPOUT 0.5 -> "), classes=10, channels=1, size=28)
    kinds = [type(module) for module in dropped.modules() if isinstance(module, nn.Dropout | nn.Linear)]
    assert kinds == [nn.Dropout, nn.Linear] * 2
    narrow = striate.create(shrinking.network(0.5), classes=10, channels=1, size=28)
    assert [module.out_channels for module in narrow.modules() if isinstance(module, nn.Conv2d)] == [4, 8]


def test_signs_are_shown():
    assert shrinking.signed(summary([-0.1])) == "-10%"
    assert shrinking.signed(summary([0.1, 0.1])) == "+10% ± 0%"
