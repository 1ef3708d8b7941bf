"""Checkpoints of other libraries into our networks, and back.

An architecture file ends with tables of rows: the template of a name there, and that of the same tensor's name here.
In a template ``{x}`` stands for a part of a name without dots, the same on both sides, ``{x*}`` for one with dots.
Rows are tried in order and the first that matches wins. The tables are read from left to right to load a checkpoint
and from right to left to save one, so both ways come from the same rows.

A third column gives the tensor's shape there where it differs from ours: 0 keeps the size at that place, what is over
goes into one dimension. ``(0, 0, 1, 1)`` is a full layer here that is a 1x1 convolution there, ``(0, 512, 7, 7)`` one
that is a 7x7 convolution there, ``(0,)`` a tensor that is (C, 1, 1) here.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import torch
from torch import Tensor, nn

from striate.errors import ModelFileError
from striate.models.official import Input

Names: TypeAlias = tuple[tuple[str, str] | tuple[str, str, tuple[int, ...]], ...]
PART = re.compile(r"\{(\w+)(\*?)\}")  # of a template
SHOWN = 10  # names of tensors in one message


@dataclass(frozen=True, kw_only=True)
class Origin:
    """How another library names the same network's weights."""

    model: str  # the network's name there
    names: Names
    unused: tuple[str, ...] = ()  # templates of entries there that are no weights, or follow from others
    # One tensor there that is several of equal size here, one below the other: the template of its name, and those of
    # its parts, which `names` translates.
    stacked: tuple[tuple[str, tuple[str, ...]], ...] = ()
    input: Input | None = None  # what its published weights were trained to see, where the network's name does not say
    classes: tuple[str, ...] = ()  # of its published weights, in their order; "" for a number that no class has


@dataclass(frozen=True, kw_only=True)
class ClassRows:
    """How the first dimension of a layer's weights counts classes: groups x (before + K + after) x each.

    `groups` are anchors or cells, `before` and `after` what is no class (background first, "no object" last, a cell's
    boxes), `each` the numbers that are said of a class.
    """

    groups: int = 1
    before: int = 0
    after: int = 0
    each: int = 1

    def rows(self, classes: int) -> int:
        """Of a weight for so many classes."""
        return self.groups * (self.before + classes + self.after) * self.each

    def classes(self, rows: int) -> int:
        """K of a weight with so many rows."""
        return rows // (self.groups * self.each) - self.before - self.after

    def carried(self, fresh: Tensor, trained: Tensor, places: Sequence[tuple[int, int]]) -> Tensor:
        """A weight for some classes from that for others.

        Args:
            fresh: (rows, ...) for the new classes.
            trained: (other rows, ...) for the old ones.
            places: of every class that stays, its number among the new and among the old.

        Returns:
            Like ``fresh``: rows of the classes that stay, and those that are of no class, are the trained ones.
        """
        new, old = self._apart(fresh).clone(), self._apart(trained)
        new[:, : self.before] = old[:, : self.before]
        if self.after:
            new[:, -self.after :] = old[:, -self.after :]
        for here, there in places:
            new[:, self.before + here] = old[:, self.before + there]
        return new.flatten(0, 2)

    def _apart(self, weight: Tensor) -> Tensor:
        return weight.unflatten(0, (self.groups, -1, self.each))


def to_ours(tensors: Mapping[str, Tensor], network: nn.Module, origin: Origin) -> dict[str, Tensor]:
    """The tensors of a checkpoint under our names and in our shapes.

    A frozen batch normalisation does not count its batches; the count that the network wants is then 0.

    Args:
        tensors: the checkpoint, as its library names it.
        network: ours, whose shapes say how a tensor with a third column is reshaped.
        origin: of the checkpoint.

    Raises:
        ModelFileError: names that no row matches, or two that become one.
    """
    own = network.state_dict()
    found: dict[str, Tensor] = {}
    unknown: list[str] = []
    for name, tensor in _unstacked(tensors, origin).items():
        if any(_pattern(template).fullmatch(name) for template in origin.unused):
            continue
        translated = _translate(name, origin.names, back=False)
        if translated is None:
            unknown.append(name)
            continue
        ours, shape = translated
        if ours in found:
            raise ModelFileError(f"two tensors of the checkpoint are {ours} here; the second is {name}.")
        if shape is not None and ours in own and tensor.dim() == len(shape):  # of another rank: left for `fit` to name
            kept = [side for side, rule in zip(tensor.shape, shape, strict=True) if rule == 0]
            added = own[ours].dim() - len(kept)
            tensor = tensor.reshape(kept + [-1, *[1] * (added - 1)][:added])
        found[ours] = tensor
    if unknown:
        raise ModelFileError(
            f"{len(unknown)} names of the checkpoint have no place in {origin.model}: {_some(unknown)}."
        )
    for name in own.keys() - found.keys():
        module, _, last = name.rpartition(".")
        if last == "num_batches_tracked" and f"{module}.running_mean" in found:
            found[name] = torch.zeros((), dtype=torch.int64)
    return found


def from_ours(tensors: Mapping[str, Tensor], origin: Origin) -> dict[str, Tensor]:
    """The weights of our network under the names and in the shapes of another library.

    Raises:
        ModelFileError: names that no row matches.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        translated = _translate(name, origin.names, back=True)
        if translated is None:
            raise ModelFileError(f"{name} has no name in {origin.model}.")
        theirs, shape = translated
        found[theirs] = tensor if shape is None else tensor.reshape(_shape(tensor, shape))
    for whole, parts in origin.stacked:
        for name in list(found):
            match = _pattern(parts[0]).fullmatch(name)
            if match:
                found[_filled(whole, match)] = torch.cat([found.pop(_filled(part, match)) for part in parts])
    return found


def _unstacked(tensors: Mapping[str, Tensor], origin: Origin) -> dict[str, Tensor]:
    """The checkpoint with what is stacked there in its parts."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        for whole, parts in origin.stacked:
            match = _pattern(whole).fullmatch(name)
            if match:
                names = [_filled(part, match) for part in parts]
                found |= dict(zip(names, tensor.tensor_split(len(parts)), strict=True))
                break
        else:
            found[name] = tensor
    return found


def _filled(template: str, match: re.Match[str]) -> str:
    return match.expand(PART.sub(r"\\g<\1>", template))


def _shape(tensor: Tensor, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(tensor.shape[place] if side == 0 else side for place, side in enumerate(shape))


def _translate(name: str, names: Names, *, back: bool) -> tuple[str, tuple[int, ...] | None] | None:
    """The other side's name and the shape there, or None where no row matches."""
    for row in names:
        source, target = (row[1], row[0]) if back else (row[0], row[1])
        match = _pattern(source).fullmatch(name)
        if match:
            return _filled(target, match), row[2] if len(row) == 3 else None
    return None


@lru_cache(maxsize=4096)
def _pattern(template: str) -> re.Pattern[str]:
    expression, end = "", 0
    for part in PART.finditer(template):
        expression += re.escape(template[end : part.start()]) + f"(?P<{part[1]}>{'.+' if part[2] else '[^.]+'})"
        end = part.end()
    return re.compile(expression + re.escape(template[end:]))


def matching(names: Iterable[str], origins: Mapping[str, Origin]) -> list[str]:
    """The origins whose tables know every one of ``names``."""
    keys = list(names)
    return [
        label
        for label, origin in origins.items()
        if all(
            _translate(name, origin.names, back=False)
            or any(_pattern(t).fullmatch(name) for t in (*origin.unused, *(whole for whole, _ in origin.stacked)))
            for name in keys
        )
    ]


def fit(network: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Put tensors under our names into a network.

    Args:
        network: takes the tensors in place; one on the meta device takes them as they are.
        tensors: under our names.
        where: they come from, for messages.

    Raises:
        ModelFileError: lists what is missing, extra and of another shape, at most ten each, with counts.
    """
    own = network.state_dict()
    missing = [name for name in own if name not in tensors]
    extra = [name for name in tensors if name not in own]
    other = [
        f"{name}: {tuple(tensors[name].shape)} in the file, {tuple(own[name].shape)} in the model"
        for name in own
        if name in tensors and tensors[name].shape != own[name].shape
    ]
    found = [("missing", missing), ("extra", extra), ("of another shape", other)]
    parts = [f"{len(names)} {kind} ({_some(names)})" for kind, names in found if names]
    if parts:
        raise ModelFileError(f"the weights in {where} do not fit the model: {'; '.join(parts)}.")
    network.load_state_dict(tensors, assign=any(tensor.is_meta for tensor in own.values()))


def growing(build: Callable[[int], nn.Module], low: int) -> dict[str, int]:
    """Which tensors of a network grow with one of its numbers, and along which dimension.

    Args:
        build: from the number (of classes, say) to the network.
        low: a number that it takes; the next one is tried too.

    Returns:
        Name of the tensor to the place of the dimension.
    """
    with torch.device("meta"):
        small, large = build(low).state_dict(), build(low + 1).state_dict()
    return {
        name: next(place for place, (a, b) in enumerate(zip(tensor.shape, large[name].shape, strict=True)) if a != b)
        for name, tensor in small.items()
        if tensor.shape != large[name].shape
    }


def adapt_channels(weight: Tensor, channels: int) -> Tensor:
    """A first convolution for another number of input channels.

    To one channel, the kernels are summed: a grey image then gives what the same image as three equal channels gave.
    To any other number the kernels are repeated in turn and scaled by the old number over the new, so that the sum
    over the channels stays near what it was. The rule is timm's (`timm.models.adapt_input_conv`).

    Args:
        weight: (output channels, input channels, height, width).
        channels: the new number of input channels.
    """
    before = weight.shape[1]
    if channels == before:
        return weight
    if channels == 1:
        return weight.sum(1, keepdim=True)
    taken = torch.arange(channels) % before
    return weight[:, taken] * (before / channels)


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
