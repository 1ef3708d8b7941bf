"""Shortcuts around residual blocks that change shape.

He, Zhang, Ren, Sun: "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv 1512.03385, section 3.3.
"""

import torch.nn.functional as F
from torch import Tensor, nn


class ZeroPadding(nn.Module):
    """Option A: every ``stride``-th pixel, and channels of zeros after the others. No parameters.

    Args:
        added: number of new channels.
        stride: of the pixels that are kept.
    """

    def __init__(self, added: int, stride: int):
        super().__init__()
        self.added = added
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """From (B, C, H, W) to (B, C + added, H / stride, W / stride), rounded up."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.added))

    def extra_repr(self) -> str:
        """What `print` shows of it."""
        return f"added={self.added}, stride={self.stride}"
