"""Xception: Inception modules taken to their extreme, depthwise separable convolutions.

Chollet: "Xception: Deep Learning with Depthwise Separable Convolutions", CVPR 2017, arXiv 1610.02357, figure 5. Error
on ImageNet 21.0% top-1 and 5.5% top-5 with one network and one crop (table 1), 22,855,952 parameters (table 3).

    flow    layer       what                                         shortcut   output        parameters           MACs
    entry   conv1       3x3/2, 32                                               149x149x32           928     19,181,664
            conv2       3x3, 64                                                 147x147x64        18,560    398,297,088
            block1      separable 128, 128, max-pooling 3x3/2        1x1/2      74x74x128         35,264    613,262,528
            block2      separable 256, 256, max-pooling 3x3/2        1x1/2      37x37x256        136,064    602,097,152
            block3      separable 728, 728, max-pooling 3x3/2        1x1/2      19x19x728        915,944  1,060,088,600
    middle  block4-11   separable 728, 728, 728                      identity   19x19x728     12,911,808  4,648,547,904
    exit    block12     separable 728, 1024, max-pooling 3x3/2       1x1/2      10x10x1024     2,039,584    539,717,360
            conv3       separable 1536                                          10x10x1536     1,585,152    158,208,000
            conv4       separable 2048                                          10x10x2048     3,163,648    315,955,200
            pool        global average                                          2048
            fc          logistic regression                                     1000           2,049,000      2,048,000
                                                                                              22,855,952  8,357,403,496

A separable convolution is 3x3 on every channel alone, then 1x1 across channels, with nothing in between (section 4.7
finds that a ReLU there hurts). Every convolution is followed by batch normalisation, which the figure leaves out. In a
block each separable convolution comes after a ReLU, but for the first of block1, which follows that of conv2; after
conv3 and conv4 comes a ReLU. Before the last layer comes dropout of 50% (section 4.3). The optional fully-connected
layers of the figure are for the data set JFT.

The map of a block is given out as the block leaves it, before the ReLU of the next one.

What the paper leaves open is done as in timm's `legacy_xception`, whose weights are those of the author's code: no
padding in conv1 and conv2, max-pooling padded by one on every side (the author's framework pads the right and bottom
only where the size is even), epsilon 1e-5 in the normalisation (the author's framework: 1e-3). Weights start as in
`nn/initialise.py`. timm's `xception41` and its siblings are other networks.

Differences from the paper: any number of channels and classes.

Letters: B images, C channels, H height, W width, K classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from striate.models.contract import Backbone, Classifier, Stage
from striate.models.weights import Names, Origin
from striate.nn.conv import ConvNormAct
from striate.nn.initialise import initialise
from striate.nn.pooled_head import PooledHead

DROPOUT = 0.5  # section 4.3
SMALLEST = (39, 39)  # the last map is then more than one pixel, as batch normalisation needs in a batch of one


@dataclass(frozen=True, kw_only=True)
class Spec:
    """Figure 5."""

    stem: tuple[int, int]  # filters of conv1 and conv2
    entry: tuple[int, int, int]  # of the separable convolutions of block1 to block3
    middle: int  # blocks of the middle flow
    block12: tuple[int, int]
    exit: tuple[int, int]  # of conv3 and conv4


VARIANTS: dict[str, Spec] = {
    "xception": Spec(stem=(32, 64), entry=(128, 256, 728), middle=8, block12=(728, 1024), exit=(1536, 2048))
}


class Separable(nn.Module):
    """3x3 convolution of every channel alone, 1x1 convolution across them (figure 4), normalisation."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.depthwise = nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """From (B, in_channels, H, W) to (B, out_channels, H, W)."""
        return self.norm(self.pointwise(self.depthwise(x)))


class Block(nn.Module):
    """Separable convolutions, and pooling where ``stride`` is 2, with a linear shortcut around them (figure 5).

    Args:
        in_channels: of the input.
        filters: of each separable convolution.
        stride: 1 with an identity as shortcut, 2 with a 1x1 convolution.
        first: whether the input has gone through a ReLU already.
    """

    def __init__(self, in_channels: int, filters: tuple[int, ...], *, stride: int, first: bool = False):
        super().__init__()
        self.main = nn.Sequential()
        before = in_channels
        for place, after in enumerate(filters, start=1):
            if place > 1 or not first:
                self.main.add_module(f"act{place}", nn.ReLU(inplace=place > 1))  # the shortcut reads the input too
            self.main.add_module(f"separable{place}", Separable(before, after))
            before = after
        if stride == 2:
            self.main.add_module("pool", nn.MaxPool2d(3, stride=2, padding=1))
            self.shortcut = ConvNormAct(in_channels, before, 1, 2, activation=None)
        else:
            self.shortcut = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """From (B, in_channels, H, W) to (B, filters[-1], H / stride, W / stride), rounded up."""
        return self.main(x) + self.shortcut(x)


class Xception(Backbone):
    """Figure 5 up to the global average pooling."""

    def __init__(self, spec: Spec, *, channels: int):
        super().__init__()
        self.conv1 = ConvNormAct(channels, spec.stem[0], 3, 2, padding=0)
        self.conv2 = ConvNormAct(spec.stem[0], spec.stem[1], 3, padding=0)
        one, two, three = spec.entry
        self.block1 = Block(spec.stem[1], (one, one), stride=2, first=True)
        self.block2 = Block(one, (two, two), stride=2)
        self.block3 = Block(two, (three, three), stride=2)
        self.middle = nn.Sequential()
        for number in range(4, 4 + spec.middle):
            self.middle.add_module(f"block{number}", Block(three, (three, three, three), stride=1))
        self.block12 = Block(three, spec.block12, stride=2)
        self.conv3 = Separable(spec.block12[-1], spec.exit[0])
        self.act3 = nn.ReLU(inplace=True)
        self.conv4 = Separable(spec.exit[0], spec.exit[1])
        self.act4 = nn.ReLU(inplace=True)
        self.stages = (
            Stage(name="conv2", channels=spec.stem[1], stride=2),
            Stage(name="block1", channels=one, stride=4),
            Stage(name="block2", channels=two, stride=8),
            Stage(name="middle", channels=three, stride=16),
            Stage(name="conv4", channels=spec.exit[1], stride=32),
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) images to the last map of each size."""
        two = self.conv2(self.conv1(images))
        four = self.block1(two)
        eight = self.block2(four)
        sixteen = self.middle(self.block3(eight))
        last = self.act3(self.conv3(self.block12(sixteen)))
        return [two, four, eight, sixteen, self.act4(self.conv4(last))]


def build(variant: str, *, classes: int, channels: int, size: tuple[int, int]) -> Classifier:
    """A network of `VARIANTS`, initialised as in `nn/initialise.py`; ``size`` is only noted."""
    spec = VARIANTS[variant]
    backbone = Xception(spec, channels=channels)
    head = PooledHead(spec.exit[1], classes, dropout=DROPOUT)
    model = Classifier(backbone, head, classes=classes, channels=channels, size=size)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            initialise(layer, "nothing" if layer.groups > 1 else "rectifier")
    initialise(head.fc, "softmax")
    return model


def _separable(theirs: str, norm: str, ours: str) -> Names:
    return (
        (f"{theirs}.conv1.weight", f"{ours}.depthwise.weight"),
        (f"{theirs}.pointwise.weight", f"{ours}.pointwise.weight"),
        (f"{norm}.{{p}}", f"{ours}.norm.{{p}}"),
    )


# A block is numbered through there: ReLU, separable convolution, normalisation, and so on; block1 has no first ReLU.
TIMM: Names = (
    *_separable("block1.rep.0", "block1.rep.1", "backbone.block1.main.separable1"),
    *_separable("block1.rep.3", "block1.rep.4", "backbone.block1.main.separable2"),
    *(
        row
        for block in range(2, 13)
        for place in (1, 2, 3)
        for row in _separable(
            f"block{block}.rep.{3 * place - 2}",
            f"block{block}.rep.{3 * place - 1}",
            f"backbone.{'middle.' if 4 <= block < 12 else ''}block{block}.main.separable{place}",
        )
    ),
    ("block{b}.skip.weight", "backbone.block{b}.shortcut.conv.weight"),
    ("block{b}.skipbn.{p}", "backbone.block{b}.shortcut.norm.{p}"),
    *_separable("conv3", "bn3", "backbone.conv3"),
    *_separable("conv4", "bn4", "backbone.conv4"),
    ("conv{n}.weight", "backbone.conv{n}.conv.weight"),
    ("bn{n}.{p}", "backbone.conv{n}.norm.{p}"),
    ("fc.{p}", "head.fc.{p}"),
)


def origins(variant: str) -> Mapping[str, Origin]:
    """Who else has this network, by which names."""
    return {"timm": Origin(model=f"legacy_{variant}", names=TIMM)}
