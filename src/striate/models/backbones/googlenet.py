"""GoogLeNet: the first network of Inception modules.

Szegedy, Liu, Jia, Sermanet, Reed, Anguelov, Erhan, Vanhoucke, Rabinovich: "Going Deeper with Convolutions", 2014,
arXiv 1409.4842 (CVPR 2015), table 1 and figures 2 and 3. Top-5 error on ImageNet 10.07% with one network and one crop
(table 3), 6.67% with seven networks and 144 crops each, which won ILSVRC 2014.

    type             patch,  output     1x1  3x3     3x3  5x5     5x5  pool  params  ops   ours: params        MACs
                     stride                  reduce       reduce       proj
    convolution      7x7/2   112x112x64                                       2.7K   34M          9,472  118,013,952
    max pool         3x3/2    56x56x64
    convolution      3x3/1    56x56x192      64      192                      112K  360M        114,944  359,661,568
    max pool         3x3/2    28x28x192
    inception (3a)            28x28x256  64  96      128  16      32   32     159K  128M        163,696  128,049,152
    inception (3b)            28x28x480 128  128     192  32      96   64     380K  304M        388,736  304,267,264
    max pool         3x3/2    14x14x480
    inception (4a)            14x14x512 192  96      208  16      48   64     364K   73M        376,176   73,608,192
    inception (4b)            14x14x512 160  112     224  24      64   64     437K   88M        449,160   87,908,352
    inception (4c)            14x14x512 128  128     256  24      64   64     463K  100M        510,104   99,850,240
    inception (4d)            14x14x528 112  144     288  32      64   64     580K  119M        605,376  118,515,712
    inception (4e)            14x14x832 256  160     320  32      128  128    840K  170M        868,352  169,996,288
    max pool         3x3/2     7x7x832
    inception (5a)             7x7x832  256  160     320  32      128  128   1072K   54M      1,043,456   51,079,168
    inception (5b)             7x7x1024 384  192     384  48      128  128   1388K   71M      1,444,080   70,697,984
    avg pool         7x7/1     1x1x1024
    dropout (40%)              1x1x1024
    linear                     1x1x1000                                      1000K    1M      1,025,000    1,024,000
    softmax                    1x1x1000
                                                                                              6,998,552  1,582,671,872

The table's K is 1,024: so the parameters of the second convolution, of (3a), (3b) and of the last layer come out to
within 1K. Those of (4a) to (5b) do not, and (4c), (4d), (4e) and (5b) contradict the operations beside them. The
operations are those of the network described, but for the first convolution, (4a) and (5a). The 2.7K and 34M of the
first convolution are those of a depthwise separable one (8 kernels of 7x7 per channel, then 1x1: 3 x 8 x 49 + 24 x 64 =
2,712), which by Chollet 2017 (section 2) was the first layer of Inception V1; table and figure describe a full one, and
so it is here. `models/published/googlenet.py` judges each figure.

The two auxiliary classifiers (section 5) read (4a) and (4d): average pooling 5x5/3, 1x1 convolution with 128 filters,
full layer of 1,024, dropout 70%, full layer. Their losses count 0.3 each, in training only. With them the network has
13,378,280 parameters.

`googlenet_bn` is torchvision's `googlenet`, so that its weights can be used: batch normalisation instead of biases and
of local response normalisation, and, differing from the paper, 3x3 kernels in the branch of the 5x5 ones (a known
mistake that its weights were trained with), dropout of 20%, a last max-pooling of 2x2, and auxiliary classifiers that
pool to 4x4 whatever comes. 6,624,904 parameters and 1.50 billion multiply-accumulates, 13,004,888 with the auxiliary
classifiers.

`NaiveInception` (figure 2a) is the module that the paper first considers and leaves, as its output can only grow; no
network here uses it.

What the paper leaves open:
- Sizes halve exactly, which takes pooling with rounding up ("ceil mode"), as in Caffe's and torchvision's GoogLeNet.
- The constants of local response normalisation, and its place: as in Caffe's GoogLeNet (`bvlc_googlenet`), over 5
  channels with alpha 1e-4, beta 0.75 and k 1, after the first pooling and before the second (figure 3).
- Weights start normal with variance 1 / fan-in and biases at 0.2, after Caffe's GoogLeNet ("xavier", there uniform):
  max-pooling and concatenation make up for what the rectifiers take. With variance 2 / fan-in the last maps would be
  ten times as large. Those of the last layers, and all with batch normalisation, start as in `nn/initialise.py`.

Differences from the paper: any number of channels and classes; larger and smaller images, since the last average
pooling takes the whole map, and that of the auxiliary classifiers of the paper's network is pooled further to 4x4.
Their 5x5 windows set its smallest image.

Letters: B images, C channels, H height, W width, K classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from striate.models.contract import Backbone, Classifier, Stage
from striate.models.weights import Names, Origin
from striate.nn.conv import ConvNormAct
from striate.nn.initialise import initialise
from striate.nn.pooled_head import PooledHead

AUXILIARY_WEIGHT = 0.3  # section 5
AUXILIARY_DROPOUT = 0.7  # section 5
FIRST_BIAS = 0.2  # of Caffe's GoogLeNet
NORM_EPS = 1e-3  # of torchvision's network

# Height and width from which (4a) fills the 5x5 window of the auxiliary classifiers; from which (5a) is more than one
# pixel, of which batch normalisation could not take a variance in a batch of one.
SMALLEST = {"googlenet": (79, 79), "googlenet_bn": (47, 47)}

# Table 1: filters 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool proj.
INCEPTION: dict[str, tuple[int, int, int, int, int, int]] = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


@dataclass(frozen=True, kw_only=True)
class Spec:
    """The paper's network, or torchvision's."""

    norm: Literal["local response", "batch"]
    large: int  # kernel of the "5x5" branch
    last_pool: int  # kernel of the last max-pooling
    dropout: float
    auxiliary_pool: Literal["5x5/3", "to 4x4"]


VARIANTS: dict[str, Spec] = {
    "googlenet": Spec(norm="local response", large=5, last_pool=3, dropout=0.4, auxiliary_pool="5x5/3"),
    "googlenet_bn": Spec(norm="batch", large=3, last_pool=2, dropout=0.2, auxiliary_pool="to 4x4"),
}


class ConvAct(nn.Module):
    """Convolution with bias and rectified linear unit; the size is kept at stride 1."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """From (B, in_channels, H, W) to (B, out_channels, H / stride, W / stride), rounded up."""
        return self.act(self.conv(x))


def _conv(spec: Spec, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> nn.Module:
    if spec.norm == "batch":
        return ConvNormAct(in_channels, out_channels, kernel_size, stride, eps=NORM_EPS)
    return ConvAct(in_channels, out_channels, kernel_size, stride)


class NaiveInception(nn.Module):
    """Inception module, naive version (figure 2a).

    The pooling hands on every channel that came in, so that each module gives more than it takes (section 4), and the
    5x5 convolution reads them all.
    """

    def __init__(self, in_channels: int, conv1x1: int, conv3x3: int, conv5x5: int):
        super().__init__()
        self.conv1x1 = ConvAct(in_channels, conv1x1, 1)
        self.conv3x3 = ConvAct(in_channels, conv3x3, 3)
        self.conv5x5 = ConvAct(in_channels, conv5x5, 5)
        self.pool = nn.MaxPool2d(3, stride=1, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """From (B, in_channels, H, W) to (B, conv1x1 + conv3x3 + conv5x5 + in_channels, H, W)."""
        return torch.cat([self.conv1x1(x), self.conv3x3(x), self.conv5x5(x), self.pool(x)], 1)


class Inception(nn.Module):
    """Inception module with dimension reductions (figure 2b), by the names of the columns of table 1."""

    def __init__(self, in_channels: int, filters: tuple[int, int, int, int, int, int], spec: Spec):
        super().__init__()
        conv1x1, reduce3x3, conv3x3, reduce5x5, conv5x5, pool_proj = filters
        self.conv1x1 = _conv(spec, in_channels, conv1x1, 1)
        self.reduce3x3 = _conv(spec, in_channels, reduce3x3, 1)
        self.conv3x3 = _conv(spec, reduce3x3, conv3x3, 3)
        self.reduce5x5 = _conv(spec, in_channels, reduce5x5, 1)
        self.conv5x5 = _conv(spec, reduce5x5, conv5x5, spec.large)
        self.pool = nn.MaxPool2d(3, stride=1, padding=1)
        self.pool_proj = _conv(spec, in_channels, pool_proj, 1)
        self.channels = conv1x1 + conv3x3 + conv5x5 + pool_proj

    def forward(self, x: Tensor) -> Tensor:
        """From (B, in_channels, H, W) to (B, channels, H, W)."""
        branches = [
            self.conv1x1(x),
            self.conv3x3(self.reduce3x3(x)),
            self.conv5x5(self.reduce5x5(x)),
            self.pool_proj(self.pool(x)),
        ]
        return torch.cat(branches, 1)


class GoogLeNet(Backbone):
    """Table 1 up to the last average pooling; the maps that the auxiliary classifiers read are stages too."""

    def __init__(self, spec: Spec, *, channels: int):
        super().__init__()

        def pool(kernel: int = 3) -> nn.Module:
            return nn.MaxPool2d(kernel, stride=2, ceil_mode=True)

        def norm() -> nn.Module:
            return nn.Identity() if spec.norm == "batch" else nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1)

        def inception(row: str, in_channels: int) -> Inception:
            return Inception(in_channels, INCEPTION[row], spec)

        self.conv1 = _conv(spec, channels, 64, 7, 2)
        self.pool1 = pool()
        self.norm1 = norm()
        self.conv2 = nn.Sequential()
        self.conv2.add_module("reduce3x3", _conv(spec, 64, 64, 1))
        self.conv2.add_module("conv3x3", _conv(spec, 64, 192, 3))
        self.norm2 = norm()
        self.pool2 = pool()
        self.inception3a = inception("3a", 192)
        self.inception3b = inception("3b", 256)
        self.pool3 = pool()
        self.inception4a = inception("4a", 480)
        self.inception4b = inception("4b", 512)
        self.inception4c = inception("4c", 512)
        self.inception4d = inception("4d", 512)
        self.inception4e = inception("4e", 528)
        self.pool4 = pool(spec.last_pool)
        self.inception5a = inception("5a", 832)
        self.inception5b = inception("5b", 832)
        self.stages = (
            Stage(name="conv1", channels=64, stride=2),
            Stage(name="conv2", channels=192, stride=4),
            Stage(name="inception3b", channels=480, stride=8),
            Stage(name="inception4a", channels=512, stride=16),
            Stage(name="inception4d", channels=528, stride=16),
            Stage(name="inception4e", channels=832, stride=16),
            Stage(name="inception5b", channels=1024, stride=32),
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) images to the maps of `stages`."""
        conv1 = self.conv1(images)
        conv2 = self.conv2(self.norm1(self.pool1(conv1)))
        three = self.inception3b(self.inception3a(self.pool2(self.norm2(conv2))))
        four_a = self.inception4a(self.pool3(three))
        four_d = self.inception4d(self.inception4c(self.inception4b(four_a)))
        four_e = self.inception4e(four_d)
        five = self.inception5b(self.inception5a(self.pool4(four_e)))
        return [conv1, conv2, three, four_a, four_d, four_e, five]


def _auxiliary(spec: Spec, in_channels: int, classes: int) -> nn.Sequential:
    """Auxiliary classifier (section 5), from (B, in_channels, H, W) to (B, K) logits."""
    head = nn.Sequential()
    if spec.auxiliary_pool == "5x5/3":
        head.add_module("pool", nn.AvgPool2d(5, stride=3))
    head.add_module("pool4x4", nn.AdaptiveAvgPool2d(4))
    head.add_module("conv", _conv(spec, in_channels, 128, 1))
    head.add_module("flatten", nn.Flatten())
    head.add_module("fc1", nn.Linear(128 * 4 * 4, 1024))
    head.add_module("act", nn.ReLU(inplace=True))
    head.add_module("dropout", nn.Dropout(AUXILIARY_DROPOUT))
    head.add_module("fc2", nn.Linear(1024, classes))
    return head


def build(variant: str, *, classes: int, channels: int, size: tuple[int, int]) -> Classifier:
    """A network of `VARIANTS`, initialised as the module's first lines say; ``size`` is only noted."""
    spec = VARIANTS[variant]
    backbone = GoogLeNet(spec, channels=channels)
    head = PooledHead(1024, classes, dropout=spec.dropout)
    auxiliary = {"inception4a": _auxiliary(spec, 512, classes), "inception4d": _auxiliary(spec, 528, classes)}
    model = Classifier(
        backbone,
        head,
        classes=classes,
        channels=channels,
        size=size,
        auxiliary=auxiliary,
        auxiliary_weight=AUXILIARY_WEIGHT,
    )
    last = {head.fc, *(classifier.get_submodule("fc2") for classifier in auxiliary.values())}
    for layer in model.modules():
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            continue
        if layer in last:
            initialise(layer, "softmax")
        elif spec.norm == "batch":
            initialise(layer, "rectifier")
        else:
            initialise(layer, "nothing")
            assert layer.bias is not None
            nn.init.constant_(layer.bias, FIRST_BIAS)
    return model


# torchvision's names of the layers of the parts, and ours.
_BRANCHES = (
    ("branch1", "conv1x1"),
    ("branch2.0", "reduce3x3"),
    ("branch2.1", "conv3x3"),
    ("branch3.0", "reduce5x5"),
    ("branch3.1", "conv5x5"),
    ("branch4.1", "pool_proj"),
)
_CONVOLUTIONS = (
    ("conv1", "backbone.conv1"),
    ("conv2", "backbone.conv2.reduce3x3"),
    ("conv3", "backbone.conv2.conv3x3"),
    *((f"inception{{row}}.{theirs}", f"backbone.inception{{row}}.{ours}") for theirs, ours in _BRANCHES),
    ("aux1.conv", "auxiliary.inception4a.conv"),
    ("aux2.conv", "auxiliary.inception4d.conv"),
)
TORCHVISION: Names = (
    *((f"{theirs}.conv.weight", f"{ours}.conv.weight") for theirs, ours in _CONVOLUTIONS),
    *((f"{theirs}.bn.{{p}}", f"{ours}.norm.{{p}}") for theirs, ours in _CONVOLUTIONS),
    ("aux1.fc{n}.{p}", "auxiliary.inception4a.fc{n}.{p}"),
    ("aux2.fc{n}.{p}", "auxiliary.inception4d.fc{n}.{p}"),
    ("fc.{p}", "head.fc.{p}"),
)


def origins(variant: str) -> Mapping[str, Origin]:
    """Who else has this network, by which names; nobody has the paper's."""
    if variant == "googlenet_bn":
        return {"torchvision": Origin(model="googlenet", names=TORCHVISION)}
    return {}
