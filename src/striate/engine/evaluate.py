"""Evaluation: a metric over all batches, in float32."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch

from striate.core.annotations import Annotations, concatenate
from striate.core.batch import Batch
from striate.engine import distributed
from striate.metrics.metric import Metric
from striate.tasks.task import Task


class Batches(Protocol):
    """Where batches come from; `striate.data.loader.Loader` is one.

    Batch k of an epoch depends on nothing but the seed, the epoch and k, so that `epoch` can start anywhere.
    """

    @property
    def steps(self) -> int:
        """Batches per epoch."""
        ...

    @property
    def wait(self) -> float:
        """Seconds that the consumer has waited for batches, since the start."""
        ...

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from number ``start`` on; of several processes each gets its share."""
        ...


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A metric and, where they were kept, the predictions that it was computed from, of all processes."""

    metric: Metric
    predictions: Annotations | None = None  # in the original images
    truths: Annotations | None = None
    indices: torch.Tensor | None = None  # (N,) int64, rows of the data set


@torch.inference_mode()
def evaluate(
    task: Task,
    batches: Batches,
    *,
    keep: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Predict every batch and gather the task's metric over all processes.

    Args:
        task: on the device of the batches; its mode is put back afterwards.
        batches: what to evaluate on.
        keep: keep predictions and truths, on the CPU.
        progress: called with the number of batches done and their total.
    """
    metric = task.metric()
    kept: list[tuple[Annotations, Annotations, torch.Tensor]] = []
    training = task.training
    task.eval()
    try:
        for number, batch in enumerate(batches.epoch(0)):
            if len(batch):
                predictions, truths = batch.restored(task.predict(batch)), batch.restored(batch.truths)
                metric.update(predictions, truths, batch.indices)
                if keep:
                    kept.append((predictions.to("cpu"), truths.to("cpu"), batch.indices))
            if progress is not None:
                progress(number + 1, batches.steps)
    finally:
        task.train(training)
    metric = distributed.merged(metric)
    kept = distributed.gathered(kept)
    if not kept:
        return Evaluation(metric=metric)
    predictions, truths, indices = zip(*kept, strict=True)
    return Evaluation(
        metric=metric,
        predictions=concatenate(predictions),
        truths=concatenate(truths),
        indices=torch.cat(indices),
    )
