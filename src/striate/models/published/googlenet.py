"""GoogLeNet as published."""

from striate.models.published import Published, PublishedError

SZEGEDY_2014 = 'Szegedy et al. 2014, "Going Deeper with Convolutions"'
TORCHVISION = "torchvision 0.29, GoogLeNet_Weights.IMAGENET1K_V1"
K = 1024  # what table 1 means by K: 114,688 weights are its 112K

# Output sizes of table 1.
_SHAPES = (
    ("backbone.conv1", (64, 112, 112)),
    ("backbone.pool1", (64, 56, 56)),
    ("backbone.conv2", (192, 56, 56)),
    ("backbone.pool2", (192, 28, 28)),
    ("backbone.inception3a", (256, 28, 28)),
    ("backbone.inception3b", (480, 28, 28)),
    ("backbone.pool3", (480, 14, 14)),
    ("backbone.inception4a", (512, 14, 14)),
    ("backbone.inception4b", (512, 14, 14)),
    ("backbone.inception4c", (512, 14, 14)),
    ("backbone.inception4d", (528, 14, 14)),
    ("backbone.inception4e", (832, 14, 14)),
    ("backbone.pool4", (832, 7, 7)),
    ("backbone.inception5a", (832, 7, 7)),
    ("backbone.inception5b", (1024, 7, 7)),
    ("head.pool", (1024, 1, 1)),
    ("head.dropout", (1024,)),
    ("head.fc", (1000,)),
)

_SEPARABLE = (
    "table and figure 3 describe a full 7x7 convolution; this is a depthwise separable one (8 kernels of 7x7 per "
    "channel, then 1x1: 3 x 8 x 49 + 24 x 64 = 2,712 weights), the first layer of Inception V1 by Chollet 2017"
)
# "params" of table 1 in K, and why a figure does not hold.
_PARAMETERS = (
    ("backbone.conv1", 2.7, _SEPARABLE),
    ("backbone.conv2", 112, ""),
    ("backbone.inception3a", 159, "the 163,328 weights are 159.5K, cut to 159; the 368 biases make it 159.9K"),
    ("backbone.inception3b", 380, ""),
    (
        "backbone.inception4a",
        364,
        "agrees with the 73M beside it, but the row's own filters have 375,552 weights, 366.8K",
    ),
    ("backbone.inception4b", 437, "the row's own filters have 448,512 weights, 438K, and 648 biases"),
    ("backbone.inception4c", 463, "the row's own 100M at 14x14 places need 496K to 501K; its filters have 497.5K"),
    ("backbone.inception4d", 580, "the row's own 119M at 14x14 places need 590K to 595K; its filters have 590.5K"),
    ("backbone.inception4e", 840, "the row's own 170M at 14x14 places need 845K to 850K; its filters have 847K"),
    (
        "backbone.inception5a",
        1072,
        "agrees with the 54M beside it, but the row's own filters have 1,042,432 weights, 1018K",
    ),
    ("backbone.inception5b", 1388, "the row's own 71M at 7x7 places need 1405K to 1425K; its filters have 1409K"),
    ("head.fc", 1000, "exactly the 1000K weights, without the 1,000 biases"),
)
# "ops" of table 1 in millions, and why a figure does not hold.
_OPERATIONS = (
    ("backbone.conv1", 34, _SEPARABLE),
    ("backbone.conv2", 360, ""),
    ("backbone.inception3a", 128, ""),
    ("backbone.inception3b", 304, ""),
    ("backbone.inception4a", 73, "the row's own filters take 73.6 million"),
    ("backbone.inception4b", 88, ""),
    ("backbone.inception4c", 100, ""),
    ("backbone.inception4d", 119, ""),
    ("backbone.inception4e", 170, ""),
    ("backbone.inception5a", 54, "the row's own filters take 51.1 million"),
    ("backbone.inception5b", 71, ""),
    ("head.fc", 1, ""),
)

ROWS = (
    *(
        Published(
            model="googlenet", figure="shape", layer=layer, value=value, source=SZEGEDY_2014 + ", table 1: output size"
        )
        for layer, value in _SHAPES
    ),
    *(
        Published(
            model="googlenet",
            figure="parameters",
            layer=layer,
            value=round(value * K),
            within=round(0.05 * K) if value < 10 else K // 2,
            source=f"{SZEGEDY_2014}, table 1: {value}K",
            disputed=disputed,
        )
        for layer, value, disputed in _PARAMETERS
    ),
    *(
        Published(
            model="googlenet",
            figure="macs",
            layer=layer,
            value=value * 1_000_000,
            within=500_000,
            source=f"{SZEGEDY_2014}, table 1: {value}M",
            disputed=disputed,
        )
        for layer, value, disputed in _OPERATIONS
    ),
    Published(
        model="googlenet",
        figure="macs",
        value=1_500_000_000,
        within=50_000_000,
        source=SZEGEDY_2014 + ", section 1: 1.5 billion multiply-adds",
        disputed="with a full first convolution they are 1.58 billion; with the separable one of 34 million, 1.50",
    ),
    Published(
        model="googlenet_bn",
        figure="macs",
        value=1_498_000_000,
        within=500_000,
        source=TORCHVISION + ": 1.498 GFLOPS of multiply-accumulates",
    ),
)

ERRORS = (
    PublishedError(
        model="googlenet",
        data="ImageNet, top-5, one crop",
        error=10.07,
        source=SZEGEDY_2014 + ", table 3",
    ),
    PublishedError(
        model="googlenet",
        data="ImageNet, top-5, 144 crops",
        error=7.89,
        source=SZEGEDY_2014 + ", table 3",
    ),
    PublishedError(model="googlenet_bn", data="ImageNet", error=30.222, source=TORCHVISION + ": accuracy 69.778"),
    PublishedError(model="googlenet_bn", data="ImageNet, top-5", error=10.47, source=TORCHVISION + ": accuracy 89.530"),
)
