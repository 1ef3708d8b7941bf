"""Parameters, shapes, multiply-accumulates and connections against the published figures."""

import pytest
import torch
from torch import nn

from striate.analysis.verify import verify
from striate.models.catalog import CATALOG, parameters, published
from striate.models.published import connections, errors, rows
from striate.nn.lecun import RadialBasis, Subsampling, TableConv2d

MODELS = list(dict.fromkeys(row.model for row in rows()))


@pytest.mark.parametrize("name", MODELS)
def test_figures_are_the_published_ones(name):
    wrong = [
        f"{check.row.figure} of {check.row.layer or name}: {check.row.value} published, {check.ours} here"
        for check in verify(name)
        if check.held == bool(check.row.disputed)  # a disputed figure must be wrong, or the dispute is over
    ]
    assert not wrong, "\n".join(wrong)


def test_every_row_is_about_a_network_of_the_catalog_and_cites_its_source():
    for row in (*rows(), *errors(), *connections()):
        assert row.model in CATALOG
        assert row.source


def test_no_figure_is_given_twice_by_one_source():
    keys = [(row.model, row.figure, row.layer, row.source) for row in rows()]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("depth", [20, 32, 44, 56, 110])
def test_a_plain_network_has_the_parameters_of_its_residual_twin(depth):
    assert parameters(f"plain{depth}") == parameters(f"resnet{depth}")


@pytest.mark.parametrize("depth", [20, 32, 44, 56, 110])
def test_depth_counts_the_layers_of_weights(depth):
    weighted = [m for m in published(f"resnet{depth}").modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(weighted) == depth


def _connections(model):
    """For every unit of every layer its inputs and its bias, counted from what the layers are."""
    counts, hooks = {}, []

    def count(name):
        def hook(layer, _, output):
            units = output[0].numel()
            if isinstance(layer, TableConv2d):
                per_map = output[0, 0].numel()
                counts[name] = sum(per_map * (fan_in + 1) for fan_in in layer.fan_in)
            elif isinstance(layer, Subsampling):
                counts[name] = units * (4 + 1)
            elif isinstance(layer, RadialBasis):
                counts[name] = layer.codes.numel()  # no bias
            else:
                counts[name] = units * (layer.weight[0].numel() + 1)

        return hook

    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear | TableConv2d | Subsampling | RadialBasis):
            hooks.append(layer.register_forward_hook(count(name.split(".")[1])))
    model(torch.empty(1, model.channels, *model.size, device="meta"))
    return counts


@pytest.mark.parametrize("row", connections(), ids=lambda row: f"{row.model} {row.layer}")
def test_connections_are_the_published_number(row):
    counts = _connections(published(row.model))
    assert (counts[row.layer] if row.layer else sum(counts.values())) == row.count
