"""Which pixels the units of a tensor see, and where in the tensor they stand: what `rules` reckons with.

Along each axis of the image (0 height, 1 width) a `Span` says what the units of a map see. A tensor of any shape places
those units in its dimensions by `Atom`: a map (B, C, H, W) has one per dimension, its tokens (B, H W, C) two in the
middle one, its windows of attention (B H/7 W/7, 7 7, C) two outer and two inner ones.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import gcd, lcm, prod
from typing import Literal

NOTHING = 1 << 40  # (NOTHING, -NOTHING) is the span of a unit that sees no pixel, neutral in every union


@dataclass(frozen=True, slots=True)
class Span:
    """First and last pixel that the units along one axis see: one entry per phase, moving `step` pixels per period."""

    low: tuple[int, ...]
    high: tuple[int, ...]
    step: int
    length: int  # units on the axis
    image: int  # pixels on the axis
    whole: bool = False  # everything, through a global operation

    def at(self, unit: int) -> tuple[int, int]:
        """First and last pixel that ``unit`` sees; units beyond the map continue it."""
        if self.whole:
            return 0, self.image - 1
        period, phase = divmod(unit, len(self.low))
        return self.low[phase] + period * self.step, self.high[phase] + period * self.step

    def remap(self, taps: Callable[[int], Iterable[int]], *, length: int, forward: int = 1, period: int = 1) -> "Span":
        """The span of units of which unit o reads the units ``taps(o)``.

        Args:
            taps: the ends of what is read suffice where every unit sees something, since spans never run backwards.
            length: number of the new units.
            forward: o + ``period`` reads what lies ``forward`` units on from what o reads.
            period: as above.
        """
        if self.whole:
            return replace(self, length=length)
        repeats = len(self.low) // gcd(len(self.low), forward)
        seen = [[self.at(tap) for tap in taps(unit)] for unit in range(period * repeats)]
        return replace(
            self,
            low=tuple(min((low for low, _ in ends), default=NOTHING) for ends in seen),
            high=tuple(max((high for _, high in ends), default=-NOTHING) for ends in seen),
            step=self.step * forward * repeats // len(self.low),
            length=length,
        )

    def union(self, other: "Span") -> "Span":
        """What units that read both see."""
        if self.whole or other.whole:
            return replace(self, whole=True)
        if self == other:
            return self
        if self.step * len(other.low) == other.step * len(self.low):
            period = lcm(len(self.low), len(other.low))
            step = self.step * period // len(self.low)
        else:  # they move at different speeds: unit by unit
            period = max(self.length, 1)
            step = max(round(self.step * period / len(self.low)), round(other.step * period / len(other.low)))
        pairs = [(*self.at(unit), *other.at(unit)) for unit in range(period)]
        return replace(
            self,
            low=tuple(min(pair[0], pair[2]) for pair in pairs),
            high=tuple(max(pair[1], pair[3]) for pair in pairs),
            step=step,
        )

    def fixed(self, first: int, last: int) -> "Span":
        """The span of one value that reads the units from ``first`` to ``last``."""
        low, high = self.at(first)[0], self.at(last)[1]
        return replace(self, low=(low,), high=(high,), step=0, length=1)

    def pooled(self) -> "Span":
        """The span of one value that reads all units."""
        fixed = self.fixed(0, self.length - 1)
        jump = self.step / len(self.low)
        # The last pixels, fewer than a step, may lie beside every window.
        covers = fixed.low[0] < max(jump, 1) and fixed.high[0] > self.image - 1 - max(jump, 1)
        return replace(fixed, whole=self.whole or covers)


@dataclass(frozen=True, slots=True)
class Atom:
    """A factor of a dimension: how an index along it moves the position on an axis."""

    axis: Literal[0, 1, "lost"] | None  # height, width, positions of unknown order, or no position
    size: int
    stride: int = 0  # units of the axis per step


Layout = tuple[tuple[Atom, ...], ...]  # per dimension of a tensor its factors, outer first


@dataclass(frozen=True, slots=True)
class State:
    """What the units of a tensor see, and where on the axes they stand."""

    spans: tuple[Span, Span]  # height, width
    layout: Layout

    @property
    def whole(self) -> bool:
        """The whole image is seen."""
        return all(span.whole for span in self.spans)

    def positions(self, dim: int) -> tuple[Atom, ...]:
        """The factors of dimension ``dim`` that are positions."""
        return tuple(atom for atom in self.layout[dim] if atom.axis is not None)

    def has_positions(self) -> bool:
        """Whether more than one unit differs in position."""
        return any(atom.axis is not None and atom.size > 1 for dim in self.layout for atom in dim)


class Unknown:
    """The state of a tensor that depends on the image in a way that no rule covers."""


UNKNOWN = Unknown()
AnyState = State | Unknown | None  # None: does not depend on the image


class NoRuleError(Exception):
    """An operation whose effect on positions is not known."""


def plain(size: int) -> tuple[Atom, ...]:
    """A dimension without positions."""
    return (Atom(None, size),)


def fits(layout: Layout, shape: Sequence[int]) -> bool:
    """Whether ``layout`` is one of a tensor of ``shape``."""
    return len(layout) == len(shape) and all(
        prod(atom.size for atom in dim) == size for dim, size in zip(layout, shape, strict=True)
    )


def merged(state: State, dims: Iterable[int], *, keep: bool = False) -> State:
    """The state of values that read all positions along ``dims``.

    Args:
        state: before.
        dims: dimensions, not negative.
        keep: the dimensions stay (softmax); else each is left with size 1.
    """
    dims = set(dims)
    spans = list(state.spans)
    for dim in dims:
        for atom in joined(state.layout[dim]):
            if atom.axis == "lost":
                spans = [span.pooled() for span in spans]
            elif atom.axis is not None and atom.size > 1:
                span, stride, size = spans[atom.axis], atom.stride, atom.size

                def taps(unit: int, stride: int = stride, size: int = size) -> tuple[int, int]:
                    first = unit - unit // stride % size * stride
                    return first, first + (size - 1) * stride

                if stride == 1 and size == span.length:  # all of the axis at once
                    spans[atom.axis] = replace(span.pooled(), length=span.length)
                else:
                    spans[atom.axis] = span.remap(taps, length=span.length, forward=stride * size, period=stride * size)
    after = replace(state, spans=(spans[0], spans[1]))
    if keep:
        return after
    return tidy(replace(after, layout=tuple(() if dim in dims else atoms for dim, atoms in enumerate(state.layout))))


def tidy(state: State) -> State:
    """Number the units of each axis by what is left of its positions."""
    spans, layout = list(state.spans), state.layout
    for axis in (0, 1):
        atoms = [atom for dim in layout for atom in dim if atom.axis == axis]
        if any(atom.axis == "lost" for dim in layout for atom in dim):
            continue
        moving = [atom for atom in atoms if atom.size > 1]
        span = spans[axis]
        if not moving:
            if span.length > 1:  # every part of the axis was merged into one
                spans[axis] = replace(span.pooled(), length=1)
            continue
        unit = min(atom.stride for atom in moving)
        if unit > 1 and all(atom.stride % unit == 0 for atom in moving):
            spans[axis] = span.remap(lambda o, unit=unit: (o * unit,), length=-(-span.length // unit), forward=unit)
            layout = _restrided(layout, axis, unit)
    return replace(state, spans=(spans[0], spans[1]), layout=layout)


def _restrided(layout: Layout, axis: int, unit: int) -> Layout:
    return tuple(
        tuple(replace(atom, stride=max(atom.stride // unit, 1)) if atom.axis == axis else atom for atom in dim)
        for dim in layout
    )


def as_map(state: State, dim: int) -> tuple[State, Literal[0, 1] | None]:
    """The axis that runs along dimension ``dim``, all of it and in order; None where no position does.

    Raises:
        NoRuleError: when the dimension mixes positions in another way.
    """
    atoms = [atom for atom in joined(state.layout[dim]) if atom.size > 1]
    found = [atom for atom in atoms if atom.axis is not None]
    if not found:
        single = state.positions(dim)
        if len(state.layout[dim]) == len(single) == 1 and single[0].axis in (0, 1):
            return state, single[0].axis  # a map of one unit is still a map: padding can surround it
        return state, None
    first = atoms[0]
    if len(found) > 1 or first.axis is None or first.axis == "lost" or first.stride != 1:
        raise NoRuleError
    axis, span = first.axis, state.spans[first.axis]
    if first.size != span.length:
        raise NoRuleError
    repeats = prod(atom.size for atom in atoms[1:])
    if repeats > 1:  # units repeated side by side, as a pixel shuffle does
        new = span.remap(lambda o: (o // repeats,), length=span.length * repeats, period=repeats)
        state = with_span(state, axis, new)
    layout = list(state.layout)
    layout[dim] = (Atom(axis, first.size * repeats, 1),)
    return replace(state, layout=tuple(layout)), axis


def with_span(state: State, axis: int, span: Span) -> State:
    """``state`` with another span along one axis."""
    return replace(state, spans=(span, state.spans[1]) if axis == 0 else (state.spans[0], span))


def joined(atoms: Iterable[Atom]) -> tuple[Atom, ...]:
    """Factors with neighbours put together where they count on."""
    out: list[Atom] = []
    for atom in atoms:
        last = out[-1] if out else None
        if last and atom.axis == last.axis and atom.axis in (0, 1) and last.stride == atom.stride * atom.size:
            out[-1] = Atom(atom.axis, last.size * atom.size, atom.stride)
        elif last and atom.axis is None and last.axis is None:
            out[-1] = Atom(None, last.size * atom.size)
        else:
            out.append(atom)
    return tuple(out)


def moved(
    state: State,
    dim: int,
    size: int,
    taps: Callable[[int], Iterable[int]],
    *,
    forward: int = 1,
    period: int = 1,
) -> State:
    """The state after dimension ``dim`` has been read through windows: unit o reads the units ``taps(o)``."""
    state, axis = as_map(state, dim)
    layout = list(state.layout)
    if axis is None:
        layout[dim] = plain(size)
    else:
        state = with_span(state, axis, state.spans[axis].remap(taps, length=size, forward=forward, period=period))
        layout[dim] = (Atom(axis, size, 1),)
    return replace(state, layout=tuple(layout))


def reshaped(state: State, shape: Sequence[int]) -> State:
    """The state of the same numbers in another shape.

    Raises:
        NoRuleError: when the new dimensions cut across the old ones.
    """
    atoms = [atom for dim in state.layout for atom in dim if atom.size > 1 or atom.axis is not None]
    atoms.reverse()  # the next factor is the last of the list
    layout: list[list[Atom]] = []
    for size in shape:
        dim: list[Atom] = []
        if size == 1 and atoms and atoms[-1].size == 1:
            dim.append(atoms.pop())
        while (missing := size // prod(atom.size for atom in dim)) > 1:
            if not atoms:
                raise NoRuleError
            atom = atoms.pop()
            if missing % atom.size == 0:
                dim.append(atom)
            elif atom.size % missing == 0 and atom.axis != "lost":
                inner = atom.size // missing
                dim.append(Atom(atom.axis, missing, atom.stride * inner))
                atoms.append(Atom(atom.axis, inner, atom.stride))
            else:
                raise NoRuleError
        layout.append(dim)
    if any(atom.size > 1 for atom in atoms):
        raise NoRuleError
    if layout:
        layout[-1].extend(reversed(atoms))
    return replace(
        state,
        layout=tuple(joined(dim) if dim else plain(1) for dim in layout),
    )


def combined(shape: Sequence[int], states: Sequence[State], *, gates: bool = False) -> State:
    """The state of values computed element by element, with broadcasting.

    Args:
        shape: of the result.
        states: of the inputs that depend on the image.
        gates: a factor without position that stands for the whole image leaves the others as they are.
    """
    if gates and any(state.has_positions() for state in states):
        states = [state for state in states if state.has_positions() or not state.whole]
    layout = [plain(size) for size in shape]
    for state in states:
        shift = len(shape) - len(state.layout)
        for dim, atoms in enumerate(state.layout):
            positions = tuple(atom for atom in atoms if atom.axis is not None)
            if positions and prod(atom.size for atom in atoms) == shape[dim + shift]:
                present = tuple(atom for atom in layout[dim + shift] if atom.axis is not None)
                if not present:
                    layout[dim + shift] = atoms
                elif present != positions and joined(present) != joined(positions):
                    raise NoRuleError
    lengths = [max((state.spans[axis].length for state in states), default=1) for axis in (0, 1)]
    spans: list[Span] = []
    for axis in (0, 1):
        parts = [state.spans[axis] for state in states]
        if any(part.length not in (1, lengths[axis]) for part in parts):
            raise NoRuleError
        parts.sort(key=lambda part: -part.length)  # the one with positions first: its length is the result's
        span = parts[0]
        for part in parts[1:]:
            span = span.union(part if part.length == span.length else part.fixed(0, 0))
        spans.append(replace(span, length=lengths[axis]))
    return State(spans=(spans[0], spans[1]), layout=tuple(layout))
