"""Arithmetic and memory format of the training step, chosen by timing it."""

import copy
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch
from torch import nn

from striate.config import TrainSettings
from striate.core.batch import Batch
from striate.tasks.task import Task

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Another choice than plain float32 must be so much faster, or noise would decide, and the same command would give other
# numbers from run to run. The networks that gain (2 to 3 times) are beyond doubt, the others take seconds anyway.
GAIN = 1.7
ROUNDS = 3
BUDGET = 4.0  # seconds after which no further round is begun


@dataclass(frozen=True)
class Precision:
    """How a training step computes; evaluation is always float32."""

    dtype: str = "float32"
    channels_last: bool = False

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """The context in which losses are computed."""
        return torch.autocast(device.type, DTYPES[self.dtype], enabled=self.dtype != "float32")

    def place(self, network: nn.Module) -> None:
        """Put the weights into the memory format."""
        if self.channels_last:
            network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def images(self, batch: Batch) -> Batch:
        """Put the images into the memory format."""
        if not self.channels_last:
            return batch
        return replace(batch, images=batch.images.contiguous(memory_format=torch.channels_last))

    def __str__(self) -> str:
        return f"{self.dtype}, channels last" if self.channels_last else self.dtype


def candidates(settings: TrainSettings) -> list[Precision]:
    """What the settings leave open, plain float32 first; a deterministic run leaves nothing to timing."""
    if settings.deterministic:
        dtype = "float32" if settings.precision == "auto" else settings.precision
        return [Precision(dtype, settings.channels_last is True)]
    dtypes = ["float32", "bfloat16"] if settings.precision == "auto" else [settings.precision]
    formats = [False, True] if settings.channels_last == "auto" else [settings.channels_last]
    return [Precision(dtype, channels_last) for dtype in dtypes for channels_last in formats]


def choose(task: Task, batch: Batch, settings: TrainSettings) -> tuple[Precision, dict[str, float]]:
    """The fastest of the candidates on a real batch.

    Forward and backward passes run on a copy of the task; the random state is left as it was.

    Returns:
        The choice, and images/s of every candidate that was timed (empty where there was nothing to choose).
    """
    choices = candidates(settings)
    device = batch.images.device
    if len(choices) == 1:
        return choices[0], {}
    devices = [device] if device.type == "cuda" else []
    best = dict.fromkeys(choices, float("inf"))
    with torch.random.fork_rng(devices):
        copies = {choice: copy.deepcopy(task).train() for choice in choices}
        for choice, module in copies.items():
            choice.place(module.network)
            _seconds(module, batch, choice)  # warm-up: primitives are created, caches filled
        started = time.perf_counter()
        for _ in range(ROUNDS):
            for choice, module in copies.items():
                best[choice] = min(best[choice], _seconds(module, batch, choice))
            if time.perf_counter() - started > BUDGET:
                break
    plain = choices[0]
    fastest = min(choices, key=best.__getitem__)
    chosen = fastest if best[plain] > GAIN * best[fastest] else plain
    return chosen, {str(choice): len(batch) / seconds for choice, seconds in best.items()}


def _seconds(task: Task, batch: Batch, precision: Precision) -> float:
    device = batch.images.device
    task.zero_grad(set_to_none=True)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    with precision.autocast(device):
        losses = task(precision.images(batch))
    torch.stack(list(losses.values())).sum().backward()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
