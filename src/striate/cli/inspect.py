"""``striate inspect``."""

import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from striate.cli.output import print_json, print_table
from striate.errors import UsageError

if TYPE_CHECKING:
    from striate.analysis.effective import SizesComparison
    from striate.analysis.inspection import InspectedStage, Inspection, Layer
    from striate.analysis.tables import Row
    from striate.runs.inspecting import Subject

LOOKING = ("--field", "--data")
ONE_MODEL = ("--csv", "--markdown", "--measure", "--depth", "--diagram", *LOOKING)
# Flags, each with those that would do nothing beside it.
CLASHES: Mapping[str, Sequence[str]] = {
    "--verify": (
        "--input",
        "--classes",
        "--backbone",
        "--batch",
        "--out",
        "--stage",
        "--root",
        "--weights",
        *ONE_MODEL,
    ),
    "--json": ("--csv", "--markdown", "--depth"),
    "--csv": ("--markdown", "--depth", "--batch"),
    "--markdown": ("--batch",),
    "--measure": ("--csv", "--markdown", "--diagram", *LOOKING),
    "--field": ("--csv", "--markdown", "--depth", "--batch"),
    "--data": ("--csv", "--markdown", "--depth", "--batch"),
}
# Flags that do nothing without one of others.
NEEDS: Mapping[str, Sequence[str]] = {
    "--stage": LOOKING,
    "--root": ("--data",),
    "--out": ("--field",),
    "--weights": LOOKING,
    "--origin": ("--weights",),
    "--download": ("--weights",),
}
ROWS = 60  # layers shown without --depth; a deeper tree is folded until it has no more
WIDE = 1000  # columns where nobody reads on a terminal
NAME = 8  # letters that are left of a shortened name at least
WRAPPED = 16  # columns that text wraps in at least


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option("--input", "images", metavar="HxW[xC]", help="size of the images  [the model's own]")
@click.option("--classes", type=click.IntRange(2), help="number of classes  [the model's own]")
@click.option("--backbone", metavar="NAME", help="of a detector that is named  [the published one]")
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
    help="picture that --field writes  [field.png]",
)
@click.option(
    "--weights", metavar="FILE|OFFICIAL", help="weights of a named model, for --field and --data  [fresh, seed 0]"
)
@click.option("--origin", metavar="LIBRARY", help="whose names the weights have: torchvision, timm, ...")
@click.option("--download", is_flag=True, help="fetch official weights that are not there yet")
@click.option("--json", "as_json", is_flag=True, help="one JSON document on standard output")
@click.option("--csv", "as_csv", is_flag=True, help="one line per layer, as CSV")
@click.option("--markdown", is_flag=True, help="the tree as a Markdown table")
@click.pass_context
def command(
    ctx: click.Context,
    models: tuple[str, ...],
    images: str | None,
    classes: int | None,
    backbone: str | None,
    batch: int,
    depth: int | None,
    measure: bool,
    verify: bool,
    diagram: Path | None,
    field: Path | None,
    stages: tuple[str, ...],
    data: str | None,
    root: Path | None,
    out: Path | None,
    weights: str | None,
    origin: str | None,
    download: bool,
    as_json: bool,
    as_csv: bool,
    markdown: bool,
) -> None:
    """Show what a network is made of: layers, shapes, parameters, compute, memory, receptive fields.

    MODEL is a name ('striate models'), timm:NAME, a layer pattern, a run or a model file. Two are put side by side,
    more (as in 'resnet*' or '*') in one table. No weights are allocated. See also 'striate inspect conv'.
    """
    given = [
        parameter.opts[0]
        for parameter in ctx.command.params
        if isinstance(parameter, click.Option)
        and ctx.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
    ]
    _refuse(given)
    from striate.runs.inspecting import FRESH, expand, inspect_subject, parse_input, subject

    names = expand(models)
    size, channels = parse_input(images) if images else (None, None)
    if verify:
        _verify(names, as_json)
        return
    if len(names) > 1:
        single = [flag for flag in given if flag in ONE_MODEL]
        if single:
            raise UsageError(f"{', '.join(single)}: for one model only; you named {len(names)}.")
        if len(names) > 2 and "--batch" in given:
            raise UsageError(f"--batch: for one model or two, whose memory is shown; you named {len(names)}.")
        found = [
            inspect_subject(
                subject(name, size=size, channels=channels, classes=classes, backbone=backbone),
                batch=batch if len(names) == 2 else None,
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
    seen = subject(
        names[0],
        size=size,
        channels=channels,
        classes=classes,
        backbone=backbone,
        weights=(weights or FRESH) if looking else None,
        origin=origin,
        download=download,
    )
    inspection = inspect_subject(seen, batch=None if looking or (diagram and not as_json) else batch)
    if diagram is not None:
        _draw(inspection, diagram)
    if looking:
        _fields(seen, inspection, field, stages, data, root, out or Path("field.png"), as_json)
    if looking or (diagram and not (as_json or as_csv or markdown)):
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
        from striate.analysis.tables import to_csv, uncounted_lines

        click.echo(to_csv(inspection), nl=False)
        for line in uncounted_lines(inspection):
            click.echo(line, err=True)
    elif markdown:
        from striate.analysis.tables import to_markdown

        click.echo(to_markdown(inspection, depth), nl=False)
    else:
        _layers(inspection, depth)
        _stages(inspection)
        _totals(inspection, measured)


def _refuse(given: Sequence[str]) -> None:
    """Refuse flags that would do nothing."""
    for flag in given:
        idle = [other for other in CLASHES.get(flag, ()) if other in given]
        if idle:
            raise UsageError(f"{flag} does not go with {', '.join(idle)}: ask for one of them.")
        wanted = NEEDS.get(flag)
        if wanted and not any(other in given for other in wanted):
            raise UsageError(f"{flag} does nothing without {' or '.join(wanted)}.")


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
    skipped = 0
    if data is not None:
        from striate.data.open import open_dataset

        comparisons, skipped = compare_with_data(seen, found.fields, open_dataset(data, root=root))
    if found.image is not None:
        shown = [
            SeenField(
                stage=field.stage,
                influence=field.influence,
                effective=field.size,
                theoretical=None if field.theoretical is None else field.theoretical.size,
                box=field.box,
                weights=seen.weights,
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
                "weights": seen.weights,
                "fields": [
                    {
                        "stage": field.stage,
                        "effective": field.size,
                        "theoretical": None if field.theoretical is None else field.theoretical.to_json(),
                    }
                    for field in found.fields
                ],
                "data": [asdict(row) for row in comparisons],
                "skipped": skipped,
            }
        )
        return
    click.echo(f"{inspection.model}: measured with {seen.weights}")
    _print(
        {
            "stage": [field.stage for field in found.fields],
            "theoretical field": [field_text(field.theoretical) for field in found.fields],
            "effective field": [f"{field.size:.0f}x{field.size:.0f}" for field in found.fields],
            "share": ["" if field.share is None else f"{field.share:.0%}" for field in found.fields],
        },
        right=("share",),
        short=("stage",),
    )
    for row in comparisons:
        click.echo(row.sentence)
    if skipped:
        click.echo(f"left out: {skipped} images that cannot be read ('striate data check' names them)")


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
    if inspection.trainable_parameters < inspection.parameters:
        columns["learns"] = [_learns(row) for row in rows]
    click.echo(f"{inspection.model}: {shape_text(inspection.input)} images")
    _print(
        columns,
        right=("parameters", "MACs", "activations", "sees"),
        spare=("sees", "activations", "kind"),
        short=("layer",),
    )


def _print(
    columns: Mapping[str, Sequence[str]],
    *,
    right: Sequence[str] = (),
    spare: Sequence[str] = (),
    short: Sequence[str] = (),
    wrap: Sequence[str] = (),
) -> None:
    """A table that is no wider than the terminal; where nothing else helps, a line for every cell.

    Args:
        columns: headings and cells.
        right: columns that are aligned to the right.
        spare: those that may go, the first one first.
        short: those whose cells may lose letters.
        wrap: those whose cells may take several lines.
    """
    table = {name: list(cells) for name, cells in columns.items()}
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDE

    def widest(name: str) -> int:
        return max(len(name), *map(len, table[name]))

    def over() -> int:
        needed = [min(widest(name), WRAPPED) if name in wrap else widest(name) for name in table]
        return sum(needed) + 3 * len(needed) - width  # three for the space around each column

    for name in spare:
        if over() > 0:
            del table[name]
    for name in short:
        if name in table and over() > 0:
            room = max(NAME, len(name), widest(name) - over())
            table[name] = [cell if len(cell) <= room else cell[: room - 1] + "…" for cell in table[name]]
    if over() > 0:
        for cells in zip(*columns.values(), strict=True):
            click.echo()
            for name, cell in zip(columns, cells, strict=True):
                if cell.strip():
                    click.echo(f"{name}: {cell.strip()}" if name else cell)
        return
    left = width - sum(widest(name) for name in table if name not in wrap) - 3 * len(table)
    rooms: dict[str, int] = {}
    for name in sorted(wrap, key=widest):  # the narrow ones leave the others what they do not need
        rooms[name] = max(1, left // (len(wrap) - len(rooms)))
        left -= min(rooms[name], widest(name))
    heads = {name: textwrap.fill(name, rooms[name]) if name in rooms else name for name in table}
    body = [
        [textwrap.fill(cell, rooms[name]) for cell in cells] if name in rooms else cells
        for name, cells in table.items()
    ]
    print_table(
        tuple(heads.values()), list(zip(*body, strict=True)), right=[heads[name] for name in right if name in heads]
    )


def _learns(row: "Row") -> str:
    if not row.parameters:
        return ""
    return "yes" if row.trainable_parameters == row.parameters else "in part" if row.trainable_parameters else "frozen"


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

    stages = inspection.stages
    fields = [stage.receptive_field for stage in stages]
    if not stages:
        return
    _print(
        {
            "stage": [stage.name for stage in stages],
            "output": [shape_text(stage.shape) for stage in stages],
            "stride": [str(stage.stride or "") for stage in stages],
            "receptive field": [field_text(field) for field in fields],
            "jump": ["" if field is None else "x".join(f"{side:g}" for side in field.jump) for field in fields],
            "first centre": [
                "" if field is None else ", ".join(f"{side:g}" for side in field.offset) for field in fields
            ],
        },
        right=("stride",),
        spare=("first centre", "jump"),
        short=("stage",),
    )


def _totals(inspection: "Inspection", measured: dict[str, int]) -> None:
    from striate.analysis.tables import uncounted_lines

    frozen = inspection.parameters - inspection.trainable_parameters
    rows = [
        ("parameters", f"{inspection.parameters:,}" + (f" ({frozen:,} frozen)" if frozen else "")),
        ("multiply-accumulates", f"{inspection.macs:,}"),
        ("FLOPs, two per multiply-accumulate", f"{inspection.flops:,}"),
        ("activations", f"{inspection.activations:,} elements"),
        *_memory(inspection, measured),
    ]
    names, figures = zip(*rows, strict=True)
    _print({"total for one image": names, "": figures}, right=("",), wrap=("total for one image", ""))
    for line in uncounted_lines(inspection):
        click.echo(line)


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
    missing = [sum(item.times for item in inspection.uncounted) for inspection in found]
    if any(missing):
        rows.append(("operations not counted", str(missing[0]), str(missing[1]), ""))
    for number, (one, other) in enumerate(zip_longest(first.stages, second.stages), start=1):
        rows.append((f"stage {number}", _stage(one), _stage(other), ""))
    heads = (first.model, second.model if second.model != first.model else f"{second.model} again")
    columns = dict(zip(("", *heads, "second / first"), zip(*rows, strict=True), strict=True))
    _print(columns, right=(*heads, "second / first"), spare=("second / first",), wrap=("", *heads))


def _stage(stage: "InspectedStage | None") -> str:
    from striate.analysis.tables import field_text, shape_text

    return "" if stage is None else f"{stage.name} {shape_text(stage.shape)} sees {field_text(stage.receptive_field)}"


def _many(found: "Sequence[Inspection]") -> None:
    from striate.analysis.tables import field_text, shape_text

    missing = [str(sum(item.times for item in inspection.uncounted) or "") for inspection in found]
    columns = {
        "model": [inspection.model for inspection in found],
        "input": [shape_text(inspection.input) for inspection in found],
        "parameters": [_count(inspection.parameters) for inspection in found],
        "MACs": [_count(inspection.macs) for inspection in found],
        "activations": [_count(inspection.activations) for inspection in found],
        "layers": [str(len(inspection.layers)) for inspection in found],
        "last stage sees": [
            field_text(inspection.stages[-1].receptive_field) if inspection.stages else "" for inspection in found
        ],
    }
    if any(missing):
        columns["not counted"] = missing
    _print(
        columns,
        right=tuple(columns)[2:],
        spare=("last stage sees", "layers", "activations", "input"),
        short=("model",),
    )


def _verify(names: Sequence[str], as_json: bool) -> None:
    from striate.analysis.tables import value_text
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
        found = [check for _, check in checks]
        if found:
            _print(
                {
                    "model": [name for name, _ in checks],
                    "layer": [check.row.layer or "all" for check in found],
                    "figure": [check.row.figure.replace("_", " ") for check in found],
                    "published": [
                        value_text(check.row.value) + (f" ± {check.row.within:,}" if check.row.within else "")
                        for check in found
                    ],
                    "here": [value_text(check.ours) for check in found],
                    "": ["held" if check.held else "not held" for check in found],
                    "source": [
                        check.row.source + (f". {check.row.disputed}" if check.row.disputed else "") for check in found
                    ],
                },
                right=("published", "here"),
                spare=("model",) if len(set(names)) == 1 else (),
                short=("layer", "model"),
                wrap=("source",),
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


def _count(number: int) -> str:
    return f"{number:,}" if number else ""


def _bytes(number: int) -> str:
    return f"{number / 2**20:,.1f} MiB" if number >= 2**20 else f"{number / 2**10:,.1f} KiB"
