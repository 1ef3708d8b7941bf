"""Classification: one class per image.

Truth: a label. Loss: cross-entropy, with label smoothing (Szegedy et al. 2015, section 7) and class weights.
Prediction: the softmax. Metric: top-1 and its company.

Letters: B images, K classes.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.core.annotations import Classifications
from striate.core.batch import Batch
from striate.errors import UsageError, did_you_mean
from striate.metrics.classification import ClassificationMetric
from striate.models.contract import Classifier
from striate.tasks.task import Task


class Classification(Task):
    """Cross-entropy around a network that gives (B, K) logits.

    Args:
        network: from (B, C, H, W) float32 images to (B, K) logits.
        classes: class names.
        label_smoothing: share of the target spread evenly over all classes.
        class_weights: one weight per class; scaled so that their mean over the training images is 1.
    """

    name = "classification"
    headline = "top1"

    def __init__(
        self,
        network: nn.Module,
        classes: Sequence[str],
        *,
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | None = None,
    ):
        super().__init__()
        self.network = network
        self.classes = tuple(classes)
        self.label_smoothing = label_smoothing
        weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)
        self.class_weights: Tensor | None

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The `losses` of the batch."""
        return self.losses(self.training_logits(batch.images), batch.labels)

    def training_logits(self, images: Tensor) -> dict[str, Tensor]:
        """(B, K) logits: the network's under "", those of each auxiliary head under its stage's name."""
        network = self.network
        if isinstance(network, Classifier) and network.auxiliary:
            return network.training_logits(images)
        return {"": network(images)}

    def losses(self, logits: dict[str, Tensor], truths: Classifications) -> dict[str, Tensor]:
        """Cross-entropy, mean over the batch, and that of the network's auxiliary heads times their weight.

        A weighted mean divides by B, not by the sum of the weights, so that the loss of a batch is the mean of the
        losses of its parts.
        """
        target = truths.labels if truths.scores is None else truths.scores

        def loss(logits: Tensor) -> Tensor:
            each = F.cross_entropy(
                logits.float(),
                target,
                weight=self.class_weights,
                label_smoothing=self.label_smoothing,
                reduction="none",
            )
            return each.mean()

        found = {"cross_entropy": loss(logits[""])}
        network = self.network
        if isinstance(network, Classifier):
            found |= {f"auxiliary_{name}": network.auxiliary_weight * loss(x) for name, x in logits.items() if name}
        return found

    def predict(self, batch: Batch) -> Classifications:
        """Softmax probabilities and the most probable class."""
        scores = self.network(batch.images).float().softmax(dim=1)
        return Classifications(labels=scores.argmax(dim=1), scores=scores)

    def metric(self) -> ClassificationMetric:
        """Top-1, top-5, loss, precision, recall, F1, calibration."""
        return ClassificationMetric(len(self.classes))

    def first_loss(self) -> float:
        """What a network that knows nothing pays: ln K, and as much for each auxiliary head times its weight."""
        heads = 1.0
        if isinstance(self.network, Classifier):
            heads += self.network.auxiliary_weight * len(self.network.auxiliary)
        return heads * math.log(len(self.classes))

    def to_json(self) -> dict[str, Any]:
        """The task's name and its class names; losses' settings matter in training only."""
        return {"task": self.name, "classes": list(self.classes)}


def class_weights(text: str, classes: Sequence[str], labels: Tensor) -> list[float] | None:
    """Weights of the classes from a setting.

    Args:
        text: ``none``; ``auto``, the inverse of each class' frequency; or ``name=weight,...``, others weighing 1.
        classes: class names.
        labels: (N,) int64, of the training images.

    Returns:
        K weights with mean 1 over the training images, or None.

    Raises:
        UsageError: an unknown class, or a weight that is not a number of at least 0.
    """
    if text == "none":
        return None
    counts = torch.bincount(labels, minlength=len(classes)).double()
    if text == "auto":
        weights = torch.where(counts > 0, 1 / counts.clamp(min=1), 0.0)
    else:
        weights = torch.ones(len(classes), dtype=torch.float64)
        for part in text.split(","):
            name, _, number = part.rpartition("=")
            if name not in classes:
                raise UsageError(
                    f"class_weights names the class {name!r}, which is not there.{did_you_mean(name, classes)}"
                )
            try:
                weights[classes.index(name)] = float(number)
            except ValueError:
                raise UsageError(f"class_weights: {number!r} (class {name!r}) is not a number.") from None
    mean = float((weights * counts).sum() / counts.sum())
    if not (math.isfinite(mean) and mean > 0 and float(weights.min()) >= 0):
        raise UsageError(f"class_weights = {text!r}: weights must be finite, at least 0, and some above 0.")
    return [float(weight) / mean for weight in weights]
