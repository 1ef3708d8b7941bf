"""The architecture of a network as in the figures of papers: maps as cuboids, full layers as bars.

A cuboid's height and depth follow the sides of the map, its width the number of channels, both by their square root,
so that a map of 7x7 is still seen beside one of 224x224. Repeated steps are drawn as sheets behind each other. SVG and
PNG are drawn from one geometry, in user units which are pixels at 100%.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from PIL import Image, ImageColor, ImageDraw

from striate.viz.canvas import font, one_line
from striate.viz.text import escape, shorten

TIMES = "\N{MULTIPLICATION SIGN}"
Kind = Literal["input", "conv", "pool", "block", "full", "other"]


@dataclass(frozen=True, kw_only=True)
class Block:
    """One map or vector of a network, and the step that makes it."""

    label: str  # the step's name
    kind: Kind
    shape: tuple[int, ...]  # (C, H, W), (N, C) of tokens, or (C,)
    note: str = ""  # how it is made, under the arrow that leads to it: "conv 3x3 /2"
    repeats: int = 1  # how often the step runs in a row


_NAMES: dict[Kind, str] = {
    "input": "input",
    "conv": "convolution",
    "pool": "pooling",
    "block": "block of layers",
    "full": "full layer",
    "other": "other",
}
# Okabe and Ito's colours, as in the charts: on white, on black.
_COLOURS: dict[Kind, tuple[str, str]] = {
    "input": ("#66707e", "#98a2b0"),
    "conv": ("#0072b2", "#56b4e9"),
    "pool": ("#d55e00", "#f0894a"),
    "block": ("#009e73", "#35c79b"),
    "full": ("#b0568a", "#e39bc6"),
    "other": ("#b07a00", "#f0b93a"),
}
_INK, _MUTED, _PAPER = "#1f2630", "#66707e", "#ffffff"
_DARK_INK, _DARK_MUTED, _DARK_PAPER = "#e8ebef", "#98a2b0", "#171b21"
_FACES = {"front": 0.42, "top": 0.22, "side": 0.62}  # how strong the colour is on each face

WIDTH = 1560.0  # of the widest row
MARGIN = 20.0
TEXT, TITLE, LINE = 13, 18, 17  # sizes of letters; from line to line
CHARACTER = 0.58  # width of a character over the font size, at most, on the mean
TALL, LOW = 176.0, 12.0  # height of the largest map, and the least
BROAD, NARROW = 60.0, 5.0  # width of the map with most channels, and the least
CHANNEL = 4.0  # width of a map over the root of its channels, at most
BAR = 9.0  # width of a full layer
LEAN_X, LEAN_Y = 0.26, 0.20  # depth in the picture over the side of a map
SHEET, SHEETS = 5.0, 6  # width of a repeated sheet, and how many are drawn at most
ARROW = 30.0  # length at least
SCALE = 4  # of the picture in which the PNG's shapes are drawn, for smooth edges


def diagram_svg(title: str, blocks: Sequence[Block]) -> str:
    """A complete SVG file, light and dark; its words are text.

    Args:
        title: stands above the picture.
        blocks: in the order in which they run; long chains break into rows.
    """
    plan = _Plan(title, blocks)
    parts = [_STYLE, f"<title>{escape(title)}</title><desc>{escape(_in_words(blocks))}</desc>"]
    parts.append(f'<rect class="paper" width="{plan.width:.0f}" height="{plan.height:.0f}"/>')
    for path in plan.arrows:
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in path)
        (x, y), tip = path[-1], 6
        parts.append(f'<polyline class="arrow" points="{points}"/>')
        parts.append(f'<path class="tip" d="M{x:.1f} {y:.1f}l{-tip - 1} {-tip / 2}v{tip}z"/>')
    for face in plan.faces:
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in face.points)
        parts.append(f'<polygon class="{face.kind} {face.face}" points="{points}"/>')
    parts += [
        f'<text class="{text.style}" x="{text.x:.1f}" y="{text.y:.1f}" text-anchor="{text.anchor}">'
        f"{escape(text.text)}</text>"
        for text in plan.texts
    ]
    size = f'viewBox="0 0 {plan.width:.0f} {plan.height:.0f}" width="{plan.width:.0f}" height="{plan.height:.0f}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="diagram" {size} role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>\n"
    )


def diagram_png(title: str, blocks: Sequence[Block]) -> Image.Image:
    """The same picture in RGB on white; the multiplication sign is an "x", which every font has.

    Args:
        title: as for `diagram_svg`.
        blocks: the same.
    """
    plan = _Plan(title, blocks)
    width, height = int(plan.width), int(plan.height)
    large = Image.new("RGB", (width * SCALE, height * SCALE), _PAPER)
    draw = ImageDraw.Draw(large)
    for path in plan.arrows:
        x, y = path[-1]
        draw.line([(a * SCALE, b * SCALE) for a, b in [*path[:-1], (x - 4, y)]], fill=_MUTED, width=round(1.4 * SCALE))
        draw.polygon([(a * SCALE, b * SCALE) for a, b in ((x, y), (x - 7, y - 3), (x - 7, y + 3))], fill=_MUTED)
    for face in plan.faces:
        colour = _COLOURS[face.kind][0]
        points = [(x * SCALE, y * SCALE) for x, y in face.points]
        draw.polygon(points, fill=_mixed(colour, _FACES[face.face]))
        draw.line([*points, points[0], points[1]], fill=colour, width=SCALE, joint="curve")
    picture = large.resize((width, height), Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(picture)
    for text in plan.texts:
        words = one_line(text.text).replace(TIMES, "x")
        size = TITLE if text.style == "title" else TEXT
        fill = _MUTED if text.style == "note" else _INK
        anchor = "ls" if text.anchor == "start" else "ms"
        bold = 0.3 if text.style in ("title", "label") else 0
        draw.text((text.x, text.y), words, fill=fill, font=font(size, words), anchor=anchor, stroke_width=bold)
    return picture


def shape_words(shape: tuple[int, ...]) -> str:
    """As in the papers: "6 @ 28x28" for a map, "197 x 768" for tokens, "4096" for a vector."""
    if len(shape) == 3:
        return f"{shape[0]} @ {shape[1]}{TIMES}{shape[2]}"
    return f" {TIMES} ".join(str(size) for size in shape)


# ---- geometry --------------------------------------------------------------------------------------------------------

_Point = tuple[float, float]


@dataclass(frozen=True)
class _Face:
    kind: Kind
    face: Literal["front", "top", "side"]
    points: tuple[_Point, ...]


@dataclass(frozen=True)
class _Text:
    x: float
    y: float  # of the baseline
    text: str
    style: Literal["title", "label", "shape", "note"]
    anchor: Literal["start", "middle"] = "middle"


@dataclass(frozen=True)
class _Solid:
    """A block's size in the picture, and its words."""

    kind: Kind
    width: float
    height: float
    lean: _Point
    sheets: int  # behind the first
    label: list[str]
    note: list[str]

    @property
    def long(self) -> float:
        """The width of the cuboid with its sheets and its depth."""
        return self.width + self.sheets * SHEET + self.lean[0]

    @property
    def cell(self) -> float:
        """The width that cuboid and label need."""
        return max(self.long, *(_length(line) for line in self.label))

    @property
    def gap(self) -> float:
        """The width of the arrow to it, and of the words beneath."""
        return max([ARROW, *(_length(line) + 12 for line in self.note)])

    @property
    def above(self) -> float:
        """From the axis up."""
        return self.height / 2 + self.lean[1]

    @property
    def below(self) -> float:
        """From the axis down, with all words."""
        return max(self.height / 2 + 8 + LINE * len(self.label), 10 + LINE * len(self.note))

    @staticmethod
    def of(block: Block, tallest: float, channel: float) -> "_Solid":
        shape = block.shape
        if _is_vector(shape):
            width, height, lean = BAR, 20 + 11.5 * math.log2(max(shape[0], 2)), (4.0, 4.0)
        else:
            sides, channels = (shape[1:], shape[0]) if len(shape) == 3 else ((math.sqrt(shape[0]),) * 2, shape[1])
            height, deep = (max(LOW, TALL * math.sqrt(side / tallest)) for side in sides)
            width, lean = max(NARROW, channel * math.sqrt(channels)), (deep * LEAN_X, deep * LEAN_Y)
        return _Solid(
            kind=block.kind,
            width=width,
            height=height,
            lean=lean,
            sheets=max(min(block.repeats, SHEETS), 1) - 1,
            label=[*_wrapped(block.label, 16), shape_words(shape)],
            note=([f"{TIMES}{block.repeats}"] if block.repeats > 1 else []) + _wrapped(block.note, 11),
        )


class _Plan:
    """Where everything stands."""

    def __init__(self, title: str, blocks: Sequence[Block]):
        self.faces: list[_Face] = []
        self.arrows: list[list[_Point]] = []
        self.texts = [_Text(MARGIN, MARGIN + 0.75 * TITLE, title, "title", "start")]
        self.width = MARGIN + _length(title) * TITLE / TEXT
        y = MARGIN + TITLE + 14
        end: tuple[float, float, float] | None = None
        for row in _rows(_solids(blocks)):
            axis = y + max(solid.above for solid in row)
            end = self._row(row, axis, end, y - 16)
            y = axis + max(solid.below for solid in row) + 40
        self.height = self._legend(list(dict.fromkeys(block.kind for block in blocks)), y - 8) + MARGIN
        self.width = math.ceil(self.width + MARGIN)
        self.height = math.ceil(self.height)

    def _row(
        self, row: Sequence[_Solid], axis: float, end: tuple[float, float, float] | None, lane: float
    ) -> tuple[float, float, float]:
        """Draw a row.

        Args:
            row: blocks from left to right.
            axis: the y of the arrows.
            end: where the row above left off, and the x where its words end.
            lane: the y along which its arrow comes back.

        Returns:
            Where the last block leaves off, and the x where its words end.
        """
        x = MARGIN
        for index, solid in enumerate(row):
            start = x
            if end is not None:
                x += solid.gap
            left = x + (solid.cell - solid.long) / 2
            if end is not None:
                target = (left - 4, axis)
                if index:
                    self.arrows.append([(end[0] + 4, axis), target])
                else:
                    turn = max(end[0] + 18, end[2] + 10)
                    self.width = max(self.width, turn)
                    self.arrows.append(
                        [(end[0] + 4, end[1]), (turn, end[1]), (turn, lane), (start, lane), (start, axis), target]
                    )
                for line, words in enumerate(solid.note):
                    self._text(start + solid.gap / 2, axis + 18 + LINE * line, words, "note")
            self._cuboid(solid, left, axis)
            for line, words in enumerate(solid.label):
                y = axis + solid.height / 2 + 4 + LINE * (line + 0.8)
                self._text(x + solid.cell / 2, y, words, "shape" if line == len(solid.label) - 1 else "label")
            end = (left + solid.long, axis, x + solid.cell)
            x += solid.cell
            self.width = max(self.width, x)
        assert end is not None
        return end

    def _cuboid(self, solid: _Solid, left: float, axis: float) -> None:
        top, bottom, (over, up) = axis - solid.height / 2, axis + solid.height / 2, solid.lean
        edges = [left, *(left + solid.width + SHEET * sheet for sheet in range(solid.sheets + 1))]
        for a, b in pairwise(edges):
            self.faces.append(_Face(solid.kind, "front", ((a, bottom), (b, bottom), (b, top), (a, top))))
            self.faces.append(
                _Face(solid.kind, "top", ((a, top), (b, top), (b + over, top - up), (a + over, top - up)))
            )
        x = edges[-1]
        self.faces.append(
            _Face(solid.kind, "side", ((x, bottom), (x + over, bottom - up), (x + over, top - up), (x, top)))
        )

    def _legend(self, kinds: Sequence[Kind], y: float) -> float:
        """Name the colours; the y where it ends."""
        x = MARGIN
        for kind in kinds:
            self.faces.append(_Face(kind, "front", ((x, y + 12), (x + 12, y + 12), (x + 12, y), (x, y))))
            self.texts.append(_Text(x + 18, y + 11, _NAMES[kind], "note", "start"))
            x += 18 + _length(_NAMES[kind]) + 18
        self.width = max(self.width, x - 18)
        return y + 14

    def _text(self, x: float, y: float, words: str, style: Literal["label", "shape", "note"]) -> None:
        self.texts.append(_Text(x, y, words, style))


def _is_vector(shape: tuple[int, ...]) -> bool:
    return len(shape) == 1 or (len(shape) == 3 and max(shape[1:]) == 1)


def _solids(blocks: Sequence[Block]) -> list[_Solid]:
    """All to one scale."""
    shapes = [block.shape for block in blocks if not _is_vector(block.shape)]
    sides = [max(shape[1:]) if len(shape) == 3 else math.sqrt(shape[0]) for shape in shapes]
    channels = [shape[0] if len(shape) == 3 else shape[1] for shape in shapes]
    channel = min(CHANNEL, BROAD / math.sqrt(max(channels, default=1)))
    return [_Solid.of(block, max(sides, default=1.0), channel) for block in blocks]


def _rows(solids: Sequence[_Solid]) -> list[list[_Solid]]:
    """As few rows as `WIDTH` allows, about equally long."""
    widths = [solid.gap + solid.cell for solid in solids]
    limit = sum(widths) / max(math.ceil(sum(widths) / WIDTH), 1)
    while True:
        rows: list[list[_Solid]] = [[]]
        room = 0.0
        for solid, width in zip(solids, widths, strict=True):
            if rows[-1] and room + width > limit:
                rows.append([])
                room = 0.0
            rows[-1].append(solid)
            room += width
        # A little more room, until no row more is needed than there must be.
        if len(rows) <= math.ceil(sum(widths) / WIDTH) or limit >= WIDTH:
            return rows
        limit = min(limit + 10, WIDTH)


def _wrapped(words: str, count: int) -> list[str]:
    """``words`` on lines of about ``count`` characters."""
    lines: list[str] = []
    for word in re.findall(r"\S+(?: /\d+)?", shorten(one_line(words), 48)):  # kernel and stride stay together
        if lines and len(lines[-1]) + 1 + len(word) <= count:
            lines[-1] += f" {word}"
        else:
            lines.append(shorten(word, 24))
    return lines


def _length(words: str) -> float:
    return CHARACTER * TEXT * len(words)


def _in_words(blocks: Sequence[Block]) -> str:
    """The chain for those who cannot see it."""
    steps = [
        f"{block.label} {shape_words(block.shape)}"
        + (f" ({block.note}{f', {block.repeats} times' if block.repeats > 1 else ''})" if block.note else "")
        for block in blocks
    ]
    return "; ".join(steps) + "."


# ---- colours ---------------------------------------------------------------------------------------------------------


def _mixed(colour: str, share: float, paper: str = _PAPER) -> str:
    ends = zip(ImageColor.getrgb(colour)[:3], ImageColor.getrgb(paper)[:3], strict=True)
    return "#" + "".join(f"{round(share * a + (1 - share) * b):02x}" for a, b in ends)


def _fills(index: Literal[0, 1], paper: str) -> str:
    rules: list[str] = []
    for kind, colours in _COLOURS.items():
        rules.append(f".diagram .{kind} {{ stroke: {colours[index]}; }}")
        rules += [
            f".diagram .{kind}.{face} {{ fill: {_mixed(colours[index], share, paper)}; }}"
            for face, share in _FACES.items()
        ]
    return "\n".join(rules)


_STYLE = f"""<style>
.diagram {{ font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Helvetica Neue", Arial, sans-serif;
  font-size: {TEXT}px; font-variant-numeric: tabular-nums; }}
.diagram .paper {{ fill: {_PAPER}; }}
.diagram polygon {{ stroke-width: 1; stroke-linejoin: round; }}
.diagram .arrow {{ fill: none; stroke: {_MUTED}; stroke-width: 1.4; }}
.diagram .tip, .diagram .note {{ fill: {_MUTED}; }}
.diagram .label, .diagram .title {{ fill: {_INK}; font-weight: 600; }}
.diagram .title {{ font-size: {TITLE}px; }}
.diagram .shape {{ fill: {_INK}; }}
{_fills(0, _PAPER)}
@media (prefers-color-scheme: dark) {{
.diagram .paper {{ fill: {_DARK_PAPER}; }}
.diagram .arrow {{ stroke: {_DARK_MUTED}; }}
.diagram .tip, .diagram .note {{ fill: {_DARK_MUTED}; }}
.diagram .label, .diagram .title, .diagram .shape {{ fill: {_DARK_INK}; }}
{_fills(1, _DARK_PAPER)}
}}</style>"""
