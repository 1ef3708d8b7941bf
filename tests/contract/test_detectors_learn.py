"""Detectors learn eight images of `scenes` by heart, to an AP50 of 0.95 or more.

Whatever is wrong with what teaches them (which regions are drawn, what they are called, where their deltas lead), with
what cuts regions out of maps or with what reads the answers keeps a network from this, and no shape shows it.

The networks are the catalog's but for their widths, so that a processor without help learns them in seconds: residual
networks of 16 to 128 channels instead of 64 to 512, pyramids of 64 instead of 256, full layers of 256 instead of 1024
and 4096, tokens of 64 instead of 256. Strides, anchors, overlaps, shares, weights of deltas, losses and suppression are
the catalog's.
"""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from striate.core.batch import Batch
from striate.core.instances import InstanceSets
from striate.data.open import open_dataset
from striate.metrics.coco import DetectionMetric
from striate.models.backbones import resnet, vgg
from striate.models.detectors import cascade_rcnn, detr, fast_rcnn, faster_rcnn, fcos, retinanet
from striate.models.detectors.catalog import DETECTORS, create_detector
from striate.models.heads.box import FullLayers, Predictor
from striate.models.heads.rpn import RPN
from striate.models.necks.fpn import FPN
from striate.models.proposals import SlidingWindows

CLASSES, SIDE = 10, 128
# Of the training images, the first eight with up to four objects, all of them at least 24 pixels long and 14 broad:
# a stride of 16 pixels and sliding windows from 32 pixels on can tell such apart. 19 objects of 8 classes.
ROWS = [28, 40, 50, 54, 70, 71, 86, 87]
MEAN, STD = 118, 60  # of the grey values of `scenes`
WIDTHS, MAPS = (16, 32, 64, 128), (16, 32, 64, 128, 128)  # of a residual network and of a VGG
THIN, FULL = 64, 256  # channels of a pyramid or of tokens, and of full layers


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a detector learns the eight images: AdamW, until it knows them."""

    rate: float = 1e-3  # after ten steps of warming up, and a tenth of it for the last quarter
    steps: int = 80  # at most
    backbone: str = "resnet18"
    regions: int = 32  # of an image, that the head learns from
    proposals: int = 100  # of an image, that the head looks at when it is asked


RECIPES = {
    "strider_n": Recipe(),
    "strider_s": Recipe(),
    "yolo": Recipe(),
    "ssd": Recipe(),
    "retinanet": Recipe(rate=2e-3, steps=200),  # its anchors are no smaller than 32 pixels
    "retinanet_v2": Recipe(),
    "fcos": Recipe(),
    "efficientdet_d0": Recipe(steps=160),
    "centernet": Recipe(),
    "cornernet": Recipe(),
    "faster_rcnn": Recipe(),
    "faster_rcnn_vgg16": Recipe(backbone="vgg11_bn", steps=140),  # without normalisation VGG wants trained weights
    "faster_rcnn_dcn": Recipe(),
    "faster_rcnn_dcnv2": Recipe(),
    "fast_rcnn_windows": Recipe(),
    "cascade_rcnn": Recipe(),
    "rfcn": Recipe(),
    "rfcn_3x3": Recipe(),
    "light_head_rcnn": Recipe(),
    "faster_rcnn_c4": Recipe(rate=2e-3, steps=200),  # a box from an average over its region is slow to learn
    "rcnn_windows": Recipe(steps=100, regions=16),
    "detr": Recipe(steps=600),  # a hundred queries find out which of them answers for what
}


def _narrow(features, widths, dropout=0.0):
    """Full layers of a few units, without dropout: what is learnt by heart needs no guard against that."""
    return FullLayers(features, [FULL] * len(widths))


def _build(name, monkeypatch):
    recipe = RECIPES[name]
    with monkeypatch.context() as narrow:
        narrow.setattr(resnet, "WIDTHS", WIDTHS)
        narrow.setattr(vgg, "MAPS", MAPS)
        narrow.setattr(vgg, "full_head", lambda *numbers: nn.Identity())  # a hundred million weights for nothing
        for module in (faster_rcnn, fast_rcnn, cascade_rcnn):
            narrow.setattr(module, "FullLayers", _narrow)
        for module in (retinanet, fcos):
            narrow.setattr(module, "CHANNELS", THIN)
        tokens = replace(detr.VARIANTS["detr"], width=THIN, hidden=FULL, dropout=0.0)
        narrow.setitem(detr.VARIANTS, "detr", tokens)
        torch.manual_seed(0)
        network = create_detector(name, backbone=recipe.backbone, classes=CLASSES, channels=3, size=(SIDE, SIDE))
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 0.3  # few steps: statistics must follow the weights
        elif isinstance(layer, nn.Dropout):
            layer.p = 0.0
    if DETECTORS[name].regions == "none":
        return network
    network.sampling = replace(network.sampling, count=recipe.regions)
    if hasattr(network, "rpn"):
        numbers = network.rpn.numbers
        network.rpn.numbers = replace(numbers, testing=replace(numbers.testing, after=recipe.proposals))
    if isinstance(getattr(network, "proposer", None), SlidingWindows):
        network.proposer = SlidingWindows(scales=(0.25, 0.35, 0.5), step=1 / 3)  # hundreds of an image, not thousands
    heads = list(getattr(network, "heads", [])) or [getattr(network, "head", None)]
    features = WIDTHS[-1]
    if isinstance(getattr(network, "neck", None), FPN):
        features = THIN
        network.neck = FPN([layer.in_channels for layer in network.neck.laterals], THIN, coarser="pool")
        network.rpn = RPN(THIN, network.rpn.numbers, hidden=THIN)
    if name != "light_head_rcnn":
        for head in heads:
            if isinstance(getattr(head, "body", None), FullLayers):
                head.body = _narrow(features * 7 * 7, (FULL, FULL))
                head.predictor = Predictor(FULL, CLASSES, shared=name == "cascade_rcnn")
    return network


def _scenes():
    scenes = open_dataset("scenes")
    images = torch.stack([torch.from_numpy(np.array(scenes.images.read(row))) for row in ROWS])
    return Batch(
        images=(images.permute(0, 3, 1, 2).float() - MEAN) / STD,
        sizes=torch.tensor([[SIDE, SIDE]] * len(ROWS)),
        truths=scenes.instances.select(torch.tensor(ROWS)),
        indices=torch.arange(len(ROWS)),
    )


def _ap50(network, batch):
    with torch.no_grad():
        found = network.eval().detect(batch.images, batch.sizes)
    metric = DetectionMetric(CLASSES)
    metric.update(InstanceSets.of(found), batch.instances)
    return metric.compute()["AP50"]


def _learn(network, batch, recipe):
    """AP50 on the images that were learnt, and how many steps that took."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.rate)
    best = 0.0
    for step in range(1, recipe.steps + 1):
        network.train()
        late = step > 0.75 * recipe.steps
        optimizer.param_groups[0]["lr"] = recipe.rate * (0.1 if late else min(1, step / 10))
        optimizer.zero_grad()
        sum(network.losses(batch).values()).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimizer.step()
        if step % 20 == 0:
            best = max(best, _ap50(network, batch))
            if best >= 0.95:
                return best, step
    return best, recipe.steps


@pytest.mark.slow  # dozens of steps of a whole detector take 10 to 30 seconds each
@pytest.mark.parametrize("name", RECIPES)
def test_eight_scenes_are_learnt_by_heart(name, monkeypatch):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the maps are tiny
    try:
        best, steps = _learn(_build(name, monkeypatch), _scenes(), RECIPES[name])
    finally:
        torch.set_num_threads(threads)
    assert best >= 0.95, f"AP50 {best:.2f} after {steps} steps"
