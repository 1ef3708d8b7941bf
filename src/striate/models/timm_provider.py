"""The long tail of architectures through timm, an extra: ``timm:NAME`` wherever a model is named.

A classifier is timm's whole network with its own head; the stages that it declares are timm's own feature maps, the
deepest of each stride, and last the logits. A backbone is timm's `features_only` form, whose feature information
becomes our stages. A name that timm has replaced stands for the new one.
"""

import importlib
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from striate.errors import UsageError, did_you_mean
from striate.models.contract import Backbone, Classifier, Stage
from striate.models.weights import Origin

PREFIX = "timm:"


def is_timm(name: str) -> bool:
    """Whether a model's name asks for timm's."""
    return name.startswith(PREFIX)


def names(pattern: str) -> list[str]:
    """The names of timm's models, with their prefix, that a glob such as ``timm:resnet*`` matches, or that hold a part.

    Raises:
        UsageError: timm is not installed.
    """
    part = pattern.removeprefix(PREFIX)
    glob = part if set(part) & set("*?[") else f"*{part}*"
    return [f"{PREFIX}{name}" for name in _timm().list_models(glob)]


def images(name: str) -> tuple[int, int, int]:
    """Channels, height and width of the images that a network was made for.

    Raises:
        UsageError: timm is not installed, or has no such network.
    """
    channels, height, width = _config(name)["input_size"]
    return channels, height, width


def normalisation(name: str) -> tuple[tuple[float, ...], tuple[float, ...], str, float]:
    """Mean, deviation, interpolation and crop fraction of the images that timm's weights of a network were trained on.

    Raises:
        UsageError: timm is not installed, or has no such network.
    """
    usual: dict[str, Any] = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bilinear", "crop_pct": 0.875}
    config = usual | _config(name)
    return tuple(config["mean"]), tuple(config["std"]), str(config["interpolation"]), float(config["crop_pct"])


def classes(name: str) -> int:
    """Classes of the published network; 1000, ImageNet's, where it was published without a classifier."""
    count = int(_config(name)["num_classes"])
    return count if count >= 2 else 1000


def origins(name: str) -> dict[str, Origin]:
    """Names of the weights: timm's own, below the place where its network stands in ours."""
    return {"timm": Origin(model=_current(name), names=(("{all*}", "backbone.network.{all*}"),))}


def build(name: str, *, classes: int, channels: int, size: tuple[int, int]) -> Classifier:
    """A classifier of timm, with timm's own initialisation.

    Args:
        name: with its prefix, as in ``timm:xception41``.
        classes: K.
        channels: of the images.
        size: height and width of the images.

    Raises:
        UsageError: timm is not installed, has no such network, or the network does not take such images.
    """
    network = _create(name, channels=channels, size=size, num_classes=classes)
    return Classifier(_Whole(network, classes), nn.Identity(), classes=classes, channels=channels, size=size)


def backbone(name: str, *, channels: int, size: tuple[int, int]) -> Backbone:
    """A backbone of timm, with its stages.

    Raises:
        UsageError: as for `build`, or where timm cannot give a network's feature maps.
    """
    try:
        return _Features(_create(name, channels=channels, size=size, features_only=True))
    except (RuntimeError, NotImplementedError, AttributeError, AssertionError) as error:
        raise UsageError(f"timm gives no feature maps of {name}: {error}.") from error


class _Whole(Backbone):
    """A whole network of timm: its feature maps, the deepest of each stride, and what its head gives.

    A network that gives no feature maps on its way to the head has the one stage of the logits.
    """

    def __init__(self, network: Any, classes: int):
        super().__init__()
        self.network = network
        gives = hasattr(network, "forward_intermediates") and hasattr(network, "forward_head")
        info: list[dict[str, Any]] = list(getattr(network, "feature_info", None) or []) if gives else []
        deepest = {entry["reduction"]: index for index, entry in enumerate(info)}
        self.indices = sorted(deepest.values())
        found = [info[index] for index in self.indices]
        modules = [entry["module"] for entry in found]
        self.stages = (
            *(
                Stage(
                    # CoaT and CrossViT have maps of several strides from one module.
                    name=module if modules.count(module) == 1 else f"{module}/{entry['reduction']}",
                    channels=entry["num_chs"],
                    stride=entry["reduction"],
                )
                for module, entry in zip(modules, found, strict=True)
            ),
            Stage(name="logits", channels=classes, stride=0),
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) images to one (B, channels, ~H / stride, ~W / stride) map per stage and the (B, K) logits."""
        if not self.indices:
            return [self.network(images)]
        features, maps = self.network.forward_intermediates(images, indices=self.indices, output_fmt="NCHW")
        return [*maps, self.network.forward_head(features)]


class _Features(Backbone):
    """The feature maps of a network of timm, as (B, C, H, W) whatever its own layout."""

    def __init__(self, network: Any):
        super().__init__()
        self.network = network
        info = network.feature_info
        self.last = getattr(network, "output_fmt", None) == "NHWC"  # Swin and its like keep the channels last
        self.stages = tuple(
            Stage(name=str(module), channels=int(count), stride=int(stride))
            for module, count, stride in zip(info.module_name(), info.channels(), info.reduction(), strict=True)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) images to one map per stage."""
        maps: list[Tensor] = self.network(images)
        return [x.permute(0, 3, 1, 2) for x in maps] if self.last else list(maps)


def _timm() -> ModuleType:
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise UsageError(
            "models called timm:NAME come from timm, which is not installed: pip install 'striate[timm]'."
        ) from error


def _config(name: str) -> dict[str, Any]:
    timm = _timm()
    short = _current(name)
    if not timm.is_model(short):
        known = timm.list_models()
        raise UsageError(f"timm has no model {short!r}.{did_you_mean(short, known)} It has {len(known):,} of them.")
    found = timm.get_pretrained_cfg(short)
    return {"input_size": (3, 224, 224), "num_classes": 1000} | (found.to_dict() if found else {})


def _current(name: str) -> str:
    """The name without its prefix; the new one where timm has replaced it."""
    short = name.removeprefix(PREFIX)
    replaced: dict[str, str | None] = _timm().models.get_deprecated_models()
    return replaced.get(short) or short


def _create(name: str, *, channels: int, size: tuple[int, int], **options: Any) -> nn.Module:
    config = _config(name)
    fixed = {"img_size": size} if config.get("fixed_input_size") else {}
    try:
        return _timm().create_model(_current(name), pretrained=False, in_chans=channels, **fixed, **options)
    except (AssertionError, ValueError) as error:
        raise UsageError(f"{name} cannot be built for {channels} x {size[0]} x {size[1]} images: {error}.") from error
