"""Stacked hourglasses, as CornerNet modified them.

Newell, Yang, Deng: "Stacked Hourglass Networks for Human Pose Estimation", ECCV 2016, arXiv 1603.06937, go down to a
few pixels and up again, with a shortcut at every resolution, several times over. Law, Deng: "CornerNet: Detecting
Objects as Paired Keypoints", ECCV 2018, arXiv 1808.01244, section 3.5 and its published code, change them for objects:

    part              what                                                          output, of 511 x 511
    stem              7x7, 128, stride 2; residual block, 256, stride 2             256 x 128 x 128
    hourglass         at each of six resolutions blocks of (256, 256, 384, 384, 384, 512) channels:
      down            5 x [residual block of stride 2, residual block]              512 x 4 x 4
      middle          4 residual blocks of 512
      up              5 x [2 residual blocks, nearest neighbour 2x, + shortcut]     256 x 128 x 128
      shortcut        2 residual blocks at each resolution but the last
    head              3x3, 256: the stack's map                                     256 x 128 x 128
    link              of the stack's input and of its map 1x1 each; sum, ReLU, residual block
    hourglass, head   again

A residual block is two 3x3 convolutions with a shortcut; strides take the place of Newell's max-pooling. Batch
normalisation and ReLU follow every convolution. The longest way has 104 layers, hence the name. Weights start as torch
starts them (section 4.1).

The backbone gives the map of each stack, both of stride 4. It has no published classifier and is no network of the
catalog of classifiers; detectors take it by its name.

Differences from the code: maps are enlarged to the size of the shortcut, not just doubled, so every size fits.

Letters: B images, C channels, H height, W width.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from striate.models.contract import Backbone, Stage
from striate.nn.conv import ConvNormAct


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One stacked hourglass."""

    stacks: int = 2
    stem: int = 128  # channels of the first convolution
    widths: tuple[int, ...] = (256, 256, 384, 384, 384, 512)  # of the resolutions, fine to coarse
    blocks: tuple[int, ...] = (2, 2, 2, 2, 2, 4)  # at each resolution, each way; the last: in the middle


VARIANTS: dict[str, Spec] = {"hourglass104": Spec()}


class Residual(nn.Module):
    """Two 3x3 convolutions and the shortcut around them."""

    def __init__(self, in_channels: int, channels: int, stride: int = 1):
        super().__init__()
        self.conv1 = ConvNormAct(in_channels, channels, 3, stride)
        self.conv2 = ConvNormAct(channels, channels, 3, activation=None)
        same = stride == 1 and in_channels == channels
        self.shortcut = nn.Identity() if same else ConvNormAct(in_channels, channels, 1, stride, activation=None)

    def forward(self, x: Tensor) -> Tensor:
        """From (B, in_channels, H, W) to (B, channels, H / stride, W / stride), rounded up."""
        return F.relu(self.conv2(self.conv1(x)) + self.shortcut(x), inplace=True)


class HourglassModule(nn.Module):
    """One resolution, and all that are coarser within it (Newell et al., figure 3)."""

    def __init__(self, widths: tuple[int, ...], blocks: tuple[int, ...]):
        super().__init__()
        (fine, coarse), count = widths[:2], blocks[0]
        self.shortcut = nn.Sequential(*(Residual(fine, fine) for _ in range(count)))
        self.down = nn.Sequential(
            Residual(fine, coarse, stride=2), *(Residual(coarse, coarse) for _ in range(count - 1))
        )
        self.inner: nn.Module = (
            HourglassModule(widths[1:], blocks[1:])
            if len(widths) > 2
            else nn.Sequential(*(Residual(coarse, coarse) for _ in range(blocks[1])))
        )
        self.up = nn.Sequential(*(Residual(coarse, coarse) for _ in range(count - 1)), Residual(coarse, fine))

    def forward(self, x: Tensor) -> Tensor:
        """From (B, widths[0], H, W) to the same."""
        kept = self.shortcut(x)
        risen = self.up(self.inner(self.down(x)))
        return kept + F.interpolate(risen, size=kept.shape[2:], mode="nearest")


class Link(nn.Module):
    """From one stack's input and map to the next one's input."""

    def __init__(self, channels: int):
        super().__init__()
        self.of_input = ConvNormAct(channels, channels, 1, activation=None)
        self.of_map = ConvNormAct(channels, channels, 1, activation=None)
        self.block = Residual(channels, channels)

    def forward(self, x: Tensor, found: Tensor) -> Tensor:
        """From two (B, C, H, W) to one."""
        return self.block(F.relu(self.of_input(x) + self.of_map(found)))


class Hourglass(Backbone):
    """A stem and hourglasses in a row."""

    def __init__(self, spec: Spec, *, channels: int):
        super().__init__()
        width = spec.widths[0]
        self.stem = nn.Sequential(ConvNormAct(channels, spec.stem, 7, 2), Residual(spec.stem, width, stride=2))
        self.hourglasses = nn.ModuleList(HourglassModule(spec.widths, spec.blocks) for _ in range(spec.stacks))
        self.heads = nn.ModuleList(ConvNormAct(width, width, 3) for _ in range(spec.stacks))
        self.links = nn.ModuleList(Link(width) for _ in range(spec.stacks - 1))
        self.stages = tuple(
            Stage(name=f"stack{number}", channels=width, stride=4) for number in range(1, spec.stacks + 1)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) images to the map of each stack, (B, 256, H / 4, W / 4), rounded up."""
        x = self.stem(images)
        maps = [self.heads[0](self.hourglasses[0](x))]
        for link, hourglass, head in zip(self.links, self.hourglasses[1:], self.heads[1:], strict=True):
            x = link(x, maps[-1])
            maps.append(head(hourglass(x)))
        return maps


def build(variant: str, *, channels: int) -> Hourglass:
    """A network of `VARIANTS`."""
    return Hourglass(VARIANTS[variant], channels=channels)
