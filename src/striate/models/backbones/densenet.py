"""DenseNet: every layer reads all layers before it.

Huang, Liu, van der Maaten, Weinberger: "Densely Connected Convolutional Networks", CVPR 2017, arXiv 1608.06993, table 1
(DenseNet-BC for ImageNet). "conv" is normalisation, ReLU, convolution; a pair "1x1, 3x3" is one layer with 4k and k
filters.

    layers            output    densenet121    densenet169    densenet201    densenet264
    convolution       112x112   7x7 conv, stride 2
    pooling           56x56     3x3 max-pooling, stride 2
    dense block 1     56x56     1x1, 3x3 x 6   1x1, 3x3 x 6   1x1, 3x3 x 6   1x1, 3x3 x 6
    transition 1      28x28     1x1 conv, 2x2 average pooling, stride 2
    dense block 2     28x28     1x1, 3x3 x 12  1x1, 3x3 x 12  1x1, 3x3 x 12  1x1, 3x3 x 12
    transition 2      14x14     1x1 conv, 2x2 average pooling, stride 2
    dense block 3     14x14     1x1, 3x3 x 24  1x1, 3x3 x 32  1x1, 3x3 x 48  1x1, 3x3 x 64
    transition 3      7x7       1x1 conv, 2x2 average pooling, stride 2
    dense block 4     7x7       1x1, 3x3 x 16  1x1, 3x3 x 32  1x1, 3x3 x 32  1x1, 3x3 x 48
    classification    1x1       7x7 global average pooling, 1000 full, softmax

    k                           32             32             32             32
    top-1 error (1 crop)        25.02%         23.80%         22.58%         22.15%
    parameters, ours            7,978,856      14,149,480     20,013,928     33,337,704
    MACs, ours                  2,834,161,664  3,359,843,328  4,291,365,888  5,751,653,376

Table 3 gives the errors. `densenet161` is the authors' network with k = 48 and blocks of 6, 12, 36 and 24 layers, 22.2%
top-1 error by the notes of their code: 28,681,000 parameters, 7,727,907,072 multiply-accumulates. The first convolution
has 2k filters and transitions halve the channels (section 3). Weights start normal with variance 2 / fan-in after He et
al. 2015 (section 4.2), those of the last layer small (`nn/initialise.py`). No dropout: the paper uses it only on small
data without augmentation. The names count the layers of weights, but for `densenet264`: the blocks of its column make
265 (1 + 2 x (6 + 12 + 64 + 48) + 3 + 1).

The map of a dense block is its input and all its layers' outputs, before the normalisation that follows; that of the
last one is given after normalisation and ReLU.

timm's `densenet264d` is another network (k = 48, three convolutions first).

Differences from the paper: any number of channels and classes.

Letters: B images, C channels, H height, W width, K classes, k growth rate.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from striate.models.contract import Backbone, Classifier, Stage
from striate.models.weights import Names, Origin
from striate.nn.initialise import initialise
from striate.nn.pooled_head import PooledHead

BOTTLENECK = 4  # filters of a 1x1 convolution over k (section 3)
COMPRESSION = 2  # channels before a transition over those after it (section 3, 1 / theta)
SMALLEST = (61, 61)  # the last map is then more than one pixel, as batch normalisation needs in a batch of one


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One column of table 1."""

    layers: tuple[int, int, int, int]  # of each dense block
    growth: int  # k


VARIANTS: dict[str, Spec] = {
    "densenet121": Spec(layers=(6, 12, 24, 16), growth=32),
    "densenet161": Spec(layers=(6, 12, 36, 24), growth=48),
    "densenet169": Spec(layers=(6, 12, 32, 32), growth=32),
    "densenet201": Spec(layers=(6, 12, 48, 32), growth=32),
    "densenet264": Spec(layers=(6, 12, 64, 48), growth=32),
}


class DenseLayer(nn.Module):
    """Normalisation, ReLU, 1x1 convolution, normalisation, ReLU, 3x3 convolution (section 3, DenseNet-B)."""

    def __init__(self, in_channels: int, growth: int):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.act1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(in_channels, BOTTLENECK * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(BOTTLENECK * growth)
        self.act2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(BOTTLENECK * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """From (B, in_channels, H, W) to (B, growth, H, W)."""
        x = self.conv1(self.act1(self.norm1(x)))
        return self.conv2(self.act2(self.norm2(x)))


class DenseBlock(nn.Module):
    """Layers of which each reads the input and the outputs of all before it, concatenated (equation 2)."""

    def __init__(self, in_channels: int, layers: int, growth: int):
        super().__init__()
        for place in range(layers):
            self.add_module(f"layer{place + 1}", DenseLayer(in_channels + place * growth, growth))
        self.channels = in_channels + layers * growth

    def forward(self, x: Tensor) -> Tensor:
        """From (B, in_channels, H, W) to (B, channels, H, W)."""
        for layer in self.children():
            x = torch.cat([x, layer(x)], 1)
        return x


class Transition(nn.Module):
    """Normalisation, ReLU, 1x1 convolution, average pooling (section 3, pooling layers)."""

    def __init__(self, in_channels: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels)
        self.act = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(in_channels, in_channels // COMPRESSION, 1, bias=False)
        self.pool = nn.AvgPool2d(2)
        self.channels = in_channels // COMPRESSION

    def forward(self, x: Tensor) -> Tensor:
        """From (B, in_channels, H, W) to (B, channels, H / 2, W / 2), rounded down."""
        return self.pool(self.conv(self.act(self.norm(x))))


class DenseNet(Backbone):
    """Table 1 up to the global average pooling."""

    def __init__(self, spec: Spec, *, channels: int):
        super().__init__()
        one, two, three, four = spec.layers
        self.conv = nn.Conv2d(channels, 2 * spec.growth, 7, 2, padding=3, bias=False)
        self.norm = nn.BatchNorm2d(2 * spec.growth)
        self.act = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.block1 = DenseBlock(2 * spec.growth, one, spec.growth)
        self.transition1 = Transition(self.block1.channels)
        self.block2 = DenseBlock(self.transition1.channels, two, spec.growth)
        self.transition2 = Transition(self.block2.channels)
        self.block3 = DenseBlock(self.transition2.channels, three, spec.growth)
        self.transition3 = Transition(self.block3.channels)
        self.block4 = DenseBlock(self.transition3.channels, four, spec.growth)
        self.last_norm = nn.BatchNorm2d(self.block4.channels)
        self.last_act = nn.ReLU(inplace=True)
        self.stages = (
            Stage(name="conv", channels=2 * spec.growth, stride=2),
            Stage(name="block1", channels=self.block1.channels, stride=4),
            Stage(name="block2", channels=self.block2.channels, stride=8),
            Stage(name="block3", channels=self.block3.channels, stride=16),
            Stage(name="block4", channels=self.block4.channels, stride=32),
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) images to the map of the first convolution and those of the dense blocks."""
        stem = self.act(self.norm(self.conv(images)))
        first = self.block1(self.pool(stem))
        second = self.block2(self.transition1(first))
        third = self.block3(self.transition2(second))
        fourth = self.block4(self.transition3(third))
        return [stem, first, second, third, self.last_act(self.last_norm(fourth))]


def build(variant: str, *, classes: int, channels: int, size: tuple[int, int]) -> Classifier:
    """A network of `VARIANTS`, initialised as the module's first lines say; ``size`` is only noted."""
    backbone = DenseNet(VARIANTS[variant], channels=channels)
    head = PooledHead(backbone.stages[-1].channels, classes)
    model = Classifier(backbone, head, classes=classes, channels=channels, size=size)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            initialise(layer, "rectifier")
    initialise(head.fc, "softmax")
    return model


# torchvision's names, which are timm's too. Its own files have dots inside the names of the layers' parts.
TORCHVISION: Names = (
    ("features.conv0.weight", "backbone.conv.weight"),
    ("features.norm0.{p}", "backbone.norm.{p}"),
    ("features.denseblock{b}.denselayer{n}.{part}.{p}", "backbone.block{b}.layer{n}.{part}.{p}"),
    ("features.denseblock{b}.denselayer{n}.{part}.1.{p}", "backbone.block{b}.layer{n}.{part}1.{p}"),
    ("features.denseblock{b}.denselayer{n}.{part}.2.{p}", "backbone.block{b}.layer{n}.{part}2.{p}"),
    ("features.transition{t}.{part}.{p}", "backbone.transition{t}.{part}.{p}"),
    ("features.norm5.{p}", "backbone.last_norm.{p}"),
    ("classifier.{p}", "head.fc.{p}"),
)


def origins(variant: str) -> Mapping[str, Origin]:
    """Who else has this network, by which names."""
    if variant == "densenet264":
        return {}
    origin = Origin(model=variant, names=TORCHVISION)
    return {"torchvision": origin, "timm": origin}
