"""One pass over a network on the meta device, with every operation that it runs.

The network is left as it was: its mode, weights, gradients, devices and hooks. Weights on another device are replaced
for the pass by meta tensors of the same shape, so that nothing is allocated or computed.

Letters: B images, C channels, H height, W width.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from striate.errors import UsageError

Shape = tuple[int, ...]


@dataclass(eq=False, kw_only=True)
class Call:
    """One call of one module."""

    name: str  # dotted path; "" for the network itself
    module: nn.Module
    parent: "Call | None"
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...] = ()
    start: int  # its operations are `Trace.operations[start:stop]`, those of the modules that it calls among them
    stop: int = 0
    leaf: bool = True  # calls no other module


@dataclass(eq=False, kw_only=True)
class Operation:
    """One aten operation."""

    function: Any  # the torch._ops.OpOverload
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: tuple[Tensor, ...]
    call: Call  # the innermost module call that it ran in

    @property
    def name(self) -> str:
        """With its namespace and without overload, as in ``aten::convolution``."""
        return self.function._schema.name

    def argument(self, name: str, default: Any = None) -> Any:
        """The argument called ``name`` in the operation's schema."""
        if name in self.kwargs:
            return self.kwargs[name]
        for position, argument in enumerate(self.function._schema.arguments):
            if argument.name == name:
                if position < len(self.args):
                    return self.args[position]
                return argument.default_value if argument.has_default_value() else default
        return default

    def tensors(self) -> Iterator[Tensor]:
        """The tensors that it reads, in order."""
        return tensors_in((self.args, self.kwargs))


@dataclass(eq=False, kw_only=True)
class Trace:
    """What one pass did. It keeps every (meta) tensor alive, so that storages stay distinct."""

    network: nn.Module
    images: Tensor  # (1, C, H, W) on the meta device
    operations: list[Operation] = field(default_factory=list[Operation])
    calls: list[Call] = field(default_factory=list[Call])  # in the order in which they began
    # Which parameters a storage holds, by their names and as the network has them.
    parameters: dict[int, list[tuple[str, nn.Parameter]]] = field(
        default_factory=dict[int, list[tuple[str, nn.Parameter]]]
    )


def trace(network: nn.Module, images: tuple[int, int, int]) -> Trace:
    """Run ``network`` once in evaluation mode on one image without values.

    Args:
        network: takes (B, C, H, W) images; on any device.
        images: C, H, W.

    Raises:
        UsageError: when the network cannot take such images, or needs their values to run; it names the layer.
    """
    tensors = [*network.parameters(), *network.buffers()]
    floating = next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), torch.float32)
    twins = {id(tensor): torch.empty_like(tensor, device="meta") for tensor in tensors if not tensor.is_meta}
    record = Trace(network=network, images=torch.empty(1, *images, dtype=floating, device="meta"))
    for name, parameter in network.named_parameters():
        record.parameters.setdefault(storage(twins.get(id(parameter), parameter)), []).append((name, parameter))
    recorder = _Recorder(record)
    try:
        with torch.no_grad(), _evaluating(network), _on_meta(network, twins), _watching(network, recorder), recorder:
            network(record.images)
    except Exception as error:
        raise UsageError(_problem(recorder.current, images, error)) from error
    return record


def storage(tensor: Tensor) -> int:
    """What tells the memory of one tensor from that of others, alike for all its views."""
    return tensor.untyped_storage()._cdata  # pyright: ignore[reportPrivateUsage]


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors in nested tuples, lists, dicts and dataclasses of outputs, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)


@contextmanager
def _on_meta(network: nn.Module, twins: dict[int, Tensor]) -> Generator[None]:
    """Put meta twins in the place of weights and buffers."""
    swapped: list[tuple[dict[str, Any], str, Tensor]] = []
    try:
        for module in network.modules() if twins else ():
            for tensors in (module._parameters, module._buffers):  # pyright: ignore[reportPrivateUsage]
                for name, tensor in tensors.items():
                    if tensor is not None and id(tensor) in twins:
                        swapped.append((tensors, name, tensor))
        for tensors, name, tensor in swapped:
            tensors[name] = twins[id(tensor)]
        yield
    finally:
        for tensors, name, tensor in swapped:
            tensors[name] = tensor


@contextmanager
def _evaluating(network: nn.Module) -> Generator[None]:
    # Flags are set one by one: `train` and `eval` are overridden in the wild, and may do more than set them.
    modes = [(module, module.training) for module in network.modules()]
    try:
        for module, _ in modes:
            module.training = False
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def _watching(network: nn.Module, recorder: "_Recorder") -> Generator[None]:
    names = {module: name for name, module in network.named_modules()}

    def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        recorder.enter(names[module], module, tuple(tensors_in((args, kwargs))))

    def leave(module: nn.Module, args: tuple[Any, ...], outputs: Any) -> None:
        recorder.leave(tuple(tensors_in(outputs)))

    handles: list[torch.utils.hooks.RemovableHandle] = []
    try:
        for module in names:
            if not isinstance(module, torch.jit.ScriptModule):  # takes no hooks: its operations are its caller's
                handles.append(module.register_forward_pre_hook(enter, prepend=True, with_kwargs=True))
                handles.append(module.register_forward_hook(leave))
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Recorder(TorchDispatchMode):
    """Sees every operation below autograd, where composite ones have been taken apart."""

    def __init__(self, record: Trace):
        super().__init__()
        self.record = record
        self.current = Call(name="", module=record.network, parent=None, inputs=(record.images,), start=0)
        self.outside = self.current  # for what runs before the network's own hook

    def enter(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.current.leaf = False
        start = len(self.record.operations)
        self.current = Call(name=name, module=module, parent=self.current, inputs=inputs, start=start)
        self.record.calls.append(self.current)

    def leave(self, outputs: tuple[Tensor, ...]) -> None:
        self.current.outputs = outputs
        self.current.stop = len(self.record.operations)
        self.current = self.current.parent or self.outside

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named: dict[str, Any] = kwargs or {}
        if any(tensor.is_meta for tensor in tensors_in((args, named))):
            # Tensors that the network neither registered nor made on the images' device, but keeps as attributes.
            args, named = _to_meta(args), _to_meta(named)
        outputs = func(*args, **named)
        self.record.operations.append(
            Operation(function=func, args=args, kwargs=named, outputs=tuple(tensors_in((outputs,))), call=self.current)
        )
        return outputs


def _to_meta(value: Any) -> Any:
    if isinstance(value, Tensor):
        # A number may stay where it is, and must: as a tensor of its own it would take part in the choice of dtypes.
        return value if value.is_meta or value.dim() == 0 else torch.empty_like(value, device="meta")
    if isinstance(value, list | tuple):
        return type(value)(_to_meta(item) for item in value) if value else value
    if isinstance(value, dict):
        return {key: _to_meta(item) for key, item in value.items()}
    return value


def _problem(call: Call, images: tuple[int, int, int], error: Exception) -> str:
    """What to tell a person about a pass that failed in ``call``."""
    channels, height, width = images
    where = f"{call.name or 'the network'} ({type(call.module).__name__})"
    given = " and ".join("x".join(map(str, tensor.shape)) for tensor in call.inputs[:3]) or "nothing"
    message = str(error).strip().partition("\n")[0] or type(error).__name__
    if isinstance(error, NotImplementedError) or "meta tensor" in message.lower():
        return (
            f"{where} needs the values of its input {given}, and is traced on tensors that have only shapes: "
            f"{message}. Take what depends on values out of forward."
        )
    return (
        f"the network cannot take images of {channels} x {height} x {width} (channels, height, width): {where} was "
        f"given {given}: {message}. Set another input size."
    )
