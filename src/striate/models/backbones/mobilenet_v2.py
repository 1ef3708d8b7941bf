"""MobileNetV2: inverted residuals and linear bottlenecks.

Sandler, Howard, Zhu, Zhmoginov, Chen: "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018,
arXiv 1801.04381. Table 2; t is the expansion, c the output channels, n the blocks, s the stride of the first of them:

    module       input          operator       t      c   n   s
    stem         224^2 x 3      conv2d         -     32   1   2
    bottleneck1  112^2 x 32     bottleneck     1     16   1   1
    bottleneck2  112^2 x 16     bottleneck     6     24   2   2
    bottleneck3   56^2 x 24     bottleneck     6     32   3   2
    bottleneck4   28^2 x 32     bottleneck     6     64   4   2
    bottleneck5   14^2 x 64     bottleneck     6     96   3   1
    bottleneck6   14^2 x 96     bottleneck     6    160   3   2
    bottleneck7    7^2 x 160    bottleneck     6    320   1   1
    head           7^2 x 320    conv2d 1x1     -  1,280   1   1
                   7^2 x 1280   avgpool 7x7    -      -   1   -
                   1 x 1 x 1280 conv2d 1x1     -      k   -

                  top-1 (table 4)   mult-adds   ours          parameters   ours
    mobilenet_v2  72.0%             300M        300,774,272   3.4M         3,504,872

The printed 3.4M does not hold: without the 34,112 scales and shifts of the batch normalisations it is 3,470,760, which
is 3.4M only when cut off, not rounded.

The last 1x1 convolution belongs to the head here, so that the deepest map is that of bottleneck7.

Differences from the paper:
- Maps are padded by half the kernel on every side, where TensorFlow's "same" padding puts all of it at the right and
  bottom where the stride is 2.
- The paper leaves the initialisation open: `nn/initialise.py`; and the dropout: 0.2, as in torchvision.
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
from striate.nn.inverted_residual import InvertedResidual

SMALLEST = (33, 33)
RELU6 = partial(nn.ReLU6, inplace=True)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of table 2."""

    t: int  # expansion
    c: int  # output channels
    n: int  # blocks
    s: int  # stride of the first block


@dataclass(frozen=True, kw_only=True)
class Spec:
    """Table 2."""

    stem: int
    rows: tuple[Row, ...]
    last: int
    dropout: float


VARIANTS: dict[str, Spec] = {
    "mobilenet_v2": Spec(
        stem=32,
        rows=(
            Row(t=1, c=16, n=1, s=1),
            Row(t=6, c=24, n=2, s=2),
            Row(t=6, c=32, n=3, s=2),
            Row(t=6, c=64, n=4, s=2),
            Row(t=6, c=96, n=3, s=1),
            Row(t=6, c=160, n=3, s=2),
            Row(t=6, c=320, n=1, s=1),
        ),
        last=1280,
        dropout=0.2,
    )
}


class MobileNetV2(Backbone):
    """The rows of table 2 up to the last bottleneck; the last one of each stride is a stage."""

    def __init__(self, spec: Spec, *, channels: int):
        super().__init__()
        self.stem = ConvNormAct(channels, spec.stem, 3, 2, activation=RELU6)
        width, stride = spec.stem, 2
        stages: dict[int, Stage] = {}
        self.rows: list[str] = []
        for number, row in enumerate(spec.rows, 1):
            blocks: list[InvertedResidual] = []
            for _ in range(row.n):
                step = 1 if blocks else row.s
                blocks.append(
                    InvertedResidual(width, row.c, expanded=width * row.t, kernel_size=3, stride=step, activation=RELU6)
                )
                width = row.c
            stride *= row.s
            name = f"bottleneck{number}"
            self.add_module(name, nn.Sequential(*blocks))
            self.rows.append(name)
            stages[stride] = Stage(name=name, channels=width, stride=stride)
        self.stages = tuple(stages.values())

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) images to the last map of each stride."""
        x = self.stem(images)
        maps: dict[str, Tensor] = {}
        for name in self.rows:
            x = self.get_submodule(name)(x)
            maps[name] = x
        return [maps[stage.name] for stage in self.stages]


def build(variant: str, *, classes: int, channels: int, size: tuple[int, int]) -> Classifier:
    """A network of `VARIANTS`; ``size`` is only noted, any size from `SMALLEST` can be given to it."""
    spec = VARIANTS[variant]
    backbone = MobileNetV2(spec, channels=channels)
    head = nn.Sequential()
    head.add_module("conv", ConvNormAct(backbone.stages[-1].channels, spec.last, 1, activation=RELU6))
    head.add_module("pool", nn.AdaptiveAvgPool2d(1))
    head.add_module("flatten", nn.Flatten())
    head.add_module("dropout", nn.Dropout(spec.dropout))
    full = nn.Linear(spec.last, classes)
    head.add_module("fc", full)
    model = Classifier(backbone, head, classes=classes, channels=channels, size=size)
    for module in model.modules():
        if isinstance(module, ConvNormAct):
            initialise(module.conv, "nothing" if module.act is None else "rectifier")
    initialise(full, "softmax")
    return model


def _rows(spec: Spec) -> tuple[Names, Names]:
    """The rows for torchvision, which counts all blocks in one sequence, and for timm, which counts per row."""
    torchvision: list[tuple[str, str]] = []
    timm: list[tuple[str, str]] = []
    blocks = [(row, number, block) for number, row in enumerate(spec.rows, 1) for block in range(row.n)]
    for index, (row, number, block) in enumerate(blocks, 1):
        ours = f"backbone.bottleneck{number}.{block}"
        units = ("depthwise",) if row.t == 1 else ("expand", "depthwise")
        for place, unit in enumerate(units):
            torchvision.append((f"features.{index}.conv.{place}.0.{{p}}", f"{ours}.{unit}.conv.{{p}}"))
            torchvision.append((f"features.{index}.conv.{place}.1.{{p}}", f"{ours}.{unit}.norm.{{p}}"))
        for place, part in enumerate(("conv", "norm"), len(units)):
            torchvision.append((f"features.{index}.conv.{place}.{{p}}", f"{ours}.project.{part}.{{p}}"))
        convs = ("conv_dw", "conv_pw") if row.t == 1 else ("conv_pw", "conv_dw", "conv_pwl")
        for place, (conv, unit) in enumerate(zip(convs, (*units, "project"), strict=True), 1):
            timm.append((f"blocks.{number - 1}.{block}.{conv}.{{p}}", f"{ours}.{unit}.conv.{{p}}"))
            timm.append((f"blocks.{number - 1}.{block}.bn{place}.{{p}}", f"{ours}.{unit}.norm.{{p}}"))
    return (
        (
            ("features.0.0.{p}", "backbone.stem.conv.{p}"),
            ("features.0.1.{p}", "backbone.stem.norm.{p}"),
            *torchvision,
            (f"features.{len(blocks) + 1}.0.{{p}}", "head.conv.conv.{p}"),
            (f"features.{len(blocks) + 1}.1.{{p}}", "head.conv.norm.{p}"),
            ("classifier.1.{p}", "head.fc.{p}"),
        ),
        (
            ("conv_stem.{p}", "backbone.stem.conv.{p}"),
            ("bn1.{p}", "backbone.stem.norm.{p}"),
            *timm,
            ("conv_head.{p}", "head.conv.conv.{p}"),
            ("bn2.{p}", "head.conv.norm.{p}"),
            ("classifier.{p}", "head.fc.{p}"),
        ),
    )


def origins(variant: str) -> Mapping[str, Origin]:
    """The other libraries that have a network of `VARIANTS`, by name."""
    torchvision, timm = _rows(VARIANTS[variant])
    return {
        "torchvision": Origin(model="mobilenet_v2", names=torchvision),
        "timm": Origin(model="mobilenetv2_100", names=timm),
    }
