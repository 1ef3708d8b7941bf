"""Xception as published."""

from striate.models.published import Published, PublishedError

CHOLLET_2017 = 'Chollet 2017, "Xception: Deep Learning with Depthwise Separable Convolutions"'

ROWS = (
    Published(model="xception", figure="parameters", value=22_855_952, source=CHOLLET_2017 + ", table 3"),
    Published(
        model="xception",
        figure="macs",
        value=8_400_000_000,
        within=50_000_000,
        source="the model card of timm's legacy_xception.tf_in1k: 8.4 GMACs",
    ),
    Published(
        model="xception",
        figure="shape",
        layer="backbone.block3",
        value=(728, 19, 19),
        source=CHOLLET_2017 + ", figure 5: 19x19x728 feature maps",
    ),
    Published(
        model="xception",
        figure="shape",
        layer="backbone.middle",
        value=(728, 19, 19),
        source=CHOLLET_2017 + ", figure 5: 19x19x728 feature maps",
    ),
    Published(
        model="xception",
        figure="shape",
        layer="head.flatten",
        value=(2048,),
        source=CHOLLET_2017 + ", figure 5: 2048-dimensional vectors",
    ),
)

ERRORS = (
    PublishedError(
        model="xception", data="ImageNet", error=21.0, source=CHOLLET_2017 + ", table 1: accuracy 0.790, one crop"
    ),
    PublishedError(
        model="xception", data="ImageNet, top-5", error=5.5, source=CHOLLET_2017 + ", table 1: accuracy 0.945, one crop"
    ),
)
