"""Corner pooling, against loops over every place."""

import pytest
import torch

from striate.nn.corner_pool import CornerPool


@pytest.mark.parametrize("size", [(1, 1), (5, 8), (8, 5), (13, 17)])
@pytest.mark.parametrize("direction", ["top", "left", "bottom", "right"])
def test_every_place_gets_the_maximum_of_its_side(direction, size):
    torch.manual_seed(0)
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    found = CornerPool(direction)(x)
    height, width = size
    for row in range(height):
        for column in range(width):
            side = {
                "top": x[:, :, row:, column],
                "bottom": x[:, :, : row + 1, column],
                "left": x[:, :, row, column:],
                "right": x[:, :, row, : column + 1],
            }[direction]
            assert torch.equal(found[:, :, row, column], side.amax(2))
    found.sum().backward()
    assert x.grad.sum() == found.numel()  # each output's gradient goes to one place
