"""Write `docs/architectures/`: one page per architecture file, from its docstring, the golden tables and its layers.

    python docs/generate.py

A test holds the committed pages to what this gives.
"""

import importlib
import inspect
from collections.abc import Iterable
from pathlib import Path

from torch import nn

from striate.analysis.tables import value_text
from striate.analysis.verify import output_shapes
from striate.models.catalog import CATALOG, parameters, published
from striate.models.contract import Classifier
from striate.models.published import connections, errors, rows

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "architectures"


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


if __name__ == "__main__":
    for file_name, content in pages().items():
        (FOLDER / file_name).write_text(content, encoding="utf-8")
        print(FOLDER.relative_to(ROOT) / file_name)
