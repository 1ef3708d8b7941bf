"""SqueezeNet's bypass."""

import torch

from striate.models.backbones import squeezenet
from striate.models.catalog import published


def test_every_second_fire_module_is_bypassed():
    backbone = published("squeezenet1_0_bypass").backbone
    found = [name for name, layer in backbone.named_modules() if getattr(layer, "bypass", False)]
    assert found == ["stage1.fire3", "stage2.fire5", "stage2.fire7", "stage3.fire9"]  # figure 2, middle


@torch.no_grad()
def test_a_bypass_adds_what_the_module_reads():
    plain = squeezenet.Fire(128, 16, bypass=False)
    bypassed = squeezenet.Fire(128, 16, bypass=True)
    bypassed.load_state_dict(plain.state_dict())
    maps = torch.randn(1, 128, 4, 4)
    torch.testing.assert_close(bypassed(maps), plain(maps) + maps)
