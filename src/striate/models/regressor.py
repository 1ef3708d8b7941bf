"""A backbone with heads that say something of the whole image in numbers: a class, a box, points.

The heads are convolutions as large as the deepest map. On an image of the size that the network was built for they give
one answer; on a larger one they slide, and give one for every window, for the price of one pass (Sermanet et al. 2014,
"OverFeat", section 3.5: the fully connected layers of localization read as convolutions).

Letters: B images, C channels, h, w answers down and across: 1, 1 for images of the network's own size.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.errors import UsageError
from striate.models.contract import Backbone, Stage

HIDDEN = 256  # channels between the two layers of a head


class RegressionHead(nn.Module):
    """A convolution over the whole map, ReLU, and one number per output and window."""

    def __init__(self, channels: int, kernel: tuple[int, int], outputs: int):
        super().__init__()
        self.reduce = nn.Conv2d(channels, HIDDEN, kernel)
        self.out = nn.Conv2d(HIDDEN, outputs, 1)
        nn.init.normal_(self.out.weight, std=0.01)
        nn.init.zeros_(self.out.bias)  # pyright: ignore[reportArgumentType]  # there is one

    def forward(self, features: Tensor) -> Tensor:
        """From (B, C, H, W) to (B, outputs, h, w)."""
        return self.out(F.relu(self.reduce(features)))


class Regressor(nn.Module):
    """A backbone and heads by name.

    Attributes:
        window: height, width of the images that the heads answer for.
        stride: pixels between the windows of two neighbouring answers.

    Args:
        backbone: gives the maps; its deepest with a place is read.
        heads: outputs of each head.
        channels: of the images.
        size: height, width of the images that the network is for.

    Raises:
        UsageError: the backbone gives no map with a place at this size.
    """

    def __init__(self, backbone: Backbone, heads: Mapping[str, int], *, channels: int, size: tuple[int, int]):
        super().__init__()
        self.backbone = backbone
        self.channels = channels
        self.size = self.window = size
        self.reads, stage = deepest_place(backbone)
        self.stride = stage.stride
        kernel = _map_size(backbone, self.reads, channels, size)
        self.heads = nn.ModuleDict(
            {name: RegressionHead(stage.channels, kernel, outputs) for name, outputs in heads.items()}
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """What each head says.

        Args:
            images: (B, channels, H, W) float32, normalised, `size` or larger.

        Returns:
            By the head's name (B, outputs, h, w).
        """
        features = self.backbone(images)[self.reads]
        return {name: head(features) for name, head in self.heads.items()}


def deepest_place(backbone: Backbone) -> tuple[int, Stage]:
    """The last stage that still is a map, with its place among the stages; raises `UsageError`.

    Where several have the largest stride it is the last of them: a stage that nothing reads would learn nothing.
    """
    maps = [(place, stage) for place, stage in enumerate(backbone.stages) if stage.stride]
    if not maps:
        raise UsageError("this network gives no feature maps, so that nothing in it knows where something is.")
    return maps[-1]


def _map_size(backbone: Backbone, place: int, channels: int, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of a stage's map for images of ``size``."""
    training = backbone.training
    device = next(backbone.parameters()).device
    with torch.no_grad():
        features = backbone.eval()(torch.zeros(1, channels, *size, device=device))[place]
    backbone.train(training)
    return features.shape[2], features.shape[3]
