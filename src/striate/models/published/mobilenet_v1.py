"""MobileNet as published."""

from striate.models.published import Published, PublishedError

HOWARD_2017 = 'Howard et al. 2017, "MobileNets", arXiv 1704.04861'
TABLE_6 = HOWARD_2017 + ", table 6"

ROWS = (
    Published(
        model="mobilenet_v1",
        figure="parameters",
        value=4_200_000,
        within=50_000,
        source=HOWARD_2017 + ", table 4: 4.2M",
    ),
    Published(
        model="mobilenet_v1", figure="macs", value=569_000_000, within=500_000, source=HOWARD_2017 + ", table 4: 569M"
    ),
    *(
        row
        for model, parameters, macs in (
            ("mobilenet_v1", 4.2, 569),
            ("mobilenet_v1_075", 2.6, 325),
            ("mobilenet_v1_050", 1.3, 149),
            ("mobilenet_v1_025", 0.5, 41),
        )
        for row in (
            Published(
                model=model,
                figure="parameters",
                value=round(parameters * 1e6),
                within=50_000,
                source=f"{TABLE_6}: {parameters}M",
            ),
            Published(model=model, figure="macs", value=macs * 10**6, within=500_000, source=f"{TABLE_6}: {macs}M"),
        )
    ),
    *(
        Published(
            model="mobilenet_v1",
            figure="shape",
            layer=f"backbone.{layer}",
            value=value,
            source=HOWARD_2017 + ", table 1",
        )
        for layer, value in (
            ("stem", (32, 112, 112)),
            ("stage1", (64, 112, 112)),
            ("stage2", (128, 56, 56)),
            ("stage3", (256, 28, 28)),
            ("stage4", (512, 14, 14)),
            ("stage5", (1024, 7, 7)),
        )
    ),
    Published(
        model="mobilenet_v1",
        figure="macs",
        layer="backbone.stage4.1",
        value=52_300_000,
        within=50_000,
        source=HOWARD_2017 + ", table 3: a depthwise separable layer on 14 x 14 x 512, 52.3M",
    ),
    Published(
        model="mobilenet_v1",
        figure="parameters",
        layer="backbone.stage4.1",
        value=270_000,
        within=5_000,
        source=HOWARD_2017 + ", table 3: a depthwise separable layer on 14 x 14 x 512, 0.27M",
    ),
)

ERRORS = tuple(
    PublishedError(model=model, data="ImageNet", error=error, source=f"{TABLE_6} (accuracy {100 - error:.1f}%)")
    for model, error in (
        ("mobilenet_v1", 29.4),
        ("mobilenet_v1_075", 31.6),
        ("mobilenet_v1_050", 36.3),
        ("mobilenet_v1_025", 49.4),
    )
)
