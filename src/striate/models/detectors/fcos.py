"""FCOS: every point of every map says its class and how far the sides of its object are; no anchors.

Tian, Shen, Chen, He: "FCOS: Fully Convolutional One-Stage Object Detection", ICCV 2019, arXiv 1904.01355, figure 2; and
their "FCOS: A Simple and Strong Anchor-Free Object Detector", TPAMI 2021, arXiv 2006.09214, for what is marked *:

    backbone      C3, C4, C5                                           strides 8, 16, 32
    FPN           P3 to P5 by laterals; P6, P7 by convolutions from P5 256 channels, strides 8 to 128
    class head    4 x [3x3, 256, GroupNorm, ReLU], 3x3, K, sigmoid     one for all levels
    box head      4 x [3x3, 256, GroupNorm, ReLU], then 3x3, 4 (left, top, right, bottom) and 3x3, 1 (centre-ness*)

    positives     points in a box, at most 1.5 steps from its centre*, whose farthest side is on P3 up to 64 pixels
                  away, then to 128, 256, 512, and beyond that on P7; of several boxes the smallest (section 3.2)
    centre-ness   sqrt(min(l, r) / max(l, r) x min(t, b) / max(t, b)) (equation 3)
    losses        focal loss, alpha 0.25, gamma 2; GIoU* of the positives; cross-entropy of their centre-ness; all over
                  the positives of the batch (equation 2)
    detection     scores sqrt(class x centre-ness)*, the best 1,000 of each level, suppression at an IoU of 0.6

Around a ResNet-50 with 91 classes, as torchvision counts them: 32,322,720 parameters; its model card leaves out the
53,120 of the backbone's frozen normalisations.

As torchvision does it and the paper does not: distances are ReLU(x) times the level's stride, not exp(s x) with a
learnt s; points are the upper left corners of their cells, not the middles; the lowest score is 0.2. Of boxes whose
areas differ by less than about 8 pixels torchvision's rounding takes the first, and we the smallest.

Letters: B images, K classes, M points of all levels, N objects.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from striate.core.batch import Batch
from striate.core.instances import Assigned, Instances
from striate.models.contract import Backbone, Detector, pyramid_stages
from striate.models.heads.dense import (
    PRIOR,
    Tower,
    best_pairs,
    by_anchor,
    map_sizes,
    outline,
    positives,
    predictor,
    rows,
    within,
)
from striate.models.necks.fpn import CHANNELS, FPN, names_in_torchvision
from striate.models.official import COCO, scene_input
from striate.models.weights import ClassRows, Names, Origin
from striate.ops.anchors import Anchors, assigned
from striate.ops.boxes import area
from striate.ops.coders import from_distances, to_distances
from striate.ops.losses import box_loss, focal_of_labels
from striate.ops.matching import BELOW, BETWEEN, set_aside, taught
from striate.ops.suppression import Suppression

STRIDES = (8, 16, 32)  # of C3 to C5, section 3.2
CELLS = Anchors(sizes=((8,), (16,), (32,), (64,), (128,)), ratios=(1.0,))  # around each point, as large as its stride
DEPTH, GROUPS = 4, 32  # of each head, figure 2 and section 4
NEAREST, FARTHEST = 4, 8  # strides to the farthest side: m of section 3.2 is 64 = 8 x 8 for P3, 128 for P4, ...
RADIUS = 1.5  # of centre sampling, in strides; arXiv 2006.09214, section 3.2
ALPHA, GAMMA = 0.25, 2.0  # as RetinaNet, section 3.1
SUPPRESSION = Suppression(iou=0.6, score=0.2, candidates=1000, limit=100)


class FCOS(Detector):
    """Backbone, pyramid and two heads, as in the table above.

    Args:
        backbone: with maps of `STRIDES`.
        classes: K, without background.
        channels: of the images.
        size: height, width of the images.

    Raises:
        UsageError: the backbone lacks a stride.
    """

    def __init__(self, backbone: Backbone, *, classes: int, channels: int, size: tuple[int, int]):
        super().__init__()
        self.reads = pyramid_stages(backbone, STRIDES, "FCOS")
        self.backbone = backbone
        self.neck = FPN([backbone.stages[place].channels for place in self.reads], CHANNELS, coarser="convolve P5")
        self.class_tower = Tower(CHANNELS, depth=DEPTH, groups=GROUPS)
        self.logits = predictor(CHANNELS, classes, prior=PRIOR)
        self.box_tower = Tower(CHANNELS, depth=DEPTH, groups=GROUPS)
        self.distances = predictor(CHANNELS, 4)
        self.centreness = predictor(CHANNELS, 1)
        self.classes = classes
        self.channels = channels
        self.size = size
        self.suppression = SUPPRESSION

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Raw outputs.

        Args:
            images: (B, channels, H, W) float32, normalised.

        Returns:
            ``logits`` (B, M, K), ``distances`` (B, M, 4) in strides of their level, and ``centreness`` (B, M) logits;
            level after level, row after row.
        """
        return self._outputs(self._pyramid(images))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """``classification``, ``box_regression`` and ``centreness`` (equation 2)."""
        pyramid = self._pyramid(batch.images)
        outputs = self._outputs(pyramid)
        maps = map_sizes(pyramid)
        cells = self._cells(maps, batch.images)
        matched = torch.stack([match(cells, CELLS.counts(maps), objects) for objects in batch.instances])
        image, place, row, labels = positives(matched, batch.instances)
        count = max(1, len(row))

        truths = batch.instances.boxes[row]
        points, strides = _points(cells[place])
        decoded = from_distances(outputs["distances"][image, place].to(truths.dtype) * strides[:, None], points)
        left, top, right, bottom = to_distances(truths, points).unbind(1)
        central = (_ratio(left, right) * _ratio(top, bottom)).sqrt()
        said = outputs["centreness"][image, place].to(truths.dtype)
        focal = focal_of_labels(outputs["logits"], labels, alpha=ALPHA, gamma=GAMMA)
        return {
            "classification": focal.sum() / count,
            "box_regression": box_loss("giou", decoded, truths).sum() / count,
            "centreness": F.binary_cross_entropy_with_logits(said, central, reduction="sum") / count,
        }

    @torch.no_grad()
    def detect(self, images: Tensor, sizes: Tensor) -> list[Instances]:
        """The objects of each image, most confident first."""
        pyramid = self._pyramid(images)
        outputs = self._outputs(pyramid)
        maps = map_sizes(pyramid)
        counts = CELLS.counts(maps)
        levels = zip(
            *(outputs[name].split(counts, dim=1) for name in ("logits", "distances", "centreness")),
            self._cells(maps, images).split(counts),
            strict=True,
        )
        boxes, scores, labels = zip(*(self._candidates(*level) for level in levels), strict=True)
        found = within(torch.cat(boxes, dim=1), sizes), torch.cat(scores, dim=1), torch.cat(labels, dim=1)
        return [self.suppression(*image) for image in zip(*found, strict=True)]

    @torch.no_grad()
    def assigned(self, batch: Batch) -> list[Assigned]:
        """The points that answer for objects, as their cells."""
        maps = outline(self.backbone, self.neck, self.reads, batch.images)
        cells, counts = self._cells(maps, batch.images), CELLS.counts(maps)
        return [assigned("point", cells, match(cells, counts, objects), counts) for objects in batch.instances]

    def first_loss(self) -> float:
        """What a positive costs at the prior, a box of no size in its object, and an undecided centre-ness."""
        return -ALPHA * (1 - PRIOR) ** GAMMA * math.log(PRIOR) + 1 + math.log(2)

    def class_layers(self) -> dict[str, ClassRows]:
        """As `Detector.class_layers`."""
        return {"logits": ClassRows()}

    def _pyramid(self, images: Tensor) -> list[Tensor]:
        maps = self.backbone(images)
        return self.neck([maps[place] for place in self.reads])

    def _outputs(self, pyramid: Sequence[Tensor]) -> dict[str, Tensor]:
        shapes = [self.box_tower(x) for x in pyramid]
        return {
            "logits": by_anchor([self.logits(self.class_tower(x)) for x in pyramid], self.classes),
            "distances": by_anchor([F.relu(self.distances(x)) for x in shapes], 4),
            "centreness": by_anchor([self.centreness(x) for x in shapes], 1)[:, :, 0],
        }

    def _cells(self, maps: Sequence[tuple[int, int]], images: Tensor) -> Tensor:
        return CELLS.on((images.shape[2], images.shape[3]), maps, images.device)

    def _candidates(
        self, logits: Tensor, distances: Tensor, centreness: Tensor, cells: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes, scores and classes of the best of a level."""
        scores, places, labels = best_pairs(logits, self.suppression.candidates, quality=centreness.sigmoid())
        points, strides = _points(cells)
        boxes = from_distances(rows(distances, places).float() * strides[places][:, :, None], points[places])
        return boxes, scores.float().sqrt(), labels


def match(cells: Tensor, counts: Sequence[int], objects: Instances) -> Tensor:
    """The object of each point (section 3.2).

    Args:
        cells: (M, 4), of the points.
        counts: points of each level.
        objects: of an image; crowds and ignored ones among them.

    Returns:
        (M,) int64: the object, `striate.ops.matching.BELOW` or `striate.ops.matching.BETWEEN`.
    """
    learnt = taught(objects).nonzero()[:, 0]
    matched = torch.full((len(cells),), BELOW, dtype=torch.int64, device=cells.device)
    if len(learnt):
        boxes = objects.boxes[learnt]
        points, strides = _points(cells)
        nearest, farthest = strides * NEAREST, strides * FARTHEST
        nearest[: counts[0]] = 0
        farthest[len(cells) - counts[-1] :] = torch.inf
        left, top, right, bottom = to_distances(boxes[:, None], points).unbind(2)  # each (N, M)
        inside = torch.minimum(torch.minimum(left, right), torch.minimum(top, bottom)) > 0
        extent = torch.maximum(torch.maximum(left, right), torch.maximum(top, bottom))
        # Half the difference of two opposite distances is how far a point lies from the middle between the sides.
        off = torch.maximum((left - right).abs(), (top - bottom).abs()) / 2
        allowed = inside & (off < RADIUS * strides) & (extent > nearest) & (extent < farthest)
        smallest, chosen = torch.where(allowed, area(boxes)[:, None], torch.inf).min(dim=0)
        matched = torch.where(smallest < torch.inf, learnt[chosen], matched)
    if len(learnt) < len(objects):
        matched[(matched == BELOW) & set_aside(cells, objects)] = BETWEEN
    return matched


def _points(cells: Tensor) -> tuple[Tensor, Tensor]:
    """Of (..., 4) cells the (..., 2) points and the (...) strides."""
    return (cells[..., :2] + cells[..., 2:]) / 2, cells[..., 2] - cells[..., 0]


def _ratio(first: Tensor, second: Tensor) -> Tensor:
    return torch.minimum(first, second) / torch.maximum(first, second)


def build(backbone: Backbone, *, classes: int, channels: int, size: tuple[int, int]) -> FCOS:
    """FCOS around ``backbone``; raises `UsageError` where it lacks a stride."""
    return FCOS(backbone, classes=classes, channels=channels, size=size)


_NAMES: Names = (
    *names_in_torchvision(),
    ("head.classification_head.cls_logits.{p}", "logits.{p}"),
    ("head.regression_head.bbox_reg.{p}", "distances.{p}"),
    ("head.regression_head.bbox_ctrness.{p}", "centreness.{p}"),
    # There a convolution, its normalisation and its ReLU are counted on.
    *(
        (f"head.{there}.conv.{3 * place + step}.{{p}}", f"{here}.{layer}.{place}.{{p}}")
        for there, here in (("classification_head", "class_tower"), ("regression_head", "box_tower"))
        for place in range(DEPTH)
        for step, layer in enumerate(("convs", "norms"))
    ),
)

ORIGINS: dict[str, Origin] = {
    "torchvision": Origin(model="fcos_resnet50_fpn", names=_NAMES, input=scene_input((800, 1344)), classes=COCO)
}
