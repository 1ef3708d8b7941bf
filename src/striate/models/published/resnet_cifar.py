"""The residual networks for CIFAR-10 as published."""

from striate.models.published import Published, PublishedError

HE_2016 = 'He, Zhang, Ren, Sun 2016, "Deep Residual Learning for Image Recognition"'

ROWS = (
    Published(model="resnet20", figure="parameters", value=270_000, within=5_000, source=HE_2016 + ", table 6: 0.27M"),
    Published(model="resnet32", figure="parameters", value=460_000, within=5_000, source=HE_2016 + ", table 6: 0.46M"),
    Published(model="resnet44", figure="parameters", value=660_000, within=5_000, source=HE_2016 + ", table 6: 0.66M"),
    Published(model="resnet56", figure="parameters", value=850_000, within=5_000, source=HE_2016 + ", table 6: 0.85M"),
    Published(
        model="resnet110", figure="parameters", value=1_700_000, within=50_000, source=HE_2016 + ", table 6: 1.7M"
    ),
    Published(
        model="resnet20", figure="shape", layer="backbone.stage1", value=(16, 32, 32), source=HE_2016 + ", section 4.2"
    ),
    Published(
        model="resnet20", figure="shape", layer="backbone.stage2", value=(32, 16, 16), source=HE_2016 + ", section 4.2"
    ),
    Published(
        model="resnet20", figure="shape", layer="backbone.stage3", value=(64, 8, 8), source=HE_2016 + ", section 4.2"
    ),
)

ERRORS = (
    PublishedError(model="resnet20", data="CIFAR-10", error=8.75, source=HE_2016 + ", table 6"),
    PublishedError(model="resnet32", data="CIFAR-10", error=7.51, source=HE_2016 + ", table 6"),
    PublishedError(model="resnet44", data="CIFAR-10", error=7.17, source=HE_2016 + ", table 6"),
    PublishedError(model="resnet56", data="CIFAR-10", error=6.97, source=HE_2016 + ", table 6"),
    PublishedError(model="resnet110", data="CIFAR-10", error=6.43, source=HE_2016 + ", table 6 (best of 5)"),
)
