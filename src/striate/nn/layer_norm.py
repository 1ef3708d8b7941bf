"""Layer normalisation of maps.

Ba, Kiros, Hinton: "Layer Normalization", 2016, arXiv 1607.06450.
"""

import torch.nn.functional as F
from torch import Tensor, nn


class LayerNorm2d(nn.LayerNorm):
    """Normalises the channels at every place of a map, each place for itself.

    Args:
        channels: of the map.
        eps: added to the variance.
    """

    def __init__(self, channels: int, *, eps: float = 1e-6):
        super().__init__(channels, eps=eps)

    def forward(self, input: Tensor) -> Tensor:
        """From (B, channels, H, W) to the same."""
        x = input.permute(0, 2, 3, 1)
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps).permute(0, 3, 1, 2)
