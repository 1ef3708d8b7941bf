"""LeNet as published."""

from striate.models.published import Connections, Published, PublishedError

LECUN_1998 = 'LeCun, Bottou, Bengio, Haffner 1998, "Gradient-Based Learning Applied to Document Recognition"'
LECUN_1990 = 'LeCun et al. 1990, "Handwritten Digit Recognition with a Back-Propagation Network"'

ROWS = (
    Published(model="lenet1", figure="parameters", value=2_578, source=LECUN_1990 + ", p. 402: independent parameters"),
    Published(
        model="lenet1",
        figure="parameters",
        value=2_600,
        within=50,
        source=LECUN_1998 + ", section III-C.7: about 2,600",
    ),
    Published(
        model="lenet5", figure="parameters", layer="backbone.c1", value=156, source=LECUN_1998 + ", section II-B"
    ),
    Published(model="lenet5", figure="parameters", layer="backbone.s2", value=12, source=LECUN_1998 + ", section II-B"),
    Published(
        model="lenet5", figure="parameters", layer="backbone.c3", value=1_516, source=LECUN_1998 + ", section II-B"
    ),
    Published(model="lenet5", figure="parameters", layer="backbone.s4", value=32, source=LECUN_1998 + ", section II-B"),
    Published(
        model="lenet5",
        figure="parameters",
        layer="backbone.c5",
        value=48_120,
        source=LECUN_1998 + ", section II-B: connections",
    ),
    Published(model="lenet5", figure="parameters", layer="head.f6", value=10_164, source=LECUN_1998 + ", section II-B"),
    Published(model="lenet5", figure="parameters", value=60_000, source=LECUN_1998 + ", section II-B"),
    Published(
        model="lenet5_modern",
        figure="parameters",
        value=61_706,
        source="the layer sizes of Zhang et al., Dive into Deep Learning, section 7.6 (there with average pooling)",
    ),
    Published(
        model="lenet1", figure="shape", layer="backbone.c1", value=(4, 24, 24), source=LECUN_1990 + ", p. 400 (H1)"
    ),
    Published(
        model="lenet1", figure="shape", layer="backbone.s2", value=(4, 12, 12), source=LECUN_1990 + ", p. 400 (H2)"
    ),
    Published(
        model="lenet1", figure="shape", layer="backbone.c3", value=(12, 8, 8), source=LECUN_1990 + ", p. 400 (H3)"
    ),
    Published(
        model="lenet1", figure="shape", layer="backbone.s4", value=(12, 4, 4), source=LECUN_1990 + ", p. 400 (H4)"
    ),
    Published(model="lenet5", figure="shape", layer="backbone.c1", value=(6, 28, 28), source=LECUN_1998 + ", figure 2"),
    Published(model="lenet5", figure="shape", layer="backbone.s2", value=(6, 14, 14), source=LECUN_1998 + ", figure 2"),
    Published(
        model="lenet5", figure="shape", layer="backbone.c3", value=(16, 10, 10), source=LECUN_1998 + ", figure 2"
    ),
    Published(model="lenet5", figure="shape", layer="backbone.s4", value=(16, 5, 5), source=LECUN_1998 + ", figure 2"),
    Published(model="lenet5", figure="shape", layer="backbone.c5", value=(120, 1, 1), source=LECUN_1998 + ", figure 2"),
)

CONNECTIONS = (
    Connections(model="lenet1", layer="", count=98_442, source=LECUN_1990 + ", p. 402"),
    Connections(model="lenet5", layer="c1", count=122_304, source=LECUN_1998 + ", section II-B"),
    Connections(model="lenet5", layer="s2", count=5_880, source=LECUN_1998 + ", section II-B"),
    Connections(model="lenet5", layer="c3", count=151_600, source=LECUN_1998 + ", section II-B"),
    Connections(model="lenet5", layer="s4", count=2_000, source=LECUN_1998 + ", section II-B"),
    Connections(model="lenet5", layer="", count=340_908, source=LECUN_1998 + ", section II-B"),
    Connections(model="lenet5", layer="c5", count=48_120, source=LECUN_1998 + ", section II-B"),
)

ERRORS = (
    PublishedError(model="lenet1", data="MNIST", error=1.7, source=LECUN_1998 + ", figure 9"),
    PublishedError(model="lenet5", data="MNIST", error=0.95, source=LECUN_1998 + ", figure 9"),
    PublishedError(
        model="lenet5", data="MNIST, distorted training images", error=0.8, source=LECUN_1998 + ", figure 9"
    ),
)
