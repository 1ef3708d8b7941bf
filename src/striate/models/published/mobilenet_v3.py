"""MobileNetV3 as published."""

from striate.models.published import Published, PublishedError

HOWARD_2019 = 'Howard et al. 2019, "Searching for MobileNetV3"'

ROWS = (
    Published(
        model="mobilenet_v3_large",
        figure="parameters",
        value=5_400_000,
        within=50_000,
        source=HOWARD_2019 + ", table 3: 5.4M",
        disputed="5,483,032 by table 1: cut off, not rounded",
    ),
    Published(
        model="mobilenet_v3_large",
        figure="macs",
        value=219_000_000,
        within=500_000,
        source=HOWARD_2019 + ", table 3: 219M",
        disputed="the convolutions and full layers of table 1 make 216.6M",
    ),
    Published(
        model="mobilenet_v3_large",
        figure="macs",
        value=217_000_000,
        within=500_000,
        source="Keras documentation, MobileNetV3Large: 217M, for the authors' weights",
    ),
    Published(
        model="mobilenet_v3_small",
        figure="parameters",
        value=2_500_000,
        within=50_000,
        source=HOWARD_2019 + ", table 3: 2.5M",
    ),
    Published(
        model="mobilenet_v3_small",
        figure="macs",
        value=56_000_000,
        within=500_000,
        source=HOWARD_2019 + ", table 3: 56M",
        disputed="56,510,400 by table 2: cut off, not rounded",
    ),
    *(
        Published(
            model=f"mobilenet_v3_{model}", figure="shape", layer=layer, value=value, source=f"{HOWARD_2019}, {table}"
        )
        for model, table, layers in (
            (
                "large",
                "table 1",
                (
                    ("backbone.stem", (16, 112, 112)),
                    ("backbone.stage1.0", (16, 112, 112)),
                    ("backbone.stage2.1", (24, 56, 56)),
                    ("backbone.stage3.2", (40, 28, 28)),
                    ("backbone.stage4.0", (80, 14, 14)),
                    ("backbone.stage4.5", (112, 14, 14)),
                    ("backbone.stage5.2", (160, 7, 7)),
                    ("head.conv", (960, 7, 7)),
                    ("head.hidden", (1280,)),
                ),
            ),
            (
                "small",
                "table 2",
                (
                    ("backbone.stem", (16, 112, 112)),
                    ("backbone.stage2.0", (16, 56, 56)),
                    ("backbone.stage3.1", (24, 28, 28)),
                    ("backbone.stage4.2", (40, 14, 14)),
                    ("backbone.stage4.4", (48, 14, 14)),
                    ("backbone.stage5.2", (96, 7, 7)),
                    ("head.conv", (576, 7, 7)),
                    ("head.hidden", (1024,)),
                ),
            ),
        )
        for layer, value in layers
    ),
)

ERRORS = (
    PublishedError(
        model="mobilenet_v3_large", data="ImageNet", error=24.8, source=HOWARD_2019 + ", table 3 (accuracy 75.2%)"
    ),
    PublishedError(
        model="mobilenet_v3_small", data="ImageNet", error=32.6, source=HOWARD_2019 + ", table 3 (accuracy 67.4%)"
    ),
)
