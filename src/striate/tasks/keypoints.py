"""Keypoints: a fixed number of points in each image, by coordinate regression.

Truth: `InstanceSets` with one object in every image, whose points have names (`Skeleton`). Toshev and Szegedy 2014,
"DeepPose", section 3.1: the points are regressed in fractions of the image; one that is not labelled teaches nothing.

Letters: B images, P points.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from striate.core.batch import Batch
from striate.core.instances import HIDDEN, UNLABELLED, VISIBLE, InstanceSets, Skeleton
from striate.metrics.keypoints import KeypointMetric, sigmas_of
from striate.models.regressor import Regressor
from striate.ops.losses import smooth_l1
from striate.tasks.task import Task


class Keypoints(Task):
    """A head for the places of the points and one for their visibility, on a backbone.

    Args:
        network: with the heads ``points`` (P x 2 outputs, in fractions of the input's width and height) and ``visible``
            (P outputs).
        classes: class names: that of the object whose points they are.
        skeleton: what the points mean.
    """

    name = "keypoints"
    headline = "PCK"

    def __init__(self, network: Regressor, classes: tuple[str, ...], *, skeleton: Skeleton):
        super().__init__()
        self.network = network
        self.classes = tuple(classes)
        self.skeleton = skeleton

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """``points``: smooth L1 of the labelled ones; ``visible``: cross-entropy of their visibility; means over B."""
        truth = self._targets(batch)
        outputs = self.network(batch.images)
        places, visible = self._read(outputs)
        labelled = (truth[..., 2] > UNLABELLED).float()
        distance = smooth_l1(places.float(), truth[..., :2] / self._unit(batch.images), beta=_BETA).sum(-1)
        entropy = F.binary_cross_entropy_with_logits(
            visible.float(), (truth[..., 2] == VISIBLE).float(), reduction="none"
        )
        count = len(self.skeleton.names)
        return {
            "points": (distance * labelled).sum(1).mean() / count * _POINTS_WEIGHT,
            "visible": (entropy * labelled).sum(1).mean() / count * _VISIBLE_WEIGHT,
        }

    def predict(self, batch: Batch) -> InstanceSets:
        """One object in each image, with its points, the box around them, and their mean visibility as its score."""
        places, visible = self._read(self.network(batch.images))
        limits = batch.content.flip(1).to(places.device)[:, None].float()
        places = torch.minimum((places.float() * self._unit(batch.images)).clamp(min=0), limits)
        probability = visible.float().sigmoid()
        seen = torch.where(probability >= 0.5, float(VISIBLE), float(HIDDEN))
        count = len(batch)
        return InstanceSets(
            offsets=torch.arange(count + 1),
            boxes=torch.cat((places.amin(1), places.amax(1)), dim=1),
            labels=torch.zeros(count, dtype=torch.int64, device=places.device),
            scores=probability.mean(1),
            keypoints=torch.cat((places, seen[..., None]), dim=2),
        )

    def metric(self) -> KeypointMetric:
        """PCK and OKS, with COCO's sigmas where the points are those of its persons."""
        return KeypointMetric(len(self.classes), sigmas=sigmas_of(self.skeleton.names))

    def first_loss(self) -> float:
        """What a network pays that sees every point in the corner and doubts that it is visible, about."""
        return _POINTS_WEIGHT * 2 * (0.5 - _BETA / 2) + _VISIBLE_WEIGHT * math.log(2)

    def to_json(self) -> dict[str, Any]:
        """The task's name, the class and the points' names, mirror images and lines."""
        return {
            "task": self.name,
            "classes": list(self.classes),
            "points": list(self.skeleton.names),
            "flips": list(self.skeleton.flips),
            "edges": [list(edge) for edge in self.skeleton.edges],
        }

    def _targets(self, batch: Batch) -> Tensor:
        """(B, P, 3); of an image whose object augmentation has lost no point is labelled."""
        truths = batch.instances
        targets = torch.zeros(len(batch), len(self.skeleton.names), 3, device=batch.images.device)
        if truths.keypoints is not None and len(truths.boxes):
            targets[truths.images] = truths.keypoints
        return targets

    def _read(self, outputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """(B, P, 2) places and (B, P) logits, of the one window of an image of the network's size."""
        down, across = outputs["visible"].shape[2:]
        points = outputs["points"][:, :, down // 2, across // 2].unflatten(1, (-1, 2))
        return points, outputs["visible"][:, :, down // 2, across // 2]

    def _unit(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        return images.new_tensor([width, height])


_BETA = 0.02  # from 2% of the image on the loss is linear: beyond it lie outliers, within it every pixel counts
_POINTS_WEIGHT, _VISIBLE_WEIGHT = 10.0, 0.1
