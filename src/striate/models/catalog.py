"""Every architecture by name, and the one way to build a network from a name or a layer pattern."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from striate.errors import ModelFileError, UsageError, did_you_mean
from striate.models import pattern as patterns
from striate.models import timm_provider
from striate.models.backbones import (
    alexnet,
    convnext,
    darknet_yolo,
    densenet,
    efficientnet,
    googlenet,
    inception_v3,
    lenet,
    mobilenet_v1,
    mobilenet_v2,
    mobilenet_v3,
    overfeat,
    perceptron,
    resnet,
    resnet_cifar,
    resnet_preact,
    squeezenet,
    vgg,
    vit,
    xception,
)
from striate.models.contract import Classifier
from striate.models.weights import Origin, adapt_channels, fit, growing, matching, to_ours


class Builder(Protocol):
    """Builds one network."""

    def __call__(self, *, classes: int, channels: int, size: tuple[int, int]) -> Classifier:
        """Build it for ``classes`` classes and (B, channels, height, width) images of ``size``."""
        ...


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One line of the catalog."""

    build: Builder
    summary: str
    images: tuple[int, int, int]  # channels, height, width of the published network's input
    classes: int  # of the published network
    only_size: bool = False  # it takes images of that size only
    smallest: tuple[int, int] = (1, 1)  # height, width of the smallest input that it trains on one image at a time
    multiple: int = 1  # height and width of an input are multiples of it
    origins: Mapping[str, Origin] = field(default_factory=dict[str, Origin])  # other libraries that have it
    task: str = "classification"


class _Family(Protocol):
    """An architecture file whose networks other libraries have too."""

    @property
    def SMALLEST(self) -> tuple[int, int] | Mapping[str, tuple[int, int]]:  # noqa: N802 (a constant of the file)
        """Of all its variants, or of each."""
        ...

    def build(self, variant: str, *, classes: int, channels: int, size: tuple[int, int]) -> Classifier: ...

    def origins(self, variant: str) -> Mapping[str, Origin]: ...


def _imagenet(family: _Family, variant: str, summary: str, *, size: tuple[int, int] = (224, 224)) -> Architecture:
    """A network published with 1,000 classes of colour images."""
    smallest = family.SMALLEST
    return Architecture(
        build=partial(family.build, variant),
        summary=summary,
        images=(3, *size),
        classes=1000,
        smallest=smallest[variant] if isinstance(smallest, Mapping) else smallest,
        origins=family.origins(variant),
    )


_digits = partial(Architecture, images=(1, 28, 28), classes=10)


def _cifar(variant: str, summary: str) -> Architecture:
    return Architecture(
        build=partial(resnet_cifar.build, variant),
        summary=summary,
        images=(3, 32, 32),
        classes=10,
        smallest=resnet_cifar.SMALLEST,
    )


def _efficientnet(variant: str, summary: str) -> Architecture:
    side = efficientnet.VARIANTS[variant].size
    return _imagenet(
        efficientnet,
        variant,
        f"{summary} (Tan and Le 2019)",
        size=(side, side),
    )


def _vit(variant: str, summary: str) -> Architecture:
    patch = vit.VARIANTS[variant].patch
    return Architecture(
        build=partial(vit.build, variant),
        summary=f"{summary} (Dosovitskiy et al. 2021)",
        images=(3, 224, 224),
        classes=1000,
        smallest=(patch, patch),
        multiple=patch,
        origins=vit.origins(variant),
    )


CATALOG: dict[str, Architecture] = {
    # LeCun et al. 1990, 1998
    "linear": _digits(
        build=partial(perceptron.build, "linear"), summary="one weight per pixel and class (LeCun et al. 1998)"
    ),
    "lenet300": _digits(
        build=partial(perceptron.build, "lenet300"), summary="one hidden layer of 300 units (LeCun et al. 1998)"
    ),
    "lenet300-100": _digits(
        build=partial(perceptron.build, "lenet300-100"),
        summary="hidden layers of 300 and 100 units (LeCun et al. 1998)",
    ),
    "lenet1": _digits(
        build=partial(lenet.build, "lenet1"),
        only_size=True,
        summary="the convolutional network of 1990, 2,578 parameters (LeCun et al. 1990)",
    ),
    "lenet5": Architecture(
        build=partial(lenet.build, "lenet5"),
        images=(1, 32, 32),
        classes=10,
        only_size=True,
        summary="LeNet-5 as published, 60,000 parameters (LeCun et al. 1998)",
    ),
    "lenet5_modern": _digits(
        build=partial(lenet.build, "lenet5_modern"),
        only_size=True,
        summary="LeNet-5 with max-pooling and ReLU, 61,706 parameters",
    ),
    # He et al. 2016, section 4.2
    "resnet20": _cifar("resnet20", "20 layers with shortcuts, for 32x32 images (He et al. 2016)"),
    "resnet32": _cifar("resnet32", "32 layers with shortcuts, for 32x32 images (He et al. 2016)"),
    "resnet44": _cifar("resnet44", "44 layers with shortcuts, for 32x32 images (He et al. 2016)"),
    "resnet56": _cifar("resnet56", "56 layers with shortcuts, for 32x32 images (He et al. 2016)"),
    "resnet110": _cifar("resnet110", "110 layers with shortcuts, for 32x32 images (He et al. 2016)"),
    "plain20": _cifar("plain20", "resnet20 without its shortcuts (He et al. 2016)"),
    "plain32": _cifar("plain32", "resnet32 without its shortcuts (He et al. 2016)"),
    "plain44": _cifar("plain44", "resnet44 without its shortcuts (He et al. 2016)"),
    "plain56": _cifar("plain56", "resnet56 without its shortcuts (He et al. 2016)"),
    "plain110": _cifar("plain110", "resnet110 without its shortcuts (He et al. 2016)"),
    # He et al. 2016, table 1; v1.5
    "resnet18": _imagenet(
        resnet,
        "resnet18",
        "18 layers with shortcuts, option B (He et al. 2016)",
    ),
    "resnet34": _imagenet(
        resnet,
        "resnet34",
        "34 layers with shortcuts, option B (He et al. 2016)",
    ),
    "resnet50": _imagenet(
        resnet,
        "resnet50",
        "50 layers of bottlenecks, v1.5: the 3x3 convolution halves (He et al. 2016)",
    ),
    "resnet101": _imagenet(
        resnet,
        "resnet101",
        "101 layers of bottlenecks, v1.5: the 3x3 convolution halves (He et al. 2016)",
    ),
    "resnet152": _imagenet(
        resnet,
        "resnet152",
        "152 layers of bottlenecks, v1.5: the 3x3 convolution halves (He et al. 2016)",
    ),
    "resnet50_v1": _imagenet(
        resnet,
        "resnet50_v1",
        "50 layers of bottlenecks as published: the first 1x1 convolution halves (He et al. 2016)",
    ),
    "resnet101_v1": _imagenet(
        resnet,
        "resnet101_v1",
        "101 layers of bottlenecks as published: the first 1x1 convolution halves (He et al. 2016)",
    ),
    "resnet152_v1": _imagenet(
        resnet,
        "resnet152_v1",
        "152 layers of bottlenecks as published: the first 1x1 convolution halves (He et al. 2016)",
    ),
    "resnet18_a": _imagenet(
        resnet,
        "resnet18_a",
        "resnet18 with shortcuts of option A, without parameters (He et al. 2016)",
    ),
    "resnet34_a": _imagenet(
        resnet,
        "resnet34_a",
        "resnet34 with shortcuts of option A, without parameters (He et al. 2016)",
    ),
    "plain18": _imagenet(
        resnet,
        "plain18",
        "resnet18 without its shortcuts (He et al. 2016)",
    ),
    "plain34": _imagenet(
        resnet,
        "plain34",
        "resnet34 without its shortcuts (He et al. 2016)",
    ),
    # Xie et al. 2017, Mahajan et al. 2018
    "resnext50_32x4d": _imagenet(
        resnet,
        "resnext50_32x4d",
        "resnet50 with 3x3 convolutions in 32 groups of 4 channels (Xie et al. 2017)",
    ),
    "resnext101_32x8d": _imagenet(
        resnet,
        "resnext101_32x8d",
        "resnet101 with 3x3 convolutions in 32 groups of 8 channels (Mahajan et al. 2018)",
    ),
    "resnext101_64x4d": _imagenet(
        resnet,
        "resnext101_64x4d",
        "resnet101 with 3x3 convolutions in 64 groups of 4 channels (Xie et al. 2017)",
    ),
    # Zagoruyko and Komodakis 2016
    "wide_resnet50_2": _imagenet(
        resnet,
        "wide_resnet50_2",
        "resnet50 with 3x3 convolutions twice as wide (Zagoruyko and Komodakis 2016)",
    ),
    "wide_resnet101_2": _imagenet(
        resnet,
        "wide_resnet101_2",
        "resnet101 with 3x3 convolutions twice as wide (Zagoruyko and Komodakis 2016)",
    ),
    # Hu et al. 2018
    "seresnet18": _imagenet(
        resnet,
        "seresnet18",
        "resnet18 with squeeze and excitation (Hu et al. 2018)",
    ),
    "seresnet34": _imagenet(
        resnet,
        "seresnet34",
        "resnet34 with squeeze and excitation (Hu et al. 2018)",
    ),
    "seresnet50": _imagenet(
        resnet,
        "seresnet50",
        "resnet50 with squeeze and excitation (Hu et al. 2018)",
    ),
    "seresnet101": _imagenet(
        resnet,
        "seresnet101",
        "resnet101 with squeeze and excitation (Hu et al. 2018)",
    ),
    "seresnet152": _imagenet(
        resnet,
        "seresnet152",
        "resnet152 with squeeze and excitation (Hu et al. 2018)",
    ),
    "seresnet50_v1": _imagenet(
        resnet,
        "seresnet50_v1",
        "resnet50_v1 with squeeze and excitation, as published (Hu et al. 2018)",
    ),
    "seresnet101_v1": _imagenet(
        resnet,
        "seresnet101_v1",
        "resnet101_v1 with squeeze and excitation, as published (Hu et al. 2018)",
    ),
    "seresnet152_v1": _imagenet(
        resnet,
        "seresnet152_v1",
        "resnet152_v1 with squeeze and excitation, as published (Hu et al. 2018)",
    ),
    "seresnext50_32x4d": _imagenet(
        resnet,
        "seresnext50_32x4d",
        "resnext50_32x4d with squeeze and excitation (Hu et al. 2018)",
    ),
    # He et al. 2016, pre-activation
    "preact_resnet110": Architecture(
        build=partial(resnet_preact.build, "preact_resnet110"),
        summary="110 layers of pre-activation, for 32x32 images (He et al. 2016)",
        images=(3, 32, 32),
        classes=10,
        smallest=resnet_preact.SMALLEST["preact_resnet110"],
    ),
    "preact_resnet164": Architecture(
        build=partial(resnet_preact.build, "preact_resnet164"),
        summary="164 layers of pre-activation, for 32x32 images (He et al. 2016)",
        images=(3, 32, 32),
        classes=10,
        smallest=resnet_preact.SMALLEST["preact_resnet164"],
    ),
    "preact_resnet18": _imagenet(
        resnet_preact,
        "preact_resnet18",
        "18 layers of pre-activation, ResNet v2 (He et al. 2016)",
    ),
    "preact_resnet34": _imagenet(
        resnet_preact,
        "preact_resnet34",
        "34 layers of pre-activation, ResNet v2 (He et al. 2016)",
    ),
    "preact_resnet50": _imagenet(
        resnet_preact,
        "preact_resnet50",
        "50 layers of pre-activation, ResNet v2 (He et al. 2016)",
    ),
    "preact_resnet101": _imagenet(
        resnet_preact,
        "preact_resnet101",
        "101 layers of pre-activation, ResNet v2 (He et al. 2016)",
    ),
    "preact_resnet152": _imagenet(
        resnet_preact,
        "preact_resnet152",
        "152 layers of pre-activation, ResNet v2 (He et al. 2016)",
    ),
    "preact_resnet200": _imagenet(
        resnet_preact,
        "preact_resnet200",
        "200 layers of pre-activation, ResNet v2 (He et al. 2016)",
    ),
    "resnetv2_18": _imagenet(
        resnet_preact,
        "resnetv2_18",
        "18 layers of pre-activation, ResNet v2 as in timm (He et al. 2016)",
    ),
    "resnetv2_34": _imagenet(
        resnet_preact,
        "resnetv2_34",
        "34 layers of pre-activation, ResNet v2 as in timm (He et al. 2016)",
    ),
    "resnetv2_50": _imagenet(
        resnet_preact,
        "resnetv2_50",
        "50 layers of pre-activation, ResNet v2 as in timm (He et al. 2016)",
    ),
    "resnetv2_101": _imagenet(
        resnet_preact,
        "resnetv2_101",
        "101 layers of pre-activation, ResNet v2 as in timm (He et al. 2016)",
    ),
    "resnetv2_152": _imagenet(
        resnet_preact,
        "resnetv2_152",
        "152 layers of pre-activation, ResNet v2 as in timm (He et al. 2016)",
    ),
    # Krizhevsky et al. 2012, 2014
    "alexnet_two_tower": _imagenet(
        alexnet,
        "alexnet_two_tower",
        "AlexNet split over two devices, as published (Krizhevsky et al. 2012)",
        size=(227, 227),
    ),
    "alexnet_one_tower": _imagenet(
        alexnet,
        "alexnet_one_tower",
        "AlexNet without the split, as it is taught (Krizhevsky et al. 2012)",
        size=(227, 227),
    ),
    "alexnet": _imagenet(
        alexnet,
        "alexnet",
        "AlexNet on one device (Krizhevsky 2014)",
    ),
    # Howard et al. 2017
    "mobilenet_v1": _imagenet(
        mobilenet_v1,
        "mobilenet_v1",
        "depthwise separable convolutions, 4.2M parameters (Howard et al. 2017)",
    ),
    "mobilenet_v1_075": _imagenet(
        mobilenet_v1,
        "mobilenet_v1_075",
        "three quarters of the channels (Howard et al. 2017)",
    ),
    "mobilenet_v1_050": _imagenet(
        mobilenet_v1,
        "mobilenet_v1_050",
        "half of the channels (Howard et al. 2017)",
    ),
    "mobilenet_v1_025": _imagenet(
        mobilenet_v1,
        "mobilenet_v1_025",
        "a quarter of the channels (Howard et al. 2017)",
    ),
    # Szegedy et al. 2014
    "googlenet": _imagenet(
        googlenet,
        "googlenet",
        "Inception modules and auxiliary classifiers, as published (Szegedy et al. 2014)",
    ),
    "googlenet_bn": _imagenet(
        googlenet,
        "googlenet_bn",
        "GoogLeNet with batch normalisation, as torchvision has it",
    ),
    # Sandler et al. 2018
    "mobilenet_v2": _imagenet(
        mobilenet_v2,
        "mobilenet_v2",
        "inverted residuals, 3.5M parameters (Sandler et al. 2018)",
    ),
    # Howard et al. 2019
    "mobilenet_v3_large": _imagenet(
        mobilenet_v3,
        "mobilenet_v3_large",
        "inverted residuals by search, 5.5M parameters (Howard et al. 2019)",
    ),
    "mobilenet_v3_small": _imagenet(
        mobilenet_v3,
        "mobilenet_v3_small",
        "inverted residuals by search, 2.5M parameters (Howard et al. 2019)",
    ),
    # Simonyan, Zisserman 2015
    "vgg11": _imagenet(
        vgg,
        "vgg11",
        "A, 8 convolutions (Simonyan, Zisserman 2015)",
    ),
    "vgg11_lrn": _imagenet(
        vgg,
        "vgg11_lrn",
        "A with local response normalisation (Simonyan, Zisserman 2015)",
    ),
    "vgg13": _imagenet(
        vgg,
        "vgg13",
        "B, 10 convolutions (Simonyan, Zisserman 2015)",
    ),
    "vgg16_c": _imagenet(
        vgg,
        "vgg16_c",
        "C, 13 convolutions, 3 of them 1x1 (Simonyan, Zisserman 2015)",
    ),
    "vgg16": _imagenet(
        vgg,
        "vgg16",
        "D, 13 convolutions (Simonyan, Zisserman 2015)",
    ),
    "vgg19": _imagenet(
        vgg,
        "vgg19",
        "E, 16 convolutions (Simonyan, Zisserman 2015)",
    ),
    "vgg11_bn": _imagenet(
        vgg,
        "vgg11_bn",
        "vgg11 with batch normalisation",
    ),
    "vgg13_bn": _imagenet(
        vgg,
        "vgg13_bn",
        "vgg13 with batch normalisation",
    ),
    "vgg16_bn": _imagenet(
        vgg,
        "vgg16_bn",
        "vgg16 with batch normalisation",
    ),
    "vgg19_bn": _imagenet(
        vgg,
        "vgg19_bn",
        "vgg19 with batch normalisation",
    ),
    # Szegedy et al. 2015
    "inception_v3": _imagenet(
        inception_v3,
        "inception_v3",
        "factorised convolutions, batch normalisation, 299x299 (Szegedy et al. 2015)",
        size=(299, 299),
    ),
    # Tan and Le 2019
    "efficientnet_b0": _efficientnet("efficientnet_b0", "depth, width and resolution balanced, 5.3M parameters"),
    "efficientnet_b1": _efficientnet("efficientnet_b1", "EfficientNet-B0 scaled up for 240x240 images"),
    "efficientnet_b2": _efficientnet("efficientnet_b2", "EfficientNet-B0 scaled up for 260x260 images"),
    "efficientnet_b3": _efficientnet("efficientnet_b3", "EfficientNet-B0 scaled up for 300x300 images"),
    "efficientnet_b4": _efficientnet("efficientnet_b4", "EfficientNet-B0 scaled up for 380x380 images"),
    "efficientnet_b5": _efficientnet("efficientnet_b5", "EfficientNet-B0 scaled up for 456x456 images"),
    "efficientnet_b6": _efficientnet("efficientnet_b6", "EfficientNet-B0 scaled up for 528x528 images"),
    "efficientnet_b7": _efficientnet("efficientnet_b7", "EfficientNet-B0 scaled up for 600x600 images"),
    "efficientnet_lite0": _efficientnet(
        "efficientnet_lite0", "EfficientNet-B0 for phones: ReLU6, no squeeze and excitation"
    ),
    # Sermanet et al. 2014
    "overfeat_fast": _imagenet(
        overfeat,
        "overfeat_fast",
        "the fast network for whole images (Sermanet et al. 2014)",
        size=overfeat.VARIANTS["overfeat_fast"].size,
    ),
    "overfeat_accurate": _imagenet(
        overfeat,
        "overfeat_accurate",
        "the accurate network for whole images (Sermanet et al. 2014)",
        size=overfeat.VARIANTS["overfeat_accurate"].size,
    ),
    # Redmon et al. 2016
    "darknet_yolo": _imagenet(
        darknet_yolo,
        "darknet_yolo",
        "the first 20 convolutions of YOLO (Redmon et al. 2016)",
    ),
    # Liu et al. 2022
    "convnext_tiny": _imagenet(
        convnext,
        "convnext_tiny",
        "ConvNeXt-T, 29M parameters (Liu et al. 2022)",
    ),
    "convnext_small": _imagenet(
        convnext,
        "convnext_small",
        "ConvNeXt-S, 50M parameters (Liu et al. 2022)",
    ),
    "convnext_base": _imagenet(
        convnext,
        "convnext_base",
        "ConvNeXt-B, 89M parameters (Liu et al. 2022)",
    ),
    "convnext_large": _imagenet(
        convnext,
        "convnext_large",
        "ConvNeXt-L, 198M parameters (Liu et al. 2022)",
    ),
    # Chollet 2017
    "xception": _imagenet(
        xception,
        "xception",
        "depthwise separable convolutions with shortcuts, 299x299 (Chollet 2017)",
        size=(299, 299),
    ),
    # Iandola et al. 2016
    "squeezenet1_0": _imagenet(
        squeezenet,
        "squeezenet1_0",
        "fire modules, 1.2 million parameters (Iandola et al. 2016)",
    ),
    "squeezenet1_0_bypass": _imagenet(
        squeezenet,
        "squeezenet1_0_bypass",
        "squeezenet1_0 with shortcuts (Iandola et al. 2016)",
    ),
    "squeezenet1_1": _imagenet(
        squeezenet,
        "squeezenet1_1",
        "as accurate as squeezenet1_0 for less than half the work",
    ),
    # Dosovitskiy et al. 2021
    "vit_b_16": _vit("vit_b_16", "transformer on patches of 16x16, base, 87M parameters"),
    "vit_b_32": _vit("vit_b_32", "transformer on patches of 32x32, base, 88M parameters"),
    "vit_l_16": _vit("vit_l_16", "transformer on patches of 16x16, large, 304M parameters"),
    "vit_l_32": _vit("vit_l_32", "transformer on patches of 32x32, large, 307M parameters"),
    "vit_h_14": _vit("vit_h_14", "transformer on patches of 14x14, huge, 632M parameters"),
    # Huang et al. 2017
    "densenet121": _imagenet(
        densenet,
        "densenet121",
        "each layer reads all before it (Huang et al. 2017)",
    ),
    "densenet161": _imagenet(
        densenet,
        "densenet161",
        "DenseNet with k = 48, of the authors' code",
    ),
    "densenet169": _imagenet(
        densenet,
        "densenet169",
        "DenseNet with 169 layers, k = 32 (Huang et al. 2017)",
    ),
    "densenet201": _imagenet(
        densenet,
        "densenet201",
        "DenseNet with 201 layers, k = 32 (Huang et al. 2017)",
    ),
    "densenet264": _imagenet(
        densenet,
        "densenet264",
        "DenseNet with 264 layers, k = 32 (Huang et al. 2017)",
    ),
}


def names(pattern: str | None = None) -> list[str]:
    """The names of the catalog, in its order; ``pattern`` is a glob such as ``resnet*`` or a part, in any case."""
    return [name for name in CATALOG if matches(name, pattern)]


def matches(name: str, pattern: str | None) -> bool:
    """Whether a name fits a pattern, as `names` reads it; every name fits None."""
    if pattern is None:
        return True
    glob = pattern.casefold() if set(pattern) & set("*?[") else f"*{pattern.casefold()}*"
    return fnmatchcase(name.casefold(), glob)


def published_for(name: str) -> tuple[tuple[int, int, int], int]:
    """Channels, height and width of the images, and the classes, that a network was published for.

    Raises:
        UsageError: for a name that does not exist.
    """
    architecture = find(name)
    return architecture.images, architecture.classes


def published(name: str) -> Classifier:
    """The network as it was published, for its own images and classes, on the meta device: shapes without weights."""
    (channels, height, width), classes = published_for(name)
    with torch.device("meta"):
        return create(name, classes=classes, channels=channels, size=(height, width))


def parameters(name: str) -> int:
    """Trainable parameters of the published network."""
    return sum(parameter.numel() for parameter in published(name).parameters() if parameter.requires_grad)


def find(name: str) -> Architecture:
    """The architecture called ``name``: one of the catalog, ``timm:NAME``, or a layer pattern.

    A layer pattern is for any images; 32x32 colour images of ten classes stand for them. Of it and of timm's networks
    the smallest size is not known.

    Raises:
        UsageError: naming the nearest real ones.
    """
    if timm_provider.is_timm(name):
        return Architecture(
            build=partial(timm_provider.build, name),
            summary="a network of timm",
            images=timm_provider.images(name),
            classes=timm_provider.classes(name),
            origins=timm_provider.origins(name),
        )
    if patterns.looks_like_pattern(name):
        return Architecture(
            build=partial(patterns.build, name), summary="a layer pattern", images=(3, 32, 32), classes=10
        )
    if name not in CATALOG:
        raise UsageError(
            f"there is no model {name!r}.{did_you_mean(name, CATALOG)} `striate models` lists them all; a network can "
            "also be written as layers, as in 'CONV 32 -> RELU -> POOL -> FC'."
        )
    return CATALOG[name]


def native_size(name: str) -> tuple[int, int] | None:
    """Height and width of the only images that ``name`` takes; None where any size will do, as for a layer pattern.

    Raises:
        UsageError: for a name that does not exist.
    """
    architecture = find(name)
    return architecture.images[1:] if architecture.only_size else None


def create(name: str, *, classes: int, channels: int, size: tuple[int, int]) -> Classifier:
    """Build a network.

    Args:
        name: a name of the catalog, a layer pattern (`striate.models.pattern`), or ``timm:NAME``.
        classes: K, at least 2.
        channels: of the images, at least 1.
        size: height and width of the images in pixels.

    Raises:
        UsageError: for an unknown name, a pattern that is wrong, or numbers that the network cannot take.
    """
    if classes < 2 or channels < 1 or min(size) < 1:
        raise UsageError(
            f"a classifier needs at least 2 classes, 1 channel and 1x1 pixels; asked for {classes} classes, {channels} "
            f"channels and {size[0]}x{size[1]} pixels."
        )
    architecture = find(name)
    asked = f"{size[0]}x{size[1]}"
    _, height, width = architecture.images
    if architecture.only_size and size != (height, width):
        raise UsageError(
            f"{name} takes images of {height}x{width} pixels only, not {asked}: set the size to {height}x{width}, so "
            "that images are resized or padded to it, or take a model for any size, such as resnet20."
        )
    if size[0] % architecture.multiple or size[1] % architecture.multiple:
        step = architecture.multiple
        near = [max(1, round(side / step)) * step for side in size]
        raise UsageError(
            f"{name} takes images whose height and width are multiples of {step} pixels, its patch, not {asked}: set "
            f"the size to {near[0]}x{near[1]}."
        )
    height, width = architecture.smallest
    if (size[0] < height or size[1] < width) and (reason := obstacle(name, size)):
        raise UsageError(f"{name} cannot take images of {asked} pixels: {reason}. {_enough(name, size)}")
    return architecture.build(classes=classes, channels=channels, size=size)


def obstacle(name: str, size: tuple[int, int], *, batch: int = 1, training: bool = False) -> str:
    """Why a network cannot take images of ``size``, in words that name the layer; "" where it can.

    Args:
        name: a name of the catalog, a layer pattern, or ``timm:NAME``.
        size: height and width.
        batch: images at a time; batch normalisation in training wants more than one value per channel.
        training: train it rather than evaluate it, auxiliary heads included.
    """
    architecture = find(name)
    channels = architecture.images[0]
    with torch.device("meta"):
        network = architecture.build(classes=2, channels=channels, size=size).train(training)
        images = torch.empty(batch, channels, *size)
    last: list[tuple[str, tuple[int, ...]]] = []

    def note(path: str, inputs: tuple[object, ...]) -> None:
        if inputs and isinstance(inputs[0], Tensor):
            last[:] = [(path, tuple(inputs[0].shape))]

    for path, module in network.named_modules():
        if not list(module.children()):
            module.register_forward_pre_hook(lambda _, inputs, path=path: note(path, inputs))
    try:
        outputs = network.training_logits(images) if training else {"": network(images)}
    except (RuntimeError, ValueError, AssertionError):
        path, shape = last[-1] if last else ("its first layer", images.shape)
        side = "x".join(map(str, shape[2:])) or f"{shape[-1]} long"
        if batch == 1 and training and all(size == 1 for size in shape[2:]):
            return f"what reaches {path} is {side}: one value per channel, and no variance, where images come alone"
        return f"what reaches {path} is {side}, too small for it"
    return "" if all(logits.numel() for logits in outputs.values()) else "nothing is left of the map"


def _enough(name: str, size: tuple[int, int]) -> str:
    """The smallest size from ``size`` on that works."""
    architecture = find(name)
    low, high = 0, max(architecture.smallest)  # an obstacle at low, none at high
    while high - low > 1:
        middle = (low + high) // 2
        if obstacle(name, (max(size[0], middle), max(size[1], middle))):
            low = middle
        else:
            high = middle
    return f"The smallest that works is {max(size[0], high)}x{max(size[1], high)}."


def load_noting(
    name: str,
    tensors: Mapping[str, Tensor],
    *,
    where: str,
    origin: str,
    classes: int | None = None,
    channels: int | None = None,
    size: tuple[int, int] | None = None,
    new_head: bool = False,
    made_for: tuple[int, int] | None = None,
) -> tuple[Classifier, tuple[str, ...]]:
    """Build a network of the catalog, give it the weights of a checkpoint, and say what was not taken as it is.

    Args:
        name: a name of the catalog, a layer pattern, or ``timm:NAME``.
        tensors: the checkpoint, under the names of its library.
        where: the checkpoint comes from, for messages.
        origin: ``striate``, ``torchvision``, ``timm``: whose names they are.
        classes: K; the checkpoint's own number when left out.
        channels: of the images; the published network's when left out. Weights for another number are adapted as
            `adapt_channels` says.
        size: height and width of the images; the published network's when left out.
        new_head: keep the fresh weights of the last layer where its number of classes differs.
        made_for: height and width of the images that the weights were made for, where that is known.

    Returns:
        The network, and a sentence for everything that was adapted or made anew.

    Raises:
        UsageError: an unknown name or origin.
        ModelFileError: weights that do not fit, in words.
    """
    notes: list[str] = []
    known = find(name).origins
    if origin not in ("striate", *known):
        raise UsageError(
            f"{name} knows no checkpoints of {origin!r}; origin is one of {', '.join(('striate', *known))}."
        )
    images, published_classes = published_for(name)
    height, width = size or images[1:]

    def build(classes: int, channels: int) -> Classifier:
        return create(name, classes=classes, channels=channels, size=(height, width))

    with torch.device("meta"):
        shapes = build(published_classes, images[0])
    ours = dict(tensors)
    if origin != "striate" or not set(ours) <= set(shapes.state_dict()):
        others = matching(tensors, known)
        if others and origin not in others:  # two libraries can use the same names
            raise ModelFileError(
                f"the names in {where} are not {origin}'s but {' or '.join(others)}'s: give that as the origin."
            )
    if origin != "striate":
        try:
            ours = to_ours(tensors, shapes, known[origin])
        except ModelFileError as error:
            raise ModelFileError(f"{where} does not hold {name} as {origin} names it: {error}") from error
    channels = channels or images[0]
    for key, place in growing(lambda count: build(published_classes, count), 3).items():
        if key in ours and ours[key].dim() == 4 and place == 1 and ours[key].shape[1] != channels:
            rule = "summed" if channels == 1 else "repeated and scaled"
            notes.append(f"{key} for {ours[key].shape[1]} channels is {rule} for {channels}")
            ours[key] = adapt_channels(ours[key], channels)
    heads = growing(lambda count: build(count, channels), 11)
    there = {ours[key].shape[place] for key, place in heads.items() if key in ours and ours[key].dim() > place}
    if classes is None:
        classes = there.pop() if len(there) == 1 else published_classes
    network = build(classes, channels)
    if there - {classes}:
        if not new_head:
            raise ModelFileError(
                f"the head of {where} knows {', '.join(map(str, sorted(there)))} classes, {classes} were asked for: "
                "leave the number of classes out to take the checkpoint's, or ask for a new head."
            )
        own = network.state_dict()
        ours |= {key: own[key] for key in heads}
        notes.append(f"the last layer for {', '.join(map(str, sorted(there)))} classes is made anew for {classes}")
    if made_for != (height, width):
        place = "backbone."
        trunk = {key.removeprefix(place): tensor for key, tensor in ours.items() if key.startswith(place)}
        ours |= {place + key: tensor for key, tensor in network.backbone.adapt(trunk).items()}
    # Files from before torch counted the batches of a normalisation lack the count, which nothing here reads.
    ours |= {
        key: torch.zeros((), dtype=torch.int64)
        for key in network.state_dict()
        if key.endswith("num_batches_tracked") and key not in ours
    }
    fit(network, ours, where)
    return network, tuple(notes)


def load(
    name: str,
    tensors: Mapping[str, Tensor],
    *,
    where: str,
    origin: str,
    classes: int | None = None,
    channels: int | None = None,
    size: tuple[int, int] | None = None,
    new_head: bool = False,
) -> Classifier:
    """The network of `load_noting` alone."""
    return load_noting(
        name,
        tensors,
        where=where,
        origin=origin,
        classes=classes,
        channels=channels,
        size=size,
        new_head=new_head,
    )[0]
