"""Faster R-CNN against torchvision's with the same random weights: weights there and back, losses, detections."""

import copy
import re

import pytest
import torch
from torch import nn

from striate.core.batch import Batch
from striate.core.instances import Instances, InstanceSets
from striate.models.detectors import faster_rcnn
from striate.models.detectors.catalog import create_backbone
from striate.models.weights import fit, from_ours, to_ours

CLASSES = 5
ORIGIN = faster_rcnn.ORIGINS["torchvision"]
OURS = {
    "objectness": "loss_objectness",
    "anchor_boxes": "loss_rpn_box_reg",
    "class": "loss_classifier",
    "box": "loss_box_reg",
}
SIZES = [(96, 128), (160, 64)]


@pytest.fixture(scope="module")
def pair():
    """torchvision's and ours on resnet18, with weights so wide that boxes and classes differ from place to place."""
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

    torch.manual_seed(0)
    body = resnet_fpn_backbone(backbone_name="resnet18", weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5)
    theirs = FasterRCNN(body, CLASSES + 1, image_mean=[0.0] * 3, image_std=[1.0] * 3)
    # Nothing is resized: what torchvision draws for the size would also move the generator.
    theirs.transform.resize = lambda image, target: (image, target)
    for parameter in (*theirs.rpn.head.parameters(), *theirs.roi_heads.box_predictor.parameters()):
        nn.init.normal_(parameter, std=0.05)
    norms = [layer for layer in theirs.modules() if isinstance(layer, nn.BatchNorm2d)]
    for layer in norms:
        layer.momentum = 1.0  # the statistics of this batch
    with torch.no_grad():
        theirs.backbone(torch.randn(4, 3, 96, 128))
    for layer in norms:
        layer.momentum = 0.1
    backbone = create_backbone("resnet18", channels=3, size=(96, 128))
    ours = faster_rcnn.build(backbone, classes=CLASSES, channels=3, size=(96, 128))
    fit(ours, to_ours(theirs.state_dict(), ours, ORIGIN), "torchvision")
    return ours, theirs


@pytest.fixture(scope="module")
def published():
    """The published network in both libraries, on the meta device."""
    from torchvision.models.detection import fasterrcnn_resnet50_fpn

    with torch.device("meta"):
        theirs = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91)
        backbone = create_backbone("resnet50", channels=3, size=(800, 1344))
        return faster_rcnn.build(backbone, classes=90, channels=3, size=(800, 1344)), theirs


def _batch(size, seed):
    torch.manual_seed(seed)
    height, width = size
    images = torch.randn(3, 3, height, width)
    truths = []
    for count in (4, 0, 1):
        first = torch.rand(count, 2) * torch.tensor([width * 0.6, height * 0.6])
        boxes = torch.cat((first, first + 4 + torch.rand(count, 2) * 0.4 * min(size)), dim=1)
        truths.append(Instances(boxes=boxes, labels=torch.randint(CLASSES, (count,))))
    sizes = torch.tensor([size] * 3)
    batch = Batch(images=images, sizes=sizes, truths=InstanceSets.of(truths), indices=torch.arange(3))
    return batch, [{"boxes": own.boxes, "labels": own.labels + 1} for own in truths]


def test_weights_come_and_go(published):
    ours, theirs = published
    state = {name: tensor.shape for name, tensor in theirs.state_dict().items()}
    assert {name: tensor.shape for name, tensor in from_ours(ours.state_dict(), ORIGIN).items()} == state
    found = to_ours(theirs.state_dict(), ours, ORIGIN)
    assert {name: t.shape for name, t in found.items()} == {name: t.shape for name, t in ours.state_dict().items()}


def test_files_of_2020_are_read_too(published):
    """The released file has frozen normalisations, and names the pyramid and the proposal network as they were then."""
    ours, theirs = published
    old = {}
    for name, tensor in theirs.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            name = name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
            old[re.sub(r"(fpn\.\w+_blocks\.\d)\.0\.", r"\1.", name)] = tensor
    assert {"rpn.head.conv.weight", "backbone.fpn.inner_blocks.3.weight"} < old.keys()
    assert to_ours(old, ours, ORIGIN).keys() == ours.state_dict().keys()


@pytest.mark.parametrize("size", SIZES)
def test_losses_and_their_gradients_are_torchvisions(pair, size):
    """The anchors and proposals learnt from are drawn from the same seed in the same order, so they are the same."""
    ours, theirs = (copy.deepcopy(network).train() for network in pair)
    batch, targets = _batch(size, seed=1)
    torch.manual_seed(2)
    losses = ours.losses(batch)
    torch.manual_seed(2)
    expected = theirs(list(batch.images), targets)
    for name, theirs_name in OURS.items():
        torch.testing.assert_close(losses[name], expected[theirs_name], rtol=1e-4, atol=1e-6, msg=name)
    sum(losses.values()).backward()
    sum(expected.values()).backward()
    gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    for name, gradient in to_ours(gradients, nn.Module(), ORIGIN).items():
        own = ours.get_parameter(name).grad
        torch.testing.assert_close(own, gradient, rtol=1e-2, atol=1e-3 * float(gradient.abs().max()), msg=name)


@pytest.mark.parametrize("size", SIZES)
def test_detections_are_torchvisions(pair, size):
    ours, theirs = (network.eval() for network in pair)
    batch, _ = _batch(size, seed=3)
    with torch.no_grad():
        found = ours.detect(batch.images, batch.sizes)
        expected = theirs(list(batch.images))
    for own, other in zip(found, expected, strict=True):
        assert len(own) == len(other["boxes"]) > 0
        assert torch.equal(own.labels + 1, other["labels"])
        torch.testing.assert_close(own.scores, other["scores"], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(own.boxes, other["boxes"], rtol=1e-4, atol=1e-3)


def test_proposals_are_torchvisions(pair):
    from torchvision.models.detection.image_list import ImageList

    ours, theirs = (network.eval() for network in pair)
    batch, _ = _batch((96, 128), seed=4)
    with torch.no_grad():
        found = ours.propose(batch.images, batch.sizes)
        expected, _ = theirs.rpn(ImageList(batch.images, [(96, 128)] * 3), theirs.backbone(batch.images))
    for own, other in zip(found, expected, strict=True):
        torch.testing.assert_close(own.boxes, other, rtol=1e-4, atol=1e-3)
