"""An inspection as a tree that folds by depth, as CSV and as Markdown."""

import csv
import io
from dataclasses import dataclass, field

from striate.analysis.inspection import Inspection, Layer
from striate.analysis.receptive_field import ReceptiveField
from striate.analysis.trace import Shape


@dataclass(frozen=True, kw_only=True)
class Row:
    """A module with everything inside it, or one layer."""

    path: str  # "backbone.stage1.0"; of an operation "backbone.stage1.0 (add)"
    depth: int  # 1 for what stands directly in the network
    type: str
    layers: tuple[Layer, ...]  # all layers inside, in the order in which they run

    @property
    def name(self) -> str:
        """The last part of the path."""
        return _parts(self.path)[-1]

    @property
    def layer(self) -> Layer | None:
        """The layer, where the row stands for one; None for a module of several."""
        return self.layers[0] if all(layer.name == self.path for layer in self.layers) else None

    @property
    def output_shape(self) -> Shape | None:
        """What comes out of the last layer that ran."""
        return self._last.output_shape

    @property
    def receptive_field(self) -> ReceptiveField | None:
        """Of what comes out of the last layer that ran."""
        return self._last.receptive_field

    @property
    def parameters(self) -> int:
        """Of all layers inside."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def trainable_parameters(self) -> int:
        """Of all layers inside."""
        return sum(layer.trainable_parameters for layer in self.layers)

    @property
    def macs(self) -> int:
        """Of all layers inside."""
        return sum(layer.macs for layer in self.layers)

    @property
    def activations(self) -> int:
        """Of all layers inside."""
        return sum(layer.activations for layer in self.layers)

    @property
    def _last(self) -> Layer:
        ran = [layer for layer in self.layers if layer.output_shape is not None]
        return (ran or self.layers)[-1]


@dataclass
class _Node:
    path: str
    layers: list[Layer] = field(default_factory=list[Layer])
    children: dict[str, "_Node"] = field(default_factory=dict[str, "_Node"])


def fold(inspection: Inspection, depth: int | None = None) -> list[Row]:
    """The tree of modules, each before what is inside it; children in the order in which they first run.

    Args:
        inspection: of a network.
        depth: rows that lie deeper are folded into the one above; None shows every layer.
    """
    root = _Node("")
    for position, layer in enumerate(inspection.layers):
        node = root
        parts = _parts(layer.name)
        for end, part in enumerate(parts, start=1):
            path = layer.name if end == len(parts) else ".".join(parts[:end])
            # Calls of one module share a row, operations of one name do not.
            key = f"{part} {position}" if part.startswith("(") else part
            node = node.children.setdefault(key, _Node(path))
            node.layers.append(layer)
    rows: list[Row] = []

    def walk(node: _Node, level: int) -> None:
        for child in node.children.values():
            kind = inspection.modules.get(child.path) or child.layers[0].type
            rows.append(Row(path=child.path, depth=level, type=kind, layers=tuple(child.layers)))
            if depth is None or level < depth:
                walk(child, level + 1)

    walk(root, 1)
    return rows


def _parts(path: str) -> list[str]:
    """``["backbone", "stage1", "(add)"]`` of ``"backbone.stage1 (add)"``."""
    module, _, operation = path.partition(" (")
    if not operation and module.startswith("("):
        return [module]
    return [*module.split("."), *([f"({operation}"] if operation else [])]


def shape_text(shape: tuple[int, ...] | None) -> str:
    """``"64x112x112"``."""
    return "" if shape is None else "x".join(map(str, shape))


def field_text(seen: ReceptiveField | None) -> str:
    """``"7x7"``, or ``"whole"``."""
    if seen is None:
        return ""
    return "whole" if seen.whole else shape_text(seen.size)


def value_text(value: int | tuple[int, ...]) -> str:
    """A figure of a paper: ``"60,000"``, or a shape with air, ``"64 x 112 x 112"``."""
    return f"{value:,}" if isinstance(value, int) else " x ".join(map(str, value))


def uncounted_lines(inspection: Inspection) -> list[str]:
    """One line for each operation that is in no sum."""
    return [
        f"not counted: {item.operation} in {item.layer or 'the network'}, {item.times} times"
        for item in inspection.uncounted
    ]


def to_csv(inspection: Inspection) -> str:
    """One line per layer, with a header; pairs are written ``3x3``, what a layer does not have is left empty.

    What could not be counted has no line: `uncounted_lines` says it.
    """
    text = io.StringIO()
    columns = (
        *("name", "type", "input_shape", "output_shape", "kernel", "stride", "padding", "dilation", "groups"),
        *("parameters", "trainable_parameters", "macs", "activations"),
        *("receptive_field", "jump", "offset"),
    )
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for layer in inspection.layers:
        seen = layer.receptive_field
        geometry = (layer.input_shape, layer.output_shape, layer.kernel, layer.stride, layer.padding, layer.dilation)
        counts = (layer.parameters, layer.trainable_parameters, layer.macs, layer.activations)
        floats = (
            ("", "") if seen is None else tuple("x".join(f"{x:g}" for x in pair) for pair in (seen.jump, seen.offset))
        )
        groups = "" if layer.groups is None else layer.groups
        writer.writerow(
            (layer.name, layer.type, *map(shape_text, geometry), groups, *counts, field_text(seen), *floats)
        )
    return text.getvalue()


def to_markdown(inspection: Inspection, depth: int | None = None) -> str:
    """A table of the tree down to ``depth``, the totals, and under it what they leave out."""
    heads = ("layer", "type", "output", "kernel", "stride", "parameters", "MACs", "activations", "receptive field")
    lines = [f"| {' | '.join(heads)} |", "|---|---|---|---|---|---:|---:|---:|---|"]
    for row in fold(inspection, depth):
        layer = row.layer
        cells = (
            f"{'&nbsp;' * 2 * (row.depth - 1)}{row.name}",
            row.type,
            shape_text(row.output_shape) if row.output_shape is not None else "not run",
            shape_text(layer.kernel) if layer else "",
            shape_text(layer.stride) if layer else "",
            f"{row.parameters:,}",
            f"{row.macs:,}",
            f"{row.activations:,}",
            field_text(row.receptive_field),
        )
        lines.append(f"| {' | '.join(cells)} |")
    totals = (f"{inspection.parameters:,}", f"{inspection.macs:,}", f"{inspection.activations:,}")
    lines.append(f"| **total** | | | | | {' | '.join(f'**{total}**' for total in totals)} | |")
    for line in uncounted_lines(inspection):
        lines += ["", line]
    return "\n".join(lines) + "\n"
