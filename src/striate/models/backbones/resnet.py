"""Residual networks for ImageNet, their plain twins, and what others made of them.

He, Zhang, Ren, Sun: "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv 1512.03385, table 1. Blocks in
brackets by the filters of their convolutions: two of 3x3, or a bottleneck of 1x1, 3x3 and 1x1 (figure 5):

    layer     here     output      18              34              50, 101, 152
    conv1     stem     112 x 112   7x7, 64 filters, stride 2
    conv2_x   stage1    56 x  56   3x3 max-pooling, stride 2, then
                                   2 [ 64  64]     3 [ 64  64]     3         [ 64  64  256]
    conv3_x   stage2    28 x  28   2 [128 128]     4 [128 128]     4, 4, 8   [128 128  512]
    conv4_x   stage3    14 x  14   2 [256 256]     6 [256 256]     6, 23, 36 [256 256 1024]
    conv5_x   stage4     7 x   7   2 [512 512]     3 [512 512]     3         [512 512 2048]
              head       1 x   1   average pooling, full layer of 1000

Batch normalisation follows every convolution, ReLU every normalisation but the block's last, where it follows the sum.
The first blocks of conv3_x to conv5_x have stride 2. Their shortcuts, and that of the first bottleneck, change shape:
by option A every second pixel and zeros for new channels, by option B a 1x1 convolution with that stride. Tables 1
and 2 count and measure 18 and 34 layers with option A, tables 3 and 4 also with B; 50, 101 and 152 have B.

For 224x224 pixels and 1000 classes:

    name                            parameters   multiply-accumulates   published
    plain18, resnet18_a             11,515,688          1,794,805,760         1.8e9
    plain34, resnet34_a             21,623,848          3,644,493,824         3.6e9
    resnet18                        11,689,512          1,814,073,344         1.8e9
    resnet34                        21,797,672          3,663,761,408
    resnet50_v1                     25,557,032          3,857,973,248         3.8e9, which is 3.9e9
    resnet101_v1                    44,549,160          7,570,194,432         7.6e9
    resnet152_v1                    60,192,808         11,282,415,616        11.3e9

The halving convolution of a bottleneck is the first one in the authors' files (`_v1`). The names without it are
torchvision's and timm's and halve in the 3x3 convolution, as Gross and Wilber's fb.resnet.torch of 2016 does and all
after them ("v1.5"): no parameter more, but 6% more work in 50 layers and lower errors. For 18 and 34 both are one.

    resnet50                        25,557,032          4,089,184,256
    resnet101                       44,549,160          7,801,405,440
    resnet152                       60,192,808         11,513,626,624

Xie, Girshick, Dollar, Tu, He: "Aggregated Residual Transformations for Deep Neural Networks", CVPR 2017, arXiv
1611.05431: the 3x3 convolution in C groups of d channels (in conv2_x; twice as many in each later stage), C x d.
resnext101_32x8d is from Mahajan et al., "Exploring the Limits of Weakly Supervised Pretraining", ECCV 2018.
Zagoruyko, Komodakis: "Wide Residual Networks", BMVC 2016, arXiv 1605.07146, section 3: the 3x3 convolution twice as
wide, in one group; wide_resnet101_2 is torchvision's.

    resnext50_32x4d                 25,028,904          4,230,479,872         25.0e6 and 4.2e9
    resnext101_32x8d                88,791,336         16,414,015,488
    resnext101_64x4d                83,455,272         15,460,270,080
    wide_resnet50_2                 68,883,240         11,398,021,120         68.9e6
    wide_resnet101_2               126,886,696         22,753,050,624

Hu, Shen, Sun: "Squeeze-and-Excitation Networks", CVPR 2018, arXiv 1709.01507: each block's last map, before the sum,
through squeeze and excitation (figure 3, the "standard" placement of figure 5b), reduced by r = 16. `_v1` are the
authors' networks: they halve in the first convolution and pool as Caffe does. The others are timm's, on v1.5; with 18
and 34 layers, which the paper does not have, it keeps at least 8 channels between the full layers.

    seresnet50_v1                   28,088,024          3,860,488,192         28.1e6 and 3.87e9
    seresnet101_v1                  49,326,872          7,574,937,600         7.60e9
    seresnet152_v1                  66,821,848         11,288,993,792         11.32e9
    seresnet18                      11,779,624          1,814,161,408
    seresnet34                      21,960,416          3,663,920,128
    seresnet50                      28,088,024          4,091,699,200
    seresnet101                     49,326,872          7,806,148,608
    seresnet152                     66,821,848         11,520,204,800
    seresnext50_32x4d               27,559,896          4,232,994,816         4.25e9

Weights start as in the authors' code: normal with variance 2 / (k^2 x output channels) (He et al. 2015, "Delving Deep
into Rectifiers", the backward form, equation 14), those of the last layer small (`nn/initialise.py`). Every
normalisation starts at scale 1; torchvision and timm can start a block's last one at 0, and timm does (Goyal et al.
2017, section 5.1).

Differences from the papers:
- Max-pooling is padded by a pixel, as in torchvision, except in the networks of Hu et al.: He et al. too pooled with
  Caffe, without padding and rounding up. At 224x224 both give 56x56, of other pixels.
- Any number of channels and classes, and any size from `SMALLEST`.

Letters: B images, C channels, H height, W width, K classes.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch.nn.functional as F
from torch import Tensor, nn

from striate.models.contract import Backbone, Classifier, Stage
from striate.models.weights import Names, Origin
from striate.nn.conv import ConvNormAct
from striate.nn.initialise import initialise
from striate.nn.pooled_head import PooledHead
from striate.nn.shortcut import ZeroPadding
from striate.nn.squeeze_excite import SqueezeExcite

Shortcut: TypeAlias = Literal["A", "B", "none"]

WIDTHS = (64, 128, 256, 512)  # of the 3x3 convolutions of conv2_x to conv5_x, table 1
EXPANSION = 4  # from the 3x3 convolution of a bottleneck to its output, table 1
REDUCTION = 16  # r of Hu et al., section 5.1


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One column of table 1."""

    blocks: tuple[int, int, int, int]  # of conv2_x to conv5_x
    bottleneck: bool
    shortcut: Shortcut = "B"  # where the shape changes; "none": a plain network
    stride_in: Literal["1x1", "3x3"] = "3x3"  # the convolution of a bottleneck that halves the map
    groups: int = 1  # of the 3x3 convolutions: the cardinality C of Xie et al.
    group_width: int = 64  # channels per group in conv2_x: d of Xie et al.
    squeeze_excite: bool = False
    pool: Literal["padded", "ceil"] = "padded"  # by a pixel all around, or, as in Caffe, below and right if need be


VARIANTS: dict[str, Spec] = {
    # He et al.
    "plain18": Spec(blocks=(2, 2, 2, 2), bottleneck=False, shortcut="none"),
    "plain34": Spec(blocks=(3, 4, 6, 3), bottleneck=False, shortcut="none"),
    "resnet18_a": Spec(blocks=(2, 2, 2, 2), bottleneck=False, shortcut="A"),
    "resnet34_a": Spec(blocks=(3, 4, 6, 3), bottleneck=False, shortcut="A"),
    "resnet18": Spec(blocks=(2, 2, 2, 2), bottleneck=False),
    "resnet34": Spec(blocks=(3, 4, 6, 3), bottleneck=False),
    "resnet50_v1": Spec(blocks=(3, 4, 6, 3), bottleneck=True, stride_in="1x1"),
    "resnet101_v1": Spec(blocks=(3, 4, 23, 3), bottleneck=True, stride_in="1x1"),
    "resnet152_v1": Spec(blocks=(3, 8, 36, 3), bottleneck=True, stride_in="1x1"),
    # v1.5
    "resnet50": Spec(blocks=(3, 4, 6, 3), bottleneck=True),
    "resnet101": Spec(blocks=(3, 4, 23, 3), bottleneck=True),
    "resnet152": Spec(blocks=(3, 8, 36, 3), bottleneck=True),
    # Xie et al.
    "resnext50_32x4d": Spec(blocks=(3, 4, 6, 3), bottleneck=True, groups=32, group_width=4),
    "resnext101_32x8d": Spec(blocks=(3, 4, 23, 3), bottleneck=True, groups=32, group_width=8),
    "resnext101_64x4d": Spec(blocks=(3, 4, 23, 3), bottleneck=True, groups=64, group_width=4),
    # Zagoruyko and Komodakis
    "wide_resnet50_2": Spec(blocks=(3, 4, 6, 3), bottleneck=True, group_width=128),
    "wide_resnet101_2": Spec(blocks=(3, 4, 23, 3), bottleneck=True, group_width=128),
    # Hu et al.
    "seresnet50_v1": Spec(blocks=(3, 4, 6, 3), bottleneck=True, stride_in="1x1", squeeze_excite=True, pool="ceil"),
    "seresnet101_v1": Spec(blocks=(3, 4, 23, 3), bottleneck=True, stride_in="1x1", squeeze_excite=True, pool="ceil"),
    "seresnet152_v1": Spec(blocks=(3, 8, 36, 3), bottleneck=True, stride_in="1x1", squeeze_excite=True, pool="ceil"),
    "seresnet18": Spec(blocks=(2, 2, 2, 2), bottleneck=False, squeeze_excite=True),
    "seresnet34": Spec(blocks=(3, 4, 6, 3), bottleneck=False, squeeze_excite=True),
    "seresnet50": Spec(blocks=(3, 4, 6, 3), bottleneck=True, squeeze_excite=True),
    "seresnet101": Spec(blocks=(3, 4, 23, 3), bottleneck=True, squeeze_excite=True),
    "seresnet152": Spec(blocks=(3, 8, 36, 3), bottleneck=True, squeeze_excite=True),
    "seresnext50_32x4d": Spec(blocks=(3, 4, 6, 3), bottleneck=True, groups=32, group_width=4, squeeze_excite=True),
}

# A batch of one needs more than one pixel in conv5_x, 1/32 of the image, rounded up at each halving. Caffe's pooling
# gives half of what reaches it, rounded down (but of 2 pixels 1): 18 pixels must come out of conv1.
SMALLEST: dict[str, tuple[int, int]] = {
    variant: (35, 35) if spec.pool == "ceil" else (33, 33) for variant, spec in VARIANTS.items()
}


def _shortcut(option: Shortcut, in_channels: int, channels: int, stride: int) -> nn.Module | None:
    """What stands beside a block (equations 1 and 2); None in a plain network."""
    if option == "none":
        return None
    if stride == 1 and in_channels == channels:
        return nn.Identity()
    if option == "A":
        return ZeroPadding(channels - in_channels, stride)
    return ConvNormAct(in_channels, channels, 1, stride, activation=None)


def _squeeze_excite(channels: int) -> nn.Module:
    return SqueezeExcite(channels, max(channels // REDUCTION, 8))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and the shortcut around them (figure 5, left)."""

    def __init__(self, spec: Spec, in_channels: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.se = _squeeze_excite(width) if spec.squeeze_excite else None
        self.shortcut = _shortcut(spec.shortcut, in_channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """From (B, in_channels, H, W) to (B, width, H / stride, W / stride), rounded up."""
        # One step a line: a map that a nested call reads would be kept until the outer call is done.
        y = self.conv1(x)
        y = F.relu(self.bn1(y), inplace=True)
        y = self.conv2(y)
        y = self.bn2(y)
        if self.se is not None:
            y = self.se(y)
        if self.shortcut is not None:
            y += self.shortcut(x)
        return F.relu(y, inplace=True)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and the shortcut around them (figure 5, right).

    Xie et al., figure 3(c): the 3x3 convolution in groups. Hu et al., figure 3: squeeze and excitation before the sum.
    """

    def __init__(self, spec: Spec, in_channels: int, width: int, stride: int):
        super().__init__()
        inner = width * spec.group_width // WIDTHS[0] * spec.groups
        first, second = (stride, 1) if spec.stride_in == "1x1" else (1, stride)
        self.conv1 = nn.Conv2d(in_channels, inner, 1, first, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, second, padding=1, groups=spec.groups, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, width * EXPANSION, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * EXPANSION)
        self.se = _squeeze_excite(width * EXPANSION) if spec.squeeze_excite else None
        self.shortcut = _shortcut(spec.shortcut, in_channels, width * EXPANSION, stride)

    def forward(self, x: Tensor) -> Tensor:
        """From (B, in_channels, H, W) to (B, 4 width, H / stride, W / stride), rounded up."""
        # One step a line: a map that a nested call reads would be kept until the outer call is done.
        y = self.conv1(x)
        y = F.relu(self.bn1(y), inplace=True)
        y = self.conv2(y)
        y = F.relu(self.bn2(y), inplace=True)
        y = self.conv3(y)
        y = self.bn3(y)
        if self.se is not None:
            y = self.se(y)
        if self.shortcut is not None:
            y += self.shortcut(x)
        return F.relu(y, inplace=True)


class ResNet(Backbone):
    """conv1 as the stem, conv2_x to conv5_x as stages 1 to 4."""

    def __init__(self, spec: Spec, *, channels: int):
        super().__init__()
        block, expansion = (Bottleneck, EXPANSION) if spec.bottleneck else (BasicBlock, 1)

        def stage(in_channels: int, number: int, stride: int) -> nn.Sequential:
            width, count = WIDTHS[number], spec.blocks[number]
            first = block(spec, in_channels, width, stride)
            return nn.Sequential(first, *(block(spec, width * expansion, width, 1) for _ in range(count - 1)))

        self.stem = ConvNormAct(channels, 64, 7, 2)
        self.pool = nn.MaxPool2d(3, 2, padding=1) if spec.pool == "padded" else nn.MaxPool2d(3, 2, ceil_mode=True)
        self.stage1 = stage(64, 0, 1)
        self.stage2 = stage(WIDTHS[0] * expansion, 1, 2)
        self.stage3 = stage(WIDTHS[1] * expansion, 2, 2)
        self.stage4 = stage(WIDTHS[2] * expansion, 3, 2)
        self.stages = (
            Stage(name="stem", channels=64, stride=2),
            *(
                Stage(name=f"stage{number}", channels=width * expansion, stride=2 ** (number + 1))
                for number, width in enumerate(WIDTHS, 1)
            ),
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) images to the maps after conv1, conv2_x, conv3_x, conv4_x and conv5_x."""
        stem = self.stem(images)
        first = self.stage1(self.pool(stem))
        second = self.stage2(first)
        third = self.stage3(second)
        return [stem, first, second, third, self.stage4(third)]


def build(variant: str, *, classes: int, channels: int, size: tuple[int, int]) -> Classifier:
    """A network of `VARIANTS`; ``size`` is only noted, any size from `SMALLEST` can be given to it."""
    backbone = ResNet(VARIANTS[variant], channels=channels)
    head = PooledHead(backbone.stages[-1].channels, classes)
    model = Classifier(backbone, head, classes=classes, channels=channels, size=size)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    initialise(head.fc, "softmax")
    return model


_NAMES: Names = (
    ("layer{s}.{b}.downsample.0.{p}", "backbone.stage{s}.{b}.shortcut.conv.{p}"),
    ("layer{s}.{b}.downsample.1.{p}", "backbone.stage{s}.{b}.shortcut.norm.{p}"),
    ("layer{s}.{b}.se.fc1.{p}", "backbone.stage{s}.{b}.se.reduce.{p}"),
    ("layer{s}.{b}.se.fc2.{p}", "backbone.stage{s}.{b}.se.expand.{p}"),
    ("layer{s}.{b}.{layer}.{p}", "backbone.stage{s}.{b}.{layer}.{p}"),
    ("conv1.{p}", "backbone.stem.conv.{p}"),
    ("bn1.{p}", "backbone.stem.norm.{p}"),
    ("fc.{p}", "head.fc.{p}"),
)

_NAMES_LEGACY: Names = (
    ("layer0.conv1.{p}", "backbone.stem.conv.{p}"),
    ("layer0.bn1.{p}", "backbone.stem.norm.{p}"),
    ("layer{s}.{b}.se_module.fc1.{p}", "backbone.stage{s}.{b}.se.reduce.{p}"),
    ("layer{s}.{b}.se_module.fc2.{p}", "backbone.stage{s}.{b}.se.expand.{p}"),
    ("last_linear.{p}", "head.fc.{p}"),
    *_NAMES[:2],
    _NAMES[4],
)


def origins(variant: str) -> dict[str, Origin]:
    """Libraries that have the network ``variant`` too."""
    spec = VARIANTS[variant]
    if spec.pool == "ceil":
        return {"timm": Origin(model=f"legacy_{variant.removesuffix('_v1')}", names=_NAMES_LEGACY)}
    if spec.stride_in == "1x1" or spec.shortcut != "B":
        return {}
    labels = ("timm",) if spec.squeeze_excite else ("torchvision", "timm")
    return {label: Origin(model=variant, names=_NAMES) for label in labels}
