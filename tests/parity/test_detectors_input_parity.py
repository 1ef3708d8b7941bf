"""What the detectors' published weights were trained to see and to name, as their libraries say it."""

import pytest
import torch
from torchvision.models import detection

from striate.models.detectors.catalog import DETECTORS

NAMED = {
    "ssd300": detection.SSD300_VGG16_Weights.COCO_V1,
    "retinanet": detection.RetinaNet_ResNet50_FPN_Weights.COCO_V1,
    "retinanet_v2": detection.RetinaNet_ResNet50_FPN_V2_Weights.COCO_V1,
    "fcos": detection.FCOS_ResNet50_FPN_Weights.COCO_V1,
    "faster_rcnn": detection.FasterRCNN_ResNet50_FPN_Weights.COCO_V1,
}
BACKGROUND = {"ssd300", "faster_rcnn"}  # theirs counts it, ours does not


def test_every_origin_of_torchvision_is_looked_at():
    assert {name for name, line in DETECTORS.items() if "torchvision" in line.origins} == set(NAMED)


@pytest.mark.parametrize("name", NAMED)
def test_torchvision(name):
    origin = DETECTORS[name].origins["torchvision"]
    with torch.device("meta"):
        theirs = getattr(detection, origin.model)(weights=None, weights_backbone=None).transform
    seen = origin.input
    assert seen.mean == tuple(theirs.image_mean)
    assert seen.std == tuple(theirs.image_std)
    if theirs.fixed_size is not None:
        assert (seen.resize, seen.size) == ("stretch", tuple(theirs.fixed_size))
    else:  # theirs leaves the longer side between; ours is the multiple of 32 that theirs pads to
        assert (seen.resize, seen.size) == ("fit", (theirs.min_size[0], -(-theirs.max_size // 32) * 32))
    names = tuple("" if word in ("__background__", "N/A") else word for word in NAMED[name].meta["categories"])
    assert origin.classes == names[1 if name in BACKGROUND else 0 :]


@pytest.mark.parametrize("name", ["detr", "detr_dc5"])
def test_detr(name):
    from transformers.models.detr.image_processing_pil_detr import DetrImageProcessorPil

    theirs = DetrImageProcessorPil()
    for origin in DETECTORS[name].origins.values():
        assert origin.input.mean == tuple(theirs.image_mean)
        assert origin.input.std == tuple(theirs.image_std)
        assert min(origin.input.size) == theirs.size["shortest_edge"]
        assert len(origin.classes) == DETECTORS[name].classes
