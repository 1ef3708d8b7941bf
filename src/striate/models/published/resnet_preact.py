"""The pre-activation residual networks as published."""

from striate.models.published import Published, PublishedError

HE_2016 = 'He, Zhang, Ren, Sun 2016, "Identity Mappings in Deep Residual Networks"'
HE_2016A = 'He, Zhang, Ren, Sun 2016, "Deep Residual Learning for Image Recognition"'
ZAGORUYKO_2016 = 'Zagoruyko, Komodakis 2016, "Wide Residual Networks"'

ROWS = (
    Published(
        model="preact_resnet164",
        figure="parameters",
        value=1_700_000,
        within=50_000,
        source=HE_2016 + ", table 4: 1.7M",
    ),
    Published(
        model="preact_resnet110",
        figure="parameters",
        value=1_700_000,
        within=50_000,
        source=HE_2016 + ", table 4: 1.7M (with the original units, which have as many)",
    ),
    Published(
        model="preact_resnet200",
        figure="parameters",
        value=64_700_000,
        within=50_000,
        source=ZAGORUYKO_2016 + ", table 8: 64.7M",
    ),
    *(
        Published(
            model=model, figure="shape", layer=f"backbone.stage{stage}", value=value, source=HE_2016A + ", section 4.2"
        )
        for model, expansion in (("preact_resnet110", 1), ("preact_resnet164", 4))
        for stage, value in enumerate(
            ((16 * expansion, 32, 32), (32 * expansion, 16, 16), (64 * expansion, 8, 8)), start=1
        )
    ),
    *(
        Published(
            model=model, figure="shape", layer=f"backbone.stage{stage}", value=value, source=HE_2016A + ", table 1"
        )
        for model, expansion in (("preact_resnet34", 1), ("preact_resnet152", 4))
        for stage, value in enumerate(
            (
                (64 * expansion, 56, 56),
                (128 * expansion, 28, 28),
                (256 * expansion, 14, 14),
                (512 * expansion, 7, 7),
            ),
            start=1,
        )
    ),
)

ERRORS = (
    PublishedError(
        model="preact_resnet110", data="CIFAR-10", error=6.37, source=HE_2016 + ", table 3 (median of 5 runs)"
    ),
    PublishedError(
        model="preact_resnet164", data="CIFAR-10", error=5.46, source=HE_2016 + ", table 3 (median of 5 runs)"
    ),
    PublishedError(
        model="preact_resnet164", data="CIFAR-100", error=24.33, source=HE_2016 + ", table 3 (median of 5 runs)"
    ),
    PublishedError(
        model="preact_resnet152", data="ImageNet, one crop of 320x320", error=21.1, source=HE_2016 + ", table 5"
    ),
    PublishedError(
        model="preact_resnet200", data="ImageNet, one crop of 320x320", error=20.7, source=HE_2016 + ", table 5"
    ),
)
