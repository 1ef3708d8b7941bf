"""Regions cut out of maps, against torchvision's own pyramid pooling and by hand."""

from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F

from striate.ops.rois import PositionSensitiveAlign, PositionSensitivePool, RoIAlign, RoIPool, levels_of, with_images


def _boxes(count, height, width, seed=0):
    torch.manual_seed(seed)
    first = torch.rand(count, 2) * torch.tensor([width, height]) * 0.7
    return torch.cat((first, first + 1 + torch.rand(count, 2) * torch.tensor([width, height])), dim=1)


@pytest.mark.parametrize(
    ("side", "level"),
    [
        (224, 4),  # k0
        (223, 3),
        (112, 3),  # "mapped into a finer-resolution level (say, k = 3)" if the scale is half of 224
        (448, 5),
        (447, 4),
        (3, 2),  # below the finest
        (0, 2),  # an empty region
        (4000, 5),  # beyond the coarsest
    ],
)
def test_a_region_is_read_from_the_level_of_equation_1(side, level):
    assert int(levels_of(torch.tensor([[10.0, 20, 10 + side, 20 + side]]), finest=2, coarsest=5)) == level - 2


def test_a_pyramid_is_read_as_torchvision_reads_it():
    from torchvision.ops import MultiScaleRoIAlign

    torch.manual_seed(0)
    maps = [torch.randn(3, 5, 512 // stride, 640 // stride, requires_grad=True) for stride in (4, 8, 16, 32, 64)]
    boxes = [_boxes(40, 512, 640), torch.empty(0, 4), _boxes(9, 60, 60, seed=1)]
    ours = RoIAlign(size=(7, 6), strides=(4, 8, 16, 32), points=2)(maps, boxes)
    named = OrderedDict((str(place), one) for place, one in enumerate(maps))
    theirs = MultiScaleRoIAlign(["0", "1", "2", "3"], (7, 6), 2)(named, boxes, [(512, 640)] * 3)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    weight = torch.randn_like(ours)
    gradients = torch.autograd.grad((ours * weight).sum(), maps[:4])
    for a, b in zip(gradients, torch.autograd.grad((theirs * weight).sum(), maps[:4]), strict=True):
        torch.testing.assert_close(a, b)


def test_pooling_of_whole_pixels_is_max_pooling():
    torch.manual_seed(0)
    one = torch.randn(2, 3, 28, 42)
    # The last pixel counts, as in Caffe: from 0 to 27 * 16 are 28 pixels of the map.
    pooled = RoIPool(size=(7, 7), stride=16)([one], [torch.empty(0, 4), torch.tensor([[0.0, 0, 41 * 16, 27 * 16]])])
    torch.testing.assert_close(pooled[0], F.max_pool2d(one[1], (4, 6)))


def test_each_bin_has_channels_of_its_own():
    bins, classes = 3, 2
    torch.manual_seed(0)
    one = torch.randn(1, classes * bins * bins, 10, 13)  # torchvision never reads the last row and column
    box = [torch.tensor([[0.0, 0, 12 * 16, 9 * 16]])]
    pooled = PositionSensitivePool(bins=bins, stride=16)([one], box)
    assert pooled.shape == (1, classes, bins, bins)
    for c in range(classes):
        for i in range(bins):
            for j in range(bins):
                cell = one[0, c * bins * bins + i * bins + j, i * 3 : i * 3 + 3, j * 4 : j * 4 + 4]
                torch.testing.assert_close(pooled[0, c, i, j], cell.mean())
    # Read between the pixels, a map that is the same everywhere gives that value.
    constant = torch.arange(classes * bins * bins).float()[None, :, None, None].expand(1, -1, 10, 13).contiguous()
    aligned = PositionSensitiveAlign(bins=bins, stride=16, points=2)([constant], box)
    torch.testing.assert_close(aligned.flatten(), torch.arange(classes * bins * bins).float())


def test_regions_carry_their_image_and_are_float32():
    regions = with_images([torch.ones(2, 4), torch.empty(0, 4), torch.full((1, 4), 300.7)])
    assert regions[:, 0].tolist() == [0, 0, 2]
    half = RoIAlign(size=(2, 2), strides=(16,), points=2)([torch.ones(1, 1, 8, 8).bfloat16()], [torch.ones(1, 4)])
    assert half.dtype == torch.float32


@pytest.mark.parametrize(
    "pool",
    [
        RoIPool(size=(3, 3), stride=8),
        RoIAlign(size=(3, 3), strides=(8,), points=2),
        RoIAlign(size=(3, 3), strides=(4, 8), points=2),
        PositionSensitivePool(bins=3, stride=8),
        PositionSensitiveAlign(bins=3, stride=8, points=2),
    ],
)
def test_no_regions_are_no_rows_and_a_zero_gradient(pool):
    maps = [torch.randn(2, 9, 8, 8, requires_grad=True) for _ in getattr(pool, "strides", (8,))]
    pooled = pool(maps, [torch.empty(0, 4)] * 2)
    assert pooled.shape == (0, 1 if hasattr(pool, "bins") else 9, 3, 3)
    pooled.sum().backward()
    assert all(one.grad is not None and not one.grad.any() for one in maps)
