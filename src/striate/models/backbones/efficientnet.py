"""EfficientNet: depth, width and resolution scaled together.

Tan, Le: "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019, arXiv 1905.11946.
Table 1, EfficientNet-B0; MBConvT has expansion T, the resolution is that of a stage's input:

    stage   operator                  resolution   channels   layers
    1       Conv3x3                   224 x 224          32        1
    2       MBConv1, k3x3             112 x 112          16        1
    3       MBConv6, k3x3             112 x 112          24        2
    4       MBConv6, k5x5              56 x  56          40        2
    5       MBConv6, k3x3              28 x  28          80        3
    6       MBConv6, k5x5              14 x  14         112        3
    7       MBConv6, k5x5              14 x  14         192        4
    8       MBConv6, k3x3               7 x   7         320        1
    9       Conv1x1 & Pooling & FC      7 x   7       1,280        1

Stage 1 is `backbone.stem`, stage 9 the head. Every MBConv has squeeze and excitation with a quarter of its input's
channels, and swish for activation. Stages 3, 4, 5 and 7 begin with stride 2.

Compound scaling (section 3.3): depth d = 1.2^phi, width w = 1.1^phi, resolution r = 1.15^phi. The networks use
rounded coefficients, which the authors' published code gives; layers are rounded up, channels to multiples of 8
(`make_divisible`). Published results (table 2, ImageNet):

    name               w     d    size   top-1    parameters   ours         FLOPs (mult-adds)   ours
    efficientnet_b0   1.0   1.0   224    77.1%    5.3M          5,288,548   0.39B                  385,814,752
    efficientnet_b1   1.0   1.1   240    79.1%    7.8M          7,794,184   0.70B                  686,802,832
    efficientnet_b2   1.1   1.2   260    80.1%    9.2M          9,109,994   1.0B                   993,561,872
    efficientnet_b3   1.2   1.4   300    81.6%    12M          12,233,232   1.8B                 1,827,141,392
    efficientnet_b4   1.4   1.8   380    82.9%    19M          19,341,616   4.2B                 4,393,771,024
    efficientnet_b5   1.6   2.2   456    83.6%    30M          30,389,784   9.9B                10,266,384,752
    efficientnet_b6   1.8   2.6   528    84.0%    43M          43,040,704   19B                 19,067,593,536
    efficientnet_b7   2.0   3.1   600    84.3%    66M          66,347,960   37B                 37,745,884,192

`efficientnet_lite0` is B0 for phones, of the authors' published code ("efficientnet/lite"): no squeeze and excitation,
ReLU6 instead of swish. Published: 4.7M parameters (ours 4,652,008), 407M mult-adds (ours 385,187,552), top-1 75.1%.

Of the printed figures, 9.2M parameters for B2 and the FLOPs of B1, B4, B5 and B7 are not what the table makes.

Section 5.2: batch normalisation with decay 0.99, dropout that grows from 0.2 (B0) to 0.5 (B7), stochastic depth with
survival probability 0.8. Weights start normal with variance 2 / (k^2 x output channels per group), as in the authors'
published code; the last layer's small (`nn/initialise.py`).

Differences from the paper:
- B0 to B7 pad maps by half the kernel on every side, as torchvision and timm do; the authors' code uses TensorFlow's
  "same" padding, which the lite network has here too, because its published weights want it.
- The epsilon of batch normalisation is torchvision's: 1e-5 up to B4, the authors' 1e-3 from B5 and for the lite
  network. timm has 1e-5 for B5 to B7 too, so its weights for those would not score alike: no origin here.
- Any number of channels and classes, and any size from 33x33 (so that the last map is more than one pixel, of which
  batch normalisation could not take a variance in a batch of one).

Letters: B images, C channels, H height, W width, K classes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from striate.models.contract import Backbone, Classifier, Stage
from striate.models.weights import Names, Origin
from striate.nn.conv import ConvNormAct
from striate.nn.initialise import initialise
from striate.nn.inverted_residual import InvertedResidual, make_divisible
from striate.nn.squeeze_excite import SqueezeExcite

SMALLEST = (33, 33)
MOMENTUM = 0.01
DROP_PATH = 0.2  # at the end of the network; grows linearly from 0
SWISH = partial(nn.SiLU, inplace=True)
RELU6 = partial(nn.ReLU6, inplace=True)


@dataclass(frozen=True, kw_only=True)
class Row:
    """Stages 2 to 8 of table 1."""

    expansion: int
    kernel: int
    channels: int
    layers: int
    stride: int


ROWS = (
    Row(expansion=1, kernel=3, channels=16, layers=1, stride=1),
    Row(expansion=6, kernel=3, channels=24, layers=2, stride=2),
    Row(expansion=6, kernel=5, channels=40, layers=2, stride=2),
    Row(expansion=6, kernel=3, channels=80, layers=3, stride=2),
    Row(expansion=6, kernel=5, channels=112, layers=3, stride=1),
    Row(expansion=6, kernel=5, channels=192, layers=4, stride=2),
    Row(expansion=6, kernel=3, channels=320, layers=1, stride=1),
)
STEM, LAST = 32, 1280


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One network of table 2, with the coefficients of the published code."""

    width: float
    depth: float
    size: int
    dropout: float
    eps: float = 1e-5
    lite: bool = False


VARIANTS: dict[str, Spec] = {
    "efficientnet_b0": Spec(width=1.0, depth=1.0, size=224, dropout=0.2),
    "efficientnet_b1": Spec(width=1.0, depth=1.1, size=240, dropout=0.2),
    "efficientnet_b2": Spec(width=1.1, depth=1.2, size=260, dropout=0.3),
    "efficientnet_b3": Spec(width=1.2, depth=1.4, size=300, dropout=0.3),
    "efficientnet_b4": Spec(width=1.4, depth=1.8, size=380, dropout=0.4),
    "efficientnet_b5": Spec(width=1.6, depth=2.2, size=456, dropout=0.4, eps=1e-3),
    "efficientnet_b6": Spec(width=1.8, depth=2.6, size=528, dropout=0.5, eps=1e-3),
    "efficientnet_b7": Spec(width=2.0, depth=3.1, size=600, dropout=0.5, eps=1e-3),
    "efficientnet_lite0": Spec(width=1.0, depth=1.0, size=224, dropout=0.2, eps=1e-3, lite=True),
}


def _layers(row: Row, spec: Spec) -> int:
    return math.ceil(row.layers * spec.depth)


class EfficientNet(Backbone):
    """Stages 1 to 8 of table 1; the last stage of each stride is given out."""

    def __init__(self, spec: Spec, *, channels: int):
        super().__init__()
        activation = RELU6 if spec.lite else SWISH
        padding = "same" if spec.lite else None
        width = make_divisible(STEM * spec.width)
        self.stem = ConvNormAct(
            channels, width, 3, 2, padding=padding, activation=activation, eps=spec.eps, momentum=MOMENTUM
        )
        total, before, stride = sum(_layers(row, spec) for row in ROWS), 0, 2
        self.names: list[str] = []
        stages: dict[int, Stage] = {}
        for number, row in enumerate(ROWS, 2):
            blocks: list[InvertedResidual] = []
            for _ in range(_layers(row, spec)):
                squeezed = width // 4
                block = InvertedResidual(
                    width,
                    make_divisible(row.channels * spec.width),
                    expanded=width * row.expansion,
                    kernel_size=row.kernel,
                    stride=1 if blocks else row.stride,
                    activation=activation,
                    squeeze_excite=None if spec.lite else partial(SqueezeExcite, squeezed=squeezed, activation=SWISH),
                    padding=padding,
                    eps=spec.eps,
                    momentum=MOMENTUM,
                    drop_path=DROP_PATH * (before + len(blocks)) / total,
                )
                blocks.append(block)
                width = make_divisible(row.channels * spec.width)
            before += len(blocks)
            stride *= row.stride
            self.names.append(f"stage{number}")
            self.add_module(self.names[-1], nn.Sequential(*blocks))
            stages[stride] = Stage(name=self.names[-1], channels=width, stride=stride)
        self.stages = tuple(stages.values())

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) images to the last map of each stride."""
        x = self.stem(images)
        maps: dict[str, Tensor] = {}
        for name in self.names:
            x = self.get_submodule(name)(x)
            maps[name] = x
        return [maps[stage.name] for stage in self.stages]


def build(variant: str, *, classes: int, channels: int, size: tuple[int, int]) -> Classifier:
    """A network of `VARIANTS`; ``size`` is only noted, any size from `SMALLEST` can be given to it."""
    spec = VARIANTS[variant]
    backbone = EfficientNet(spec, channels=channels)
    last = make_divisible(LAST * spec.width)
    activation = RELU6 if spec.lite else SWISH
    head = nn.Sequential()
    head.add_module(
        "conv",
        ConvNormAct(backbone.stages[-1].channels, last, 1, activation=activation, eps=spec.eps, momentum=MOMENTUM),
    )
    head.add_module("pool", nn.AdaptiveAvgPool2d(1))
    head.add_module("flatten", nn.Flatten())
    head.add_module("dropout", nn.Dropout(spec.dropout))
    full = nn.Linear(last, classes)
    head.add_module("fc", full)
    model = Classifier(backbone, head, classes=classes, channels=channels, size=size)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d) and not layer.weight.is_meta:
            fan_out = layer.out_channels // layer.groups * math.prod(layer.kernel_size)
            nn.init.normal_(layer.weight, std=math.sqrt(2 / fan_out))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    initialise(full, "softmax")
    return model


def _names(spec: Spec) -> tuple[Names, Names, Names]:
    """The rows for torchvision, for timm, and, of the lite network only, for EfficientNet-PyTorch."""
    torchvision: list[tuple[str, str]] = []
    timm: list[tuple[str, str]] = []
    pytorch: list[tuple[str, str]] = []
    block = 0
    for number, row in enumerate(ROWS):
        for place in range(_layers(row, spec)):
            expand = row.expansion != 1
            ours = f"backbone.stage{number + 2}.{place}"
            units = ["expand"] * expand + ["depthwise"] + ["squeeze_excite"] * (not spec.lite) + ["project"]
            for index, unit in enumerate(units):
                there = f"features.{number + 1}.{place}.block.{index}"
                parts = (
                    (("fc1", "reduce"), ("fc2", "expand"))
                    if unit == "squeeze_excite"
                    else (("0", "conv"), ("1", "norm"))
                )
                torchvision += [(f"{there}.{part}.{{p}}", f"{ours}.{unit}.{own}.{{p}}") for part, own in parts]
            convolutions = [unit for unit in units if unit != "squeeze_excite"]
            timm_convolutions = ("conv_pw", "conv_dw", "conv_pwl") if expand else ("conv_dw", "conv_pw")
            for index, (unit, conv) in enumerate(zip(convolutions, timm_convolutions, strict=True), 1):
                there = f"blocks.{number}.{place}"
                timm.append((f"{there}.{conv}.{{p}}", f"{ours}.{unit}.conv.{{p}}"))
                timm.append((f"{there}.bn{index}.{{p}}", f"{ours}.{unit}.norm.{{p}}"))
            timm.append((f"blocks.{number}.{place}.se.conv_{{x}}.{{p}}", f"{ours}.squeeze_excite.{{x}}.{{p}}"))
            for unit, index in (("expand", 0), ("depthwise", 1), ("project", 2)):
                there = f"_blocks.{block}"
                pytorch.append((f"{there}._{unit}_conv.{{p}}", f"{ours}.{unit}.conv.{{p}}"))
                pytorch.append((f"{there}._bn{index}.{{p}}", f"{ours}.{unit}.norm.{{p}}"))
            block += 1

    def ends(stem: tuple[str, str], head: tuple[str, str], full: str) -> Names:
        return (
            *(
                (f"{there}.{{p}}", f"backbone.stem.{own}.{{p}}")
                for there, own in zip(stem, ("conv", "norm"), strict=True)
            ),
            *((f"{there}.{{p}}", f"head.conv.{own}.{{p}}") for there, own in zip(head, ("conv", "norm"), strict=True)),
            (f"{full}.{{p}}", "head.fc.{p}"),
        )

    last = len(ROWS) + 1
    return (
        (
            *ends(("features.0.0", "features.0.1"), (f"features.{last}.0", f"features.{last}.1"), "classifier.1"),
            *torchvision,
        ),
        (*ends(("conv_stem", "bn1"), ("conv_head", "bn2"), "classifier"), *timm),
        (*ends(("_conv_stem", "_bn0"), ("_conv_head", "_bn1"), "_fc"), *pytorch),
    )


def origins(variant: str) -> Mapping[str, Origin]:
    """The other libraries that have a network of `VARIANTS`, by name.

    "efficientnet_pytorch" names the weights as the package of that name and its descendants do.
    """
    spec = VARIANTS[variant]
    torchvision, timm, pytorch = _names(spec)
    if spec.lite:
        return {
            "timm": Origin(model=f"tf_{variant}", names=timm),
            "efficientnet_pytorch": Origin(model=variant.replace("_", "-"), names=pytorch),
        }
    found = {"torchvision": Origin(model=variant, names=torchvision)}
    return found if spec.eps != 1e-5 else found | {"timm": Origin(model=variant, names=timm)}
