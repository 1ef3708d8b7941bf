"""What a network is made of, layer by layer: the document of `striate inspect` as typed objects.

Letters: B images, C channels, H height, W width. All figures are for one image (B = 1), all shapes without the batch.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from striate.analysis.macs import MAKING, VIEWS, macs
from striate.analysis.receptive_field import Fields, ReceptiveField
from striate.analysis.trace import Call, Operation, Shape, Trace, storage, trace
from striate.models.contract import Backbone

if TYPE_CHECKING:
    from striate.analysis.memory import Memory

SCHEMA = "striate.inspect/1"


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One call of a module that calls no other, or one operation that a module runs beside its layers."""

    name: str  # "backbone.stage1.0.conv1"; of an operation "backbone.stage1.0 (add)"
    type: str  # class of the module, or the operation's name
    input_shape: Shape | None  # of the first input
    output_shape: Shape | None  # of the first output; None for parameters that this pass did not use
    kernel: tuple[int, ...] | None = None  # height, width; of the only convolution or pooling in it
    stride: tuple[int, ...] | None = None
    padding: tuple[int, ...] | None = None  # height, width; or top, left, bottom, right where they differ
    dilation: tuple[int, ...] | None = None
    groups: int | None = None
    parameters: int = 0  # counted in the first layer that uses them
    trainable_parameters: int = 0
    macs: int = 0
    activations: int = 0  # elements of the outputs in memory of their own: 0 for views and what works in place
    receptive_field: ReceptiveField | None = None  # of the first output; None where it has none, or no known one

    def to_json(self) -> dict[str, Any]:
        """One of ``layers``."""
        return {
            "name": self.name,
            "type": self.type,
            "input_shape": _listed(self.input_shape),
            "output_shape": _listed(self.output_shape),
            "kernel": _listed(self.kernel),
            "stride": _listed(self.stride),
            "padding": _listed(self.padding),
            "dilation": _listed(self.dilation),
            "groups": self.groups,
            "parameters": self.parameters,
            "trainable_parameters": self.trainable_parameters,
            "macs": self.macs,
            "activations": self.activations,
            "receptive_field": None if self.receptive_field is None else self.receptive_field.to_json(),
        }


@dataclass(frozen=True, kw_only=True)
class Uncounted:
    """An operation whose multiply-accumulates are not known, and are in no sum."""

    operation: str  # "aten::fft_rfft2"
    layer: str  # the name of its layer
    times: int


@dataclass(frozen=True, kw_only=True)
class InspectedStage:
    """One of the maps that a backbone declares and gives out."""

    name: str
    shape: Shape
    stride: int  # as declared; 0 where position is lost
    receptive_field: ReceptiveField | None

    def to_json(self) -> dict[str, Any]:
        """One of ``stages``."""
        return {
            "name": self.name,
            "shape": list(self.shape),
            "stride": self.stride,
            "receptive_field": None if self.receptive_field is None else self.receptive_field.to_json(),
        }


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """A network and its figures for one image."""

    model: str
    input: tuple[int, int, int]  # C, H, W
    parameters: int  # of the whole network, each counted once
    trainable_parameters: int
    layers: tuple[Layer, ...]  # in the order in which they run; what did not run comes last
    uncounted: tuple[Uncounted, ...] = ()
    stages: tuple[InspectedStage, ...] = ()  # of the backbone, if there is one
    memory: "Memory | None" = None
    modules: Mapping[str, str] = field(default_factory=dict[str, str])  # dotted path to class, the network at ""

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image."""
        return sum(layer.macs for layer in self.layers)

    @property
    def flops(self) -> int:
        """Floating-point operations of the multiply-accumulates: 2 x `macs`, a multiplication and an addition each."""
        return 2 * self.macs

    @property
    def activations(self) -> int:
        """Elements of all outputs that have memory of their own."""
        return sum(layer.activations for layer in self.layers)

    def to_json(self) -> dict[str, Any]:
        """The document ``striate.inspect/1``."""
        return {
            "schema": SCHEMA,
            "model": self.model,
            "input": list(self.input),
            "parameters": self.parameters,
            "trainable_parameters": self.trainable_parameters,
            "macs": self.macs,
            "flops": self.flops,
            "activations": self.activations,
            "layers": [layer.to_json() for layer in self.layers],
            "uncounted": [dataclasses.asdict(row) for row in self.uncounted],
            "stages": [stage.to_json() for stage in self.stages],
            "memory": None if self.memory is None else self.memory.to_json(),
        }


def inspect_network(network: nn.Module, images: tuple[int, int, int], *, name: str) -> Inspection:
    """Every layer of ``network`` with its figures, without allocating or computing anything.

    Args:
        network: takes (B, C, H, W) images; on any device, in any mode, and left as it is.
        images: C, H, W.
        name: what the document calls it.

    Raises:
        UsageError: when the network cannot take such images, or needs their values to run; it names the layer.
    """
    record = trace(network, images)
    rows = _rows(record)
    stages: list[InspectedStage] = []
    layers: list[Layer] = []
    uncounted: Counter[tuple[str, str]] = Counter()
    claims = _Claims(record)
    fields = Fields(record)
    backbone = next((call for call in record.calls if isinstance(call.module, Backbone)), None)
    done = 0
    for row in rows:
        if backbone is not None and row.start >= backbone.stop > 0 and not stages:
            done = _advance(fields, record.operations, done, backbone.stop)
            stages = _stages(backbone, fields)
        done = _advance(fields, record.operations, done, row.stop)
        layers.append(_layer(row, claims, fields))
        for operation in row.operations:
            if macs(operation) is None:
                uncounted[operation.name, row.name] += 1
    if backbone is not None and not stages:
        _advance(fields, record.operations, done, backbone.stop)
        stages = _stages(backbone, fields)
    layers.extend(claims.idle())
    parameters = list(network.parameters())
    return Inspection(
        model=name,
        input=images,
        parameters=sum(parameter.numel() for parameter in parameters),
        trainable_parameters=sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        layers=tuple(layers),
        uncounted=tuple(
            Uncounted(operation=operation, layer=layer, times=times) for (operation, layer), times in uncounted.items()
        ),
        stages=tuple(stages),
        modules={path: type(module).__name__ for path, module in network.named_modules()},
    )


def _listed(shape: tuple[int, ...] | None) -> list[int] | None:
    return None if shape is None else list(shape)


def _advance(fields: Fields, operations: list[Operation], done: int, stop: int) -> int:
    for operation in operations[done:stop]:
        fields.step(operation)
    return max(done, stop)


# ---- rows ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Row:
    name: str
    type: str
    module: nn.Module | None  # None: an operation on its own
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    operations: list[Operation]
    start: int
    stop: int


# What people call an operation, where that is not what torch calls it inside.
_WORDS = {
    "convolution": "conv",
    "addmm": "linear",
    "mm": "matmul",
    "bmm": "matmul",
    "baddbmm": "matmul",
    "max_pool2d_with_indices": "max_pool2d",
    "constant_pad_nd": "pad",
    "_adaptive_avg_pool2d": "adaptive_avg_pool2d",
    "native_layer_norm": "layer_norm",
    "native_group_norm": "group_norm",
    "native_batch_norm": "batch_norm",
    "_native_batch_norm_legit_no_training": "batch_norm",
}


def word(operation: Operation) -> str:
    """The name of an operation as in the tables: ``add`` for ``aten::add_``."""
    name = operation.name.partition("::")[2]
    return _WORDS.get(name) or name.strip("_")


def _rows(record: Trace) -> list[_Row]:
    """Calls of leaves, and what is run beside them, in order."""
    rows: list[_Row] = []
    for call in record.calls:
        if not call.leaf:
            continue
        operations = record.operations[call.start : call.stop]
        if not operations and isinstance(call.module, nn.Identity | nn.Sequential | nn.ModuleList):
            continue  # a place left empty
        rows.append(
            _Row(
                name=call.name,
                type=type(call.module).__name__,
                module=call.module,
                inputs=call.inputs,
                outputs=call.outputs,
                operations=operations,
                start=call.start,
                stop=call.stop,
            )
        )
    for position, operation in enumerate(record.operations):
        if operation.call.leaf and operation.call.parent is not None:
            continue
        if operation.name in VIEWS or operation.name in MAKING or operation.function.is_view:
            continue
        if not any(tensor.is_meta for tensor in operation.outputs):
            continue  # numbers known beforehand, the same for every image
        called = word(operation)
        rows.append(
            _Row(
                name=f"{operation.call.name} ({called})".lstrip(),
                type=called,
                module=None,
                inputs=tuple(operation.tensors()),
                outputs=operation.outputs,
                operations=[operation],
                start=position,
                stop=position + 1,
            )
        )
    # A leaf without operations stands before the operation that followed it.
    rows.sort(key=lambda row: (row.start, row.module is None))
    return rows


def _shape(tensors: Iterable[Tensor]) -> Shape | None:
    """Of the first tensor, without the batch of one; where the first dimension is not the batch, all of it."""
    for tensor in tensors:
        shape = tuple(tensor.shape)
        return shape[1:] if shape[:1] == (1,) else shape
    return None


def _layer(row: _Row, claims: "_Claims", fields: Fields) -> Layer:
    own = claims.take(row)
    return Layer(
        name=row.name,
        type=row.type,
        input_shape=_shape(claims.fed(row)),
        output_shape=_shape(row.outputs) or (),
        parameters=sum(parameter.numel() for parameter in own),
        trainable_parameters=sum(parameter.numel() for parameter in own if parameter.requires_grad),
        macs=sum(macs(operation) or 0 for operation in row.operations),
        activations=claims.memory(row),
        receptive_field=fields.field(row.outputs[0]) if row.outputs else None,
        **_geometry(row.operations),
    )


def _geometry(operations: list[Operation]) -> dict[str, Any]:
    """Kernel, stride, padding, dilation and groups of the only convolution, or else the only pooling."""
    for kind in ("convolution", "pool"):
        found = [operation for operation in operations if kind in operation.name and "adaptive" not in operation.name]
        if len(found) == 1:
            break
    else:
        return {}
    operation = found[0]
    if kind == "convolution":
        weight: Tensor = operation.argument("weight")
        kernel, groups = tuple(weight.shape[2:]), int(operation.argument("groups", 1))
    else:
        kernel, groups = _ints(operation.argument("kernel_size"), 2), None
    count = len(kernel)
    padding = _ints(operation.argument("padding", 0), count)
    padded = [other for other in operations if other.name.partition("::")[2] == "constant_pad_nd"]
    if len(padded) == 1 and count == 2 and operations.index(padded[0]) < operations.index(operation):
        left, right, top, bottom = (*padded[0].argument("pad"), 0, 0)[:4]
        padding = (padding[0] + top, padding[1] + left, padding[0] + bottom, padding[1] + right)
        if padding[:2] == padding[2:]:
            padding = padding[:2]
    return {
        "kernel": kernel,
        "stride": _ints(operation.argument("stride") or kernel, count),
        "padding": padding,
        "dilation": _ints(operation.argument("dilation", 1), count),
        "groups": groups,
    }


def _ints(value: Any, count: int) -> tuple[int, ...]:
    values = (value,) if isinstance(value, int) else tuple(value)
    return tuple(int(item) for item in (values * count if len(values) == 1 else values))


class _Claims:
    """Which layer counts a parameter, and which counts a piece of memory: the first one."""

    def __init__(self, record: Trace):
        self.record = record
        self.left = dict(record.network.named_parameters())
        self.names = {id(parameter): name for name, parameter in self.left.items()}
        self.memories = {storage(record.images)}

    def take(self, row: _Row) -> list[nn.Parameter]:
        """The parameters of ``row`` that no earlier row had."""
        if row.module is not None:
            wanted = [self.names[id(parameter)] for parameter in row.module.parameters()]
        else:
            wanted = [
                name
                for tensor in row.inputs
                if tensor.is_meta
                for name, _ in self.record.parameters.get(storage(tensor), ())
            ]
        return [self.left.pop(name) for name in dict.fromkeys(wanted) if name in self.left]

    def fed(self, row: _Row) -> list[Tensor]:
        """The inputs of ``row`` that are no parameters; its parameters where it has no others."""
        return [tensor for tensor in row.inputs if storage(tensor) not in self.record.parameters] or list(row.inputs)

    def memory(self, row: _Row) -> int:
        """Elements of the outputs of ``row`` whose memory no earlier row gave out."""
        count = 0
        for tensor in row.outputs:
            if tensor.is_meta and storage(tensor) not in self.memories:
                self.memories.add(storage(tensor))
                count += tensor.numel()
        return count

    def idle(self) -> Iterator[Layer]:
        """Layers whose parameters nothing used, such as an auxiliary classifier in evaluation."""
        owners: dict[str, list[nn.Parameter]] = {}
        for name, parameter in self.left.items():
            owners.setdefault(name.rpartition(".")[0], []).append(parameter)
        for owner, parameters in owners.items():
            yield Layer(
                name=owner,
                type=type(self.record.network.get_submodule(owner)).__name__,
                input_shape=None,
                output_shape=None,
                parameters=sum(parameter.numel() for parameter in parameters),
                trainable_parameters=sum(p.numel() for p in parameters if p.requires_grad),
            )


def _stages(call: Call, fields: Fields) -> list[InspectedStage]:
    backbone = call.module
    assert isinstance(backbone, Backbone)
    found: list[InspectedStage] = []
    for stage, output in zip(backbone.stages, call.outputs, strict=True):
        found.append(
            InspectedStage(
                name=stage.name,
                shape=tuple(output.shape[1:]),
                stride=stage.stride,
                receptive_field=fields.field(output),
            )
        )
    return found
