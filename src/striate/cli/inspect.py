"""``striate inspect``."""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import click

from striate.cli.output import print_json, print_table
from striate.errors import UsageError

if TYPE_CHECKING:
    from striate.analysis.effective import SizesComparison
    from striate.analysis.inspection import InspectedStage, Inspection, Layer
    from striate.analysis.tables import Row
    from striate.runs.inspecting import Subject

ROWS = 60  # layers shown without --depth; a deeper tree is folded until it has no more
WIDE = 1000  # columns where nobody reads on a terminal


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option("--input", "images", metavar="HxW[xC]", help="size of the images  [the model's own]")
@click.option("--classes", type=click.IntRange(2), help="number of classes  [the model's own]")
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True, help="images that the memory is for")
@click.option(
    "--depth", type=click.IntRange(1), help=f"levels of the tree that are shown  [as many as give {ROWS} rows]"
)
@click.option("--measure", is_flag=True, help="measure the peak memory on this machine beside the prediction")
@click.option("--verify", is_flag=True, help="hold the model against the figures of its paper")
@click.option(
    "--diagram", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="draw the network (.svg, .png)"
)
@click.option(
    "--field",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="IMAGE",
    help="measure the effective receptive field on an image and draw it into --out",
)
@click.option("--stage", "stages", multiple=True, metavar="NAME", help="only these maps, for --field and --data")
@click.option("--data", metavar="DATA", help="compare the receptive fields with the sizes of what is in DATA")
@click.option("--root", type=click.Path(path_type=Path), help="folder that holds a known data set, for --data")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("field.png"),
    show_default=True,
    help="picture that --field writes",
)
@click.option("--json", "as_json", is_flag=True, help="one JSON document on standard output")
@click.option("--csv", "as_csv", is_flag=True, help="one line per layer, as CSV")
@click.option("--markdown", is_flag=True, help="the tree as a Markdown table")
def command(
    models: tuple[str, ...],
    images: str | None,
    classes: int | None,
    batch: int,
    depth: int | None,
    measure: bool,
    verify: bool,
    diagram: Path | None,
    field: Path | None,
    stages: tuple[str, ...],
    data: str | None,
    root: Path | None,
    out: Path,
    as_json: bool,
    as_csv: bool,
    markdown: bool,
) -> None:
    """Show what a network is made of: layers, shapes, parameters, compute, memory, receptive fields.

    MODEL is a name ('striate models'), timm:NAME, a layer pattern, a run or a model file. Two are put side by side,
    more (as in 'resnet*' or '*') in one table. No weights are allocated. See also 'striate inspect conv'.
    """
    if as_json + as_csv + markdown > 1:
        raise UsageError("--json, --csv and --markdown are three answers: ask for one.")
    from striate.runs.inspecting import expand, inspect_subject, parse_input, subject

    names = expand(models)
    size, channels = parse_input(images) if images else (None, None)
    if verify:
        _verify(names, as_json)
        return
    if len(names) > 1:
        if as_csv or markdown or measure or depth or diagram or field or data:
            raise UsageError(
                "--csv, --markdown, --measure, --depth, --diagram, --field and --data show one model; you named "
                "several."
            )
        found = [
            inspect_subject(
                subject(name, size=size, channels=channels, classes=classes), batch=batch if len(names) == 2 else None
            )
            for name in names
        ]
        if as_json:
            documents = [
                {key: value for key, value in inspection.to_json().items() if key not in ("schema", "layers")}
                for inspection in found
            ]
            print_json({"schema": "striate.inspections/1", "models": documents})
        elif len(found) == 2:
            _side_by_side(found)
        else:
            _many(found)
        return
    looking = field is not None or data is not None
    seen = subject(names[0], size=size, channels=channels, classes=classes, weights=measure or looking)
    inspection = inspect_subject(seen, batch=None if looking or diagram else batch)
    if diagram is not None:
        _draw(inspection, diagram)
    if looking:
        _fields(seen, inspection, field, stages, data, root, out, as_json)
    if looking or diagram:
        return
    measured: dict[str, int] = {}
    if measure:
        from striate.analysis.memory import measure_memory

        measured["inference"] = measure_memory(seen.network, seen.images, batch=batch, mode="inference")
        for optimizer in ("sgd", "momentum", "adam"):
            measured[optimizer] = measure_memory(
                seen.network, seen.images, batch=batch, mode="training", optimizer=optimizer
            )
    if as_json:
        print_json(inspection.to_json() | ({"measured_memory": measured} if measured else {}))
    elif as_csv:
        from striate.analysis.tables import to_csv

        click.echo(to_csv(inspection), nl=False)
    elif markdown:
        from striate.analysis.tables import to_markdown

        click.echo(to_markdown(inspection, depth), nl=False)
    else:
        _layers(inspection, depth)
        _stages(inspection)
        _totals(inspection, measured)


def _draw(inspection: "Inspection", file: Path) -> None:
    from striate.analysis.outline import outline
    from striate.files import replacing, write_text
    from striate.viz.diagram import diagram_png, diagram_svg

    if file.suffix.lower() not in (".svg", ".png"):
        raise UsageError(f"--diagram {file}: a diagram is an .svg or a .png file.")
    blocks = outline(inspection)
    if file.suffix.lower() == ".svg":
        write_text(file, diagram_svg(inspection.model, blocks))
    else:
        with replacing(file) as temporary:
            diagram_png(inspection.model, blocks).save(temporary, format="PNG")
    click.echo(f"Drawn: {file}", err=True)


def _fields(
    seen: "Subject",
    inspection: "Inspection",
    image: Path | None,
    stages: Sequence[str],
    data: str | None,
    root: Path | None,
    out: Path,
    as_json: bool,
) -> None:
    from striate.analysis.tables import field_text
    from striate.files import replacing
    from striate.runs.inspecting import compare_with_data, measure_fields
    from striate.viz.receptive import SeenField, draw_fields

    found = measure_fields(seen, inspection, image=image, stages=stages)
    comparisons: list[SizesComparison] = []
    if data is not None:
        from striate.data.open import open_dataset

        comparisons = compare_with_data(seen, found.fields, open_dataset(data, root=root))
    if found.image is not None:
        shown = [
            SeenField(
                stage=field.stage,
                influence=field.influence,
                effective=field.size,
                theoretical=None if field.theoretical is None else field.theoretical.size,
                box=field.box,
            )
            for field in found.fields
        ]
        with replacing(out) as temporary:
            draw_fields(found.image, shown).save(temporary, format="PNG")
        click.echo(f"Drawn: {out}", err=True)
    if as_json:
        print_json(
            {
                "schema": "striate.fields/1",
                "model": inspection.model,
                "input": list(inspection.input),
                "fields": [
                    {
                        "stage": field.stage,
                        "effective": field.size,
                        "theoretical": None if field.theoretical is None else field.theoretical.to_json(),
                    }
                    for field in found.fields
                ],
                "data": [asdict(row) for row in comparisons],
            }
        )
        return
    print_table(
        ("stage", "theoretical field", "effective field", "share"),
        [
            (
                field.stage,
                field_text(field.theoretical),
                f"{field.size:.0f}x{field.size:.0f}",
                "" if field.share is None else f"{field.share:.0%}",
            )
            for field in found.fields
        ],
        right=("share",),
    )
    for row in comparisons:
        click.echo(row.sentence)


def _layers(inspection: "Inspection", depth: int | None) -> None:
    from striate.analysis.tables import field_text, fold, shape_text

    rows = fold(inspection, depth)
    levels = max(row.depth for row in rows)
    while depth is None and len(rows) > ROWS and levels > 1:
        levels -= 1
        rows = fold(inspection, levels)
    columns: dict[str, list[str]] = {
        "layer": ["  " * (row.depth - 1) + row.name for row in rows],
        "kind": [_kind(row) for row in rows],
        "output": [shape_text(row.output_shape) if row.output_shape is not None else "not run" for row in rows],
        "parameters": [_count(row.parameters) for row in rows],
        "MACs": [_count(row.macs) for row in rows],
        "activations": [_count(row.activations) for row in rows],
        "sees": [field_text(row.receptive_field) for row in rows],
    }
    _fit(columns, ("sees", "activations", "kind"))
    click.echo(f"{inspection.model}: {shape_text(inspection.input)} images")
    print_table(
        tuple(columns), list(zip(*columns.values(), strict=True)), right=("parameters", "MACs", "activations", "sees")
    )


def _fit(columns: dict[str, list[str]], spare: Sequence[str]) -> None:
    """Take away columns, then letters of the names, until the table is no wider than the terminal."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDE

    def taken() -> int:
        return sum(max(len(name), *map(len, cells)) + 2 for name, cells in columns.items()) + 1

    for name in spare:
        if taken() > width:
            del columns[name]
    over = taken() - width
    if over > 0:
        room = max(8, max(map(len, columns["layer"])) - over)
        columns["layer"] = [name if len(name) <= room else name[: room - 1] + "…" for name in columns["layer"]]


def _kind(row: "Row") -> str:
    layer: Layer | None = row.layer
    if layer is None or layer.kernel is None:
        return row.type
    parts = [row.type, "x".join(map(str, layer.kernel))]
    if layer.stride is not None and set(layer.stride) != {1}:
        parts.append("/" + "x".join(str(side) for side in dict.fromkeys(layer.stride)))
    if layer.dilation is not None and set(layer.dilation) != {1}:
        parts.append(f"dilation {layer.dilation[0]}")
    if layer.groups not in (None, 1):
        parts.append(f"groups {layer.groups}")
    return " ".join(parts)


def _stages(inspection: "Inspection") -> None:
    from striate.analysis.tables import field_text, shape_text

    rows = [
        (
            stage.name,
            shape_text(stage.shape),
            str(stage.stride) if stage.stride else "",
            field_text(stage.receptive_field),
            "" if stage.receptive_field is None else "x".join(f"{side:g}" for side in stage.receptive_field.jump),
            "" if stage.receptive_field is None else ", ".join(f"{side:g}" for side in stage.receptive_field.offset),
        )
        for stage in inspection.stages
    ]
    if rows:
        print_table(("stage", "output", "stride", "receptive field", "jump", "first centre"), rows, right=("stride",))


def _totals(inspection: "Inspection", measured: dict[str, int]) -> None:
    frozen = inspection.parameters - inspection.trainable_parameters
    rows = [
        ("parameters", f"{inspection.parameters:,}" + (f" ({frozen:,} frozen)" if frozen else "")),
        ("multiply-accumulates", f"{inspection.macs:,}"),
        ("FLOPs, two per multiply-accumulate", f"{inspection.flops:,}"),
        ("activations", f"{inspection.activations:,} elements"),
        *_memory(inspection, measured),
    ]
    print_table(("total for one image", ""), rows, right=("",))
    for item in inspection.uncounted:
        click.echo(f"not counted: {item.operation} in {item.layer or 'the network'}, {item.times} times")


def _memory(inspection: "Inspection", measured: dict[str, int]) -> list[tuple[str, str]]:
    memory = inspection.memory
    if memory is None:
        return []
    batch = f"batch of {memory.batch}, float32"
    words = {"sgd": "plain SGD", "momentum": "SGD with momentum", "adam": "Adam"}

    def beside(key: str) -> str:
        return f" (measured {_bytes(measured[key])})" if key in measured else ""

    return [
        ("memory of the weights", _bytes(memory.weights)),
        (f"activations at inference, {batch}", _bytes(memory.activations_inference)),
        (f"activations kept for training, {batch}", _bytes(memory.activations_training)),
        ("state of Adam (of momentum: half)", _bytes(memory.optimizer["adam"])),
        ("peak at inference", _bytes(memory.inference_peak) + beside("inference")),
        *(
            (f"peak in training, {words[key]}", _bytes(peak) + beside(key))
            for key, peak in memory.training_peak.items()
        ),
    ]


def _side_by_side(found: "Sequence[Inspection]") -> None:
    from striate.analysis.tables import shape_text

    first, second = found

    def figures(inspection: "Inspection") -> dict[str, int]:
        memory = inspection.memory
        assert memory is not None
        return {
            "parameters": inspection.parameters,
            "multiply-accumulates": inspection.macs,
            "FLOPs, two per multiply-accumulate": inspection.flops,
            "activations": inspection.activations,
            "layers": len(inspection.layers),
            "bytes of the weights": memory.weights,
            f"peak bytes at inference, batch {memory.batch}": memory.inference_peak,
            f"peak bytes in training, SGD with momentum, batch {memory.batch}": memory.training_peak["momentum"],
        }

    ours, theirs = figures(first), figures(second)
    rows = [("input", shape_text(first.input), shape_text(second.input), "")]
    rows += [
        (name, f"{count:,}", f"{theirs[name]:,}", f"{theirs[name] / count:.2f}" if count else "")
        for name, count in ours.items()
    ]
    for number, (one, other) in enumerate(zip_longest(first.stages, second.stages), start=1):
        rows.append((f"stage {number}", _stage(one), _stage(other), ""))
    heads = (first.model, second.model if second.model != first.model else f"{second.model} again")
    print_table(("", *heads, "second / first"), rows, right=(*heads, "second / first"))


def _stage(stage: "InspectedStage | None") -> str:
    from striate.analysis.tables import field_text, shape_text

    return "" if stage is None else f"{stage.name} {shape_text(stage.shape)} sees {field_text(stage.receptive_field)}"


def _many(found: "Sequence[Inspection]") -> None:
    from striate.analysis.tables import field_text, shape_text

    rows = [
        (
            inspection.model,
            shape_text(inspection.input),
            _count(inspection.parameters),
            _count(inspection.macs),
            _count(inspection.activations),
            str(len(inspection.layers)),
            field_text(inspection.stages[-1].receptive_field) if inspection.stages else "",
            str(sum(item.times for item in inspection.uncounted) or ""),
        )
        for inspection in found
    ]
    columns = ("model", "input", "parameters", "MACs", "activations", "layers", "last stage sees", "not counted")
    print_table(columns, rows, right=columns[2:])


def _verify(names: Sequence[str], as_json: bool) -> None:
    from striate.analysis.verify import verify
    from striate.models.published import errors

    checks = [(name, check) for name in names for check in verify(name)]
    wrong = [check for _, check in checks if not check.held and not check.row.disputed]
    if as_json:
        document = {
            "schema": "striate.verification/1",
            "held": not wrong,
            "checks": [{"model": name} | check.to_json() for name, check in checks],
        }
        print_json(document)
    else:
        rows = [
            (
                name,
                check.row.layer or "all",
                check.row.figure.replace("_", " "),
                _value(check.row.value) + (f" ± {check.row.within:,}" if check.row.within else ""),
                _value(check.ours),
                "held" if check.held else "not held",
                check.row.source + (f". {check.row.disputed}" if check.row.disputed else ""),
            )
            for name, check in checks
        ]
        if rows:
            print_table(
                ("model", "layer", "figure", "published", "here", "", "source"), rows, right=("published", "here")
            )
        for name in dict.fromkeys(names):
            if not any(name == other for other, _ in checks):
                click.echo(f"{name}: no published figure is known here.")
            for row in errors(name):
                click.echo(f"{name}: published error {row.error:g}% on {row.data} ({row.source}); not measured here.")
        held = sum(check.held for _, check in checks)
        disputed = sum(bool(check.row.disputed) for _, check in checks)
        click.echo(
            f"{held} of {len(checks)} published figures hold"
            + (f"; {disputed} are disputed, for the reason beside them." if disputed else ".")
        )
    if wrong:
        sys.exit(1)


def _value(value: int | tuple[int, ...]) -> str:
    return f"{value:,}" if isinstance(value, int) else " x ".join(map(str, value))


def _count(number: int) -> str:
    return f"{number:,}" if number else ""


def _bytes(number: int) -> str:
    return f"{number / 2**20:,.1f} MiB" if number >= 2**20 else f"{number / 2**10:,.1f} KiB"
