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


@pytest.mark.parametrize(
    ("name", "side", "strides"),
    [
        ("resnet10t", 65, [2, 4, 8, 16, 32]),
        ("convnext_atto", 64, [4, 8, 16, 32]),
        ("efficientnet_b0", 64, [2, 4, 8, 16, 32]),
        ("vit_tiny_patch16_224", 224, [16]),
        ("swin_tiny_patch4_window7_224", 224, [4, 8, 16, 32]),
        ("legacy_xception", 96, [2, 4, 8, 16, 32]),
        ("inception_v4", 96, [2, 4, 8, 16, 32]),
    ],
)
@pytest.mark.parametrize("train", [False, True])
def test_a_classifier_declares_timms_maps_and_scores_as_timm_does(name, side, strides, train):
    network = striate.create(f"timm:{name}", classes=3, size=(side, side)).train(train)
    images = torch.randn(2, 3, side, side)
    with torch.no_grad():
        torch.manual_seed(0)
        *maps, logits = network.backbone(images)
        torch.manual_seed(0)
        assert torch.equal(logits, network.backbone.network(images))
    *stages, last = network.backbone.stages
    assert (last.name, last.stride, logits.shape) == ("logits", 0, (2, 3))
    assert [stage.stride for stage in stages] == strides
    for stage, found in zip(stages, maps, strict=True):
        assert found.shape[:2] == (2, stage.channels)
        unpadded = 5 if name in ("legacy_xception", "inception_v4") else 1  # pixels that their stems lose
        assert found.shape[2] == pytest.approx(side / stage.stride, abs=unpadded)


def test_a_module_with_maps_of_many_strides_gives_them_names_of_their_own():
    names = [stage.name for stage in catalog.published("timm:coat_tiny").backbone.stages]
    assert names == ["serial_blocks1", "parallel_blocks/8", "parallel_blocks/16", "parallel_blocks/32", "logits"]


def test_a_network_that_gives_no_maps_has_its_logits(monkeypatch):
    from timm.models.resnet import ResNet

    monkeypatch.delattr(ResNet, "forward_intermediates")
    network = striate.create("timm:resnet10t", classes=3, size=(64, 64)).eval()
    assert [stage.name for stage in network.backbone.stages] == ["logits"]
    assert network(torch.randn(1, 3, 64, 64)).shape == (1, 3)


@pytest.mark.parametrize("name", ["timm:vit_small_patch14_dinov2", "timm:mixnet_xl"])
def test_a_network_published_without_a_classifier_has_imagenets_classes(name):
    assert catalog.published(name).classes == 1000


def test_a_replaced_name_is_the_new_networks_without_a_warning():
    assert timm_provider.images("timm:xception") == (3, 299, 299)
    old, new = catalog.published("timm:xception"), catalog.published("timm:legacy_xception")
    assert old.state_dict().keys() == new.state_dict().keys()
    assert timm_provider.origins("timm:xception") == timm_provider.origins("timm:legacy_xception")


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
