"""What every task promises: the engine knows tasks only by this."""

from collections.abc import Collection
from typing import Any, Self

from torch import Tensor, nn

from striate.core.annotations import Annotations
from striate.core.batch import Batch
from striate.metrics.metric import Metric


class Task(nn.Module):
    """A network with its losses, predictions and metric.

    Distribution, compilation and weight averaging wrap the task; the loop calls it and sees no difference.

    Attributes:
        name: as in ``--task``.
        network: the network that is trained.
        headline: the metric that decides which epoch is best; higher is better.
    """

    name: str
    network: nn.Module
    headline: str
    frozen: tuple[str, ...] = ()  # modules of the network that stay in evaluation mode
    reaches_all: bool = True  # the losses depend on every parameter that learns

    def learn(self, parameters: Collection[str]) -> None:
        """Let these parameters of the network learn, and no others.

        A module without a parameter that learns runs as in evaluation from now on: its batch normalisation keeps its
        statistics, its dropout is off.

        Args:
            parameters: names in the network.
        """
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(name in parameters)
        self.frozen = tuple(
            name
            for name, module in self.network.named_modules()
            if (own := list(module.parameters())) and not any(parameter.requires_grad for parameter in own)
        )
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """As of any module, but for what is frozen."""
        super().train(mode)
        for name in self.frozen:
            self.network.get_submodule(name).eval()
        return self

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Training losses, each a scalar and a mean over the batch: over its images, or as below.

        The engine weighs micro-batches and processes by their images, so that they add up to the loss of the whole
        batch. Detectors whose papers divide by the objects, positives or regions of the batch (all but YOLO and
        RetinaNet) divide by those of the micro-batch: cut into several, theirs is a mean of means, in which an object
        among few counts more, and not quite the loss of the whole batch.
        """
        raise NotImplementedError

    def predict(self, batch: Batch) -> Annotations:
        """Annotations for every image of the batch, in its order and in the coordinates of its images."""
        raise NotImplementedError

    def metric(self) -> Metric:
        """A fresh metric."""
        raise NotImplementedError

    def first_loss(self) -> float:
        """The total loss expected of an untrained network; far from it, something is wrong before training starts."""
        raise NotImplementedError

    def to_json(self) -> dict[str, Any]:
        """What `striate.tasks.catalog.build_task` needs to make the task again around a network."""
        raise NotImplementedError
