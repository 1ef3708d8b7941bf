"""Positions of the vision transformer at other sizes, and the sizes that it cannot take."""

import pytest
import torch

from striate.errors import ModelFileError, UsageError
from striate.models.backbones import vit
from striate.models.catalog import CATALOG, create, published
from striate.models.weights import from_ours, to_ours

TINY = vit.Spec(patch=4, layers=1, width=8, mlp=16, heads=2, timm="")


def _backbone(size):
    torch.manual_seed(0)
    backbone = vit.VisionTransformer(TINY, channels=3, size=size).eval()
    torch.nn.init.normal_(backbone.position)
    return backbone


def test_positions_of_the_same_grid_stay_and_the_class_token_always_does():
    position = torch.randn(1, 1 + 6, 5)
    assert torch.equal(vit.resize_position(position, (2, 3), (2, 3)), position)
    resized = vit.resize_position(position, (2, 3), (5, 4))
    assert resized.shape == (1, 1 + 20, 5)
    assert torch.equal(resized[:, 0], position[:, 0])


def test_positions_are_interpolated_along_their_own_axis():
    rows = torch.arange(4.0).repeat_interleave(6).reshape(1, 24, 1)  # a grid of 4x6 that counts its rows
    position = torch.cat([torch.zeros(1, 1, 1), rows], 1)
    grid = vit.resize_position(position, (4, 6), (8, 3))[0, 1:, 0].reshape(8, 3)
    assert torch.allclose(grid, grid[:, :1].expand(8, 3))  # columns know nothing of rows
    assert (grid[1:, 0] > grid[:-1, 0]).all()
    torch.testing.assert_close(grid[3:5, 0], torch.tensor([1.25, 1.75]), rtol=0, atol=0.05)  # away from the border


@torch.no_grad()
def test_weights_learned_at_another_size_score_as_the_network_does_there():
    small, large = _backbone((16, 16)), _backbone((24, 20))
    large.load_state_dict(large.adapt(small.state_dict()))
    images = torch.randn(2, 3, 24, 20)
    for mine, theirs in zip(large(images), small(images), strict=True):
        torch.testing.assert_close(mine, theirs)


@torch.no_grad()
def test_positions_of_a_square_become_an_oblong_of_as_many_patches():
    square, oblong = _backbone((16, 16)), _backbone((8, 32))  # 4x4 and 2x8 patches
    oblong.load_state_dict(oblong.adapt(square.state_dict()))
    images = torch.randn(2, 3, 8, 32)
    for mine, theirs in zip(oblong(images), square(images), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_positions_of_an_unknown_grid_are_refused_and_of_ones_own_number_stay():
    oblong = _backbone((8, 12)).state_dict()
    with pytest.raises(ModelFileError, match=r"positions for 6 patches, which are no square.* fitted to 4x4"):
        _backbone((16, 16)).adapt(oblong)
    assert torch.equal(_backbone((8, 12)).adapt(oblong)["position"], oblong["position"])


@torch.no_grad()
def test_the_map_has_its_patches_where_they_are_in_the_image():
    backbone = _backbone((8, 12))
    backbone.encoder = torch.nn.Sequential()
    torch.nn.init.zeros_(backbone.position)
    images = torch.zeros(1, 3, 8, 12)
    images[:, :, 4:, 8:] = 1  # the last patch
    features, token = backbone(images)
    assert (features.shape, token.shape) == ((1, 8, 2, 3), (1, 8))
    other = features[0, :, 0, 0]
    differs = [[not torch.equal(features[0, :, row, column], other) for column in range(3)] for row in range(2)]
    assert differs == [[False] * 3, [False, False, True]]


def test_sizes_that_cut_a_patch_are_answered_with_one_that_does_not():
    with pytest.raises(UsageError, match=r"multiples of 14 pixels, its patch, not 225x230: set the size to 224x224"):
        create("vit_h_14", classes=10, channels=3, size=(225, 230))


def test_torchvisions_files_name_the_layers_of_the_mlp_as_they_once_were():
    network, origin = published("vit_b_32"), CATALOG["vit_b_32"].origins["torchvision"]
    names = {
        name.replace(".mlp.0.", ".mlp.linear_1.").replace(".mlp.3.", ".mlp.linear_2."): tensor
        for name, tensor in from_ours(network.state_dict(), origin).items()
    }
    assert sum("linear_" in name for name in names) == 12 * 4
    assert to_ours(names, network, origin).keys() == network.state_dict().keys()
