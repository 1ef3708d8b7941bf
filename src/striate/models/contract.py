"""What every network of the catalog promises.

Letters: B images, C channels, H height, W width, K classes. Sizes are always height before width.
"""

from collections.abc import Mapping, Sequence
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

    def adapt(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights of the same network built for images of another size, made to fit this one.

        Args:
            tensors: by their names in this module.

        Returns:
            The same names. Most networks have no weights that depend on the size, and change nothing.
        """
        return dict(tensors)


class Classifier(nn.Module):
    """A backbone and a head that turns one of its feature maps, the deepest, into class scores.

    Attributes:
        reads: the place of the map that the head reads among the backbone's stages; -1, the deepest, unless another
            head was given (`striate.models.heads`).

    Args:
        backbone: gives the maps.
        head: from the deepest map to (B, K) logits.
        classes: K.
        channels: of the images.
        size: height, width of the images that the network was built for.
        auxiliary: heads on earlier stages, by the name of the stage, which only training hears.
        auxiliary_weight: of each auxiliary loss in the total.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: nn.Module,
        *,
        classes: int,
        channels: int,
        size: tuple[int, int],
        auxiliary: Mapping[str, nn.Module] | None = None,
        auxiliary_weight: float = 0.0,
    ):
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.reads = -1
        self.auxiliary = nn.ModuleDict(auxiliary)
        self.auxiliary_weight = auxiliary_weight
        self.classes = classes
        self.channels = channels
        self.size = size

    def forward(self, images: Tensor) -> Tensor:
        """Class scores before the softmax.

        Args:
            images: (B, channels, H, W) float32, normalised.

        Returns:
            (B, K) float32 logits.
        """
        features: Sequence[Tensor] = self.backbone(images)
        return self.head(features[self.reads])

    def training_logits(self, images: Tensor) -> dict[str, Tensor]:
        """What training learns from.

        Args:
            images: as for `forward`.

        Returns:
            (B, K) logits: those of `forward` under "", those of each auxiliary head under its stage's name.
        """
        features: Sequence[Tensor] = self.backbone(images)
        maps = {stage.name: x for stage, x in zip(self.backbone.stages, features, strict=True)}
        return {"": self.head(features[self.reads])} | {name: head(maps[name]) for name, head in self.auxiliary.items()}
