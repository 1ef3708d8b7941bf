"""MobileNetV2 as published."""

from striate.models.published import Published, PublishedError

SANDLER_2018 = 'Sandler et al. 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks"'

ROWS = (
    Published(
        model="mobilenet_v2",
        figure="parameters",
        value=3_400_000,
        within=50_000,
        source=SANDLER_2018 + ", table 4: 3.4M",
        disputed="3,504,872 by table 2; without the scales and shifts of batch normalisation 3,470,760, cut off",
    ),
    Published(
        model="mobilenet_v2",
        figure="macs",
        value=300_000_000,
        within=5_000_000,  # table 4 prints 300M beside 575M and 585M: to the nearest 5 or 10
        source=SANDLER_2018 + ", table 4: 300M",
    ),
    *(
        Published(model="mobilenet_v2", figure="shape", layer=layer, value=value, source=SANDLER_2018 + ", table 2")
        for layer, value in (
            ("backbone.stem", (32, 112, 112)),
            ("backbone.bottleneck1", (16, 112, 112)),
            ("backbone.bottleneck2", (24, 56, 56)),
            ("backbone.bottleneck3", (32, 28, 28)),
            ("backbone.bottleneck4", (64, 14, 14)),
            ("backbone.bottleneck5", (96, 14, 14)),
            ("backbone.bottleneck6", (160, 7, 7)),
            ("backbone.bottleneck7", (320, 7, 7)),
            ("head.conv", (1280, 7, 7)),
        )
    ),
)

ERRORS = (
    PublishedError(
        model="mobilenet_v2", data="ImageNet", error=28.0, source=SANDLER_2018 + ", table 4 (accuracy 72.0%)"
    ),
)
