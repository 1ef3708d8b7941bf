"""Inception v3 as published."""

from striate.models.published import Published, PublishedError

SZEGEDY_2015 = 'Szegedy et al. 2015, "Rethinking the Inception Architecture for Computer Vision"'
TORCHVISION = "torchvision 0.29, Inception_V3_Weights.IMAGENET1K_V1"

# Table 1 gives the size of each layer's input: here the outputs that are the next one's inputs.
_SHAPES = (
    ("backbone.conv1a", (32, 149, 149), ""),
    ("backbone.conv2a", (32, 147, 147), ""),
    ("backbone.conv2b", (64, 147, 147), ""),
    ("backbone.pool1", (64, 73, 73), ""),
    (
        "backbone.conv3b",
        (80, 71, 71),
        "the released network has a 1x1 convolution where the table has one of 3x3 without padding",
    ),
    ("backbone.pool2", (192, 35, 35), ""),
    ("backbone.mixed5d", (288, 35, 35), ""),
    ("backbone.mixed6a", (768, 17, 17), ""),
    ("backbone.mixed6e", (768, 17, 17), ""),
    ("backbone.mixed7a", (1280, 8, 8), ""),
    ("backbone.mixed7c", (2048, 8, 8), ""),
    ("head.pool", (2048, 1, 1), ""),
    ("head.fc", (1000,), ""),
)

ROWS = (
    *(
        Published(
            model="inception_v3",
            figure="shape",
            layer=layer,
            value=value,
            source=SZEGEDY_2015 + ", table 1",
            disputed=disputed,
        )
        for layer, value, disputed in _SHAPES
    ),
    Published(
        model="inception_v3",
        figure="parameters",
        value=25_000_000,
        source=SZEGEDY_2015 + ", abstract: less than 25 million",
        disputed="23.8 million for inference, as the paper says; 27.2 million with the auxiliary classifier",
    ),
    Published(
        model="inception_v3", figure="parameters", value=27_161_264, source=TORCHVISION + ", with auxiliary classifier"
    ),
    Published(
        model="inception_v3",
        figure="macs",
        value=5_000_000_000,
        within=500_000_000,
        source=SZEGEDY_2015 + ", abstract: 5 billion multiply-adds",
        disputed="the released network takes 5.7 billion; the paper's own table 3 has 4.8",
    ),
    Published(
        model="inception_v3",
        figure="macs",
        value=4_800_000_000,
        within=50_000_000,
        source=SZEGEDY_2015 + ", table 3: 4.8 billion operations",
        disputed="the released network takes 5.7 billion",
    ),
    Published(
        model="inception_v3",
        figure="macs",
        value=5_713_000_000,
        within=500_000,
        source=TORCHVISION + ": 5.713 GFLOPS of multiply-accumulates",
    ),
    Published(
        model="inception_v3",
        figure="receptive_field",
        layer="backbone",
        value=1311,
        source='Araujo, Norris, Sim 2019, "Computing Receptive Fields of Convolutional Neural Networks", table',
    ),
)

ERRORS = (
    PublishedError(model="inception_v3", data="ImageNet", error=21.2, source=SZEGEDY_2015 + ", table 3"),
    PublishedError(model="inception_v3", data="ImageNet, top-5", error=5.6, source=SZEGEDY_2015 + ", table 3"),
)
