"""The feature pyramid network: the deep maps' meaning at the shallow maps' resolution.

Lin, Dollar, Girshick, He, Hariharan, Belongie: "Feature Pyramid Networks for Object Detection", CVPR 2017, arXiv
1612.03144, section 3 and figure 3:

    C5 --1x1--> M5 ---------------3x3--> P5
                 | nearest, 2x
    C4 --1x1--> (+) M4 -----------3x3--> P4
                 | nearest, 2x
    C3 --1x1--> (+) M3 -----------3x3--> P3      and so on down to the finest map given

All with 256 channels, with biases, without non-linearities (section 3). Coarser levels:

    pool        P6: every second pixel of P5 (section 4.1, footnote 2)
    convolve    P6: a 3x3 convolution of stride 2 on C5 or P5; P7: ReLU and another on P6 (Lin et al. 2017, "Focal Loss
                for Dense Object Detection", section 4, footnote 2, has it on C5; torchvision's networks mostly on P5)

Weights start as in torchvision: uniform with variance 1 / fan-in, biases 0. The maps are enlarged to the size of the
finer map, whatever it is, not just doubled, so odd sizes fit.

Letters: B images, C channels, H height, W width, L levels.
"""

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from striate.models.backbones.resnet import origins
from striate.models.weights import Names

CHANNELS = 256  # d of section 3

Coarser = Literal["none", "pool", "convolve C5", "convolve P5"]


class FPN(nn.Module):
    """A feature pyramid network.

    Args:
        in_channels: of each map given, fine to coarse.
        channels: of each map made.
        coarser: the levels after the coarsest map given: none, P6 by pooling, P6 and P7 by convolutions.
    """

    def __init__(self, in_channels: Sequence[int], channels: int = CHANNELS, *, coarser: Coarser = "none"):
        super().__init__()
        self.coarser = coarser
        self.laterals = nn.ModuleList(nn.Conv2d(given, channels, 1) for given in in_channels)
        self.outputs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in in_channels)
        if coarser.startswith("convolve"):
            source = in_channels[-1] if coarser == "convolve C5" else channels
            self.p6 = nn.Conv2d(source, channels, 3, 2, padding=1)
            self.p7 = nn.Conv2d(channels, channels, 3, 2, padding=1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d) and not layer.weight.is_meta:
                nn.init.kaiming_uniform_(layer.weight, a=1)
                nn.init.zeros_(layer.bias)  # pyright: ignore[reportArgumentType]

    @property
    def levels(self) -> int:
        """L, how many maps `forward` gives."""
        return len(self.laterals) + {"none": 0, "pool": 1}.get(self.coarser, 2)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The pyramid of a backbone's maps.

        Args:
            maps: (B, C_i, H_i, W_i), fine to coarse.

        Returns:
            L maps (B, channels, H_i, W_i), fine to coarse; each coarser level has half the size, rounded up.
        """
        merged = self.laterals[-1](maps[-1])
        pyramid = [self.outputs[-1](merged)]
        for level in range(len(maps) - 2, -1, -1):
            lateral = self.laterals[level](maps[level])
            merged = lateral + F.interpolate(merged, size=lateral.shape[2:], mode="nearest")
            pyramid.insert(0, self.outputs[level](merged))
        if self.coarser == "pool":
            pyramid.append(F.max_pool2d(pyramid[-1], 1, 2))
        elif self.coarser != "none":
            sixth = self.p6(maps[-1] if self.coarser == "convolve C5" else pyramid[-1])
            pyramid += [sixth, self.p7(F.relu(sixth))]
        return pyramid


def names_in_torchvision() -> Names:
    """How torchvision's detectors name a ResNet backbone (`backbone`) and its pyramid (`neck`).

    The released files of 2020 and before name the pyramid without the ``0`` in the middle; both are read.
    """
    residual = origins("resnet50")["torchvision"].names
    return (
        ("backbone.fpn.inner_blocks.{i}.0.{p}", "neck.laterals.{i}.{p}"),
        ("backbone.fpn.layer_blocks.{i}.0.{p}", "neck.outputs.{i}.{p}"),
        ("backbone.fpn.inner_blocks.{i}.{p}", "neck.laterals.{i}.{p}"),
        ("backbone.fpn.layer_blocks.{i}.{p}", "neck.outputs.{i}.{p}"),
        ("backbone.fpn.extra_blocks.{p6}.{p}", "neck.{p6}.{p}"),
        *((f"backbone.body.{row[0]}", row[1]) for row in residual if row[1].startswith("backbone.")),
    )
