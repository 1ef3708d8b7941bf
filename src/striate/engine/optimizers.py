"""Optimizers and learning-rate schedules, from the settings."""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from striate.config import TrainSettings

Schedule = Callable[[int], float]

# One-cycle (Smith and Topin 2017) in the form that fast.ai made popular: a quarter of the steps up from lr / 25,
# then down to lr / 25 / 1e4, both along a cosine.
ONECYCLE_RISE, ONECYCLE_START, ONECYCLE_END = 0.25, 1 / 25, 1 / 25 / 1e4
STEP_POINTS, STEP_FACTOR = (0.5, 0.75), 0.1  # He et al. 2015, section 4.2: divided by ten at 32k and 48k of 64k steps
PLATEAU_FACTOR, PLATEAU_PATIENCE = 0.1, 3  # divide by ten when validation settles (Krizhevsky et al. 2012, section 5)
DEFAULT_LR = {"sgd": 0.1, "adam": 0.002, "adamw": 0.002}


@dataclass(frozen=True, kw_only=True)
class LearningGroup:
    """Parameters of a network that learn at one rate, from one epoch on."""

    name: str  # of the stage
    parameters: tuple[str, ...]  # names in the network
    scale: float = 1.0  # of the learning rate
    start: int | None = 0  # the first epoch (0-based) that they learn in; None: they stay as they are
    stop: int | None = None  # the first epoch that they no longer learn in; None: they learn to the end

    def learns(self, epoch: int) -> bool:
        """Whether they learn in an epoch (0-based)."""
        return self.start is not None and self.start <= epoch and (self.stop is None or epoch < self.stop)


def learners(groups: Iterable[LearningGroup]) -> set[str]:
    """The names of all parameters that learn at any time."""
    return {name for group in groups if group.start is not None for name in group.parameters}


def beginnings(groups: Iterable[LearningGroup], epochs: int) -> tuple[int, ...]:
    """The epochs (0-based) in which a training begins: the first, and each in which some parameters stop for others."""
    return tuple(sorted({0} | {group.stop for group in groups if group.stop is not None and group.stop < epochs}))


def grouped(network: nn.Module, groups: Iterable[LearningGroup]) -> list[tuple[list[nn.Parameter], float]]:
    """The parameters of each group with the scale of their learning rate, as `optimizer` takes them."""
    return [([network.get_parameter(name) for name in group.parameters], group.scale) for group in groups]


def decayed(parameters: Iterable[nn.Parameter], everything: bool) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Trainable parameters with and without weight decay: norms, biases and other vectors go without unless asked."""
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    if everything:
        return trainable, []
    return [p for p in trainable if p.ndim > 1], [p for p in trainable if p.ndim <= 1]


def optimizer(
    module: nn.Module, settings: TrainSettings, groups: Sequence[tuple[list[nn.Parameter], float]] = ()
) -> torch.optim.Optimizer:
    """The optimizer of the settings over trainable parameters.

    Weight decay is L2 in SGD and Adam, decoupled in AdamW.

    Args:
        module: whose parameters.
        settings: of which those of the group "training" are read.
        groups: parameters with the scale of their learning rate, which the optimizer's groups keep as ``scale``;
            without, all of the module's at the same rate.
    """
    given: list[dict[str, Any]] = []
    for parameters, scale in groups or [(list(module.parameters()), 1.0)]:
        with_decay, without = decayed(parameters, settings.decay_all)
        given += [
            {"params": some, "weight_decay": decay, "scale": scale}
            for some, decay in ((with_decay, settings.weight_decay), (without, 0.0))
            if some
        ]
    lr = peak_lr(settings)
    fused = all(parameter.device.type in ("cpu", "cuda") for parameter in module.parameters())
    if settings.optimizer == "sgd":
        nesterov = settings.nesterov and settings.momentum > 0
        return torch.optim.SGD(given, lr=lr, momentum=settings.momentum, nesterov=nesterov, fused=fused)
    kind = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.AdamW
    return kind(given, lr=lr, betas=(settings.momentum, 0.999), fused=fused)


def peak_lr(settings: TrainSettings) -> float:
    """The learning rate at its peak."""
    return DEFAULT_LR[settings.optimizer] if settings.lr == "auto" else settings.lr


def schedule(settings: TrainSettings, steps_per_epoch: int, begins: Sequence[int] = (0,)) -> Schedule:
    """The course of the learning rate: from the step's number (0-based, over all epochs) to a factor of the peak.

    ``plateau`` is constant here; `Plateau` lowers it as validation settles.

    Args:
        settings: of which those of the group "training" are read.
        steps_per_epoch: steps in each epoch.
        begins: the epochs in which the course begins, as `beginnings` finds them; each lasts until the next.
    """
    lengths = [end - begin for begin, end in pairwise((*begins, settings.epochs))]
    courses = [_course(replace(settings, epochs=length), steps_per_epoch) for length in lengths]
    firsts = [begin * steps_per_epoch for begin in begins]

    def course(step: int) -> float:
        place = bisect_right(firsts, step) - 1
        return courses[place](step - firsts[place])

    return course


def _course(settings: TrainSettings, steps_per_epoch: int) -> Schedule:
    total = max(1, settings.epochs * steps_per_epoch)
    warmup = round(settings.warmup * steps_per_epoch)

    def course(step: int) -> float:
        if settings.schedule == "onecycle":
            return _onecycle(step / total)
        done = max(0, step - warmup) / max(1, total - warmup)
        if settings.schedule == "cosine":
            return (1 + math.cos(math.pi * min(1.0, done))) / 2
        if settings.schedule == "step":
            return STEP_FACTOR ** sum(step / total >= point for point in STEP_POINTS)
        return 1.0

    return lambda step: course(step) * (min(1.0, (step + 1) / warmup) if warmup else 1.0)


def _onecycle(done: float) -> float:
    if done < ONECYCLE_RISE:
        start, end, share = ONECYCLE_START, 1.0, done / ONECYCLE_RISE
    else:
        start, end, share = 1.0, ONECYCLE_END, min(1.0, (done - ONECYCLE_RISE) / (1 - ONECYCLE_RISE))
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


class Plateau:
    """Divides the learning rate by ten when the headline metric has not improved for some epochs."""

    def __init__(self) -> None:
        self.factor = 1.0
        self.best = -math.inf
        self.waited = 0

    def update(self, value: float) -> bool:
        """Take in an epoch's metric (higher is better); True when the rate was lowered."""
        if value > self.best:
            self.best, self.waited = value, 0
            return False
        self.waited += 1
        if self.waited <= PLATEAU_PATIENCE:
            return False
        self.factor *= PLATEAU_FACTOR
        self.waited = 0
        return True


@torch.no_grad()
def add_l1(parameters: Iterable[nn.Parameter], strength: float) -> None:
    """Add the gradient of ``strength * sum |w|`` to the gradients."""
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad.add_(parameter.sign(), alpha=strength)
