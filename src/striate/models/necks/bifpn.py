"""BiFPN: a pyramid whose levels are mixed downwards and upwards, again and again, with learnt weights.

Tan, Pang, Le: "EfficientDet: Scalable and Efficient Object Detection", CVPR 2020, arXiv 1911.09070, section 3 and
figure 2(d). One layer, coarse to fine and back; each new map is a `Fusion` of those named:

    P6 mid = P6 in, P7 in           P4 out = P4 in, P4 mid, P3 out
    P5 mid = P5 in, P6 mid          P5 out = P5 in, P5 mid, P4 out
    P4 mid = P4 in, P5 mid          P6 out = P6 in, P6 mid, P5 out
    P3 out = P3 in, P4 mid          P7 out = P7 in, P6 out

Coarser maps come down by nearest neighbours, finer ones go up by max-pooling (3x3, stride 2). P6 is a 1x1 convolution
of C5, pooled; P7 is P6, pooled. In the first layer each map of the backbone is brought to the pyramid's width by a 1x1
convolution and batch normalisation of its own wherever it is read, as in the authors' code.

Fast normalised fusion (section 3.3): O = sum_i w_i I_i / (e + sum_j w_j), w = ReLU(v), e = 0.0001; then swish, a
depthwise separable 3x3 convolution and batch normalisation.

Difference: pooling is padded by a pixel all around, where the authors' code pads as TensorFlow does.

Letters: B images, C channels, H height, W width.
"""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.nn.conv import ConvNormAct
from striate.nn.initialise import initialise

EPSILON = 1e-4  # e, section 3.3
NORM_EPSILON, MOMENTUM = 1e-3, 0.01  # of batch normalisation: decay 0.99, section 5.1; epsilon of the authors' code
LEVELS = 5  # P3 to P7, section 3.2

normalisation = partial(nn.BatchNorm2d, eps=NORM_EPSILON, momentum=MOMENTUM)


def separable(channels: int, out_channels: int, *, bias: bool = False) -> nn.Sequential:
    """A depthwise 3x3 convolution and a 1x1 convolution, which alone may have biases."""
    depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
    pointwise = nn.Conv2d(channels, out_channels, 1, bias=bias)
    for layer in (depthwise, pointwise):
        initialise(layer, "nothing")
    return nn.Sequential(depthwise, pointwise)


def _fit(channels: int, width: int) -> nn.Module:
    """From a backbone's map to the pyramid's width."""
    if channels == width:
        return nn.Identity()
    layer = ConvNormAct(channels, width, 1, activation=None, eps=NORM_EPSILON, momentum=MOMENTUM)
    initialise(layer.conv, "nothing")
    return layer


class Fusion(nn.Module):
    """Fast normalised fusion of maps of one size, and what follows it (section 3.3).

    Args:
        channels: C of each map.
        count: how many maps.
    """

    def __init__(self, channels: int, count: int):
        super().__init__()
        self.weights = nn.Parameter(torch.ones(count))
        self.conv = separable(channels, channels)
        self.norm = normalisation(channels)

    def forward(self, *maps: Tensor) -> Tensor:
        """Maps (B, C, H, W) to one."""
        weights = F.relu(self.weights)
        shares = (weights / (weights.sum() + EPSILON)).unbind()
        x = maps[0] * shares[0]
        for share, other in zip(shares[1:], maps[1:], strict=True):
            x = x + other * share
        return self.norm(self.conv(F.silu(x)))


class Layer(nn.Module):
    """One pass down and up.

    Args:
        in_channels: of each level's input, fine to coarse.
        channels: of each output.
    """

    def __init__(self, in_channels: Sequence[int], channels: int):
        super().__init__()
        self.down_inputs = nn.ModuleList(_fit(given, channels) for given in in_channels[:-1])
        self.up_inputs = nn.ModuleList(_fit(given, channels) for given in in_channels[1:])
        self.down = nn.ModuleList(Fusion(channels, 2) for _ in in_channels[:-1])
        self.up = nn.ModuleList(Fusion(channels, 3) for _ in in_channels[1:-1])
        self.up.append(Fusion(channels, 2))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """One map per level, fine to coarse, to as many of ``channels``."""
        middle = [maps[-1]]
        for level in range(len(maps) - 2, -1, -1):
            given = self.down_inputs[level](maps[level])
            enlarged = F.interpolate(middle[0], size=given.shape[2:], mode="nearest")
            middle.insert(0, self.down[level](given, enlarged))
        outputs = [middle[0]]
        for level in range(1, len(maps)):
            given = [self.up_inputs[level - 1](maps[level])]
            if level < len(maps) - 1:  # the coarsest level has no middle
                given.append(middle[level])
            outputs.append(self.up[level - 1](*given, F.max_pool2d(outputs[-1], 3, 2, padding=1)))
        return outputs


class BiFPN(nn.Module):
    """Layers of BiFPN over the three deep maps of a backbone and two coarser ones.

    Args:
        in_channels: of the maps given, fine to coarse.
        channels: W_bifpn of equation 1.
        depth: D_bifpn of equation 1, how many layers.
    """

    def __init__(self, in_channels: Sequence[int], channels: int, *, depth: int):
        super().__init__()
        self.p6 = _fit(in_channels[-1], channels)
        first = [*in_channels, *[channels] * (LEVELS - len(in_channels))]
        self.layers = nn.ModuleList(Layer(given, channels) for given in [first, *[[channels] * LEVELS] * (depth - 1)])

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The pyramid of a backbone's maps.

        Args:
            maps: C3, C4, C5: (B, C_i, H_i, W_i).

        Returns:
            P3 to P7: (B, channels, H_i, W_i), each level half the size of the one before, rounded up.
        """
        sixth = F.max_pool2d(self.p6(maps[-1]), 3, 2, padding=1)
        pyramid = [*maps, sixth, F.max_pool2d(sixth, 3, 2, padding=1)]
        for layer in self.layers:
            pyramid = layer(pyramid)
        return pyramid
