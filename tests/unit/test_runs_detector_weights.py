"""Detectors with weights, by the library's own function: whose classes count, and what is refused."""

import pytest
import torch
from torchvision.models import resnet18
from torchvision.models.detection import ssd300_vgg16

import striate
from striate.errors import UsageError


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "ssd.pth"
    torch.save(ssd300_vgg16(weights=None, weights_backbone=None, num_classes=6).state_dict(), path)
    return path


def test_the_checkpoint_says_how_many_classes_there_are(checkpoint):
    network = striate.create("ssd300", weights=checkpoint)
    assert network.classes == 5  # torchvision counts background
    theirs = torch.load(checkpoint, weights_only=True)
    assert torch.equal(
        network.state_dict()["head.logits.0.bias"], theirs["head.classification_head.module_list.0.bias"]
    )


def test_another_number_of_classes_is_asked_for_in_words(checkpoint):
    with pytest.raises(UsageError, match="is for 5 classes, not 3"):
        striate.create("ssd300", weights=checkpoint, classes=3)
    assert striate.create("ssd300", weights=checkpoint, classes=3, new_head=True).classes == 3


def test_a_classifiers_weights_are_the_backbones(tmp_path):
    theirs = resnet18(weights=None)
    torch.save(theirs.state_dict(), tmp_path / "resnet18.pth")
    network = striate.create(
        "retinanet", backbone="resnet18", classes=3, size=64, weights=tmp_path / "resnet18.pth", origin="torchvision"
    )
    assert any(torch.equal(theirs.conv1.weight, weight) for weight in network.backbone.parameters())


def test_a_backbone_is_for_detectors():
    with pytest.raises(UsageError, match="backbone='resnet18' is for detectors"):
        striate.create("resnet20", backbone="resnet18")
    with pytest.raises(UsageError, match="reads maps of the strides 8, 16, 32"):
        striate.create("retinanet", backbone="resnet20")
