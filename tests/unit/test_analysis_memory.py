import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from striate.analysis.memory import Optimizer, measure_memory, predict_memory
from striate.errors import UsageError
from striate.models.catalog import create

OPTIMIZERS: tuple[Optimizer, ...] = ("sgd", "momentum", "adam")
FLOAT = 4  # bytes


class Small(nn.Module):
    """All that lives and dies in its own way: in-place ReLU, indices, masks, a residual, a concatenation."""

    def __init__(self, channels: int = 24):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU(inplace=True))
        self.pool = nn.MaxPool2d(2)
        self.left = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.SiLU())
        self.right = nn.Conv2d(channels, channels, 3, padding=1, groups=2)
        self.mix = nn.Conv2d(2 * channels, 2 * channels, 3, stride=2, padding=1)
        self.head = nn.Sequential(
            nn.Flatten(), nn.Dropout(), nn.Linear(2 * channels * 64, 50), nn.ReLU(), nn.Linear(50, 10)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.stem(x))
        x = x + self.left(x)
        return self.head(self.mix(torch.cat((x, self.right(x)), dim=1)))


class Frozen(nn.Module):
    """A part without gradients under one with them."""

    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(3, 16, 3).requires_grad_(False)
        self.head = nn.Conv2d(16, 16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.body(x))).mean((2, 3))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("network", [Small(), Frozen()], ids=["small", "frozen"])
def test_training_is_predicted_as_the_allocator_reports_it(network: nn.Module, optimizer: Optimizer):
    predicted = predict_memory(network, (3, 32, 32), batch=3).training_peak[optimizer]
    measured = measure_memory(network, (3, 32, 32), batch=3, mode="training", optimizer=optimizer)
    assert predicted == pytest.approx(measured, rel=0.01)


@pytest.mark.parametrize("network", [Small(), Frozen()], ids=["small", "frozen"])
@pytest.mark.parametrize("batch", [2, 5])
def test_inference_is_predicted_as_the_allocator_reports_it(network: nn.Module, batch: int):
    predicted = predict_memory(network, (3, 32, 32), batch=batch).inference_peak
    assert predicted == pytest.approx(measure_memory(network, (3, 32, 32), batch=batch), rel=0.01)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "squeezenet1_1"])
def test_torchvision_networks_are_predicted_as_the_allocator_reports_them(name: str):
    import torchvision

    with torch.device("meta"):
        network = torchvision.models.get_model(name)
    memory = predict_memory(network, (3, 96, 96), batch=2)
    inference = measure_memory(network, (3, 96, 96), batch=2)
    training = measure_memory(network, (3, 96, 96), batch=2, mode="training", optimizer="momentum")
    assert memory.inference_peak == pytest.approx(inference, rel=0.02)
    assert memory.training_peak["momentum"] == pytest.approx(training, rel=0.02)


@pytest.mark.parametrize(("name", "side"), [("googlenet", 80), ("inception_v3", 107)])
def test_auxiliary_heads_are_trained_as_the_engine_trains_them(name: str, side: int):
    with torch.device("meta"):
        network = create(name, classes=10, channels=3, size=(side, side))
    memory = predict_memory(network, (3, side, side), batch=2)
    assert memory.gradients == sum(parameter.numel() for parameter in network.parameters()) * FLOAT
    assert network.auxiliary
    measured = measure_memory(network, (3, side, side), batch=2, mode="training", optimizer="momentum")
    assert memory.training_peak["momentum"] == pytest.approx(measured, rel=0.02)


@pytest.mark.slow  # real passes at 224 pixels, three optimizers, two of the largest classic networks
@pytest.mark.parametrize("name", ["resnet50", "vgg16"])
def test_resnet50_and_vgg16_are_predicted_as_the_allocator_reports_them(name: str):
    import torchvision

    with torch.device("meta"):
        network = torchvision.models.get_model(name)
    memory = predict_memory(network, (3, 224, 224), batch=2)
    assert memory.inference_peak == pytest.approx(measure_memory(network, (3, 224, 224), batch=2), rel=0.05)
    for optimizer in OPTIMIZERS:
        measured = measure_memory(network, (3, 224, 224), batch=2, mode="training", optimizer=optimizer)
        assert memory.training_peak[optimizer] == pytest.approx(measured, rel=0.05)


def test_vgg16_holds_two_of_its_largest_maps_at_inference():
    import torchvision

    with torch.device("meta"):
        network = torchvision.models.vgg16()
    memory = predict_memory(network, (3, 224, 224))
    assert memory.weights == 138_357_544 * FLOAT
    # The second convolution reads and writes 64 x 224 x 224; the image still lies beside them.
    assert memory.activations_inference == (2 * 64 + 3) * 224 * 224 * FLOAT
    assert memory.training_peak["adam"] > 4 * memory.weights  # weights, gradients and two moments


def test_the_network_is_left_as_it_was():
    network = Small().eval()
    before = copy.deepcopy(network.state_dict())
    predict_memory(network, (3, 32, 32), batch=2)
    measure_memory(network, (3, 32, 32), batch=2, mode="training", optimizer="adam")
    assert not network.training
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_weights_gradients_and_state_are_counted_once():
    shared = nn.Conv2d(4, 4, 3, padding=1)
    network = nn.Sequential(nn.Conv2d(3, 4, 1), shared, nn.BatchNorm2d(4), shared, nn.Flatten(), nn.LazyLinear(2))
    network(torch.zeros(2, 3, 8, 8))
    network[0].requires_grad_(False)
    memory = predict_memory(network, (3, 8, 8), batch=2)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    trainable = parameters - (3 * 4 + 4)
    assert memory.weights == parameters * FLOAT + 2 * 4 * FLOAT + 8  # running mean and variance, and an int64 count
    assert memory.gradients == trainable * FLOAT
    tensors = 6  # with gradients; each has a count of its steps in Adam
    assert memory.optimizer == {
        "sgd": 0,
        "momentum": trainable * FLOAT,
        "adam": 2 * trainable * FLOAT + tensors * FLOAT,
    }


def test_a_frozen_network_has_nothing_to_train():
    memory = predict_memory(nn.Conv2d(3, 8, 3).requires_grad_(False), (3, 16, 16))
    assert memory.gradients == 0
    assert memory.optimizer == {"sgd": 0, "momentum": 0, "adam": 0}


def test_in_place_operations_reuse_memory():
    def activations(inplace: bool) -> int:
        network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(inplace=inplace))
        return predict_memory(network, (3, 32, 32)).activations_inference

    assert activations(False) == (3 + 8 + 8) * 32 * 32 * FLOAT
    assert activations(True) == (3 + 8) * 32 * 32 * FLOAT


def test_training_keeps_the_indices_of_pooling_and_the_mask_of_dropout():
    def kept(layer: nn.Module) -> int:
        network = nn.Sequential(nn.Conv2d(3, 8, 1), layer)
        images, loss = 3 * 32 * 32 * FLOAT, FLOAT
        return predict_memory(network, (3, 32, 32)).activations_training - images - loss

    assert kept(nn.MaxPool2d(2)) == 8 * 32 * 32 * FLOAT + 8 * 16 * 16 * 8  # its input, and indices of int64
    assert kept(nn.Dropout(0.5)) == 8 * 32 * 32 * FLOAT  # the CPU's mask is of floats
    assert kept(nn.Sigmoid()) == 8 * 32 * 32 * FLOAT  # its output
    assert kept(nn.Dropout(0.0)) == kept(nn.Identity()) == 0


def test_cuda_has_masks_of_bytes_blocks_of_512_and_no_scratch_of_onednn():
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Dropout(0.5))
    cpu = predict_memory(network, (3, 32, 32), batch=2, device="cpu")
    cuda = predict_memory(network, (3, 32, 32), batch=2, device="cuda")
    elements = 2 * 8 * 32 * 32
    assert cuda.weights == (2 + 1) * 512  # 864 and 32 bytes
    assert cuda.scratch_training == cuda.scratch_inference == 0 < cpu.scratch_inference
    activations = (tensors.activations_training for tensors in (cpu, cuda))
    assert next(activations) - next(activations) == pytest.approx(elements * (FLOAT - 1), abs=4 * 512)


def test_fused_attention_keeps_no_table_of_all_pairs():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv = nn.Linear(3, 48)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.qkv(x.flatten(2).mT).unflatten(2, (3, 2, 8)).permute(2, 0, 3, 1, 4)
            return F.scaled_dot_product_attention(q, k, v).mean((1, 2))

    network = Attention()
    table = 2 * 2 * 1024 * 1024 * FLOAT  # B x heads x (H W) x (H W)
    assert measure_memory(network, (3, 32, 32), batch=2, mode="training") < table
    for device in ("cpu", "cuda"):
        assert predict_memory(network, (3, 32, 32), batch=2, device=device).training_peak["sgd"] < table


def test_the_document_holds_every_figure():
    document = predict_memory(Small(), (3, 32, 32), batch=2).to_json()
    assert document["images"] == [3, 32, 32]
    assert document["batch"] == 2
    assert set(document["training_peak"]) == set(document["optimizer"]) == set(OPTIMIZERS)
    assert document["inference_peak"] == (
        document["weights"] + document["activations_inference"] + document["scratch_inference"]
    )


@pytest.mark.parametrize(
    ("network", "images", "batch", "message"),
    [
        (Small(), (4, 32, 32), 2, r"does not take 2 images of 4x32x32"),
        (Small(), (3, 16, 16), 1, r"does not take 1 image of 3x16x16"),
        (Small(), (3, 32, 32), 0, r"at least 1"),
        (nn.Sequential(nn.Conv2d(3, 4, 8), nn.BatchNorm2d(4)), (3, 8, 8), 1, r"take a batch of 2"),
    ],
    ids=["channels", "size", "batch", "one value"],
)
def test_what_does_not_fit_is_said(network: nn.Module, images: tuple[int, int, int], batch: int, message: str):
    with pytest.raises(UsageError, match=message):
        predict_memory(network, images, batch=batch)
