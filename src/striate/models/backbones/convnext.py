"""ConvNeXt: a residual network with the choices of vision transformers.

Liu, Mao, Wu, Feichtenhofer, Darrell, Xie: "A ConvNet for the 2020s", CVPR 2022, arXiv 2201.03545. The first column of
table 9, and section 3.6 for the other sizes; d7x7 is depthwise, 4C the inverted bottleneck:

    module       output    ConvNeXt-T
    stem         56 x 56   4x4, 96, stride 4
    stage1       56 x 56   [d7x7,  96; 1x1,  384; 1x1,  96] x 3
    stage2       28 x 28   [d7x7, 192; 1x1,  768; 1x1, 192] x 3
    stage3       14 x 14   [d7x7, 384; 1x1, 1536; 1x1, 384] x 9
    stage4        7 x  7   [d7x7, 768; 1x1, 3072; 1x1, 768] x 3

Between stages layer normalisation and a 2x2 convolution of stride 2 (`downsample2` to `downsample4`). Published results
(table 1, ImageNet-1K at 224 x 224):

    name             C                       blocks       top-1   parameters   ours         FLOPs   ours (mult-adds)
    convnext_tiny     96, 192, 384,  768    3, 3,  9, 3   82.1%    29M          28,589,128   4.5G    4,455,531,264
    convnext_small    96, 192, 384,  768    3, 3, 27, 3   83.1%    50M          50,223,688   8.7G    8,683,712,256
    convnext_base    128, 256, 512, 1024    3, 3, 27, 3   83.8%    89M          88,591,464  15.4G   15,354,729,472
    convnext_large   192, 384, 768, 1536    3, 3, 27, 3   84.3%   198M         197,767,336  34.4G   34,361,433,600

Stochastic depth grows linearly from 0 to 0.1, 0.4, 0.5, 0.5 (table 5); layer scale starts at 1e-6 (table 5); all
weights start truncated normal with standard deviation 0.02 (table 5), biases at zero.

Differences from the paper: any number of channels and classes, and any size from 32x32; rows and columns that do not
fill a step of the stem or of a downsampling are not seen.

Letters: B images, C channels, H height, W width, K classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from striate.models.contract import Backbone, Classifier, Stage
from striate.models.weights import Names, Origin
from striate.nn.drop_path import DropPath
from striate.nn.layer_norm import LayerNorm2d

SMALLEST = (32, 32)
EPS = 1e-6  # of the authors' published code
LAYER_SCALE = 1e-6  # table 5


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One network of section 3.6."""

    channels: tuple[int, int, int, int]
    blocks: tuple[int, int, int, int]
    drop_path: float


VARIANTS: dict[str, Spec] = {
    "convnext_tiny": Spec(channels=(96, 192, 384, 768), blocks=(3, 3, 9, 3), drop_path=0.1),
    "convnext_small": Spec(channels=(96, 192, 384, 768), blocks=(3, 3, 27, 3), drop_path=0.4),
    "convnext_base": Spec(channels=(128, 256, 512, 1024), blocks=(3, 3, 27, 3), drop_path=0.5),
    "convnext_large": Spec(channels=(192, 384, 768, 1536), blocks=(3, 3, 27, 3), drop_path=0.5),
}


class Block(nn.Module):
    """A depthwise 7x7 convolution and an inverted bottleneck with one normalisation and one GELU (figure 4, right).

    The 1x1 convolutions are full layers over the channels, which come last for them.
    """

    def __init__(self, channels: int, drop_path: float):
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=EPS)
        self.expand = nn.Linear(channels, 4 * channels)
        self.act = nn.GELU()
        self.project = nn.Linear(4 * channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), LAYER_SCALE))
        self.drop_path = DropPath(drop_path) if drop_path else None

    def forward(self, x: Tensor) -> Tensor:
        """From (B, C, H, W) to the same."""
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = (self.scale * self.project(self.act(self.expand(y)))).permute(0, 3, 1, 2)
        return x + (y if self.drop_path is None else self.drop_path(y))


class ConvNeXt(Backbone):
    """The stem and the four stages."""

    def __init__(self, spec: Spec, *, channels: int):
        super().__init__()
        width = spec.channels[0]
        self.stem = nn.Sequential()
        self.stem.add_module("conv", nn.Conv2d(channels, width, 4, stride=4))
        self.stem.add_module("norm", LayerNorm2d(width, eps=EPS))
        total, before = sum(spec.blocks), 0
        stages: list[Stage] = []
        for index, (maps, blocks) in enumerate(zip(spec.channels, spec.blocks, strict=True)):
            if index:
                downsample = nn.Sequential()
                downsample.add_module("norm", LayerNorm2d(width, eps=EPS))
                downsample.add_module("conv", nn.Conv2d(width, maps, 2, stride=2))
                self.add_module(f"downsample{index + 1}", downsample)
            drops = [spec.drop_path * (before + block) / (total - 1) for block in range(blocks)]
            stages.append(Stage(name=f"stage{index + 1}", channels=maps, stride=4 * 2**index))
            self.add_module(stages[-1].name, nn.Sequential(*(Block(maps, drop) for drop in drops)))
            before += blocks
            width = maps
        self.stages = tuple(stages)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) images to the last map of each stage."""
        wanted = {stage.name for stage in self.stages}
        x = images
        maps: list[Tensor] = []
        for name, layer in self.named_children():
            x = layer(x)
            if name in wanted:
                maps.append(x)
        return maps


def build(variant: str, *, classes: int, channels: int, size: tuple[int, int]) -> Classifier:
    """A network of `VARIANTS`; ``size`` is only noted, any size from `SMALLEST` can be given to it."""
    spec = VARIANTS[variant]
    head = nn.Sequential()
    head.add_module("pool", nn.AdaptiveAvgPool2d(1))
    head.add_module("flatten", nn.Flatten())
    head.add_module("norm", nn.LayerNorm(spec.channels[-1], eps=EPS))
    head.add_module("fc", nn.Linear(spec.channels[-1], classes))
    model = Classifier(ConvNeXt(spec, channels=channels), head, classes=classes, channels=channels, size=size)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and not layer.weight.is_meta:
            nn.init.trunc_normal_(layer.weight, std=0.02)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
    return model


TORCHVISION: Names = (
    ("features.0.0.{p}", "backbone.stem.conv.{p}"),
    ("features.0.1.{p}", "backbone.stem.norm.{p}"),
    *(
        row
        for stage in range(1, 5)
        for row in (
            (f"features.{2 * stage - 1}.{{b}}.layer_scale", f"backbone.stage{stage}.{{b}}.scale", (0, 1, 1)),
            (f"features.{2 * stage - 1}.{{b}}.block.0.{{p}}", f"backbone.stage{stage}.{{b}}.depthwise.{{p}}"),
            (f"features.{2 * stage - 1}.{{b}}.block.2.{{p}}", f"backbone.stage{stage}.{{b}}.norm.{{p}}"),
            (f"features.{2 * stage - 1}.{{b}}.block.3.{{p}}", f"backbone.stage{stage}.{{b}}.expand.{{p}}"),
            (f"features.{2 * stage - 1}.{{b}}.block.5.{{p}}", f"backbone.stage{stage}.{{b}}.project.{{p}}"),
            (f"features.{2 * stage}.0.{{p}}", f"backbone.downsample{stage + 1}.norm.{{p}}"),
            (f"features.{2 * stage}.1.{{p}}", f"backbone.downsample{stage + 1}.conv.{{p}}"),
        )
    ),
    ("classifier.0.{p}", "head.norm.{p}"),
    ("classifier.2.{p}", "head.fc.{p}"),
)

TIMM: Names = (
    ("stem.0.{p}", "backbone.stem.conv.{p}"),
    ("stem.1.{p}", "backbone.stem.norm.{p}"),
    *(
        row
        for stage in range(1, 5)
        for row in (
            (f"stages.{stage - 1}.downsample.0.{{p}}", f"backbone.downsample{stage}.norm.{{p}}"),
            (f"stages.{stage - 1}.downsample.1.{{p}}", f"backbone.downsample{stage}.conv.{{p}}"),
            (f"stages.{stage - 1}.blocks.{{b}}.gamma", f"backbone.stage{stage}.{{b}}.scale"),
            (f"stages.{stage - 1}.blocks.{{b}}.conv_dw.{{p}}", f"backbone.stage{stage}.{{b}}.depthwise.{{p}}"),
            (f"stages.{stage - 1}.blocks.{{b}}.norm.{{p}}", f"backbone.stage{stage}.{{b}}.norm.{{p}}"),
            (f"stages.{stage - 1}.blocks.{{b}}.mlp.fc1.{{p}}", f"backbone.stage{stage}.{{b}}.expand.{{p}}"),
            (f"stages.{stage - 1}.blocks.{{b}}.mlp.fc2.{{p}}", f"backbone.stage{stage}.{{b}}.project.{{p}}"),
        )
    ),
    ("head.norm.{p}", "head.norm.{p}"),
    ("head.fc.{p}", "head.fc.{p}"),
)


def origins(variant: str) -> Mapping[str, Origin]:
    """The other libraries that have a network of `VARIANTS`, by name."""
    return {
        "torchvision": Origin(model=variant, names=TORCHVISION),
        "timm": Origin(model=variant, names=TIMM),
    }
