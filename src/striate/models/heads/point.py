"""One quantity for every cell of a map: the head of CornerNet and CenterNet.

Law, Deng: "CornerNet", ECCV 2018, arXiv 1808.01244, section 3.5. Zhou, Wang, Kraehenbuehl: "Objects as Points", 2019,
arXiv 1904.07850, section 4.
"""

from torch import nn

FIRST_BIAS = -2.19  # of heat: a probability of 0.1, in both authors' code


class PointHead(nn.Sequential):
    """A 3x3 convolution as wide as its input, ReLU, and a 1x1 convolution.

    Args:
        in_channels: of the map.
        channels: of the quantity.
        heat: it is the logit of something rare, and starts at a probability of 0.1.
    """

    def __init__(self, in_channels: int, channels: int, *, heat: bool = False):
        super().__init__()
        last = nn.Conv2d(in_channels, channels, 1)
        self.add_module("conv", nn.Conv2d(in_channels, in_channels, 3, padding=1))
        self.add_module("act", nn.ReLU(inplace=True))
        self.add_module("last", last)
        if last.weight.is_meta:
            return
        nn.init.constant_(last.bias, FIRST_BIAS if heat else 0.0)  # pyright: ignore[reportArgumentType]
        if not heat:
            nn.init.normal_(last.weight, std=0.001)  # CenterNet's code
