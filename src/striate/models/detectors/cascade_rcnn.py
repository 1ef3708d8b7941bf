"""Cascade R-CNN: three heads in a row, each fed with the boxes of the one before and asked for better ones.

Cai, Vasconcelos: "Cascade R-CNN: Delving into High Quality Object Detection", CVPR 2018, arXiv 1712.00726. On the
feature pyramid and the proposal network of Faster R-CNN (`faster_rcnn`):

    stage    a region is on an object from    deltas times      loss
    1        IoU 0.5 (section 4.2)            10, 10, 5, 5      1
    2        IoU 0.6                          20, 20, 10, 10    1/2
    3        IoU 0.7                          30, 30, 15, 15    1/4

Each stage has a head of its own, RoIAlign 7x7, fc 1024, fc 1024, K + 1 logits and four deltas that all classes share
(section 5.1). Stage t learns from the regions that stage t - 1 makes of the ones that it learnt from (equation 7), so
that there are enough good ones: at each stage 512 of an image, a quarter on objects. What is found has the boxes of the
third stage and the mean of the three stages' probabilities (section 4.2).

                         parameters, 80 classes    published
    cascade_rcnn                     88,386,894    AP 42.8 on COCO test-dev with 101 layers (table 5)
    with 50 layers                   69,394,766

Differences:
- The scales of the deltas and the weights of the losses are of the authors' code.
- Each stage's probabilities are those of the regions that it was given; the authors run all three heads again on the
  last boxes.
- What `faster_rcnn` has as torchvision has it: counts before NMS, RoIAlign, smooth L1 that turns at 1/9.

Letters: B images, M anchors, P proposals, K classes, T = 3 stages.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from striate.core.batch import Batch
from striate.core.instances import Assigned, Instances
from striate.models.contract import Backbone, Detector, pyramid_stages
from striate.models.detectors.faster_rcnn import PYRAMID, SUPPRESSION, ReadStages, pyramid_rpn
from striate.models.heads.box import (
    BoxHead,
    FullLayers,
    Predictor,
    Sampling,
    find,
    region_losses,
    sample_regions,
)
from striate.models.heads.rpn import RPN, as_lists
from striate.models.necks.fpn import FPN
from striate.models.weights import ClassRows
from striate.ops.boxes import clip
from striate.ops.coders import DeltaCoder
from striate.ops.rois import RoIAlign
from striate.ops.suppression import Suppression


@dataclass(frozen=True, kw_only=True)
class Step:
    """One row of the table above."""

    overlap: float
    coder: DeltaCoder
    weight: float  # of its losses


STEPS = (
    Step(overlap=0.5, coder=DeltaCoder(weights=(10.0, 10.0, 5.0, 5.0)), weight=1.0),
    Step(overlap=0.6, coder=DeltaCoder(weights=(20.0, 20.0, 10.0, 10.0)), weight=0.5),
    Step(overlap=0.7, coder=DeltaCoder(weights=(30.0, 30.0, 15.0, 15.0)), weight=0.25),
)


class CascadeRCNN(Detector):
    """A region proposal network and a row of heads, on the same maps.

    Args:
        backbone: gives the maps.
        read: which of them.
        neck: from these to those that all read.
        rpn: proposes.
        heads: of the stages; they share the deltas among the classes.
        steps: what each of them is asked for.
        classes: K.
        channels: of the images.
        size: height and width of the images.
        sampling: the regions that each head learns from, but for their overlap.
        beta: where the smooth L1 losses of the heads turn from a parabola to a line.
        suppression: how `detect` chooses.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        read: ReadStages,
        neck: FPN,
        rpn: RPN,
        heads: Sequence[BoxHead],
        steps: Sequence[Step],
        classes: int,
        channels: int,
        size: tuple[int, int],
        sampling: Sampling,
        beta: float = 1 / 9,
        suppression: Suppression = SUPPRESSION,
    ):
        super().__init__()
        self.backbone = backbone
        self.read = read
        self.neck = neck
        self.rpn = rpn
        self.heads = nn.ModuleList(heads)
        self.steps = tuple(steps)
        self.classes = classes
        self.channels = channels
        self.size = size
        self.sampling = sampling
        self.beta = beta
        self.suppression = suppression

    def maps(self, images: Tensor) -> list[Tensor]:
        """The maps that all halves read, fine to coarse."""
        return self.neck(self.read(self.backbone, images))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """What the proposal network and the stages give.

        Args:
            images: (B, channels, H, W) float32, normalised.

        Returns:
            ``objectness`` (B, M) and ``anchor_deltas`` (B, M, 4) of the anchors; ``proposals`` (B, P, 4) boxes and
            ``proposal_scores`` (B, P), -1 for rows that are none; of every stage the ``regions`` (B, T, P, 4) that it
            was given, their ``logits`` (B, T, P, K + 1), background first, and ``deltas`` (B, T, P, 1, 4).
        """
        maps = self.maps(images)
        height, width = images.shape[2:]
        found = self.rpn(maps, (height, width))
        whole = torch.tensor([[height, width]] * len(images))
        boxes, scores = self.rpn.propose(found, whole, self.rpn.numbers.testing)
        regions, logits, deltas = zip(*self._stages(maps, list(boxes.unbind(0)), whole), strict=True)
        return {
            "objectness": found.objectness,
            "anchor_deltas": found.deltas,
            "proposals": boxes,
            "proposal_scores": scores,
            "regions": torch.stack([torch.stack(one) for one in regions], dim=1),
            "logits": torch.stack([one.unflatten(0, scores.shape) for one in logits], dim=1),
            "deltas": torch.stack([one.unflatten(0, scores.shape) for one in deltas], dim=1),
        }

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """``objectness`` and ``anchor_boxes`` of the proposal network, ``class1``, ``box1`` and so on of the stages."""
        maps = self.maps(batch.images)
        height, width = batch.images.shape[2:]
        found = self.rpn(maps, (height, width))
        objectness, anchor_boxes = self.rpn.losses(found, batch.instances)
        losses = {"objectness": objectness, "anchor_boxes": anchor_boxes}
        boxes = as_lists(*self.rpn.propose(found, batch.content, self.rpn.numbers.training))
        truths = list(batch.instances)
        for number, (head, step) in enumerate(zip(self.heads, self.steps, strict=True), 1):
            sampling = Sampling(count=self.sampling.count, positives=self.sampling.positives, overlap=step.overlap)
            regions = sample_regions(boxes, truths, sampling)
            logits, deltas = head(maps, regions.boxes, self.backbone)
            classes, box = region_losses(logits, deltas, regions, step.coder, beta=self.beta)
            losses |= {f"class{number}": step.weight * classes, f"box{number}": step.weight * box}
            boxes = _moved(deltas, regions.boxes, batch.content, step.coder)
        return losses

    def detect(self, images: Tensor, sizes: Tensor) -> list[Instances]:
        """As `Detector.detect`."""
        maps = self.maps(images)
        height, width = images.shape[2:]
        found = self.rpn(maps, (height, width))
        boxes = as_lists(*self.rpn.propose(found, sizes, self.rpn.numbers.testing))
        regions, logits, deltas = zip(*self._stages(maps, boxes, sizes), strict=True)
        scores = torch.stack(logits).softmax(dim=-1).mean(dim=0)
        return find(scores, deltas[-1], regions[-1], sizes, coder=self.steps[-1].coder, suppression=self.suppression)

    @torch.no_grad()
    def assigned(self, batch: Batch) -> list[Assigned]:
        """The anchors of the proposal network that are on an object, drawn or not."""
        height, width = batch.images.shape[2:]
        return self.rpn.assigned(self.rpn(self.maps(batch.images), (height, width)), batch.instances)

    def first_loss(self) -> float:
        """Logits near 0 of the proposal network and of the stages, and deltas near 0: about a half."""
        return math.log(2) + sum(step.weight for step in self.steps) * math.log(self.classes + 1) + 0.5

    def class_layers(self) -> dict[str, ClassRows]:
        """As `Detector.class_layers`."""
        heads = [(place, head) for place, head in enumerate(self.heads) if isinstance(head, BoxHead)]
        return {f"heads.{place}.{name}": rows for place, head in heads for name, rows in head.class_layers().items()}

    def _stages(
        self, maps: Sequence[Tensor], boxes: list[Tensor], sizes: Tensor
    ) -> list[tuple[list[Tensor], Tensor, Tensor]]:
        """Of each stage its B times (N, 4) regions, and their logits and deltas."""
        found: list[tuple[list[Tensor], Tensor, Tensor]] = []
        for head, step in zip(self.heads, self.steps, strict=True):
            logits, deltas = head(maps, boxes, self.backbone)
            found.append((boxes, logits, deltas))
            boxes = _moved(deltas, boxes, sizes, step.coder)
        return found


@torch.no_grad()
def _moved(deltas: Tensor, boxes: Sequence[Tensor], sizes: Tensor, coder: DeltaCoder) -> list[Tensor]:
    """The B times (N, 4) regions that a stage makes of its own; no gradient flows through them."""
    limits: list[list[int]] = sizes.tolist()
    parts = deltas[:, 0].split([len(part) for part in boxes])
    return [
        clip(coder.decode(part, own), (height, width))
        for part, own, (height, width) in zip(parts, boxes, limits, strict=True)
    ]


def build(backbone: Backbone, *, classes: int, channels: int, size: tuple[int, int]) -> CascadeRCNN:
    """The three stages; raises `UsageError` where the backbone lacks a map of stride 4, 8, 16 or 32."""
    places = pyramid_stages(backbone, PYRAMID, "cascade_rcnn")
    return CascadeRCNN(
        backbone,
        read=ReadStages(places=tuple(places)),
        neck=FPN([backbone.stages[place].channels for place in places], 256, coarser="pool"),
        rpn=pyramid_rpn(),
        heads=[
            BoxHead(
                RoIAlign(size=(7, 7), strides=PYRAMID, points=2),
                FullLayers(256 * 7 * 7, (1024, 1024)),
                Predictor(1024, classes, shared=True),
            )
            for _ in STEPS
        ],
        steps=STEPS,
        sampling=Sampling(count=512, positives=0.25),
        classes=classes,
        channels=channels,
        size=size,
    )
