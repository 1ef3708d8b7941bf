"""Every detector by name, and the one way to build one around a backbone."""

import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, Protocol

import torch

from striate.errors import UsageError, did_you_mean
from striate.models import timm_provider
from striate.models.backbones import hourglass
from striate.models.catalog import CATALOG, create, matches
from striate.models.contract import Backbone, Detector
from striate.models.detectors import (
    cascade_rcnn,
    centernet,
    cornernet,
    deformable_rcnn,
    detr,
    efficientdet,
    fast_rcnn,
    faster_rcnn,
    fcos,
    light_head_rcnn,
    rcnn,
    retinanet,
    rfcn,
    ssd,
    strider,
    yolo,
)
from striate.models.weights import Origin


class DetectorBuilder(Protocol):
    """Builds one detector around a backbone."""

    def __call__(self, backbone: Backbone, *, classes: int, channels: int, size: tuple[int, int]) -> Detector:
        """Build it for ``classes`` classes and images of ``size``; raises `UsageError` where the backbone lacks a map.

        What has weights of its own is initialised from torch's generator; the backbone is initialised already.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class DetectorArchitecture:
    """One line of the catalog."""

    build: DetectorBuilder
    summary: str
    backbone: str  # the published one: a name of the catalog of backbones
    size: tuple[int, int]  # height, width of the published network's input
    classes: int  # of the published network, without background
    only_backbone: bool = False  # the paper's design allows no other
    only_size: bool = False  # it takes images of that size only
    multiple: int = 32  # height and width of an input are multiples of it
    stride: int = 32  # of its coarsest map, in pixels
    built_for_size: bool = False  # it can be built for other sizes, and then takes images of that size only
    regions: Literal["none", "proposed", "given"] = "none"  # of a two-stage one: by its own network, or from outside
    origins: Mapping[str, Origin] = field(default_factory=dict[str, Origin])  # with the published backbone


DETECTORS: dict[str, DetectorArchitecture] = {
    # ours, of parts by Liu et al. 2018, Li et al. 2020 and Feng et al. 2021
    "strider_n": DetectorArchitecture(
        build=partial(strider.build, "strider_n"),
        summary="task-aligned points, box distributions, a thin pyramid: small",
        backbone="resnet18",
        size=(640, 640),
        classes=80,
    ),
    "strider_s": DetectorArchitecture(
        build=partial(strider.build, "strider_s"),
        summary="task-aligned points, box distributions, a thin pyramid: what is trained by default",
        backbone="resnet34",
        size=(640, 640),
        classes=80,
    ),
    "strider_m": DetectorArchitecture(
        build=partial(strider.build, "strider_m"),
        summary="task-aligned points, box distributions, a thin pyramid: larger",
        backbone="resnet50",
        size=(640, 640),
        classes=80,
    ),
    # Redmon et al. 2016
    "yolov1": DetectorArchitecture(
        build=partial(yolo.build, "yolov1"),
        summary="a grid of 7x7 cells that answer for objects (Redmon et al. 2016)",
        backbone="darknet_yolo",
        size=(448, 448),
        classes=20,
        multiple=64,
        built_for_size=True,
    ),
    "yolo": DetectorArchitecture(
        build=partial(yolo.build, "yolo"),
        summary="YOLO in small, on any backbone, with cells of 32x32 pixels (Redmon et al. 2016)",
        backbone="resnet18",
        size=(224, 224),
        classes=20,
        built_for_size=True,
    ),
    # Liu et al. 2016
    "ssd300": DetectorArchitecture(
        build=partial(ssd.build, "ssd300"),
        summary="default boxes on six maps, 300x300 (Liu et al. 2016)",
        backbone="vgg16",
        size=(300, 300),
        classes=80,
        only_size=True,
        multiple=1,
        origins=ssd.ORIGINS["ssd300"],
    ),
    "ssd512": DetectorArchitecture(
        build=partial(ssd.build, "ssd512"),
        summary="default boxes on seven maps, 512x512 (Liu et al. 2016)",
        backbone="vgg16",
        size=(512, 512),
        classes=80,
        only_size=True,
        multiple=1,
    ),
    "ssd": DetectorArchitecture(
        build=partial(ssd.build, "ssd"),
        summary="default boxes on any backbone, for images of any size (Liu et al. 2016)",
        backbone="resnet18",
        size=(192, 192),
        classes=80,
        multiple=1,
        built_for_size=True,
    ),
    # Lin et al. 2017
    "retinanet": DetectorArchitecture(
        build=partial(retinanet.build, "retinanet"),
        summary="focal loss on the anchors of a pyramid (Lin et al. 2017)",
        backbone="resnet50",
        size=(800, 1344),
        classes=80,
        stride=128,
        origins=retinanet.ORIGINS["retinanet"],
    ),
    "retinanet_v2": DetectorArchitecture(
        build=partial(retinanet.build, "retinanet_v2"),
        summary="RetinaNet with normalised heads and GIoU (torchvision)",
        backbone="resnet50",
        size=(800, 1344),
        classes=80,
        stride=128,
        origins=retinanet.ORIGINS["retinanet_v2"],
    ),
    # Carion et al. 2020
    "detr": DetectorArchitecture(
        build=partial(detr.build, "detr"),
        summary="a transformer predicts the set of objects (Carion et al. 2020)",
        backbone="resnet50",
        size=(800, 1066),
        classes=91,
        multiple=1,
        origins=detr.origins("detr"),
    ),
    "detr_dc5": DetectorArchitecture(
        build=partial(detr.build, "detr_dc5"),
        summary="detr on a map of stride 16 of a dilated ResNet (Carion et al. 2020)",
        backbone="resnet50",
        size=(800, 1066),
        classes=91,
        multiple=1,
        origins=detr.origins("detr_dc5"),
    ),
    # Tian et al. 2019
    "fcos": DetectorArchitecture(
        build=fcos.build,
        summary="points of a pyramid instead of anchors, centre-ness (Tian et al. 2019)",
        backbone="resnet50",
        size=(800, 1344),
        classes=80,
        stride=128,
        origins=fcos.ORIGINS,
    ),
    # Tan, Pang, Le 2020
    "efficientdet_d0": DetectorArchitecture(
        build=partial(efficientdet.build, "efficientdet_d0"),
        summary="BiFPN on EfficientNet-B0 (Tan et al. 2020)",
        backbone="efficientnet_b0",
        size=(512, 512),
        classes=90,
        stride=128,
    ),
    "efficientdet_d1": DetectorArchitecture(
        build=partial(efficientdet.build, "efficientdet_d1"),
        summary="BiFPN on EfficientNet-B1 (Tan et al. 2020)",
        backbone="efficientnet_b1",
        size=(640, 640),
        classes=90,
        stride=128,
    ),
    "efficientdet_d2": DetectorArchitecture(
        build=partial(efficientdet.build, "efficientdet_d2"),
        summary="BiFPN on EfficientNet-B2 (Tan et al. 2020)",
        backbone="efficientnet_b2",
        size=(768, 768),
        classes=90,
        stride=128,
    ),
    # Ren et al. 2015, He et al. 2016, Lin et al. 2017
    "faster_rcnn": DetectorArchitecture(
        build=faster_rcnn.build,
        summary="proposals on a feature pyramid, then a head for each (Ren et al. 2015, Lin et al. 2017)",
        backbone="resnet50",
        size=(800, 1344),
        classes=90,
        stride=64,
        regions="proposed",
        origins=faster_rcnn.ORIGINS,
    ),
    "faster_rcnn_c4": DetectorArchitecture(
        build=faster_rcnn.build_c4,
        summary="proposals on conv4, and conv5 on each of 300 (He et al. 2016, appendix A)",
        backbone="resnet50",
        size=(608, 1024),
        classes=80,
        regions="proposed",
    ),
    "faster_rcnn_vgg16": DetectorArchitecture(
        build=faster_rcnn.build_vgg16,
        summary="proposals on conv5_3, and fc6 and fc7 on each of 300 (Ren et al. 2015)",
        backbone="vgg16",
        size=(608, 1024),
        classes=20,
        regions="proposed",
    ),
    # Girshick 2015, Girshick et al. 2014
    "fast_rcnn": DetectorArchitecture(
        build=partial(fast_rcnn.build, "fast_rcnn"),
        summary="a head for each region of selective search, an extra (Girshick 2015)",
        backbone="vgg16",
        size=(608, 1024),
        classes=20,
        regions="given",
    ),
    "fast_rcnn_windows": DetectorArchitecture(
        build=partial(fast_rcnn.build, "fast_rcnn_windows"),
        summary="the same head for sliding windows, which need nothing",
        backbone="vgg16",
        size=(608, 1024),
        classes=20,
        regions="given",
    ),
    "rcnn": DetectorArchitecture(
        build=partial(rcnn.build, "rcnn"),
        summary="a network for each region of selective search, an extra (Girshick et al. 2014)",
        backbone="alexnet",
        size=(480, 640),
        classes=20,
        regions="given",
        multiple=1,
    ),
    "rcnn_windows": DetectorArchitecture(
        build=partial(rcnn.build, "rcnn_windows"),
        summary="the same network for sliding windows, which need nothing",
        backbone="alexnet",
        size=(480, 640),
        classes=20,
        regions="given",
        multiple=1,
    ),
    # Cai and Vasconcelos 2018, Dai et al. 2016, Li et al. 2017, Dai et al. 2017
    "cascade_rcnn": DetectorArchitecture(
        build=cascade_rcnn.build,
        summary="three heads in a row, for IoU 0.5, 0.6 and 0.7 (Cai and Vasconcelos 2018)",
        backbone="resnet101",
        size=(800, 1344),
        classes=80,
        stride=64,
        regions="proposed",
    ),
    "rfcn": DetectorArchitecture(
        build=partial(rfcn.build, "rfcn"),
        summary="position-sensitive score maps of 7x7 bins (Dai et al. 2016)",
        backbone="resnet101",
        size=(608, 1024),
        classes=20,
        regions="proposed",
    ),
    "rfcn_3x3": DetectorArchitecture(
        build=partial(rfcn.build, "rfcn_3x3"),
        summary="position-sensitive score maps of 3x3 bins (Dai et al. 2016)",
        backbone="resnet101",
        size=(608, 1024),
        classes=20,
        regions="proposed",
    ),
    "light_head_rcnn": DetectorArchitecture(
        build=light_head_rcnn.build,
        summary="a thin map of 490 channels and one full layer (Li et al. 2017)",
        backbone="resnet101",
        size=(800, 1344),
        classes=80,
        regions="proposed",
    ),
    "faster_rcnn_dcn": DetectorArchitecture(
        build=partial(deformable_rcnn.build, "faster_rcnn_dcn"),
        summary="Faster R-CNN with deformable convolutions in conv5 (Dai et al. 2017)",
        backbone="resnet50",
        size=(800, 1344),
        classes=80,
        stride=64,
        regions="proposed",
    ),
    "faster_rcnn_dcnv2": DetectorArchitecture(
        build=partial(deformable_rcnn.build, "faster_rcnn_dcnv2"),
        summary="Faster R-CNN with modulated deformable convolutions in conv3 to conv5 (Zhu et al. 2019)",
        backbone="resnet50",
        size=(800, 1344),
        classes=80,
        stride=64,
        regions="proposed",
    ),
    # Zhou et al. 2019
    "centernet": DetectorArchitecture(
        build=centernet.build,
        summary="objects as the centres of their boxes, on a heat map (Zhou et al. 2019)",
        backbone="resnet18",
        size=(512, 512),
        classes=80,
        stride=128,
    ),
    # Law and Deng 2018
    "cornernet": DetectorArchitecture(
        build=cornernet.build,
        summary="objects as pairs of corners, on heat maps (Law and Deng 2018)",
        backbone="hourglass104",
        size=(512, 512),  # published with 511, whose maps have the same sizes
        classes=80,
        stride=128,
    ),
}

DEFAULT = "strider_s"  # what is trained where nobody names a detector


def names(pattern: str | None = None) -> list[str]:
    """The names of detectors, in the catalog's order; ``pattern`` as for `striate.models.catalog.names`."""
    return [name for name in DETECTORS if matches(name, pattern)]


def find_detector(name: str) -> DetectorArchitecture:
    """The detector called ``name``; raises `UsageError` with the nearest real ones."""
    if name not in DETECTORS and (name in CATALOG or timm_provider.is_timm(name)):
        raise UsageError(
            f"{name} is a backbone rather than a detector: give it as --backbone {name}, and a detector as --model "
            f"(or none; then it is {DEFAULT})."
        )
    if name not in DETECTORS:
        raise UsageError(
            f"there is no detector {name!r}.{did_you_mean(name, DETECTORS)} There are {', '.join(DETECTORS)}."
        )
    return DETECTORS[name]


def create_detector(
    name: str, *, backbone: str | None = None, classes: int, channels: int, size: tuple[int, int]
) -> Detector:
    """A detector of the catalog with fresh weights.

    Args:
        name: of `DETECTORS`.
        backbone: a name of the catalog of backbones or ``timm:NAME``; None: the published one.
        classes: K, without background.
        channels: of the images.
        size: height and width of the images.

    Raises:
        UsageError: no such detector or backbone, or the two do not fit.
    """
    architecture = find_detector(name)
    chosen = backbone or architecture.backbone
    if architecture.only_backbone and chosen != architecture.backbone:
        raise UsageError(f"{name} is built around {architecture.backbone} and takes no other backbone.")
    if architecture.only_size and size != architecture.size:
        raise UsageError(f"{name} takes images of {architecture.size[0]}x{architecture.size[1]} pixels only.")
    if size[0] % architecture.multiple or size[1] % architecture.multiple:
        raise UsageError(
            f"{name} takes images whose height and width are multiples of {architecture.multiple}, not "
            f"{size[0]}x{size[1]}."
        )
    return architecture.build(
        create_backbone(chosen, channels=channels, size=size), classes=classes, channels=channels, size=size
    )


def published(name: str) -> Detector:
    """The detector as it was published, around its own backbone, on the meta device: shapes without weights."""
    architecture = find_detector(name)
    with torch.device("meta"):
        return create_detector(name, classes=architecture.classes, channels=3, size=architecture.size)


def parameters(name: str) -> int:
    """Trainable parameters of the published detector."""
    return sum(parameter.numel() for parameter in published(name).parameters() if parameter.requires_grad)


def home(name: str) -> str:
    """The module that a detector is written down in."""
    build: Any = find_detector(name).build
    return (build.func if isinstance(build, partial) else build).__module__


def page(name: str) -> str:
    """What the file of a detector says at its top: the paper, its tables, what differs."""
    return inspect.cleandoc(sys.modules[home(name)].__doc__ or "")


def create_backbone(name: str, *, channels: int, size: tuple[int, int]) -> Backbone:
    """A backbone of the catalog, of timm, or an hourglass, with fresh weights; raises `UsageError`."""
    if name in hourglass.VARIANTS:  # which has no published classifier
        return hourglass.build(name, channels=channels)
    if timm_provider.is_timm(name):
        return timm_provider.backbone(name, channels=channels, size=size)
    return create(name, classes=2, channels=channels, size=size).backbone
