"""The page of a map: one HTML file that holds everything and fetches nothing, in the style of a run's report.

Without scripts it is a picture with a legend. A script adds thumbnails under the pointer and the arrow keys, zoom, and
classes that can be switched off. Its Content-Security-Policy forbids every request, so that what a file is called can
do no harm.
"""

import json
from pathlib import PurePath
from typing import TYPE_CHECKING

import numpy as np

from striate.runs.report import PAGE
from striate.viz.scatter import MARKS, OTHERS, STYLE, Group, fit, scatter, swatch
from striate.viz.text import escape, printable

if TYPE_CHECKING:
    from striate.runs.embedding_map import EmbeddingMap, Thumbnails

MEANING = {
    "tsne": "Images that lie near each other are alike to the network. t-SNE keeps neighbourhoods; how far apart two "
    "groups lie, and how large they are drawn, means little.",
    "umap": "Images that lie near each other are alike to the network. UMAP keeps neighbourhoods; how far apart two "
    "groups lie, and how large they are drawn, means little.",
    "pca": "The two directions in which the embeddings differ most. Images far apart differ; images near each other "
    "may differ in other directions.",
}


def render(found: "EmbeddingMap", small: "Thumbnails") -> str:
    """The map as a complete HTML document."""
    embeddings, about = found.embeddings, found.embeddings.about
    labels = embeddings.labels[found.rows]
    points = fit(found.points)
    groups, of_point = _groups(embeddings.classes, labels, points)
    name = embeddings.path.stem
    model = PurePath(about.model).name if PurePath(about.model).is_absolute() else about.model
    shown = f"{len(found.rows):,} images"
    if len(found.rows) < len(embeddings):
        shown = f"{len(found.rows):,} of {len(embeddings):,} images, drawn evenly with seed {found.seed}"
    data = {
        "x": np.rint(points[:, 0] * 10).astype(int).tolist(),
        "y": np.rint(points[:, 1] * 10).astype(int).tolist(),
        "group": of_point,
        "label": labels.tolist(),
        "classes": [printable(label) for label in embeddings.classes],
        "names": [printable(embeddings.ids[row]) for row in found.rows.tolist()],
        "heights": small.sizes[:, 0].tolist(),
        "widths": small.sizes[:, 1].tolist(),
        "cell": small.cell,
        "sheets": list(small.sheets),
    }
    # Inside of a script element only "<" could end it.
    document = json.dumps(data, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    facts = [
        ("images", shown),
        ("method", found.words),
        ("model", about.model),
        ("weights", about.weights or ""),
        ("layer", f"{about.layer}, {embeddings.dimension:,} features"),
        ("embeddings", str(embeddings.path)),
    ]
    rows = "".join(f"<div><dt>{escape(term)}</dt><dd>{escape(value)}</dd></div>" for term, value in facts if value)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; \
script-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{escape(name)}: map of {shown}</title>
<style>{PAGE}{STYLE}{EXTRA}</style>
</head>
<body>
<main>
<header>
<p class="over">striate · map</p>
<h1>{escape(name)}</h1>
<p class="sub"><b>{escape(shown)}</b> by <b>{escape(model)}</b>, {escape(found.words)}</p>
</header>
<section class="board scatter">
<div class="tools" hidden><button type="button" id="in" aria-label="zoom in">+</button><button type="button" id="out" \
aria-label="zoom out">&minus;</button><button type="button" id="whole">Whole map</button><button type="button" \
id="pictures" aria-pressed="false">Pictures</button></div>
<div class="both"><div class="plot" id="plot">{scatter(f"Map of {name}", groups)}<canvas id="overlay" \
aria-hidden="true"></canvas><div class="card" id="card" hidden><canvas id="thumbnail"></canvas><p class="name"></p>\
<p class="label"></p></div></div>
{_legend(groups)}</div>
<p class="hint" id="hint">{escape(MEANING[found.method])}<span class="keys" hidden> Arrow keys go from image to image; \
+, &minus; and the wheel with Ctrl zoom; dragging moves; 0 shows the whole map.</span></p>
<p class="unseen" role="status" id="said"></p>
</section>
<section id="about"><h2>About</h2><dl class="facts">{rows}</dl></section>
</main>
<script type="application/json" id="data">{document}</script>
<script>{SCRIPT}</script>
</body>
</html>
"""


def _groups(
    classes: tuple[str, ...], labels: "np.ndarray[tuple[int], np.dtype[np.int64]]", points: "np.ndarray"
) -> tuple[list[Group], list[int]]:
    """The classes in their order, each with a mark while there are marks; the rest together; and each point's group."""
    counts = np.bincount(labels[labels >= 0], minlength=len(classes))
    present = np.flatnonzero(counts)
    marked = sorted(present[np.argsort(-counts[present], kind="stable")][:MARKS].tolist())
    group_of = {label: number for number, label in enumerate(marked)}
    groups = [
        Group(name=classes[label], points=points[labels == label], mark=number) for label, number in group_of.items()
    ]
    rest = ~np.isin(labels, marked)
    if rest.any():
        others = len(present) - len(marked)
        name = "all images" if not groups else f"{others:,} more classes" if others else "without a class"
        if groups and others and (labels < 0).any():
            name += ", and images without"
        groups.append(Group(name=name, points=points[rest], mark=OTHERS if groups else 0))
    return groups, [group_of.get(label, len(marked)) for label in labels.tolist()]


def _legend(groups: list[Group]) -> str:
    if len(groups) < 2:
        return ""
    items = "".join(
        f'<li><button type="button" aria-pressed="true" data-group="{number}">{swatch(group.mark)}<span '
        f'title="{escape(group.name)}">{escape(group.name)}</span><small>{len(group.points):,}</small></button></li>'
        for number, group in enumerate(groups)
    )
    return f'<ul class="legend" aria-label="Classes">{items}</ul>'


EXTRA = """
.board { padding: 16px; position: relative; }
.both { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 220px); gap: 24px; align-items: start; }
.both > :only-child { grid-column: 1 / -1; max-width: 860px; margin: 0 auto; width: 100%; }
.plot { position: relative; border-radius: 8px; overflow: hidden; background: var(--ground); user-select: none;
  cursor: crosshair; }
.plot:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.plot.dragged { cursor: grabbing; }
#overlay { position: absolute; inset: 0; width: 100%; height: 100%; pointer-events: none; }
.tools { display: flex; flex-wrap: wrap; gap: 8px; margin-bottom: 12px; }
.tools[hidden] { display: none; }
.tools button { font: inherit; font-size: 14px; color: var(--ink); background: var(--paper);
  border: 1px solid var(--line); border-radius: 8px; min-width: 36px; padding: 4px 12px; cursor: pointer; }
.tools button:hover { border-color: var(--muted); }
.tools button[aria-pressed="true"] { border-color: var(--accent); color: var(--accent); }
button:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.legend { list-style: none; margin: 0; padding: 0; font-size: 14px; }
.legend button { all: unset; box-sizing: border-box; width: 100%; display: flex; align-items: center; gap: 8px;
  padding: 3px 6px; border-radius: 6px; cursor: pointer; }
.legend button:hover { background: var(--ground); }
.legend button:focus-visible { outline: 2px solid var(--accent); }
.legend svg { flex: none; }
.legend span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.legend small { margin-left: auto; color: var(--muted); font-variant-numeric: tabular-nums; }
.legend [aria-pressed="false"] { opacity: .45; text-decoration: line-through; }
.scatter .ring { stroke: var(--ink); }
.scatter .ring, .scatter .core { stroke-opacity: 1; }
.card { position: absolute; width: 176px; padding: 8px; background: var(--paper); border: 1px solid var(--line);
  border-radius: 10px; box-shadow: 0 6px 24px #0003; pointer-events: none; font-size: 13px; line-height: 1.4; }
.card[hidden] { display: none; }
.card canvas { display: block; width: 100%; aspect-ratio: 1; border-radius: 4px; background: var(--ground); }
.card p { margin: 6px 0 0; overflow-wrap: anywhere; display: -webkit-box; -webkit-line-clamp: 2;
  -webkit-box-orient: vertical; overflow: hidden; }
.card .label { margin: 0; color: var(--muted); }
.hint { color: var(--muted); font-size: 14px; margin: 14px 4px 0; max-width: 90ch; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); margin: 0; }
@media (max-width: 820px) { .both { grid-template-columns: minmax(0, 1fr); }
  .legend { columns: 2; } }
@media (max-width: 560px) { .card { width: 112px; padding: 6px; font-size: 12px; } }
@media print { .tools, .keys { display: none; } }
"""

SCRIPT = """
const data = JSON.parse(document.getElementById("data").textContent);
const byId = id => document.getElementById(id);
const plot = byId("plot"), svg = plot.querySelector("svg"), paths = [...svg.querySelectorAll(".dots")];
const overlay = byId("overlay"), card = byId("card"), thumbnail = byId("thumbnail");
const count = data.x.length, xs = data.x.map(x => x / 10), ys = data.y.map(y => y / 10);
const whole = 1000, closest = whole / 64; // sides of the view
const sheets = data.sheets.map(source => { const image = new Image(); image.src = source; return image; });
const hidden = new Set();
let view = { x: 0, y: 0, side: whole }, chosen = -1, pictures = false;

document.querySelectorAll("[hidden]:not(.card)").forEach(part => part.hidden = false);
plot.tabIndex = 0;
plot.setAttribute("role", "group");
plot.setAttribute("aria-label", "Map of images");
plot.setAttribute("aria-describedby", "hint");
const marks = ["ring", "core"].map(name => {
  const path = document.createElementNS(svg.namespaceURI, "path");
  path.setAttribute("class", name);
  path.setAttribute("stroke-linecap", "round");
  svg.append(path);
  return path;
});

const sideOnScreen = () => svg.getBoundingClientRect().width;
const onScreen = (i, scale = sideOnScreen() / view.side) => [(xs[i] - view.x) * scale, (ys[i] - view.y) * scale];
const isShown = i => !hidden.has(data.group[i]);

function draw(context, i, x, y, width, height) {
  const sheet = sheets[i >> 10];
  if (!sheet || !sheet.complete || !data.heights[i]) return;
  const cell = data.cell, place = i & 1023, w = data.widths[i], h = data.heights[i];
  const left = (place & 31) * cell + ((cell - w) >> 1), top = (place >> 5) * cell + ((cell - h) >> 1);
  const scale = Math.min(width / w, height / h);
  context.imageSmoothingEnabled = cell > 32;
  const room = [x + (width - w * scale) / 2, y + (height - h * scale) / 2, w * scale, h * scale];
  const edge = cell > 32 && w > 4 && h > 4 ? .5 : 0; // smoothing would mix in what lies beside
  context.drawImage(sheet, left + edge, top + edge, w - 2 * edge, h - 2 * edge, ...room);
}

let waiting = false;
function show() {
  if (!waiting) queueMicrotask(() => { waiting = false; render(); });
  waiting = true;
}

function render() {
  svg.setAttribute("viewBox", `${view.x} ${view.y} ${view.side} ${view.side}`);
  const side = sideOnScreen(), dots = window.devicePixelRatio || 1;
  overlay.width = overlay.height = Math.round(side * dots);
  const context = overlay.getContext("2d");
  context.scale(dots, dots);
  if (pictures) {
    const alone = Math.max(10, Math.min(28, 1.4 * side / Math.sqrt(count))); // on the whole map, without much overlap
    const size = Math.min(80, alone * (whole / view.side) ** .7), scale = side / view.side;
    const colours = paths.map(path => getComputedStyle(path).stroke);
    for (let i = 0; i < count; i++) {
      if (!isShown(i)) continue;
      const [x, y] = onScreen(i, scale);
      if (x < -size || y < -size || x > side + size || y > side + size) continue;
      if (paths.length > 1) {
        context.fillStyle = colours[data.group[i]];
        context.fillRect(x - size / 2 - 1.5, y - size / 2 - 1.5, size + 3, size + 3);
      }
      draw(context, i, x - size / 2, y - size / 2, size, size);
    }
  }
  svg.style.opacity = pictures ? .35 : 1;
  const place = chosen < 0 ? "" : `M${xs[chosen]} ${ys[chosen]}h0`;
  marks.forEach((mark, k) => {
    mark.setAttribute("d", place);
    mark.setAttribute("stroke-width", k ? 10 : 16);
    if (chosen >= 0 && k) mark.setAttribute("stroke", paths[data.group[chosen]].getAttribute("stroke"));
  });
  card.hidden = chosen < 0;
  if (chosen < 0) return;
  const [x, y] = onScreen(chosen), own = thumbnail.getContext("2d");
  thumbnail.width = thumbnail.height = 160 * dots;
  draw(own, chosen, 0, 0, 160 * dots, 160 * dots);
  if (!data.heights[chosen]) {
    own.font = `${13 * dots}px system-ui, sans-serif`;
    own.fillStyle = getComputedStyle(card).color;
    own.textAlign = "center";
    own.fillText("not there", 80 * dots, 84 * dots);
  }
  const right = x + 16 + card.offsetWidth <= side;
  card.style.left = `${Math.max(4, right ? x + 14 : x - 14 - card.offsetWidth)}px`;
  card.style.top = `${Math.max(4, Math.min(y - 24, side - card.offsetHeight - 4))}px`;
}

function choose(i, aloud) {
  if (i === chosen) return;
  chosen = i;
  if (i >= 0) {
    const label = data.label[i] < 0 ? "" : data.classes[data.label[i]];
    card.querySelector(".name").textContent = data.names[i];
    card.querySelector(".label").textContent = label;
    if (aloud) byId("said").textContent = label ? `${data.names[i]}, ${label}` : data.names[i];
  }
  show();
}

function look(x, y, side) {
  side = Math.max(closest, Math.min(whole, side));
  view = { x: Math.max(0, Math.min(whole - side, x)), y: Math.max(0, Math.min(whole - side, y)), side };
  show();
}
// The point of the map at (across, down), shares of the view, stays where it is: the chosen image, or the middle.
const along = (value, from) => chosen < 0 ? .5 : Math.max(0, Math.min(1, (value[chosen] - from) / view.side));
const zoom = (factor, across = along(xs, view.x), down = along(ys, view.y)) => {
  const side = Math.max(closest, Math.min(whole, view.side * factor));
  look(view.x + (view.side - side) * across, view.y + (view.side - side) * down, side);
};

function nearest(event) {
  const box = svg.getBoundingClientRect(), scale = view.side / box.width;
  const x = view.x + (event.clientX - box.left) * scale, y = view.y + (event.clientY - box.top) * scale;
  let best = -1, least = (24 * scale) ** 2;
  for (let i = 0; i < count; i++) {
    const distance = (xs[i] - x) ** 2 + (ys[i] - y) ** 2;
    if (distance < least && isShown(i)) { best = i; least = distance; }
  }
  return best;
}

let drag = null;
plot.addEventListener("pointerdown", event => {
  if (event.pointerType === "mouse") drag = { x: event.clientX, y: event.clientY, view };
  choose(nearest(event), true);
});
plot.addEventListener("pointermove", event => {
  if (!drag) return choose(nearest(event));
  const scale = drag.view.side / sideOnScreen();
  plot.classList.add("dragged");
  look(drag.view.x - (event.clientX - drag.x) * scale, drag.view.y - (event.clientY - drag.y) * scale, drag.view.side);
});
addEventListener("pointerup", () => { drag = null; plot.classList.remove("dragged"); });
plot.addEventListener("pointerleave", event => { if (event.pointerType === "mouse") choose(-1); });
plot.addEventListener("wheel", event => {
  if (!event.ctrlKey && !event.metaKey) return;
  event.preventDefault();
  const box = svg.getBoundingClientRect();
  zoom(event.deltaY > 0 ? 1.25 : .8, (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
}, { passive: false });

// The nearest image in a direction: what lies aside counts double.
function step(dx, dy) {
  const x = chosen < 0 ? view.x + view.side / 2 : xs[chosen], y = chosen < 0 ? view.y + view.side / 2 : ys[chosen];
  let best = -1, least = Infinity;
  for (let i = 0; i < count; i++) {
    if (i === chosen || !isShown(i)) continue;
    const ahead = (xs[i] - x) * dx + (ys[i] - y) * dy, aside = Math.abs((xs[i] - x) * dy - (ys[i] - y) * dx);
    const distance = chosen < 0 ? Math.hypot(ahead, aside) : Math.hypot(ahead, 2 * aside);
    if ((chosen < 0 || ahead > aside / 2) && distance < least) { best = i; least = distance; }
  }
  if (best < 0) return;
  const outside = (value, from) => value < from || value > from + view.side;
  choose(best, true);
  if (outside(xs[best], view.x) || outside(ys[best], view.y))
    look(xs[best] - view.side / 2, ys[best] - view.side / 2, view.side);
}
const keys = { ArrowLeft: () => step(-1, 0), ArrowRight: () => step(1, 0), ArrowUp: () => step(0, -1),
  ArrowDown: () => step(0, 1), "+": () => zoom(.8), "=": () => zoom(.8), "-": () => zoom(1.25),
  0: () => look(0, 0, whole), Escape: () => choose(-1) };
plot.addEventListener("keydown", event => {
  if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  keys[event.key]();
});

byId("in").addEventListener("click", () => zoom(.67));
byId("out").addEventListener("click", () => zoom(1.5));
byId("whole").addEventListener("click", () => look(0, 0, whole));
byId("pictures").addEventListener("click", event => {
  pictures = !pictures;
  event.currentTarget.setAttribute("aria-pressed", pictures);
  show();
});
for (const button of document.querySelectorAll(".legend button")) {
  const group = Number(button.dataset.group);
  const alone = on => paths.forEach((path, k) => path.classList.toggle("dim", on && k !== group));
  for (const begin of ["pointerenter", "focus"]) button.addEventListener(begin, () => alone(true));
  for (const end of ["pointerleave", "blur"]) button.addEventListener(end, () => alone(false));
  button.addEventListener("click", () => {
    hidden.has(group) ? hidden.delete(group) : hidden.add(group);
    button.setAttribute("aria-pressed", !hidden.has(group));
    paths[group].style.display = hidden.has(group) ? "none" : "";
    if (chosen >= 0 && !isShown(chosen)) choose(-1);
    show();
  });
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
addEventListener("resize", show);
sheets.forEach(sheet => sheet.addEventListener("load", show));
show();
"""
