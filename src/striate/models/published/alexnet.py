"""AlexNet as published."""

from striate.models.published import Published, PublishedError

KRIZHEVSKY_2012 = (
    'Krizhevsky, Sutskever, Hinton 2012, "ImageNet Classification with Deep Convolutional Neural Networks"'
)
CS231N = "CS231n, notes on convolutional networks"
CS231N_CASES = "CS231n, lecture on architectures: AlexNet"
TORCHVISION = "torchvision, model card of alexnet"

# Figure 2 and section 3.5: maps, and units of the layers of weights.
_SHAPES = {
    "backbone.stage1.conv1": (96, 55, 55),
    "backbone.stage1.pool1": (96, 27, 27),
    "backbone.stage2.conv2": (256, 27, 27),
    "backbone.stage2.pool2": (256, 13, 13),
    "backbone.stage3.conv3": (384, 13, 13),
    "backbone.stage3.conv4": (384, 13, 13),
    "backbone.stage3.conv5": (256, 13, 13),
    "backbone.stage3.pool5": (256, 6, 6),
    "head.fc6": (4096,),
    "head.fc7": (4096,),
    "head.fc8": (1000,),
}
_UNITS = {
    "backbone.stage2.conv2": 186_624,
    "backbone.stage3.conv3": 64_896,
    "backbone.stage3.conv4": 64_896,
    "backbone.stage3.conv5": 43_264,
    "head.fc6": 4_096,
    "head.fc7": 4_096,
    "head.fc8": 1_000,
}

ROWS = (
    *(
        Published(model=model, figure="shape", layer=layer, value=shape, source=CS231N_CASES)
        for model in ("alexnet_one_tower", "alexnet_two_tower")
        for layer, shape in _SHAPES.items()
    ),
    *(
        Published(
            model="alexnet_two_tower",
            figure="activations",
            layer=layer,
            value=units,
            source=KRIZHEVSKY_2012 + ", figure 2",
        )
        for layer, units in _UNITS.items()
    ),
    Published(
        model="alexnet_two_tower",
        figure="activations",
        layer="backbone.stage1.conv1",
        value=253_440,
        source=KRIZHEVSKY_2012 + ", figure 2",
        disputed="253,440 are 55 x 48 x 96. The second layer has 27 x 27 maps, so the first has 55 x 55 x 96 = 290,400 "
        "from images of 227x227: the 224x224 (150,528 inputs) of the same figure give no whole number of steps of 4",
    ),
    Published(
        model="alexnet_two_tower",
        figure="activations",
        value=650_000,
        within=5_000,
        source=KRIZHEVSKY_2012 + ", abstract: 650,000 neurons",
        disputed="the layers of weights have 659,272 units, 781,736 with the poolings; figure 2 adds up to 622,312, "
        "its first layer counted short",
    ),
    Published(
        model="alexnet_two_tower",
        figure="parameters",
        value=60_000_000,
        within=500_000,
        source=KRIZHEVSKY_2012 + ", abstract: 60 million",
        disputed="the layers of section 3.5 have 60,965,224: 61 million",
    ),
    Published(
        model="alexnet_one_tower",
        figure="parameters",
        layer="backbone.stage1.conv1",
        value=34_944,
        source=CS231N + ": 34,848 weights and 96 biases",
    ),
    Published(
        model="alexnet_one_tower",
        figure="activations",
        layer="backbone.stage1.conv1",
        value=290_400,
        source=CS231N + ": 55 x 55 x 96",
    ),
    Published(
        model="alexnet_one_tower",
        figure="parameters",
        value=62_378_344,
        source="arithmetic: the layers of " + KRIZHEVSKY_2012 + ", section 3.5, without the split",
    ),
    Published(model="alexnet", figure="parameters", value=61_100_840, source=TORCHVISION),
    Published(model="alexnet", figure="macs", value=714_000_000, within=500_000, source=TORCHVISION + ": 0.714 GFLOPS"),
)

ERRORS = (
    PublishedError(
        model="alexnet_two_tower",
        data="ImageNet 2010 (test)",
        error=37.5,
        source=KRIZHEVSKY_2012 + ", table 1 (ten crops)",
    ),
    PublishedError(
        model="alexnet_two_tower",
        data="ImageNet 2010 (test), top-5",
        error=17.0,
        source=KRIZHEVSKY_2012 + ", table 1 (ten crops)",
    ),
    PublishedError(
        model="alexnet_two_tower",
        data="ImageNet 2012 (validation)",
        error=40.7,
        source=KRIZHEVSKY_2012 + ", table 2 (1 CNN)",
    ),
    PublishedError(
        model="alexnet_two_tower",
        data="ImageNet 2012 (validation), top-5",
        error=18.2,
        source=KRIZHEVSKY_2012 + ", table 2 (1 CNN)",
    ),
    PublishedError(
        model="alexnet",
        data="ImageNet 2012 (validation)",
        error=43.478,
        source=TORCHVISION + ": 56.522 correct",
    ),
)
