"""The learning-rate range test (Smith 2015, "Cyclical Learning Rates", section 3.3)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from striate.config import TrainSettings
from striate.engine.evaluate import Batches
from striate.engine.optimizers import LearningGroup, grouped, learners, optimizer
from striate.engine.precision import Precision
from striate.tasks.task import Task

LOWEST, HIGHEST, STEPS = 1e-6, 10.0, 120
SMOOTHING = 0.9
DIVERGED = 4.0  # times the lowest loss so far


@dataclass(frozen=True, kw_only=True)
class LrRange:
    """Loss by learning rate."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]  # smoothed
    suggestion: float  # a tenth of the rate at the lowest loss: high enough to learn, far enough from diverging


def lr_range(
    task: Task, train: Batches, settings: TrainSettings, precision: Precision, groups: Sequence[LearningGroup] = ()
) -> LrRange:
    """Train for a few steps while the learning rate rises from 1e-6 to 10, until the loss explodes.

    The task is spoilt by it. Of ``groups`` all that learn at all do so from the start, each at its share of the rate.
    """
    device = next(task.parameters()).device
    precision.place(task.network)
    if groups:
        task.learn(learners(groups))
    stepper = optimizer(task, settings, grouped(task.network, groups))
    task.train()
    rates: list[float] = []
    losses: list[float] = []
    mean = 0.0
    epoch, batches = 0, train.epoch(0)
    for step in range(STEPS):
        batch = next(batches, None)
        if batch is None:
            epoch += 1
            batches = train.epoch(epoch)
            batch = next(batches)
        rate = LOWEST * (HIGHEST / LOWEST) ** (step / (STEPS - 1))
        for group in stepper.param_groups:
            group["lr"] = rate * group["scale"]
        with precision.autocast(device):
            loss = torch.stack(list(task(precision.images(batch)).values())).sum()
        value = float(loss.detach())
        mean = SMOOTHING * mean + (1 - SMOOTHING) * value
        smoothed = mean / (1 - SMOOTHING ** (step + 1))
        if not math.isfinite(value) or (losses and smoothed > DIVERGED * min(losses)):
            break
        rates.append(rate)
        losses.append(smoothed)
        stepper.zero_grad(set_to_none=True)
        loss.backward()
        stepper.step()
    lowest = losses.index(min(losses))
    return LrRange(rates=tuple(rates), losses=tuple(losses), suggestion=rates[lowest] / 10)
