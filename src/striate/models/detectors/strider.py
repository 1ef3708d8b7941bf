"""Strider: what is trained where nobody names a detector. One stage, no anchors, light where others are heavy.

Ours, from parts that have proved themselves, each with its source:

    backbone      maps of strides 8, 16, 32; of stride 4 too for images of up to `SMALL` pixels
    neck          path aggregation (Liu et al. 2018, arXiv 1803.01534), few channels
    class head    [3x3, GroupNorm, ReLU] x depth, 1x1, K                            one for all levels
    box head      [3x3, GroupNorm, ReLU] x depth, 1x1, 4 x 16                       another
    box           for each side a distribution over 0 to 15 steps of the level from the point; its mean is the distance
                  (Li et al. 2020, "Generalized Focal Loss", arXiv 2006.04388, section 3)
    positives     of each object the 13 points with the largest t = s u^6, s the class's score and u the box's IoU
                  (Feng et al. 2021, "TOOD", arXiv 2108.07755, section 3.2; `striate.ops.task_alignment`)
    losses        quality focal loss of the classes, gamma 2, towards t, scaled (TOOD, section 3.2); of the positives
                  2 x GIoU and 0.25 x distribution focal loss, weighted by the same; all over the sum of the weights
    detection     the best 1,000 of each level, suppression within classes at an IoU of 0.6 (Li et al.'s code)

    name          channels  depth  backbone    parameters  multiply-accumulates
    strider_n           64      2  resnet18    11,613,520        16,654,745,600
    strider_s           96      2  resnet34    22,216,592        33,940,070,400
    strider_m          128      3  resnet50    25,758,672        43,454,464,000

for 80 classes and 640x640 pixels. Any backbone with the strides does.

The heads normalise groups of channels: levels share weights, not statistics, and a batch may be of one image.

The first steps. At first every class has the probability 0.01 (Lin et al. 2017, section 4.1), and each side's
distribution falls by `FALL` from one step to the next, which has the mean 2: each point begins with a box of four by
four steps around it. So t prefers, from the first step on, the points near an object's middle on the level of its
size, as an anchor of that size would, and no other assignment is needed to begin with.

Differences from TOOD and Li et al.: TOOD begins with another assignment (ATSS) and has a head in which the two tasks
share features; theirs have 256 channels, four or six layers, and five levels from stride 8 on.

Letters: B images, K classes, M points of all levels, N objects of an image, P positives of a batch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from striate.core.batch import Batch
from striate.core.instances import Assigned, Instances, InstanceSets
from striate.models.contract import Backbone, Detector, pyramid_stages
from striate.models.heads.dense import PRIOR, Tower, best_pairs, by_anchor, map_sizes, rows, start_small, within
from striate.models.necks.pan import PAN
from striate.models.weights import ClassRows
from striate.ops.anchors import Anchors, assigned
from striate.ops.coders import from_distances, to_distances
from striate.ops.losses import box_loss, distribution_focal, focal_of_labels, quality_focal
from striate.ops.matching import BELOW, BETWEEN, set_aside
from striate.ops.suppression import Suppression
from striate.ops.task_alignment import align, padded

STRIDES = (8, 16, 32)
FINE = 4  # the stride of one level more for small images
SMALL = 192  # pixels: the larger side of those
STEPS = 15  # n of Li et al., one less than a side's bins, of which their code has 16
FALL = math.log(3 / 2)  # from one bin's logit to the next: shares of 2/3, of the mean 2
COUNT, ALPHA, BETA = 13, 1.0, 6.0  # m, alpha, beta: TOOD, section 4
GAMMA = 2.0  # TOOD and Li et al., section 4
BOX, DISTRIBUTION = 2.0, 0.25  # weights: Li et al., end of section 3
GROUP = 8  # channels that are normalised together
SUPPRESSION = Suppression(iou=0.6, score=0.05, candidates=1000, limit=100)


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One size."""

    channels: int  # of neck and heads
    depth: int  # layers of each head, before the last


VARIANTS: dict[str, Spec] = {
    "strider_n": Spec(channels=64, depth=2),
    "strider_s": Spec(channels=96, depth=2),
    "strider_m": Spec(channels=128, depth=3),
}


class Strider(Detector):
    """Backbone, neck and two heads, as in the table above.

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
        strides, self.reads = STRIDES, pyramid_stages(backbone, STRIDES, "Strider")
        if max(size) <= SMALL and any(stage.stride == FINE for stage in backbone.stages):
            strides, self.reads = (FINE, *STRIDES), pyramid_stages(backbone, (FINE, *STRIDES), "Strider")
        self.cells = Anchors(sizes=tuple((stride,) for stride in strides), ratios=(1.0,), whole=False, centre=0.5)
        self.backbone = backbone
        self.neck = PAN([backbone.stages[place].channels for place in self.reads], spec.channels)
        groups = spec.channels // GROUP
        self.class_tower = Tower(spec.channels, depth=spec.depth, groups=groups, bias=False)
        self.logits = nn.Conv2d(spec.channels, classes, 1)
        start_small(self.logits, bias=-math.log((1 - PRIOR) / PRIOR))
        self.box_tower = Tower(spec.channels, depth=spec.depth, groups=groups, bias=False)
        self.distributions = nn.Conv2d(spec.channels, 4 * (STEPS + 1), 1)
        start_small(self.distributions)
        bias = self.distributions.bias
        assert bias is not None
        if not bias.is_meta:
            with torch.no_grad():
                bias.copy_(-FALL * torch.arange(STEPS + 1.0).repeat(4))
        self.classes = classes
        self.channels = channels
        self.size = size
        self.suppression = SUPPRESSION

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Raw outputs.

        Args:
            images: (B, channels, H, W) float32, normalised.

        Returns:
            ``logits`` (B, M, K), and ``distributions`` (B, M, 64): for left, top, right and bottom the logits of 0 to
            15 steps; level after level, row after row.
        """
        return self._outputs(self._pyramid(images))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """``classification``, ``box_regression`` and ``distribution``."""
        pyramid = self._pyramid(batch.images)
        outputs = self._outputs(pyramid)
        cells = self._cells(map_sizes(pyramid), batch.images)
        row, quality = self._assign(outputs, cells, batch.instances)
        image, place = (row >= 0).nonzero(as_tuple=True)
        weights, owners = quality[image, place], row[image, place]
        total = weights.sum().clamp(min=1)

        labels = row.clone()
        labels[image, place] = batch.instances.labels[owners]
        # All but the positives' own classes: with alpha 0 those cost nothing here.
        background = focal_of_labels(outputs["logits"], labels, alpha=0.0, gamma=GAMMA).sum()
        found = quality_focal(outputs["logits"][image, place, labels[image, place]].float(), weights, gamma=GAMMA)

        truths, (points, steps) = batch.instances.boxes[owners], _points(cells[place])
        sides = outputs["distributions"][image, place].float()
        decoded = from_distances(_mean(sides) * steps[:, None], points)
        wanted = to_distances(truths, points) / steps[:, None]
        bins = distribution_focal(sides.unflatten(1, (4, -1)), wanted).mean(dim=1)
        return {
            "classification": (background + found.sum()) / total,
            "box_regression": BOX * (box_loss("giou", decoded, truths) * weights).sum() / total,
            "distribution": DISTRIBUTION * (bins * weights).sum() / total,
        }

    @torch.no_grad()
    def detect(self, images: Tensor, sizes: Tensor) -> list[Instances]:
        """The objects of each image, most confident first."""
        pyramid = self._pyramid(images)
        outputs = self._outputs(pyramid)
        maps = map_sizes(pyramid)
        counts = self.cells.counts(maps)
        levels = zip(
            *(outputs[name].split(counts, dim=1) for name in ("logits", "distributions")),
            self._cells(maps, images).split(counts),
            strict=True,
        )
        boxes, scores, labels = zip(*(self._candidates(*level) for level in levels), strict=True)
        found = within(torch.cat(boxes, dim=1), sizes), torch.cat(scores, dim=1), torch.cat(labels, dim=1)
        return [self.suppression(*image) for image in zip(*found, strict=True)]

    @torch.no_grad()
    def assigned(self, batch: Batch) -> list[Assigned]:
        """The points that answer for objects as the network is now, as their cells."""
        pyramid = self._pyramid(batch.images)
        maps = map_sizes(pyramid)
        cells = self._cells(maps, batch.images)
        row, _ = self._assign(self._outputs(pyramid), cells, batch.instances)
        firsts: list[int] = batch.instances.offsets.tolist()
        counts = self.cells.counts(maps)
        return [assigned("point", cells, own - first, counts) for own, first in zip(row, firsts[:-1], strict=True)]

    def first_loss(self) -> float:
        """What positives cost whose boxes of four steps overlap by a half: their classes at the prior, with a target of
        a half and the weight of a half; the boxes; and distributions that have a third at 0, and fall.
        """
        return -math.log(PRIOR) / 4 + BOX / 2 + DISTRIBUTION * (math.log(3) + 2 * FALL)

    def class_layers(self) -> dict[str, ClassRows]:
        """As `Detector.class_layers`."""
        return {"logits": ClassRows()}

    def _pyramid(self, images: Tensor) -> list[Tensor]:
        maps = self.backbone(images)
        return self.neck([maps[place] for place in self.reads])

    def _outputs(self, pyramid: Sequence[Tensor]) -> dict[str, Tensor]:
        return {
            "logits": by_anchor([self.logits(self.class_tower(x)) for x in pyramid], self.classes),
            "distributions": by_anchor([self.distributions(self.box_tower(x)) for x in pyramid], 4 * (STEPS + 1)),
        }

    def _cells(self, maps: Sequence[tuple[int, int]], images: Tensor) -> Tensor:
        return self.cells.on((images.shape[2], images.shape[3]), maps, images.device)

    @torch.no_grad()
    def _assign(self, outputs: dict[str, Tensor], cells: Tensor, truths: InstanceSets) -> tuple[Tensor, Tensor]:
        """Of each point the object, (B, M) int64 among those of all images or as in `striate.ops.matching`, and the
        quality, (B, M).
        """
        passed_over = [marks for marks in (truths.crowd, truths.ignore) if marks is not None]
        kept = torch.ones(len(truths.boxes), dtype=torch.bool, device=truths.boxes.device)
        for marks in passed_over:
            kept &= ~marks
        points, steps = _points(cells)
        boxes = from_distances(_mean(outputs["distributions"].float()) * steps[:, None], points)
        objects, labels, table, there = padded(truths, kept)
        matched, quality = align(
            *(outputs["logits"], boxes, cells, objects, labels, there), count=COUNT, alpha=ALPHA, beta=BETA
        )
        if table.shape[1]:
            matched = torch.where(matched >= 0, table.gather(1, matched.clamp(min=0)), BELOW)
        if passed_over:
            for image in truths.images[~kept].unique().tolist():
                own = matched[image]
                own[(own == BELOW) & set_aside(cells, truths[image])] = BETWEEN
        return matched, quality

    def _candidates(self, logits: Tensor, distributions: Tensor, cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes, scores and classes of the best of a level."""
        scores, places, labels = best_pairs(logits, self.suppression.candidates)
        points, steps = _points(cells)
        distances = _mean(rows(distributions, places).float()) * steps[places][:, :, None]
        return from_distances(distances, points[places]), scores.float(), labels


def _mean(distributions: Tensor) -> Tensor:
    """(..., 4) distances in steps, from (..., 64) logits (Li et al., section 3)."""
    shares = distributions.unflatten(-1, (4, STEPS + 1)).softmax(-1)
    return shares @ torch.arange(STEPS + 1, device=shares.device, dtype=shares.dtype)


def _points(cells: Tensor) -> tuple[Tensor, Tensor]:
    """Of (..., 4) cells the (..., 2) points and the (...) steps."""
    return (cells[..., :2] + cells[..., 2:]) / 2, cells[..., 2] - cells[..., 0]


def build(variant: str, backbone: Backbone, *, classes: int, channels: int, size: tuple[int, int]) -> Strider:
    """A network of `VARIANTS` around ``backbone``; raises `UsageError` where it lacks a stride."""
    return Strider(backbone, VARIANTS[variant], classes=classes, channels=channels, size=size)
