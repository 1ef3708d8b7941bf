"""The inverted residual block of the mobile networks, also called MBConv.

Sandler, Howard, Zhu, Zhmoginov, Chen: "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018,
arXiv 1801.04381, section 3.3 and table 1; with squeeze and excitation inside it since MnasNet (Tan et al. 2019) and
MobileNetV3 (Howard et al. 2019, figure 4).
"""

from collections.abc import Callable

from torch import Tensor, nn

from striate.nn.conv import ConvNormAct, Padding
from striate.nn.drop_path import DropPath
from striate.nn.squeeze_excite import SqueezeExcite


def make_divisible(channels: float, divisor: int = 8) -> int:
    """The multiple of ``divisor`` nearest to a scaled number of channels, but never less than 90% of it.

    The rule of the authors' published code since MobileNetV2; the papers do not state it.
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * channels else rounded + divisor


class InvertedResidual(nn.Module):
    """A 1x1 convolution to more channels, a depthwise convolution, and a linear 1x1 convolution to few channels.

    The shortcut joins the narrow ends, where stride and channels allow it.

    Args:
        in_channels: of the input.
        channels: of the output.
        expanded: channels of the depthwise convolution; as many as ``in_channels`` leave the first convolution out.
        kernel_size: of the depthwise convolution.
        stride: of the depthwise convolution.
        activation: makes the layer after each of the first two convolutions.
        squeeze_excite: makes the layer before the last convolution, given its channels; None for none.
        padding: of the depthwise convolution.
        eps: of the normalisations.
        momentum: of the normalisations.
        drop_path: probability of leaving the block out while training.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        expanded: int,
        kernel_size: int,
        stride: int,
        activation: Callable[[], nn.Module],
        squeeze_excite: Callable[[int], SqueezeExcite] | None = None,
        padding: Padding = None,
        eps: float = 1e-5,
        momentum: float = 0.1,
        drop_path: float = 0.0,
    ):
        super().__init__()
        self.expand = (
            ConvNormAct(in_channels, expanded, 1, activation=activation, eps=eps, momentum=momentum)
            if expanded != in_channels
            else None
        )
        self.depthwise = ConvNormAct(
            expanded,
            expanded,
            kernel_size,
            stride,
            padding=padding,
            groups=expanded,
            activation=activation,
            eps=eps,
            momentum=momentum,
        )
        self.squeeze_excite = squeeze_excite(expanded) if squeeze_excite else None
        self.project = ConvNormAct(expanded, channels, 1, activation=None, eps=eps, momentum=momentum)
        self.shortcut = stride == 1 and in_channels == channels
        self.drop_path = DropPath(drop_path) if self.shortcut and drop_path else None

    def forward(self, x: Tensor) -> Tensor:
        """From (B, in_channels, H, W) to (B, channels, H / stride, W / stride), rounded up."""
        y = self.depthwise(x if self.expand is None else self.expand(x))
        if self.squeeze_excite is not None:
            y = self.squeeze_excite(y)
        y = self.project(y)
        if self.drop_path is not None:
            y = self.drop_path(y)
        if self.shortcut:
            y += x
        return y
