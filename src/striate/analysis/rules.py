"""What each operation does to the positions and spans of its inputs; see `receptive_field` for the rules in words."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from math import ceil, floor, prod
from typing import Any

from torch import Tensor

from striate.analysis.macs import is_pointwise
from striate.analysis.positions import (
    AnyState,
    Atom,
    NoRuleError,
    State,
    Unknown,
    combined,
    fits,
    joined,
    merged,
    moved,
    plain,
    reshaped,
    tidy,
    with_span,
)
from striate.analysis.trace import Operation, tensors_in

Lookup = Callable[[Tensor], AnyState]
Rule = Callable[[Operation, Lookup], Sequence[AnyState]]


def apply(operation: Operation, lookup: Lookup) -> Sequence[AnyState]:
    """The states of the outputs of ``operation``.

    Raises:
        NoRuleError: when there is none for it.
    """
    rule = RULES.get(operation.name)
    if rule is None:
        if not is_pointwise(operation.function):
            raise NoRuleError
        rule = _pointwise
    return rule(operation, lookup)


def _state(lookup: Lookup, tensor: Tensor | None) -> State | None:
    found = None if tensor is None else lookup(tensor)
    assert not isinstance(found, Unknown)
    return found


def _only(operation: Operation, lookup: Lookup, name: str = "self") -> State:
    """The state of the input that the operation works on.

    Raises:
        NoRuleError: when that does not depend on the image, but another input does.
    """
    state = _state(lookup, operation.argument(name))
    if state is None:
        raise NoRuleError
    return state


def _pair(value: Any) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _dims(value: Any, count: int) -> list[int]:
    if value is None or (isinstance(value, list | tuple) and not value):
        return list(range(count))
    return [dim % count for dim in ([value] if isinstance(value, int) else value)]


GATES = frozenset(f"aten::{name}" for name in ("mul", "mul_", "div", "div_"))


def _pointwise(operation: Operation, lookup: Lookup) -> Sequence[AnyState]:
    states = [state for state in map(lookup, operation.tensors()) if isinstance(state, State)]
    result = combined(operation.outputs[0].shape, states, gates=operation.name in GATES)
    return [result] * len(operation.outputs)


def _same(operation: Operation, lookup: Lookup) -> Sequence[AnyState]:
    """The first input gives the position; statistics and weights have none."""
    state = _state(lookup, next(operation.tensors()))
    if state is None:
        raise NoRuleError
    return [state if fits(state.layout, tensor.shape) else None for tensor in operation.outputs]


def _copied_into(operation: Operation, lookup: Lookup) -> Sequence[AnyState]:
    source = _state(lookup, operation.argument("src"))
    return [None if source is None else combined(operation.outputs[0].shape, [source])]


def _convolved(operation: Operation, lookup: Lookup) -> Sequence[AnyState]:
    state = merged(_only(operation, lookup, "input"), [1])
    weight: Tensor = operation.argument("weight")
    shape = operation.outputs[0].shape
    strides, paddings = operation.argument("stride"), operation.argument("padding")
    dilations = operation.argument("dilation")
    layout = list(state.layout)
    layout[1] = plain(shape[1])
    state = replace(state, layout=tuple(layout))
    for i in range(len(shape) - 2):
        s, p, d = (int(values[i if len(values) > 1 else 0]) for values in (strides, paddings, dilations))
        k, size = weight.shape[2 + i], shape[2 + i]
        if operation.argument("transposed", False):
            # y[o] += x[i] w[k] for o = i s - p + k d
            def taps(o: int, s: int = s, p: int = p, d: int = d, k: int = k) -> list[int]:
                return [(o + p - tap * d) // s for tap in range(k) if (o + p - tap * d) % s == 0]

            state = moved(state, 2 + i, size, taps, forward=1, period=s)
        else:
            state = _window(state, 2 + i, size, k=k, s=s, p=p, d=d)
    return [state]


def _window(state: State, dim: int, size: int, *, k: int, s: int = 1, p: int = 0, d: int = 1) -> State:
    return moved(state, dim, size, lambda o: range(o * s - p, o * s - p + k * d, d), forward=s)


def _pooled(operation: Operation, lookup: Lookup) -> Sequence[AnyState]:
    state = _only(operation, lookup)
    shape = operation.outputs[0].shape
    kernel = operation.argument("kernel_size")
    stride = operation.argument("stride") or kernel
    padding, dilation = operation.argument("padding", 0), operation.argument("dilation", 1)
    count = int(operation.name.removesuffix("_with_indices")[-2])  # of "2d"
    for i in range(count):
        k, s, p, d = (
            int(v if isinstance(v, int) else v[i if len(v) > 1 else 0]) for v in (kernel, stride, padding, dilation)
        )
        dim = len(shape) - count + i
        state = _window(state, dim, shape[dim], k=k, s=s, p=p, d=d)
    return [state] * len(operation.outputs)


def _adaptively_pooled(operation: Operation, lookup: Lookup) -> Sequence[AnyState]:
    state = _only(operation, lookup)
    shape = operation.outputs[0].shape
    before: Tensor = operation.argument("self")
    count = int(operation.name[-2])  # of "2d"
    for dim in range(len(shape) - count, len(shape)):
        old, new = before.shape[dim], shape[dim]
        if new == 1 and old > 1:
            state = _single(state, dim)
        elif old != new:
            ratio = Fraction(old, new)
            state = moved(
                state,
                dim,
                new,
                lambda o, ratio=ratio: (floor(o * ratio), ceil((o + 1) * ratio) - 1),
                forward=ratio.numerator,
                period=ratio.denominator,
            )
    return [state] * len(operation.outputs)


def _single(state: State, dim: int) -> State:
    """The state after everything along ``dim`` has been put into one value."""
    after = merged(state, [dim])
    layout = list(after.layout)
    layout[dim] = plain(1)
    return replace(after, layout=tuple(layout))


def _reduced(operation: Operation, lookup: Lookup) -> Sequence[AnyState]:
    state = _only(operation, lookup)
    count = len(state.layout)
    dims = _dims(operation.argument("dim"), count)
    after = merged(state, dims)
    keep = bool(operation.argument("keepdim", False))
    layout = tuple(
        plain(1) if dim in dims else atoms for dim, atoms in enumerate(after.layout) if keep or dim not in dims
    )
    return [replace(after, layout=layout)] * len(operation.outputs)


def _softmaxed(operation: Operation, lookup: Lookup) -> Sequence[AnyState]:
    state = _only(operation, lookup)
    return [merged(state, _dims(operation.argument("dim"), len(state.layout)), keep=True)]


def _ratios(operation: Operation, dim: int, i: int) -> Fraction:
    """Units of the old map per unit of the new one, as torch computes it: by the scale where one is given."""
    before: Tensor = operation.argument("self" if operation.argument("self") is not None else "input")
    scales = operation.argument("scale_factors")
    scale = scales[i] if scales else operation.argument("scales_h" if i == 0 else "scales_w")
    if scale:
        return 1 / Fraction(scale).limit_denominator(4096)
    return Fraction(before.shape[dim], operation.outputs[0].shape[dim])


def _upsampled(operation: Operation, lookup: Lookup) -> Sequence[AnyState]:
    source: Tensor = next(operation.tensors())
    state = _state(lookup, source)
    if state is None:
        raise NoRuleError
    shape = operation.outputs[0].shape
    corners = bool(operation.argument("align_corners", False))
    for i, dim in enumerate(range(2, len(shape))):
        old, new = source.shape[dim], shape[dim]
        ratio = _ratios(operation, dim, i)
        if corners and "nearest" not in operation.name:
            ratio = Fraction(old - 1, new - 1) if new > 1 else Fraction(0)
        if old == new and ratio == 1:
            continue
        if ratio == 0:
            state = moved(state, dim, new, lambda o: (0,))
            continue
        state = moved(
            state,
            dim,
            new,
            _interpolated(operation.name, ratio, corners),
            forward=ratio.numerator,
            period=ratio.denominator,
        )
    return [state]


def _interpolated(name: str, ratio: Fraction, corners: bool) -> Callable[[int], tuple[int, ...]]:
    half = Fraction(1, 2)
    if "nearest_exact" in name:
        return lambda o: (floor((o + half) * ratio),)
    if "nearest" in name:
        return lambda o: (floor(o * ratio),)
    reach = 1 if "bicubic" in name else 0
    if name.endswith("_aa"):
        support = (reach + 1) * max(ratio, Fraction(1))
        return lambda o: (
            ceil((o + half) * ratio - support - half + Fraction(1, 1000)),
            floor((o + half) * ratio + support - half - Fraction(1, 1000)),
        )

    def taps(o: int) -> tuple[int, ...]:
        at = o * ratio if corners else (o + half) * ratio - half
        if at.denominator == 1:
            return (int(at),)
        return floor(at) - reach, ceil(at) + reach

    return taps


def _padded(operation: Operation, lookup: Lookup) -> Sequence[AnyState]:
    state = _only(operation, lookup)
    pads = operation.argument("pad") or operation.argument("padding")
    shape = operation.outputs[0].shape
    for i in range(len(pads) // 2):
        dim, left, right = len(shape) - 1 - i, int(pads[2 * i]), int(pads[2 * i + 1])
        if left or right:
            state = moved(state, dim, shape[dim], lambda o, left=left: (o - left,))
    return [state]


def _sliced(operation: Operation, lookup: Lookup) -> Sequence[AnyState]:
    state = _only(operation, lookup)
    before: Tensor = operation.argument("self")
    dim = int(operation.argument("dim", 0)) % before.dim()
    size, new, step = before.shape[dim], operation.outputs[0].shape[dim], int(operation.argument("step", 1))
    start = int(operation.argument("start") or 0)
    start = min(max(start + size if start < 0 else start, 0), size)
    return [_part(state, dim, start, new, step, size)]


def _part(state: State, dim: int, start: int, new: int, step: int, size: int) -> State:
    if new == size and step == 1:
        return state
    atoms = state.layout[dim]
    if any(atom.axis == "lost" for atom in atoms):
        layout = list(state.layout)
        layout[dim] = (Atom("lost", new),)
        return replace(state, layout=tuple(layout))
    return moved(state, dim, new, lambda o: (start + o * step,), forward=step)


def _split(operation: Operation, lookup: Lookup) -> Sequence[AnyState]:
    state = _only(operation, lookup)
    before: Tensor = operation.argument("self")
    dim = int(operation.argument("dim", 0)) % before.dim()
    results: list[AnyState] = []
    start = 0
    for tensor in operation.outputs:
        new = tensor.shape[dim]
        results.append(_part(state, dim, start, new, 1, before.shape[dim]))
        start += new
    return results


def _selected(operation: Operation, lookup: Lookup) -> Sequence[AnyState]:
    state = _only(operation, lookup)
    before: Tensor = operation.argument("self")
    dim = int(operation.argument("dim", 0)) % before.dim()
    index = int(operation.argument("index")) % before.shape[dim]
    return [_chosen(state, dim, index)]


def _chosen(state: State, dim: int, index: int) -> State:
    inner = 1
    for atom in reversed(state.layout[dim]):
        digit = index // inner % atom.size
        inner *= atom.size
        if atom.axis in (0, 1) and atom.size > 1:
            span, stride, size = state.spans[atom.axis], atom.stride, atom.size

            def taps(unit: int, stride: int = stride, size: int = size, digit: int = digit) -> tuple[int]:
                return (unit + (digit - unit // stride % size) * stride,)

            span = span.remap(taps, length=span.length, forward=stride * size, period=stride * size)
            state = with_span(state, atom.axis, span)
    layout = tuple(atoms for i, atoms in enumerate(state.layout) if i != dim)
    return _unmoved(replace(state, layout=layout))


def _unmoved(state: State) -> State:
    """As `tidy`, for an axis on which one position has been chosen: it has not been pooled."""
    spans = list(state.spans)
    for axis in (0, 1):
        if not any(atom.axis in (axis, "lost") and atom.size > 1 for dim in state.layout for atom in dim):
            spans[axis] = spans[axis].fixed(0, 0)
    return tidy(replace(state, spans=(spans[0], spans[1])))


def _unbound(operation: Operation, lookup: Lookup) -> Sequence[AnyState]:
    state = _only(operation, lookup)
    dim = int(operation.argument("dim", 0)) % len(state.layout)
    return [_chosen(state, dim, index) for index in range(len(operation.outputs))]


def _viewed(operation: Operation, lookup: Lookup) -> Sequence[AnyState]:
    return [reshaped(_only(operation, lookup), operation.outputs[0].shape)]


def _permuted(operation: Operation, lookup: Lookup) -> Sequence[AnyState]:
    state = _only(operation, lookup)
    count = len(state.layout)
    if operation.name == "aten::permute":
        order = _dims(operation.argument("dims"), count)
    else:
        order = list(range(count))
        a, b = (
            (0, count - 1)
            if operation.name in ("aten::t", "aten::t_")
            else (
                int(operation.argument("dim0")) % count,
                int(operation.argument("dim1")) % count,
            )
        )
        order[a], order[b] = order[b], order[a]
    return [replace(state, layout=tuple(state.layout[dim] for dim in order))]


def _unsqueezed(operation: Operation, lookup: Lookup) -> Sequence[AnyState]:
    state = _only(operation, lookup)
    layout = list(state.layout)
    layout.insert(int(operation.argument("dim")) % (len(layout) + 1), plain(1))
    return [replace(state, layout=tuple(layout))]


def _squeezed(operation: Operation, lookup: Lookup) -> Sequence[AnyState]:
    state = _only(operation, lookup)
    before: Tensor = operation.argument("self")
    dims = _dims(operation.argument("dim"), before.dim())
    gone = {dim for dim in dims if before.shape[dim] == 1}
    return [replace(state, layout=tuple(atoms for dim, atoms in enumerate(state.layout) if dim not in gone))]


def _expanded(operation: Operation, lookup: Lookup) -> Sequence[AnyState]:
    return [combined(operation.outputs[0].shape, [_only(operation, lookup)])]


def _repeated(operation: Operation, lookup: Lookup) -> Sequence[AnyState]:
    state, shape = _only(operation, lookup), operation.outputs[0].shape
    before: Tensor = operation.argument("self")
    layout = [plain(1)] * (len(shape) - before.dim()) + list(state.layout)
    for dim, atoms in enumerate(layout):
        size = prod(atom.size for atom in atoms)
        if size != shape[dim]:
            if any(atom.axis is not None and atom.size > 1 for atom in atoms):
                raise NoRuleError
            layout[dim] = plain(shape[dim])
    return [replace(state, layout=tuple(layout))]


def _concatenated(operation: Operation, lookup: Lookup) -> Sequence[AnyState]:
    tensors = [tensor for tensor in tensors_in(operation.argument("tensors")) if tensor.numel()]
    shape = operation.outputs[0].shape
    dim = int(operation.argument("dim", 0)) % len(shape)
    states: list[State] = []
    lost = False
    for tensor in tensors:
        state = _state(lookup, tensor)
        if state is None:
            continue
        if any(atom.size > 1 for atom in state.positions(dim)):
            lost = len(tensors) > 1
        layout = list(state.layout)
        if len(tensors) > 1:
            layout[dim] = plain(1)
        states.append(replace(state, layout=tuple(layout)))
    if len(tensors) == 1:
        return states
    # One state for all parts: along the dimension that grew there is no order of positions any more.
    rest = [1 if i == dim else size for i, size in enumerate(shape)]
    after = combined(rest, states)
    layout = list(after.layout)
    layout[dim] = (Atom("lost", shape[dim]),) if lost else plain(shape[dim])
    return [replace(after, layout=tuple(layout))]


def _stacked(operation: Operation, lookup: Lookup) -> Sequence[AnyState]:
    shape = operation.outputs[0].shape
    dim = int(operation.argument("dim", 0)) % len(shape)
    states = [state for tensor in operation.tensors() if (state := _state(lookup, tensor)) is not None]
    after = combined([size for i, size in enumerate(shape) if i != dim], states)
    layout = list(after.layout)
    layout.insert(dim, plain(shape[dim]))
    return [replace(after, layout=tuple(layout))]


def _product(first: str, second: str, added: str | None = None) -> Rule:
    def rule(operation: Operation, lookup: Lookup) -> Sequence[AnyState]:
        shape = operation.outputs[0].shape
        a, b = (_state(lookup, operation.argument(name)) for name in (first, second))
        result = _matrix_product(shape, a, b)
        bias = _state(lookup, operation.argument(added)) if added else None
        states = [state for state in (result, bias) if state is not None]
        return [combined(shape, states)]

    return rule


def _matrix_product(shape: Sequence[int], a: State | None, b: State | None) -> State | None:
    """(..., n, m) times (..., m, p): everything along m is read."""
    rows = None
    if a is not None:
        last = len(a.layout) - 1
        a = merged(a, [last])
        rows = replace(a, layout=(*a.layout[:last], plain(shape[-1])))
    if b is None:
        return rows
    count = len(b.layout)
    if rows is None:
        b = merged(b, [count - 2])
        return replace(b, layout=(*b.layout[: count - 2], plain(shape[-2]), b.layout[-1]))
    # Both depend on the image, as in attention: along the columns, which are read next, the result stands for all.
    b = merged(b, [count - 2, count - 1], keep=True)
    columns = replace(b, layout=(*b.layout[: count - 2], plain(shape[-2]), plain(shape[-1])))
    return _lengths_matched(shape, rows, columns)


def _lengths_matched(shape: Sequence[int], rows: State, columns: State) -> State:
    for dim in range(len(shape) - 2):
        if joined(rows.positions(dim)) != joined(columns.positions(dim)):
            raise NoRuleError
    spans = [
        a.union(b) if a.length == b.length else a.union(b.fixed(0, 0))
        for a, b in zip(rows.spans, columns.spans, strict=True)
    ]
    return replace(rows, spans=(spans[0], spans[1]))


def _attended(operation: Operation, lookup: Lookup) -> Sequence[AnyState]:
    query, key, value = (_state(lookup, operation.argument(name)) for name in ("query", "key", "value"))
    if query is None or key is None or value is None:
        raise NoRuleError
    shape = operation.outputs[0].shape
    count = len(shape)
    query = merged(query, [count - 1])
    result = replace(query, layout=(*query.layout[: count - 1], plain(shape[-1])))
    for other in (key, value):
        all_of = merged(other, [count - 2, count - 1], keep=True)
        result = _lengths_matched(shape, result, all_of)
    return [result] + [None] * (len(operation.outputs) - 1)


def _rolled(operation: Operation, lookup: Lookup) -> Sequence[AnyState]:
    """Positions that come in at the other side are left out: who rolls a map masks them (Swin)."""
    state = _only(operation, lookup)
    before: Tensor = operation.argument("self")
    shifts, dims = _pair(operation.argument("shifts")), operation.argument("dims")
    if not dims:
        raise NoRuleError
    for shift, dim in zip(shifts, _dims(dims, before.dim()), strict=False):
        size = before.shape[dim]
        shift %= size
        if shift > size // 2:
            shift -= size
        state = moved(state, dim, size, lambda o, shift=shift: (o - shift,))
    return [state]


def _unfolded(operation: Operation, lookup: Lookup) -> Sequence[AnyState]:
    """im2col: (B, C, H, W) to (B, C k k, L), the windows one after another."""
    source: Tensor = operation.argument("self")
    state = _only(operation, lookup)
    k, d, p, s = (_pair(operation.argument(name)) for name in ("kernel_size", "dilation", "padding", "stride"))
    layout: list[tuple[Atom, ...]] = []
    for i in (0, 1):
        size = (source.shape[2 + i] + 2 * p[i] - d[i] * (k[i] - 1) - 1) // s[i] + 1
        state = _window(state, 2 + i, size, k=k[i], s=s[i], p=p[i], d=d[i])
    layout = [state.layout[0], plain(operation.outputs[0].shape[1]), (*state.layout[2], *state.layout[3])]
    return [replace(state, layout=tuple(layout))]


def _indexed(operation: Operation, lookup: Lookup) -> Sequence[AnyState]:
    """Taking whole planes along dimensions without positions."""
    state = _only(operation, lookup)
    indices = operation.argument("indices")
    places = [dim for dim, index in enumerate(indices) if index is not None]
    if len(places) != 1 or indices[places[0]].dim() != 1 or any(atom.size > 1 for atom in state.positions(places[0])):
        raise NoRuleError
    layout = list(state.layout)
    layout[places[0]] = plain(operation.outputs[0].shape[places[0]])
    return [replace(state, layout=tuple(layout))]


def _shuffled(operation: Operation, lookup: Lookup) -> Sequence[AnyState]:
    """Pixel shuffle (B, C r r, H, W) to (B, C, H r, W r), and back."""
    state, shape = _only(operation, lookup), operation.outputs[0].shape
    count = len(shape)
    if operation.name == "aten::pixel_shuffle":
        factor = int(operation.argument("upscale_factor"))
        state = merged(state, [count - 3])
        layout = list(state.layout)
        layout[count - 3] = plain(shape[-3])
        state = replace(state, layout=tuple(layout))
        for dim in (count - 2, count - 1):
            state = moved(state, dim, shape[dim], lambda o: (o // factor,), period=factor)
        return [state]
    factor = int(operation.argument("downscale_factor"))
    layout = list(state.layout)
    layout[count - 3] = plain(shape[-3])
    state = replace(state, layout=tuple(layout))
    for dim in (count - 2, count - 1):
        state = _window(state, dim, shape[dim], k=factor, s=factor)
    return [state]


def _made_alike(operation: Operation, lookup: Lookup) -> Sequence[AnyState]:
    """New tensors that take only their shape from another."""
    return [None] * len(operation.outputs)


def _table(rule: Rule, names: str) -> dict[str, Rule]:
    return {f"aten::{name}": rule for name in names.split()}


RULES: dict[str, Rule] = {
    **_table(_convolved, "convolution _convolution"),
    **_table(_pooled, "max_pool2d_with_indices max_pool2d avg_pool1d avg_pool2d avg_pool3d max_pool1d"),
    **_table(
        _adaptively_pooled,
        "_adaptive_avg_pool2d adaptive_avg_pool2d adaptive_max_pool2d adaptive_avg_pool1d adaptive_max_pool1d",
    ),
    **_table(
        _reduced, "mean sum amax amin max min prod var std var_mean std_mean logsumexp linalg_vector_norm norm all any"
    ),
    **_table(_softmaxed, "_softmax softmax _safe_softmax _log_softmax log_softmax"),
    **_table(
        _upsampled,
        "upsample_nearest2d _upsample_nearest_exact2d upsample_bilinear2d upsample_bicubic2d _upsample_bilinear2d_aa "
        "_upsample_bicubic2d_aa",
    ),
    **_table(_padded, "constant_pad_nd reflection_pad2d replication_pad2d reflection_pad1d replication_pad1d"),
    **_table(_sliced, "slice"),
    **_table(_split, "split split_with_sizes chunk"),
    **_table(_selected, "select"),
    **_table(_unbound, "unbind"),
    **_table(_viewed, "view _unsafe_view reshape _reshape_alias unflatten flatten view_as"),
    **_table(_permuted, "permute transpose transpose_ t t_"),
    **_table(_unsqueezed, "unsqueeze unsqueeze_"),
    **_table(_squeezed, "squeeze squeeze_"),
    **_table(_expanded, "expand"),
    **_table(_repeated, "repeat"),
    **_table(_concatenated, "cat"),
    **_table(_stacked, "stack"),
    **_table(_product("self", "mat2"), "mm bmm"),
    **_table(_product("mat1", "mat2", "self"), "addmm _addmm_activation"),
    **_table(_product("batch1", "batch2", "self"), "baddbmm"),
    **_table(
        _attended,
        "scaled_dot_product_attention _scaled_dot_product_attention_math _scaled_dot_product_attention_math_for_mps "
        "_scaled_dot_product_flash_attention _scaled_dot_product_flash_attention_for_cpu "
        "_scaled_dot_product_efficient_attention _scaled_dot_product_cudnn_attention "
        "_scaled_dot_product_fused_attention_overrideable",
    ),
    **_table(_rolled, "roll"),
    **_table(_unfolded, "im2col"),
    **_table(_indexed, "index"),
    **_table(_shuffled, "pixel_shuffle pixel_unshuffle"),
    **_table(_copied_into, "copy_"),
    **_table(
        _same,
        "native_batch_norm cudnn_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training tril triu "
        "_batch_norm_no_update native_layer_norm native_group_norm _fused_rms_norm rms_norm clone contiguous detach "
        "alias as_strided_ _to_copy lift_fresh native_dropout native_channel_shuffle channel_shuffle bernoulli_",
    ),
    **_table(
        _made_alike,
        "empty_like zeros_like ones_like full_like rand_like randn_like new_zeros new_ones new_empty new_full "
        "new_empty_strided",
    ),
}
