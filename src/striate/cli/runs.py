"""``striate runs``."""

from pathlib import Path
from typing import Any

import click

from striate.cli.output import print_json, print_table


@click.group(invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """List, show and compare runs."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_runs, folder=Path("runs"), as_json=False)


@command.command("list")
@click.argument("folder", type=click.Path(path_type=Path), default=Path("runs"))
@click.option("--json", "as_json", is_flag=True, help="one JSON document on standard output")
def list_runs(folder: Path, as_json: bool) -> None:
    """List the runs in FOLDER, oldest first."""
    from striate.runs.compare import overviews
    from striate.runs.folder import find_runs

    rows = overviews(find_runs(folder))
    if as_json:
        print_json({"schema": "striate.runs/1", "runs": rows})
        return
    if not rows:
        click.echo(f"No runs in {folder}. 'striate train digits' makes one.")
        return
    columns = ("run", "data", "model", "epochs", "split", "top1", "seconds", "state")
    print_table(columns, [_cells(row, columns) for row in rows], right=("epochs", "top1", "seconds"))


@command.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="one JSON document on standard output")
def show(run: Path, as_json: bool) -> None:
    """Show the settings of RUN with their sources, and what came of it."""
    from striate.runs.compare import overview
    from striate.runs.folder import open_run

    folder = open_run(run)
    document, found = folder.document, overview(folder)
    if as_json:
        print_json(
            {"schema": "striate.run_details/1", **found, **{key: document[key] for key in document if key != "schema"}}
        )
        return
    print_table(("run", ""), [(name, _text(value)) for name, value in found.items()])
    sources = document["sources"]
    print_table(
        ("setting", "value", "source"),
        [(name, _text(value), sources.get(name, "default")) for name, value in document["settings"].items()],
    )


@command.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="one JSON document on standard output")
def compare(runs: tuple[Path, ...], as_json: bool) -> None:
    """Show where RUNS differ: settings, and what came of them."""
    from striate.runs.compare import compare as compare_runs
    from striate.runs.folder import open_run

    found = compare_runs([open_run(run) for run in runs])
    if as_json:
        print_json(found)
        return
    columns = ("", *(str(run) for run in runs))
    for part in ("settings", "results"):
        rows = [(name, *(_text(value) for value in values)) for name, values in found[part].items()]
        if rows:
            print_table(columns, rows)
        elif part == "settings":
            click.echo("All settings are the same.")


def _cells(row: dict[str, Any], columns: tuple[str, ...]) -> list[str]:
    return [_text(row.get(column)) for column in columns]


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return (
        f"{value:.4f}"
        if isinstance(value, float) and abs(value) < 10
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )
