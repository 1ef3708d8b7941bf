"""Faster R-CNN: a network proposes regions, a second one that shares its maps says what they are.

Ren, He, Girshick, Sun: "Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks", NIPS 2015,
arXiv 1506.01497. Three forms of it:

    faster_rcnn         Lin, Dollar, Girshick, He, Hariharan, Belongie: "Feature Pyramid Networks for Object Detection",
                        CVPR 2017, arXiv 1612.03144
    faster_rcnn_c4      He, Zhang, Ren, Sun: "Deep Residual Learning for Image Recognition", CVPR 2016, appendix A
    faster_rcnn_vgg16   the paper itself

                 faster_rcnn                  faster_rcnn_c4              faster_rcnn_vgg16
    maps         P2 to P6 of 256 channels     conv4 of stride 16          conv5_3 of stride 16, before pool5
    RPN          3x3-256                      3x3-512                     3x3-512
    anchors      32, 64, 128, 256, 512,       128, 256, 512, all on       128, 256, 512, all on
                 one on each map              the one map                 the one map
    ratios       1:2, 1:1, 2:1
    before NMS   2000 of each map; 1000       12000; 6000                 12000; 6000
    proposals    2000 to learn; 1000          2000 to learn; 300          2000 to learn; 300
    pooling      RoIAlign 7x7 of P2 to P5     RoIAlign 14x14              RoI pooling 7x7
    head         fc 1024, fc 1024             conv5 (14x14 to 7x7),       fc6 4096, fc7 4096, dropout 0.5
                                              average
    learnt from  512 of an image, a quarter   128 of an image, a quarter on objects
                 on objects
    siblings     K + 1 logits, 4 deltas for each class, times 10, 10, 5, 5

All is trained at once ("approximate joint training", section 3.2): the four losses are summed, and no gradient flows
through the coordinates of a proposal. `heads/rpn.py` and `heads/box.py` have what the two halves learn from.

                         parameters, 90 classes    published
    faster_rcnn                      41,808,406    AP 33.9 on COCO minival (Lin et al., table 3); 37.0 torchvision
    faster_rcnn_c4                   29,182,516    with 101 layers: mAP 76.4 on VOC 2007 (He et al., table 7)
    faster_rcnn_vgg16               138,507,572    mAP 73.2 on VOC 2007, trained on 2007 and 2012 (table 3)

Differences:
- The numbers of `faster_rcnn` are those of torchvision's `fasterrcnn_resnet50_fpn`, whose weights it takes: fewer
  before NMS than the 12000 of the authors' first code, two points of each bin in RoIAlign where FPN had RoI pooling,
  and the smooth L1 loss of the head turns at 1/9 where Girshick 2015 has 1.
- The one map's anchors are for images of a shorter side of 600 (section 3.3): 608 here, to be a multiple of 32. For
  images of another size they are scaled with it. The pyramid's anchors are pixels, whatever the image.
- The C4 form takes RoIAlign of 14x14 (He et al. 2017, "Mask R-CNN") where He et al. 2016 had RoI pooling, and its batch
  normalisations learn unless someone freezes them.

Letters: B images, M anchors, P proposals, K classes.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from striate.core.batch import Batch
from striate.core.instances import Assigned, Instances
from striate.errors import UsageError
from striate.models.backbones.resnet import ResNet
from striate.models.backbones.vgg import VGG
from striate.models.contract import Backbone, Detector, pyramid_stages
from striate.models.heads.box import (
    BoxHead,
    FullLayers,
    Predictor,
    RegionHead,
    Sampling,
    find,
    region_losses,
    sample_regions,
)
from striate.models.heads.rpn import RPN, Counts, Proposing, as_lists
from striate.models.necks.fpn import FPN, names_in_torchvision
from striate.models.official import COCO, scene_input
from striate.models.weights import ClassRows, Names, Origin
from striate.ops.anchors import Anchors
from striate.ops.coders import DeltaCoder
from striate.ops.rois import RoIAlign, RoIPool
from striate.ops.suppression import Suppression

Reading: TypeAlias = Callable[[Backbone, Tensor], list[Tensor]]  # from a backbone and (B, C, H, W) images to maps

RATIOS = (0.5, 1.0, 2.0)  # height over width, section 3.1.1
PYRAMID = (4, 8, 16, 32)  # strides of the backbone's maps that FPN reads
SHORTER = 608  # pixels, the side that the sizes of the one map's anchors are for
CODER = DeltaCoder(weights=(10.0, 10.0, 5.0, 5.0))  # of the authors' code: one over deviations of 0.1, 0.1, 0.2, 0.2
# All that is above the score is looked at: of 1000 proposals at most 20 classes each have 0.05.
SUPPRESSION = Suppression(iou=0.5, score=0.05, candidates=20_000, limit=100)


class FasterRCNN(Detector):
    """A region proposal network and a head for its proposals, on the same maps.

    Args:
        backbone: gives the maps.
        read: which of them.
        neck: from these to those that both halves read.
        rpn: proposes.
        head: says what the proposals are.
        classes: K.
        channels: of the images.
        size: height and width of the images.
        sampling: the proposals that the head learns from.
        coder: of the head's deltas.
        beta: where the smooth L1 loss of the head turns from a parabola to a line.
        suppression: how `detect` chooses.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        read: Reading,
        neck: nn.Module,
        rpn: RPN,
        head: RegionHead,
        classes: int,
        channels: int,
        size: tuple[int, int],
        sampling: Sampling,
        coder: DeltaCoder = CODER,
        beta: float = 1 / 9,
        suppression: Suppression = SUPPRESSION,
    ):
        super().__init__()
        self.backbone = backbone
        self.read = read
        self.neck = neck
        self.rpn = rpn
        self.head = head
        self.classes = classes
        self.channels = channels
        self.size = size
        self.sampling = sampling
        self.coder = coder
        self.beta = beta
        self.suppression = suppression

    def maps(self, images: Tensor) -> list[Tensor]:
        """The maps that both halves read, fine to coarse."""
        return self.neck(self.read(self.backbone, images))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """What both halves give.

        Args:
            images: (B, channels, H, W) float32, normalised.

        Returns:
            ``objectness`` (B, M) and ``anchor_deltas`` (B, M, 4) of the anchors; ``proposals`` (B, P, 4) boxes and
            ``proposal_scores`` (B, P), -1 for rows that are none; their ``logits`` (B, P, K + 1), background first, and
            ``deltas`` (B, P, K + 1, 4).
        """
        maps = self.maps(images)
        height, width = images.shape[2:]
        found = self.rpn(maps, (height, width))
        whole = torch.tensor([[height, width]] * len(images))
        boxes, scores = self.rpn.propose(found, whole, self.rpn.numbers.testing)
        logits, deltas = self.head(maps, boxes.unbind(0), self.backbone)
        return {
            "objectness": found.objectness,
            "anchor_deltas": found.deltas,
            "proposals": boxes,
            "proposal_scores": scores,
            "logits": logits.unflatten(0, scores.shape),
            "deltas": deltas.unflatten(0, scores.shape),
        }

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """``objectness`` and ``anchor_boxes`` of the proposal network, ``class`` and ``box`` of the head."""
        maps = self.maps(batch.images)
        height, width = batch.images.shape[2:]
        found = self.rpn(maps, (height, width))
        objectness, anchor_boxes = self.rpn.losses(found, batch.instances)
        proposals = as_lists(*self.rpn.propose(found, batch.content, self.rpn.numbers.training))
        regions = sample_regions(proposals, list(batch.instances), self.sampling)
        logits, deltas = self.head(maps, regions.boxes, self.backbone)
        classes, boxes = region_losses(logits, deltas, regions, self.coder, beta=self.beta)
        return {"objectness": objectness, "anchor_boxes": anchor_boxes, "class": classes, "box": boxes}

    def propose(self, images: Tensor, sizes: Tensor) -> list[Instances]:
        """The proposals of each image, most likely first, with the label 0.

        Args:
            images: (B, channels, H, W) float32, normalised.
            sizes: (B, 2) int64, height and width of what is image.
        """
        height, width = images.shape[2:]
        found = self.rpn(self.maps(images), (height, width))
        boxes, scores = self.rpn.propose(found, sizes, self.rpn.numbers.testing)
        return [
            Instances(boxes=part, labels=torch.zeros_like(own[: len(part)], dtype=torch.int64), scores=own[: len(part)])
            for part, own in zip(as_lists(boxes, scores), scores, strict=True)
        ]

    def detect(self, images: Tensor, sizes: Tensor) -> list[Instances]:
        """As `Detector.detect`."""
        maps = self.maps(images)
        height, width = images.shape[2:]
        found = self.rpn(maps, (height, width))
        boxes = as_lists(*self.rpn.propose(found, sizes, self.rpn.numbers.testing))
        logits, deltas = self.head(maps, boxes, self.backbone)
        return find(logits.softmax(dim=1), deltas, boxes, sizes, coder=self.coder, suppression=self.suppression)

    @torch.no_grad()
    def assigned(self, batch: Batch) -> list[Assigned]:
        """The anchors of the proposal network that are on an object, drawn or not."""
        height, width = batch.images.shape[2:]
        return self.rpn.assigned(self.rpn(self.maps(batch.images), (height, width)), batch.instances)

    def first_loss(self) -> float:
        """Logits near 0 twice, and deltas near 0 where the regions on objects are up to a quarter: about a half."""
        return math.log(2) + math.log(self.classes + 1) + 0.5

    def class_layers(self) -> dict[str, ClassRows]:
        """As `Detector.class_layers`."""
        return {f"head.{name}": rows for name, rows in self.head.class_layers().items()}


@dataclass(frozen=True, kw_only=True)
class ReadStages:
    """Stages of a backbone, by their places."""

    places: tuple[int, ...]

    def __call__(self, backbone: Backbone, images: Tensor) -> list[Tensor]:
        """The maps of (B, C, H, W) images."""
        maps = backbone(images)
        return [maps[place] for place in self.places]


def read_conv4(backbone: Backbone, images: Tensor) -> list[Tensor]:
    """The map after conv4_x of a residual network, conv5_x left undone."""
    assert isinstance(backbone, ResNet)
    stem = backbone.pool(backbone.stem(images))
    return [backbone.stage3(backbone.stage2(backbone.stage1(stem)))]


def read_conv5_3(backbone: Backbone, images: Tensor) -> list[Tensor]:
    """The map before the last pooling of a VGG."""
    assert isinstance(backbone, VGG)
    x = backbone.stage4(backbone.stage3(backbone.stage2(backbone.stage1(images))))
    for layer in list(backbone.stage5)[:-1]:
        x = layer(x)
    return [x]


class Conv5Head(RegionHead):
    """conv5_x of the backbone on every region, averaged, and the two siblings.

    Args:
        pool: how regions are cut out of conv4's map.
        predictor: of the channels of conv5.
    """

    def __init__(self, pool: RoIAlign, predictor: Predictor):
        super().__init__()
        self.pool = pool
        self.predictor = predictor

    def forward(self, maps: Sequence[Tensor], boxes: Sequence[Tensor], backbone: Backbone) -> tuple[Tensor, Tensor]:
        """As `RegionHead.forward`."""
        assert isinstance(backbone, ResNet)
        regions = backbone.stage4(self.pool(maps, boxes))
        return self.predictor(regions.mean(dim=(2, 3)))

    def class_layers(self) -> dict[str, ClassRows]:
        """As `RegionHead.class_layers`."""
        return {f"predictor.{name}": rows for name, rows in self.predictor.class_layers().items()}


def one_map_anchors(size: tuple[int, int]) -> Anchors:
    """The nine anchors of every place of the one map, for images of ``size`` (section 3.1.1)."""
    scale = min(size) / SHORTER
    return Anchors(sizes=(tuple(scale * side for side in (128, 256, 512)),), ratios=RATIOS)


def one_map_rpn(channels: int, size: tuple[int, int]) -> RPN:
    """The proposal network of the paper, on one map."""
    numbers = Proposing(
        anchors=one_map_anchors(size),
        training=Counts(before=12_000, after=2000),  # of the authors' code; section 3.3
        testing=Counts(before=6000, after=300),
    )
    return RPN(channels, numbers, hidden=512)


def pyramid_rpn() -> RPN:
    """The proposal network of Lin et al. 2017, section 4.1, with torchvision's counts."""
    numbers = Proposing(
        anchors=Anchors(sizes=((32,), (64,), (128,), (256,), (512,)), ratios=RATIOS),
        training=Counts(before=2000, after=2000),
        testing=Counts(before=1000, after=1000),
    )
    return RPN(256, numbers, hidden=256)


def build(backbone: Backbone, *, classes: int, channels: int, size: tuple[int, int]) -> FasterRCNN:
    """On a feature pyramid; raises `UsageError` where the backbone lacks a map of stride 4, 8, 16 or 32."""
    places = pyramid_stages(backbone, PYRAMID, "faster_rcnn")
    return FasterRCNN(
        backbone,
        read=ReadStages(places=tuple(places)),
        neck=FPN([backbone.stages[place].channels for place in places], 256, coarser="pool"),
        rpn=pyramid_rpn(),
        head=BoxHead(
            RoIAlign(size=(7, 7), strides=PYRAMID, points=2),
            FullLayers(256 * 7 * 7, (1024, 1024)),
            Predictor(1024, classes),
        ),
        sampling=Sampling(count=512, positives=0.25, overlap=0.5),
        classes=classes,
        channels=channels,
        size=size,
    )


def build_c4(backbone: Backbone, *, classes: int, channels: int, size: tuple[int, int]) -> FasterRCNN:
    """On conv4, with conv5 as the head; raises `UsageError` where the backbone is no ResNet of the catalog."""
    if not isinstance(backbone, ResNet):
        raise UsageError(
            "faster_rcnn_c4 runs the last stage of a residual network on every region: take one of the catalog such as "
            "resnet18 or resnet50, or faster_rcnn with this backbone."
        )
    return FasterRCNN(
        backbone,
        read=read_conv4,
        neck=nn.Identity(),
        rpn=one_map_rpn(backbone.stages[3].channels, size),
        head=Conv5Head(
            RoIAlign(size=(14, 14), strides=(16,), points=2),
            Predictor(backbone.stages[4].channels, classes),
        ),
        sampling=Sampling(count=128, positives=0.25, overlap=0.5),
        classes=classes,
        channels=channels,
        size=size,
    )


def build_vgg16(backbone: Backbone, *, classes: int, channels: int, size: tuple[int, int]) -> FasterRCNN:
    """On conv5_3 of a VGG, with fc6 and fc7 as the head; raises `UsageError` where the backbone is none."""
    if not isinstance(backbone, VGG):
        raise UsageError("faster_rcnn_vgg16 takes a VGG such as vgg16 or vgg11_bn; faster_rcnn takes any backbone.")
    return FasterRCNN(
        backbone,
        read=read_conv5_3,
        neck=nn.Identity(),
        rpn=one_map_rpn(backbone.stages[4].channels, size),
        head=BoxHead(
            RoIPool(size=(7, 7), stride=16),
            FullLayers(512 * 7 * 7, (4096, 4096), dropout=0.5),
            Predictor(4096, classes),
        ),
        sampling=Sampling(count=128, positives=0.25, overlap=0.5),
        classes=classes,
        channels=channels,
        size=size,
    )


_NAMES: Names = (
    ("rpn.head.conv.0.0.{p}", "rpn.conv.{p}"),
    ("rpn.head.conv.{p}", "rpn.conv.{p}"),  # in files of 2020 and before
    ("rpn.head.cls_logits.{p}", "rpn.objectness.{p}"),
    ("rpn.head.bbox_pred.{p}", "rpn.deltas.{p}"),
    ("roi_heads.box_head.{layer}.{p}", "head.body.{layer}.{p}"),
    ("roi_heads.box_predictor.cls_score.{p}", "head.predictor.logits.{p}"),
    ("roi_heads.box_predictor.bbox_pred.{p}", "head.predictor.deltas.{p}"),
    *names_in_torchvision(),
)

ORIGINS = {
    "torchvision": Origin(
        model="fasterrcnn_resnet50_fpn", names=_NAMES, input=scene_input((800, 1344)), classes=COCO[1:]
    )
}
