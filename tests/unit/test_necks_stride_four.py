"""Maps of stride 4: what up-convolutions begin as, and which maps are taken as they are."""

import pytest
import torch
import torch.nn.functional as F

from striate.errors import UsageError
from striate.models.contract import Backbone, Stage
from striate.models.detectors.catalog import create_backbone
from striate.models.necks.stride_four import StrideFour, UpConvolution


def test_an_up_convolution_begins_as_bilinear_interpolation():
    torch.manual_seed(0)
    x = torch.randn(2, 5, 6, 7)
    found = UpConvolution(3, 5).up(x)
    expected = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    assert found.shape == expected.shape == (2, 5, 12, 14)
    torch.testing.assert_close(found[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1])


class _Given(Backbone):
    def __init__(self, *strides):
        super().__init__()
        self.stages = tuple(
            Stage(name=str(n), channels=10 + (stride != 4), stride=stride) for n, stride in enumerate(strides)
        )


def test_a_backbone_that_ends_at_stride_4_has_its_last_maps_taken():
    neck = StrideFour(_Given(4, 2, 4, 4), "it")
    maps = [torch.randn(1, 10, 4, 4) for _ in range(4)]
    assert (neck.count, neck.channels) == (2, 10)
    assert all(a is b for a, b in zip(neck(maps), maps[2:], strict=True))


def test_any_other_is_brought_to_stride_4():
    backbone = create_backbone("mobilenet_v2", channels=3, size=(64, 96))
    neck = StrideFour(backbone, "it")
    (x,) = neck(backbone(torch.randn(2, 3, 64, 96)))
    assert x.shape == (2, neck.channels, 16, 24)


def test_a_backbone_without_stride_32_is_named():
    with pytest.raises(UsageError, match="it reads maps of the strides 32"):
        StrideFour(_Given(4, 8, 16), "it")
