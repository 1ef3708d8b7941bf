"""EfficientNet as published."""

from striate.models.published import Published, PublishedError

TAN_2019 = 'Tan and Le 2019, "EfficientNet", arXiv 1905.11946'
TABLE_2 = TAN_2019 + ", table 2"
LITE = "the authors' published code, efficientnet/lite, README"

# Name, parameters in millions and mult-adds in billions as printed (with their last digit), top-1 accuracy.
_ROWS = (
    ("efficientnet_b0", "5.3", "0.39", 77.1),
    ("efficientnet_b1", "7.8", "0.70", 79.1),
    ("efficientnet_b2", "9.2", "1.0", 80.1),
    ("efficientnet_b3", "12", "1.8", 81.6),
    ("efficientnet_b4", "19", "4.2", 82.9),
    ("efficientnet_b5", "30", "9.9", 83.6),
    ("efficientnet_b6", "43", "19", 84.0),
    ("efficientnet_b7", "66", "37", 84.3),
)
_DISPUTED = {
    ("efficientnet_b1", "macs"): "table 1 scaled by the published code makes 0.687 billion at 240 x 240",
    ("efficientnet_b2", "parameters"): "9,109,994 trainable; 9.18M with the running means and variances",
    ("efficientnet_b4", "macs"): "table 1 scaled by the published code makes 4.39 billion at 380 x 380",
    ("efficientnet_b5", "macs"): "table 1 scaled by the published code makes 10.3 billion at 456 x 456",
    ("efficientnet_b7", "macs"): "table 1 scaled by the published code makes 37.7 billion at 600 x 600",
}


def _half_a_digit(printed: str, unit: int) -> int:
    return unit // 10 ** len(printed.partition(".")[2]) // 2


ROWS = (
    *(
        Published(
            model=model,
            figure="parameters",
            value=round(float(parameters) * 1e6),
            within=_half_a_digit(parameters, 10**6),
            source=f"{TABLE_2}: {parameters}M",
            disputed=_DISPUTED.get((model, "parameters"), ""),
        )
        for model, parameters, _, _ in _ROWS
    ),
    *(
        Published(
            model=model,
            figure="macs",
            value=round(float(macs) * 1e9),
            within=_half_a_digit(macs, 10**9),
            source=f"{TABLE_2}: {macs}B (there called FLOPs)",
            disputed=_DISPUTED.get((model, "macs"), ""),
        )
        for model, _, macs, _ in _ROWS
    ),
    *(
        Published(model="efficientnet_b0", figure="shape", layer=layer, value=value, source=TAN_2019 + ", table 1")
        for layer, value in (
            ("backbone.stem", (32, 112, 112)),
            ("backbone.stage2", (16, 112, 112)),
            ("backbone.stage3", (24, 56, 56)),
            ("backbone.stage4", (40, 28, 28)),
            ("backbone.stage5", (80, 14, 14)),
            ("backbone.stage6", (112, 14, 14)),
            ("backbone.stage7", (192, 7, 7)),
            ("backbone.stage8", (320, 7, 7)),
            ("head.conv", (1280, 7, 7)),
        )
    ),
    Published(model="efficientnet_lite0", figure="parameters", value=4_700_000, within=50_000, source=LITE + ": 4.7M"),
    Published(
        model="efficientnet_lite0",
        figure="macs",
        value=407_000_000,
        within=500_000,
        source=LITE + ": 407M",
        disputed="table 1 without squeeze and excitation makes 385M, less than the 0.39B of B0",
    ),
)

ERRORS = (
    *(
        PublishedError(model=model, data="ImageNet", error=round(100 - top1, 1), source=f"{TABLE_2} (accuracy {top1}%)")
        for model, _, _, top1 in _ROWS
    ),
    PublishedError(model="efficientnet_lite0", data="ImageNet", error=24.9, source=LITE + " (accuracy 75.1%)"),
)
