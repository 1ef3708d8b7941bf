"""R-FCN: all layers on the whole image; a region only averages what maps for its own parts say.

Dai, Li, He, Sun: "R-FCN: Object Detection via Region-based Fully Convolutional Networks", NIPS 2016, arXiv 1605.06409.
On a residual network with its last stage at stride 16 (section 2, "Backbone architecture" and the a trous trick):

    conv4, stride 16 --> proposal network as in Faster R-CNN: 3x3-512, nine anchors, 2000 proposals to learn, 300
    conv5, stride 16, dilated --> 1x1-1024, ReLU --+--> 1x1: k^2 (K + 1) score maps --> pooled k x k, averaged: logits
                                                   +--> 1x1: 4 k^2 box maps --------> pooled k x k, averaged: deltas

Bin (i, j) of a region is the average over that bin of the map that belongs to it (equation 1); the k^2 bins vote by
their mean (section 2). All classes share the deltas.

    name         k    score maps, 20 classes    box maps    parameters, 101 layers
    rfcn         7    1029                      196         50,596,150                 mAP 79.5 on VOC 2007 (table 4)
    rfcn_3x3     3    189                       36          49,571,150                 figures 1 and 3

With any other backbone the map of stride 16 takes the place of both conv4 and conv5.

Differences:
- Bins are read between the pixels of their maps, as in Light-Head R-CNN, where the paper rounds their borders: objects
  of fewer pixels than 16 k would have bins without any.
- 128 regions of an image are drawn, a quarter of them on objects, where the paper also takes the 128 with the largest
  loss of all (online hard example mining): its 79.5 is with that, 76.6 without (table 3).
- The first block of conv5 is not dilated, as in torchvision.

Letters: B images, K classes, k bins in each direction, R regions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from striate.models.backbones.resnet import ResNet
from striate.models.contract import Backbone, pyramid_stages
from striate.models.detectors.detr import dilate
from striate.models.detectors.faster_rcnn import FasterRCNN, ReadStages, one_map_rpn
from striate.models.heads.box import RegionHead, Sampling
from striate.models.weights import ClassRows
from striate.nn.initialise import initialise
from striate.ops.rois import PositionSensitiveAlign


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One row of the table above."""

    bins: int  # k


VARIANTS = {"rfcn": Spec(bins=7), "rfcn_3x3": Spec(bins=3)}


class ReduceLast(nn.Module):
    """A 1x1 convolution and ReLU on the last map; the others pass (section 2: 2048 to 1024 channels).

    Args:
        in_channels: of the last map.
        channels: that it gets.
    """

    def __init__(self, in_channels: int, channels: int = 1024):
        super().__init__()
        self.reduce = nn.Conv2d(in_channels, channels, 1)
        initialise(self.reduce, "rectifier")

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """From maps to as many."""
        return [*maps[:-1], F.relu(self.reduce(maps[-1]), inplace=True)]


class VotingHead(RegionHead):
    """Score maps and box maps for each bin, and the vote of the bins (equations 1 and 2).

    Args:
        channels: of the last map, which it reads.
        classes: K.
        bins: k.
    """

    def __init__(self, channels: int, classes: int, bins: int):
        super().__init__()
        self.scores = nn.Conv2d(channels, bins * bins * (classes + 1), 1)
        self.boxes = nn.Conv2d(channels, bins * bins * 4, 1)
        self.pool = PositionSensitiveAlign(bins=bins, stride=16, points=2)
        for layer in (self.scores, self.boxes):
            initialise(layer, "softmax")

    def forward(self, maps: Sequence[Tensor], boxes: Sequence[Tensor], backbone: Backbone) -> tuple[Tensor, Tensor]:
        """As `RegionHead.forward`; all classes share their deltas."""
        logits = self.pool([self.scores(maps[-1])], boxes).mean(dim=(2, 3))
        return logits, self.pool([self.boxes(maps[-1])], boxes).mean(dim=(2, 3))[:, None]

    def class_layers(self) -> dict[str, ClassRows]:
        """As `RegionHead.class_layers`: a class' maps are one for each bin."""
        return {"scores": ClassRows(before=1, each=self.pool.bins**2)}


def read_dilated(backbone: Backbone, who: str) -> ReadStages:
    """conv4 and conv5 of a residual network, whose last stage is dilated in place; or one map of stride 16 twice.

    Raises:
        UsageError: the backbone has no map of stride 16.
    """
    if isinstance(backbone, ResNet):
        dilate(backbone)
        return ReadStages(places=(3, 4))
    (place,) = pyramid_stages(backbone, (16,), who)
    return ReadStages(places=(place, place))


def build(variant: str, backbone: Backbone, *, classes: int, channels: int, size: tuple[int, int]) -> FasterRCNN:
    """A network of `VARIANTS`; raises `UsageError` where the backbone lacks a map of stride 16."""
    read = read_dilated(backbone, variant)
    first, last = (backbone.stages[place].channels for place in read.places)
    return FasterRCNN(
        backbone,
        read=read,
        neck=ReduceLast(last, 1024),
        rpn=one_map_rpn(first, size),
        head=VotingHead(1024, classes, VARIANTS[variant].bins),
        sampling=Sampling(count=128, positives=0.25, overlap=0.5),
        classes=classes,
        channels=channels,
        size=size,
    )
