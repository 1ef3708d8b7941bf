"""Deformable convolution: every tap of the kernel moves to where the map tells it.

Dai, Qi, Xiong, Li, Zhang, Hu, Wei: "Deformable Convolutional Networks", ICCV 2017, arXiv 1703.06211, section 2.1: a
convolution of its own gives two offsets for each of the k^2 taps at each place, and the taps are read between the
pixels (equations 2 to 4). Zhu, Hu, Lin, Dai: "Deformable ConvNets v2", CVPR 2019, arXiv 1811.11168, section 3.2: and a
weight from 0 to 1 for each tap (equation 1).

Both start as the plain convolution: offsets 0, and of version 2 weights of a half, which the next normalisation takes
out (section 3.2 of the second paper).
"""

from torch import Tensor, nn


class DeformableConv2d(nn.Conv2d):
    """A convolution with moving taps, in the place of a plain one; float32 inside, whatever the precision around.

    Args:
        plain: the convolution that it replaces, whose weights it takes over; its padding is a number of pixels.
        modulated: version 2.
    """

    def __init__(self, plain: nn.Conv2d, *, modulated: bool):
        height, width = plain.kernel_size
        assert not isinstance(plain.padding, str)
        super().__init__(
            plain.in_channels,
            plain.out_channels,
            (height, width),
            (plain.stride[0], plain.stride[1]),
            (plain.padding[0], plain.padding[1]),
            (plain.dilation[0], plain.dilation[1]),
            plain.groups,
            plain.bias is not None,
            device="meta",  # drawn already
        )
        self.weight, self.bias = plain.weight, plain.bias
        self.modulated = modulated
        self.taps = height * width
        self.offset = nn.Conv2d(
            plain.in_channels,
            (3 if modulated else 2) * self.taps,
            (height, width),
            (plain.stride[0], plain.stride[1]),
            (plain.padding[0], plain.padding[1]),
            (plain.dilation[0], plain.dilation[1]),
            device=plain.weight.device,
        )
        nn.init.zeros_(self.offset.weight)
        nn.init.constant_(self.offset.bias, 0.0)  # pyright: ignore[reportArgumentType]

    def forward(self, input: Tensor) -> Tensor:
        """From (B, in_channels, H, W) to (B, out_channels, H', W'), as the plain convolution."""
        from torchvision.ops import deform_conv2d  # takes seconds to import

        moves = self.offset(input).float()
        return deform_conv2d(
            input.float(),
            moves[:, : 2 * self.taps],
            self.weight.float(),
            None if self.bias is None else self.bias.float(),
            (self.stride[0], self.stride[1]),
            (int(self.padding[0]), int(self.padding[1])),
            (self.dilation[0], self.dilation[1]),
            moves[:, 2 * self.taps :].sigmoid() if self.modulated else None,
        ).to(input.dtype)


def deform(blocks: nn.Module, *, modulated: bool) -> int:
    """Make the 3x3 convolutions called ``conv2`` of residual blocks deformable, in place; gives how many.

    Args:
        blocks: a stage of a residual network.
        modulated: version 2.
    """
    found = [name for name, layer in blocks.named_modules() if name.endswith("conv2") and isinstance(layer, nn.Conv2d)]
    for name in found:
        plain = blocks.get_submodule(name)
        assert isinstance(plain, nn.Conv2d)
        blocks.set_submodule(name, DeformableConv2d(plain, modulated=modulated))
    return len(found)
