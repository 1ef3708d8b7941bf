"""Charts as inline SVG: small, readable by screen readers, at home on light and dark pages.

Every function returns one ``<svg>`` element. On an HTML page `STYLE` has to stand once; `standalone` makes a file of
its own from an element. Colours are CSS variables: pages may set others. The colours of series follow Okabe and Ito
("Color Universal Design", 2008), which people with any kind of colour vision can tell apart, some of them darker on
white and lighter on black than theirs; heat maps tell right from wrong by blue against orange, and much from little
by lightness.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from striate.viz.text import escape, shorten

STYLE = """\
.chart { --ink: #1f2630; --muted: #66707e; --line: #e3e6ea; --paper: #ffffff;
  --c0: #0072b2; --c1: #d55e00; --c2: #009e73; --c3: #b0568a; --c4: #b07a00; --c5: #3a9bd6;
  --right: #0072b2; --wrong: #d55e00; --on-strong: #ffffff;
  display: block; width: 100%; height: auto; font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans",
  "Helvetica Neue", Arial, sans-serif; font-size: 12px; font-variant-numeric: tabular-nums; }
.chart text { fill: var(--muted); }
.chart .title { fill: var(--ink); font-size: 14px; font-weight: 600; }
.chart .strong { fill: var(--ink); }
.chart .on-strong { fill: var(--on-strong); }
.chart .unit { font-size: 12px; font-weight: 400; fill: var(--muted); }
.chart .grid { stroke: var(--line); }
.chart .axis { stroke: var(--muted); stroke-opacity: .55; }
.chart .series { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.chart .each { stroke-width: 1.25; stroke-opacity: .8; }
.chart .many { stroke-width: 1; stroke-opacity: .45; }
.chart .mean { stroke: var(--ink); stroke-width: 3.5; }
.chart .band { stroke: none; fill-opacity: .16; }
.chart .dot { stroke: var(--paper); stroke-width: 1.5; }
.chart .mark { stroke: var(--ink); stroke-opacity: .5; stroke-dasharray: 3 3; }
.chart .whisker { fill: none; stroke: var(--ink); stroke-width: 1.5; stroke-opacity: .75; }
.chart .right { fill: var(--right); }
.chart .wrong { fill: var(--wrong); }
.chart .hover { pointer-events: all; }
.chart .hover .guide, .chart .hover .dot { opacity: 0; }
.chart .hover:hover .guide, .chart .hover:hover .dot { opacity: 1; }
.chart .guide { stroke: var(--ink); stroke-opacity: .35; }
.chart .cell:hover { stroke: var(--ink); stroke-width: 1.5; }
@media (prefers-color-scheme: dark) { .chart { --ink: #e8ebef; --muted: #98a2b0; --line: #2c333d; --paper: #171b21;
  --c0: #56b4e9; --c1: #f0894a; --c2: #35c79b; --c3: #e39bc6; --c4: #f0b93a; --c5: #a5c8e8;
  --right: #56b4e9; --wrong: #f0894a; --on-strong: #10141a; } }
@media print { .chart { --ink: #1f2630; --muted: #55606e; --line: #dddddd; --paper: #ffffff;
  --c0: #0072b2; --c1: #d55e00; --c2: #009e73; --c3: #b0568a; --c4: #b07a00; --c5: #3a9bd6;
  --right: #0072b2; --wrong: #d55e00; --on-strong: #ffffff; } }
"""

# What most sans-serif fonts need at most: there is no way to measure text before it is shown.
CHARACTER = 0.6  # mean width of a character over the font size
PIECES = 500  # of a line with more than twice as many points, two are drawn of each
HOVERS = 200  # positions along a line that answer the pointer
SIZE = re.compile(r'viewBox="0 0 (\d+) (\d+)" width="\d+" height="\d+"')
MATRIX_LIMIT = 100  # classes that a heat map shows one by one


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line of a chart. Values that are not finite leave a gap."""

    name: str
    x: Sequence[float]
    y: Sequence[float]  # as long as x
    low: Sequence[float] | None = None  # an interval around y, shown as a band; as long as x
    high: Sequence[float] | None = None


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A place along the x axis that deserves a word, as in "best epoch"."""

    x: float
    label: str


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One row of a bar list."""

    name: str
    value: float  # 0 or more
    text: str = ""  # stands at the end of the bar; the value when left out


@dataclass(frozen=True, kw_only=True)
class Bars:
    """One colour of a chart of bars: a value for each of its groups. Values that are not finite leave a gap."""

    name: str
    values: Sequence[float]  # 0 or more
    low: Sequence[float] | None = None  # an interval around each value, shown as a whisker; as long as values
    high: Sequence[float] | None = None
    texts: Sequence[str] | None = None  # at the ends of the bars; the values when left out


def standalone(svg: str) -> str:
    """A complete SVG file from what one of the charts returned."""
    opening, rest = svg.split(">", 1)
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n{re.sub(SIZE, _with_margin, opening)}><style>{STYLE}'
        f".chart {{ background: var(--paper); }}</style>{rest}\n"
    )


def _with_margin(found: re.Match[str]) -> str:
    margin = 16
    width, height = (int(side) + 2 * margin for side in found.groups())
    return f'viewBox="{-margin} {-margin} {width} {height}" width="{width}" height="{height}"'


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    x_label: str,
    unit: str = "",
    x_log: bool = False,
    y_log: bool = False,
    y_limits: tuple[float, float] | None = None,
    marks: Sequence[Mark] = (),
    width: int = 460,
    height: int = 290,
) -> str:
    """Values over one variable, such as a loss over epochs or over the learning rate.

    Args:
        title: what is shown.
        series: one or more lines; a legend names them when there are several.
        x_label: what the x axis shows.
        unit: of the values, beside the title.
        x_log: logarithmic x axis; points at or under zero are left out.
        y_log: the same for the y axis.
        y_limits: what of the y axis is shown; from the values when left out.
        marks: vertical lines with a word.
        width: of the drawing in user units; pages scale it.
        height: the same.

    Returns:
        An ``<svg>`` element.
    """
    lines = [_Line.of(each, x_log, y_log) for each in series]
    xs = np.unique(np.concatenate([line.x for line in lines] or [np.empty(0)]))
    ys = np.concatenate([part for line in lines for part in (line.y, line.low, line.high)] or [np.empty(0)])
    ys = ys[np.isfinite(ys)]
    if not len(xs) or not len(ys):
        return _svg(title, "No values.", width, 60, [_title(title, unit), _text(0, 46, "no values", "start")])

    whole = bool((xs == np.round(xs)).all())
    x_axis = _Axis.over(float(xs[0]), float(xs[-1]), log=x_log, steps=6, tight=True, whole=whole)
    y_low, y_high = y_limits or (float(ys.min()), float(ys.max()))
    if not y_limits and not y_log and 0 <= y_low < 0.4 * y_high:
        y_low = 0.0
    y_axis = _Axis.over(y_low, y_high, log=y_log, steps=5, tight=y_limits is not None)

    legend, legend_height = _legend([line.name for line in lines], width) if len(lines) > 1 else ([], 0)
    left = 12 + CHARACTER * 12 * max(len(label) for _, label in y_axis.ticks)
    top = 34.0 + legend_height + (12 if marks and legend_height else 0)
    right, bottom = width - 14.0, height - 42.0

    frame = _Frame(x_axis, y_axis, left, right, top, bottom)

    parts = [_title(title, unit), *legend]
    for value, label in y_axis.ticks:
        y = frame.y(value)
        parts.append(f'<line class="grid" x1="{left:.1f}" x2="{right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(left - 7, y + 4, label, "end"))
    parts.append(f'<line class="axis" x1="{left:.1f}" x2="{right:.1f}" y1="{bottom:.1f}" y2="{bottom:.1f}"/>')
    for value, label in x_axis.ticks:
        x = frame.x(value)
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom:.1f}" y2="{bottom + 4:.1f}"/>')
        parts.append(_text(x, bottom + 18, label))
    parts.append(_text((left + right) / 2, height - 6, x_label))

    parts += frame.marked(marks)
    # An inner <svg> clips what `y_limits` leaves out, and needs no id, which would have to be unique on a page.
    box = f"{left - 4:.1f} {top - 4:.1f} {right - left + 8:.1f} {bottom - top + 8:.1f}".split()
    parts.append('<svg x="{}" y="{}" width="{}" height="{}" viewBox="{}">'.format(*box, " ".join(box)))
    for index, line in enumerate(lines):
        parts += frame.drawn(line, index)
    parts += frame.hovers(lines, xs, x_label)
    parts.append("</svg>")
    return _svg(title, _summary(lines, x_label), width, height, parts)


def bar_list(
    title: str,
    bars: Sequence[Bar],
    *,
    unit: str = "",
    limit: float | None = None,
    colour: Literal["right", "wrong"] = "right",
    width: int = 460,
) -> str:
    """Named values as horizontal bars, in the given order.

    Args:
        title: what is shown.
        bars: the rows.
        unit: of the values, beside the title.
        limit: the value of a bar of full length; the greatest value when left out.
        colour: blue, or the orange of mistakes.
        width: of the drawing in user units; pages scale it.

    Returns:
        An ``<svg>`` element.
    """
    texts = [bar.text or _number(bar.value) for bar in bars]
    names = [shorten(bar.name, 24) for bar in bars]
    left = 8 + CHARACTER * 12 * max((len(name) for name in names), default=0)
    room = width - left - 10 - CHARACTER * 12 * max((len(text) for text in texts), default=0)
    full = limit or max((bar.value for bar in bars), default=0) or 1
    parts = [_title(title, unit)]
    for row, (bar, name, text) in enumerate(zip(bars, names, texts, strict=True)):
        y = 34 + 22 * row
        length = room * min(1.0, max(0.0, bar.value / full))
        parts.append(
            f"<g>{_text(left - 8, y + 12, name, 'end', 'strong')}"
            f'<rect class="{colour}" x="{left:.1f}" y="{y}" width="{max(length, 1):.1f}" height="16" rx="2"/>'
            f"{_text(left + max(length, 1) + 6, y + 12, text, 'start')}"
            f"<title>{escape(f'{bar.name}: {text}')}</title></g>"
        )
    summary = "; ".join(f"{bar.name}: {text}" for bar, text in zip(bars, texts, strict=True))
    return _svg(title, summary or "No values.", width, 40 + 22 * len(bars), parts)


def bar_groups(
    title: str,
    groups: Sequence[str],
    bars: Sequence[Bars],
    *,
    unit: str = "",
    limit: float | None = None,
    width: int = 460,
) -> str:
    """Several values for each of several things, as horizontal bars side by side, with intervals where there are any.

    Args:
        title: what is shown.
        groups: the names of the things, from top to bottom.
        bars: one or more colours, each with a value per group; a legend names them when there are several.
        unit: of the values, beside the title.
        limit: the value of a bar of full length; the greatest that is shown when left out.
        width: of the drawing in user units; pages scale it.

    Returns:
        An ``<svg>`` element.
    """
    names = [shorten(name, 30) for name in groups]
    texts = [list(each.texts) if each.texts else [_number(value) for value in each.values] for each in bars]
    ends = [value for each in bars for value in (*each.values, *(each.high or ())) if math.isfinite(value)]
    full = limit or max(ends, default=0) or 1
    legend, legend_height = _legend([each.name for each in bars], width) if len(bars) > 1 else ([], 0)
    left = 8 + CHARACTER * 12 * max((len(name) for name in names), default=0)
    room = width - left - 12 - CHARACTER * 12 * max((len(text) for row in texts for text in row), default=0)
    thick = 16 if len(bars) == 1 else 12
    step = (thick + 2) * len(bars) + (4 if len(bars) == 1 else 10)
    top = 34 + legend_height
    parts = [_title(title, unit), *legend]
    said: list[str] = []

    def place(value: float) -> float:
        return left + room * min(1.0, max(0.0, value / full))

    for group, name in enumerate(names):
        y = top + step * group
        parts.append(_text(left - 8, y + (thick + 2) * len(bars) / 2 + 3, name, "end", "strong"))
        for index, each in enumerate(bars):
            value, row = each.values[group], y + (thick + 2) * index
            if not math.isfinite(value):
                continue
            end, middle = place(value), row + thick / 2
            whisker = ""
            if each.low is not None and each.high is not None and math.isfinite(each.high[group] - each.low[group]):
                start, stop = place(each.low[group]), place(each.high[group])
                whisker = (
                    f'<path class="whisker" d="M{start:.1f} {middle:.1f}H{stop:.1f}M{start:.1f} {middle - 4:.1f}v8'
                    f'M{stop:.1f} {middle - 4:.1f}v8"/>'
                )
                end = max(end, stop)
            label = f"{groups[group]}, {each.name}: {texts[index][group]}"
            said.append(label)
            parts.append(
                f'<g><rect fill="var(--c{index % 6})" x="{left:.1f}" y="{row}" '
                f'width="{max(place(value) - left, 1):.1f}" height="{thick}" rx="2"/>{whisker}'
                f"{_text(end + 6, middle + 4, texts[index][group], 'start', size=12 if thick == 16 else 11)}"
                f"<title>{escape(label)}</title></g>"
            )
    return _svg(title, "; ".join(said) or "No values.", width, top + 6 + step * len(names), parts)


def precision_recall_chart(
    title: str, classes: Sequence[Series], mean: Series, *, width: int = 460, height: int = 380
) -> str:
    """Precision over recall: a thin line for each class, a strong one for their mean.

    Up to six classes have colours and a legend, and the pointer is told their values; of more, each line is grey and
    tells its name.

    Args:
        title: what is shown, with the IoU that makes a detection right.
        classes: a line per class, recall on x and precision on y, 0 to 1; a name may say the class's AP too. Values
            that are not finite leave a gap.
        mean: the same of all classes together.
        width: of the drawing in user units; pages scale it.
        height: the same.

    Returns:
        An ``<svg>`` element.
    """
    lines, whole = [_Line.of(each, False, False) for each in classes], _Line.of(mean, False, False)
    told = len(lines) <= 6
    names = [*((line.name, f"var(--c{index})") for index, line in enumerate(lines if told else []))]
    names += [(mean.name, "var(--ink)")]
    if not told:
        names += [(f"each of {len(lines)} classes", "var(--muted)")]
    legend, legend_height = _legend_of(names, width)
    steps = _Axis.over(0.0, 1.0, log=False, steps=5, tight=True)
    left, right, top, bottom = 48.0, width - 14.0, 34.0 + legend_height, height - 42.0
    frame = _Frame(steps, steps, left, right, top, bottom)
    parts = [_title(title, ""), *legend]
    for value, label in steps.ticks:
        x, y = frame.x(value), frame.y(value)
        parts.append(f'<line class="grid" x1="{left:.1f}" x2="{right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}"/>')
        parts += [_text(left - 7, y + 4, label, "end"), _text(x, bottom + 18, label)]
    turned = f' transform="rotate(-90 10 {(top + bottom) / 2:.1f})"'
    parts.append(_text((left + right) / 2, height - 6, "recall"))
    parts.append(_text(10, (top + bottom) / 2, "precision", more=turned))
    for index, line in enumerate(lines):
        parts += frame.traced(
            line, f"var(--c{index})" if told else "var(--muted)", "each" if told else "many", line.name
        )
    parts += frame.traced(whole, "var(--ink)", "mean", mean.name)
    every = [*lines, whole]
    xs = np.unique(np.concatenate([line.x for line in every]))
    if told and len(xs):
        parts += frame.hovers(every, xs, "recall", [colour for _, colour in names])
    return _svg(title, _summary([whole, *lines], "recall"), width, height, parts)


def heat_map(
    title: str, counts: NDArray[np.int64], names: Sequence[str], *, what: str = "images", size: int = 640
) -> str:
    """A confusion matrix: right answers in blue, mistakes in orange, the darker the larger its share of the row.

    Shares of mistakes are shown by their square root, so that rare ones can be seen. Counts stand in the cells while
    there is room; the pointer shows them always. Over 100 classes only the 100 with most mistakes are shown, and the
    chart says so.

    Args:
        title: what is shown.
        counts: (K, K) whole numbers, rows truth, columns prediction; for a detector with the background at the end.
        names: K class names.
        what: is counted.
        size: the greatest width of the drawing in user units; pages scale it.

    Returns:
        An ``<svg>`` element.
    """
    shown = list(range(len(names)))
    unit = "rows truth, columns prediction"
    if len(names) > MATRIX_LIMIT:
        mistakes = counts.sum(0) + counts.sum(1) - 2 * counts.diagonal()
        shown = sorted(np.argsort(-mistakes, kind="stable")[:MATRIX_LIMIT].tolist())
        unit += f"; the {MATRIX_LIMIT} of {len(names)} classes with most mistakes"
    support: list[int] = counts.sum(1).tolist()
    labels = [shorten(names[i], 16) for i in shown]
    longest = max(len(label) for label in labels)
    font = 12 if len(shown) <= 30 else 9
    left = 8 + CHARACTER * font * longest
    cell = min(44.0, (size - left - 8) / len(shown))
    upright = CHARACTER * font * longest <= cell
    every = math.ceil((font + 1) / cell)  # labels that would overlap are thinned out
    top = 44.0
    bottom = top + cell * len(shown)
    height = bottom + (24 if upright else 14 + CHARACTER * font * longest * 0.72)

    width = min(
        size, max(math.ceil(left + cell * len(shown) + 8), 240, round(CHARACTER * (14 * len(title) + 12 * len(unit))))
    )
    parts = [_title(title, unit)]
    side = cell * len(shown)
    parts.append(f'<rect x="{left:.1f}" y="{top}" width="{side:.1f}" height="{side:.1f}" fill="none" class="grid"/>')
    for position, label in enumerate(labels):
        if position % every:
            continue
        middle = top + cell * (position + 0.5)
        parts.append(_text(left - 6, middle + font * 0.35, label, "end", size=font))
        x = left + cell * (position + 0.5)
        if upright:
            parts.append(_text(x, bottom + 16, label, size=font))
        else:
            turned = f' transform="rotate(-45 {x:.1f} {bottom + 10:.1f})"'
            parts.append(_text(x, bottom + 12, label, "end", size=font, more=turned))
    gap = 1.0 if cell >= 12 else 0.0
    for row, i in enumerate(shown):
        for column, j in enumerate(shown):
            count = int(counts[i, j])
            if not count:
                continue
            share = count / support[i]
            strength = share if i == j else math.sqrt(share)
            opacity = 0.12 + 0.88 * strength
            x, y = left + cell * column, top + cell * row
            says = escape(f"{names[i]} → {names[j]}: {count} of {support[i]} ({share:.1%})")
            parts.append(
                f'<rect class="cell {"right" if i == j else "wrong"}" x="{x + gap / 2:.1f}" y="{y + gap / 2:.1f}" '
                f'width="{cell - gap:.1f}" height="{cell - gap:.1f}" fill-opacity="{opacity:.2f}">'
                f"<title>{says}</title></rect>"
            )
            digits = len(str(count))
            text_size = min(12.0, (cell - 4) / (CHARACTER * digits))
            if text_size >= 7:
                kind = "on-strong" if opacity > 0.5 else "strong"
                more = ' pointer-events="none"'
                parts.append(
                    _text(
                        x + cell / 2, y + cell / 2 + text_size * 0.36, str(count), kind=kind, size=text_size, more=more
                    )
                )
    total = sum(support)
    right = int(counts.trace())
    return _svg(title, f"{right} of {total} {what} are on the diagonal.", width, math.ceil(height), parts)


def reliability_diagram(
    title: str,
    counts: NDArray[np.int64],
    confidence: NDArray[np.float64],
    accuracy: NDArray[np.float64],
    *,
    width: int = 460,
    height: int = 340,
) -> str:
    """Accuracy by confidence (Guo et al. 2017, figure 1), over the share of images in each bin.

    Args:
        title: what is shown.
        counts: (M,) images in M bins of equal width from 0 to 1.
        confidence: (M,) mean confidence in each.
        accuracy: (M,) share of right answers in each.
        width: of the drawing in user units; pages scale it.
        height: the same.

    Returns:
        An ``<svg>`` element.
    """
    left, right, top, bottom = 44.0, width - 14.0, 52.0, height - 102.0
    base, room = height - 42.0, 40.0  # of the little histogram
    step = (right - left) / len(counts)
    parts = [_title(title, "")]
    legend, _ = _legend(["accuracy", "gap to the confidence"], width)
    parts += legend
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = bottom - share * (bottom - top)
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(left - 7, y + 4, f"{share:g}", "end"))
        parts.append(_text(left + share * (right - left), base + 18, f"{share:g}"))
    total = max(1, int(counts.sum()))
    for m, count in enumerate(counts.tolist()):
        if not count:
            continue
        x, wide = left + m * step + 0.75, step - 1.5
        right_y = bottom - accuracy[m] * (bottom - top)
        sure_y = bottom - confidence[m] * (bottom - top)
        says = (
            f"confidence {m / len(counts):.2f} to {(m + 1) / len(counts):.2f}: {count} images ({count / total:.1%})\n"
            f"mean confidence {confidence[m]:.3f}, accuracy {accuracy[m]:.3f}"
        )
        share = count / int(counts.max())
        under, over = max(right_y, sure_y), min(right_y, sure_y)
        parts.append(
            f'<g><rect class="right" fill-opacity=".8" x="{x:.1f}" y="{under:.1f}" width="{wide:.1f}" '
            f'height="{bottom - under:.1f}"/><rect class="wrong" fill-opacity=".4" x="{x:.1f}" y="{over:.1f}" '
            f'width="{wide:.1f}" height="{under - over:.1f}"/><rect class="right" x="{x:.1f}" y="{right_y - 1:.1f}" '
            f'width="{wide:.1f}" height="2.5"/>'
            f'<rect fill="var(--muted)" fill-opacity=".55" x="{x:.1f}" y="{base - room * share:.1f}" '
            f'width="{wide:.1f}" height="{room * share:.1f}"/><title>{escape(says)}</title></g>'
        )
    parts.append(f'<line class="mark" x1="{left}" y1="{bottom}" x2="{right}" y2="{top}"/>')
    parts.append(f'<line class="axis" x1="{left}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    parts.append(f'<line class="axis" x1="{left}" x2="{right}" y1="{base}" y2="{base}"/>')
    parts.append(_text(left - 7, base - room / 2 + 4, "images", "end", size=10))
    parts.append(_text((left + right) / 2, height - 6, "confidence"))
    return _svg(title, f"Accuracy by confidence over {total} images.", width, height, parts)


@dataclass(frozen=True)
class _Line:
    """A series as arrays, in which everything that cannot be placed is NaN."""

    name: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    low: NDArray[np.float64]  # empty without a band
    high: NDArray[np.float64]

    @staticmethod
    def of(series: Series, x_log: bool, y_log: bool) -> "_Line":
        x = np.asarray(series.x, dtype=np.float64)
        columns = [
            np.asarray(() if part is None else part, dtype=np.float64) for part in (series.y, series.low, series.high)
        ]
        keep = np.isfinite(x) & ((x > 0) | (not x_log))
        columns = [column[keep] if len(column) else column for column in columns]
        columns = [np.where(np.isfinite(column) & ((column > 0) | (not y_log)), column, np.nan) for column in columns]
        return _Line(series.name, x[keep], *columns)

    def runs(self, values: NDArray[np.float64]) -> list[list[int]]:
        """Indices of the stretches of ``values`` between gaps."""
        there = np.flatnonzero(np.isfinite(values))
        return [run.tolist() for run in np.split(there, np.flatnonzero(np.diff(there) > 1) + 1) if len(run)]


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float
    log: bool
    ticks: list[tuple[float, str]]

    def share(self, value: float) -> float:
        """Where ``value`` stands between the ends of the axis, 0 to 1."""
        low, high = (math.log10(self.low), math.log10(self.high)) if self.log else (self.low, self.high)
        return ((math.log10(value) if self.log else value) - low) / (high - low)

    @staticmethod
    def over(low: float, high: float, *, log: bool, steps: int, tight: bool, whole: bool = False) -> "_Axis":
        """An axis over ``low`` to ``high``, ticks at nice (``whole``) numbers, which are its ends unless ``tight``."""
        if log:
            return _Axis._decades(low, high, tight)
        if high - low < 1e-12 * max(abs(low), abs(high), 1e-300):
            spread = abs(low) * 0.1 or 1.0
            low, high = (low - spread, high + spread) if not tight else (low - 0.5, high + 0.5)
        rough = (high - low) / steps
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(
            nice * power for nice in ((1, 2, 5, 10) if whole else (1, 2, 2.5, 5, 10)) if nice * power >= rough * 0.999
        )
        step = max(step, 1.0) if whole else step
        if not tight:
            low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        decimals = max(0, -math.floor(math.log10(step)) + (abs(step / power - 2.5) < 0.01))
        big = max(abs(low), abs(high)) >= 1e6 or decimals > 5
        values = [step * i for i in range(first, last + 1)]
        return _Axis(low, high, False, [(v, _typeset(f"{v:.3g}" if big else f"{v:.{decimals}f}")) for v in values])

    @staticmethod
    def _decades(low: float, high: float, tight: bool) -> "_Axis":
        if high / low < 1 + 1e-9:
            low, high = low / 2, high * 2
        first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
        every = max(1, math.ceil((last - first) / 7))
        factors = (1,) if last - first > 2 else (1, 2, 5)
        if not tight:
            low, high = 10.0**first, 10.0**last
        ticks: list[tuple[float, str]] = []
        for power in range(first, last + 1, every):
            for factor in factors:
                value = factor * 10.0**power
                if low * (1 - 1e-9) <= value <= high * (1 + 1e-9):
                    ticks.append((value, _scientific(factor, power)))
        return _Axis(low, high, True, ticks)


@dataclass(frozen=True)
class _Frame:
    """The field between the axes, in user units."""

    x_axis: _Axis
    y_axis: _Axis
    left: float
    right: float
    top: float
    bottom: float

    def x(self, value: float) -> float:
        return self.left + self.x_axis.share(value) * (self.right - self.left)

    def y(self, value: float) -> float:
        return self.bottom - self.y_axis.share(value) * (self.bottom - self.top)

    def marked(self, marks: Sequence[Mark]) -> list[str]:
        """Dotted lines with their words above the field; the outer words lean away from each other."""
        parts: list[str] = []
        there = sorted((mark for mark in marks if 0 <= self.x_axis.share(mark.x) <= 1), key=lambda mark: mark.x)
        for index, mark in enumerate(there):
            x = self.x(mark.x)
            lean = 0 if len(there) == 1 else (index == len(there) - 1) - (index == 0)  # -1: to the left
            reach = CHARACTER * 12 * len(mark.label) / (1 if lean else 2)
            if x + reach > self.right + 14:
                lean = -1
            elif x - reach < self.left:
                lean = 1
            parts.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{self.top:.1f}" y2="{self.bottom:.1f}"/>')
            parts.append(_text(x, self.top - 5, mark.label, ("end", "middle", "start")[lean + 1]))
        return parts

    def drawn(self, line: _Line, index: int) -> list[str]:
        """Band and line; a value between two gaps becomes a dot."""
        parts: list[str] = []
        colour = f"var(--c{index % 6})"
        if len(line.low):
            for run in line.runs(line.low + line.high):
                ends = [(i, line.high[i]) for i in run] + [(i, line.low[i]) for i in run[::-1]]
                points = " ".join(f"{self.x(line.x[i]):.1f},{self.y(value):.1f}" for i, value in ends)
                parts.append(f'<polygon class="band" fill="{colour}" points="{points}"/>')
        dash = ' stroke-dasharray="6 4"' if index >= 6 else ""
        for run in line.runs(line.y):
            if len(run) == 1:
                parts.append(_dot(self.x(line.x[run[0]]), self.y(line.y[run[0]]), colour))
            else:
                points = " ".join(f"{self.x(line.x[i]):.1f},{self.y(line.y[i]):.1f}" for i in _thinned(run, line.y))
                parts.append(f'<polyline class="series" stroke="{colour}"{dash} points="{points}"/>')
        return parts

    def traced(self, line: _Line, colour: str, kind: str, name: str) -> list[str]:
        """A line that tells its name."""
        runs = [" ".join(f"{self.x(line.x[i]):.1f},{self.y(line.y[i]):.1f}" for i in run) for run in line.runs(line.y)]
        return [
            f'<polyline class="series {kind}" stroke="{colour}" points="{run}"><title>{escape(name)}</title></polyline>'
            for run in runs
        ]

    def hovers(
        self, lines: Sequence[_Line], xs: NDArray[np.float64], x_label: str, colours: Sequence[str] = ()
    ) -> list[str]:
        """Unseen strips, one per position, that show the values there when the pointer rests on them.

        ``colours`` are those of the lines where they are not those of their places.
        """
        if len(xs) > HOVERS:
            xs = xs[np.unique(np.linspace(0, len(xs) - 1, HOVERS).round().astype(np.int64))]
        places = [self.x(value) for value in xs]
        between = [(one + other) / 2 for one, other in pairwise(places)]
        edges = [self.left - 4, *between, self.right + 4]
        values = [dict(zip(line.x.tolist(), line.y.tolist(), strict=True)) for line in lines]
        parts: list[str] = []
        for x, place, (start, stop) in zip(xs.tolist(), places, pairwise(edges), strict=True):
            says = [f"{x_label} {_number(x)}"]
            dots: list[str] = []
            for index, (line, value) in enumerate(zip(lines, values, strict=True)):
                y = value.get(x, math.nan)
                if math.isfinite(y):
                    says.append(f"{line.name}: {_number(y)}")
                    dots.append(_dot(place, self.y(y), colours[index] if colours else f"var(--c{index % 6})"))
            parts.append(
                f'<g class="hover"><rect x="{start:.1f}" y="{self.top:.1f}" width="{stop - start:.1f}" '
                f'height="{self.bottom - self.top:.1f}" fill="none"/><line class="guide" x1="{place:.1f}" '
                f'x2="{place:.1f}" y1="{self.top:.1f}" y2="{self.bottom:.1f}"/>{"".join(dots)}'
                f"<title>{escape(chr(10).join(says))}</title></g>"
            )
        return parts


def _thinned(run: list[int], values: NDArray[np.float64]) -> list[int]:
    """``run``, or for a long one the least and the greatest value of each of many equal pieces: it looks the same."""
    if len(run) <= 2 * PIECES:
        return run
    kept = {run[0], run[-1]}
    for piece in np.array_split(np.asarray(run), PIECES):
        kept |= {int(piece[values[piece].argmin()]), int(piece[values[piece].argmax()])}
    return sorted(kept)


def _scientific(factor: int, power: int) -> str:
    if -3 <= power <= 3:
        return f"{factor * 10.0**power:g}"
    raised = str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{raised}" if factor == 1 else f"{factor}·10{raised}"


def _typeset(number: str) -> str:
    """A number as Python writes it, with the true minus sign and exponents as short as can be: 1e6."""
    return re.sub(r"e([+-])0*", lambda found: "e" + found[1].strip("+"), number).replace("-", "\N{MINUS SIGN}")


def _number(value: float) -> str:
    return _typeset(f"{value:.4g}")


def _svg(title: str, summary: str, width: int, height: int, parts: Iterable[str]) -> str:
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}" style="max-width: {1.15 * width:.0f}px"'
    words = f"<title>{escape(title)}</title><desc>{escape(summary)}</desc>"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" {size} role="img" aria-label="{escape(title)}">'
        f"{words}{''.join(parts)}</svg>"
    )


def _title(title: str, unit: str) -> str:
    beside = f'<tspan class="unit" dx="8">{escape(unit)}</tspan>' if unit else ""
    return f'<text class="title" x="0" y="16">{escape(title)}{beside}</text>'


def _text(
    x: float,
    y: float,
    text: str,
    anchor: str = "middle",
    kind: str = "",
    size: float = 12,
    more: str = "",
) -> str:
    classes = f' class="{kind}"' if kind else ""
    sized = f' font-size="{size:.3g}"' if size != 12 else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{classes}{sized}{more}>{escape(text)}</text>'


def _dot(x: float, y: float, colour: str) -> str:
    return f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>'


def _legend(names: Sequence[str], width: int) -> tuple[list[str], int]:
    """The legend of series in their colours."""
    return _legend_of([(name, f"var(--c{index % 6})") for index, name in enumerate(names)], width)


def _legend_of(entries: Sequence[tuple[str, str]], width: int) -> tuple[list[str], int]:
    """The parts of a legend of names and colours, and its height; it breaks into rows where one is too short."""
    parts: list[str] = []
    x, row = 0.0, 0
    for name, colour in entries:
        label = shorten(name, 40)
        wide = 20 + CHARACTER * 12 * len(label) + 12
        if x and x + wide > width:
            x, row = 0.0, row + 1
        y = 36 + 18 * row
        parts.append(
            f'<rect x="{x:.1f}" y="{y - 6}" width="14" height="4" rx="2" fill="{colour}"/>'
            + _text(x + 20, y, label, "start")
        )
        x += wide
    return parts, 18 * (row + 1)


def _summary(lines: Sequence[_Line], x_label: str) -> str:
    """The lines in words, for those who cannot see them."""
    sentences: list[str] = []
    for line in lines:
        there: list[int] = np.flatnonzero(np.isfinite(line.y)).tolist()
        if there:
            first, last, least, most = there[0], there[-1], int(np.nanargmin(line.y)), int(np.nanargmax(line.y))
            sentences.append(
                f"{line.name}: from {_number(line.y[first])} at {x_label} {_number(line.x[first])} to "
                f"{_number(line.y[last])} at {_number(line.x[last])}; least {_number(line.y[least])} at "
                f"{_number(line.x[least])}, greatest {_number(line.y[most])} at {_number(line.x[most])}."
            )
    return " ".join(sentences)
