"""Maps of stride 4 for detectors that look for points: an hourglass's own, or up-convolutions behind any backbone.

Zhou, Wang, Kraehenbuehl: "Objects as Points", 2019, arXiv 1904.07850, section 5, on ResNets (after Xiao, Wu, Wei:
"Simple Baselines for Human Pose Estimation and Tracking", ECCV 2018, arXiv 1804.06208):

    map of stride 32
    3x3, 256; up-convolution 4x4, 256      stride 16
    3x3, 128; up-convolution 4x4, 128      stride 8
    3x3,  64; up-convolution 4x4,  64      stride 4

Batch normalisation and ReLU follow every convolution. Up-convolutions start as bilinear interpolation.

Differences from the paper: its 3x3 convolutions are deformable, these are ordinary ones.

Letters: B images, C channels, H height, W width.
"""

import torch
from torch import Tensor, nn

from striate.models.contract import Backbone, pyramid_stages
from striate.nn.conv import ConvNormAct

WIDTHS = (256, 128, 64)  # section 5
STRIDE = 4


class UpConvolution(nn.Module):
    """A 3x3 convolution and one that doubles the map."""

    def __init__(self, in_channels: int, channels: int):
        super().__init__()
        self.conv = ConvNormAct(in_channels, channels, 3)
        self.up = nn.ConvTranspose2d(channels, channels, 4, 2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.act = nn.ReLU(inplace=True)
        if not self.up.weight.is_meta:
            nn.init.kaiming_normal_(self.conv.conv.weight, mode="fan_out", nonlinearity="relu")
            line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4  # how far each of four pixels is from two between them
            with torch.no_grad():
                self.up.weight.zero_()
                self.up.weight[range(channels), range(channels)] = line[:, None] * line

    def forward(self, x: Tensor) -> Tensor:
        """From (B, in_channels, H, W) to (B, channels, 2 H, 2 W)."""
        return self.act(self.norm(self.up(self.conv(x))))


class StrideFour(nn.Module):
    """The maps of stride 4 that heads read.

    Of a backbone that ends at stride 4 these are its last maps: an hourglass has one for each of its stacks, and
    training hears them all. For any other backbone it is one, which up-convolutions make of the map of stride 32.

    Attributes:
        channels: of each map.
        count: of maps.

    Args:
        backbone: whose maps `forward` gets.
        who: the detector, for messages.

    Raises:
        UsageError: the backbone has no map of stride 32 and does not end at stride 4.
    """

    def __init__(self, backbone: Backbone, who: str):
        super().__init__()
        last = backbone.stages[-1]
        if last.stride == STRIDE:
            shallower = (n for n, stage in enumerate(reversed(backbone.stages)) if stage.stride != STRIDE)
            self.count, self.channels, self.reads = next(shallower, len(backbone.stages)), last.channels, -1
            self.up = None
        else:
            (self.reads,) = pyramid_stages(backbone, (32,), who)
            self.count, self.channels = 1, WIDTHS[-1]
            widths = (backbone.stages[self.reads].channels, *WIDTHS)
            self.up = nn.Sequential(*(UpConvolution(*pair) for pair in zip(widths, WIDTHS, strict=False)))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """(B, channels, ~H / 4, ~W / 4) each, from all maps of the backbone."""
        return maps[-self.count :] if self.up is None else [self.up(maps[self.reads])]
