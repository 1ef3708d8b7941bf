"""Every architecture by name, and the one way to build a network from a name or a layer pattern."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Protocol

import torch

from striate.errors import UsageError, did_you_mean
from striate.models import pattern as patterns
from striate.models.backbones import lenet, perceptron, resnet_cifar
from striate.models.contract import Classifier


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
    size: tuple[int, int] | None = None  # height, width: the only input size; None: any
    smallest: tuple[int, int] = (1, 1)  # height, width of the smallest input
    task: str = "classification"


_residual = partial(Architecture, smallest=resnet_cifar.SMALLEST)

CATALOG: dict[str, Architecture] = {
    "linear": Architecture(
        build=partial(perceptron.build, "linear"), summary="one weight per pixel and class (LeCun et al. 1998)"
    ),
    "lenet300": Architecture(
        build=partial(perceptron.build, "lenet300"), summary="one hidden layer of 300 units (LeCun et al. 1998)"
    ),
    "lenet300-100": Architecture(
        build=partial(perceptron.build, "lenet300-100"),
        summary="hidden layers of 300 and 100 units (LeCun et al. 1998)",
    ),
    "lenet1": Architecture(
        build=partial(lenet.build, "lenet1"),
        size=lenet.VARIANTS["lenet1"].size,
        summary="the convolutional network of 1990, 2,578 parameters (LeCun et al. 1990)",
    ),
    "lenet5": Architecture(
        build=partial(lenet.build, "lenet5"),
        size=lenet.VARIANTS["lenet5"].size,
        summary="LeNet-5 as published, 60,000 parameters (LeCun et al. 1998)",
    ),
    "lenet5_modern": Architecture(
        build=partial(lenet.build, "lenet5_modern"),
        size=lenet.VARIANTS["lenet5_modern"].size,
        summary="LeNet-5 with max-pooling and ReLU, 61,706 parameters",
    ),
    "resnet20": _residual(
        build=partial(resnet_cifar.build, "resnet20"), summary="20 layers with shortcuts (He et al. 2016)"
    ),
    "resnet32": _residual(
        build=partial(resnet_cifar.build, "resnet32"), summary="32 layers with shortcuts (He et al. 2016)"
    ),
    "resnet44": _residual(
        build=partial(resnet_cifar.build, "resnet44"), summary="44 layers with shortcuts (He et al. 2016)"
    ),
    "resnet56": _residual(
        build=partial(resnet_cifar.build, "resnet56"), summary="56 layers with shortcuts (He et al. 2016)"
    ),
    "resnet110": _residual(
        build=partial(resnet_cifar.build, "resnet110"), summary="110 layers with shortcuts (He et al. 2016)"
    ),
    "plain20": _residual(
        build=partial(resnet_cifar.build, "plain20"), summary="resnet20 without its shortcuts (He et al. 2016)"
    ),
    "plain32": _residual(
        build=partial(resnet_cifar.build, "plain32"), summary="resnet32 without its shortcuts (He et al. 2016)"
    ),
    "plain44": _residual(
        build=partial(resnet_cifar.build, "plain44"), summary="resnet44 without its shortcuts (He et al. 2016)"
    ),
    "plain56": _residual(
        build=partial(resnet_cifar.build, "plain56"), summary="resnet56 without its shortcuts (He et al. 2016)"
    ),
    "plain110": _residual(
        build=partial(resnet_cifar.build, "plain110"), summary="resnet110 without its shortcuts (He et al. 2016)"
    ),
}


def names(pattern: str | None = None) -> list[str]:
    """The names of the catalog, in its order; ``pattern`` is a glob such as ``resnet*`` or a part, in any case."""
    if pattern is None:
        return list(CATALOG)
    glob = pattern.casefold() if set(pattern) & set("*?[") else f"*{pattern.casefold()}*"
    return [name for name in CATALOG if fnmatchcase(name.casefold(), glob)]


def parameters(name: str) -> int:
    """Trainable parameters for ten classes, at the network's own size or 32x32, 3 channels where it takes any size.

    Networks of one fixed size are of the time of grey images, and counted for one channel.
    """
    architecture = find(name)
    with torch.device("meta"):
        network = architecture.build(
            classes=10, channels=1 if architecture.size else 3, size=architecture.size or (32, 32)
        )
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def find(name: str) -> Architecture:
    """The architecture called ``name``.

    Raises:
        UsageError: naming the nearest real ones.
    """
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
    return None if patterns.looks_like_pattern(name) else find(name).size


def create(name: str, *, classes: int, channels: int, size: tuple[int, int]) -> Classifier:
    """Build a network.

    Args:
        name: a name of the catalog, or a layer pattern (`striate.models.pattern`).
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
    if patterns.looks_like_pattern(name):
        return patterns.build(name, classes=classes, channels=channels, size=size)
    architecture = find(name)
    asked = f"{size[0]}x{size[1]}"
    if architecture.size is not None and size != architecture.size:
        height, width = architecture.size
        raise UsageError(
            f"{name} takes images of {height}x{width} pixels only, not {asked}: set the size to {height}x{width}, so "
            "that images are resized or padded to it, or take a model for any size, such as resnet20."
        )
    height, width = architecture.smallest
    if size[0] < height or size[1] < width:
        raise UsageError(f"{name} needs images of at least {height}x{width} pixels, not {asked}: set a larger size.")
    return architecture.build(classes=classes, channels=channels, size=size)
