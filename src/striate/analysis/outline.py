"""A network in the few blocks of a paper's figure, found in its inspection.

What the figure shows as one step is found by structure, not by names: a module whose class occurs more than once, or in
which branches join, is one step (bottleneck, inception, encoder block), and so is every convolution, pooling and full
layer outside such modules. What changes neither shape nor weights (norms, activations, dropout) belongs to the step
before it. Neighbours of the same kind and shape are folded into one block that says how often; where the picture would
still be longer than `LIMIT`, the rules are loosened one by one.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from math import prod

from striate.analysis.inspection import Inspection, Layer
from striate.viz.diagram import TIMES, Block, Kind

LIMIT = 18  # blocks of one picture, the input included

_CONTAINERS = {"Sequential", "ModuleList", "ModuleDict"}
_JOINS = {"add", "cat", "mul", "stack", "matmul", "scaled_dot_product_attention"}
_FORMS = {"Flatten", "flatten", "Unflatten", "Identity", "Dropout", "Dropout2d", "view", "reshape", "clone", "copy"}
_ROOMS = {"backbone", "head", "network"}  # what every classifier has, and says nothing on a label
_WORDS = {
    "Conv2d": "conv",
    "MaxPool2d": "max pool",
    "AvgPool2d": "average pool",
    "Linear": "full",
    "linear": "full",
    "cat": "concatenation",
}


def outline(inspection: Inspection, *, limit: int = LIMIT) -> list[Block]:
    """The blocks of ``inspection`` for a picture, input first.

    Args:
        inspection: of a network.
        limit: blocks at most, as far as folding reaches: modules that stand directly in the network stay apart.
    """
    tree = _Tree(inspection)
    steps = tree.steps()
    groups: list[list[_Step]] = [[step] for step in steps]
    depth = max((step.path.count(".") for step in steps), default=0)
    containers = [partial(_same_container, depth) for depth in range(depth, 0, -1)]
    for alike in (_same_unit, _same_layer, _same_stage, _same_kind, _same_side, *containers):
        groups = _folded(groups, alike)
        if 1 + len(groups) <= limit:
            break
    names = _names(groups, tree)
    blocks = [Block(label="input", kind="input", shape=inspection.input)]
    for group, name in zip(groups, names, strict=True):
        blocks.append(
            Block(
                label=name,
                kind=_kind(group),
                shape=_channels_first(group[-1].shape, inspection.input),
                note=_note(group),
                repeats=sum(step.repeats for step in group if step.type == _main(group).type),
            )
        )
    return blocks


@dataclass(frozen=True)
class _Step:
    """One module or operation that a figure shows as a whole."""

    path: str
    type: str
    layers: tuple[Layer, ...]
    parent: str
    unit: bool  # a module of several layers
    part: str = ""  # class of what a dense block repeats
    repeats: int = 1

    @cached_property
    def shape(self) -> tuple[int, ...]:
        return next((layer.output_shape for layer in reversed(self.layers) if layer.output_shape), ())

    @cached_property
    def before(self) -> tuple[int, ...]:
        return self.layers[0].input_shape or ()

    @cached_property
    def kernel(self) -> tuple[int, ...] | None:
        """Of a layer its kernel; of a unit the one of its depthwise convolutions, which tells it from its siblings."""
        if not self.unit:
            return self.layers[0].kernel
        kernels = {
            layer.kernel
            for layer in self.layers
            if layer.groups is not None
            and layer.groups > 1
            and layer.input_shape
            and layer.groups == layer.input_shape[0]
        }
        return kernels.pop() if len(kernels) == 1 else None

    @cached_property
    def stride(self) -> int:
        """How much smaller the map becomes."""
        if not self.unit and self.layers[0].stride:
            return self.layers[0].stride[0]
        if len(self.before) != 3 or len(self.shape) != 3 or not self.shape[1]:
            return 1
        return max(round(self.before[1] / self.shape[1]), 1)


class _Tree:
    """Which modules of an inspection are steps."""

    def __init__(self, inspection: Inspection):
        self.classes = inspection.modules
        self.layers = [layer for layer in inspection.layers if layer.output_shape is not None]
        self.below: dict[str, list[Layer]] = {}  # in the order in which they first run
        for layer in self.layers:
            for path in _above(_owner(layer.name)):
                self.below.setdefault(path, []).append(layer)
        self.order = {path: index for index, path in enumerate(self.below)}
        weighty = {path for path, layers in self.below.items() if sum(layer.macs > 0 for layer in layers) > 1}
        self.own = [path for path in weighty if path and self.classes.get(path) not in _CONTAINERS]
        counts = Counter(self.classes.get(path, "") for path in self.own)
        joining = {
            self.classes.get(_owner(layer.name)) for layer in self.layers if layer.type in _JOINS and "(" in layer.name
        }
        self.joined = {path for path in self.own if self.classes.get(path) in joining}
        self.candidates = {path for path in self.own if path in self.joined or counts[self.classes.get(path, "")] > 1}
        self.units = {path for path in self.candidates if self._is_whole(path)}

    def _is_whole(self, path: str) -> bool:
        """Whether a candidate is shown as one, rather than the candidates inside it one by one."""
        among = self.joined if path in self.joined else self.candidates
        last: dict[str, tuple[int, ...] | None] = {}
        inside = sorted((other for other in among if other.startswith(path + ".")), key=self.order.__getitem__)
        for other in inside:
            layers, class_ = self.below[other], self.classes.get(other, "")
            if class_ in last and last[class_] == layers[0].input_shape:
                return False  # a row of blocks: the second reads what the first gives
            last[class_] = layers[-1].output_shape
        return True

    def steps(self) -> list[_Step]:
        """All steps, in the order in which they run."""
        found: list[_Step] = []
        last = ""
        for layer in self.layers:
            owner = _owner(layer.name)
            unit = next(
                (path for path in reversed(list(_above(owner))) if path in self.units and path != layer.name), ""
            )
            if unit:
                if unit != last:
                    type_ = self.classes.get(unit, "")
                    found.append(_Step(unit, type_, tuple(self.below[unit]), _parent(unit), True, *self._parts(unit)))
            elif _counts(layer):
                found.append(
                    _Step(layer.name, layer.type, (layer,), _parent(owner) if owner == layer.name else owner, False)
                )
            last = unit
        return found

    def _parts(self, unit: str) -> tuple[str, int]:
        """What a dense block repeats, and how often: its parts are one by one of another shape, and never alone."""
        if not re.search("dense", self.classes.get(unit, ""), re.IGNORECASE):
            return "", 1
        inside = Counter(self.classes.get(path, "") for path in self.own if path.startswith(unit + "."))
        part, count = max(inside.items(), key=lambda item: item[1], default=("", 1))
        return (part, count) if count > 1 else ("", 1)


def _owner(name: str) -> str:
    """The module of a layer's name, which may be an operation's: "stage1.0 (add)"."""
    return name.partition("(")[0].rstrip()


def _parent(path: str) -> str:
    return path.rpartition(".")[0]


def _above(path: str) -> Iterable[str]:
    """All modules around ``path`` and itself, innermost first, without the network."""
    while path:
        yield path
        path = _parent(path)
    yield ""


def _counts(layer: Layer) -> bool:
    """Whether a layer outside all units is a step of its own."""
    if layer.type in _FORMS or layer.output_shape is None:
        return False
    before, after = layer.input_shape or (), layer.output_shape
    if (
        not layer.macs
        and prod(before) == prod(after)
        and (len(before) != len(after) or sorted(before) == sorted(after))
    ):
        return before == after and _is_pool(layer)  # the same numbers in another form or order
    return layer.macs > 0 or before != after


def _is_pool(layer: Layer) -> bool:
    return layer.kernel is not None and len(layer.kernel) == 2


# ---- folding ---------------------------------------------------------------------------------------------------------

_Alike = Callable[[_Step, _Step], bool]


def _folded(groups: list[list[_Step]], alike: _Alike) -> list[list[_Step]]:
    found: list[list[_Step]] = []
    for group in groups:
        if found and alike(found[-1][-1], group[0]):
            found[-1] = found[-1] + group
        else:
            found.append(list(group))
    return found


def _side(step: _Step) -> tuple[int, ...]:
    return step.shape[1:] if len(step.shape) == 3 else step.shape


def _same_unit(one: _Step, other: _Step) -> bool:
    return one.unit and other.unit and (one.type, one.shape, one.kernel) == (other.type, other.shape, other.kernel)


def _same_layer(one: _Step, other: _Step) -> bool:
    """Also convolutions, such as those of VGG."""
    if _same_unit(one, other):
        return True
    same = (one.type, one.shape, one.kernel) == (other.type, other.shape, other.kernel)
    return same and len(one.shape) > 1 and not one.unit and other.stride == 1


def _same_stage(one: _Step, other: _Step) -> bool:
    """Also what differs in channels and kernel."""
    same = one.type == other.type and one.parent == other.parent and _side(one) == _side(other)
    return same and len(one.shape) > 1


def _same_kind(one: _Step, other: _Step) -> bool:
    """Also across containers."""
    return one.type == other.type and len(one.shape) > 1 and _side(one) == _side(other)


def _same_side(one: _Step, other: _Step) -> bool:
    """Everything at one resolution."""
    return len(one.shape) > 1 and len(one.shape) == len(other.shape) and _side(one) == _side(other)


def _same_container(depth: int, one: _Step, other: _Step) -> bool:
    """Everything in one module, for networks whose branches run beside each other all the way."""
    return _owner(one.path).split(".")[:depth] == _owner(other.path).split(".")[:depth]


# ---- words -----------------------------------------------------------------------------------------------------------


def _kind(group: Sequence[_Step]) -> Kind:
    step = group[0]
    if len({other.type for other in group}) > 1 or any(other.unit for other in group):
        return "block"
    if re.search("pool|subsampl|mean", step.type, re.IGNORECASE):
        return "pool"
    if step.layers[0].macs and len(step.shape) == 1:
        return "full"
    return "conv" if step.layers[0].macs else "other"


def _main(group: Sequence[_Step]) -> _Step:
    """The step of most work."""
    return max(group, key=lambda step: sum(layer.macs for layer in step.layers))


def _note(group: Sequence[_Step]) -> str:
    """As under the arrows of a figure: "conv 3x3 /2"."""
    first = group[0]
    if len({step.type for step in group}) > 1:
        return f"{_word(_main(group).type)} and others"
    kernels = {step.kernel for step in group}
    layer = first.layers[0]
    word = _word(first.part or first.type)
    if len(first.shape) > 1 and word == "full":
        word = "linear"
    if not first.unit and (layer.groups or 1) > 1:
        word = "depthwise" if layer.input_shape and layer.groups == layer.input_shape[0] else word
    collapsed = len(first.before) == 3 and max(first.before[1:]) > 1 and max(first.shape[1:], default=1) == 1
    if collapsed and _kind(group) == "pool":
        return (
            word
            if "global" in word
            else f"global {'average ' if first.type == 'mean' else ''}{word}".replace("mean", "pool")
        )
    if len(kernels) == 1 and first.kernel and len(first.kernel) == 2 and not first.type.startswith("Adaptive"):
        word += f" {first.kernel[0]}{TIMES}{first.kernel[1]}"
    if len(first.shape) == 3 and first.stride > 1:
        word += f" /{first.stride}"
    if not first.unit and 1 < (layer.groups or 1) < (layer.input_shape or (0,))[0]:
        word += f" {layer.groups} groups"
    return word


def _word(type_: str) -> str:
    """A class's name as words: "inverted residual"."""
    if type_ in _WORDS:
        return _WORDS[type_]
    if type_.startswith("AdaptiveAvgPool"):
        return "average pool"
    if type_.startswith("AdaptiveMaxPool"):
        return "max pool"
    words = re.sub(
        r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|_",
        " ",
        re.sub(r"(?<=[a-z])[12]d$", "", type_.replace("NeXt", "next")),
    )
    return " ".join(word if word.isupper() and len(word) > 1 else word.lower() for word in words.split())


def _channels_first(shape: tuple[int, ...], images: tuple[int, int, int]) -> tuple[int, ...]:
    """(C, H, W) also for networks that keep channels last, where square images make it plain."""
    if len(shape) == 3 and images[1] == images[2] and shape[0] == shape[1] != shape[2]:
        return (shape[2], shape[0], shape[1])
    return shape


def _names(groups: Sequence[Sequence[_Step]], tree: _Tree) -> list[str]:
    """The shortest names that tell the groups apart."""
    users: dict[str, set[int]] = {}
    for index, group in enumerate(groups):
        for step in group:
            for path in _above(_owner(step.path)):
                users.setdefault(path, set()).add(index)
    paths: list[tuple[str, str]] = []
    for index, group in enumerate(groups):
        ends = [_owner(group[0].path), _owner(group[-1].path)]
        if len(group) > 1 and ends[0] != ends[1]:
            common = _common(ends)
            if common and not _is_room(common) and users[common] == {index}:
                ends = [common, common]
        for end, path in enumerate(ends):
            while not _is_room(up := _parent(path)) and users[up] == {index}:
                path = up
            ends[end] = path
        paths.append((ends[0], ends[1]))
    for index, group in enumerate(groups):
        if "(" in group[0].path and _is_room(_owner(group[0].path)):  # what the network itself runs
            paths[index] = (group[0].type, group[-1].type)
    last = Counter(part for pair in paths for part in {_tail(path) for path in pair})
    return [_label(pair, last) for pair in paths]


def _is_room(path: str) -> bool:
    return not path or set(path.split(".")) <= _ROOMS


def _tail(path: str) -> str:
    return path.rpartition(".")[2]


def _common(paths: Sequence[str]) -> str:
    parts = [path.split(".") for path in paths]
    count = 0
    for ours, theirs in zip(*parts, strict=False):
        if ours != theirs:
            break
        count += 1
    return ".".join(parts[0][:count])


def _label(pair: tuple[str, str], last: Counter[str]) -> str:
    first, final = (_short(path, last) for path in pair)
    if first == final:
        return first
    same = 0  # "inception4a" to "inception4c" is "inception4a-c"
    for ours, theirs in zip(first, final, strict=False):
        if ours != theirs:
            break
        same += 1
    while same and first[same - 1].isdigit():
        same -= 1
    return f"{first}-{final[same:]}"


def _short(path: str, last: Counter[str]) -> str:
    parts = [part for part in path.split(".") if part not in _ROOMS] or path.split(".")
    name = parts[-1]
    if len(parts) > 1 and (name.isdigit() or last[name] > 1):
        name = f"{parts[-2]}.{name}"
    return name
