"""A convolution, batch normalisation and an activation: the unit of most networks since 2015."""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

RELU = partial(nn.ReLU, inplace=True)


class ConvNormAct(nn.Module):
    """Convolution without bias, batch normalisation (Ioffe and Szegedy 2015), activation.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        kernel_size: height and width of the kernel.
        stride: of the convolution.
        padding: height, width or one for both; half the (dilated) kernel when left out, which keeps the size at
            stride 1.
        dilation: of the convolution.
        groups: of the convolution; as many as channels for a depthwise one.
        activation: makes the layer after the normalisation; None for a linear output.
        eps: of the normalisation.
        momentum: of the normalisation's running statistics: the share of the new batch.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int = 1,
        *,
        padding: int | tuple[int, int] | None = None,
        dilation: int = 1,
        groups: int = 1,
        activation: Callable[[], nn.Module] | None = RELU,
        eps: float = 1e-5,
        momentum: float = 0.1,
    ):
        super().__init__()
        height, width = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
        if padding is None:
            padding = (dilation * (height - 1) // 2, dilation * (width - 1) // 2)
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            (height, width),
            stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            bias=False,
        )
        self.norm = nn.BatchNorm2d(out_channels, eps=eps, momentum=momentum)
        self.act = activation() if activation else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """From (B, in_channels, H, W) to (B, out_channels, ~H / stride, ~W / stride)."""
        return self.act(self.norm(self.conv(x)))
