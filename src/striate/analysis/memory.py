"""The memory that a network needs: predicted by a timeline, and measured.

The prediction runs the real sequence on the meta device, where tensors have shapes but no data: an inference pass, and
a training step of forward, loss and backward. Every storage is counted from the operation that makes it to the moment
that nothing holds it any more, so autograd's saved tensors, freed activations and gradients live as long as they really
do; views share their storage, in-place operations reuse it. A sum over layers cannot say this: activations are freed
while gradients appear.

The optimizer needs no simulation. Fused optimizers, which the engine uses, update in place and keep their state between
steps. The first step makes it after that step's activations have gone; in every later step, gradients having been set
to None before, it merely lies beside the same timeline. So the peak is that of forward and backward plus the state.

Counted, in bytes: weights and buffers, gradients, optimizer state, the images and labels of the batch, every tensor,
and on a CPU the scratch memory of convolutions: oneDNN copies contiguous (NCHW) inputs, weights and outputs into its
blocked layout and back, through PyTorch's allocator (`_scratch`). Not counted: what an allocator keeps in reserve,
libraries and the interpreter, scratch memory outside PyTorch's allocator, and on CUDA the workspaces of cuDNN and
cuBLAS, which depend on the device. What kernels other than convolutions take for a moment is not predicted either, and
`torch.nn.MultiheadAttention` is counted with its table of all pairs, which the fused kernel that really runs avoids;
attention that calls `scaled_dot_product_attention` is not.

Letters: B images, C channels, H height, W width.
"""

import copy
import functools
import os
import weakref
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from striate.errors import UsageError
from striate.models.contract import Classifier

Device = Literal["cpu", "cuda"]
Mode = Literal["inference", "training"]
Optimizer = Literal["sgd", "momentum", "adam"]

aten: Any = torch.ops.aten
CUDA_BLOCK = 512  # bytes; CUDA's caching allocator rounds every tensor up to whole blocks (c10 CUDACachingAllocator)
FEW_CHANNELS = 4  # up to here oneDNN's convolutions read plain inputs


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Predicted memory in bytes, for a batch of images in training and at inference."""

    images: tuple[int, int, int]  # C, H, W of one image
    batch: int
    device: Device
    weights: int  # parameters and buffers
    gradients: int
    optimizer: dict[Optimizer, int]  # its state
    activations_inference: int  # the most that is there beside the weights, images included
    activations_training: int  # what waits for the backward pass when the forward pass has ended, images included
    scratch_inference: int  # what the scratch memory of kernels adds to the peak
    scratch_training: int
    inference_peak: int  # weights, activations and scratch
    training_peak: dict[Optimizer, int]  # from the second step on

    def to_json(self) -> dict[str, Any]:
        """All fields; bytes."""
        return asdict(self) | {"images": list(self.images)}


def predict_memory(
    network: nn.Module, images: tuple[int, int, int], *, batch: int = 1, device: Device = "cpu"
) -> Memory:
    """Memory of ``network``, without allocating or computing anything.

    Training is one of all parameters that require gradients, with a cross-entropy over every (B, K) output and the mean
    of any other, and a fused optimizer, as the engine has it; a `Classifier` trains its auxiliary heads too.

    Args:
        network: with weights or on the meta device; it is neither run nor changed.
        images: C, H, W.
        batch: images at a time.
        device: whose kernels are meant; it need not be there.

    Raises:
        UsageError: the network does not take such a batch.
    """
    if batch < 1:
        raise UsageError(f"a batch of {batch} images has no memory to predict; it takes at least 1.")
    inference = _Timeline(device, network := _stand_in(network, torch.device("meta")))
    inputs = _images(network, images, batch)
    weights = inference.alive
    with _answered(images, batch), _Kernels(device), inference:
        inference.hold(inputs)
        _infer(network, inputs)

    training = _Timeline(device, network)
    with _answered(images, batch), _Kernels(device), training:
        training.hold(inputs)
        forward = _learn(network.train(), inputs, training)
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    held = sum(map(training.size, gradients))
    steps = len(gradients) * (CUDA_BLOCK if device == "cuda" else 4)  # Adam counts each parameter's steps in a float32
    states: dict[Optimizer, int] = {"sgd": 0, "momentum": held, "adam": 2 * held + steps}
    return Memory(
        images=images,
        batch=batch,
        device=device,
        weights=weights,
        gradients=held,
        optimizer=states,
        activations_inference=inference.peak - weights,
        activations_training=forward - weights,
        scratch_inference=inference.peak_with_scratch - inference.peak,
        scratch_training=training.peak_with_scratch - training.peak,
        inference_peak=inference.peak_with_scratch,
        training_peak={name: training.peak_with_scratch + state for name, state in states.items()},
    )


def measure_memory(
    network: nn.Module,
    images: tuple[int, int, int],
    *,
    batch: int = 1,
    mode: Mode = "inference",
    optimizer: Optimizer = "sgd",
    device: Device = "cpu",
) -> int:
    """The peak of the same sequence with real tensors: an inference pass, or two steps of training.

    On CUDA it is what the allocator reports as its maximum, on a CPU the peak of the running sum over its allocations
    and releases, both on top of what was there before and with the weights.

    Args:
        network: with weights or on the meta device; a copy runs in its place, with weights of zero.
        images: C, H, W.
        batch: images at a time.
        mode: what to run.
        optimizer: for training.
        device: where.

    Returns:
        Bytes.

    Raises:
        UsageError: the network does not take such a batch.
    """
    before = torch.cuda.memory_allocated() if device == "cuda" else 0
    network = _stand_in(network, torch.device(device))
    inputs = _images(network, images, batch)

    def run() -> None:
        if mode == "inference":
            _infer(network, inputs)
            return
        network.train()
        parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        algorithm = (
            torch.optim.Adam(parameters, fused=True)
            if optimizer == "adam"
            else torch.optim.SGD(parameters, lr=0.01, momentum=0.9 if optimizer == "momentum" else 0.0, fused=True)
        )
        for _ in range(2):
            algorithm.zero_grad(set_to_none=True)
            _learn(network, inputs)
            algorithm.step()

    with _answered(images, batch):
        if device == "cpu":
            held = sum(tensor.nbytes for tensor in (*_weights(network), inputs))
            return held + _peak_of_allocations(run)
        torch.cuda.reset_peak_memory_stats()
        run()
        return torch.cuda.max_memory_allocated() - before


def _infer(network: nn.Module, inputs: Tensor) -> None:
    with torch.inference_mode():
        network.eval()(inputs)


def _learn(network: nn.Module, inputs: Tensor, timeline: "_Timeline | None" = None) -> int:
    """Forward, loss, backward; the bytes that are alive when the forward pass has ended."""
    if isinstance(network, Classifier) and network.auxiliary:
        loss = _loss(network.training_logits(inputs))
    else:
        loss = _loss(network(inputs))
    forward = timeline.alive if timeline else 0
    if loss.requires_grad:
        if timeline:
            timeline.backward = True
        loss.backward()
    return forward


def _loss(outputs: Any) -> Tensor:
    terms: list[Tensor] = []
    for output in tree_leaves(outputs):
        if isinstance(output, Tensor) and output.is_floating_point():
            labels = torch.zeros(output.shape[:1], dtype=torch.int64, device=output.device)
            terms.append(F.cross_entropy(output, labels) if output.dim() == 2 else output.mean())
    return torch.stack(terms).sum() if len(terms) > 1 else terms[0]


def _stand_in(network: nn.Module, device: torch.device) -> nn.Module:
    """A copy of ``network`` whose tensors are zeros on another device; the weights themselves are never copied."""
    stand_ins: dict[int, Any] = {}
    for tensor in _weights(network):
        zeros = torch.zeros_like(tensor, device=device, requires_grad=False)
        is_parameter = isinstance(tensor, nn.Parameter)
        stand_ins[id(tensor)] = nn.Parameter(zeros, tensor.requires_grad) if is_parameter else zeros
    return copy.deepcopy(network, stand_ins)


def _weights(network: nn.Module) -> Iterator[Tensor]:
    yield from network.parameters()
    yield from network.buffers()


def _images(network: nn.Module, images: tuple[int, int, int], batch: int) -> Tensor:
    """(B, C, H, W) zeros, of the parameters' type and device."""
    example = next((weight for weight in _weights(network) if weight.is_floating_point()), torch.empty(0))
    return torch.zeros(batch, *images, dtype=example.dtype, device=example.device)


@contextmanager
def _answered(images: tuple[int, int, int], batch: int) -> Generator[None]:
    """Turns what a network says of a batch that it cannot take into a message."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        what = f"{batch} image{'s' * (batch > 1)} of {'x'.join(map(str, images))} (channels x height x width)"
        said = str(error).strip().split("\n")[0]
        hint = " A normalisation over one value cannot train: take a batch of 2." if "more than 1 value" in said else ""
        raise UsageError(f"the network does not take {what}: {said}{hint}") from error


class _Mode(TorchDispatchMode):
    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # marking it to be skipped would import torch._dynamo, which takes seconds


class _Timeline(_Mode):
    """Counts storages from birth to death.

    Attributes:
        alive: bytes now.
        peak: the most so far.
        peak_with_scratch: the same with the scratch memory of the kernels.
        backward: whether the backward pass runs.
    """

    def __init__(self, device: Device, network: nn.Module):
        super().__init__()
        self.device = device
        self.alive = self.peak = self.peak_with_scratch = 0
        self.backward = False
        self.one_holder = _holders_of_one()
        self.sizes: dict[int, int] = {}  # by the storage's address
        for tensor in _weights(network):
            self.hold(tensor)

    def hold(self, tensor: Tensor) -> None:
        """Count a tensor's storage, once, until it dies."""
        storage = tensor.untyped_storage()
        key = storage._cdata  # pyright: ignore[reportPrivateUsage]
        if tensor.is_meta and key not in self.sizes:
            self.sizes[key] = self.size(tensor)
            self.alive += self.sizes[key]
            weakref.finalize(storage, self._release, key).atexit = False
            self.peak = max(self.peak, self.alive)
            self.peak_with_scratch = max(self.peak_with_scratch, self.alive)

    def size(self, tensor: Tensor) -> int:
        """Bytes of a tensor's storage."""
        size = tensor.untyped_storage().nbytes()
        return -(-size // CUDA_BLOCK) * CUDA_BLOCK if self.device == "cuda" else size

    def _release(self, key: int) -> None:
        self.alive -= self.sizes.pop(key)

    def _held_once(self, tensor: Tensor) -> bool:
        return _holders(tensor) == self.one_holder and tensor.untyped_storage().nbytes() == tensor.nbytes

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func._can_decompose():  # in inference mode composite operations come whole
            with self:
                outcome = func.decompose(*args, **kwargs)
            if outcome is not NotImplemented:
                return outcome
        if self.backward and func is aten.add.Tensor and self._held_once(args[0]):
            # Autograd adds to a gradient that nobody else holds in place, but not while a mode like this one watches.
            return args[0].add_(args[1])
        before = self.alive
        outcome = func(*args, **kwargs)
        for leaf in tree_leaves(outcome):
            if isinstance(leaf, Tensor):
                self.hold(leaf)
        if self.device == "cpu" and func in (aten.convolution.default, aten.convolution_backward.default):
            self.peak_with_scratch = max(self.peak_with_scratch, before + _scratch(func, args, outcome))
        return outcome


def _scratch(func: Any, args: Any, outcome: Any) -> int:
    """Bytes at the peak inside a convolution on a CPU, over what was there before, results included.

    oneDNN works on blocked layouts. From contiguous tensors it copies its operands into them, frees the copies when it
    is done, and copies the result back. Inputs in channels-last stay as they are, only weights are copied.
    """
    if func is aten.convolution.default:
        x, weight, out = args[0], args[1], outcome
        settings = args[2:9]
    else:
        out, x, weight = args[:3]
        settings = (None, *args[4:10])
    if not _by_onednn(x, weight, settings):
        return 0
    last = any(t.is_contiguous(memory_format=torch.channels_last) and not t.is_contiguous() for t in (x, weight))
    inputs, outputs = (0, 0) if last else (_blocked(x), _blocked(out))
    if func is aten.convolution.default:
        return max(inputs + weight.nbytes + outputs, outputs + out.nbytes)
    to_data = x.nbytes if outcome[0] is not None else 0  # the gradient of the input, none for the first layer
    to_weight = weight.nbytes if outcome[1] is not None else 0
    peak = max(outputs + weight.nbytes + inputs, inputs + to_data) if to_data else 0
    if to_weight:
        peak = max(peak, to_data + outputs + inputs + to_weight, to_data + 2 * to_weight)
    return peak


def _blocked(tensor: Tensor) -> int:
    """Bytes of a copy in oneDNN's layout, whose blocks are as many channels as a vector register holds floats.

    Images of a few channels are read as they are.
    """
    channels = tensor.shape[1]
    lanes = {"AVX512": 16}.get(torch.backends.cpu.get_cpu_capability(), 8)
    return tensor.nbytes // channels * -(-channels // lanes) * lanes if channels > FEW_CHANNELS else 0


def _by_onednn(x: Tensor, weight: Tensor, settings: tuple[Any, ...]) -> bool:
    """Whether PyTorch would give this convolution to oneDNN on a CPU; it depends on the sizes and on the threads."""
    bias, *rest = settings

    def on_cpu(tensor: Tensor) -> Tensor:  # of the same shape, without memory: the choice reads no data
        return torch.empty(1, dtype=tensor.dtype).expand(tensor.shape)

    choose: Any = torch._C._select_conv_backend  # pyright: ignore[reportPrivateUsage]
    return "Mkldnn" in str(choose(on_cpu(x), on_cpu(weight), None if bias is None else on_cpu(bias), *rest))


def _holders(tensor: Tensor) -> tuple[int, int]:
    """How many references there are to a tensor and to its storage."""
    count: Any = torch._C._storage_Use_Count  # pyright: ignore[reportPrivateUsage]
    return tensor._use_count(), count(tensor.untyped_storage()._cdata)  # pyright: ignore


@functools.cache
def _holders_of_one() -> tuple[int, int]:
    """`_holders`, seen from `_Timeline`, of a gradient that only autograd's buffer holds."""
    seen: list[tuple[int, int]] = []

    class Watch(_Mode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is aten.add.Tensor:
                seen.append(_holders(args[0]))
            return func(*args, **kwargs or {})

    x = torch.empty(2, device="meta", requires_grad=True)
    total = ((x * 2) * (x * 3)).sum()
    with Watch():
        total.backward()
    return seen[0]


class _Kernels(TorchFunctionMode):
    """Chooses the kernels that a device has where the meta device would take apart an operation instead."""

    def __init__(self, device: Device):
        super().__init__()
        self.device = device

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.dropout and self.device == "cuda":
            return self._dropout(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            return self._attention(*args, **kwargs)
        return func(*args, **kwargs)

    def _dropout(self, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if not training or inplace or not 0 < p < 1:
            return F.dropout(x, p, training, inplace)
        return torch.native_dropout(x, p, True)[0]  # a mask of bytes, where the CPU keeps one of floats

    def _attention(self, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Fused attention keeps one number per query, not the table of all pairs."""
        masked = kwargs.get("attn_mask") is not None or kwargs.get("is_causal") or kwargs.get("dropout_p")
        if args or masked or query.dim() != 4 or any(tensor.stride(-1) != 1 for tensor in (query, key, value)):
            return F.scaled_dot_product_attention(query, key, value, *args, **kwargs)
        if self.device == "cpu":
            return aten._scaled_dot_product_flash_attention_for_cpu(query, key, value)[0]
        return aten._scaled_dot_product_efficient_attention(query, key, value, None, query.requires_grad)[0]


def _peak_of_allocations(run: Callable[[], None]) -> int:
    """The greatest running sum of what PyTorch's CPU allocator gave out and took back during ``run``."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's own messages on standard error
    with torch.autograd.profiler.profile(use_kineto=False, profile_memory=True) as profiler:
        run()
    results: Any = profiler.kineto_results  # pyright: ignore[reportOptionalMemberAccess]
    events = [event for event in results.events() if event.name() == "[memory]"]
    alive = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        alive += event.nbytes()
        peak = max(peak, alive)
    return peak
