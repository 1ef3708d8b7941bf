"""A convolution, batch normalisation and an activation: the unit of most networks since 2015."""

from collections.abc import Callable
from functools import partial
from typing import Literal, TypeAlias

import torch.nn.functional as F
from torch import Tensor, nn

Padding: TypeAlias = int | tuple[int, int] | Literal["same"] | None
RELU = partial(nn.ReLU, inplace=True)


class PadSame(nn.Module):
    """TensorFlow's "same" padding: as little as makes the output ceil(size / stride), the odd pixel last.

    At stride 2 and even sizes it pads the right and bottom only, so it differs from padding by half the kernel.

    Args:
        kernel_size: height and width of the convolution's kernel.
        stride: of the convolution.
    """

    def __init__(self, kernel_size: tuple[int, int], stride: int):
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """From (B, C, H, W) to the padded (B, C, H', W')."""
        height, width = (
            max((-(-side // self.stride) - 1) * self.stride + kernel - side, 0)
            for side, kernel in zip(x.shape[2:], self.kernel_size, strict=True)
        )
        return F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))


class ConvNormAct(nn.Module):
    """Convolution without bias, batch normalisation (Ioffe and Szegedy 2015), activation.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        kernel_size: height and width of the kernel.
        stride: of the convolution.
        padding: height, width or one for both; half the (dilated) kernel when left out, which keeps the size at
            stride 1; "same" for TensorFlow's.
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
        padding: Padding = None,
        dilation: int = 1,
        groups: int = 1,
        activation: Callable[[], nn.Module] | None = RELU,
        eps: float = 1e-5,
        momentum: float = 0.1,
    ):
        super().__init__()
        height, width = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
        self.pad = PadSame((height, width), stride) if padding == "same" and stride > 1 else None
        if self.pad is not None:
            padding = 0
        elif padding is None or padding == "same":  # which are one at stride 1
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
        self.act = activation() if activation else None

    def forward(self, x: Tensor) -> Tensor:
        """From (B, in_channels, H, W) to (B, out_channels, ~H / stride, ~W / stride)."""
        if self.pad is not None:
            x = self.pad(x)
        x = self.norm(self.conv(x))
        return x if self.act is None else self.act(x)
