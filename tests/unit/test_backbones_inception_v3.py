"""Inception v3: the auxiliary classifier against torchvision's, batches of one, and timm's names."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from striate.models.backbones.inception_v3 import TORCHVISION, Auxiliary
from striate.models.catalog import CATALOG, load, published
from striate.models.weights import Origin, from_ours, to_ours

SIZE = (299, 299)


def _without_dropout(network):
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return network.train()


def test_the_auxiliary_classifier_trains_as_torchvisions_does():
    from torchvision.models.inception import InceptionAux

    torch.manual_seed(0)
    theirs = InceptionAux(768, 7)
    names = Origin(model="inception_v3", names=TORCHVISION)
    state = {f"AuxLogits.{key}": tensor for key, tensor in theirs.state_dict().items()}
    ours = Auxiliary(768, 7)
    ours.load_state_dict(
        {key.removeprefix("auxiliary.mixed6e."): tensor.clone() for key, tensor in to_ours(state, ours, names).items()}
    )
    features, other = (torch.randn(3, 768, 17, 17).requires_grad_() for _ in range(2))
    other.data.copy_(features)
    logits, expected = ours(features), theirs(other)
    torch.testing.assert_close(logits, expected)
    logits.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(features.grad, other.grad)
    torch.testing.assert_close(ours.conv1.norm.running_var, theirs.conv1.bn.running_var)


@pytest.mark.slow  # whole, at the only size that torchvision's auxiliary classifier takes
def test_auxiliary_logits_and_all_gradients_in_training_are_torchvisions():
    from torchvision.models import inception_v3

    torch.manual_seed(0)
    theirs = _without_dropout(inception_v3(num_classes=7, aux_logits=True, init_weights=False))
    state = {key: tensor.clone() for key, tensor in theirs.state_dict().items()}
    ours = _without_dropout(load("inception_v3", state, where="memory", origin="torchvision"))

    images, labels = torch.randn(3, 3, *SIZE), torch.tensor([1, 3, 5])
    logits = ours.training_logits(images)
    expected = dict(zip(("", "mixed6e"), theirs(images), strict=True))
    assert logits.keys() == expected.keys()
    for name, mine in logits.items():
        torch.testing.assert_close(mine, expected[name], rtol=1e-4, atol=1e-4)

    sum(F.cross_entropy(x, labels) for x in logits.values()).backward()
    sum(F.cross_entropy(x, labels) for x in expected.values()).backward()
    origin = CATALOG["inception_v3"].origins["torchvision"]
    mine = from_ours({key: p.grad for key, p in ours.named_parameters()}, origin)
    other = {key: p.grad for key, p in theirs.named_parameters()}
    assert mine.keys() == other.keys()
    for key, gradient in mine.items():
        scale = other[key].abs().max().clamp(min=1e-6)
        torch.testing.assert_close(gradient / scale, other[key] / scale, rtol=1e-2, atol=1e-2, msg=key)


def test_a_batch_of_one_trains_by_the_running_statistics_of_the_last_normalisation():
    torch.manual_seed(0)
    head = Auxiliary(8, 3).train()
    one = torch.randn(1, 8, 17, 17)
    scores = head(one)
    conv1 = head.conv1
    assert torch.equal(conv1.norm.running_mean, torch.zeros(768))  # and does not move them
    x = conv1.conv(head.conv0(F.avg_pool2d(one, 5, 3))).flatten(1) / (1 + conv1.norm.eps) ** 0.5
    torch.testing.assert_close(scores, head.fc(x.relu()))
    head(torch.randn(2, 8, 17, 17))
    assert conv1.norm.running_mean.any()


@pytest.mark.parametrize("side", [17, 12, 5, 30])
def test_the_auxiliary_classifier_takes_maps_of_any_size(side):
    assert Auxiliary(8, 3)(torch.randn(2, 8, side, side)).shape == (2, 3)


@pytest.mark.slow  # of 27 million parameters, at 299x299
def test_timms_network_with_auxiliary_classifier_has_torchvisions_names():
    import timm

    torch.manual_seed(0)
    theirs = timm.create_model("inception_v3", pretrained=False, num_classes=7, aux_logits=True).eval()
    ours = load("inception_v3", theirs.state_dict(), where="memory", origin="torchvision").eval()
    images = torch.randn(1, 3, *SIZE)
    with torch.no_grad():
        mine, (other, _) = ours(images), theirs(images)
    scale = other.abs().max().clamp(min=1)
    torch.testing.assert_close(mine / scale, other / scale, rtol=1e-5, atol=1e-5)


def test_parameters_for_inference_are_less_than_25_million():
    network = published("inception_v3")
    used = sum(p.numel() for part in (network.backbone, network.head) for p in part.parameters())
    assert used == 23_834_568  # torchvision's with aux_logits=False
