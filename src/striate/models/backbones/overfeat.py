"""OverFeat: one network, run over a whole image, that classifies, localizes and detects.

Sermanet, Eigen, Zhang, Mathieu, Fergus, LeCun: "OverFeat: Integrated Recognition, Localization and Detection using
Convolutional Networks", ICLR 2014, arXiv 1312.6229v4. ReLU follows every layer but the last; no normalisation; poolings
do not overlap (section 3.2).

`overfeat_fast`, table 1:

    layer     1         2         3         4          5          6        7        8
    what      conv max  conv max  conv      conv       conv max   full     full     full
    maps      96        256       512       1024       1024       3072     4096     1000
    kernel    11x11/4   5x5       3x3       3x3        3x3
    pooling   2x2/2     2x2/2                          2x2/2
    padding                       1         1          1
    input     231x231   28x28     12x12     12x12      12x12      6x6      1x1      1x1

`overfeat_accurate`, table 3:

    layer     1         2         3         4          5          6         7        8        9
    what      conv max  conv max  conv      conv       conv       conv max  full     full     full
    maps      96        256       512       512        1024       1024      4096     4096     1000
    kernel    7x7/2     7x7       3x3       3x3        3x3        3x3
    pooling   3x3/3     2x2/2                                     3x3/3
    padding                       1         1          1          1
    input     221x221   36x36     15x15     15x15      15x15      15x15     5x5      1x1      1x1

                           parameters               multiply-accumulates
                     paper         ours          paper         ours
    fast         145 million   145,920,872   2,810 million   2,801,403,904
    accurate     144 million   144,656,488   5,369 million   5,355,446,784

The paper cuts its parameters off after the millions. Its "connections" (table 4) come near our multiply-accumulates
but are not them, with the biases or without. Table 1 prints 24x24 as the input of layer 2: that is its map before
pooling.

The full layers are convolutions, so a larger image gives a map of scores (section 3.3): `dense` has them all, at the
stride of the map before the last pooling. `forward` takes the largest of each class over the plain windows, as the
paper does at each scale; at the published size there is one.

Weights start normal with standard deviation 0.01 (section 3.1), biases 0. Dropout of 0.5 follows the two hidden full
layers.

Differences: the paper pools the last map at every offset and interleaves what comes out; `dense` slides the pooling by
single steps and spreads the first full layer's kernel out as far, which gives the same numbers at once. Any number of
channels and classes, and any size from the published one.

Letters: B images, C channels, H height, W width, K classes.
"""

from collections import OrderedDict
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from striate.models.contract import Backbone, Classifier, Stage
from striate.models.weights import Origin


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One column of table 1 or 3."""

    maps: int
    kernel: int
    stride: int = 1
    padding: int = 0
    pool: int = 1  # side and stride of the max-pooling that follows; 1: none


@dataclass(frozen=True, kw_only=True)
class Spec:
    """Table 1 or 3."""

    size: tuple[int, int]  # of the images: gives one window
    layers: tuple[Layer, ...]  # the convolutions
    window: int  # side of the pooled map that the first full layer reads
    units: tuple[int, int]  # of the hidden full layers


VARIANTS: dict[str, Spec] = {
    "overfeat_fast": Spec(
        size=(231, 231),
        layers=(
            Layer(maps=96, kernel=11, stride=4, pool=2),
            Layer(maps=256, kernel=5, pool=2),
            Layer(maps=512, kernel=3, padding=1),
            Layer(maps=1024, kernel=3, padding=1),
            Layer(maps=1024, kernel=3, padding=1, pool=2),
        ),
        window=6,
        units=(3072, 4096),
    ),
    "overfeat_accurate": Spec(
        size=(221, 221),
        layers=(
            Layer(maps=96, kernel=7, stride=2, pool=3),
            Layer(maps=256, kernel=7, pool=2),
            Layer(maps=512, kernel=3, padding=1),
            Layer(maps=512, kernel=3, padding=1),
            Layer(maps=1024, kernel=3, padding=1),
            Layer(maps=1024, kernel=3, padding=1, pool=3),
        ),
        window=5,
        units=(4096, 4096),
    ),
}

SMALLEST = {name: spec.size for name, spec in VARIANTS.items()}


class OverFeat(Backbone):
    """The convolutions, up to the last pooling, which is the head's."""

    def __init__(self, spec: Spec, *, channels: int):
        super().__init__()
        stride = 1
        stages: list[Stage] = []
        for number, layer in enumerate(spec.layers, 1):
            block = OrderedDict[str, nn.Module](
                conv=nn.Conv2d(channels, layer.maps, layer.kernel, stride=layer.stride, padding=layer.padding),
                relu=nn.ReLU(inplace=True),
            )
            stride *= layer.stride
            if layer.pool > 1 and number < len(spec.layers):
                block["pool"] = nn.MaxPool2d(layer.pool)
                stride *= layer.pool
            self.add_module(f"layer{number}", nn.Sequential(block))
            stages.append(Stage(name=f"layer{number}", channels=layer.maps, stride=stride))
            channels = layer.maps
        self.stages = tuple(stages)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) images to the maps of every layer."""
        x = images
        outputs: list[Tensor] = []
        for layer in self.children():
            x = layer(x)
            outputs.append(x)
        return outputs


class Head(nn.Module):
    """The last pooling and the full layers, as convolutions."""

    def __init__(self, spec: Spec, *, classes: int):
        super().__init__()
        first, second = spec.units
        last = spec.layers[-1]
        self.pool = nn.MaxPool2d(last.pool)
        self.full1 = nn.Conv2d(last.maps, first, spec.window)
        self.rest = nn.Sequential(
            OrderedDict[str, nn.Module](
                relu1=nn.ReLU(inplace=True),
                drop1=nn.Dropout(0.5),
                full2=nn.Conv2d(first, second, 1),
                relu2=nn.ReLU(inplace=True),
                drop2=nn.Dropout(0.5),
                full3=nn.Conv2d(second, classes, 1),
            )
        )
        self.last_pool = last.pool

    def forward(self, maps: Tensor) -> Tensor:
        """(B, channels, H, W) maps before the last pooling to (B, K), the largest score of each class."""
        return self.rest(self.full1(self.pool(maps))).amax((2, 3))

    def dense(self, maps: Tensor) -> Tensor:
        """The scores of every window of the maps before the last pooling, one step apart.

        Args:
            maps: (B, channels, H, W).

        Returns:
            (B, K, H - pooling * window + 1, W - pooling * window + 1).
        """
        every = F.max_pool2d(maps, self.last_pool, stride=1)
        return self.rest(F.conv2d(every, self.full1.weight, self.full1.bias, dilation=self.last_pool))


def dense(network: Classifier, images: Tensor) -> Tensor:
    """The class scores at every place of larger images (section 3.3).

    Each is what the network says of the window of the published size there, but that a window cut out of the image
    would see zeros beyond its border, where layer 3 and those after it pad their maps, and here they see the image.

    Args:
        network: from `build`.
        images: (B, C, H, W) float32, normalised, at least of the published size.

    Returns:
        (B, K, h, w) logits. A step is 16 pixels of the image in `overfeat_fast` and 12 in `overfeat_accurate`; every
        second or third, of what a step of the last pooling skips, are those of the plain windows.
    """
    assert isinstance(network.head, Head)
    return network.head.dense(network.backbone(images)[-1])


def build(variant: str, *, classes: int, channels: int, size: tuple[int, int]) -> Classifier:
    """A network of `VARIANTS`; ``size`` is only noted, any size from the published one can be given to it."""
    spec = VARIANTS[variant]
    backbone, head = OverFeat(spec, channels=channels), Head(spec, classes=classes)
    model = Classifier(backbone, head, classes=classes, channels=channels, size=size)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.01)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
    return model


def origins(variant: str) -> dict[str, Origin]:
    """No other library has ``variant``."""
    return {}
