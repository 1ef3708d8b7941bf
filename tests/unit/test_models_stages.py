"""Which stage a parameter belongs to."""

import pytest
import torch

from striate.models.catalog import create, published_for
from striate.models.stages import parameter_stages


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet18", {"stem": 9536, "stage1": 147_968, "stage4": 8_393_728, "classifier": 513_000}),
        ("timm:resnet18", {"act1": 9536, "layer1": 147_968, "layer4": 8_393_728, "classifier": 513_000}),
        ("vgg11", {"stage1": 1792, "head": 102_764_544 + 16_781_312, "classifier": 4_097_000}),  # fc6 + fc7, fc8
        ("linear", {"classifier": 7850}),
    ],
)
def test_counts_are_those_of_the_papers_tables(name: str, expected: dict[str, int]) -> None:
    (channels, *size), classes = published_for(name)
    network = create(name, classes=classes, channels=channels, size=(size[0], size[1]))
    stages = parameter_stages(network)
    counts = {stage: sum(network.get_parameter(p).numel() for p in names) for stage, names in stages.items()}
    assert expected.items() <= counts.items()
    assert sorted(n for names in stages.values() for n in names) == sorted(n for n, _ in network.named_parameters())


def test_looking_changes_nothing() -> None:
    network = create("resnet20", classes=3, channels=1, size=(16, 16)).train()
    network.backbone.get_parameter("conv1.weight").requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    parameter_stages(network)
    assert network.training
    assert not network.backbone.get_parameter("conv1.weight").requires_grad
    assert network.head.get_parameter("fc.weight").requires_grad
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
