"""Path aggregation: a pyramid that goes down and up again, so that fine positions reach the coarse levels soon.

Liu, Qi, Qin, Shi, Jia: "Path Aggregation Network for Instance Segmentation", CVPR 2018, arXiv 1803.01534, section 3.1
and figure 1(a, b), in light form:

    down    M5 = 1x1 C5                       M_i = 3x3 (1x1 C_i + M_{i+1}, enlarged by nearest neighbours)
    up      N_finest = M_finest               N_i = 3x3 (M_i + 3x3, stride 2, of N_{i-1})

Differences from the paper: as few channels as asked for instead of 256, and batch normalisation with every
convolution's ReLU (the paper has ReLU alone on the way up, and nothing on the way down).

Letters: B images, C channels, H height, W width, L levels.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from striate.nn.conv import ConvNormAct
from striate.nn.initialise import initialise


class PAN(nn.Module):
    """A pyramid with a way down and a way up.

    Args:
        in_channels: of each of the L maps given, fine to coarse, each half as large as the one before.
        channels: C of each map made.
    """

    def __init__(self, in_channels: Sequence[int], channels: int):
        super().__init__()
        finer = range(len(in_channels) - 1)
        self.laterals = nn.ModuleList(ConvNormAct(given, channels, 1) for given in in_channels)
        self.down = nn.ModuleList(ConvNormAct(channels, channels, 3) for _ in finer)
        self.halve = nn.ModuleList(ConvNormAct(channels, channels, 3, 2) for _ in finer)
        self.up = nn.ModuleList(ConvNormAct(channels, channels, 3) for _ in finer)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                initialise(layer, "rectifier")

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The pyramid of a backbone's maps.

        Args:
            maps: L of (B, C_i, H_i, W_i), fine to coarse.

        Returns:
            L maps (B, channels, H_i, W_i), fine to coarse.
        """
        pyramid = [self.laterals[-1](maps[-1])]
        for level in range(len(maps) - 2, -1, -1):
            lateral = self.laterals[level](maps[level])
            enlarged = F.interpolate(pyramid[0], size=lateral.shape[2:], mode="nearest")
            pyramid.insert(0, self.down[level](lateral + enlarged))
        for level in range(1, len(maps)):
            pyramid[level] = self.up[level - 1](pyramid[level] + self.halve[level - 1](pyramid[level - 1]))
        return pyramid
