"""EfficientDet: an efficient backbone, BiFPN and light heads, scaled together.

Tan, Pang, Le: "EfficientDet: Scalable and Efficient Object Detection", CVPR 2020, arXiv 1911.09070, table 1, with the
figures of table 2:

    name              size  backbone  BiFPN           heads     parameters         multiply-accumulates
                                      width  layers   layers    published  ours    published  ours
    efficientdet_d0   512   B0           64  3        3         3.9M  3,877,763    2.5B   2,492,331,520
    efficientdet_d1   640   B1           88  4        3         6.6M  6,622,026    6.1B   6,003,416,880
    efficientdet_d2   768   B2          112  5        3         8.1M  8,091,215    11B   10,832,466,688

Ours are for 90 classes, and the multiply-accumulates those of convolutions alone. The authors' code has biases before
batch normalisations too, where they do nothing: 3,880,067 parameters for D0. Without them efficientdet-pytorch
counts 3,877,763, as we do.

    heads         layers x [separable 3x3, batch normalisation of each level's own, swish], separable 3x3 (figure 3)
    anchors       of areas 32^2 (P3) to 512^2 (P7), times 2^0, 2^(1/3), 2^(2/3), ratios 1/2, 1, 2 (section 5.1):
                  A = 9, in the middles of cells
    positives     IoU from 0.5 with an object, and the best of each object; all others are background
    losses        focal loss, alpha 0.25, gamma 1.5 (section 5.1); Huber loss of the deltas, from 0.1 on linear, mean
                  of the four, times 50; both over 1 + the positives of the batch
    detection     the best 1,000 of each level, suppression at an IoU of 0.5, up to 100 objects

What section 5.1 does not say is from the authors' code: anchors' sizes, matching, the Huber loss and its weight.

Differences: the last convolutions start normal with 0.01, as RetinaNet's. The authors look at the best 5,000 of all
levels together. Their wide and high anchors have the sides 1.4 and 0.7 for 2^(1/2) and 2^(-1/2). Training needs more
than one value per channel on P7: two images, or images of more than 128 pixels.

Letters: B images, K classes, M anchors of all levels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.core.batch import Batch
from striate.core.instances import Assigned, Instances
from striate.models.contract import Backbone, Detector, pyramid_stages
from striate.models.heads.dense import (
    PRIOR,
    by_anchor,
    decide,
    map_sizes,
    match_anchors,
    outline,
    positives,
    start_small,
)
from striate.models.necks.bifpn import LEVELS, BiFPN, normalisation, separable
from striate.models.weights import ClassRows
from striate.ops.anchors import Anchors, assigned
from striate.ops.coders import DeltaCoder
from striate.ops.losses import focal_of_labels, smooth_l1
from striate.ops.suppression import Suppression

STRIDES = (8, 16, 32)  # of C3 to C5, section 3.2
OCTAVE = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
ANCHORS = Anchors(
    sizes=tuple(tuple(side * scale for scale in OCTAVE) for side in (32, 64, 128, 256, 512)),
    ratios=(0.5, 1.0, 2.0),
    whole=False,
    centre=0.5,
)
POSITIVE = 0.5  # IoU
ALPHA, GAMMA = 0.25, 1.5  # section 5.1
LINEAR, BOXES = 0.1, 50.0  # Huber loss: where it turns linear, and its weight
CODER = DeltaCoder()
SUPPRESSION = Suppression(iou=0.5, score=0.01, candidates=1000, limit=100)


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One row of table 1."""

    width: int  # W_bifpn
    layers: int  # D_bifpn
    head_layers: int  # D_box, D_class


VARIANTS: dict[str, Spec] = {
    "efficientdet_d0": Spec(width=64, layers=3, head_layers=3),
    "efficientdet_d1": Spec(width=88, layers=4, head_layers=3),
    "efficientdet_d2": Spec(width=112, layers=5, head_layers=3),
}


class Head(nn.Module):
    """The class net or the box net: one set of convolutions for all levels, normalisations for each (figure 3).

    Args:
        channels: W_bifpn.
        values: of each place.
        layers: D_class or D_box.
        prior: the probability that its logits say at first; None: they are 0.
    """

    def __init__(self, channels: int, values: int, *, layers: int, prior: float | None = None):
        super().__init__()
        self.convs = nn.ModuleList(separable(channels, channels) for _ in range(layers))
        self.norms = nn.ModuleList(nn.ModuleList(normalisation(channels) for _ in range(LEVELS)) for _ in range(layers))
        self.last = separable(channels, values, bias=True)
        start_small(self.last[1], bias=0.0 if prior is None else -math.log((1 - prior) / prior))

    def forward(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """Maps (B, channels, H, W) of all levels to (B, values, H, W)."""
        found: list[Tensor] = []
        for level, x in enumerate(pyramid):
            for place, conv in enumerate(self.convs):
                x = F.silu(self.norms[place][level](conv(x)), inplace=True)  # pyright: ignore[reportIndexIssue]
            found.append(self.last(x))
        return found


class EfficientDet(Detector):
    """Backbone, BiFPN and two heads, as in the table above.

    Args:
        backbone: with maps of `STRIDES`.
        spec: the rest of it.
        classes: K, without background.
        channels: of the images.
        size: height, width of the images.

    Raises:
        UsageError: the backbone lacks a stride.
    """

    def __init__(self, backbone: Backbone, spec: Spec, *, classes: int, channels: int, size: tuple[int, int]):
        super().__init__()
        self.reads = pyramid_stages(backbone, STRIDES, "EfficientDet")
        self.backbone = backbone
        self.neck = BiFPN([backbone.stages[place].channels for place in self.reads], spec.width, depth=spec.layers)
        self.class_net = Head(spec.width, ANCHORS.per_place * classes, layers=spec.head_layers, prior=PRIOR)
        self.box_net = Head(spec.width, ANCHORS.per_place * 4, layers=spec.head_layers)
        self.classes = classes
        self.channels = channels
        self.size = size
        self.suppression = SUPPRESSION

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Raw outputs.

        Args:
            images: (B, channels, H, W) float32, normalised.

        Returns:
            ``logits`` (B, M, K) and ``deltas`` (B, M, 4), anchors in the order of `striate.ops.anchors.Anchors.on`.
        """
        return self._outputs(self._pyramid(images))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """``classification``, the focal loss, and ``box_regression``, the Huber loss of the positives, times 50."""
        pyramid = self._pyramid(batch.images)
        outputs = self._outputs(pyramid)
        anchors = self._anchors(map_sizes(pyramid), batch.images)
        matched = torch.stack([self._match(anchors, objects) for objects in batch.instances])
        image, place, row, labels = positives(matched, batch.instances)
        count = 1 + len(row)
        truths = batch.instances.boxes[row]
        targets = CODER.encode(truths, anchors[place])
        # Huber's loss is smooth L1 times the place where it turns linear.
        huber = LINEAR * smooth_l1(outputs["deltas"][image, place].to(truths.dtype), targets, beta=LINEAR)
        focal = focal_of_labels(outputs["logits"], labels, alpha=ALPHA, gamma=GAMMA)
        return {"classification": focal.sum() / count, "box_regression": BOXES * huber.sum() / (4 * count)}

    @torch.no_grad()
    def detect(self, images: Tensor, sizes: Tensor) -> list[Instances]:
        """The objects of each image, most confident first."""
        pyramid = self._pyramid(images)
        outputs = self._outputs(pyramid)
        maps = map_sizes(pyramid)
        return decide(
            outputs["logits"],
            outputs["deltas"],
            self._anchors(maps, images),
            ANCHORS.counts(maps),
            coder=CODER,
            suppression=self.suppression,
            sizes=sizes,
        )

    @torch.no_grad()
    def assigned(self, batch: Batch) -> list[Assigned]:
        """The anchors that answer for objects."""
        maps = outline(self.backbone, self.neck, self.reads, batch.images)
        anchors = self._anchors(maps, batch.images)
        counts = ANCHORS.counts(maps)
        return [assigned("anchor", anchors, self._match(anchors, each), counts) for each in batch.instances]

    def first_loss(self) -> float:
        """What a positive costs at the prior, and the usual deltas of boxes that overlap by half or more."""
        return -ALPHA * (1 - PRIOR) ** GAMMA * math.log(PRIOR) + 1.0

    def class_layers(self) -> dict[str, ClassRows]:
        """As `Detector.class_layers`."""
        return {"class_net.last.1": ClassRows(groups=ANCHORS.per_place)}

    def _pyramid(self, images: Tensor) -> list[Tensor]:
        maps = self.backbone(images)
        return self.neck([maps[place] for place in self.reads])

    def _outputs(self, pyramid: Sequence[Tensor]) -> dict[str, Tensor]:
        return {
            "logits": by_anchor(self.class_net(pyramid), self.classes),
            "deltas": by_anchor(self.box_net(pyramid), 4),
        }

    def _anchors(self, maps: Sequence[tuple[int, int]], images: Tensor) -> Tensor:
        return ANCHORS.on((images.shape[2], images.shape[3]), maps, images.device)

    def _match(self, anchors: Tensor, objects: Instances) -> Tensor:
        return match_anchors(anchors, objects, high=POSITIVE, low=POSITIVE)


def build(variant: str, backbone: Backbone, *, classes: int, channels: int, size: tuple[int, int]) -> EfficientDet:
    """A network of `VARIANTS` around ``backbone``; raises `UsageError` where it lacks a stride."""
    return EfficientDet(backbone, VARIANTS[variant], classes=classes, channels=channels, size=size)
