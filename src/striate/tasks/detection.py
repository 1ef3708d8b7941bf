"""Detection: any number of objects per image, each with its class and its box.

Truth: `InstanceSets`. Losses and predictions: the detector's own (`striate.models.contract.Detector`). Metric: COCO's
AP. The engine sees none of it.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from torch import Tensor

from striate.core.batch import Batch
from striate.core.instances import InstanceSets
from striate.metrics.coco import DetectionMetric
from striate.models.contract import Detector
from striate.models.detectors.two_stage import look_at, looked_at
from striate.ops.suppression import Suppression
from striate.tasks.task import Task


class Detection(Task):
    """A detector with its classes.

    Args:
        network: the detector.
        classes: class names.
        suppression: how it chooses; None: as the detector's paper says.
        thresholds: for each class the score from which on a prediction is shown; None: not measured yet.
        proposals: of an image, that a two-stage detector looks at; None: as it does.
    """

    name = "detection"
    headline = "AP"
    reaches_all = False  # a backbone may be deeper than the detector reads

    def __init__(
        self,
        network: Detector,
        classes: Sequence[str],
        *,
        suppression: Suppression | None = None,
        thresholds: Sequence[float] | None = None,
        proposals: int | None = None,
    ):
        super().__init__()
        self.network = network
        self.classes = tuple(classes)
        self.thresholds = None if thresholds is None else tuple(thresholds)
        if suppression is not None:
            network.suppression = suppression
        if proposals is not None:
            look_at(network, proposals)

    @property
    def detector(self) -> Detector:
        """The network."""
        assert isinstance(self.network, Detector)
        return self.network

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The detector's losses."""
        return self.detector.losses(batch)

    def predict(self, batch: Batch) -> InstanceSets:
        """The objects of each image, most confident first, down to the lowest score that the evaluation wants."""
        return InstanceSets.of(self.detector.detect(batch.images, batch.content))

    def metric(self) -> DetectionMetric:
        """COCO's AP and AR."""
        return DetectionMetric(len(self.classes))

    def first_loss(self) -> float:
        """As the detector expects."""
        return self.detector.first_loss()

    def to_json(self) -> dict[str, Any]:
        """The task's name, its class names, how many proposals are looked at, and how answers are chosen."""
        thresholds = None if self.thresholds is None else list(self.thresholds)
        return {
            "task": self.name,
            "classes": list(self.classes),
            "proposals": looked_at(self.detector),
            "suppression": asdict(self.detector.suppression),
            "thresholds": thresholds,
        }
