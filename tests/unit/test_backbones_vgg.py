"""What VGG's parameters cannot say: where the kernels of one pixel and the normalisation are."""

import pytest
from torch import nn

from striate.models.backbones import vgg
from striate.models.catalog import published

DEPTHS = {"vgg11": 11, "vgg11_lrn": 11, "vgg13": 13, "vgg16_c": 16, "vgg16": 16, "vgg19": 19}  # table 1


@pytest.mark.parametrize("name", vgg.VARIANTS)
def test_depth_counts_the_layers_of_weights(name):
    weighted = [layer for layer in published(name).modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert len(weighted) == DEPTHS[name.removesuffix("_bn")]


def test_column_c_has_its_1x1_kernels_last_in_the_three_deep_stages():
    found = {name for name, layer in published("vgg16_c").backbone.named_modules() if _kernel(layer) == (1, 1)}
    assert found == {"stage3.conv3", "stage4.conv3", "stage5.conv3"}


def _kernel(layer):
    return layer.kernel_size if isinstance(layer, nn.Conv2d) else None


def test_only_a_lrn_normalises_and_only_after_its_first_convolution():
    found = {
        (name, place)
        for name in vgg.VARIANTS
        for place, layer in published(name).named_modules()
        if isinstance(layer, nn.LocalResponseNorm)
    }
    assert found == {("vgg11_lrn", "backbone.stage1.lrn")}
    assert list(dict(published("vgg11_lrn").backbone.stage1.named_children())) == ["conv1", "relu1", "lrn", "pool"]
