"""RetinaNet: a dense detector whose loss is not drowned in background.

Lin, Goyal, Girshick, He, Dollar: "Focal Loss for Dense Object Detection", ICCV 2017, arXiv 1708.02002, section 4 and
figure 3:

    backbone      C3, C4, C5                                           strides 8, 16, 32
    FPN           P3 to P5 by laterals; P6, P7 by convolutions         256 channels, strides 8 to 128
    class head    4 x [3x3, 256, ReLU], 3x3, 9 K, sigmoid              one for all levels
    box head      4 x [3x3, 256, ReLU], 3x3, 36                        another

    anchors       of the areas 32^2 (P3) to 512^2 (P7), times 2^0, 2^(1/3), 2^(2/3); ratios 1:2, 1:1, 2:1: A = 9
    positives     IoU from 0.5 with an object, and the best of each object (see below); background below 0.4
    losses        focal loss, alpha 0.25, gamma 2 (section 5.1), and L1 on the deltas; both over the positives
    first weights normal, 0.01; the last logits' bias -log((1 - 0.01) / 0.01) (section 4.1)
    detection     the best 1,000 of each level with a score from 0.05, suppression at an IoU of 0.5 (section 4)

`retinanet_v2` is torchvision's second one: P6 from C5 as the paper has it, group normalisation in the heads, and GIoU
on the decoded boxes (Zhang et al. 2020, ATSS, section 3.3, without its assignment).

Around a ResNet-50 with 91 classes, as torchvision counts them: 34,068,119 and 38,198,935 parameters; torchvision's
model card of the first leaves out the 53,120 of the backbone's frozen normalisations.

As torchvision does it and the paper does not: an object whose best anchor has an IoU below 0.5 gets that anchor all the
same; the loss of the boxes is L1, not smooth L1; losses are divided by the positives of each image before the mean;
sides of anchors are whole pixels; P6 of `retinanet` is from P5; up to 300 objects are answered per image.
torchvision's released weights for `retinanet` were trained with normalisations without epsilon, and it sets theirs to
0; ours stay at 1e-5.

Letters: B images, K classes, A anchors of a place, M anchors of all levels, N objects.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from striate.core.batch import Batch
from striate.core.instances import Assigned, Instances
from striate.models.contract import Backbone, Detector, pyramid_stages
from striate.models.heads.dense import (
    PRIOR,
    Tower,
    by_anchor,
    decide,
    map_sizes,
    match_anchors,
    outline,
    positives,
    predictor,
)
from striate.models.necks.fpn import CHANNELS, FPN, Coarser, names_in_torchvision
from striate.models.official import COCO, scene_input
from striate.models.weights import ClassRows, Names, Origin
from striate.ops.anchors import Anchors, assigned
from striate.ops.coders import DeltaCoder
from striate.ops.losses import BoxLoss, box_loss, focal_of_labels
from striate.ops.suppression import Suppression

STRIDES = (8, 16, 32)  # of C3 to C5, section 4
OCTAVE = (1, 2 ** (1 / 3), 2 ** (2 / 3))  # section 4, "anchors"
ANCHORS = Anchors(
    sizes=tuple(tuple(int(side * scale) for scale in OCTAVE) for side in (32, 64, 128, 256, 512)),
    ratios=(0.5, 1.0, 2.0),
)
DEPTH = 4  # convolutions of each head, section 4
POSITIVE, BACKGROUND = 0.5, 0.4  # IoU, section 4, "anchors"
ALPHA, GAMMA = 0.25, 2.0  # section 5.1 and table 1b
CODER = DeltaCoder()
SUPPRESSION = Suppression(iou=0.5, score=0.05, candidates=1000, limit=300)  # section 4, "inference"


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What torchvision's two networks differ in."""

    coarser: Coarser  # how P6 and P7 come about
    groups: int | None  # of the heads' normalisation
    box: BoxLoss | None  # on the decoded boxes; None: L1 on the deltas


VARIANTS: dict[str, Spec] = {
    "retinanet": Spec(coarser="convolve P5", groups=None, box=None),
    "retinanet_v2": Spec(coarser="convolve C5", groups=32, box="giou"),
}


class RetinaNet(Detector):
    """Backbone, pyramid and two heads, as in the table above.

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
        self.spec = spec
        self.reads = pyramid_stages(backbone, STRIDES, "RetinaNet")
        self.backbone = backbone
        self.neck = FPN([backbone.stages[place].channels for place in self.reads], CHANNELS, coarser=spec.coarser)
        self.class_tower = Tower(CHANNELS, depth=DEPTH, groups=spec.groups, bias=spec.groups is None)
        self.logits = predictor(CHANNELS, ANCHORS.per_place * classes, prior=PRIOR)
        self.box_tower = Tower(CHANNELS, depth=DEPTH, groups=spec.groups, bias=spec.groups is None)
        self.deltas = predictor(CHANNELS, ANCHORS.per_place * 4)
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
        """``classification``: the focal loss (equation 5). ``box_regression``: of the positives."""
        pyramid = self._pyramid(batch.images)
        outputs = self._outputs(pyramid)
        anchors = self._anchors(map_sizes(pyramid), batch.images)
        matched = torch.stack([self._match(anchors, objects) for objects in batch.instances])
        image, place, row, labels = positives(matched, batch.instances)
        count = (matched >= 0).sum(dim=1).clamp(min=1)

        truths = batch.instances.boxes[row]
        deltas = outputs["deltas"][image, place].to(truths.dtype)
        if self.spec.box is None:
            each = (deltas - CODER.encode(truths, anchors[place])).abs().sum(dim=1)
        else:
            each = box_loss(self.spec.box, CODER.decode(deltas, anchors[place]), truths)
        focal = focal_of_labels(outputs["logits"], labels, alpha=ALPHA, gamma=GAMMA)
        return {
            "classification": (focal / count).mean(),
            "box_regression": (each / count[image]).sum() / len(batch),
        }

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
        return {"logits": ClassRows(groups=ANCHORS.per_place)}

    def _pyramid(self, images: Tensor) -> list[Tensor]:
        maps = self.backbone(images)
        return self.neck([maps[place] for place in self.reads])

    def _outputs(self, pyramid: Sequence[Tensor]) -> dict[str, Tensor]:
        return {
            "logits": by_anchor([self.logits(self.class_tower(x)) for x in pyramid], self.classes),
            "deltas": by_anchor([self.deltas(self.box_tower(x)) for x in pyramid], 4),
        }

    def _anchors(self, maps: Sequence[tuple[int, int]], images: Tensor) -> Tensor:
        return ANCHORS.on((images.shape[2], images.shape[3]), maps, images.device)

    def _match(self, anchors: Tensor, objects: Instances) -> Tensor:
        return match_anchors(anchors, objects, high=POSITIVE, low=BACKGROUND)


def build(variant: str, backbone: Backbone, *, classes: int, channels: int, size: tuple[int, int]) -> RetinaNet:
    """A network of `VARIANTS` around ``backbone``; raises `UsageError` where it lacks a stride."""
    return RetinaNet(backbone, VARIANTS[variant], classes=classes, channels=channels, size=size)


_PARTS = (("classification_head", "class_tower"), ("regression_head", "box_tower"))

_NAMES: Names = (
    *names_in_torchvision(),
    ("head.classification_head.cls_logits.{p}", "logits.{p}"),
    ("head.regression_head.bbox_reg.{p}", "deltas.{p}"),
    *((f"head.{there}.conv.{{i}}.0.{{p}}", f"{here}.convs.{{i}}.{{p}}") for there, here in _PARTS),
    *((f"head.{there}.conv.{{i}}.1.{{p}}", f"{here}.norms.{{i}}.{{p}}") for there, here in _PARTS),
    # The released file of `retinanet` counts the ReLUs too.
    *(
        (f"head.{there}.conv.{2 * place}.{{p}}", f"{here}.convs.{place}.{{p}}")
        for there, here in _PARTS
        for place in range(DEPTH)
    ),
)

_INPUT = scene_input((800, 1344))

ORIGINS: dict[str, dict[str, Origin]] = {
    "retinanet": {"torchvision": Origin(model="retinanet_resnet50_fpn", names=_NAMES, input=_INPUT, classes=COCO)},
    "retinanet_v2": {
        "torchvision": Origin(model="retinanet_resnet50_fpn_v2", names=_NAMES, input=_INPUT, classes=COCO)
    },
}
