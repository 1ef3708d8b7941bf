"""The residual networks for ImageNet and their descendants as published."""

from striate.models.published import Published, PublishedError

HE_2016 = 'He, Zhang, Ren, Sun 2016, "Deep Residual Learning for Image Recognition"'
XIE_2017 = 'Xie, Girshick, Dollar, Tu, He 2017, "Aggregated Residual Transformations for Deep Neural Networks"'
ZAGORUYKO_2016 = 'Zagoruyko, Komodakis 2016, "Wide Residual Networks"'
HU_2018 = 'Hu, Shen, Sun 2018, "Squeeze-and-Excitation Networks"'
TORCHVISION = "torchvision 0.29, model card"

# Model, parameters, multiply-accumulates in billions, accuracy of the weights IMAGENET1K_V1.
_CARDS = (
    ("resnet18", 11_689_512, 1.814, 69.758),
    ("resnet34", 21_797_672, 3.664, 73.314),
    ("resnet50", 25_557_032, 4.089, 76.130),
    ("resnet101", 44_549_160, 7.801, 77.374),
    ("resnet152", 60_192_808, 11.514, 78.312),
    ("resnext50_32x4d", 25_028_904, 4.230, 77.618),
    ("resnext101_32x8d", 88_791_336, 16.414, 79.312),
    ("resnext101_64x4d", 83_455_272, 15.460, 83.246),
    ("wide_resnet50_2", 68_883_240, 11.398, 78.468),
    ("wide_resnet101_2", 126_886_696, 22.753, 78.848),
)

_ELEMENTS = "multiply-accumulates only: what the table counts of sums, gates and means is not said."


def _shapes(model: str, expansion: int) -> tuple[Published, ...]:
    outputs = {
        "stem": (64, 112, 112),
        "stage1": (64 * expansion, 56, 56),
        "stage2": (128 * expansion, 28, 28),
        "stage3": (256 * expansion, 14, 14),
        "stage4": (512 * expansion, 7, 7),
    }
    return tuple(
        Published(model=model, figure="shape", layer=f"backbone.{layer}", value=value, source=HE_2016 + ", table 1")
        for layer, value in outputs.items()
    )


def _macs(model: str, billions: float, digits: int, source: str, disputed: str = "") -> Published:
    return Published(
        model=model,
        figure="macs",
        value=round(billions * 1_000_000_000),
        within=5 * 10 ** (8 - digits),
        source=f"{source}: {billions:.{digits}f} billion",
        disputed=disputed,
    )


def _parameters(model: str, millions: float, source: str, disputed: str = "") -> Published:
    return Published(
        model=model,
        figure="parameters",
        value=round(millions * 1_000_000),
        within=50_000,
        source=f"{source}: {millions:.1f}M",
        disputed=disputed,
    )


ROWS = (
    *_shapes("resnet18", 1),
    *_shapes("resnet34", 1),
    *_shapes("plain34", 1),
    *_shapes("resnet50", 4),
    *_shapes("resnet50_v1", 4),
    *_shapes("resnet101_v1", 4),
    *_shapes("resnet152_v1", 4),
    _macs("plain34", 3.6, 1, HE_2016 + ", figure 3"),
    _macs("resnet18_a", 1.8, 1, HE_2016 + ", table 1"),
    _macs("resnet18", 1.8, 1, HE_2016 + ", table 1"),
    _macs("resnet34_a", 3.6, 1, HE_2016 + ", table 1 and figure 3"),
    _macs(
        "resnet50_v1",
        3.8,
        1,
        HE_2016 + ", table 1",
        "3.858 billion with the projections and the full layer, which rounds to 3.9; 3.498 without the projections. "
        "Hu et al. 2018, table 2, count 3.86.",
    ),
    _macs("resnet101_v1", 7.6, 1, HE_2016 + ", table 1"),
    _macs("resnet152_v1", 11.3, 1, HE_2016 + ", table 1"),
    _macs("resnet50_v1", 3.86, 2, HU_2018 + ", table 2"),
    _macs(
        "resnet101_v1", 7.58, 2, HU_2018 + ", table 2", "7.570 here; 7.579 if each sum of a shortcut counts as well."
    ),
    _macs(
        "resnet152_v1", 11.30, 2, HU_2018 + ", table 2", "11.282 here; 11.296 if each sum of a shortcut counts as well."
    ),
    *(
        Published(model=model, figure="parameters", value=count, source=f"{TORCHVISION} of {model}")
        for model, count, _, _ in _CARDS
    ),
    *(_macs(model, billions, 3, f"{TORCHVISION} of {model}") for model, _, billions, _ in _CARDS),
    _parameters("resnet50", 25.6, ZAGORUYKO_2016 + ", table 8"),
    _parameters("resnet101", 44.5, ZAGORUYKO_2016 + ", table 8"),
    _parameters("resnet152", 60.2, ZAGORUYKO_2016 + ", table 8"),
    _parameters("wide_resnet50_2", 68.9, ZAGORUYKO_2016 + ", table 8"),
    _parameters(
        "resnet50",
        25.5,
        XIE_2017 + ", table 1",
        "25,503,912 weights and biases of convolutions and the full layer are 25.5M; with the scales and shifts of "
        "batch normalisation there are 25,557,032.",
    ),
    _parameters("resnext50_32x4d", 25.0, XIE_2017 + ", table 1"),
    _macs("resnet50", 4.1, 1, XIE_2017 + ", table 1"),
    _macs("resnext50_32x4d", 4.2, 1, XIE_2017 + ", table 1"),
    _macs("resnet101", 7.8, 1, XIE_2017 + ", table 3"),
    _parameters("seresnet50_v1", 28.1, HU_2018 + ", table 10"),
    _parameters("seresnet50", 28.1, HU_2018 + ", table 10"),
    _macs(
        "seresnet50_v1",
        3.87,
        2,
        HU_2018 + ", table 2",
        "3.860 here, " + _ELEMENTS,
    ),
    _macs(
        "seresnet101_v1",
        7.60,
        2,
        HU_2018 + ", table 2",
        "7.575 here, " + _ELEMENTS,
    ),
    _macs(
        "seresnet152_v1",
        11.32,
        2,
        HU_2018 + ", table 2",
        "11.289 here, " + _ELEMENTS,
    ),
    _macs(
        "seresnext50_32x4d",
        4.25,
        2,
        HU_2018 + ", table 2",
        "4.233 here, " + _ELEMENTS,
    ),
)

ERRORS = (
    PublishedError(model="plain18", data="ImageNet, 10 crops", error=27.94, source=HE_2016 + ", table 2"),
    PublishedError(model="plain34", data="ImageNet, 10 crops", error=28.54, source=HE_2016 + ", table 2"),
    PublishedError(model="resnet18_a", data="ImageNet, 10 crops", error=27.88, source=HE_2016 + ", table 2"),
    PublishedError(model="resnet34_a", data="ImageNet, 10 crops", error=25.03, source=HE_2016 + ", tables 2 and 3"),
    PublishedError(model="resnet34", data="ImageNet, 10 crops", error=24.52, source=HE_2016 + ", table 3"),
    PublishedError(model="resnet50_v1", data="ImageNet, 10 crops", error=22.85, source=HE_2016 + ", table 3"),
    PublishedError(model="resnet101_v1", data="ImageNet, 10 crops", error=21.75, source=HE_2016 + ", table 3"),
    PublishedError(model="resnet152_v1", data="ImageNet, 10 crops", error=21.43, source=HE_2016 + ", table 3"),
    *(
        PublishedError(model=model, data="ImageNet, five scales", error=error, source=HE_2016 + ", table 4")
        for model, error in (
            ("resnet34", 21.84),
            ("resnet50_v1", 20.74),
            ("resnet101_v1", 19.87),
            ("resnet152_v1", 19.38),
        )
    ),
    *(
        PublishedError(model=model, data="ImageNet, one crop", error=error, source=source)
        for model, error, source in (
            ("resnet50_v1", 24.7, HU_2018 + ", table 2: the authors' own, from their code's page"),
            ("resnet101_v1", 23.6, HU_2018 + ", table 2: the authors' own, from their code's page"),
            ("resnet152_v1", 23.0, HU_2018 + ", table 2: the authors' own, from their code's page"),
            ("resnet50", 23.9, XIE_2017 + ", table 3"),
            ("resnet101", 22.0, XIE_2017 + ", table 3"),
            ("resnext50_32x4d", 22.2, XIE_2017 + ", table 3"),
            ("resnext101_64x4d", 20.4, XIE_2017 + ", table 4"),
            ("wide_resnet50_2", 21.9, ZAGORUYKO_2016 + ", table 8"),
            ("seresnet50_v1", 23.29, HU_2018 + ", table 2"),
            ("seresnet101_v1", 22.38, HU_2018 + ", table 2"),
            ("seresnet152_v1", 21.57, HU_2018 + ", table 2"),
            ("seresnext50_32x4d", 21.10, HU_2018 + ", table 2"),
        )
    ),
    *(
        PublishedError(
            model=model,
            data="ImageNet, one crop",
            error=round(100 - accuracy, 3),
            source=f"{TORCHVISION} of {model}, IMAGENET1K_V1",
        )
        for model, _, _, accuracy in _CARDS
    ),
)
