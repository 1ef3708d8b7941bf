"""Schedules and optimizers against torch's own."""

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from striate.config import TrainSettings
from striate.engine.optimizers import Plateau, add_l1, decayed, optimizer, schedule

STEPS, EPOCHS = 10, 8
TOTAL = STEPS * EPOCHS


def ours(settings: TrainSettings) -> list[float]:
    course = schedule(settings, STEPS)
    return [course(step) for step in range(TOTAL)]


def torchs(make: object) -> list[float]:
    parameter = nn.Parameter(torch.zeros(1))
    stepper = torch.optim.SGD([parameter], lr=1.0)
    scheduler = make(stepper)  # type: ignore[operator]
    rates: list[float] = []
    for _ in range(TOTAL):
        rates.append(stepper.param_groups[0]["lr"])
        stepper.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("settings", "reference", "tolerance"),
    [
        (TrainSettings(epochs=EPOCHS, schedule="constant"), lambda o: lr_scheduler.ConstantLR(o, factor=1.0), 1e-9),
        (TrainSettings(epochs=EPOCHS, schedule="cosine"), lambda o: lr_scheduler.CosineAnnealingLR(o, TOTAL), 1e-9),
        (TrainSettings(epochs=EPOCHS, schedule="step"), lambda o: lr_scheduler.MultiStepLR(o, [40, 60], 0.1), 1e-9),
        (
            TrainSettings(epochs=EPOCHS, schedule="constant", warmup=2),
            lambda o: lr_scheduler.LinearLR(o, 1 / 20, 1.0, 19),
            1e-9,
        ),
        (
            TrainSettings(epochs=EPOCHS, schedule="onecycle"),
            # torch puts the peak one step earlier and the end on the last step: alike within a step's difference.
            lambda o: lr_scheduler.OneCycleLR(o, 1.0, TOTAL + 1, pct_start=0.25, div_factor=25, final_div_factor=1e4),
            0.06,
        ),
    ],
    ids=["constant", "cosine", "step", "warm-up", "one-cycle"],
)
def test_schedule(settings: TrainSettings, reference: object, tolerance: float) -> None:
    assert ours(settings) == pytest.approx(torchs(reference), abs=tolerance)


def test_plateau_counts_like_torchs() -> None:
    values = [0.1, 0.2, 0.2, 0.2, 0.2, 0.2, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3]
    stepper = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = lr_scheduler.ReduceLROnPlateau(stepper, mode="max", factor=0.1, patience=3, threshold=0)
    plateau = Plateau()
    for value in values:
        plateau.update(value)
        scheduler.step(value)
        assert plateau.factor == pytest.approx(stepper.param_groups[0]["lr"])
    assert plateau.factor < 1


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_optimizer_steps_as_the_formula_says(name: str) -> None:
    """Weights decay (L2 in SGD and Adam, decoupled in AdamW), norms and biases do not."""
    settings = TrainSettings(optimizer=name, lr=0.1, weight_decay=0.5, momentum=0.0, nesterov=False)  # type: ignore[arg-type]
    layer = nn.Linear(3, 2)
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    stepper = optimizer(layer, settings)
    layer(torch.ones(1, 3)).sum().backward()
    gradient = layer.weight.grad.clone()  # type: ignore[union-attr]
    stepper.step()
    if name == "sgd":
        expected = weight - 0.1 * (gradient + 0.5 * weight)
    elif name == "adam":  # the first step of Adam goes by the sign of the gradient
        expected = weight - 0.1 * (gradient + 0.5 * weight).sign()
    else:
        expected = weight * (1 - 0.1 * 0.5) - 0.1 * gradient.sign()
    torch.testing.assert_close(layer.weight.detach(), expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(layer.bias.detach(), bias - 0.1, atol=1e-6, rtol=1e-5)


def test_norms_and_biases_decay_only_when_asked() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    assert [p.ndim for p in decayed(network.parameters(), False)[0]] == [4]
    assert len(decayed(network.parameters(), False)[1]) == 3
    assert len(decayed(network.parameters(), True)[0]) == 4


def test_l1_is_the_gradient_of_its_penalty() -> None:
    weight = nn.Parameter(torch.tensor([1.0, -2.0, 0.0]))
    (0.3 * weight.abs().sum()).backward()
    expected = weight.grad.clone()  # type: ignore[union-attr]
    weight.grad = torch.zeros(3)
    add_l1([weight], 0.3)
    torch.testing.assert_close(weight.grad, expected)
