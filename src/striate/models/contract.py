"""What every network of the catalog promises.

Letters: B images, C channels, H height, W width, K classes. Sizes are always height before width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One feature map that a backbone gives out."""

    name: str  # the paper's name for it, as in "S2" or "conv3_x"
    channels: int
    stride: int  # pixels of the input image per step on the map; 0 where position is lost: the "map" is (B, channels)


class Backbone(nn.Module):
    """A network that turns images into feature maps.

    Attributes:
        stages: what `forward` gives, in order, shallow to deep.
    """

    stages: tuple[Stage, ...]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Feature maps of ``images``.

        Args:
            images: (B, C, H, W) float32, normalised.

        Returns:
            One (B, stage.channels, ~H / stage.stride, ~W / stage.stride) tensor per entry of `stages`; without padding
            a convolution also takes its border. A stage of stride 0 gives (B, stage.channels).
        """
        raise NotImplementedError


class Classifier(nn.Module):
    """A backbone and a head that turns its deepest feature map into class scores."""

    def __init__(self, backbone: Backbone, head: nn.Module, *, classes: int, channels: int, size: tuple[int, int]):
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.classes = classes
        self.channels = channels
        self.size = size  # height, width of the images that the network was built for

    def forward(self, images: Tensor) -> Tensor:
        """Class scores before the softmax.

        Args:
            images: (B, channels, H, W) float32, normalised.

        Returns:
            (B, K) float32 logits.
        """
        features: Sequence[Tensor] = self.backbone(images)
        return self.head(features[-1])
