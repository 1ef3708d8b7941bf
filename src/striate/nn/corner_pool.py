"""Corner pooling: the largest value on the way to one border of the map.

Law, Deng: "CornerNet: Detecting Objects as Paired Keypoints", ECCV 2018, arXiv 1808.01244, section 3.4.
"""

from typing import Literal

import torch
from torch import Tensor, nn

Direction = Literal["top", "left", "bottom", "right"]


class CornerPool(nn.Module):
    """Every place gets the maximum of itself and all that lies on one side of it.

    ``top`` is where objects' upper edges show: the maximum of what lies below. ``left``: of what lies to
    the right. ``bottom`` and ``right`` the other way round.

    Args:
        direction: one of the four.
    """

    def __init__(self, direction: Direction):
        super().__init__()
        self.direction = direction
        self.dim = 2 if direction in ("top", "bottom") else 3

    def forward(self, x: Tensor) -> Tensor:
        """From (B, C, H, W) to the same."""
        # By steps that double, not by cummax: a few maxima of whole maps, which every format of exports has.
        side, step = x.shape[self.dim], 1
        while step < side:
            before, after = x.narrow(self.dim, 0, side - step), x.narrow(self.dim, step, side - step)
            both = torch.maximum(before, after)
            if self.direction in ("top", "left"):
                x = torch.cat((both, x.narrow(self.dim, side - step, step)), dim=self.dim)
            else:
                x = torch.cat((x.narrow(self.dim, 0, step), both), dim=self.dim)
            step *= 2
        return x
