"""Several processes as one, under ``torchrun``: gloo on CPUs, NCCL on GPUs.

Every function also answers for a single process, so that nobody else asks how many there are.
"""

import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Protocol, Self, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from striate.tasks.task import Task


class Mergeable(Protocol):
    """Something that can take in its like."""

    def merge(self, other: Self) -> None:
        """Take in what another process gathered."""
        ...


M = TypeVar("M", bound=Mergeable)
T = TypeVar("T")


def launched() -> bool:
    """Whether ``torchrun`` started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def processes(device: torch.device) -> Generator[tuple[int, int]]:
    """Join the other processes; gives this one's rank and how many there are."""
    if not launched():
        yield 0, 1
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
        dist.init_process_group("nccl", device_id=device)
    else:
        dist.init_process_group("gloo")
    try:
        yield dist.get_rank(), dist.get_world_size()
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """The number of this process; 0 does the writing."""
    return dist.get_rank() if dist.is_initialized() else int(os.environ.get("RANK", "0")) if launched() else 0


def world() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def total(values: Tensor) -> Tensor:
    """Sum over the processes, in place."""
    if dist.is_initialized():
        dist.all_reduce(values)
    return values


def barrier() -> None:
    """Wait until every process is here."""
    if dist.is_initialized():
        dist.barrier()


def same_for_all(value: dict[str, Any]) -> dict[str, Any]:
    """What rank 0 decided (measured, drawn, named) for every process; plain values only."""
    if not dist.is_initialized():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def gathered(rows: list[T]) -> list[T]:
    """The rows of all processes, in the order of their ranks; plain values only."""
    if not dist.is_initialized():
        return rows
    parts: list[list[T] | None] = [None] * world()
    dist.all_gather_object(parts, rows)
    return [row for part in parts for row in part or []]


def share_buffers(module: nn.Module) -> None:
    """Give every process rank 0's buffers, such as the running statistics of batch normalisation."""
    if dist.is_initialized():
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)


def merged(metric: M) -> M:
    """One metric over what all processes gathered, on every process."""
    if not dist.is_initialized():
        return metric
    gathered: list[object] = [None] * world()
    dist.all_gather_object(gathered, metric)
    first, *others = cast("list[M]", gathered)
    for other in others:
        first.merge(other)
    return first


def wrap(task: Task, device: torch.device) -> nn.Module:
    """The task as the training step calls it: with gradients averaged over the processes where there are several."""
    if world() == 1:
        return task
    return nn.parallel.DistributedDataParallel(
        task,
        device_ids=[device.index] if device.type == "cuda" else None,
        find_unused_parameters=not task.reaches_all,
    )
