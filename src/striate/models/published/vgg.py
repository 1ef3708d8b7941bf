"""VGG as published, and as it is taught."""

from striate.models.published import Published, PublishedError

SIMONYAN_2015 = 'Simonyan, Zisserman 2015, "Very Deep Convolutional Networks for Large-Scale Image Recognition"'
HE_2016 = 'He, Zhang, Ren, Sun 2016, "Deep Residual Learning for Image Recognition"'
CS231N = "CS231n, notes on convolutional networks: VGGNet in detail"
TORCHVISION = "torchvision, model card"

# CS231n's table of vgg16: layer, activations, weights without biases, biases.
_LAYERS = (
    ("backbone.stage1.conv1", 224 * 224 * 64, 1_728, 64),
    ("backbone.stage1.conv2", 224 * 224 * 64, 36_864, 64),
    ("backbone.stage1.pool", 112 * 112 * 64, 0, 0),
    ("backbone.stage2.conv1", 112 * 112 * 128, 73_728, 128),
    ("backbone.stage2.conv2", 112 * 112 * 128, 147_456, 128),
    ("backbone.stage2.pool", 56 * 56 * 128, 0, 0),
    ("backbone.stage3.conv1", 56 * 56 * 256, 294_912, 256),
    ("backbone.stage3.conv2", 56 * 56 * 256, 589_824, 256),
    ("backbone.stage3.conv3", 56 * 56 * 256, 589_824, 256),
    ("backbone.stage3.pool", 28 * 28 * 256, 0, 0),
    ("backbone.stage4.conv1", 28 * 28 * 512, 1_179_648, 512),
    ("backbone.stage4.conv2", 28 * 28 * 512, 2_359_296, 512),
    ("backbone.stage4.conv3", 28 * 28 * 512, 2_359_296, 512),
    ("backbone.stage4.pool", 14 * 14 * 512, 0, 0),
    ("backbone.stage5.conv1", 14 * 14 * 512, 2_359_296, 512),
    ("backbone.stage5.conv2", 14 * 14 * 512, 2_359_296, 512),
    ("backbone.stage5.conv3", 14 * 14 * 512, 2_359_296, 512),
    ("backbone.stage5.pool", 7 * 7 * 512, 0, 0),
    ("head.fc6", 4_096, 102_760_448, 4_096),
    ("head.fc7", 4_096, 16_777_216, 4_096),
    ("head.fc8", 1_000, 4_096_000, 1_000),
)
_MILLIONS = {"vgg11": 133, "vgg11_lrn": 133, "vgg13": 133, "vgg16_c": 134, "vgg16": 138, "vgg19": 144}
_POOLED = (("stage1", 64, 112), ("stage2", 128, 56), ("stage3", 256, 28), ("stage4", 512, 14), ("stage5", 512, 7))
# Parameters, billions of multiply-accumulates, top-1 accuracy in percent.
_CARDS = {
    "vgg11": (132_863_336, 7.609, 69.020),
    "vgg13": (133_047_848, 11.308, 69.928),
    "vgg16": (138_357_544, 15.470, 71.592),
    "vgg19": (143_667_240, 19.632, 72.376),
    "vgg11_bn": (132_868_840, 7.609, 70.370),
    "vgg13_bn": (133_053_736, 11.308, 71.586),
    "vgg16_bn": (138_365_992, 15.470, 73.360),
    "vgg19_bn": (143_678_248, 19.632, 74.218),
}
# Table 3, one test scale: top-1 and top-5 errors in percent, best row of each network.
_ERRORS = {
    "vgg11": (29.6, 10.4),
    "vgg11_lrn": (29.7, 10.5),
    "vgg13": (28.7, 9.9),
    "vgg16_c": (27.3, 8.8),
    "vgg16": (25.6, 8.1),
    "vgg19": (25.5, 8.0),
}

ROWS = (
    *(
        Published(
            model=model,
            figure="parameters",
            value=millions * 1_000_000,
            within=500_000,
            source=f"{SIMONYAN_2015}, table 2: {millions} million",
        )
        for model, millions in _MILLIONS.items()
    ),
    *(
        Published(model="vgg16", figure="shape", layer=f"backbone.{stage}", value=(maps, side, side), source=CS231N)
        for stage, maps, side in _POOLED
    ),
    *(
        Published(model="vgg16", figure="activations", layer=layer, value=activations, source=CS231N)
        for layer, activations, _, _ in _LAYERS
    ),
    *(
        Published(
            model="vgg16",
            figure="parameters",
            layer=layer,
            value=weights,
            within=biases,
            source=f"{CS231N}, without the {biases:,} biases" if biases else CS231N,
        )
        for layer, _, weights, biases in _LAYERS
    ),
    Published(
        model="vgg16",
        figure="activations",
        value=24_000_000,
        within=500_000,
        source=CS231N + ": TOTAL memory 24M * 4 bytes = 93 MB / image",
        disputed="its own rows add up to 15,087,080, and to 15,237,608 with the 150,528 of the image: 15.2M * 4 bytes "
        "= 61 MB (58 MiB)",
    ),
    Published(
        model="vgg16", figure="parameters", value=138_000_000, within=500_000, source=CS231N + ": TOTAL params 138M"
    ),
    Published(
        model="vgg16",
        figure="macs",
        value=15_300_000_000,
        within=50_000_000,
        source=HE_2016 + ", table 1 and section 1: 15.3 billion",
        disputed="the convolutions alone take 15.35 billion, with the full layers it is 15.47",
    ),
    Published(
        model="vgg19",
        figure="macs",
        value=19_600_000_000,
        within=50_000_000,
        source=HE_2016 + ", section 3.3: 19.6 billion",
    ),
    *(
        Published(model=model, figure="parameters", value=parameters, source=f"{TORCHVISION} of {model}")
        for model, (parameters, _, _) in _CARDS.items()
    ),
    *(
        Published(
            model=model,
            figure="macs",
            value=round(billions * 1e9),
            within=500_000,
            source=f"{TORCHVISION} of {model}: {billions:.3f} GFLOPS",
        )
        for model, (_, billions, _) in _CARDS.items()
    ),
)

ERRORS = (
    *(
        PublishedError(model=model, data="ImageNet 2012 (validation)", error=top1, source=SIMONYAN_2015 + ", table 3")
        for model, (top1, _) in _ERRORS.items()
    ),
    *(
        PublishedError(
            model=model, data="ImageNet 2012 (validation), top-5", error=top5, source=SIMONYAN_2015 + ", table 3"
        )
        for model, (_, top5) in _ERRORS.items()
    ),
    *(
        PublishedError(
            model=model,
            data="ImageNet 2012 (validation)",
            error=round(100 - accuracy, 3),
            source=f"{TORCHVISION} of {model}: {accuracy:.3f} correct",
        )
        for model, (_, _, accuracy) in _CARDS.items()
    ),
)
