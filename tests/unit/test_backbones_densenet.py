"""DenseNet: its depth, what each layer reads, and the names in torchvision's own files."""

import pytest
import torch
from torch import nn

from striate.models.backbones.densenet import VARIANTS, DenseBlock
from striate.models.catalog import CATALOG, published
from striate.models.weights import from_ours, to_ours


@pytest.mark.parametrize("name", VARIANTS)
def test_the_name_counts_the_layers_of_weights_but_for_the_264_of_table_1(name):
    """The blocks of table 1, two layers each, with the first convolution, three transitions and the classifier."""
    weighted = [m for m in published(name).modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(weighted) == (265 if name == "densenet264" else int(name.removeprefix("densenet")))


def test_each_layer_reads_the_input_and_all_layers_before_it():
    """Equation 2."""
    torch.manual_seed(0)
    block = DenseBlock(6, 3, 4).eval()
    x = torch.randn(1, 6, 5, 5)
    y = block(x)
    assert y.shape == (1, 6 + 3 * 4, 5, 5)
    torch.testing.assert_close(y[:, :6], x)
    first = block.layer1(x)
    second = block.layer2(torch.cat([x, first], 1))
    torch.testing.assert_close(y, torch.cat([x, first, second, block.layer3(torch.cat([x, first, second], 1))], 1))


def test_names_with_dots_as_in_torchvisions_own_files_are_taken():
    ours = published("densenet121")
    origin = CATALOG["densenet121"].origins["torchvision"]
    theirs = from_ours(ours.state_dict(), origin)
    dotted = {
        key.replace("norm1.", "norm.1.")
        .replace("norm2.", "norm.2.")
        .replace("conv1.", "conv.1.")
        .replace("conv2.", "conv.2.")
        if ".denselayer" in key
        else key: tensor
        for key, tensor in theirs.items()
    }
    assert dotted.keys() != theirs.keys()
    assert to_ours(dotted, ours, origin).keys() == ours.state_dict().keys()
