"""MobileNetV3: inverted residuals found by search, with squeeze and excitation and hard swish.

Howard, Sandler, Chu, Chen, Chen, Tan, Wang, Zhu, Pang, Vasudevan, Le, Adam: "Searching for MobileNetV3", ICCV 2019,
arXiv 1905.02244. Table 1, large (SE: squeeze and excitation; NL: the nonlinearity, hard swish or ReLU; s: stride):

    module    input         operator     exp size   out   SE   NL   s
    stem      224^2 x 3     conv2d           -       16   -    HS   2
    stage1.0  112^2 x 16    bneck, 3x3      16       16   -    RE   1
    stage2.0  112^2 x 16    bneck, 3x3      64       24   -    RE   2
    stage2.1   56^2 x 24    bneck, 3x3      72       24   -    RE   1
    stage3.0   56^2 x 24    bneck, 5x5      72       40   x    RE   2
    stage3.1   28^2 x 40    bneck, 5x5     120       40   x    RE   1
    stage3.2   28^2 x 40    bneck, 5x5     120       40   x    RE   1
    stage4.0   28^2 x 40    bneck, 3x3     240       80   -    HS   2
    stage4.1   14^2 x 80    bneck, 3x3     200       80   -    HS   1
    stage4.2   14^2 x 80    bneck, 3x3     184       80   -    HS   1
    stage4.3   14^2 x 80    bneck, 3x3     184       80   -    HS   1
    stage4.4   14^2 x 80    bneck, 3x3     480      112   x    HS   1
    stage4.5   14^2 x 112   bneck, 3x3     672      112   x    HS   1
    stage5.0   14^2 x 112   bneck, 5x5     672      160   x    HS   2
    stage5.1    7^2 x 160   bneck, 5x5     960      160   x    HS   1
    stage5.2    7^2 x 160   bneck, 5x5     960      160   x    HS   1
    head        7^2 x 160   conv2d, 1x1      -      960   -    HS   1
                7^2 x 960   pool, 7x7        -        -   -    -    1
                1^2 x 960   conv2d 1x1       -    1,280   -    HS   1
                1^2 x 1280  conv2d 1x1       -        k   -    -    1

Table 2, small:

    stem      224^2 x 3     conv2d, 3x3      -       16   -    HS   2
    stage2.0  112^2 x 16    bneck, 3x3      16       16   x    RE   2
    stage3.0   56^2 x 16    bneck, 3x3      72       24   -    RE   2
    stage3.1   28^2 x 24    bneck, 3x3      88       24   -    RE   1
    stage4.0   28^2 x 24    bneck, 5x5      96       40   x    HS   2
    stage4.1   14^2 x 40    bneck, 5x5     240       40   x    HS   1
    stage4.2   14^2 x 40    bneck, 5x5     240       40   x    HS   1
    stage4.3   14^2 x 40    bneck, 5x5     120       48   x    HS   1
    stage4.4   14^2 x 48    bneck, 5x5     144       48   x    HS   1
    stage5.0   14^2 x 48    bneck, 5x5     288       96   x    HS   2
    stage5.1    7^2 x 96    bneck, 5x5     576       96   x    HS   1
    stage5.2    7^2 x 96    bneck, 5x5     576       96   x    HS   1
    head        7^2 x 96    conv2d, 1x1      -      576   -    HS   1
                7^2 x 576   pool, 7x7        -        -   -    -    1
                1^2 x 576   conv2d 1x1       -    1,024   -    HS   1
                1^2 x 1024  conv2d 1x1       -        k   -    -    1

A stage holds the rows of one stride: stage k of 2^k. The published results (table 3, ImageNet at 224 x 224):

    name                top-1    mult-adds   ours          parameters   ours
    mobilenet_v3_large  75.2%    219M        216,589,760   5.4M         5,483,032
    mobilenet_v3_small  67.4%    56M          56,510,400   2.5M         2,542,856

Three printed figures are not ours rounded: 5.4M parameters and 56M mult-adds are ours cut off, and 219M mult-adds is 1%
more than the convolutions and full layers of table 1 make (the model card of the authors' weights in Keras has 217M).

The squeeze has a quarter of the expanded channels (section 5.3), rounded as all channels are; its gate is the hard
sigmoid. Batch normalisation: decay 0.99 (section 6.1.1), epsilon 0.001 as in the authors' published code; dropout 0.2
(section 6.1.1: 0.8 kept).

Differences from the paper:
- Table 2 marks squeeze and excitation after the small network's last 1x1 convolution too; the authors' published code
  has none there, nor has torchvision.
- Maps are padded by half the kernel on every side, where TensorFlow's "same" padding puts the odd pixel at the right
  and bottom. timm's `mobilenetv3_large_100` has another epsilon, so its weights would not score alike: no origin here.
- The paper leaves the initialisation open: `nn/initialise.py`.
- Any number of channels and classes, and any size from 33x33 (so that the last map is more than one pixel, of which
  batch normalisation could not take a variance in a batch of one).

Letters: B images, C channels, H height, W width, K classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import Tensor, nn

from striate.models.contract import Backbone, Classifier, Stage
from striate.models.weights import Names, Origin
from striate.nn.conv import RELU, ConvNormAct
from striate.nn.initialise import initialise
from striate.nn.inverted_residual import InvertedResidual, make_divisible
from striate.nn.squeeze_excite import SqueezeExcite

SMALLEST = (33, 33)
EPS, MOMENTUM = 0.001, 0.01
HARD_SWISH = partial(nn.Hardswish, inplace=True)
STEM = 16


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of table 1 or 2."""

    kernel: int
    expanded: int
    out: int
    se: bool
    nonlinearity: Literal["RE", "HS"]
    stride: int


def _row(kernel: int, expanded: int, out: int, se: bool, nonlinearity: Literal["RE", "HS"], stride: int) -> Row:
    return Row(kernel=kernel, expanded=expanded, out=out, se=se, nonlinearity=nonlinearity, stride=stride)


@dataclass(frozen=True, kw_only=True)
class Spec:
    """Table 1 or 2."""

    rows: tuple[Row, ...]
    convolution: int  # channels of the last 1x1 convolution before the pooling
    hidden: int  # and of the one after it
    dropout: float


VARIANTS: dict[str, Spec] = {
    "mobilenet_v3_large": Spec(
        rows=(
            _row(3, 16, 16, False, "RE", 1),
            _row(3, 64, 24, False, "RE", 2),
            _row(3, 72, 24, False, "RE", 1),
            _row(5, 72, 40, True, "RE", 2),
            _row(5, 120, 40, True, "RE", 1),
            _row(5, 120, 40, True, "RE", 1),
            _row(3, 240, 80, False, "HS", 2),
            _row(3, 200, 80, False, "HS", 1),
            _row(3, 184, 80, False, "HS", 1),
            _row(3, 184, 80, False, "HS", 1),
            _row(3, 480, 112, True, "HS", 1),
            _row(3, 672, 112, True, "HS", 1),
            _row(5, 672, 160, True, "HS", 2),
            _row(5, 960, 160, True, "HS", 1),
            _row(5, 960, 160, True, "HS", 1),
        ),
        convolution=960,
        hidden=1280,
        dropout=0.2,
    ),
    "mobilenet_v3_small": Spec(
        rows=(
            _row(3, 16, 16, True, "RE", 2),
            _row(3, 72, 24, False, "RE", 2),
            _row(3, 88, 24, False, "RE", 1),
            _row(5, 96, 40, True, "HS", 2),
            _row(5, 240, 40, True, "HS", 1),
            _row(5, 240, 40, True, "HS", 1),
            _row(5, 120, 48, True, "HS", 1),
            _row(5, 144, 48, True, "HS", 1),
            _row(5, 288, 96, True, "HS", 2),
            _row(5, 576, 96, True, "HS", 1),
            _row(5, 576, 96, True, "HS", 1),
        ),
        convolution=576,
        hidden=1024,
        dropout=0.2,
    ),
}


def _squeeze_excite(channels: int) -> SqueezeExcite:
    return SqueezeExcite(channels, make_divisible(channels // 4), activation=RELU, gate=nn.Hardsigmoid)


def _places(spec: Spec) -> list[tuple[int, int]]:
    """For every row its stage and its place there."""
    stage, place = 1, -1
    places: list[tuple[int, int]] = []
    for row in spec.rows:
        stage, place = (stage + 1, 0) if row.stride == 2 else (stage, place + 1)
        places.append((stage, place))
    return places


class MobileNetV3(Backbone):
    """The rows of a table up to the last bneck, grouped by stride."""

    def __init__(self, spec: Spec, *, channels: int):
        super().__init__()
        self.stem = ConvNormAct(channels, STEM, 3, 2, activation=HARD_SWISH, eps=EPS, momentum=MOMENTUM)
        width = STEM
        blocks: dict[int, list[InvertedResidual]] = {}
        for row, (stage, _) in zip(spec.rows, _places(spec), strict=True):
            block = InvertedResidual(
                width,
                row.out,
                expanded=row.expanded,
                kernel_size=row.kernel,
                stride=row.stride,
                activation=HARD_SWISH if row.nonlinearity == "HS" else RELU,
                squeeze_excite=_squeeze_excite if row.se else None,
                eps=EPS,
                momentum=MOMENTUM,
            )
            blocks.setdefault(stage, []).append(block)
            width = row.out
        stages = [Stage(name="stem", channels=STEM, stride=2)] if 1 not in blocks else []
        for stage, found in blocks.items():
            self.add_module(f"stage{stage}", nn.Sequential(*found))
            width = found[-1].project.conv.out_channels
            stages.append(Stage(name=f"stage{stage}", channels=width, stride=2**stage))
        self.stages = tuple(stages)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) images to the last map of each stride."""
        x = self.stem(images)
        maps: list[Tensor] = []
        for stage in self.stages:
            if stage.name != "stem":
                x = self.get_submodule(stage.name)(x)
            maps.append(x)
        return maps


def build(variant: str, *, classes: int, channels: int, size: tuple[int, int]) -> Classifier:
    """A network of `VARIANTS`; ``size`` is only noted, any size from `SMALLEST` can be given to it."""
    spec = VARIANTS[variant]
    backbone = MobileNetV3(spec, channels=channels)
    last = backbone.stages[-1].channels
    head = nn.Sequential()
    head.add_module("conv", ConvNormAct(last, spec.convolution, 1, activation=HARD_SWISH, eps=EPS, momentum=MOMENTUM))
    head.add_module("pool", nn.AdaptiveAvgPool2d(1))
    head.add_module("flatten", nn.Flatten())
    hidden = nn.Linear(spec.convolution, spec.hidden)
    head.add_module("hidden", hidden)
    head.add_module("act", HARD_SWISH())
    head.add_module("dropout", nn.Dropout(spec.dropout))
    full = nn.Linear(spec.hidden, classes)
    head.add_module("fc", full)
    model = Classifier(backbone, head, classes=classes, channels=channels, size=size)
    for module in model.modules():
        if isinstance(module, ConvNormAct):
            initialise(module.conv, "nothing" if module.act is None else "rectifier")
        elif isinstance(module, SqueezeExcite):
            initialise(module.reduce, "rectifier")
            initialise(module.expand, "saturating")
    initialise(hidden, "rectifier")
    initialise(full, "softmax")
    return model


def _torchvision(spec: Spec) -> Names:
    rows: list[tuple[str, str]] = []
    width = STEM
    for index, (row, (stage, place)) in enumerate(zip(spec.rows, _places(spec), strict=True), 1):
        units = ["expand"] * (row.expanded != width) + ["depthwise"] + ["squeeze_excite"] * row.se + ["project"]
        ours = f"backbone.stage{stage}.{place}"
        for number, unit in enumerate(units):
            there = f"features.{index}.block.{number}"
            parts = (
                (("fc1", "reduce"), ("fc2", "expand")) if unit == "squeeze_excite" else (("0", "conv"), ("1", "norm"))
            )
            rows += [(f"{there}.{theirs}.{{p}}", f"{ours}.{unit}.{part}.{{p}}") for theirs, part in parts]
        width = row.out
    last = len(spec.rows) + 1
    return (
        ("features.0.0.{p}", "backbone.stem.conv.{p}"),
        ("features.0.1.{p}", "backbone.stem.norm.{p}"),
        *rows,
        (f"features.{last}.0.{{p}}", "head.conv.conv.{p}"),
        (f"features.{last}.1.{{p}}", "head.conv.norm.{p}"),
        ("classifier.0.{p}", "head.hidden.{p}"),
        ("classifier.3.{p}", "head.fc.{p}"),
    )


def origins(variant: str) -> Mapping[str, Origin]:
    """The other libraries that have a network of `VARIANTS`, by name."""
    return {"torchvision": Origin(model=variant, names=_torchvision(VARIANTS[variant]))}
