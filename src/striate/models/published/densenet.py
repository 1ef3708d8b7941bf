"""DenseNet as published."""

from striate.models.published import Published, PublishedError

HUANG_2017 = 'Huang, Liu, van der Maaten, Weinberger 2017, "Densely Connected Convolutional Networks"'
AUTHORS_CODE = "the README of the authors' code (github.com/liuzhuang13/DenseNet)"
TORCHVISION = "torchvision 0.29, the model's IMAGENET1K_V1"

# Output sizes of table 1; the channels follow from k and the layers.
_SHAPES = (
    ("backbone.conv", (64, 112, 112)),
    ("backbone.pool", (64, 56, 56)),
    ("backbone.block1", (256, 56, 56)),
    ("backbone.transition1", (128, 28, 28)),
    ("backbone.block2", (512, 28, 28)),
    ("backbone.transition2", (256, 14, 14)),
    ("backbone.block3", (1024, 14, 14)),
    ("backbone.transition3", (512, 7, 7)),
    ("backbone.block4", (1024, 7, 7)),
    ("head.pool", (1024, 1, 1)),
    ("head.fc", (1000,)),
)

# Parameters, and multiply-accumulates in millions.
_TORCHVISION = (
    ("densenet121", 7_978_856, 2_834),
    ("densenet161", 28_681_000, 7_728),
    ("densenet169", 14_149_480, 3_360),
    ("densenet201", 20_013_928, 4_291),
)

ROWS = (
    *(
        Published(model="densenet121", figure="shape", layer=layer, value=value, source=HUANG_2017 + ", table 1")
        for layer, value in _SHAPES
    ),
    *(
        Published(model=model, figure="parameters", value=parameters, source=TORCHVISION + ": num_params")
        for model, parameters, _ in _TORCHVISION
    ),
    *(
        Published(
            model=model,
            figure="macs",
            value=millions * 1_000_000,
            within=500_000,
            source=f"{TORCHVISION}: {millions / 1000} GFLOPS of multiply-accumulates",
        )
        for model, _, millions in _TORCHVISION
    ),
    Published(
        model="densenet201",
        figure="parameters",
        value=20_000_000,
        within=500_000,
        source=HUANG_2017 + ", section 4.4: 20M",
    ),
)

# Table 3, one crop: top-1, top-5.
_ERRORS = (
    ("densenet121", 25.02, 7.71),
    ("densenet169", 23.80, 6.85),
    ("densenet201", 22.58, 6.34),
    ("densenet264", 22.15, 6.12),
)

ERRORS = (
    *(
        PublishedError(model=model, data="ImageNet", error=first, source=HUANG_2017 + ", table 3, one crop")
        for model, first, _ in _ERRORS
    ),
    *(
        PublishedError(model=model, data="ImageNet, top-5", error=fifth, source=HUANG_2017 + ", table 3, one crop")
        for model, _, fifth in _ERRORS
    ),
    PublishedError(model="densenet161", data="ImageNet", error=22.2, source=AUTHORS_CODE),
)
