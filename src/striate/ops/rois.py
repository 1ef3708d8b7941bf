"""Features of regions: a part of a map of any size, as a grid of a fixed one. On torchvision's operators.

The regions of a batch go together: boxes of each image in, one row per box out, image after image. Maps are read as
float32 whatever the precision around, since a box is cut more finely than a half-precision number can say.

Letters: B images, R regions of all images, C channels, h, w bins of a grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from striate.ops.boxes import area

CANONICAL_SIZE, CANONICAL_LEVEL = 224, 4  # Lin et al. 2017, section 4.2: ImageNet's size, and k0, a map of stride 16


def levels_of(boxes: Tensor, *, finest: int, coarsest: int) -> Tensor:
    """The level of a pyramid that each box is read from (Lin et al. 2017, "Feature Pyramid Networks", equation 1).

    k = floor(k0 + log2(sqrt(w h) / 224)), k0 = 4; a millionth is added before rounding down, as in torchvision.

    Args:
        boxes: (R, 4).
        finest: the level of the finest map, 2 for stride 4.
        coarsest: of the coarsest.

    Returns:
        (R,) int64, 0 for the finest level.
    """
    exact = CANONICAL_LEVEL + torch.log2(area(boxes).sqrt() / CANONICAL_SIZE) + 1e-6
    return exact.floor().clamp(finest, coarsest).long() - finest


def with_images(boxes: Sequence[Tensor]) -> Tensor:
    """(R, 5) float32 regions, the number of the image before its box, of B times (N, 4) boxes."""
    counts = torch.tensor([len(part) for part in boxes])
    joined = torch.cat(list(boxes)).float()
    numbers = torch.arange(len(boxes)).repeat_interleave(counts).to(joined)
    return torch.cat((numbers[:, None], joined), dim=1)


@dataclass(frozen=True, kw_only=True)
class RoIPool:
    """The largest value in each bin (Girshick 2015, section 2.1); borders are rounded to whole pixels of the map."""

    size: tuple[int, int]  # h, w
    stride: int  # of the map

    def __call__(self, maps: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """(R, C, h, w) of one (B, C, H, W) map and B times (N, 4) boxes in pixels of the images."""
        from torchvision.ops import roi_pool  # takes seconds to import

        (one,) = maps
        return roi_pool(one.float(), with_images(boxes), self.size, 1 / self.stride)


@dataclass(frozen=True, kw_only=True)
class RoIAlign:
    """The average of points in each bin, read between the pixels (He et al. 2017, "Mask R-CNN", section 3).

    With several maps each region is read from one of them, by its size: `levels_of`.

    Pixel centres lie at whole coordinates of the map, as in torchvision's detectors (``aligned=False``) and the
    authors' first code, half a pixel off those of the rest of this package.
    """

    size: tuple[int, int]  # h, w
    strides: tuple[int, ...]  # of the maps, powers of two, fine to coarse
    points: int  # per bin and direction

    def __call__(self, maps: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """(R, C, h, w) of (B, C, ~H / stride, ~W / stride) maps, the first of a pyramid, and B times (N, 4) boxes."""
        from torchvision.ops import roi_align  # takes seconds to import

        regions = with_images(boxes)
        if len(self.strides) == 1:
            return roi_align(maps[0].float(), regions, self.size, 1 / self.strides[0], self.points)
        finest, coarsest = (self.strides[place].bit_length() - 1 for place in (0, -1))
        levels = levels_of(regions[:, 1:], finest=finest, coarsest=coarsest)
        order = levels.argsort(stable=True)
        counts: list[int] = (
            [len(regions)] + [0] * (len(self.strides) - 1)  # which one makes no difference to a shape
            if levels.is_meta
            else levels.bincount(minlength=len(self.strides)).tolist()
        )
        parts = [
            roi_align(one.float(), part, self.size, 1 / stride, self.points)
            for one, part, stride in zip(maps, regions[order].split(counts), self.strides, strict=False)
        ]
        return torch.cat(parts)[order.argsort()]


@dataclass(frozen=True, kw_only=True)
class PositionSensitivePool:
    """The average over each bin, of a group of channels that is the bin's own (Dai et al. 2016, "R-FCN", equation 1).

    The C h w channels of the map are read as C groups of h w: bin (i, j) of output channel c has c h w + i w + j.
    Borders are rounded to whole pixels; torchvision's operator never reads the last row and column of a map.
    """

    bins: int  # h and w: k
    stride: int  # of the map

    def __call__(self, maps: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """(R, C, h, w) of one (B, C h w, H, W) map and B times (N, 4) boxes in pixels of the images."""
        from torchvision.ops import ps_roi_pool  # takes seconds to import

        (one,) = maps
        return ps_roi_pool(one.float(), with_images(boxes), self.bins, 1 / self.stride)


@dataclass(frozen=True, kw_only=True)
class PositionSensitiveAlign:
    """As `PositionSensitivePool`, read between the pixels (Li et al. 2017, "Light-Head R-CNN", section 4.1)."""

    bins: int  # h and w
    stride: int  # of the map
    points: int  # per bin and direction

    def __call__(self, maps: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """(R, C, h, w) of one (B, C h w, H, W) map and B times (N, 4) boxes in pixels of the images."""
        from torchvision.ops import ps_roi_align  # takes seconds to import

        (one,) = maps
        return ps_roi_align(one.float(), with_images(boxes), self.bins, 1 / self.stride, self.points)
