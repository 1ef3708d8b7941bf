"""OverFeat as published."""

from striate.models.published import Published, PublishedError

SERMANET_2014 = (
    'Sermanet et al. 2014, "OverFeat: Integrated Recognition, Localization and Detection using Convolutional Networks"'
)

# What a layer reads (tables 1 and 3) is what the one before it gives.
_FAST = {
    "backbone.layer2": (256, 12, 12),
    "backbone.layer3": (512, 12, 12),
    "backbone.layer4": (1024, 12, 12),
    "head.pool": (1024, 6, 6),
    "head.full1": (3072, 1, 1),
    "head.rest.full2": (4096, 1, 1),
}
_ACCURATE = {
    "backbone.layer1": (96, 36, 36),
    "backbone.layer2": (256, 15, 15),
    "backbone.layer3": (512, 15, 15),
    "backbone.layer4": (512, 15, 15),
    "backbone.layer5": (1024, 15, 15),
    "head.pool": (1024, 5, 5),
    "head.full1": (4096, 1, 1),
    "head.rest.full2": (4096, 1, 1),
}

ROWS = (
    *(
        Published(model="overfeat_fast", figure="shape", layer=layer, value=shape, source=SERMANET_2014 + ", table 1")
        for layer, shape in _FAST.items()
    ),
    Published(
        model="overfeat_fast",
        figure="shape",
        layer="backbone.layer1",
        value=(96, 24, 24),
        source=SERMANET_2014 + ", table 1: input of layer 2",
        disputed="231 pixels in steps of 4 give 56x56, pooled 28x28; 24x24 is what layer 2 makes of that before it is "
        "pooled",
    ),
    *(
        Published(
            model="overfeat_accurate", figure="shape", layer=layer, value=shape, source=SERMANET_2014 + ", table 3"
        )
        for layer, shape in _ACCURATE.items()
    ),
    Published(
        model="overfeat_fast",
        figure="parameters",
        value=145_000_000,
        within=999_999,
        source=SERMANET_2014 + ", table 4: 145 million, cut off",
    ),
    Published(
        model="overfeat_accurate",
        figure="parameters",
        value=144_000_000,
        within=999_999,
        source=SERMANET_2014 + ", table 4: 144 million, cut off",
    ),
    Published(
        model="overfeat_fast",
        figure="macs",
        value=2_810_000_000,
        within=500_000,
        source=SERMANET_2014 + ", table 4: 2,810 million connections",
        disputed="the layers of table 1 take 2,801 million, 2,802 with the biases",
    ),
    Published(
        model="overfeat_accurate",
        figure="macs",
        value=5_369_000_000,
        within=500_000,
        source=SERMANET_2014 + ", table 4: 5,369 million connections",
        disputed="the layers of table 3 take 5,355 million, 5,357 with the biases",
    ),
)

# Table 2, one network: the fast one at one scale and the coarse stride, the accurate one at four and the fine one.
ERRORS = (
    PublishedError(
        model="overfeat_fast", data="ImageNet 2012 (validation)", error=39.28, source=SERMANET_2014 + ", table 2"
    ),
    PublishedError(
        model="overfeat_fast",
        data="ImageNet 2012 (validation), top-5",
        error=17.12,
        source=SERMANET_2014 + ", table 2",
    ),
    PublishedError(
        model="overfeat_accurate", data="ImageNet 2012 (validation)", error=35.74, source=SERMANET_2014 + ", table 2"
    ),
    PublishedError(
        model="overfeat_accurate",
        data="ImageNet 2012 (validation), top-5",
        error=14.18,
        source=SERMANET_2014 + ", table 2",
    ),
)
