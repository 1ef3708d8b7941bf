"""Convolution arithmetic for people: output size, parameters, compute and dense equivalents of one layer, in words.

With W the size of the input, F of the kernel, P the padding, S the stride and D the dilation, per axis, the output has

    convolution and pooling     floor((W - F' + 2P) / S) + 1    with F' = D (F - 1) + 1
    transposed convolution      (W - 1) S + F' - 2P

(Dumoulin and Visin: "A guide to convolution arithmetic for deep learning", 2016, relationships 5, 6, 13 and 15.)

Padding, by name:

    valid   P = 0
    full    P = F' - 1, so that every position where kernel and input touch counts (relationship 4)
    same    the output has ceil(W / S), TensorFlow's rule: as much padding as that takes in all, and where it is odd the
            one more after the input, at the bottom and right. Transposed: the output has W S.

Examples, each of which a test holds:

- The bias counts once per filter: (F F Ci + 1) Co parameters.
- A dense layer of 1000 units on an image of 640x480x3 has 921,601,000 parameters, "922 million".
- AlexNet's first convolution, 96 filters of 11x11, stride 4, makes 55x55x96 = 290,400 units of 34,944 parameters. As a
  dense layer it would have "43.7 billion": that holds for the 224x224x3 images that the paper prints (150,528 x 290,400
  = 43,713,331,200 weights), which need padding 2 to give 55. The 227x227x3 that give 55 without padding make
  44,892,064,800 weights, 44.9 billion.

Letters: C channels, H height, W width; Ci and Co channels in and out.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from striate.errors import UsageError, did_you_mean

Pair = tuple[int, int]  # along height, along width
Numbers = NDArray[np.float64]
PADDINGS = ("valid", "same", "full")


@dataclass(frozen=True, kw_only=True)
class ConvArithmetic:
    """One convolution, transposed convolution or max-pooling, in numbers."""

    kind: Literal["convolution", "transposed convolution", "pooling"]
    input: tuple[int, int, int]  # C, H, W
    output: tuple[int, int, int]  # C, H, W
    kernel: Pair
    stride: Pair
    dilation: Pair
    groups: int
    padding: tuple[Pair, Pair]  # (before, after) along height and along width; of a transposed one: cut off the output
    output_padding: Pair  # of a transposed convolution: rows and columns at the end that hold the bias alone
    formulas: tuple[str, str]  # the output's height and width with the numbers filled in
    notes: tuple[str, ...]  # what the formula hides: pixels that are lost, padding that is uneven
    weights: int
    biases: int
    parameters: int
    macs: int  # multiply-accumulates for one image; padding counts as if it were multiplied
    comparisons: int  # of pooling: numbers that its windows look at
    units: int  # numbers in the output
    dense_parameters: (
        int | None
    )  # of the dense layer from all inputs to all outputs; none for pooling, which is not linear
    dense_units_parameters: int | None  # of the dense layer with one unit per filter
    reads: tuple[
        tuple[int, ...], tuple[int, ...]
    ]  # per row and per column: pixel (i, j) is read reads[0][i] * reads[1][j]
    # times by each filter that sees its channel

    def to_json(self) -> dict[str, Any]:
        """The document ``striate.conv_arithmetic/1``; all fields, and the extremes of the reads."""
        rows, columns = self.reads
        reads = {
            "rows": list(rows),
            "columns": list(columns),
            "least": min(rows) * min(columns),
            "most": max(rows) * max(columns),
        }
        return {"schema": "striate.conv_arithmetic/1"} | asdict(self) | {"reads": reads}


def conv_arithmetic(
    *,
    images: tuple[int, int, int],
    kernel: Pair,
    filters: int = 1,
    stride: Pair = (1, 1),
    padding: str | Pair = "valid",
    dilation: Pair = (1, 1),
    groups: int = 1,
    bias: bool = True,
    transposed: bool = False,
    pool: bool = False,
) -> ConvArithmetic:
    """The arithmetic of one layer.

    Args:
        images: C, H, W.
        kernel: height, width.
        filters: Co; pooling has as many as channels whatever this says.
        stride: along height and width.
        padding: "valid", "same", "full", or pixels on each side along height and width.
        dilation: distance between the kernel's taps.
        groups: parts that channels and filters are split into.
        bias: one per filter.
        transposed: a transposed convolution.
        pool: max-pooling.

    Raises:
        UsageError: a layer that cannot be.
    """
    _check(images, kernel, filters, stride, dilation, groups, transposed, pool)
    channels = images[0]
    filters = channels if pool else filters
    axes = [
        _axis(name, *numbers, padding=padding if isinstance(padding, str) else padding[index], transposed=transposed)
        for index, (name, *numbers) in enumerate(
            zip(("height", "width"), images[1:], kernel, stride, dilation, strict=True)
        )
    ]
    height, width = axes
    output = (filters, height.output, width.output)
    taps = kernel[0] * kernel[1]
    weights = 0 if pool else taps * (channels // groups) * filters
    biases = filters if bias and not pool else 0
    positions = images[1] * images[2] if transposed else output[1] * output[2]
    units, inputs = output[0] * output[1] * output[2], channels * images[1] * images[2]
    return ConvArithmetic(
        kind="pooling" if pool else "transposed convolution" if transposed else "convolution",
        input=images,
        output=output,
        kernel=kernel,
        stride=stride,
        dilation=dilation,
        groups=groups,
        padding=(height.padding, width.padding),
        output_padding=(height.output_padding, width.output_padding),
        formulas=(height.formula, width.formula),
        notes=(
            *(f"{'height and width' if note in width.notes else 'height'}: {note}" for note in height.notes),
            *(f"width: {note}" for note in width.notes if note not in height.notes),
        ),
        weights=weights,
        biases=biases,
        parameters=weights + biases,
        macs=weights * positions,
        comparisons=taps * units if pool else 0,
        units=units,
        dense_parameters=None if pool else inputs * units + units,
        dense_units_parameters=None if pool else inputs * filters + filters,
        reads=(height.reads, width.reads),
    )


def _check(
    images: tuple[int, int, int],
    kernel: Pair,
    filters: int,
    stride: Pair,
    dilation: Pair,
    groups: int,
    transposed: bool,
    pool: bool,
) -> None:
    for name, values in (
        ("input", images),
        ("kernel", kernel),
        ("filters", (filters,)),
        ("stride", stride),
        ("dilation", dilation),
        ("groups", (groups,)),
    ):
        if min(values) < 1:
            raise UsageError(f"{name} {'x'.join(map(str, values))}: every number must be at least 1.")
    if pool and (transposed or groups > 1):
        raise UsageError("pooling is neither transposed nor grouped: it works on every channel by itself.")
    for name, number in (("channels", images[0]), ("filters", filters)):
        if number % groups and not pool:
            fits = [count for count in range(1, number + 1) if number % count == 0]
            raise UsageError(
                f"{groups} groups do not divide {number} {name} into equal parts; {number} can be split into "
                f"{', '.join(map(str, fits[:12]))}{' ...' if len(fits) > 12 else ''}."
            )


@dataclass(frozen=True, kw_only=True)
class _Axis:
    output: int
    padding: Pair
    output_padding: int
    formula: str
    notes: tuple[str, ...]
    reads: tuple[int, ...]


def _axis(
    name: str, size: int, kernel: int, stride: int, dilation: int, *, padding: str | int, transposed: bool
) -> _Axis:
    """One of the two axes, which are alike."""
    reach = dilation * (kernel - 1) + 1  # F'
    before, after, output_padding = _padding(size, reach, stride, padding, transposed)
    both = before + after
    letter, lines = ("H", "rows") if name == "height" else ("W", "columns")
    notes: list[str] = []
    fit = f"F' = {dilation}*({kernel} - 1) + 1 = {reach}; " if dilation > 1 else ""
    f = "F'" if dilation > 1 else "F"
    p, pads = ("2P", f"2*{before}") if before == after else ("P", f"{both}")
    if transposed:
        output = (size - 1) * stride + reach - both + output_padding
        if output < 1:
            raise UsageError(
                f"padding {before} cuts the {name} of the output away: ({size} - 1)*{stride} + {reach} - {both} = "
                f"{output}. Use less padding or a larger stride."
            )
        more = f" + {output_padding}" if output_padding else ""
        formula = f"{fit}({letter} - 1)*S + {f} - {p} = ({size} - 1)*{stride} + {reach} - {pads}{more} = {output}"
        if output_padding:
            notes.append(f"the last {_count(output_padding, lines)} of the output hold the bias alone.")
    else:
        span = size + both - reach
        if span < 0:
            padded = f"{size} + {both} of padding = {size + both}" if both else f"{size}"
            dilated = f" with its dilation of {dilation}" if dilation > 1 else ""
            raise UsageError(
                f"the kernel does not fit: its {name}{dilated} is {reach}, the input's {padded}. Use a kernel of at "
                f"most {(size + both - 1) // dilation + 1}, or more padding ('same' always fits)."
            )
        output, left = span // stride + 1, span % stride
        filled = f"({size} - {reach} + {pads})/{stride} + 1"
        whole = f"= {output}" if not left else f"= {span / stride + 1:.4g}, rounded down to {output}"
        formula = f"{fit}({letter} - {f} + {p})/S + 1 = {filled} {whole}"
        if left > after:
            lost = left - after
            notes.append(
                f"the last {_count(lost, lines)} of the input {_are(lost)} never seen: the stride of {stride} "
                f"does not reach {'it' if lost == 1 else 'them'}."
            )
        elif left:
            notes.append(f"of the padding at the end, {_count(left, lines)} {_are(left)} never seen.")
    if padding == "same" and (stride > 1 or transposed):
        rule = f"{size}*{stride}" if transposed else f"ceil({size}/{stride})"
        uneven = "" if transposed or before == after else ", which in PyTorch needs torch.nn.functional.pad"
        notes.append(
            f"padding 'same' gives {rule} = {output}, TensorFlow's rule; it takes {both}, {before} before and {after} "
            f"after{uneven}."
        )
    reads = _reads(size, output, kernel, stride, dilation, before, transposed)
    if transposed and 0 in reads:
        lost = reads.count(0)
        notes.append(f"{_count(lost, lines)} of the input only touch{'es' * (lost == 1)} what is cut off.")
    elif not transposed and (lost := sum(not times for times in reads[: size - _tail(reads)])):
        notes.append(
            f"{_count(lost, lines)} inside the input {_are(lost)} never read: the window steps over "
            f"{'it' if lost == 1 else 'them'}."
        )
    return _Axis(
        output=output,
        padding=(before, after),
        output_padding=output_padding,
        formula=formula,
        notes=tuple(notes),
        reads=reads,
    )


def _count(number: int, lines: str) -> str:
    return f"{number} {lines[:-1] if number == 1 else lines}"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _tail(reads: Sequence[int]) -> int:
    """How many zeros it ends with."""
    return next((index for index, times in enumerate(reversed(reads)) if times), len(reads))


def _padding(size: int, reach: int, stride: int, padding: str | int, transposed: bool) -> tuple[int, int, int]:
    """Padding before, after, and the output's own of a transposed convolution."""
    if isinstance(padding, int):
        if padding < 0:
            raise UsageError(f"padding {padding}: padding is a number of pixels, 0 or more.")
        return padding, padding, 0
    if padding == "valid":
        return 0, 0, 0
    if padding == "full":
        return reach - 1, reach - 1, 0
    if padding == "same":
        if transposed:
            total, more = max(0, reach - stride), max(0, stride - reach)
        else:
            total, more = max(0, (-(-size // stride) - 1) * stride + reach - size), 0
        return total // 2, total - total // 2, more
    raise UsageError(
        f"padding {padding!r}: it is {', '.join(PADDINGS)} or a number of pixels.{did_you_mean(padding, PADDINGS)}"
    )


def _reads(
    size: int, output: int, kernel: int, stride: int, dilation: int, before: int, transposed: bool
) -> tuple[int, ...]:
    """For every position of the input, how many outputs read it."""
    times = [0] * size
    if transposed:
        for place in range(size):
            touched = (place * stride + tap * dilation - before for tap in range(kernel))
            times[place] = sum(0 <= position < output for position in touched)
        return tuple(times)
    for step in range(output):
        for tap in range(kernel):
            place = step * stride + tap * dilation - before
            if 0 <= place < size:
                times[place] += 1
    return tuple(times)


@dataclass(frozen=True, kw_only=True, eq=False)
class Sliding:
    """A layer over numbers, as a window that slides over a padded grid: one channel, one filter, without bias."""

    grid: Numbers  # (H, W): the input with its padding; of a transposed convolution also with zeros between
    given: NDArray[np.bool_]  # (H, W): which of it are numbers of the input
    weights: Numbers | None  # (kernel): what the window multiplies with; None for max-pooling
    kernel: Pair
    stride: Pair  # of the window over the grid; 1 of a transposed convolution
    dilation: Pair
    output: Numbers  # (H', W')


def slide(layer: ConvArithmetic, numbers: Numbers, weights: Numbers | None) -> Sliding:
    """The layer over one channel of ``numbers``.

    The convolution is the field's, a cross-correlation. A transposed one is shown as what it equals: the kernel, turned
    by half a turn, over the input with stride - 1 zeros between its numbers (Dumoulin and Visin, section 4).

    Args:
        layer: its kind and sizes; channels and filters do not matter.
        numbers: (H, W) of the layer's input.
        weights: of the layer's kernel; left out for pooling.

    Raises:
        UsageError: numbers or weights of another size, or a transposed convolution that cuts off more than its kernel
            reaches.
    """
    for name, array, expected in (("numbers", numbers, layer.input[1:]), ("weights", weights, layer.kernel)):
        if array is not None and array.shape != expected:
            raise UsageError(
                f"the {name} are {_size(array.shape)}, but the layer's {'input' if name == 'numbers' else 'kernel'} is "
                f"{_size(expected)}."
            )
    spread = layer.stride if layer.kind == "transposed convolution" else (1, 1)
    rows, columns = ((size - 1) * step + 1 for size, step in zip(numbers.shape, spread, strict=True))
    borders = layer.padding
    if layer.kind == "transposed convolution":
        reach = [distance * (size - 1) for size, distance in zip(layer.kernel, layer.dilation, strict=True)]
        borders = tuple(
            (full - before, full - after + more)
            for full, (before, after), more in zip(reach, layer.padding, layer.output_padding, strict=True)
        )
        if min(min(pair) for pair in borders) < 0:
            raise UsageError("a transposed convolution that cuts off more than its kernel reaches cannot be drawn.")
    (top, bottom), (left, right) = borders
    empty = -np.inf if weights is None else 0.0  # pooling looks past its padding
    grid = np.full((top + rows + bottom, left + columns + right), empty)
    given = np.zeros(grid.shape, dtype=np.bool_)
    inside = (slice(top, top + rows, spread[0]), slice(left, left + columns, spread[1]))
    grid[inside], given[inside] = numbers, True
    if weights is not None and layer.kind == "transposed convolution":
        weights = weights[::-1, ::-1]
    stride = (1, 1) if layer.kind == "transposed convolution" else layer.stride
    output = np.zeros(layer.output[1:])
    for i, j in np.ndindex(*output.shape):
        window = grid[
            i * stride[0] : i * stride[0] + layer.dilation[0] * (layer.kernel[0] - 1) + 1 : layer.dilation[0],
            j * stride[1] : j * stride[1] + layer.dilation[1] * (layer.kernel[1] - 1) + 1 : layer.dilation[1],
        ]
        output[i, j] = window.max() if weights is None else (window * weights).sum()
    return Sliding(
        grid=grid,
        given=given,
        weights=weights,
        kernel=layer.kernel,
        stride=stride,
        dilation=layer.dilation,
        output=output,
    )


def _size(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def read_matrix(text: str, what: str) -> Numbers:
    """A matrix as people type it: numbers with commas, rows with semicolons, as in "3,3,2;0,0,1".

    Raises:
        UsageError: what is not a number, or rows of unequal length.
    """
    rows: list[list[float]] = []
    for number, line in enumerate(text.strip().strip(";").split(";"), start=1):
        row: list[float] = []
        for cell in line.replace(",", " ").split():
            try:
                value = float(cell)
            except ValueError:
                value = float("nan")
            if not np.isfinite(value):
                raise UsageError(f'{what}, row {number}: {cell!r} is not a number; write "3,3,2;0,0,1".')
            row.append(value)
        rows.append(row)
        if not row or len(row) != len(rows[0]):
            raise UsageError(
                f"{what}, row {number}: it has {len(row)} numbers, row 1 has {len(rows[0])}; "
                'write rows of equal length, as in "3,3,2;0,0,1".'
            )
    return np.array(rows)


# Dumoulin and Visin 2016, figures 1.1 and 1.2.
EXAMPLE = np.array([[3, 3, 2, 1, 0], [0, 0, 1, 3, 1], [3, 1, 2, 2, 3], [2, 0, 0, 2, 2], [2, 0, 0, 0, 1]], np.float64)
EXAMPLE_KERNEL = np.array([[0, 1, 2], [2, 2, 0], [0, 1, 2]], np.float64)


def example(matrix: Numbers, size: Pair) -> Numbers:
    """``matrix``, repeated and cut to a size."""
    times = tuple(-(-wanted // have) for wanted, have in zip(size, matrix.shape, strict=True))
    return np.tile(matrix, times)[: size[0], : size[1]]
