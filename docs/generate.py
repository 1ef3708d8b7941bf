"""Write `docs/architectures/` and `docs/detectors/`: a page per file, from its docstring, figures and layers.

    python docs/generate.py

Tests hold the committed pages to what this gives.
"""

import importlib
import inspect
from collections.abc import Iterable
from pathlib import Path

from torch import nn

from striate.analysis.macs import macs
from striate.analysis.tables import value_text
from striate.analysis.trace import trace
from striate.analysis.verify import output_shapes
from striate.models.catalog import CATALOG, parameters, published
from striate.models.contract import Classifier, Detector
from striate.models.detectors import catalog as detectors
from striate.models.published import connections, errors, rows

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "architectures"
DETECTORS = ROOT / "docs" / "detectors"


def files() -> dict[str, list[str]]:
    """Module of every architecture file, with its names in the catalog."""
    found: dict[str, list[str]] = {}
    for name, line in CATALOG.items():
        found.setdefault(line.build.func.__module__, []).append(name)
    return found


def _table(head: Iterable[str], body: Iterable[Iterable[object]]) -> str:
    lines = [list(head), *([str(cell).replace("|", "\\|") for cell in row] for row in body)]
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    text = ["| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in lines]
    return "\n".join([text[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *text[1:]])


def _layers(model: Classifier) -> str:
    """Every direct part of backbone and head with its output shape and parameters."""
    parts = [(f"backbone.{name}", part) for name, part in model.backbone.named_children()]
    head = list(model.head.named_children())
    parts += [(f"head.{name}", part) for name, part in head] if head else [("head", model.head)]
    parts = [
        (f"{name}.{inner}" if inner else name, module)
        for name, part in parts
        for inner, module in (part.named_children() if isinstance(part, nn.ModuleList) else [("", part)])
    ]
    shapes = output_shapes(model, [name for name, _ in parts])
    body = [
        (name, value_text(shapes[name]), f"{sum(parameter.numel() for parameter in part.parameters()):,}")
        for name, part in parts
        if name in shapes and not isinstance(part, nn.Identity)  # a place left empty
    ]
    return _table(("layer", "output", "parameters"), body)


def _images(name: str) -> str:
    line = CATALOG[name]
    channels, height, width = line.images
    smallest = "only" if line.only_size else f"from {line.smallest[0]}x{line.smallest[1]}"
    return f"{height}x{width}x{channels}, {smallest}"


def page(module: str, names: list[str]) -> str:
    """The page of one architecture file."""
    short = module.rsplit(".", 1)[-1]
    text = [f"# {short}", "", f"<!-- Written by docs/generate.py from src/striate/models/backbones/{short}.py. -->", ""]
    text += [inspect.cleandoc(importlib.import_module(module).__doc__ or ""), "", "## In the catalog", ""]
    catalog = ((f"`{name}`", CATALOG[name].summary, _images(name), f"{parameters(name):,}") for name in names)
    text += [_table(("name", "what it is", "published images, sizes", "parameters"), catalog), ""]
    known = [row for row in rows() if row.model in names]
    if known:
        body = [
            (
                f"`{row.model}`",
                row.layer or "all",
                row.figure.replace("_", " "),
                value_text(row.value) + (f" +- {row.within:,}" if row.within else ""),
                row.source,
            )
            + ((row.disputed,) if any(row.disputed for row in known) else ())
            for row in known
        ]
        head = ("network", "layer", "figure", "published", "source")
        if any(row.disputed for row in known):
            head += ("why it does not hold",)
        text += ["## Published figures", "", "Held by `striate inspect NAME --verify` and by the tests.", ""]
        text += [_table(head, body), ""]
    counted = [
        (f"`{row.model}`", row.layer or "all", f"{row.count:,}", row.source)
        for row in connections()
        if row.model in names
    ]
    if counted:
        text += [_table(("network", "layer", "connections", "source"), counted), ""]
    wrong = [(f"`{row.model}`", row.data, f"{row.error:g}%", row.source) for row in errors() if row.model in names]
    if wrong:
        text += ["Published test errors:", "", _table(("network", "data", "test error", "source"), wrong), ""]
    first = min(names, key=parameters)
    text += ["## Layers", "", f"`{first}`; `striate inspect NAME` shows any of them, layer by layer.", ""]
    text += [_layers(published(first)), ""]
    return "\n".join(text).rstrip() + "\n"


def pages() -> dict[str, str]:
    """File name and text of every page."""
    return {f"{module.rsplit('.', 1)[-1]}.md": page(module, names) for module, names in files().items()}


# ---- detectors -------------------------------------------------------------------------------------------------------


def detector_files() -> dict[str, list[str]]:
    """Module of every detector's file, with its names in the catalog."""
    found: dict[str, list[str]] = {}
    for name in detectors.DETECTORS:
        found.setdefault(detectors.home(name), []).append(name)
    return found


def _work(network: Detector) -> dict[str, int]:
    """Multiply-accumulates of each direct part of a detector, in the order in which they run."""
    found: dict[str, int] = {}
    for operation in trace(network, (network.channels, *network.input_size)).operations:
        count = macs(operation)
        assert count is not None, f"{operation.name} is not counted"
        if count:
            part = operation.call.name.partition(".")[0]
            found[part] = found.get(part, 0) + count
    return found


def _parameters(module: nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in module.parameters()):,}"


def detector_page(module: str, names: list[str]) -> str:
    """The page of one detector's file."""
    short = module.rsplit(".", 1)[-1]
    text = [f"# {short}", "", f"<!-- Written by docs/generate.py from src/striate/models/detectors/{short}.py. -->", ""]
    text += [detectors.page(names[0]), "", "## In the catalog", ""]
    body: list[tuple[str, ...]] = []
    parts: list[tuple[str, ...]] = []
    for name in names:
        line, network = detectors.DETECTORS[name], detectors.published(name)
        work = _work(network)
        size = "x".join(map(str, network.input_size))
        only = " only" if line.only_size else " of a crop" if network.input_size != network.size else ""
        counts = (_parameters(network), f"{sum(work.values()):,}")
        body.append((f"`{name}`", line.summary, line.backbone, size + only, str(line.classes), *counts))
        if not parts:
            children = {part: child for part, child in network.named_children() if [*child.parameters()]}
            parts = [(part, _parameters(child), f"{work.get(part, 0):,}") for part, child in children.items()]
    head = ("name", "what it is", "backbone", "size", "classes", "parameters", "multiply-accumulates")
    text += [
        _table(head, body),
        "",
        "Of one image, with its raw outputs; `striate inspect NAME` shows every layer.",
        "",
    ]
    text += ["## Parts", "", f"`{names[0]}`:", "", _table(("part", "parameters", "multiply-accumulates"), parts), ""]
    return "\n".join(text).rstrip() + "\n"


def detector_index() -> str:
    """The list of all detectors."""
    body = [
        (f"[`{name}`]({module.rsplit('.', 1)[-1]}.md)", line.summary, line.backbone)
        for module, names in detector_files().items()
        for name in names
        for line in (detectors.DETECTORS[name],)
    ]
    text = ["# Detectors", "", "<!-- Written by docs/generate.py. -->", ""]
    text += ["`striate train DATA --model NAME --backbone B`; any backbone with the maps that a detector reads.", ""]
    return "\n".join([*text, _table(("name", "what it is", "published backbone"), body), ""])


def detector_pages() -> dict[str, str]:
    """File name and text of every page on detectors."""
    pages = {
        f"{module.rsplit('.', 1)[-1]}.md": detector_page(module, names) for module, names in detector_files().items()
    }
    return {"README.md": detector_index()} | pages


if __name__ == "__main__":
    for folder, written in ((FOLDER, pages()), (DETECTORS, detector_pages())):
        folder.mkdir(exist_ok=True)
        for file_name, content in written.items():
            (folder / file_name).write_text(content, encoding="utf-8")
            print((folder / file_name).relative_to(ROOT))
