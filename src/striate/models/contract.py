"""What every network of the catalogs promises.

Letters: B images, C channels, H height, W width, K classes. Sizes are always height before width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from striate.core.batch import Batch
from striate.core.instances import Assigned, Instances
from striate.errors import UsageError
from striate.models.weights import ClassRows
from striate.ops.suppression import Suppression


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


class Detector(nn.Module):
    """A network that finds any number of objects.

    Attributes:
        backbone: gives the maps.
        classes: K, without background.
        channels: of the images.
        size: height, width of the images that the network was built for.
        suppression: how `detect` chooses; the paper's numbers unless something else was asked for.
    """

    backbone: Backbone
    classes: int
    channels: int
    size: tuple[int, int]
    suppression: Suppression

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of what `forward` takes: those of the images, but for a detector that reads crops."""
        return self.size

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """The raw outputs, which are what is exported.

        Args:
            images: (B, channels, H, W) float32, normalised.

        Returns:
            Tensors whose first dimension is B, in the detector's own terms: logits, deltas, ...
        """
        raise NotImplementedError

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The training losses by the paper's names, each a scalar; their sum is what is minimised.

        Args:
            batch: with `Batch.instances` in the coordinates of its images. What is marked as crowd or ignored teaches
                nothing; images without objects are background.
        """
        raise NotImplementedError

    def detect(self, images: Tensor, sizes: Tensor) -> list[Instances]:
        """The objects of each image, most confident first.

        Args:
            images: (B, channels, H, W) float32, normalised.
            sizes: (B, 2) int64, height and width of what is image; what lies right of it and below is padding.

        Returns:
            B instances with scores, boxes in pixels of ``images`` and within ``sizes``.
        """
        raise NotImplementedError

    def assigned(self, batch: Batch) -> list[Assigned]:
        """What is responsible for which object when this batch is learnt from; B of them."""
        raise NotImplementedError

    def first_loss(self) -> float:
        """The total loss expected of the untrained network, roughly; far from it, something is wrong."""
        raise NotImplementedError

    def class_layers(self) -> dict[str, ClassRows]:
        """The layers, by their names, whose outputs are of classes: those that another number of classes changes."""
        raise NotImplementedError


def pyramid_stages(backbone: Backbone, strides: Sequence[int], who: str) -> list[int]:
    """The places of a backbone's stages that have these strides, the deepest of each.

    Args:
        backbone: any.
        strides: fine to coarse.
        who: the detector, for the message.

    Raises:
        UsageError: a stride that the backbone does not have.
    """
    there = {stage.stride: place for place, stage in enumerate(backbone.stages)}
    missing = [stride for stride in strides if stride not in there]
    if missing:
        raise UsageError(
            f"{who} reads maps of the strides {', '.join(map(str, strides))}, and this backbone has "
            f"{', '.join(map(str, sorted(there)))}: take one with {', '.join(map(str, missing))} too, such as resnet18 "
            "or mobilenet_v2."
        )
    return [there[stride] for stride in strides]
