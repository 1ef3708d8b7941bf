"""Checkpoints of other libraries whose tensors do not have the shape that their names promise."""

import pytest
import torch
from torch import nn

from striate.errors import ModelFileError
from striate.models.weights import Origin, fit, from_ours, matching, to_ours

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


STACKED = Origin(
    model="theirs",
    names=(("{i}.q.{p}", "{i}.query.{p}"), ("{i}.k.{p}", "{i}.key.{p}"), ("norm.{p}", "norm.{p}")),
    stacked=(("{i}.in_proj_{p}", ("{i}.q.{p}", "{i}.k.{p}")),),
)


def _projections():
    layer = nn.ModuleDict({"query": nn.Linear(3, 2), "key": nn.Linear(3, 2)})
    return nn.ModuleDict({"0": layer, "norm": nn.BatchNorm2d(2)})


def test_what_is_stacked_there_comes_apart_and_goes_back():
    network, whole, bias = _projections(), torch.randn(4, 3), torch.randn(4)
    theirs = {"0.in_proj_weight": whole, "0.in_proj_bias": bias, **network["norm"].state_dict(prefix="norm.")}
    assert matching(theirs, {"theirs": STACKED}) == ["theirs"]
    fit(network, to_ours(theirs, network, STACKED), "w.pth")
    own = network.state_dict()
    assert torch.equal(own["0.query.weight"], whole[:2])
    assert torch.equal(own["0.key.bias"], bias[2:])
    back = from_ours(own, STACKED)
    assert back.keys() == theirs.keys()
    assert all(torch.equal(back[name], theirs[name]) for name in theirs)


def test_a_stacked_tensor_of_another_height_is_listed_as_of_another_shape():
    network = _projections()
    theirs = {"0.in_proj_weight": torch.zeros(5, 3), "0.in_proj_bias": torch.zeros(4)}
    theirs |= network["norm"].state_dict(prefix="norm.")
    with pytest.raises(ModelFileError, match=r"1 of another shape \(0.query.weight: \(3, 3\) in the file"):
        fit(network, to_ours(theirs, network, STACKED), "w.pth")


def test_a_frozen_normalisation_counts_no_batches():
    network = _projections()
    theirs = {"0.in_proj_weight": torch.zeros(4, 3), "0.in_proj_bias": torch.zeros(4)}
    theirs |= network["norm"].state_dict(prefix="norm.")
    del theirs["norm.num_batches_tracked"]
    network["norm"].num_batches_tracked.fill_(3)
    fit(network, to_ours(theirs, network, STACKED), "w.pth")
    assert int(network["norm"].num_batches_tracked) == 0
