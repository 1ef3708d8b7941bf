"""The report of a run: one HTML file that holds everything and fetches nothing.

It follows the reader's light or dark preference, reads well on a phone and on paper, and without scripts (one only
makes tables sortable). Its Content-Security-Policy forbids every request, so that what a class name may hold can do
no harm.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from striate.files import write_text
from striate.metrics.classification import ClassScores, Reliability
from striate.viz.canvas import Pixels, fit_image
from striate.viz.charts import STYLE, Bar, Mark, Series, bar_list, heat_map, line_chart, reliability_diagram
from striate.viz.text import escape

ROWS = 200  # skipped files that are listed; the rest is counted
CONFUSIONS = 12  # pairs of classes in the list of the most frequent ones
PIXELATED = 96  # images up to this many pixels are kept as they are, and shown as squares
THUMBNAIL = 240  # larger ones are scaled down to this
PICTURE = 720  # and drawings of truth and prediction to this


@dataclass(frozen=True, kw_only=True)
class Headline:
    """The number that the report opens with."""

    metric: str  # its name, as in "top1"
    value: float  # 0 to 1
    interval: tuple[float, float] | None  # 95% bootstrap interval
    split: str  # what it was measured on
    images: int  # of that split
    note: str = ""  # what else must be known of the split, as in "held out from training"


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One chart over the epochs."""

    title: str
    series: Sequence[Series]
    unit: str = ""
    x_label: str = "epoch"
    marks: Sequence[Mark] = ()
    x_log: bool = False
    y_limits: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """An image whose prediction is wrong."""

    image: Pixels  # (H, W, 1) or (H, W, 3) uint8
    truth: str  # class names
    prediction: str
    score: float  # probability of the prediction
    truth_score: float  # probability of the truth
    id: str  # what names the image in its data set


@dataclass(frozen=True, kw_only=True)
class Example:
    """An image on which a model that says where does badly, with what it should have said."""

    picture: Image.Image  # truth and prediction, drawn
    id: str  # what names the image in its data set
    verdict: str  # how bad it is, in words


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A chart of one task."""

    markup: str  # an ``<svg>`` element
    words: str = ""  # under it


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A resolved setting."""

    name: str
    value: str
    source: str  # "default", "command line", ...


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that a report shows. What is empty is left out of the page."""

    name: str  # of the run
    task: str
    model: str
    data: str
    headline: Headline
    metrics: Mapping[str, float]  # all of the headline's split
    facts: Sequence[tuple[str, str]]  # parameters, epochs, seconds, hardware, versions, ...
    curves: Sequence[Curve] = ()
    classes: Sequence[str] = ()
    confusion: NDArray[np.int64] | None = None  # (K, K), rows truth
    per_class: Sequence[ClassScores] = ()
    table: Sequence[Mapping[str, Any]] = ()  # of other tasks than classification: a row of figures per class
    points: Sequence[Mapping[str, Any]] = ()  # of keypoints: a row of figures per point
    reliability: Reliability | None = None
    mistakes: Sequence[Mistake] = ()  # most confident first
    examples: Sequence[Example] = ()  # worst first
    figures: Sequence[Figure] = ()
    skipped: Sequence[tuple[str, str]] = ()  # file, reason
    settings: Sequence[Setting] = ()
    warnings: Sequence[str] = ()


def write_report(path: Path, report: Report) -> None:
    """Write the report atomically: ``path`` holds the old one or all of the new one, whatever happens.

    Raises:
        OSError: the file cannot be written.
    """
    write_text(path, render(report))


def render(report: Report) -> str:
    """The report as a complete HTML document."""
    sections = [
        ("Training", _curves(report)),
        ("Mistakes", _mistakes(report)),
        ("Worst images", _examples(report)),
        ("Precision and errors", _figures(report)),
        ("Confusion matrix", _confusion(report)),
        ("Classes", _classes(report)),
        ("Points", _table("point", report.points) if report.points else ""),
        ("Calibration", _calibration(report)),
        ("Run", _facts(report)),
        ("Settings", _settings(report)),
        ("Skipped files", _skipped(report)),
    ]
    shown = [(title, title.split()[0].lower(), body) for title, body in sections if body]
    links = "".join(f'<a href="#{anchor}">{title}</a>' for title, anchor, _ in shown)
    bodies = "".join(f'<section id="{anchor}"><h2>{title}</h2>{body}</section>\n' for title, anchor, body in shown)
    headline = report.headline
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; \
script-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{escape(report.name)}: {escape(headline.metric)} {headline.value:.4f} on {escape(headline.split)}</title>
<style>{STYLE}{PAGE}</style>
</head>
<body>
<main>
<header>
<p class="over">striate · {escape(report.task)}</p>
<h1>{escape(report.name)}</h1>
<p class="sub"><b>{escape(report.model)}</b> on <b>{escape(report.data)}</b></p>
</header>
{_warnings(report)}<section class="headline">{_headline(report)}</section>
<nav aria-label="Sections">{links}</nav>
{bodies}</main>
<script>{SORTING}</script>
</body>
</html>
"""


def _headline(report: Report) -> str:
    headline = report.headline
    interval = ""
    if headline.interval:
        low, high = headline.interval
        interval = (
            f'<p class="interval">95% interval {low:.2%} to {high:.2%} <span>(bootstrap over the images)</span></p>'
        )
    note = f'<p class="note">{escape(headline.note)}</p>' if headline.note else ""
    tiles = "".join(f"<div><dt>{escape(name)}</dt><dd>{value:.4f}</dd></div>" for name, value in report.metrics.items())
    return (
        f'<div class="big"><p class="value">{100 * headline.value:.2f}<small>%</small></p><p class="what">'
        f"{escape(headline.metric)} on <b>{escape(headline.split)}</b>, {headline.images:,} images</p>{interval}{note}"
        f'</div><dl class="tiles">{tiles}</dl>'
    )


def _warnings(report: Report) -> str:
    if not report.warnings:
        return ""
    items = "".join(f"<li>{escape(warning)}</li>" for warning in report.warnings)
    return f'<section class="warnings" id="warnings"><h2>Warnings</h2><ul>{items}</ul></section>\n'


def _curves(report: Report) -> str:
    charts = [
        line_chart(
            curve.title,
            curve.series,
            x_label=curve.x_label,
            unit=curve.unit,
            x_log=curve.x_log,
            y_limits=curve.y_limits,
            marks=curve.marks,
            width=360,
            height=260,
        )
        for curve in report.curves
    ]
    return f'<div class="charts">{"".join(f"<figure>{chart}</figure>" for chart in charts)}</div>' if charts else ""


def _confusion(report: Report) -> str:
    if report.confusion is None:
        return ""
    counts = report.confusion
    names = [*report.classes, "background"] if len(counts) > len(report.classes) else list(report.classes)
    support: list[int] = counts.sum(1).tolist()
    wrong = counts - np.diag(counts.diagonal())
    worst: list[int] = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS].tolist()
    pairs = [(cell // len(names), cell % len(names), int(wrong.flat[cell])) for cell in worst if wrong.flat[cell]]
    bars = [Bar(name=f"{names[i]} → {names[j]}", value=n, text=f"{n} of {support[i]}") for i, j, n in pairs]
    listed = (
        f"<figure>{bar_list('Most frequent', bars, unit='truth → prediction', colour='wrong', width=360)}</figure>"
        if bars
        else ""
    )
    what = "images" if len(names) == len(report.per_class) else "objects"
    matrix = heat_map("Counts", counts, names, what=what)
    return f'<div class="matrix"><figure class="wide" tabindex="0">{matrix}</figure>{listed}</div>'


def _mistakes(report: Report) -> str:
    if report.table or (report.confusion is None and not report.mistakes):
        return ""
    total = int(report.confusion.sum() - report.confusion.trace()) if report.confusion is not None else None
    if total == 0:
        return "<p>None: every image is classified right.</p>"
    shown = len(report.mistakes)
    if not shown:
        return ""
    among = "" if total is None or total == shown else f" of {total:,}"
    cards = "".join(
        f'<li><img class="{"pixels" if max(mistake.image.shape[:2]) <= PIXELATED else "photo"}" '
        f'src="{_data_uri(mistake.image)}" alt="{escape(mistake.id)}: {escape(mistake.truth)}, predicted as '
        f'{escape(mistake.prediction)}">'
        f'<p class="said"><span title="{escape(mistake.prediction)}">{escape(mistake.prediction)}</span>'
        f"<b>{mistake.score:.1%}</b></p>"
        f'<p class="truth"><span title="{escape(mistake.truth)}">is {escape(mistake.truth)}</span>'
        f'<b>{mistake.truth_score:.1%}</b></p><p class="id" title="{escape(mistake.id)}">{escape(mistake.id)}</p></li>'
        for mistake in report.mistakes
    )
    lead = (
        f"<p>The {shown:,}{among} that the model was surest of: prediction and truth, with the probability of each.</p>"
    )
    return f'{lead}<ul class="mistakes">{cards}</ul>'


def _examples(report: Report) -> str:
    if not report.examples:
        return ""
    cards = "".join(
        f'<li><img src="{_picture_uri(example.picture)}" alt="{escape(example.id)}: {escape(example.verdict)}">'
        f'<p class="said"><span>{escape(example.verdict)}</span></p>'
        f'<p class="id" title="{escape(example.id)}">{escape(example.id)}</p></li>'
        for example in report.examples
    )
    return f'<ul class="examples">{cards}</ul>'


def _figures(report: Report) -> str:
    figures = "".join(
        f"<figure>{each.markup}{f'<figcaption>{escape(each.words)}</figcaption>' if each.words else ''}</figure>"
        for each in report.figures
    )
    return f'<div class="charts">{figures}</div>' if figures else ""


def _classes(report: Report) -> str:
    if report.table:
        return _table("class", report.table)
    if not report.per_class:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{escape(row["name"])}</th><td>{row["support"]:,}</td><td>{row["precision"]:.4f}</td>'
        f'<td>{row["recall"]:.4f}</td><td class="meter" style="--share:{row["f1"]:.4f}">{row["f1"]:.4f}</td></tr>'
        for row in report.per_class
    )
    head = "".join(f'<th scope="col">{name}</th>' for name in ("class", "support", "precision", "recall", "F1"))
    return (
        '<div class="scroll" tabindex="0"><table class="sortable numbers"><thead><tr>'
        f"{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _table(what: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Figures of each class, or of what else the rows are of, under the names that the metric gives them."""
    columns = [name for name in rows[0] if name != "name"]
    head = "".join(f'<th scope="col">{escape(name.replace("_", " "))}</th>' for name in (what, *columns))
    body = "".join(
        f'<tr><th scope="row">{escape(row["name"])}</th>'
        + "".join(f"<td>{figure(row[name])}</td>" for name in columns)
        + "</tr>"
        for row in rows
    )
    return (
        '<div class="scroll" tabindex="0"><table class="sortable numbers"><thead><tr>'
        f"{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def figure(value: float | None) -> str:
    """A figure of a table: a count in full, a share with four digits, a dash where there is none."""
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def _calibration(report: Report) -> str:
    bins = report.reliability
    if bins is None or not bins.counts.sum():
        return ""
    error = report.metrics.get("ece")
    sure = float((bins.counts * bins.confidence).sum() / bins.counts.sum())
    right = float((bins.counts * bins.accuracy).sum() / bins.counts.sum())
    lean = "surer than it is right" if sure > right else "right more often than it is sure"
    words = [f"<p>On average the model is {sure:.1%} sure and {right:.1%} right: {lean}.</p>"]
    if error is not None:
        words.append(
            f"<p>The expected calibration error is <b>{error:.4f}</b>: how far confidence and accuracy lie apart, as a "
            "mean over the images in 15 bins of confidence (Guo et al. 2017).</p>"
        )
    words.append("<p>Bars on the dotted diagonal would be scores that mean what they say.</p>")
    chart = reliability_diagram("Accuracy by confidence", bins.counts, bins.confidence, bins.accuracy)
    return f'<div class="aside"><figure>{chart}</figure><div class="words">{"".join(words)}</div></div>'


def _facts(report: Report) -> str:
    rows = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in report.facts)
    return f'<dl class="facts">{rows}</dl>' if rows else ""


def _settings(report: Report) -> str:
    def table(settings: Sequence[Setting]) -> str:
        rows = "".join(
            f'<tr><th scope="row">{escape(setting.name)}</th><td><code>{escape(setting.value)}</code></td>'
            f"<td>{escape(setting.source)}</td></tr>"
            for setting in settings
        )
        head = '<tr><th scope="col">setting</th><th scope="col">value</th><th scope="col">source</th></tr>'
        body = f"<thead>{head}</thead><tbody>{rows}</tbody>"
        return f'<div class="scroll" tabindex="0"><table class="sortable">{body}</table></div>'

    chosen = [setting for setting in report.settings if setting.source != "default"]
    default = [setting for setting in report.settings if setting.source == "default"]
    parts = [table(chosen)] if chosen else []
    if default:
        parts.append(f"<details><summary>At their defaults: {len(default)}</summary>{table(default)}</details>")
    return "".join(parts)


def _skipped(report: Report) -> str:
    if not report.skipped:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{escape(source)}</th><td>{escape(reason)}</td></tr>'
        for source, reason in report.skipped[:ROWS]
    )
    more = len(report.skipped) - ROWS
    rest = f"<p>and {more:,} more</p>" if more > 0 else ""
    return (
        f"<p>{len(report.skipped):,} could not be read; they were neither trained nor measured on.</p>"
        '<div class="scroll" tabindex="0"><table class="sortable"><thead><tr><th scope="col">file</th>'
        f'<th scope="col">reason</th></tr></thead><tbody>{rows}</tbody></table></div>{rest}'
    )


def _data_uri(image: Pixels) -> str:
    """The image inside of a link: exact where it is small, else a JPEG that is small enough to be one of many."""
    small = max(image.shape[:2]) <= PIXELATED
    picture = fit_image(image, max(image.shape[:2]) if small else THUMBNAIL)
    encoded = io.BytesIO()
    if small:
        picture.save(encoded, "PNG", optimize=True)
    else:
        picture.save(encoded, "JPEG", quality=85)
    return f"data:image/{'png' if small else 'jpeg'};base64,{base64.b64encode(encoded.getvalue()).decode()}"


def _picture_uri(picture: Image.Image) -> str:
    encoded = io.BytesIO()
    picture.thumbnail((PICTURE, PICTURE))
    picture.save(encoded, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.getvalue()).decode()}"


PAGE = """
:root { --ink: #1f2630; --muted: #66707e; --line: #e3e6ea; --paper: #ffffff; --ground: #f5f6f8; --accent: #0072b2;
  --wrong: #b44d00; --warn: #8a5f00; --warn-paper: #fff8e5; --warn-line: #f0dca8; --meter: #0072b224; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ebef; --muted: #98a2b0; --line: #2c333d; --paper: #171b21;
  --ground: #0f1217; --accent: #56b4e9; --wrong: #f0894a; --warn: #f0c35a; --warn-paper: #241f12; --warn-line: #4a3f20;
  --meter: #56b4e92e; } }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 15px/1.55 system-ui, -apple-system, "Segoe UI",
  Roboto, "Noto Sans", "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 40px 20px 64px; }
header { margin: 0 4px 24px; }
p { margin: 0 0 .6em; }
h1 { font-size: 30px; line-height: 1.2; font-weight: 650; letter-spacing: -.015em; margin: 2px 0 6px;
  overflow-wrap: anywhere; }
h2 { font-size: 18px; line-height: 1.3; font-weight: 650; letter-spacing: -.005em; margin: 0 0 16px; }
.over { color: var(--muted); font-size: 13px; letter-spacing: .02em; margin: 0; }
.sub { color: var(--muted); font-size: 16px; margin: 0; overflow-wrap: anywhere; }
.sub b { color: var(--ink); font-weight: 550; }
section { background: var(--paper); border: 1px solid var(--line); border-radius: 12px; padding: 24px;
  margin: 0 0 20px; scroll-margin-top: 16px; }
figure { margin: 0; min-width: 0; }
nav { display: flex; flex-wrap: wrap; gap: 4px 20px; margin: 0 4px 20px; font-size: 14px; }
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
.headline { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(300px, 100%), 1fr)); gap: 24px 40px;
  align-items: center; }
.value { font-size: 64px; line-height: 1; font-weight: 650; letter-spacing: -.03em; margin: 0 0 10px;
  font-variant-numeric: tabular-nums; }
.value small { font-size: 30px; font-weight: 550; letter-spacing: 0; margin-left: 4px; color: var(--muted); }
.what { font-size: 16px; margin: 0; }
.interval { margin: 2px 0 0; font-variant-numeric: tabular-nums; }
.interval span, .note { color: var(--muted); }
.note { margin: 8px 0 0; font-size: 14px; }
dl { margin: 0; }
dt { color: var(--muted); font-size: 13px; }
dd { margin: 0; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(104px, 1fr)); gap: 18px 20px; }
.tiles dd { font-size: 20px; font-weight: 550; letter-spacing: -.01em; }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(220px, 100%), 1fr)); gap: 16px 28px; }
.warnings { background: var(--warn-paper); border-color: var(--warn-line); }
.warnings h2 { color: var(--warn); margin-bottom: 8px; }
.warnings ul { margin: 0; padding-left: 20px; overflow-wrap: anywhere; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(310px, 100%), 1fr)); gap: 32px 36px; }
.matrix { display: grid; grid-template-columns: minmax(0, 3fr) minmax(0, 2fr); gap: 28px 36px; }
.wide { overflow-x: auto; }
.wide .chart { min-width: 460px; }
.aside { display: grid; grid-template-columns: minmax(0, 460px) minmax(0, 1fr); gap: 20px 36px; align-items: center; }
.words { max-width: 46ch; }
.mistakes { list-style: none; margin: 16px 0 0; padding: 0; display: grid; gap: 22px 18px;
  grid-template-columns: repeat(auto-fill, minmax(128px, 1fr)); }
.mistakes li { min-width: 0; font-size: 13px; line-height: 1.45; }
.mistakes img { display: block; width: 100%; aspect-ratio: 1; object-fit: contain; background: var(--ground);
  border-radius: 6px; margin-bottom: 8px; }
.examples { list-style: none; margin: 16px 0 0; padding: 0; display: grid; gap: 22px 18px;
  grid-template-columns: repeat(auto-fill, minmax(min(330px, 100%), 1fr)); }
.examples img { display: block; width: 100%; }
.examples p { margin: 4px 0 0; font-size: 13px; }
.mistakes .pixels { image-rendering: pixelated; }
.mistakes p { margin: 0; display: flex; justify-content: space-between; gap: 8px; }
.mistakes span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.mistakes b { font-weight: 400; font-variant-numeric: tabular-nums; }
.said { color: var(--wrong); font-weight: 600; }
.said b { font-weight: 600 !important; }
.mistakes .id { display: block; color: var(--muted); font-size: 12px; overflow: hidden; text-overflow: ellipsis;
  white-space: nowrap; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; min-width: 100%; }
th, td { text-align: left; padding: 6px 16px 6px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
tbody th { font-weight: 500; overflow-wrap: break-word; }
tbody tr:last-child > * { border-bottom: 0; }
thead th { color: var(--muted); font-weight: 500; font-size: 13px; white-space: nowrap; }
.numbers { font-variant-numeric: tabular-nums; }
.numbers td, .numbers thead th:not(:first-child) { text-align: right; padding: 6px 8px 6px 16px; width: 17%; }
.meter { background: linear-gradient(var(--meter) 0 0) right / calc(var(--share) * (100% - 16px)) 72% no-repeat; }
th button { all: unset; cursor: pointer; }
th button:hover { color: var(--ink); }
th button:focus-visible, [tabindex]:focus-visible, summary:focus-visible, a:focus-visible {
  outline: 2px solid var(--accent); outline-offset: 2px; border-radius: 3px; }
[aria-sort="ascending"] button::after { content: " ↑"; }
[aria-sort="descending"] button::after { content: " ↓"; }
code { font: 13px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  overflow-wrap: anywhere; }
details { margin-top: 16px; }
summary { cursor: pointer; color: var(--muted); margin-bottom: 8px; }
@media (max-width: 820px) { .matrix, .aside { grid-template-columns: minmax(0, 1fr); } }
@media (max-width: 560px) { main { padding: 24px 12px 40px; } section { padding: 18px 16px; }
  .value { font-size: 52px; }
  .mistakes { grid-template-columns: repeat(auto-fill, minmax(96px, 1fr)); } }
@media print { :root { --ink: #1f2630; --muted: #55606e; --line: #dddddd; --paper: #ffffff; --ground: #ffffff;
  --accent: #0072b2; --wrong: #b44d00; --warn: #8a5f00; --warn-paper: #ffffff; --meter: #0072b224; }
  body { font-size: 11pt; } main { max-width: none; padding: 0; } nav { display: none; }
  section { border-width: 1px 0 0; border-radius: 0; padding: 16px 0; }
  .charts { grid-template-columns: repeat(3, 1fr); gap: 16px; } .mistakes { grid-template-columns: repeat(8, 1fr); }
  .matrix { grid-template-columns: 3fr 2fr; gap: 16px; } .wide .chart { min-width: 0; }
  figure, tr, .mistakes li, .headline { break-inside: avoid; } h2 { break-after: avoid; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""

SORTING = """
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const key = (row, column) => row.cells[column].textContent;
  const number = text => Number(text.replaceAll(",", ""));
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      const numeric = [...body.rows].every(row => key(row, column).trim() && !isNaN(number(key(row, column))));
      const order = (a, b) => numeric ? number(key(a, column)) - number(key(b, column))
        : key(a, column).localeCompare(key(b, column), undefined, { numeric: true });
      body.append(...[...body.rows].sort((a, b) => down * order(a, b)));
      heads.forEach(each => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down === 1 ? "ascending" : "descending");
    });
  });
}
"""
