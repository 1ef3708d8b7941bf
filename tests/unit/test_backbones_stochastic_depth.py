"""How often each block is left out while training, and the dropout before the head, against torchvision's."""

import pytest
import torch
from torch import nn

from striate.models.catalog import CATALOG, published
from striate.nn.drop_path import DropPath

NAMES = [name for name in CATALOG if name.startswith(("efficientnet_b", "convnext"))]
DROPOUT = [name for name in CATALOG if name.startswith(("efficientnet_b", "mobilenet_v2", "mobilenet_v3"))]


def _torchvision(name):
    import torchvision

    with torch.device("meta"):
        return torchvision.models.get_model(name)


@pytest.mark.parametrize("name", NAMES)
def test_blocks_are_dropped_as_often_as_torchvisions(name):
    from torchvision.ops import StochasticDepth

    theirs = [
        next(layer.p for layer in block.modules() if isinstance(layer, StochasticDepth))
        for block in _torchvision(name).modules()
        if hasattr(block, "stochastic_depth") and getattr(block, "use_res_connect", True)
    ]
    ours = [layer.probability for layer in published(name).modules() if isinstance(layer, DropPath)]
    assert ours == pytest.approx([probability for probability in theirs if probability])


@pytest.mark.parametrize("name", DROPOUT)
def test_dropout_is_torchvisions(name):
    ours = [layer.p for layer in published(name).modules() if isinstance(layer, nn.Dropout)]
    assert ours == [layer.p for layer in _torchvision(name).modules() if isinstance(layer, nn.Dropout)]
