"""Pre-activation residual networks (ResNet v2), for ImageNet and for 32x32 images.

He, Zhang, Ren, Sun: "Identity Mappings in Deep Residual Networks", ECCV 2016, arXiv 1603.05027: normalisation and ReLU
before each convolution instead of after (figure 4e), so that nothing but the sum stands on the path from unit to unit.
Filters and numbers of units are those of the same authors' "Deep Residual Learning for Image Recognition", CVPR 2016
(2016a here; `resnet.py`, `resnet_cifar.py`):

    32x32 images      output    110            164
    conv1  stem      32 x 32    3x3, 16 filters
           stage1    32 x 32    18 [16 16]     18 [16 16  64]
           stage2    16 x 16    18 [32 32]     18 [32 32 128]
           stage3     8 x  8    18 [64 64]     18 [64 64 256]

    ImageNet          output    18, 34             50, 101, 152, 200
    conv1  stem    112 x 112    7x7, 64 filters, stride 2; then 3x3 max-pooling, stride 2
           stage1   56 x  56    2, 3 [ 64  64]     3            [ 64  64  256]
           stage2   28 x  28    2, 4 [128 128]     4, 4, 8, 24  [128 128  512]
           stage3   14 x  14    2, 6 [256 256]     6, 23, 36    [256 256 1024]
           stage4    7 x   7    2, 3 [512 512]     3            [512 512 2048]

then normalisation, ReLU, average pooling and a full layer. The appendix: the first activation comes right after conv1
and before the paths split, the last one after the last sum; projections where the shape changes read the activated
map, and have no normalisation. Two-layer units on 32x32 images have option A of 2016a, zeros, instead.

    name                parameters   multiply-accumulates   published
    preact_resnet110     1,727,962            252,887,680   1.7M, 6.37% error on CIFAR-10
    preact_resnet164     1,703,258            244,500,992   1.7M, 5.46%
    preact_resnet18     11,687,720          1,814,073,344
    preact_resnet34     21,795,880          3,663,761,408
    preact_resnet50     25,549,352          3,857,973,248
    preact_resnet101    44,541,480          7,570,194,432
    preact_resnet152    60,185,128         11,282,415,616   21.1% on ImageNet, one crop of 320x320
    preact_resnet200    64,666,152         14,776,270,848   64.7M (Zagoruyko and Komodakis 2016); 20.7%
    resnetv2_18         11,687,720          1,814,073,344
    resnetv2_34         21,795,880          3,663,761,408
    resnetv2_50         25,549,352          4,089,184,256
    resnetv2_101        44,541,480          7,801,405,440
    resnetv2_152        60,185,128         11,513,626,624

`resnetv2_*` are timm's networks of these names. They differ from the paper's in three ways: pooling comes before the
first activation, which is the first unit's own; so the shortcut of the first unit of 18 and 34 layers carries the map
as conv1 left it; and bottlenecks halve in the 3x3 convolution. The paper's halve in the first 1x1, as in 2016a and in
the authors' code for CIFAR. The paper has no networks of fewer than 152 layers for ImageNet: those are 2016a's, with
its units.

Weights start as in that code: normal with variance 2 / (k^2 x output channels) (He et al. 2015, "Delving Deep into
Rectifiers", the backward form, equation 14), those of the last layer small (`nn/initialise.py`).

Differences from the paper: any number of channels and classes, and any size from `SMALLEST`.

Letters: B images, C channels, H height, W width, K classes.
"""

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from striate.models.contract import Backbone, Classifier, Stage
from striate.models.weights import Names, Origin
from striate.nn.conv import ConvNormAct
from striate.nn.initialise import initialise
from striate.nn.pooled_head import PooledHead
from striate.nn.shortcut import ZeroPadding

IMAGENET = (64, 128, 256, 512)  # filters of the 3x3 convolutions, by stage: He et al. 2016a, table 1
CIFAR = (16, 32, 64)  # the same, section 4.2
EXPANSION = 4  # from the 3x3 convolution of a bottleneck to its output


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One pre-activation network."""

    widths: tuple[int, ...]  # filters of the 3x3 convolutions, by stage
    blocks: tuple[int, ...]  # residual units, by stage
    bottleneck: bool
    stride_in: Literal["1x1", "3x3"] = "1x1"  # the convolution of a bottleneck that halves the map
    first: Literal["conv1", "unit"] = "conv1"  # where the first activation is: right after conv1, or in the first unit
    shortcut: Literal["A", "B"] = "B"  # where the shape changes: zeros, or a projection of the activated map


VARIANTS: dict[str, Spec] = {
    "preact_resnet110": Spec(widths=CIFAR, blocks=(18, 18, 18), bottleneck=False, shortcut="A"),
    "preact_resnet164": Spec(widths=CIFAR, blocks=(18, 18, 18), bottleneck=True),
    "preact_resnet18": Spec(widths=IMAGENET, blocks=(2, 2, 2, 2), bottleneck=False),
    "preact_resnet34": Spec(widths=IMAGENET, blocks=(3, 4, 6, 3), bottleneck=False),
    "preact_resnet50": Spec(widths=IMAGENET, blocks=(3, 4, 6, 3), bottleneck=True),
    "preact_resnet101": Spec(widths=IMAGENET, blocks=(3, 4, 23, 3), bottleneck=True),
    "preact_resnet152": Spec(widths=IMAGENET, blocks=(3, 8, 36, 3), bottleneck=True),
    "preact_resnet200": Spec(widths=IMAGENET, blocks=(3, 24, 36, 3), bottleneck=True),
    "resnetv2_18": Spec(widths=IMAGENET, blocks=(2, 2, 2, 2), bottleneck=False, first="unit"),
    "resnetv2_34": Spec(widths=IMAGENET, blocks=(3, 4, 6, 3), bottleneck=False, first="unit"),
    "resnetv2_50": Spec(widths=IMAGENET, blocks=(3, 4, 6, 3), bottleneck=True, stride_in="3x3", first="unit"),
    "resnetv2_101": Spec(widths=IMAGENET, blocks=(3, 4, 23, 3), bottleneck=True, stride_in="3x3", first="unit"),
    "resnetv2_152": Spec(widths=IMAGENET, blocks=(3, 8, 36, 3), bottleneck=True, stride_in="3x3", first="unit"),
}

# A batch of one needs more than one pixel in the last map: 1/32, of CIFAR's networks 1/4, rounded up at each halving.
SMALLEST: dict[str, tuple[int, int]] = {
    variant: (5, 5) if spec.widths == CIFAR else (33, 33) for variant, spec in VARIANTS.items()
}


def _shortcut(spec: Spec, in_channels: int, channels: int, stride: int) -> nn.Module:
    if stride == 1 and in_channels == channels:
        return nn.Identity()
    if spec.shortcut == "A":
        return ZeroPadding(channels - in_channels, stride)
    return nn.Conv2d(in_channels, channels, 1, stride, bias=False)


class BasicUnit(nn.Module):
    """Normalisation, ReLU and a 3x3 convolution, twice, and the shortcut around them (figure 4e).

    Args:
        spec: of the network.
        in_channels: of the input.
        width: filters of both convolutions.
        stride: of the first one.
        activated: whether the input went through normalisation and ReLU already, as the first unit's does.
    """

    def __init__(self, spec: Spec, in_channels: int, width: int, stride: int, *, activated: bool):
        super().__init__()
        self.norm1 = None if activated else nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.shortcut = _shortcut(spec, in_channels, width, stride)
        self.projects = isinstance(self.shortcut, nn.Conv2d)

    def forward(self, x: Tensor) -> Tensor:
        """From (B, in_channels, H, W) to (B, width, H / stride, W / stride), rounded up."""
        # One step a line: a map that a nested call reads would be kept until the outer call is done.
        y = x if self.norm1 is None else F.relu(self.norm1(x), inplace=True)
        shortcut = self.shortcut(y if self.projects else x)
        y = self.conv1(y)
        y = F.relu(self.norm2(y), inplace=True)
        y = self.conv2(y)
        y += shortcut
        return y


class BottleneckUnit(nn.Module):
    """Normalisation, ReLU and a convolution, three times: 1x1, 3x3, 1x1; and the shortcut (figure 4e, appendix).

    Args:
        spec: of the network.
        in_channels: of the input.
        width: filters of the 3x3 convolution.
        stride: of the first or the second convolution.
        activated: whether the input went through normalisation and ReLU already, as the first unit's does.
    """

    def __init__(self, spec: Spec, in_channels: int, width: int, stride: int, *, activated: bool):
        super().__init__()
        first, second = (stride, 1) if spec.stride_in == "1x1" else (1, stride)
        self.norm1 = None if activated else nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, width, 1, first, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, second, padding=1, bias=False)
        self.norm3 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width * EXPANSION, 1, bias=False)
        self.shortcut = _shortcut(spec, in_channels, width * EXPANSION, stride)
        self.projects = isinstance(self.shortcut, nn.Conv2d)

    def forward(self, x: Tensor) -> Tensor:
        """From (B, in_channels, H, W) to (B, 4 width, H / stride, W / stride), rounded up."""
        # One step a line: a map that a nested call reads would be kept until the outer call is done.
        y = x if self.norm1 is None else F.relu(self.norm1(x), inplace=True)
        shortcut = self.shortcut(y if self.projects else x)
        y = self.conv1(y)
        y = F.relu(self.norm2(y), inplace=True)
        y = self.conv2(y)
        y = F.relu(self.norm3(y), inplace=True)
        y = self.conv3(y)
        y += shortcut
        return y


class PreActResNet(Backbone):
    """conv1 as the stem, then three (CIFAR) or four stages of units, and the last activation.

    The maps of the stages before the last are sums, without normalisation and ReLU: those open the next stage.
    """

    def __init__(self, spec: Spec, *, channels: int):
        super().__init__()
        cifar = spec.widths == CIFAR
        unit, expansion = (BottleneckUnit, EXPANSION) if spec.bottleneck else (BasicUnit, 1)
        stem, kernel, stride = spec.widths[0], 3 if cifar else 7, 1 if cifar else 2

        def stage(number: int) -> nn.Sequential:
            width, count = spec.widths[number], spec.blocks[number]
            before = spec.widths[number - 1] * expansion if number else stem
            activated = number == 0 and spec.first == "conv1"
            first = unit(spec, before, width, 2 if number else 1, activated=activated)
            rest = [unit(spec, width * expansion, width, 1, activated=False) for _ in range(count - 1)]
            return nn.Sequential(first, *rest)

        if spec.first == "conv1":
            self.stem = ConvNormAct(channels, stem, kernel, stride)
        else:
            self.stem = nn.Sequential()
            self.stem.add_module("conv", nn.Conv2d(channels, stem, kernel, stride, padding=kernel // 2, bias=False))
        self.pool = None if cifar else nn.MaxPool2d(3, 2, padding=1)
        self.stage1 = stage(0)
        self.stage2 = stage(1)
        self.stage3 = stage(2)
        self.stage4 = None if cifar else stage(3)
        self.norm = nn.BatchNorm2d(spec.widths[-1] * expansion)

        stages = (
            Stage(name=f"stage{number + 1}", channels=width * expansion, stride=(1 if cifar else 4) * 2**number)
            for number, width in enumerate(spec.widths)
        )
        self.stages = tuple(stages) if cifar else (Stage(name="stem", channels=stem, stride=2), *stages)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) images to the last map of each stage, for ImageNet that of conv1 first."""
        x = self.stem(images)
        outputs: list[Tensor] = []
        if self.pool is not None:
            outputs.append(x)
            x = self.pool(x)
        for stage in (self.stage1, self.stage2, self.stage3, self.stage4):
            if stage is not None:
                x = stage(x)
                outputs.append(x)
        outputs[-1] = F.relu(self.norm(x), inplace=True)
        return outputs


def build(variant: str, *, classes: int, channels: int, size: tuple[int, int]) -> Classifier:
    """A network of `VARIANTS`; ``size`` is only noted, any size from `SMALLEST` can be given to it."""
    backbone = PreActResNet(VARIANTS[variant], channels=channels)
    head = PooledHead(backbone.stages[-1].channels, classes)
    model = Classifier(backbone, head, classes=classes, channels=channels, size=size)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    initialise(head.fc, "softmax")
    return model


_TIMM: Names = (
    *(
        (f"stages.{stage - 1}.blocks.{{b}}.{there}.{{p}}", f"backbone.stage{stage}.{{b}}.{here}.{{p}}")
        for stage in (1, 2, 3, 4)
        for there, here in (("downsample.conv", "shortcut"), ("{layer}", "{layer}"))
    ),
    ("stem.conv.{p}", "backbone.stem.conv.{p}"),
    ("norm.{p}", "backbone.norm.{p}"),
    ("head.fc.weight", "head.fc.weight", (0, 0, 1, 1)),
    ("head.fc.bias", "head.fc.bias"),
)


def origins(variant: str) -> dict[str, Origin]:
    """Libraries that have the network ``variant`` too."""
    return {"timm": Origin(model=variant, names=_TIMM)} if variant.startswith("resnetv2_") else {}
