"""The largest batch that fits, found by trying."""

import copy
import os
import sys
import time

import torch

from striate.core.batch import Batch
from striate.engine.fit import out_of_memory
from striate.tasks.task import Task

LARGEST = 1024
SHARE = 0.6  # of the free memory
GAIN = 1.05  # a doubled batch that is not so much faster per image is not worth its coarser steps


def largest_batch(task: Task, sample: Batch, images: int) -> int:
    """The largest power of two that fits into memory and still makes a step faster per image.

    Args:
        task: on its device; a copy of it is tried.
        sample: at least one real image, repeated to every size.
        images: training images; a batch never exceeds an eighth of them, or an epoch would have too few steps.
    """
    device = sample.images.device
    limit = max(1, min(LARGEST, images // 8))
    best, rate, size = 1, 0.0, 2  # batch normalisation needs two
    free = _free(device)
    while size <= limit:
        before = peak_memory(device)
        try:
            with torch.random.fork_rng([device] if device.type == "cuda" else []):
                found = _rate(copy.deepcopy(task).train(), _repeated(sample, size))
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            break
        if size > 8 and found < GAIN * rate:
            break
        best, rate = size, found
        if 2 * (peak_memory(device) - before) > SHARE * free:
            break
        size *= 2
    return best


def _repeated(sample: Batch, size: int) -> Batch:
    return sample.select(torch.zeros(size, dtype=torch.int64))


def _rate(task: Task, batch: Batch) -> float:
    seconds = float("inf")
    for _ in range(2):
        task.zero_grad(set_to_none=True)
        started = time.perf_counter()
        torch.stack(list(task(batch).values())).sum().backward()
        if batch.images.device.type == "cuda":
            torch.cuda.synchronize(batch.images.device)
        seconds = min(seconds, time.perf_counter() - started)
    return len(batch) / seconds


def _free(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def peak_memory(device: torch.device) -> int:
    """The most memory so far, in bytes: of the device, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource  # not on Windows, where nothing else here needs it

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
