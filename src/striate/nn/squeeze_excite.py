"""Squeeze and excitation: a network's own weight for every channel of a map.

Hu, Shen, Sun: "Squeeze-and-Excitation Networks", CVPR 2018, arXiv 1709.01507, section 3 and figure 2.
"""

from collections.abc import Callable

from torch import Tensor, nn


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate computed from the means of all channels (section 3, equations 2 to 4).

    Args:
        channels: of the map, in and out.
        squeezed: channels between the two full layers, which are 1x1 convolutions with bias here.
        activation: makes the layer between them.
        gate: makes the layer after them, with values from 0 to 1.
    """

    def __init__(
        self,
        channels: int,
        squeezed: int,
        *,
        activation: Callable[[], nn.Module] = nn.ReLU,
        gate: Callable[[], nn.Module] = nn.Sigmoid,
    ):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.act = activation()
        self.expand = nn.Conv2d(squeezed, channels, 1)
        self.gate = gate()

    def forward(self, x: Tensor) -> Tensor:
        """From (B, channels, H, W) to the same."""
        return x * self.gate(self.expand(self.act(self.reduce(self.pool(x)))))
