"""A convolution over numbers, as a window that slides over its input.

Drawn in the manner of Dumoulin and Visin's "A guide to convolution arithmetic for deep learning" (2016, figure 1.1):
the window on the input with its weights small in the corners, the output filling cell by cell, the sum underneath.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from striate.viz.canvas import INK, MUTED, PAPER, STRONG, font, write

Numbers = NDArray[np.float64]
Colour = tuple[int, int, int]
Box = tuple[int, int, int, int]

MOST_CELLS = 36  # along a side of a grid
MOST_FRAMES = 400
LONGEST = 6  # characters of a number
PICTURE = 1100  # pixels that the wider of both grids should not pass
LARGEST_CELL, SMALLEST_CELL = 56, 30
COLOURS, APART = 128, 8  # of an animation
MARGIN, GAP, LINE_HEIGHT = 24, 56, 24
TEXT = 15
DURATION, PAUSE = 700, 2500  # milliseconds of a frame, and of the last

WINDOW: Colour = (190, 221, 242)
INPUT: Colour = (243, 246, 250)
PADDING: Colour = (255, 255, 255)
FILLED: Colour = (225, 242, 230)
CURRENT: Colour = (120, 200, 150)
EMPTY: Colour = (196, 202, 210)  # lines of the output's cells to come


@dataclass(frozen=True, kw_only=True, eq=False)
class Slide:
    """What is drawn; plain arrays."""

    grid: Numbers  # (H, W): the padded input; minus infinity where there is nothing
    given: NDArray[np.bool_]  # (H, W): which cells are input; the others are padding, drawn dashed
    weights: Numbers | None  # (F, F'); None where the window takes its largest number
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    output: Numbers  # (H', W')
    title: str


def too_large(slide: Slide, *, animated: bool) -> str | None:
    """Why a picture could not be read, in words, or None."""
    side = max(*slide.grid.shape, *slide.output.shape)
    if side > MOST_CELLS:
        return f"a grid of {side} cells along a side is too large to read; a picture takes at most {MOST_CELLS}."
    if animated and slide.output.size > MOST_FRAMES:
        return (
            f"{slide.output.size} frames are too many to watch; an animation takes at most {MOST_FRAMES}. A .png shows "
            "the last one."
        )
    arrays = [slide.grid, slide.output, *([] if slide.weights is None else [slide.weights])]
    for number in np.concatenate([array.ravel() for array in arrays]):
        if len(_text(number)) > LONGEST:
            return f"the number {_text(number)} is too long to read in its cell; it takes at most {LONGEST} characters."
    return None


def draw_step(slide: Slide, step: int) -> Image.Image:
    """The picture after ``step`` outputs (from 0) were filled, row by row, the window where the last came from."""
    return _draw(slide, step, _background(slide))


def save_animation(slide: Slide, path: Path) -> None:
    """Write all steps as a GIF that repeats.

    Raises:
        ValueError: `too_large` has something to say.
    """
    if complaint := too_large(slide, animated=True):
        raise ValueError(complaint)
    background = _background(slide)
    steps = range(slide.output.size)
    palette = _palette(_draw(slide, len(steps) // 2, background))  # the middle has every colour
    frames = [_draw(slide, step, background).quantize(palette=palette, dither=Image.Dither.NONE) for step in steps]
    frames[0].save(
        path,
        format="GIF",
        save_all=True,
        append_images=frames[1:],
        duration=[*(DURATION for _ in frames[1:]), PAUSE],
        loop=0,
        optimize=True,  # writes only the pixels that change
    )


def _palette(picture: Image.Image) -> Image.Image:
    """The commonest colours of a picture, unchanged, for all frames, so that nothing flickers.

    They keep a distance, as Pillow's search for the nearest is coarse: paper must not become an off-white.
    """
    counted: Any = picture.getcolors(picture.width * picture.height)
    chosen: list[Colour] = []
    for _, colour in sorted(counted, reverse=True):
        apart = all(max(abs(a - b) for a, b in zip(colour, other, strict=True)) >= APART for other in chosen)
        if apart and len(chosen) < COLOURS:
            chosen.append(colour)
    palette = Image.new("P", (1, 1))
    palette.putpalette([channel for colour in chosen for channel in colour])
    return palette


def _text(number: float) -> str:
    if math.isinf(number):
        return ""
    return f"{number:.0f}" if float(number).is_integer() else f"{number:.2f}".rstrip("0").rstrip(".")


def _cell(slide: Slide) -> int:
    side = max(*slide.grid.shape, *slide.output.shape)
    return max(SMALLEST_CELL, min(LARGEST_CELL, PICTURE // side))


def _origins(slide: Slide) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Left top corners of the input and the output, and the size of the picture."""
    cell = _cell(slide)
    (rows, columns), (out_rows, out_columns) = slide.grid.shape, slide.output.shape
    tall = max(rows, out_rows) * cell
    top = MARGIN + 2 * LINE_HEIGHT
    right = MARGIN + columns * cell + GAP
    width = max(right + out_columns * cell + MARGIN, 560)
    return (
        (MARGIN, top + (tall - rows * cell) // 2),
        (right, top + (tall - out_rows * cell) // 2),
        (width, top + tall + 2 * LINE_HEIGHT + MARGIN // 2),
    )


def _background(slide: Slide) -> Image.Image:
    """What no step changes: the title, the input, the empty output."""
    cell = _cell(slide)
    start, out, size = _origins(slide)
    picture = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(picture)
    write(draw, (MARGIN, MARGIN - 6), slide.title, width=size[0] - 2 * MARGIN, size=TEXT, colour=INK)
    for i, j in np.ndindex(*slide.grid.shape):
        if not slide.given[i, j]:
            _input_cell(draw, slide, start, cell, i, j, PADDING)
    for i, j in np.ndindex(*slide.grid.shape):
        if slide.given[i, j]:  # after the dashed ones, so that their lines stay whole
            _input_cell(draw, slide, start, cell, i, j, INPUT)
    for i, j in np.ndindex(*slide.output.shape):
        draw.rectangle(_box(out, cell, i, j), outline=EMPTY)
    return picture


def _draw(slide: Slide, step: int, background: Image.Image) -> Image.Image:
    cell = _cell(slide)
    start, out, size = _origins(slide)
    picture = background.copy()
    draw = ImageDraw.Draw(picture)
    row, column = divmod(step, slide.output.shape[1])
    terms: list[str] = []
    for a, b in np.ndindex(*slide.kernel):
        i, j = row * slide.stride[0] + a * slide.dilation[0], column * slide.stride[1] + b * slide.dilation[1]
        _input_cell(draw, slide, start, cell, i, j, WINDOW)
        number = _text(float(slide.grid[i, j]))
        if slide.weights is not None:
            _, _, right, bottom = _box(start, cell, i, j)
            weight = _text(float(slide.weights[a, b]))
            draw.text((right - 3, bottom - 2), weight, fill=STRONG, font=font(_small(cell, weight)), anchor="rd")
            terms.append(f"{number}*({weight})" if weight.startswith("-") else f"{number}*{weight}")
        elif number:
            terms.append(number)
    reach = [(kernel - 1) * distance for kernel, distance in zip(slide.kernel, slide.dilation, strict=True)]
    first = _box(start, cell, row * slide.stride[0], column * slide.stride[1])
    last = _box(start, cell, row * slide.stride[0] + reach[0], column * slide.stride[1] + reach[1])
    draw.rectangle((first[0], first[1], last[2], last[3]), outline=STRONG, width=3)
    for index in range(step + 1):
        place = divmod(index, slide.output.shape[1])
        box = _box(out, cell, *place)
        draw.rectangle(box, fill=CURRENT if index == step else FILLED, outline=MUTED)
        _number(draw, box, _text(slide.output[place]), INK, cell, lifted=False)
    total = _text(slide.output[row, column])
    said = f"{total} = max({', '.join(terms)})" if slide.weights is None else f"{total} = {' + '.join(terms)}"
    place = (MARGIN, size[1] - MARGIN - LINE_HEIGHT + 6)
    write(draw, place, said, width=size[0] - 2 * MARGIN, size=TEXT, colour=INK)
    return picture


def _box(origin: tuple[int, int], cell: int, i: int, j: int) -> Box:
    left, top = origin[0] + j * cell, origin[1] + i * cell
    return left, top, left + cell, top + cell


def _input_cell(
    draw: ImageDraw.ImageDraw, slide: Slide, origin: tuple[int, int], cell: int, i: int, j: int, fill: Colour
) -> None:
    box = _box(origin, cell, i, j)
    given = bool(slide.given[i, j])
    if given:
        draw.rectangle(box, fill=fill, outline=MUTED)
    else:
        draw.rectangle((box[0] + 1, box[1] + 1, box[2] - 1, box[3] - 1), fill=fill)
        _dashed(draw, box)
    _number(draw, box, _text(slide.grid[i, j]), INK if given else MUTED, cell, lifted=slide.weights is not None)


def _dashed(draw: ImageDraw.ImageDraw, box: Box) -> None:
    left, top, right, bottom = box
    for x in range(left, right, 8):
        for y in (top, bottom):
            draw.line((x, y, min(x + 3, right), y), fill=MUTED)
    for y in range(top, bottom, 8):
        for x in (left, right):
            draw.line((x, y, x, min(y + 3, bottom)), fill=MUTED)


def _number(draw: ImageDraw.ImageDraw, box: Box, text: str, colour: Colour, cell: int, *, lifted: bool) -> None:
    """A number in the middle of its cell, or a little up and left where a weight needs the corner."""
    aside = cell * 0.08 if lifted else 0.0
    middle = ((box[0] + box[2]) / 2 - aside, (box[1] + box[3]) / 2 - aside)
    draw.text(
        middle, text, fill=colour, font=font(_fitting(text, cell - 6 - 2 * aside, round(cell * 0.46))), anchor="mm"
    )


def _small(cell: int, text: str) -> int:
    return _fitting(text, cell * 0.5, max(10, round(cell * 0.27)))


def _fitting(text: str, width: float, size: int) -> int:
    while size > 8 and font(size).getlength(text) > width:
        size -= 1
    return size
