"""Localization: the class and the box of the one object in an image, or of each of N.

Truth: `InstanceSets` with N objects in every image. Where there are several, they are told apart by their place: the
first answer is for the leftmost one. Losses: cross-entropy of the class and a loss of the box. Metric: the share of
objects whose class and box are right, and IoU.

Letters: B images, N objects of each, K classes.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from striate.core.batch import Batch
from striate.core.instances import Instances, InstanceSets
from striate.metrics.localization import LocalizationMetric
from striate.models.regressor import Regressor
from striate.ops.boxes import clip, from_form, to_form
from striate.ops.losses import BoxLoss, box_loss
from striate.tasks.task import Task

BoxForm = Literal["corners", "centre"]
HEADS = {"class": "heads.logits", "box": "heads.boxes"}  # modules of the network, by what they say


class Localization(Task):
    """A class head and a box head on a backbone.

    The box head gives the box in fractions of the input's width and height.

    Args:
        network: with the heads ``logits`` (N x K outputs) and ``boxes`` (N x 4).
        classes: class names.
        objects: N.
        form: what the four numbers of a box are: two corners, or centre and size.
        loss: of the boxes; see `striate.ops.losses.box_loss`.
        box_weight: of that loss beside the cross-entropy.
        label_smoothing: share of the target spread evenly over all classes.
    """

    name = "localization"
    headline = "top1_localization"

    def __init__(
        self,
        network: Regressor,
        classes: Sequence[str],
        *,
        objects: int = 1,
        form: BoxForm = "corners",
        loss: BoxLoss = "smooth_l1",
        box_weight: float = 1.0,
        label_smoothing: float = 0.0,
    ):
        super().__init__()
        self.network = network
        self.classes = tuple(classes)
        self.objects = objects
        self.form: BoxForm = form
        self.loss: BoxLoss = loss
        self.box_weight = box_weight
        self.label_smoothing = label_smoothing

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """``cross_entropy`` and ``box``, each a mean over the batch's objects; that of a frozen head is left out.

        An image that augmentation left without one of its objects teaches nothing.
        """
        labels, boxes, whole = self._targets(batch)
        outputs = self.network(batch.images)
        logits, predicted = self._read(outputs, _centre(outputs))
        entropy = F.cross_entropy(
            logits.flatten(0, 1).float(), labels.flatten(), label_smoothing=self.label_smoothing, reduction="none"
        )
        unit = self._unit(batch.images)
        if self.loss in ("l2", "smooth_l1"):
            form = _FORMS[self.form]
            wanted = boxes / unit if form is None else to_form(boxes / unit, form)
            loss = box_loss(self.loss, predicted.float(), wanted)
        else:
            loss = box_loss(self.loss, self._corners(predicted.float()) * unit, boxes)
        weight = whole[:, None].float()
        losses = {
            "class": ("cross_entropy", (entropy.view(labels.shape) * weight).mean()),
            "box": ("box", self.box_weight * (loss * weight).mean()),
        }
        return dict(losses[head] for head in self._learning)

    def predict(self, batch: Batch) -> InstanceSets:
        """N objects of each image, left to right: the most probable class, its probability, the box."""
        outputs = self.network(batch.images)
        logits, predicted = self._read(outputs, _centre(outputs))
        boxes = self._corners(predicted.float()) * self._unit(batch.images)
        scores, labels = logits.float().softmax(-1).max(-1)
        return InstanceSets.of(
            [
                Instances(boxes=clip(boxes[row], size), labels=labels[row], scores=scores[row])
                for row, size in enumerate(batch.content)
            ]
        )

    def windows(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What every window of one large image says of the one object that it takes for granted.

        Args:
            images: (1, C, H, W) float32, normalised, as large as the network's window or larger.

        Returns:
            (h w, 4) boxes in pixels of the image, (h w, K) probabilities.
        """
        assert isinstance(self.network, Regressor)
        outputs = self.network(images)
        _, _, down, across = outputs["boxes"].shape
        height, width = self.network.window
        boxes = self._corners(outputs["boxes"][0].flatten(1).T.float())
        boxes = boxes * boxes.new_tensor([width, height, width, height])
        y, x = torch.meshgrid(torch.arange(down), torch.arange(across), indexing="ij")
        shift = (torch.stack((x, y), dim=-1).reshape(-1, 2) * self.network.stride).to(boxes)
        return boxes + shift.repeat(1, 2), outputs["logits"][0].flatten(1).T.float().softmax(1)

    def metric(self) -> LocalizationMetric:
        """IoU, and the share of objects whose class and box are right."""
        return LocalizationMetric(len(self.classes))

    def first_loss(self) -> float:
        """What a network that knows nothing pays: ln K, and for the box what a box of size 0 pays on average, about."""
        box = self.box_weight * (0.5 if self.loss in ("l2", "smooth_l1") else 1.0)
        expected = {"class": math.log(len(self.classes)), "box": box}
        return sum(expected[head] for head in self._learning)

    def to_json(self) -> dict[str, Any]:
        """The task's name, classes, number of objects and form of the boxes."""
        return {"task": self.name, "classes": list(self.classes), "objects": self.objects, "form": self.form}

    @property
    def _learning(self) -> list[str]:
        """The heads that are not frozen. A frozen one must not teach the body, which may be learning."""
        return [head for head, module in HEADS.items() if module not in self.frozen]

    def _targets(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """(B, N) labels, (B, N, 4) boxes, and (B,) bool whether an image has all of its objects."""
        device = batch.images.device
        labels = torch.zeros(len(batch), self.objects, dtype=torch.int64, device=device)
        boxes = torch.zeros(len(batch), self.objects, 4, device=device)
        boxes[..., 2:] = 1.0  # of an image that teaches nothing: any box that is one
        whole = (batch.instances.counts == self.objects).to(device)
        for row, truth in enumerate(batch.instances):
            if len(truth) == self.objects:
                order = (truth.boxes[:, 0] + truth.boxes[:, 2]).argsort(stable=True)
                labels[row], boxes[row] = truth.labels[order], truth.boxes[order]
        return labels, boxes, whole

    def _read(self, outputs: dict[str, Tensor], window: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """(B, N, K) logits and (B, N, 4) boxes of one window."""
        down, across = window
        logits = outputs["logits"][:, :, down, across].unflatten(1, (self.objects, len(self.classes)))
        return logits, outputs["boxes"][:, :, down, across].unflatten(1, (self.objects, 4))

    def _corners(self, predicted: Tensor) -> Tensor:
        form = _FORMS[self.form]
        boxes = predicted if form is None else from_form(predicted, form)
        first, last = boxes.split(2, dim=-1)
        return torch.cat((torch.minimum(first, last), torch.maximum(first, last)), dim=-1)

    def _unit(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        return images.new_tensor([width, height, width, height])


_FORMS: dict[BoxForm, Literal["cxcywh"] | None] = {"corners": None, "centre": "cxcywh"}


def _centre(outputs: dict[str, Tensor]) -> tuple[int, int]:
    """The one window of an image of the network's size; of a larger one that in the middle."""
    _, _, down, across = outputs["boxes"].shape
    return down // 2, across // 2
