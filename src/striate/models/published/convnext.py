"""ConvNeXt as published."""

from striate.models.published import Published, PublishedError

LIU_2022 = 'Liu et al. 2022, "A ConvNet for the 2020s"'
TABLE_1 = LIU_2022 + ", table 1"

# Name, parameters in millions, mult-adds in tenths of a billion, top-1 accuracy.
_ROWS = (
    ("convnext_tiny", 29, 45, 82.1),
    ("convnext_small", 50, 87, 83.1),
    ("convnext_base", 89, 154, 83.8),
    ("convnext_large", 198, 344, 84.3),
)

ROWS = (
    *(
        Published(
            model=model,
            figure="parameters",
            value=parameters * 10**6,
            within=500_000,
            source=f"{TABLE_1}: {parameters}M",
        )
        for model, parameters, _, _ in _ROWS
    ),
    *(
        Published(
            model=model,
            figure="macs",
            value=macs * 10**8,
            within=50_000_000,
            source=f"{TABLE_1}: {macs / 10}G (there called FLOPs)",
        )
        for model, _, macs, _ in _ROWS
    ),
    *(
        Published(model="convnext_tiny", figure="shape", layer=layer, value=value, source=LIU_2022 + ", table 9")
        for layer, value in (
            ("backbone.stem", (96, 56, 56)),
            ("backbone.stage1", (96, 56, 56)),
            ("backbone.stage2", (192, 28, 28)),
            ("backbone.stage3", (384, 14, 14)),
            ("backbone.stage4", (768, 7, 7)),
        )
    ),
)

ERRORS = tuple(
    PublishedError(model=model, data="ImageNet", error=round(100 - top1, 1), source=f"{TABLE_1} (accuracy {top1}%)")
    for model, _, _, top1 in _ROWS
)
