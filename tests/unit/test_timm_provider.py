"""timm's networks as classifiers and as backbones."""

import sys

import pytest
import torch

import striate
from striate.errors import UsageError
from striate.models import catalog, timm_provider


@pytest.mark.parametrize(
    "name", ["timm:resnet10t", "timm:xception41", "timm:vit_tiny_patch16_224", "timm:swin_tiny_patch4_window7_224"]
)
def test_builds_as_published_without_weights(name):
    network = catalog.published(name).eval()
    assert network(torch.empty(1, 3, *network.size, device="meta")).shape == (1, 1000)


def test_is_timms_network_with_any_classes_channels_and_size():
    import timm

    network = striate.create("timm:resnet10t", classes=4, channels=1, size=(65, 47)).eval()
    theirs = timm.create_model("resnet10t", num_classes=4, in_chans=1).eval()
    theirs.load_state_dict(network.backbone.network.state_dict())
    images = torch.randn(2, 1, 65, 47)
    assert torch.equal(network(images), theirs(images))


def test_loads_a_file_of_timms_weights_into_another_number_of_channels(tmp_path):
    import timm

    theirs = timm.create_model("resnet10t", num_classes=6).eval()
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    network = striate.create("timm:resnet10t", weights=tmp_path / "w.pth", origin="timm", channels=1).eval()
    grey = torch.randn(2, 1, 64, 64)
    torch.testing.assert_close(network(grey), theirs(grey.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-4)
    assert network.classes == 6


@pytest.mark.parametrize("name", ["timm:resnet10t", "timm:convnext_atto", "timm:swin_tiny_patch4_window7_224"])
@torch.no_grad()
def test_a_backbone_declares_the_stages_that_it_gives(name):
    with torch.device("meta"):
        backbone = timm_provider.backbone(name, channels=3, size=(224, 224))
        maps = backbone(torch.empty(2, 3, 224, 224))
    assert [x.shape for x in maps] == [
        (2, stage.channels, 224 // stage.stride, 224 // stage.stride) for stage in backbone.stages
    ]
    assert len(maps) >= 4


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match=r"timm has no model 'resnet51'.*resnet50"):
        striate.create("timm:resnet51")


def test_says_how_to_install_timm_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UsageError, match=r"pip install 'striate\[timm\]'"):
        striate.create("timm:resnet10t")
