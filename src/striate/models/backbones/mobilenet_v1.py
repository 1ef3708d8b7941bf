"""MobileNet: depthwise separable convolutions.

Howard, Zhu, Chen, Kalenichenko, Wang, Weyand, Andreetto, Adam: "MobileNets: Efficient Convolutional Neural Networks for
Mobile Vision Applications", 2017, arXiv 1704.04861. Table 1, a pair of "Conv dw" and "Conv 1x1" being one block here:

    module   type / stride            filter shape           input size
    stem     Conv / s2                3 x 3 x 3 x 32         224 x 224 x 3
    stage1   Conv dw / s1, Conv 1x1   3 x 3 x 32,   32 x 64        112 x 112 x 32
    stage2   Conv dw / s2, Conv 1x1   3 x 3 x 64,   64 x 128       112 x 112 x 64
             Conv dw / s1, Conv 1x1   3 x 3 x 128, 128 x 128        56 x  56 x 128
    stage3   Conv dw / s2, Conv 1x1   3 x 3 x 128, 128 x 256        56 x  56 x 128
             Conv dw / s1, Conv 1x1   3 x 3 x 256, 256 x 256        28 x  28 x 256
    stage4   Conv dw / s2, Conv 1x1   3 x 3 x 256, 256 x 512        28 x  28 x 256
         5x  Conv dw / s1, Conv 1x1   3 x 3 x 512, 512 x 512        14 x  14 x 512
    stage5   Conv dw / s2, Conv 1x1   3 x 3 x 512, 512 x 1024       14 x  14 x 512
             Conv dw / s1, Conv 1x1   3 x 3 x 1024, 1024 x 1024      7 x   7 x 1024
    head     Avg Pool / s1            7 x 7                           7 x   7 x 1024
             FC / s1                  1024 x 1000                     1 x   1 x 1024

Table 1 prints stride 2 at the last depthwise convolution, whose input and output are both 7 x 7: it is 1.

Widths (table 6, ImageNet at 224 x 224); mult-adds count convolutions and the full layer:

    name               width   top-1    mult-adds   ours          parameters   ours
    mobilenet_v1        1.0    70.6%    569M        568,740,352   4.2M         4,231,976
    mobilenet_v1_075    0.75   68.4%    325M        325,400,448   2.6M         2,585,560
    mobilenet_v1_050    0.5    63.7%    149M        149,497,088   1.3M         1,331,592
    mobilenet_v1_025    0.25   50.6%     41M         41,030,272   0.5M           470,072

Differences from the paper:
- The activation is ReLU6, as in the authors' published code; the paper says ReLU (section 3.2).
- Maps are padded by one pixel on every side, where TensorFlow's "same" padding puts all of it at the right and bottom
  where the stride is 2.
- The paper leaves the initialisation open: `nn/initialise.py`.
- Any number of channels and classes, and any size from 33x33 (so that the last map is more than one pixel, of which
  batch normalisation could not take a variance in a batch of one).

Letters: B images, C channels, H height, W width, K classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from striate.models.contract import Backbone, Classifier, Stage
from striate.models.weights import Names, Origin
from striate.nn.conv import ConvNormAct
from striate.nn.initialise import initialise
from striate.nn.pooled_head import PooledHead

SMALLEST = (33, 33)
RELU6 = partial(nn.ReLU6, inplace=True)

# Table 1: the filters of the blocks of each stage. The first block of every stage but the first has stride 2.
STEM = 32
FILTERS = ((64,), (128, 128), (256, 256), (512,) * 6, (1024, 1024))


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One row of table 6."""

    width: float  # multiplier alpha of section 3.3


VARIANTS: dict[str, Spec] = {
    "mobilenet_v1": Spec(width=1.0),
    "mobilenet_v1_075": Spec(width=0.75),
    "mobilenet_v1_050": Spec(width=0.5),
    "mobilenet_v1_025": Spec(width=0.25),
}


class DepthwiseSeparable(nn.Module):
    """A depthwise 3x3 convolution and a 1x1 convolution, each with batch normalisation and ReLU6 (figure 3, right)."""

    def __init__(self, in_channels: int, channels: int, stride: int):
        super().__init__()
        self.depthwise = ConvNormAct(in_channels, in_channels, 3, stride, groups=in_channels, activation=RELU6)
        self.pointwise = ConvNormAct(in_channels, channels, 1, activation=RELU6)

    def forward(self, x: Tensor) -> Tensor:
        """From (B, in_channels, H, W) to (B, channels, H / stride, W / stride), rounded up."""
        return self.pointwise(self.depthwise(x))


class MobileNetV1(Backbone):
    """The layers of table 1 up to the pooling, in stages of one stride."""

    def __init__(self, spec: Spec, *, channels: int):
        super().__init__()
        width = int(STEM * spec.width)
        self.stem = ConvNormAct(channels, width, 3, 2, activation=RELU6)
        stages: list[Stage] = []
        for index, filters in enumerate(FILTERS):
            blocks: list[DepthwiseSeparable] = []
            for count in filters:
                stride = 2 if index and not blocks else 1
                blocks.append(DepthwiseSeparable(width, int(count * spec.width), stride))
                width = int(count * spec.width)
            stages.append(Stage(name=f"stage{index + 1}", channels=width, stride=2 ** (index + 1)))
            self.add_module(stages[-1].name, nn.Sequential(*blocks))
        self.stages = tuple(stages)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) images to the last map of each stage."""
        x = self.stem(images)
        maps: list[Tensor] = []
        for stage in self.stages:
            x = self.get_submodule(stage.name)(x)
            maps.append(x)
        return maps


def build(variant: str, *, classes: int, channels: int, size: tuple[int, int]) -> Classifier:
    """A network of `VARIANTS`; ``size`` is only noted, any size from `SMALLEST` can be given to it."""
    backbone = MobileNetV1(VARIANTS[variant], channels=channels)
    head = PooledHead(backbone.stages[-1].channels, classes)
    model = Classifier(backbone, head, classes=classes, channels=channels, size=size)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            initialise(layer, "rectifier")
    initialise(head.fc, "softmax")
    return model


TIMM: Names = (
    ("conv_stem.{p}", "backbone.stem.conv.{p}"),
    ("bn1.{p}", "backbone.stem.norm.{p}"),
    *(
        (f"blocks.{index}.{{b}}.{theirs}.{{p}}", f"backbone.stage{index + 1}.{{b}}.{ours}.{{p}}")
        for index in range(len(FILTERS))
        for theirs, ours in (
            ("conv_dw", "depthwise.conv"),
            ("bn1", "depthwise.norm"),
            ("conv_pw", "pointwise.conv"),
            ("bn2", "pointwise.norm"),
        )
    ),
    ("classifier.{p}", "head.fc.{p}"),
)


def origins(variant: str) -> Mapping[str, Origin]:
    """The other libraries that have a network of `VARIANTS`, by name."""
    return {"timm": Origin(model="mobilenetv1_100", names=TIMM)} if variant == "mobilenet_v1" else {}
