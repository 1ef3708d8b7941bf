"""Inspections against torch's own counter, published model cards, and the network that was given."""

import json

import pytest
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.regnet import BlockParams

from striate.analysis.inspection import inspect_network
from striate.errors import UsageError
from striate.models.catalog import CATALOG, find, published

# One of every kind.
PEERS = (
    *("alexnet", "vgg11_bn", "resnet18", "resnext50_32x4d", "densenet121", "mobilenet_v3_small", "efficientnet_b0"),
    *("convnext_tiny", "vit_b_16", "swin_t", "googlenet", "inception_v3"),
)
CLASSIFIERS = tuple(torchvision.models.list_models(module=torchvision.models))


def _peer(name, **more):
    more |= {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    with torch.device("meta"):
        return torchvision.models.get_model(name, **more)


def _inspect(network, size=(32, 32), channels=3):
    return inspect_network(network, (channels, *size), name="given")


def _flops(network, images):
    """By torch's own counter, from a pass in training mode (in evaluation mode it misses fused attention)."""
    with FlopCounterMode(display=False) as counter:
        network.train()(torch.empty(1, *images, device="meta"))
    return counter.get_total_flops()


def _without_statistics_of_one(network):
    """Batch normalisation as in evaluation: it refuses a batch of one value, and has no MACs."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train = lambda mode=True, module=module: module
            module.training = False
    return network


@pytest.mark.parametrize("name", PEERS)
def test_macs_are_half_of_what_torch_counts(name):
    size = 299 if name == "inception_v3" else 224
    more = {"aux_logits": False} if name in ("googlenet", "inception_v3") else {}  # these run in training mode only
    network = _peer(name, **more)
    inspection = _inspect(network, (size, size))
    assert inspection.flops == 2 * inspection.macs == _flops(_without_statistics_of_one(network), (3, size, size))
    assert inspection.uncounted == ()


@pytest.mark.parametrize("name", CATALOG)
def test_the_catalog_is_counted_whole(name):
    with torch.device("meta"):
        network = published(name)
    inspection = inspect_network(network, find(name).images, name=name)
    assert inspection.uncounted == ()
    assert inspection.parameters == sum(parameter.numel() for parameter in network.parameters())
    assert inspection.parameters == sum(layer.parameters for layer in inspection.layers)
    assert inspection.trainable_parameters == sum(layer.trainable_parameters for layer in inspection.layers)
    with FlopCounterMode(display=False) as counter:
        network.eval()(torch.empty(1, *find(name).images, device="meta"))
    assert inspection.flops == counter.get_total_flops()
    assert all(layer.receptive_field for layer in inspection.layers if layer.output_shape is not None and layer.macs)
    for stage, declared in zip(inspection.stages, network.backbone.stages, strict=True):
        assert (stage.name, stage.shape[0], stage.stride) == (declared.name, declared.channels, declared.stride)
        assert stage.receptive_field.whole or not stage.stride or set(stage.receptive_field.jump) == {stage.stride}


def _held_against_its_cards(name):
    sizes = set()
    for weights in torchvision.models.get_model_weights(name):
        size = weights.transforms.keywords["crop_size"]
        if size in sizes:
            continue
        sizes.add(size)
        inspection = _inspect(_peer(name, **({"image_size": size} if name.startswith("vit") else {})), (size, size))
        assert round(inspection.macs / 1e9, 3) == pytest.approx(weights.meta["_ops"], abs=1.1e-3)
        # The card of GoogLeNet leaves out the auxiliary classifiers, that of Inception v3 does not.
        idle = sum(layer.parameters for layer in inspection.layers if layer.output_shape is None)
        assert inspection.parameters - (idle if name == "googlenet" else 0) == weights.meta["num_params"]


@pytest.mark.parametrize(
    "name", ["resnet50", "vgg16", "mobilenet_v2", "maxvit_t", "swin_v2_t", "vit_l_32", "googlenet"]
)
def test_published_model_cards(name):
    _held_against_its_cards(name)


@pytest.mark.slow  # 80 networks
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_all_published_model_cards(name, monkeypatch):
    widths = BlockParams.from_init_params.__func__

    def on_cpu(cls, *args, **more):  # it reads values, and could not do so on the meta device
        with torch.device("cpu"):
            return widths(cls, *args, **more)

    monkeypatch.setattr(BlockParams, "from_init_params", classmethod(on_cpu))
    _held_against_its_cards(name)


class Several(nn.Module):
    """One of every operation that has multiply-accumulates of its own."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(4, 8, 3, 2, 1, groups=2)
        self.up = nn.ConvTranspose2d(8, 6, 4, 2, 1, groups=2)
        self.line = nn.Conv1d(6, 5, 3, dilation=2)

    def forward(self, x):
        x = self.up(self.down(x))
        line = self.line(x.flatten(2))
        x = torch.einsum("bchw,bdhw->bcd", x, x)
        x = torch.baddbmm(x, x, x)
        return nn.functional.scaled_dot_product_attention(x[None], x[None], x[None]), line


def test_closed_forms():
    macs = [layer.macs for layer in _inspect(Several(), (8, 8), channels=4).layers]
    assert [count for count in macs if count] == [
        8 * 4 * 4 * 2 * 9,  # outputs times what each reads
        8 * 4 * 4 * 3 * 16,  # inputs times what each is written to
        5 * 60 * 6 * 3,
        6 * 6 * 64,
        6 * 6 * 6,
        *([2 * 6 * 6 * 6] if 2 * 6 * 6 * 6 in macs else [6 * 6 * 6] * 2),  # attention, fused or as two products
    ]


def test_an_operation_nobody_knows_is_listed():
    class Spectrum(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            x = self.conv(x)
            return torch.fft.rfft2(torch.fft.irfft2(torch.fft.rfft2(x))).abs()

    inspection = _inspect(Spectrum())
    assert inspection.macs == 4 * 30 * 30 * 27
    rows = {row.operation: row.times for row in inspection.uncounted}
    assert rows
    assert all(name.startswith("aten::_fft") for name in rows)
    assert sum(rows.values()) >= 3
    layers = {layer.name for layer in inspection.layers}
    assert {row.layer for row in inspection.uncounted} <= layers


def test_a_module_called_twice_has_two_rows_and_counts_its_parameters_once():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)
            self.tied = nn.Conv2d(3, 3, 3, padding=1)
            self.tied.weight = self.conv.weight

        def forward(self, x):
            return self.tied(self.conv(self.conv(x)))

    inspection = _inspect(Twice())
    assert [(layer.name, layer.parameters) for layer in inspection.layers] == [("conv", 84), ("conv", 0), ("tied", 3)]
    assert [layer.macs for layer in inspection.layers] == [3 * 32 * 32 * 27] * 3
    assert inspection.parameters == 87


def test_rows_of_leaves_and_of_operations_beside_them():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3, padding=1)
            self.act = nn.ReLU(inplace=True)
            self.scale = nn.Parameter(torch.ones(4, 1, 1), requires_grad=False)
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
            self.never = nn.Linear(3, 3)

        def forward(self, x):
            x = x + self.act(self.conv(x)) * self.scale
            tokens = x.flatten(2).transpose(1, 2)
            return self.attention(tokens, tokens, tokens)[0]

    network = nn.Sequential(nn.Conv2d(3, 4, 1), Block(), nn.Dropout(), nn.Identity())
    conv, inner, act, mul, add, attention, dropout, idle = _inspect(network, (8, 8)).layers
    assert (conv.name, conv.type, conv.kernel, conv.stride, conv.padding) == ("0", "Conv2d", (1, 1), (1, 1), (0, 0))
    assert (inner.name, inner.input_shape, inner.output_shape, inner.groups) == ("1.conv", (4, 8, 8), (4, 8, 8), 1)
    assert (act.activations, inner.activations) == (0, 256)  # in place
    assert (mul.name, mul.type, mul.parameters, mul.trainable_parameters) == ("1 (mul)", "mul", 4, 0)
    assert (add.name, add.input_shape) == ("1 (add)", (4, 8, 8))
    assert (attention.name, attention.parameters) == ("1.attention", 4 * 4 * 4 + 4 * 4)
    assert attention.macs == 4 * 64 * 4 * 4 + 2 * 64 * 64 * 4
    assert (dropout.type, dropout.activations) == ("Dropout", 0)
    assert (idle.name, idle.type, idle.output_shape, idle.parameters) == ("1.never", "Linear", None, 12)


@pytest.mark.parametrize("padding", [(1, 2), "same"])
def test_padding_is_what_is_added(padding):
    (layer,) = _inspect(nn.Conv2d(3, 4, (3, 5), padding=padding)).layers
    assert layer.padding == (1, 2)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
def test_uneven_padding_names_all_sides():
    (layer,) = _inspect(nn.Conv2d(3, 4, (4, 3), padding="same")).layers
    assert layer.padding == (1, 1, 2, 1)


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_left_as_it_was(training):
    torch.manual_seed(0)
    network = torchvision.models.resnet18(num_classes=5).train(training)
    network.layer1.eval()
    network.fc.register_forward_hook(lambda *_: None)
    network(torch.randn(2, 3, 32, 32)).sum().backward()
    before = {name: (id(tensor), tensor.clone()) for name, tensor in network.state_dict(keep_vars=True).items()}
    gradients = {name: (id(p.grad), p.grad.clone()) for name, p in network.named_parameters()}
    modes = [module.training for module in network.modules()]
    hooks = [(len(module._forward_hooks), len(module._forward_pre_hooks)) for module in network.modules()]
    inspection = _inspect(network)
    assert inspection.parameters == sum(parameter.numel() for parameter in network.parameters())
    for name, tensor in network.state_dict(keep_vars=True).items():
        assert (id(tensor), tensor.device.type) == (before[name][0], "cpu")
        torch.testing.assert_close(tensor, before[name][1], rtol=0, atol=0)
    for name, parameter in network.named_parameters():
        assert id(parameter.grad) == gradients[name][0]
        torch.testing.assert_close(parameter.grad, gradients[name][1], rtol=0, atol=0)
    assert [module.training for module in network.modules()] == modes
    assert [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in network.modules()] == hooks


def test_it_is_left_as_it_was_after_a_failure_too():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(5, 4, 3)).train()
    with pytest.raises(UsageError, match=r"1 \(Conv2d\) was given 1x4x30x30"):
        _inspect(network)
    assert network.training
    assert not any(parameter.is_meta for parameter in network.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_a_network_that_reads_values_is_answered_in_words():
    class Reads(nn.Module):
        def forward(self, x):
            return x if x.sum().item() > 0 else -x

    with pytest.raises(UsageError, match="needs the values"):
        _inspect(nn.Sequential(Reads()))


def test_tensors_kept_as_attributes_are_taken_as_they_are():
    class Keeps(nn.Module):
        def __init__(self):
            super().__init__()
            self.matrix = torch.ones(32, 8)

        def forward(self, x):
            return x @ self.matrix

    assert _inspect(Keeps()).macs == 3 * 32 * 32 * 8


def test_the_document_can_be_written_and_adds_up():
    with torch.device("meta"):
        network = published("resnet20")
    document = json.loads(json.dumps(inspect_network(network, (3, 32, 32), name="resnet20").to_json()))
    assert document["schema"] == "striate.inspect/1"
    assert (document["model"], document["input"]) == ("resnet20", [3, 32, 32])
    assert document["flops"] == 2 * document["macs"] == 2 * sum(layer["macs"] for layer in document["layers"])
    assert document["activations"] == sum(layer["activations"] for layer in document["layers"])
    first = document["layers"][0]
    assert (first["name"], first["type"]) == ("backbone.conv1", "Conv2d")
    assert (first["input_shape"], first["output_shape"]) == ([3, 32, 32], [16, 32, 32])
    assert (first["kernel"], first["stride"], first["padding"]) == ([3, 3], [1, 1], [1, 1])
    assert first["receptive_field"] == {"size": [3, 3], "jump": [1, 1], "offset": [0, 0], "whole": False}
    assert [stage["name"] for stage in document["stages"]] == ["stage1", "stage2", "stage3"]


@pytest.mark.parametrize(
    ("name", "field"),
    [
        # Araujo, Norris, Sim: "Computing Receptive Fields of Convolutional Neural Networks", Distill 2019, table
        ("vgg16", 212),
        ("alexnet_two_tower", 195),
        ("resnet50_v1", 483),
        ("resnet101_v1", 1027),
        ("resnet152_v1", 1507),
        ("mobilenet_v1", 315),
        ("inception_v3", 1311),
    ],
)
def test_published_receptive_fields(name, field):
    with torch.device("meta"):
        stages = inspect_network(published(name), find(name).images, name=name).stages
    assert stages[-1].receptive_field.size == (field, field)
    assert stages[-1].receptive_field.jump == (32, 32)


@pytest.mark.parametrize(("name", "field"), [("inception_v4", 2071), ("inception_resnet_v2", 3039)])
def test_published_receptive_fields_of_networks_of_timm(name, field):
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        network = timm.create_model(name)
    fields = [layer.receptive_field for layer in _inspect(network, (299, 299)).layers if layer.receptive_field]
    assert max(seen.size for seen in fields if not seen.whole) == (field, field)  # Araujo et al. 2019, table
