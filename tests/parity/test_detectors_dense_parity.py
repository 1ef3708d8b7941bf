"""RetinaNet and FCOS against torchvision's with the same random weights: losses, gradients, detections, names."""

import re
from dataclasses import replace
from functools import partial

import pytest
import torch

from striate.core.batch import Batch
from striate.core.instances import Instances, InstanceSets
from striate.models.catalog import create
from striate.models.detectors.catalog import DETECTORS
from striate.models.weights import fit, from_ours, to_ours

CLASSES = 5
SIZES = [(64, 64), (96, 64)]
NAMES = ["retinanet", "retinanet_v2", "fcos"]
OURS = {  # names of losses
    "classification": "classification",
    "bbox_regression": "box_regression",
    "bbox_ctrness": "centreness",
}


def _theirs(name, size, backbone="resnet18"):
    """torchvision's network around a small ResNet with weights that make it find something."""
    from torchvision.models.detection import FCOS, RetinaNet
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    from torchvision.models.detection.retinanet import RetinaNetHead
    from torchvision.ops import FrozenBatchNorm2d
    from torchvision.ops.feature_pyramid_network import LastLevelP6P7

    torch.manual_seed(0)
    coarser = LastLevelP6P7(512 if name == "retinanet_v2" else 256, 256)
    body = resnet_fpn_backbone(
        backbone_name=backbone,
        weights=None,
        norm_layer=FrozenBatchNorm2d,
        trainable_layers=5,
        returned_layers=[2, 3, 4],
        extra_blocks=coarser,
    )
    same = {"min_size": min(size), "max_size": max(size), "image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    if name == "fcos":
        network = FCOS(body, CLASSES, **same)
    else:
        head = RetinaNetHead(256, 9, CLASSES, **_grouped(name))
        network = RetinaNet(body, CLASSES, head=head, **same)
        if name == "retinanet_v2":
            head.regression_head._loss_type = "giou"
    with torch.no_grad():
        for key, tensor in network.state_dict().items():
            if key.endswith("running_mean"):
                tensor.normal_(std=0.1)
            elif key.endswith("running_var"):
                tensor.uniform_(0.8, 1.2)
            elif key.startswith("head") and key.endswith("weight") and tensor.dim() == 4:
                tensor.normal_(std=(2 / tensor[0].numel()) ** 0.5)
            elif tensor.dim() == 1:
                tensor.add_(torch.randn_like(tensor) * 0.1)
        network.head.classification_head.cls_logits.weight.mul_(0.3)
        network.head.classification_head.cls_logits.bias.fill_(-2.0)
        for part in ("bbox_reg", "bbox_ctrness"):
            if hasattr(network.head.regression_head, part):
                getattr(network.head.regression_head, part).weight.mul_(0.3)
    return network


def _grouped(name):
    return {"norm_layer": partial(torch.nn.GroupNorm, 32)} if name == "retinanet_v2" else {}


def _ours(name, theirs, size):
    backbone = create("resnet18", classes=2, channels=3, size=size).backbone
    network = DETECTORS[name].build(backbone, classes=CLASSES, channels=3, size=size)
    origin = DETECTORS[name].origins["torchvision"]
    fit(network, to_ours(theirs.state_dict(), network, origin), "memory")
    return network.eval()  # theirs has frozen normalisations


def _batch(size, counts=(3, 0, 7)):
    height, width = size
    draw = torch.Generator().manual_seed(1)
    truths = []
    for count in counts:
        corner = torch.rand(count, 2, generator=draw) * torch.tensor([width, height]) * 0.7
        sides = 6 + torch.rand(count, 2, generator=draw) * torch.tensor([width, height]) * 0.5
        last = torch.minimum(corner + sides, torch.tensor([float(width), float(height)]))
        labels = torch.randint(CLASSES, (count,), generator=draw)
        truths.append(Instances(boxes=torch.cat((corner, last), dim=1), labels=labels))
    return Batch(
        images=torch.randn(len(counts), 3, height, width, generator=draw),
        sizes=torch.tensor([size] * len(counts)),
        truths=InstanceSets.of(truths),
        indices=torch.arange(len(counts)),
    )


def _targets(batch):
    return [{"boxes": each.boxes, "labels": each.labels} for each in batch.instances]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_losses_and_gradients_are_torchvisions(name, size):
    theirs = _theirs(name, size).double()  # in float32 maxima that nearly tie lead gradients elsewhere
    ours = _ours(name, theirs, size).double()
    batch = _batch(size)
    truths = replace(batch.instances, boxes=batch.instances.boxes.double())
    batch = replace(batch, images=batch.images.double(), truths=truths)
    mine, other = ours.losses(batch), theirs.train()(list(batch.images), _targets(batch))
    assert set(mine) == {OURS[key] for key in other}
    for key, value in other.items():
        torch.testing.assert_close(mine[OURS[key]], value, rtol=1e-6, atol=1e-6)
    sum(mine.values()).backward()
    sum(other.values()).backward()
    origin = DETECTORS[name].origins["torchvision"]
    theirs_by_name = {key: parameter.grad for key, parameter in theirs.named_parameters() if parameter.grad is not None}
    gradients = from_ours({key: value.grad for key, value in ours.named_parameters()}, origin)
    for key, value in theirs_by_name.items():
        scale = value.abs().max()
        assert scale > 0, key
        torch.testing.assert_close(gradients[key] / scale, value / scale, rtol=1e-5, atol=1e-5, msg=key)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_without_objects_costs_what_it_costs_in_torchvision(name):
    size = SIZES[0]
    theirs = _theirs(name, size)
    ours = _ours(name, theirs, size)
    batch = _batch(size, counts=(0, 0))
    mine, other = ours.losses(batch), theirs.train()(list(batch.images), _targets(batch))
    for key, value in other.items():
        torch.testing.assert_close(mine[OURS[key]], value, rtol=1e-4, atol=1e-5)
    sum(mine.values()).backward()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_detections_are_torchvisions(name, size):
    theirs = _theirs(name, size).eval()
    ours = _ours(name, theirs, size)
    batch = _batch(size)
    for mine, other in zip(ours.detect(batch.images, batch.sizes), theirs(list(batch.images)), strict=True):
        assert len(mine) == len(other["scores"]) > 20
        torch.testing.assert_close(mine.scores, other["scores"], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(mine.boxes, other["boxes"], rtol=1e-4, atol=1e-2)
        assert torch.equal(mine.labels, other["labels"])


@pytest.mark.parametrize("name", NAMES)
def test_names_lead_back_and_released_files_name_some_parts_otherwise(name):
    size = SIZES[0]
    theirs = _theirs(name, size)
    state = theirs.state_dict()
    ours = _ours(name, theirs, size)
    origin = DETECTORS[name].origins["torchvision"]
    back = {key: tensor for key, tensor in from_ours(ours.state_dict(), origin).items() if "num_batches" not in key}
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)
    if name == "retinanet":
        # torchvision's own reading of files older than its second version: "blocks.1.weight", "conv.2.weight".
        old = {re.sub(r"(blocks\.\d)\.0\.", r"\1.", key): tensor for key, tensor in state.items()}
        old = {re.sub(r"conv\.(\d)\.0\.", lambda m: f"conv.{2 * int(m[1])}.", key): x for key, x in old.items()}
        found = to_ours(old, ours, origin)
        assert all(torch.equal(found[key], tensor) for key, tensor in ours.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
def test_the_published_network_takes_torchvisions_names_and_has_its_parameters(name):
    from torchvision.models import get_model

    line = DETECTORS[name]
    there = line.origins["torchvision"].model
    with torch.device("meta"):
        theirs = get_model(there, weights=None, weights_backbone=None, num_classes=91)
        backbone = create(line.backbone, classes=2, channels=3, size=line.size).backbone
        ours = line.build(backbone, classes=91, channels=3, size=line.size)
    fit(ours, to_ours(theirs.state_dict(), ours, line.origins["torchvision"]), "memory")
    cards = {"retinanet": 34_014_999, "retinanet_v2": 38_198_935, "fcos": 32_269_600}
    frozen = 0 if name == "retinanet_v2" else 53_120  # scales and shifts of normalisations, which the card leaves out
    assert sum(parameter.numel() for parameter in ours.parameters()) == cards[name] + frozen
