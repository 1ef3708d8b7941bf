"""Xception: what section 3 counts in figure 5."""

import torch
from torch import nn

from striate.models.backbones.xception import Block
from striate.models.catalog import published


def test_36_convolutions_in_14_modules_of_which_12_have_a_shortcut():
    """Section 3: 36 convolutional layers in 14 modules, all but the first and the last with linear shortcuts."""
    network = published("xception")
    shortcuts = {f"{name}.shortcut.conv" for name, m in network.named_modules() if isinstance(m, Block)}
    convolutions = [
        name
        for name, m in network.named_modules()
        if isinstance(m, nn.Conv2d) and not name.endswith("depthwise") and name not in shortcuts
    ]
    assert len(convolutions) == 36
    assert sum(isinstance(m, Block) for m in network.modules()) == 14 - 2


def test_a_block_leaves_its_input_alone_for_the_shortcut():
    torch.manual_seed(0)
    block = Block(8, (8, 8), stride=1)
    x = torch.randn(2, 8, 5, 5)
    kept = x.clone()
    block(x)
    assert torch.equal(x, kept)
