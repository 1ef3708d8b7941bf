"""Checkpoints of other libraries whose tensors do not have the shape that their names promise."""

import pytest
import torch
from torch import nn

from striate.errors import ModelFileError
from striate.models.weights import Origin, fit, to_ours

ORIGIN = Origin(model="theirs", names=(("conv.{p}", "0.{p}", (0, 0, 1, 1)),))  # a full layer that is a convolution


def test_a_tensor_of_the_rank_there_takes_our_shape():
    network, theirs = nn.Sequential(nn.Linear(3, 2, bias=False)), torch.randn(2, 3, 1, 1)
    fit(network, to_ours({"conv.weight": theirs}, network, ORIGIN), "w.pth")
    assert torch.equal(network.state_dict()["0.weight"], theirs[:, :, 0, 0])


@pytest.mark.parametrize("shape", [(6,), (2, 3, 1), (2, 3, 1, 1, 1)])
def test_a_tensor_of_another_rank_is_listed_as_of_another_shape(shape):
    network = nn.Sequential(nn.Linear(3, 2, bias=False))
    found = to_ours({"conv.weight": torch.zeros(shape)}, network, ORIGIN)
    with pytest.raises(ModelFileError, match=r"1 of another shape \(0.weight: .* in the file, \(2, 3\) in the model"):
        fit(network, found, "w.pth")
