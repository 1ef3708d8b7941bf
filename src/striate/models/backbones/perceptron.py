"""Fully connected networks: the rows of LeCun's table without convolution.

LeCun, Bottou, Bengio, Haffner: "Gradient-Based Learning Applied to Document Recognition", Proceedings of the IEEE
86(11), 1998, sections III-C.1 (linear), III-C.5 (one hidden layer) and III-C.6 (two hidden layers); test errors on
MNIST from figure 9.

    name           layers            parameters    test error
    linear         784-10                 7,850    12.0%
    lenet300       784-300-10           238,510     4.7%, 3.6% with distorted training images
    lenet300-100   784-300-100-10       266,610     3.05%, 2.45% with distorted training images

Every pixel is connected to every unit of the first layer, so a network is bound to the size it was built for.
Hidden units squash with 1.7159 tanh(2x/3); weights start uniform in +-2.4 / fan-in (appendix A).

Differences from the paper: the outputs are linear, class scores for a softmax; the paper gives neither the hidden units
nor the loss of these rows, so they have those of its convolutional networks and the engine's. Any number of channels
and classes and any size.

Letters: B images, C channels, H height, W width, K classes.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from striate.models.contract import Backbone, Classifier, Stage
from striate.nn import lecun
from striate.nn.activations import ScaledTanh


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One row of the table."""

    hidden: tuple[int, ...]  # units of each hidden layer


VARIANTS: dict[str, Spec] = {
    "linear": Spec(hidden=()),
    "lenet300": Spec(hidden=(300,)),
    "lenet300-100": Spec(hidden=(300, 100)),
}


class Perceptron(Backbone):
    """The hidden layers; without any, the pixels in a row."""

    def __init__(self, spec: Spec, *, channels: int, size: tuple[int, int]):
        super().__init__()
        widths = (channels * math.prod(size), *spec.hidden)
        self.hidden = nn.ModuleList(
            nn.Sequential(nn.Linear(wide, narrow), ScaledTanh()) for wide, narrow in pairwise(widths)
        )
        names = [f"hidden{number}" for number in range(1, len(widths))] or ["pixels"]
        units = spec.hidden or widths
        self.stages = tuple(Stage(name=name, channels=n, stride=0) for name, n in zip(names, units, strict=True))

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) images to one (B, units) tensor per hidden layer."""
        x = images.flatten(1)
        if not len(self.hidden):
            return [x]
        outputs: list[Tensor] = []
        for layer in self.hidden:
            x = layer(x)
            outputs.append(x)
        return outputs


def build(variant: str, *, classes: int, channels: int, size: tuple[int, int]) -> Classifier:
    """A network of `VARIANTS` for (B, channels, *size) images, initialised as the paper says."""
    backbone = Perceptron(VARIANTS[variant], channels=channels, size=size)
    head = nn.Linear(backbone.stages[-1].channels, classes)
    model = Classifier(backbone, head, classes=classes, channels=channels, size=size)
    lecun.initialise(model)
    return model
