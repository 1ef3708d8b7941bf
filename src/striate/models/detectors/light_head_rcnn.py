"""Light-Head R-CNN: a thin map, cut by position, and one full layer for each region.

Li, Peng, Yu, Zhang, Deng, Sun: "Light-Head R-CNN: In Defense of Two-Stage Object Detector", 2017, arXiv 1711.07264.
The setting "L" of section 4, on a residual network with its last stage dilated to stride 16, as in R-FCN:

    conv4 --> proposal network: 3x3-512, 15 anchors (32, 64, 128, 256, 512; 1:2, 1:1, 2:1), 2000 to learn, 1000 to find
    conv5 --> large separable convolution: 15x1-256, 1x15-490 + 1x15-256, 15x1-490 (figure 3)
          --> position-sensitive RoIAlign 7x7 of 10 channels (490 = 10 x 7 x 7; "alpha" 10) --> fc 2048
          --> K + 1 logits, 4 deltas that all classes share

With any other backbone the map of stride 16 takes the place of both conv4 and conv5.

                          parameters, 80 classes    published, all with 101 layers
    light_head_rcnn                   67,930,804    AP 40.8 on COCO test-dev, at one scale (section 4.3)

Others quote AP 41.5 (Law and Deng 2018, arXiv 1808.01244, table 7); the text of section 4.3 has 40.8.

Differences: 256 regions of an image are drawn, a quarter of them on objects, where the paper takes the 256 with the
largest loss of all (online hard example mining, section 4.1). ReLU follows the sum of the separable convolutions and
the full layer. The anchors are pixels for images of a shorter side of 800, scaled to that of other images.

Letters: B images, K classes, R regions.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from striate.models.contract import Backbone
from striate.models.detectors.faster_rcnn import RATIOS, FasterRCNN
from striate.models.detectors.rfcn import read_dilated
from striate.models.heads.box import BoxHead, FullLayers, Predictor, Sampling
from striate.models.heads.rpn import RPN, Counts, Proposing
from striate.nn.initialise import initialise
from striate.ops.anchors import Anchors
from striate.ops.rois import PositionSensitiveAlign

SHORTER = 800  # pixels, the side that the anchors' sizes are for, section 4.1


class LargeSeparable(nn.Module):
    """Two ways of a long and a broad convolution each, added (figure 3, after Peng et al. 2017).

    Args:
        in_channels: of the map.
        middle: channels between the two convolutions of a way.
        channels: that come out.
        kernel: length k of the convolutions.
    """

    def __init__(self, in_channels: int, middle: int, channels: int, kernel: int):
        super().__init__()
        long, broad = (kernel, 1), (1, kernel)
        self.long1 = nn.Conv2d(in_channels, middle, long, padding=(kernel // 2, 0))
        self.broad1 = nn.Conv2d(middle, channels, broad, padding=(0, kernel // 2))
        self.broad2 = nn.Conv2d(in_channels, middle, broad, padding=(0, kernel // 2))
        self.long2 = nn.Conv2d(middle, channels, long, padding=(kernel // 2, 0))
        for layer in (self.long1, self.broad1, self.broad2, self.long2):
            initialise(layer, "nothing")

    def forward(self, x: Tensor) -> Tensor:
        """From (B, in_channels, H, W) to (B, channels, H, W)."""
        return F.relu(self.broad1(self.long1(x)) + self.long2(self.broad2(x)), inplace=True)


class ThinLast(nn.Module):
    """The large separable convolution on the last map; the others pass.

    Args:
        in_channels: of the last map.
        middle: channels between, C_mid of section 3.2.
        channels: of the thin map.
        kernel: k of section 3.2.
    """

    def __init__(self, in_channels: int, *, middle: int, channels: int, kernel: int):
        super().__init__()
        self.thin = LargeSeparable(in_channels, middle, channels, kernel)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """From maps to as many."""
        return [*maps[:-1], self.thin(maps[-1])]


class LastMapAlign(PositionSensitiveAlign):
    """Position-sensitive RoIAlign of the last map given."""

    def __call__(self, maps: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """As `PositionSensitiveAlign`."""
        return super().__call__(maps[-1:], boxes)


def build(backbone: Backbone, *, classes: int, channels: int, size: tuple[int, int]) -> FasterRCNN:
    """The network; raises `UsageError` where the backbone lacks a map of stride 16."""
    read = read_dilated(backbone, "light_head_rcnn")
    first, last = (backbone.stages[place].channels for place in read.places)
    scale = min(size) / SHORTER
    numbers = Proposing(
        anchors=Anchors(sizes=(tuple(scale * side for side in (32, 64, 128, 256, 512)),), ratios=RATIOS),
        training=Counts(before=12_000, after=2000),  # section 4.1; before: as in Faster R-CNN
        testing=Counts(before=6000, after=1000),
    )
    return FasterRCNN(
        backbone,
        read=read,
        neck=ThinLast(last, middle=256, channels=10 * 7 * 7, kernel=15),
        rpn=RPN(first, numbers, hidden=512),
        head=BoxHead(
            LastMapAlign(bins=7, stride=16, points=2),
            FullLayers(10 * 7 * 7, (2048,)),
            Predictor(2048, classes, shared=True),
        ),
        sampling=Sampling(count=256, positives=0.25, overlap=0.5),
        classes=classes,
        channels=channels,
        size=size,
    )
