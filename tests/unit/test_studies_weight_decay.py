"""The study of weight decay: its verdict on made-up numbers, what decay leaves of a weight, and one small run."""

from pathlib import Path

import pytest
import torch
import yaml

from striate.engine.log import Display
from striate.studies.run import run_study
from striate.studies.shrinking import PLAIN, Errors, Way
from striate.studies.weight_decay import STUDY, Decays, judged, remaining


def way(name: str, train: float, *tests: float) -> Way:
    errors = [[Errors(train=train, test=test), Errors(train=train, test=test * 1.001)] for test in tests]
    return Way(name=name, images=[600, 60000], errors=errors)


@pytest.mark.parametrize(
    ("weak_train", "middle", "holds"),
    [
        (0.02, (0.08, 0.02), [True, True, True]),
        (0.03, (0.08, 0.02), [True, True, False]),  # the training error stays
        (0.02, (0.09, 0.01), [True, False, True]),  # it helps more with many images
        (0.04, (0.11, 0.01), [False, False, False]),
    ],
)
def test_the_verdict_follows_from_the_numbers(weak_train: float, middle: tuple[float, float], holds: list[bool]):
    weak, strong = way("decay 0.0005", weak_train, 0.1, 0.02), way("decay 0.05", 0.0, 0.01, 0.01)
    parts = judged(way("without", 0.03, 0.1, 0.02), [weak, way("decay 0.005", 0.03, *middle), strong])
    assert [part.holds for part in parts] == holds


def test_what_decay_leaves_is_what_the_optimizer_leaves():
    steps, decay = 400, 5e-3
    weight = torch.ones(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=PLAIN["lr"], momentum=0.9, nesterov=True, weight_decay=decay)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        weight.grad = torch.zeros(1)
        optimizer.step()
        cosine.step()
    assert remaining(decay, steps) == pytest.approx(weight.item(), rel=0.05)


def test_it_trains_with_each_decay(tmp_path: Path):
    plan = Decays(per_class=(1,), steps=1, seeds=1, decays=(0.1, 0.2))
    result = run_study(STUDY, data="digits", plan=plan, out=tmp_path / "study", display=Display(quiet=True))
    assert set(result.findings.numbers["errors_saved"]) == {"decay 0.1", "decay 0.2"}
    files = (tmp_path / "study" / "runs").glob("*/run.yaml")
    assert {yaml.safe_load(file.read_text())["settings"]["weight_decay"] for file in files} == {0.0, 0.1, 0.2}
