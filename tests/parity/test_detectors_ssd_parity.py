"""SSD against torchvision: losses, detections and names, with torchvision's random weights in ours."""

import pytest
import torch
from torch import nn

from striate.core.batch import Batch
from striate.core.instances import Instances, InstanceSets
from striate.models.detectors.catalog import DETECTORS, create_detector
from striate.models.weights import fit, from_ours, to_ours


class _Unchanged(nn.Module):
    """Stands for torchvision's transform, on images that are ready."""

    def forward(self, images, targets=None):
        from torchvision.models.detection.image_list import ImageList

        return ImageList(torch.stack(images), [tuple(image.shape[1:]) for image in images]), targets

    def postprocess(self, result, image_shapes, original_image_sizes):
        return result


def _batch(images, truths):
    return Batch(
        images=images,
        sizes=torch.tensor([images.shape[2:]] * len(images)),
        truths=InstanceSets.of([Instances(boxes=boxes, labels=labels) for boxes, labels in truths]),
        indices=torch.arange(len(images)),
    )


def _truths(size, classes):
    """Some objects, of which two are nearly the same; a tiny one alone; none."""
    height, width = size
    some = torch.tensor([[0.03, 0.06, 0.3, 0.5], [0.04, 0.07, 0.31, 0.52], [0.6, 0.7, 0.95, 0.98], [0, 0, 1, 1]])
    tiny = torch.tensor([[0.5, 0.5, 0.51, 0.52]])
    whole = torch.tensor([width, height, width, height])
    return [
        (some * whole, torch.tensor([3, 0, classes - 1, 1])),
        (tiny * whole, torch.tensor([2])),
        (torch.empty(0, 4), torch.empty(0, dtype=torch.int64)),
    ]


def _agree(ours, theirs, size, classes):
    theirs.transform = _Unchanged()
    torch.manual_seed(1)
    images, truths = torch.randn(3, 3, *size), _truths(size, classes)

    theirs.train()
    ours.train()
    expected = theirs(list(images), [{"boxes": boxes, "labels": labels + 1} for boxes, labels in truths])
    found = ours.losses(_batch(images, truths))
    torch.testing.assert_close(found["localization"], expected["bbox_regression"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found["confidence"], expected["classification"], rtol=1e-5, atol=1e-5)

    theirs.eval()
    ours.eval()
    with torch.no_grad():
        expected = theirs(list(images))
    found = ours.detect(images, torch.tensor([size] * 3))
    for mine, other in zip(found, expected, strict=True):
        assert len(mine) == 200
        torch.testing.assert_close(mine.boxes, other["boxes"], rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(mine.scores, other["scores"], rtol=1e-5, atol=1e-6)
        assert torch.equal(mine.labels + 1, other["labels"])


@pytest.mark.slow  # VGG-16 on six images of 300x300 twice
def test_ssd300_is_torchvisions_and_its_names_go_back():
    from torchvision.models.detection import ssd300_vgg16

    torch.manual_seed(0)
    theirs = ssd300_vgg16(weights=None, weights_backbone=None, num_classes=11)
    ours = create_detector("ssd300", classes=10, channels=3, size=(300, 300))
    origin = DETECTORS["ssd300"].origins["torchvision"]
    state = theirs.state_dict()
    fit(ours, to_ours(state, ours, origin), "memory")
    back = from_ours(ours.state_dict(), origin)
    assert set(back) == set(state)
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())
    _agree(ours, theirs, (300, 300), 10)


@pytest.mark.parametrize("size", [(96, 160), (64, 64)])
def test_any_backbone_is_torchvisions_ssd_around_it(size):
    from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
    from torchvision.models.detection.ssd import SSD

    torch.manual_seed(0)
    ours = create_detector("ssd", backbone="resnet18", classes=6, channels=3, size=size)
    maps = nn.Sequential(ours.backbone, ours.neck, _Named())
    maps.out_channels = ours.neck.channels
    boxes = DefaultBoxGenerator([list(ratios) for ratios in ours.spec.ratios], scales=list(ours.spec.scales))
    theirs = SSD(maps, boxes, size, 7)
    theirs.head.classification_head.module_list.load_state_dict(ours.head.logits.state_dict())
    theirs.head.regression_head.module_list.load_state_dict(ours.head.deltas.state_dict())
    ours.eval()  # running statistics stay, so that both see the same
    for norm in (layer for layer in ours.modules() if isinstance(layer, nn.BatchNorm2d)):
        norm.momentum = 0.0
    _agree(ours, theirs, size, 6)


class _Named(nn.Module):
    def forward(self, maps):
        return {str(place): x for place, x in enumerate(maps)}
