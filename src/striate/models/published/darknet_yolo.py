"""The network of YOLO's pretraining as published."""

from striate.models.published import Published, PublishedError

REDMON_2016 = 'Redmon, Divvala, Girshick, Farhadi 2016, "You Only Look Once: Unified, Real-Time Object Detection"'

ROWS = (
    Published(
        model="darknet_yolo",
        figure="shape",
        layer="backbone.block5",
        value=(1024, 7, 7),
        source=REDMON_2016 + ", figure 3 (14x14 at 448x448; its caption: pretraining at half the resolution)",
    ),
    Published(
        model="darknet_yolo",
        figure="macs",
        value=4_260_000_000,
        within=5_000_000,
        source="Redmon, Darknet: ImageNet classification (web page): Extraction, 8.52 billion operations, two for each",
        disputed="there the classifier is a 1x1 convolution before the average, which takes 49 times as many as the "
        "full layer of the paper; with it ours are 4,259,340,288",
    ),
)

ERRORS = (
    PublishedError(
        model="darknet_yolo",
        data="ImageNet 2012 (validation), top-5",
        error=12.0,
        source=REDMON_2016 + ", section 2.2: 88% right",
    ),
)
