"""Parameters, shapes and connections against the published figures."""

import pytest
import torch
from published_models import CONNECTIONS, PARAMETERS, SHAPES
from torch import nn

from striate.models.catalog import CATALOG, create
from striate.nn.lecun import RadialBasis, Subsampling, TableConv2d


def _model(name):
    residual = name.startswith(("resnet", "plain"))
    size = CATALOG[name].size or ((32, 32) if residual else (28, 28))
    with torch.device("meta"):
        return create(name, classes=10, channels=3 if residual else 1, size=size)


def _count(module):
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


@pytest.mark.parametrize("row", PARAMETERS, ids=lambda row: f"{row.model} {row.layer} {row.count}")
def test_parameters_are_the_published_number(row):
    assert abs(_count(_model(row.model).get_submodule(row.layer)) - row.count) <= row.within


@pytest.mark.parametrize("name", ["20", "32", "44", "56", "110"])
def test_a_plain_network_has_the_parameters_of_its_residual_twin(name):
    assert _count(_model(f"plain{name}")) == _count(_model(f"resnet{name}"))


@pytest.mark.parametrize("row", SHAPES, ids=lambda row: f"{row.model} {row.stage}")
def test_maps_have_the_published_shape(row):
    model = _model(row.model)
    images = torch.empty(1, model.channels, *model.size, device="meta")
    maps = {stage.name: x for stage, x in zip(model.backbone.stages, model.backbone(images), strict=True)}
    assert maps[row.stage].shape == (1, *row.shape)


@pytest.mark.parametrize("depth", [20, 32, 44, 56, 110])
def test_depth_counts_the_layers_of_weights(depth):
    weighted = [m for m in _model(f"resnet{depth}").modules() if isinstance(m, nn.Conv2d | nn.Linear)]
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


@pytest.mark.parametrize("row", CONNECTIONS, ids=lambda row: f"{row.model} {row.layer}")
def test_connections_are_the_published_number(row):
    counts = _connections(_model(row.model))
    assert (counts[row.layer] if row.layer else sum(counts.values())) == row.count
