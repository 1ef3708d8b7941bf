"""Receptive fields, followed through the graph of operations.

The receptive field of a unit is the part of the input image that its value can depend on (Luo et al., "Understanding
the Effective Receptive Field in Deep Convolutional Neural Networks", NIPS 2016; the arithmetic is that of Araujo,
Norris, Sim: "Computing Receptive Fields of Convolutional Neural Networks", Distill 2019). It is followed operation by
operation, per axis, as the first and last pixel that each unit sees; where neighbours differ in more than position
(after upsampling, transposed convolution, attention in windows), for every unit of one period. So branches of
different kernels, paddings and strides meet as what they are: a unit sees the union of what its parts see.

Rules:
- The field is that of an unbounded image: at the border it reaches over the edge, as far as the padding stands for.
- Between the first and the last pixel of the field every pixel is counted, those that dilation skips too.
- A product of positions with all positions (a full layer on a map, attention, the mean of a map) sees the whole image.
- A gate has no position: a map multiplied or divided by a number per channel that stands for the whole map (squeeze and
  excitation, global response normalisation) keeps its local field, although strictly its values depend on the whole
  image. So do normalisations, whose statistics are taken over positions. A pooled value that is *added* to a map, or
  concatenated with it, makes its field the whole image.
- Values that no rule covers have no known field (None), and neither has what is computed from them.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from striate.analysis.positions import UNKNOWN, AnyState, Atom, NoRuleError, Span, State, Unknown, combined, fits, plain
from striate.analysis.rules import apply
from striate.analysis.trace import Operation, Trace, storage


@dataclass(frozen=True, kw_only=True)
class ReceptiveField:
    """What one unit sees of the image, per axis (height, width), in pixels."""

    size: tuple[int, int]  # of the largest, where units differ by phase
    jump: tuple[float, float]  # from one unit to the next, on average; 0 where all see the same
    offset: tuple[float, float]  # centre of what the first unit sees; 0 is the centre of the first pixel
    whole: bool = False  # the whole image, through a global operation; then size is the image's

    def to_json(self) -> dict[str, Any]:
        """As in ``striate.inspect/1``."""
        return {"size": list(self.size), "jump": list(self.jump), "offset": list(self.offset), "whole": self.whole}


class Fields:
    """The states of all tensors of a trace, brought forward operation by operation.

    A tensor is known by the memory that it looks at and how, which is the same for every handle that torch gives out.
    """

    def __init__(self, trace: Trace):
        _, channels, height, width = trace.images.shape
        spans = (
            Span(low=(0,), high=(0,), step=1, length=height, image=height),
            Span(low=(0,), high=(0,), step=1, length=width, image=width),
        )
        layout = (plain(1), plain(channels), (Atom(0, height, 1),), (Atom(1, width, 1),))
        self.states: dict[tuple[Any, ...], AnyState] = {_key(trace.images): State(spans=spans, layout=layout)}

    def of(self, tensor: Tensor) -> AnyState:
        """What is known of ``tensor`` after the operations so far."""
        return self.states.get(_key(tensor)) if tensor.is_meta else None

    def field(self, tensor: Tensor) -> ReceptiveField | None:
        """What the units of ``tensor`` see after the operations so far; None where it is nothing, or not known."""
        state = self.of(tensor)
        if not isinstance(state, State):
            return None
        low_high = [
            [pair for pair in zip(span.low, span.high, strict=True) if pair[0] <= pair[1]] for span in state.spans
        ]
        sizes = [
            span.image if span.whole else max((high - low + 1 for low, high in pairs), default=0)
            for span, pairs in zip(state.spans, low_high, strict=True)
        ]
        jumps = [0.0 if span.whole else span.step / len(span.low) for span in state.spans]
        offsets = [
            (span.image - 1) / 2 if span.whole else sum(pairs[0]) / 2 if pairs else 0.0
            for span, pairs in zip(state.spans, low_high, strict=True)
        ]
        return ReceptiveField(
            size=(sizes[0], sizes[1]),
            jump=(jumps[0], jumps[1]),
            offset=(offsets[0], offsets[1]),
            whole=state.whole,
        )

    def step(self, operation: Operation) -> None:
        """Bring the states forward over ``operation``."""
        states = [self.of(tensor) for tensor in operation.tensors()]
        if all(state is None for state in states):
            for tensor in operation.outputs:  # memory that is written anew no longer depends on the image
                if tensor.is_meta:
                    self.states[_key(tensor)] = None
            return
        results: Sequence[AnyState] | None = None
        if not any(isinstance(state, Unknown) for state in states):
            with suppress(NoRuleError):
                results = apply(operation, self.of)
        whole = next((state for state in states if isinstance(state, State) and state.whole), None)
        for i, tensor in enumerate(operation.outputs):
            result = UNKNOWN if results is None else results[i]
            if isinstance(result, State) and not fits(result.layout, tensor.shape):
                result = UNKNOWN
            if isinstance(result, Unknown) and whole is not None and tensor.dim():
                # Whatever it is, it sees the whole image.
                result = replace(whole, layout=(*map(plain, tensor.shape[:-1]), (Atom("lost", tensor.shape[-1]),)))
            self.states[_key(tensor)] = result
            if operation.function._schema.is_mutable:
                self._spread(tensor, result)

    def _spread(self, written: Tensor, result: AnyState) -> None:
        """Writing into a part of a map changes what the whole map sees."""
        memory, key = storage(written), _key(written)
        for other, state in self.states.items():
            if other[0] != memory or other == key or len(other[2]) != written.dim() or isinstance(state, Unknown):
                continue
            self.states[other] = UNKNOWN
            if isinstance(result, State):
                layout = tuple(
                    atoms if any(atom.axis is not None for atom in atoms) else plain(size)
                    for atoms, size in zip(result.layout, other[2], strict=True)
                )
                if fits(layout, other[2]):  # else only some of the positions were written
                    part = replace(result, layout=layout)
                    self.states[other] = part if state is None else combined(other[2], [state, part])


def _key(tensor: Tensor) -> tuple[Any, ...]:
    return storage(tensor), tensor.storage_offset(), tuple(tensor.shape), tensor.stride()
