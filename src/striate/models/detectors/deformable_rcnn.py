"""Faster R-CNN on a residual network whose late 3x3 convolutions are deformable (`striate.nn.deformable`).

    name               deformable                       source
    faster_rcnn_dcn    the 3x3 of each block of         Dai et al. 2017, "Deformable Convolutional Networks", arXiv
                       conv5: 3 with 50 layers          1703.06211, section 3.1 and table 1
    faster_rcnn_dcnv2  those of conv3 to conv5, with    Zhu et al. 2019, "Deformable ConvNets v2", arXiv 1811.11168,
                       weights: 13 with 50 layers       section 3.1 and table 1

All else is `faster_rcnn`. Of the blocks of two 3x3 convolutions, which neither paper has, the second one is deformable.
The papers' deformable RoI pooling is not part of it. Offsets learn at the rate of all else, as in the first paper
(section 2.3); the second one takes a tenth of it (section 3.2).
"""

from dataclasses import dataclass

from striate.errors import UsageError
from striate.models.backbones.resnet import ResNet
from striate.models.contract import Backbone
from striate.models.detectors import faster_rcnn
from striate.nn.deformable import deform


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One row of the table above."""

    stages: tuple[str, ...]  # of the residual network
    modulated: bool


VARIANTS = {
    "faster_rcnn_dcn": Spec(stages=("stage4",), modulated=False),
    "faster_rcnn_dcnv2": Spec(stages=("stage2", "stage3", "stage4"), modulated=True),
}


def build(
    variant: str, backbone: Backbone, *, classes: int, channels: int, size: tuple[int, int]
) -> faster_rcnn.FasterRCNN:
    """A network of `VARIANTS`; raises `UsageError` where the backbone is no ResNet of the catalog."""
    if not isinstance(backbone, ResNet):
        raise UsageError(
            f"{variant} makes convolutions of a residual network deformable: take one of the catalog such as resnet18 "
            "or resnet50, or faster_rcnn with this backbone."
        )
    spec = VARIANTS[variant]
    for stage in spec.stages:
        deform(backbone.get_submodule(stage), modulated=spec.modulated)
    return faster_rcnn.build(backbone, classes=classes, channels=channels, size=size)
