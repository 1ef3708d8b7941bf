"""LeNet: the first convolutional networks, from 1989 to 1998.

`lenet5` is LeCun, Bottou, Bengio, Haffner: "Gradient-Based Learning Applied to Document Recognition", Proceedings of
the IEEE 86(11), 1998, section II-B and figure 2. Test error on MNIST 0.95%, 0.8% with distorted images (figure 9).

    layer   what                                    output       parameters   connections
    input                                           1 x 32 x 32
    C1      convolution 5x5                         6 x 28 x 28         156       122,304
    S2      trainable subsampling 2x2               6 x 14 x 14          12         5,880
    C3      convolution 5x5, by table I            16 x 10 x 10       1,516       151,600
    S4      trainable subsampling 2x2              16 x  5 x  5          32         2,000
    C5      convolution 5x5                       120 x  1 x  1      48,120        48,120
    F6      full                                   84                10,164        10,164
    output  Euclidean radial basis, fixed          10                     0           840
                                                                     60,000       340,908

    Table I, which maps of S2 (rows) each map of C3 (columns) reads:

         0  1  2  3  4  5  6  7  8  9 10 11 12 13 14 15
      0  X           X  X  X        X  X  X  X     X  X
      1  X  X           X  X  X        X  X  X  X     X
      2  X  X  X           X  X  X        X     X  X  X
      3     X  X  X        X  X  X  X        X     X  X
      4        X  X  X        X  X  X  X     X  X     X
      5           X  X  X        X  X  X  X     X  X  X

`lenet1` is the network of LeCun et al.: "Handwritten Digit Recognition with a Back-Propagation Network", NIPS 2,
1990, pp. 400-402, which section III-C.7 of the 1998 paper calls LeNet-1. Test error on MNIST 1.7%.

    layer   what                                    output       parameters   connections
    input                                           1 x 28 x 28
    H1      convolution 5x5                         4 x 24 x 24         104        59,904
    H2      trainable subsampling 2x2               4 x 12 x 12           8         2,880
    H3      convolution 5x5, by table 1            12 x  8 x  8         512        32,768
    H4      trainable subsampling 2x2              12 x  4 x  4          24           960
    output  full                                   10                 1,930         1,930
                                                                      2,578        98,442

    Table 1 (p. 400), which maps of H2 (rows) each map of H3 (columns) reads:

         1  2  3  4  5  6  7  8  9 10 11 12
      1  X  X  X     X  X
      2     X  X  X  X  X
      3                    X  X  X     X  X
      4                       X  X  X  X  X

The 1990 paper gives 2,578 independent parameters and 98,442 connections, the 1998 paper "about 2600" and "about
100,000"; the layers above give the former exactly.

`lenet5_modern` is LeNet-5 as it is taught today: max-pooling, ReLU, a full C3 and a linear output. 61,706 parameters.

    layer   what                                    output       parameters
    input                                           1 x 28 x 28
    C1      convolution 5x5, padding 2              6 x 28 x 28         156
    S2      max-pooling 2x2                         6 x 14 x 14           0
    C3      convolution 5x5                        16 x 10 x 10       2,416
    S4      max-pooling 2x2                        16 x  5 x  5           0
    C5      convolution 5x5                       120 x  1 x  1      48,120
    F6      full                                   84                10,164
    output  full                                   10                   850
                                                                     61,706

After every layer of the two old networks but the output comes 1.7159 tanh(2x/3), after subsampling too; after every
convolution and full layer of the modern one comes ReLU. All weights of the old networks start uniform in +-2.4 /
fan-in (1998, appendix A), those of the modern one as in `nn/initialise.py`.

Differences from the papers:
- The loss is the engine's. With cross-entropy `lenet5` minimises the paper's discriminative criterion (equation 9)
  without its rubbish class; equation 8 keeps only the distance to the right code.
- The codes of the output, which the paper prints as a picture only (figure 3), are drawn anew here after its
  description: stylised digits on a 7x12 bitmap, -1 for white and +1 for black. Bit by bit they are not the paper's.
  Ten classes are taken for the ten digits; for any other number the codes are random +-1, the choice that section II-B
  names first, drawn once from a fixed seed.
- The output of `lenet1` is linear, class scores for a softmax, where the paper's units were squashed and trained
  towards +-1.
- MNIST's 28x28 digits in `lenet5` want a border of 2 (resize "pad"), as in the paper; its pixel range -0.1 (white) to
  1.175 (black) is a matter of the preprocessing.
- Any number of channels and classes: C1 then reads every channel.

Letters: B images, C channels, H height, W width, K classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from striate.models.contract import Backbone, Classifier, Stage
from striate.nn import lecun
from striate.nn.activations import ScaledTanh
from striate.nn.initialise import initialise
from striate.nn.lecun import RadialBasis, Subsampling, TableConv2d

# 1998, table I, by column: the maps of S2 that each map of C3 reads.
C3_TABLE: tuple[tuple[int, ...], ...] = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),  # every three in a row
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),  # every four in a row
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),  # some four apart
    (0, 1, 2, 3, 4, 5),
)

# 1990, table 1, by column, counted from 0: the maps of H2 that each map of H3 reads.
H3_TABLE: tuple[tuple[int, ...], ...] = (
    *((0,), (0, 1), (0, 1), (1,), (0, 1), (0, 1)),
    *((2,), (2, 3), (2, 3), (3,), (2, 3), (2, 3)),
)

# After the description in 1998, section II-B: stylised digits, 12 rows of 7; the last two rows are the descender's.
DIGITS = """
    ..###..  ...##..  .#####.  #######  ....##.  #######  ..####.  #######  .#####.  .#####.
    .##.##.  ..###..  ##...##  .....##  ...###.  ##.....  .##....  .....##  ##...##  ##...##
    ##...##  .####..  ##...##  ....##.  ..####.  ##.....  ##.....  .....##  ##...##  ##...##
    ##...##  ...##..  .....##  ...##..  .##.##.  ##.....  ##.....  ....##.  .##.##.  ##...##
    ##...##  ...##..  ....##.  ..####.  ##..##.  ######.  ##.###.  ....##.  ..###..  ##..###
    ##...##  ...##..  ...##..  .....##  ##..##.  .....##  ###..##  ...##..  .##.##.  .###.##
    ##...##  ...##..  ..##...  .....##  #######  .....##  ##...##  ...##..  ##...##  .....##
    ##...##  ...##..  .##....  .....##  ....##.  .....##  ##...##  ..##...  ##...##  .....##
    .##.##.  ...##..  ##.....  ##...##  ....##.  ##...##  ##...##  ..##...  ##...##  ....##.
    ..###..  .######  #######  .#####.  ....##.  .#####.  .#####.  ..##...  .#####.  .####..
    .......  .......  .......  .......  .......  .......  .......  .......  .......  .......
    .......  .......  .......  .......  .......  .......  .......  .......  .......  .......
"""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One LeNet."""

    size: tuple[int, int]  # the only input that ends as a 1x1 map, or as the paper's number of features
    padding: int  # of C1
    maps: tuple[int, int]  # of C1 and C3
    table: tuple[tuple[int, ...], ...] | None  # of C3; None: every map reads every map
    subsampling: Literal["trainable", "max"]
    squash: Callable[[], nn.Module]
    units: tuple[int, int] | None  # of C5 and F6; None: the output reads S4
    output: Literal["radial basis", "linear"]


VARIANTS: dict[str, Spec] = {
    "lenet1": Spec(
        size=(28, 28),
        padding=0,
        maps=(4, 12),
        table=H3_TABLE,
        subsampling="trainable",
        squash=ScaledTanh,
        units=None,
        output="linear",
    ),
    "lenet5": Spec(
        size=(32, 32),
        padding=0,
        maps=(6, 16),
        table=C3_TABLE,
        subsampling="trainable",
        squash=ScaledTanh,
        units=(120, 84),
        output="radial basis",
    ),
    "lenet5_modern": Spec(
        size=(28, 28),
        padding=2,
        maps=(6, 16),
        table=None,
        subsampling="max",
        squash=nn.ReLU,
        units=(120, 84),
        output="linear",
    ),
}


class LeNet(Backbone):
    """The convolutional layers, C1 to S4 or C5, by the names of the 1998 paper."""

    def __init__(self, spec: Spec, *, channels: int):
        super().__init__()
        first, second = spec.maps

        def subsample(maps: int) -> nn.Module:
            if spec.subsampling == "max":
                return nn.MaxPool2d(2)
            return nn.Sequential(Subsampling(maps), spec.squash())

        c3 = nn.Conv2d(first, second, 5) if spec.table is None else TableConv2d(first, spec.table, 5)
        self.c1 = nn.Sequential(nn.Conv2d(channels, first, 5, padding=spec.padding), spec.squash())
        self.s2 = subsample(first)
        self.c3 = nn.Sequential(c3, spec.squash())
        self.s4 = subsample(second)
        stages = [("c1", first, 1), ("s2", first, 2), ("c3", second, 2), ("s4", second, 4)]
        if spec.units:
            self.c5 = nn.Sequential(nn.Conv2d(second, spec.units[0], 5), spec.squash())
            stages.append(("c5", spec.units[0], 4))
        self.stages = tuple(Stage(name=name, channels=maps, stride=stride) for name, maps, stride in stages)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) images to the maps of every layer."""
        x = images
        outputs: list[Tensor] = []
        for layer in self.children():
            x = layer(x)
            outputs.append(x)
        return outputs


def codes(classes: int) -> Tensor:
    """The centres of the output of `lenet5`: digits on a bitmap for ten classes, random +-1 otherwise.

    Returns:
        (classes, 84) float32 of -1 and +1.
    """
    if classes != 10:
        return lecun.plus_minus_codes(classes, 84)
    rows = DIGITS.split()
    return torch.tensor(
        [[1.0 if pixel == "#" else -1.0 for row in rows[digit::10] for pixel in row] for digit in range(10)]
    )


def build(variant: str, *, classes: int, channels: int, size: tuple[int, int]) -> Classifier:
    """A network of `VARIANTS`, initialised as the module's first lines say; ``size`` is the variant's own."""
    spec = VARIANTS[variant]
    backbone = LeNet(spec, channels=channels)
    if spec.units:
        c5, f6 = spec.units
        output = RadialBasis(codes(classes)) if spec.output == "radial basis" else nn.Linear(f6, classes)
        head = nn.Sequential()
        head.add_module("flatten", nn.Flatten())
        head.add_module("f6", nn.Sequential(nn.Linear(c5, f6), spec.squash()))
        head.add_module("output", output)
    else:
        head = nn.Sequential()
        head.add_module("flatten", nn.Flatten())
        head.add_module("output", nn.Linear(spec.maps[1] * 4 * 4, classes))
    model = Classifier(backbone, head, classes=classes, channels=channels, size=size)
    if spec.squash is nn.ReLU:
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                initialise(layer, "softmax" if layer is model.head.get_submodule("output") else "rectifier")
    else:
        lecun.initialise(model)
    return model
