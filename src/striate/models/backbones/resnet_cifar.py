"""Residual networks for 32x32 images, and their plain twins.

He, Zhang, Ren, Sun: "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv 1512.03385, section 4.2.
The paper's table, with n blocks of two layers per stage, 6n + 2 layers in all:

    output map size   32 x 32   16 x 16   8 x 8
    layers             1 + 2n        2n      2n
    filters                16        32      64

then global average pooling, a full layer and softmax. The published results on CIFAR-10 (table 6):

    name        n   layers   parameters   ours        test error
    resnet20    3       20        0.27M     269,722   8.75%
    resnet32    5       32        0.46M     464,154   7.51%
    resnet44    7       44        0.66M     658,586   7.17%
    resnet56    9       56        0.85M     853,018   6.97%
    resnet110  18      110         1.7M   1,727,962   6.43% (best of 5; 6.61 +- 0.16)

The `plain` twins have the same layers without shortcuts, and so the same parameters. All shortcuts are of option A:
identity, and where the map halves every second pixel with zero channels added, so that they have no parameters.

What the paper leaves open is done as in the authors' framework of the time (Torch7) and its published code: the zero
channels come after the others; weights are normal with variance 2 / (k^2 x output channels) (He et al. 2015, "Delving
Deep into Rectifiers", the backward form, equation 14), those of the last layer small (`nn/initialise.py`);
convolutions before a normalisation have no bias.

Differences from the paper: any number of channels and classes, and any size from 5x5 (so that the last map is more
than one pixel, of which batch normalisation could not take a variance in a batch of one).

Letters: B images, C channels, H height, W width, K classes, n blocks per stage.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from striate.models.contract import Backbone, Classifier, Stage
from striate.nn.initialise import initialise
from striate.nn.pooled_head import PooledHead

SMALLEST = (5, 5)  # the last map has a quarter of the height and width, rounded up


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One row of table 6."""

    n: int  # blocks per stage
    shortcut: bool  # False: a plain network


VARIANTS: dict[str, Spec] = {
    "resnet20": Spec(n=3, shortcut=True),
    "resnet32": Spec(n=5, shortcut=True),
    "resnet44": Spec(n=7, shortcut=True),
    "resnet56": Spec(n=9, shortcut=True),
    "resnet110": Spec(n=18, shortcut=True),
    "plain20": Spec(n=3, shortcut=False),
    "plain32": Spec(n=5, shortcut=False),
    "plain44": Spec(n=7, shortcut=False),
    "plain56": Spec(n=9, shortcut=False),
    "plain110": Spec(n=18, shortcut=False),
}


class Block(nn.Module):
    """Two 3x3 convolutions and the shortcut around them (figure 2, and section 3.3 for option A)."""

    def __init__(self, in_channels: int, channels: int, *, stride: int, shortcut: bool):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = shortcut
        self.stride = stride
        self.added = channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        """From (B, in_channels, H, W) to (B, channels, H / stride, W / stride), rounded up."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        if self.shortcut:
            if self.stride != 1 or self.added:
                x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.added))
            y += x
        return F.relu(y, inplace=True)


class ResNetCifar(Backbone):
    """The three stages of section 4.2."""

    def __init__(self, spec: Spec, *, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)

        def stage(in_channels: int, filters: int, stride: int) -> nn.Sequential:
            first = Block(in_channels, filters, stride=stride, shortcut=spec.shortcut)
            rest = [Block(filters, filters, stride=1, shortcut=spec.shortcut) for _ in range(spec.n - 1)]
            return nn.Sequential(first, *rest)

        self.stage1 = stage(16, 16, 1)
        self.stage2 = stage(16, 32, 2)
        self.stage3 = stage(32, 64, 2)
        self.stages = (
            Stage(name="stage1", channels=16, stride=1),
            Stage(name="stage2", channels=32, stride=2),
            Stage(name="stage3", channels=64, stride=4),
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) images to the last map of each stage."""
        stem = F.relu(self.bn1(self.conv1(images)), inplace=True)
        first = self.stage1(stem)
        second = self.stage2(first)
        return [first, second, self.stage3(second)]


def build(variant: str, *, classes: int, channels: int, size: tuple[int, int]) -> Classifier:
    """A network of `VARIANTS`; ``size`` is only noted, any size from `SMALLEST` can be given to it."""
    backbone = ResNetCifar(VARIANTS[variant], channels=channels)
    head = PooledHead(backbone.stages[-1].channels, classes)
    model = Classifier(backbone, head, classes=classes, channels=channels, size=size)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    initialise(head.fc, "softmax")
    return model
