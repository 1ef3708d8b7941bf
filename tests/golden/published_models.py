"""Published figures of the architectures, each row with its source; tests and documentation read the same rows."""

from dataclasses import dataclass

LECUN_1998 = 'LeCun, Bottou, Bengio, Haffner 1998, "Gradient-Based Learning Applied to Document Recognition"'
LECUN_1990 = 'LeCun et al. 1990, "Handwritten Digit Recognition with a Back-Propagation Network"'
HE_2016 = 'He, Zhang, Ren, Sun 2016, "Deep Residual Learning for Image Recognition"'


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Trainable parameters as published."""

    model: str
    layer: str  # the module's name, as in backbone.c1; "" for the whole network
    count: int  # the published number
    within: int = 0  # how far ours may be: half a unit of the last digit printed
    source: str


PARAMETERS = (
    Parameters(
        model="linear", layer="", count=7_850, source="784 x 10 weights and 10 biases; 28x28 inputs of " + LECUN_1998
    ),
    Parameters(
        model="lenet300",
        layer="",
        count=238_510,
        source="784-300-10 of " + LECUN_1998 + ", section III-C.5; arithmetic",
    ),
    Parameters(
        model="lenet300-100",
        layer="",
        count=266_610,
        source="784-300-100-10 of " + LECUN_1998 + ", section III-C.6; arithmetic",
    ),
    Parameters(model="lenet1", layer="", count=2_578, source=LECUN_1990 + ", p. 402: independent parameters"),
    Parameters(model="lenet1", layer="", count=2_600, within=50, source=LECUN_1998 + ", section III-C.7: about 2,600"),
    Parameters(model="lenet5", layer="backbone.c1", count=156, source=LECUN_1998 + ", section II-B"),
    Parameters(model="lenet5", layer="backbone.s2", count=12, source=LECUN_1998 + ", section II-B"),
    Parameters(model="lenet5", layer="backbone.c3", count=1_516, source=LECUN_1998 + ", section II-B"),
    Parameters(model="lenet5", layer="backbone.s4", count=32, source=LECUN_1998 + ", section II-B"),
    Parameters(model="lenet5", layer="backbone.c5", count=48_120, source=LECUN_1998 + ", section II-B: connections"),
    Parameters(model="lenet5", layer="head.f6", count=10_164, source=LECUN_1998 + ", section II-B"),
    Parameters(model="lenet5", layer="", count=60_000, source=LECUN_1998 + ", section II-B"),
    Parameters(
        model="lenet5_modern",
        layer="",
        count=61_706,
        source="the layer sizes of Zhang et al., Dive into Deep Learning, section 7.6 (there with average pooling)",
    ),
    Parameters(model="resnet20", layer="", count=270_000, within=5_000, source=HE_2016 + ", table 6: 0.27M"),
    Parameters(model="resnet32", layer="", count=460_000, within=5_000, source=HE_2016 + ", table 6: 0.46M"),
    Parameters(model="resnet44", layer="", count=660_000, within=5_000, source=HE_2016 + ", table 6: 0.66M"),
    Parameters(model="resnet56", layer="", count=850_000, within=5_000, source=HE_2016 + ", table 6: 0.85M"),
    Parameters(model="resnet110", layer="", count=1_700_000, within=50_000, source=HE_2016 + ", table 6: 1.7M"),
)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The map a stage gives out for the network's own input, as published."""

    model: str
    stage: str
    shape: tuple[int, int, int]  # maps, height, width
    source: str


SHAPES = (
    Shape(model="lenet1", stage="c1", shape=(4, 24, 24), source=LECUN_1990 + ", p. 400 (H1)"),
    Shape(model="lenet1", stage="s2", shape=(4, 12, 12), source=LECUN_1990 + ", p. 400 (H2)"),
    Shape(model="lenet1", stage="c3", shape=(12, 8, 8), source=LECUN_1990 + ", p. 400 (H3)"),
    Shape(model="lenet1", stage="s4", shape=(12, 4, 4), source=LECUN_1990 + ", p. 400 (H4)"),
    Shape(model="lenet5", stage="c1", shape=(6, 28, 28), source=LECUN_1998 + ", figure 2"),
    Shape(model="lenet5", stage="s2", shape=(6, 14, 14), source=LECUN_1998 + ", figure 2"),
    Shape(model="lenet5", stage="c3", shape=(16, 10, 10), source=LECUN_1998 + ", figure 2"),
    Shape(model="lenet5", stage="s4", shape=(16, 5, 5), source=LECUN_1998 + ", figure 2"),
    Shape(model="lenet5", stage="c5", shape=(120, 1, 1), source=LECUN_1998 + ", figure 2"),
    Shape(model="resnet20", stage="stage1", shape=(16, 32, 32), source=HE_2016 + ", section 4.2"),
    Shape(model="resnet20", stage="stage2", shape=(32, 16, 16), source=HE_2016 + ", section 4.2"),
    Shape(model="resnet20", stage="stage3", shape=(64, 8, 8), source=HE_2016 + ", section 4.2"),
)


@dataclass(frozen=True, kw_only=True)
class Connections:
    """Connections of a layer: for every unit its inputs and its bias."""

    model: str
    layer: str
    count: int
    source: str


CONNECTIONS = (
    Connections(model="lenet1", layer="", count=98_442, source=LECUN_1990 + ", p. 402"),
    Connections(model="lenet5", layer="c1", count=122_304, source=LECUN_1998 + ", section II-B"),
    Connections(model="lenet5", layer="s2", count=5_880, source=LECUN_1998 + ", section II-B"),
    Connections(model="lenet5", layer="c3", count=151_600, source=LECUN_1998 + ", section II-B"),
    Connections(model="lenet5", layer="s4", count=2_000, source=LECUN_1998 + ", section II-B"),
    Connections(model="lenet5", layer="", count=340_908, source=LECUN_1998 + ", section II-B"),
    Connections(model="lenet5", layer="c5", count=48_120, source=LECUN_1998 + ", section II-B"),
)


@dataclass(frozen=True, kw_only=True)
class PublishedError:
    """A published test error, in percent."""

    model: str
    data: str
    error: float
    source: str


TEST_ERRORS = (
    PublishedError(model="linear", data="MNIST", error=12.0, source=LECUN_1998 + ", figure 9"),
    PublishedError(model="lenet300", data="MNIST", error=4.7, source=LECUN_1998 + ", figure 9"),
    PublishedError(
        model="lenet300", data="MNIST, distorted training images", error=3.6, source=LECUN_1998 + ", figure 9"
    ),
    PublishedError(model="lenet300-100", data="MNIST", error=3.05, source=LECUN_1998 + ", figure 9"),
    PublishedError(
        model="lenet300-100", data="MNIST, distorted training images", error=2.45, source=LECUN_1998 + ", figure 9"
    ),
    PublishedError(model="lenet1", data="MNIST", error=1.7, source=LECUN_1998 + ", figure 9"),
    PublishedError(model="lenet5", data="MNIST", error=0.95, source=LECUN_1998 + ", figure 9"),
    PublishedError(
        model="lenet5", data="MNIST, distorted training images", error=0.8, source=LECUN_1998 + ", figure 9"
    ),
    PublishedError(model="resnet20", data="CIFAR-10", error=8.75, source=HE_2016 + ", table 6"),
    PublishedError(model="resnet32", data="CIFAR-10", error=7.51, source=HE_2016 + ", table 6"),
    PublishedError(model="resnet44", data="CIFAR-10", error=7.17, source=HE_2016 + ", table 6"),
    PublishedError(model="resnet56", data="CIFAR-10", error=6.97, source=HE_2016 + ", table 6"),
    PublishedError(model="resnet110", data="CIFAR-10", error=6.43, source=HE_2016 + ", table 6 (best of 5)"),
)
