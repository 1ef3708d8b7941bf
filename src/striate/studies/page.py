"""The page of a study: one HTML file that holds everything and fetches nothing, in the style of a run's report."""

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from striate.runs.report import PAGE
from striate.studies.study import Chart, Part, Picture, Table, Verdict
from striate.viz.charts import STYLE
from striate.viz.text import escape

if TYPE_CHECKING:
    from striate.studies.run import StudyResult

TONES = {Verdict.HOLDS: "holds", Verdict.IN_PART: "partly", Verdict.NOT_HERE: "fails"}


def render(result: "StudyResult") -> str:
    """The page as a complete HTML document."""
    study, found = result.study, result.findings
    measured = (
        "".join(_table(table) for table in found.tables[:1])
        + _charts(found.charts)
        + "".join(_table(table) for table in found.tables[1:])
        + "".join(_picture(picture) for picture in found.pictures)
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{escape(study.title)}: {found.verdict}</title>
<style>{STYLE}{PAGE}{EXTRA}</style>
</head>
<body>
<main>
<header>
<p class="over">striate · study · {escape(study.name)}</p>
<h1>{escape(study.title)}</h1>
<p class="sub">{_setting(result)}</p>
</header>
<section id="claim"><h2>The claim</h2><p class="claim">{escape(study.claim)}</p>
<p class="citation">{escape(study.citation)}</p></section>
<section id="verdict"><h2>Verdict</h2>
<p class="verdict {TONES[found.verdict]}">{found.verdict.capitalize()}</p>
<p class="why">{escape(found.why)}</p>{_parts(found.parts)}
<p class="rule"><b>The rule.</b> {escape(study.rule)}</p></section>
<section id="measured"><h2>Measured here</h2>{measured}</section>
<section id="how"><h2>How it was measured</h2>{_facts(result)}</section>
</main>
</body>
</html>
"""


def _setting(result: "StudyResult") -> str:
    parts = [f"measured on <b>{escape(result.data)}</b>"] if result.data else []
    if result.seeds is not None:
        parts.append(f"<b>{result.seeds}</b> seed{'s' if result.seeds > 1 else ''}")
    parts.append(f"<b>{result.effort}</b>")
    return ", ".join(parts)


def _parts(parts: Sequence[Part]) -> str:
    if not parts:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{escape(part.claim)}</th><td>{escape(part.measured)}</td>'
        f'<td class="{"holds" if part.holds else "fails"}">{"holds" if part.holds else "does not"}</td></tr>'
        for part in parts
    )
    head = "".join(f'<th scope="col">{name}</th>' for name in ("claimed", "measured here", ""))
    return f'<div class="scroll" tabindex="0"><table class="parts"><thead><tr>{head}</tr></thead>{rows}</table></div>'


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.columns)
    rows = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in row[1:])}</tr>'
        for row in table.rows
    )
    caption = f'<p class="note">{escape(table.caption)}</p>' if table.caption else ""
    return (
        f'<div class="block"><h3>{escape(table.title)}</h3><div class="scroll" tabindex="0"><table class="found">'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>{caption}</div>"
    )


def _charts(charts: Sequence[Chart]) -> str:
    figures: list[str] = []
    for chart in charts:
        caption = f"<figcaption>{escape(chart.caption)}</figcaption>" if chart.caption else ""
        figures.append(f"<figure>{chart.svg}{caption}</figure>")
    return f'<div class="block plots">{"".join(figures)}</div>' if figures else ""


def _picture(picture: Picture) -> str:
    encoded = io.BytesIO()
    picture.image.save(encoded, "PNG", optimize=True)
    uri = f"data:image/png;base64,{base64.b64encode(encoded.getvalue()).decode()}"
    caption = f"<figcaption>{escape(picture.caption)}</figcaption>" if picture.caption else ""
    return (
        f'<div class="block"><h3>{escape(picture.title)}</h3><figure><img class="picture" src="{uri}" '
        f'alt="{escape(picture.title)}">{caption}</figure></div>'
    )


def _facts(result: "StudyResult") -> str:
    warnings: list[str] = []
    if result.seeds == 1:
        warnings.append("One seed: there are no intervals, and what is near may lie the other way round by chance.")
    if result.effort == "quick":
        warnings.append("Quick: sizes that fit into minutes. --full measures more.")
    if len(result.machines) > 1:
        warnings.append(
            "Measured in several sessions, on different machines, with different versions or texts of the study."
        )
    facts = [("time of measuring", _duration(result.seconds)), ("effort", result.effort)]
    facts += [(name.replace("_", " "), _shown(value)) for name, value in result.plan.items()]
    for machine in result.machines:
        about = machine["hardware"]
        device = f"{about['cpu']}, {about['cores']} cores, {about['threads']} threads"
        facts.append(("hardware", device + (f"; {about['gpu']}" if "gpu" in about else "")))
        facts.append(("versions", ", ".join(f"{name} {number}" for name, number in machine["versions"].items())))
    notes = "".join(f'<p class="note">{escape(text)}</p>' for text in warnings)
    rows = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    return f'<dl class="facts">{rows}</dl>{notes}<p class="note">Again: <code>{escape(result.command)}</code></p>'


def _shown(value: object) -> str:
    return ", ".join(map(_shown, value)) if isinstance(value, list) else str(value)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


EXTRA = """
h3 { font-size: 14px; font-weight: 600; margin: 0 0 8px; }
.claim { font-size: 17px; max-width: 80ch; }
.citation, .rule, figcaption { color: var(--muted); font-size: 14px; max-width: 100ch; margin: 0; }
.rule { margin-top: 16px; }
.rule b { color: var(--ink); font-weight: 550; }
.verdict { font-size: 34px; line-height: 1.1; font-weight: 650; letter-spacing: -.02em; margin: 0 0 12px; }
.why { max-width: 90ch; font-size: 16px; }
:root { --holds: #00785a; --partly: #8a5f00; --fails: #b44d00; }
@media (prefers-color-scheme: dark) { :root { --holds: #35c79b; --partly: #f0c35a; --fails: #f0894a; } }
@media print { :root { --holds: #00785a; --partly: #8a5f00; --fails: #b44d00; } }
.holds { color: var(--holds); } .partly { color: var(--partly); } .fails { color: var(--fails); }
.parts { margin: 12px 0 0; }
.parts th, .parts td:nth-child(2) { min-width: 150px; }
.parts td:last-child { font-weight: 600; white-space: nowrap; }
.block { margin: 0 0 32px; }
.block:last-child { margin-bottom: 0; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(400px, 100%), 1fr)); gap: 32px 36px; }
.found { font-variant-numeric: tabular-nums; min-width: 0; }
.found td, .found thead th:not(:first-child) { text-align: right; padding: 5px 0 5px 24px; }
.found thead th { white-space: normal; vertical-align: bottom; }
.found td { white-space: nowrap; }
figcaption { margin-top: 6px; }
.picture { max-width: 100%; height: auto; border-radius: 6px; }
@media print { .plots { grid-template-columns: repeat(2, 1fr); gap: 16px; } .block { break-inside: avoid; } }
"""
