"""SqueezeNet as published."""

from striate.models.published import Published, PublishedError

IANDOLA_2016 = 'Iandola et al. 2016, "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters"'
TORCHVISION = "torchvision, model card"

_PARAMETERS = {
    "backbone.stem.conv1": 14_208,
    "backbone.stage1.fire2": 11_920,
    "backbone.stage1.fire3": 12_432,
    "backbone.stage1.fire4": 45_344,
    "backbone.stage2.fire5": 49_440,
    "backbone.stage2.fire6": 104_880,
    "backbone.stage2.fire7": 111_024,
    "backbone.stage2.fire8": 188_992,
    "backbone.stage3.fire9": 197_184,
    "head.conv10": 513_000,
    "": 1_248_424,
}
_SHAPES = {
    "backbone.stage2.pool": (256, 27, 27),
    "backbone.stage2.fire5": (256, 27, 27),
    "backbone.stage2.fire6": (384, 27, 27),
    "backbone.stage2.fire7": (384, 27, 27),
    "backbone.stage2.fire8": (512, 27, 27),
    "backbone.stage3.fire9": (512, 13, 13),
    "head.conv10": (1000, 13, 13),
    "head.pool10": (1000, 1, 1),
}
_SHAPES_OF_227 = {
    "backbone.stem.conv1": (96, 111, 111),
    "backbone.stage1.pool": (96, 55, 55),
    "backbone.stage1.fire2": (128, 55, 55),
    "backbone.stage1.fire3": (128, 55, 55),
    "backbone.stage1.fire4": (256, 55, 55),
}

ROWS = (
    *(
        Published(
            model="squeezenet1_0", figure="parameters", layer=layer, value=parameters, source=IANDOLA_2016 + ", table 1"
        )
        for layer, parameters in _PARAMETERS.items()
    ),
    *(
        Published(model="squeezenet1_0", figure="shape", layer=layer, value=shape, source=IANDOLA_2016 + ", table 1")
        for layer, shape in _SHAPES.items()
    ),
    *(
        Published(
            model="squeezenet1_0",
            figure="shape",
            layer=layer,
            value=shape,
            source=IANDOLA_2016 + ", table 1",
            disputed="holds for images of 227x227, which the authors' code takes; the table's 224x224 give 109x109 "
            "and, pooled, 54x54",
        )
        for layer, shape in _SHAPES_OF_227.items()
    ),
    Published(
        model="squeezenet1_0",
        figure="shape",
        layer="backbone.stage3.pool",
        value=(512, 13, 12),
        source=IANDOLA_2016 + ", table 1",
        disputed="a misprint for 13x13, as the next row of the table has it",
    ),
    Published(
        model="squeezenet1_0_bypass",
        figure="parameters",
        value=1_248_424,
        source=IANDOLA_2016 + ", section 6: simple bypass adds no parameters",
    ),
    Published(
        model="squeezenet1_0",
        figure="macs",
        value=819_000_000,
        within=500_000,
        source=TORCHVISION + " of squeezenet1_0: 0.819 GFLOPS",
    ),
    Published(model="squeezenet1_1", figure="parameters", value=1_235_496, source=TORCHVISION + " of squeezenet1_1"),
    Published(
        model="squeezenet1_1",
        figure="macs",
        value=349_000_000,
        within=500_000,
        source=TORCHVISION + " of squeezenet1_1: 0.349 GFLOPS",
    ),
)

ERRORS = (
    PublishedError(
        model="squeezenet1_0", data="ImageNet 2012 (validation)", error=42.5, source=IANDOLA_2016 + ", table 2"
    ),
    PublishedError(
        model="squeezenet1_0", data="ImageNet 2012 (validation), top-5", error=19.7, source=IANDOLA_2016 + ", table 2"
    ),
    PublishedError(
        model="squeezenet1_0_bypass", data="ImageNet 2012 (validation)", error=39.6, source=IANDOLA_2016 + ", table 3"
    ),
    PublishedError(
        model="squeezenet1_0_bypass",
        data="ImageNet 2012 (validation), top-5",
        error=17.5,
        source=IANDOLA_2016 + ", table 3",
    ),
    PublishedError(
        model="squeezenet1_1",
        data="ImageNet 2012 (validation)",
        error=41.822,
        source=TORCHVISION + " of squeezenet1_1: 58.178 correct",
    ),
)
