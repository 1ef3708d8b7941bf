"""VGG: depth from small kernels.

Simonyan, Zisserman: "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015, arXiv 1409.1556,
table 1. Every convolution keeps the size of its map, ReLU follows it; "conv3-64" is 3x3 with 64 maps.

    vgg11        vgg11_lrn    vgg13        vgg16_c      vgg16        vgg19
    A            A-LRN        B            C            D            E            output
    conv3-64     conv3-64     conv3-64     conv3-64     conv3-64     conv3-64     64 x 224 x 224
                 LRN          conv3-64     conv3-64     conv3-64     conv3-64
    maxpool                                                                       64 x 112 x 112
    conv3-128    conv3-128    conv3-128    conv3-128    conv3-128    conv3-128
                              conv3-128    conv3-128    conv3-128    conv3-128
    maxpool                                                                       128 x 56 x 56
    conv3-256    conv3-256    conv3-256    conv3-256    conv3-256    conv3-256
    conv3-256    conv3-256    conv3-256    conv3-256    conv3-256    conv3-256
                                           conv1-256    conv3-256    conv3-256
                                                                     conv3-256
    maxpool                                                                       256 x 28 x 28
    conv3-512    conv3-512    conv3-512    conv3-512    conv3-512    conv3-512
    conv3-512    conv3-512    conv3-512    conv3-512    conv3-512    conv3-512
                                           conv1-512    conv3-512    conv3-512
                                                                     conv3-512
    maxpool                                                                       512 x 14 x 14
    conv3-512    conv3-512    conv3-512    conv3-512    conv3-512    conv3-512
    conv3-512    conv3-512    conv3-512    conv3-512    conv3-512    conv3-512
                                           conv1-512    conv3-512    conv3-512
                                                                     conv3-512
    maxpool                                                                       512 x 7 x 7
    FC-4096, FC-4096, FC-1000

    parameters, table 2, in millions
    133          133          133          134          138          144
    ours
    132,863,336  132,863,336  133,047,848  133,638,952  138,357,544  143,667,240
    multiply-accumulates
    7.61e9       7.61e9       11.31e9      11.77e9      15.47e9      19.63e9

The `_bn` networks have a batch normalisation between each convolution and its ReLU, which the paper has not; their
convolutions keep their biases, as torchvision's and timm's do.

Lectures (CS231n) give vgg16 24M activations, 93 MB for an image. Its convolutions, poolings and full layers have
15,087,080, with the image 15,237,608: 61 MB, or 58 MiB, in float32 (models/published/vgg.py).

Weights start as the paper would have them after its submission (section 3.1): by the rule of Glorot and Bengio 2010,
uniform with variance 2 / (fan-in + fan-out), those of the last layer small (`nn/initialise.py`), biases 0. The paper
itself began with vgg11, normal with variance 0.01, and took its weights for the first layers of the others.

Differences: any number of channels and classes, and any size from `SMALLEST`: the last map is averaged to 7x7, where
the paper slides the full layers over larger ones and averages the scores (section 3.2).

Letters: B images, C channels, H height, W width, K classes.
"""

from collections import OrderedDict
from dataclasses import dataclass

from torch import Tensor, nn

from striate.models.contract import Backbone, Classifier, Stage
from striate.models.weights import Names, Origin
from striate.nn.full_head import full_head
from striate.nn.initialise import initialise
from striate.nn.lrn import local_response_norm

MAPS = (64, 128, 256, 512, 512)  # table 1, by stage
SMALLEST = (32, 32)  # five poolings halve it


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One column of table 1."""

    convolutions: tuple[int, int, int, int, int]  # by stage
    third_is_1x1: bool = False  # the third convolution of a stage
    lrn: bool = False  # after the first convolution
    batch_norm: bool = False


VARIANTS: dict[str, Spec] = {
    "vgg11": Spec(convolutions=(1, 1, 2, 2, 2)),
    "vgg11_lrn": Spec(convolutions=(1, 1, 2, 2, 2), lrn=True),
    "vgg13": Spec(convolutions=(2, 2, 2, 2, 2)),
    "vgg16_c": Spec(convolutions=(2, 2, 3, 3, 3), third_is_1x1=True),
    "vgg16": Spec(convolutions=(2, 2, 3, 3, 3)),
    "vgg19": Spec(convolutions=(2, 2, 4, 4, 4)),
    "vgg11_bn": Spec(convolutions=(1, 1, 2, 2, 2), batch_norm=True),
    "vgg13_bn": Spec(convolutions=(2, 2, 2, 2, 2), batch_norm=True),
    "vgg16_bn": Spec(convolutions=(2, 2, 3, 3, 3), batch_norm=True),
    "vgg19_bn": Spec(convolutions=(2, 2, 4, 4, 4), batch_norm=True),
}


class VGG(Backbone):
    """The five stages of table 1, each with its pooling."""

    def __init__(self, spec: Spec, *, channels: int):
        super().__init__()

        def stage(in_channels: int, maps: int, convolutions: int, *, lrn: bool) -> nn.Sequential:
            layers = OrderedDict[str, nn.Module]()
            for number in range(1, convolutions + 1):
                kernel = 1 if number == 3 and spec.third_is_1x1 else 3
                layers[f"conv{number}"] = nn.Conv2d(in_channels, maps, kernel, padding=kernel // 2)
                if spec.batch_norm:
                    layers[f"norm{number}"] = nn.BatchNorm2d(maps)
                layers[f"relu{number}"] = nn.ReLU(inplace=True)
                in_channels = maps
            if lrn:
                layers["lrn"] = local_response_norm()
            layers["pool"] = nn.MaxPool2d(2)
            return nn.Sequential(layers)

        counts = spec.convolutions
        self.stage1 = stage(channels, MAPS[0], counts[0], lrn=spec.lrn)
        self.stage2 = stage(MAPS[0], MAPS[1], counts[1], lrn=False)
        self.stage3 = stage(MAPS[1], MAPS[2], counts[2], lrn=False)
        self.stage4 = stage(MAPS[2], MAPS[3], counts[3], lrn=False)
        self.stage5 = stage(MAPS[3], MAPS[4], counts[4], lrn=False)
        self.stages = tuple(
            Stage(name=f"stage{number}", channels=maps, stride=2**number) for number, maps in enumerate(MAPS, 1)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) images to the map after each pooling."""
        first = self.stage1(images)
        second = self.stage2(first)
        third = self.stage3(second)
        fourth = self.stage4(third)
        return [first, second, third, fourth, self.stage5(fourth)]


def build(variant: str, *, classes: int, channels: int, size: tuple[int, int]) -> Classifier:
    """A network of `VARIANTS`; ``size`` is only noted, any size from `SMALLEST` can be given to it."""
    backbone = VGG(VARIANTS[variant], channels=channels)
    model = Classifier(backbone, full_head(MAPS[-1], 7, classes), classes=classes, channels=channels, size=size)
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            initialise(layer, "softmax" if name == "head.fc8" else "saturating")
    return model


def _features(spec: Spec) -> Names:
    """Names there: all layers of the five stages numbered in one row."""
    rows: list[tuple[str, str]] = []
    there = 0
    for stage, count in enumerate(spec.convolutions, 1):
        for number in range(1, count + 1):
            rows.append((f"features.{there}.{{p}}", f"backbone.stage{stage}.conv{number}.{{p}}"))
            if spec.batch_norm:
                there += 1
                rows.append((f"features.{there}.{{p}}", f"backbone.stage{stage}.norm{number}.{{p}}"))
            there += 2  # the convolution, or normalisation, and ReLU
        there += 1  # the pooling
    return tuple(rows)


_TORCHVISION_HEAD: Names = (
    ("classifier.0.{p}", "head.fc6.{p}"),
    ("classifier.3.{p}", "head.fc7.{p}"),
    ("classifier.6.{p}", "head.fc8.{p}"),
)

_TIMM_HEAD: Names = (
    ("pre_logits.fc1.weight", "head.fc6.weight", (0, 512, 7, 7)),
    ("pre_logits.fc1.bias", "head.fc6.bias"),
    ("pre_logits.fc2.weight", "head.fc7.weight", (0, 0, 1, 1)),
    ("pre_logits.fc2.bias", "head.fc7.bias"),
    ("head.fc.{p}", "head.fc8.{p}"),
)


def origins(variant: str) -> dict[str, Origin]:
    """Libraries that have the network ``variant`` too."""
    if variant in ("vgg11_lrn", "vgg16_c"):
        return {}
    features = _features(VARIANTS[variant])
    return {
        "torchvision": Origin(model=variant, names=features + _TORCHVISION_HEAD),
        "timm": Origin(model=variant, names=features + _TIMM_HEAD),
    }
