"""Write `docs/architectures/`: one page per architecture file, from its docstring, the golden tables and its layers.

    python docs/generate.py

A test holds the committed pages to what this gives.
"""

import importlib.util
import inspect
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import torch

from striate.models.backbones import lenet, perceptron, resnet_cifar
from striate.models.catalog import CATALOG, create
from striate.models.contract import Classifier

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "architectures"
FILES = (perceptron, lenet, resnet_cifar)


def _published() -> ModuleType:
    path = ROOT / "tests" / "golden" / "published_models.py"
    spec = importlib.util.spec_from_file_location("published_models", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["published_models"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    lines = [list(head), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    text = ["| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in lines]
    return "\n".join([text[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *text[1:]])


def _example(name: str, file: ModuleType) -> Classifier:
    """The network for the data of its paper: MNIST, or CIFAR-10 for the residual ones."""
    cifar = file is resnet_cifar
    with torch.device("meta"):
        return create(
            name, classes=10, channels=3 if cifar else 1, size=CATALOG[name].size or ((32, 32) if cifar else (28, 28))
        )


def _parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _layers(model: Classifier) -> str:
    """Every direct part of backbone and head with its output shape and parameters."""
    parts = [(f"backbone.{name}", part) for name, part in model.backbone.named_children()]
    head = list(model.head.named_children())
    parts += [(f"head.{name}", part) for name, part in head] if head else [("head", model.head)]
    parts = [
        (f"{name}.{inner}", module)
        for name, part in parts
        for inner, module in (part.named_children() if isinstance(part, torch.nn.ModuleList) else [("", part)])
    ]
    shapes: dict[str, str] = {}
    for name, part in parts:

        def note(_: object, __: object, output: torch.Tensor, name: str = name) -> None:
            shapes[name] = " x ".join(str(side) for side in output.shape[1:])

        part.register_forward_hook(note)
    model(torch.empty(1, model.channels, *model.size, device="meta"))
    rows = [(name.removesuffix("."), shapes[name], f"{_parameters(part):,}") for name, part in parts]
    return _table(("layer", "output", "parameters"), rows)


def page(file: ModuleType) -> str:
    """The page of one architecture file."""
    published = _published()
    names = list(file.VARIANTS)
    short = file.__name__.rsplit(".", 1)[-1]
    text = [f"# {short}", "", f"<!-- Written by docs/generate.py from src/striate/models/backbones/{short}.py. -->", ""]
    text += [inspect.cleandoc(file.__doc__ or ""), "", "## In the catalog", ""]
    sizes = {name: CATALOG[name].size or CATALOG[name].smallest for name in names}
    text.append(
        _table(
            ("name", "what it is", "images", "parameters"),
            (
                (
                    f"`{name}`",
                    CATALOG[name].summary,
                    ("only " if CATALOG[name].size else "from ") + "x".join(map(str, sizes[name])),
                    f"{_parameters(_example(name, file)):,}",
                )
                for name in names
            ),
        )
    )
    channels, size = _example(names[0], file).channels, _example(names[0], file).size
    text += ["", f"Parameters for 10 classes and {channels}-channel images"]
    text[-1] += f" of {size[0]}x{size[1]} pixels where any size is taken." if not CATALOG[names[0]].size else "."
    if any(CATALOG[name].size for name in names):
        text[-1] = f"Parameters for 10 classes and {channels}-channel images."
    text += ["", "## Published figures", "", "Held by `tests/golden/test_published_models.py`.", ""]
    rows = [
        (
            f"`{row.model}`",
            row.layer or "all",
            f"{row.count:,}" + (f" +- {row.within:,}" if row.within else ""),
            row.source,
        )
        for row in published.PARAMETERS
        if row.model in names
    ]
    text += [_table(("network", "layer", "parameters", "source"), rows), ""]
    connections = [
        (f"`{row.model}`", row.layer or "all", f"{row.count:,}", row.source)
        for row in published.CONNECTIONS
        if row.model in names
    ]
    if connections:
        text += [_table(("network", "layer", "connections", "source"), connections), ""]
    errors = [
        (f"`{row.model}`", row.data, f"{row.error:g}%", row.source)
        for row in published.TEST_ERRORS
        if row.model in names
    ]
    text += ["Published test errors:", ""]
    text += [_table(("network", "data", "test error", "source"), errors), "", "## Layers", ""]
    for name in names if file is not resnet_cifar else names[:1]:
        text += [f"`{name}`", "", _layers(_example(name, file)), ""]
    return "\n".join(text).rstrip() + "\n"


def pages() -> dict[str, str]:
    """File name and text of every page."""
    return {f"{file.__name__.rsplit('.', 1)[-1]}.md": page(file) for file in FILES}


if __name__ == "__main__":
    for file_name, content in pages().items():
        (FOLDER / file_name).write_text(content, encoding="utf-8")
        print(FOLDER.relative_to(ROOT) / file_name)
