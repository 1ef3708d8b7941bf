"""``striate models``."""

import click

from striate.cli.output import print_json, print_table
from striate.errors import UsageError, did_you_mean


@click.command()
@click.argument("pattern", required=False)
@click.option("--task", metavar="NAME", help="only models for one task")
@click.option("--json", "as_json", is_flag=True, help="one JSON document on standard output")
def command(pattern: str | None, task: str | None, as_json: bool) -> None:
    """List the models whose name contains PATTERN, or matches it where it has * or ?; parameters for ten classes."""
    from striate.models.catalog import CATALOG, names, parameters

    tasks = sorted({entry.task for entry in CATALOG.values()})
    if task is not None and task not in tasks:
        raise UsageError(
            f"--task {task}: no model is for that, only for {', '.join(tasks)}.{did_you_mean(task, tasks)}"
        )
    if not names(pattern):
        raise UsageError(
            f"no model's name holds {pattern!r}.{did_you_mean(pattern or '', CATALOG)} 'striate models' lists them all."
        )
    rows = [(name, CATALOG[name]) for name in names(pattern) if task in (None, CATALOG[name].task)]
    counts = {name: parameters(name) for name, _ in rows}
    if as_json:
        models = [
            {
                "name": name,
                "task": entry.task,
                "parameters": counts[name],
                "size": list(entry.size) if entry.size else None,
                "summary": entry.summary,
            }
            for name, entry in rows
        ]
        print_json({"schema": "striate.models/1", "models": models})
        return
    print_table(
        ("model", "task", "parameters", "input", "what it is"),
        [
            (
                name,
                entry.task,
                f"{counts[name]:,}",
                "x".join(map(str, entry.size)) if entry.size else "any",
                entry.summary,
            )
            for name, entry in rows
        ],
        right=("parameters",),
    )
    click.echo("A layer pattern is a model too, as in --model '[CONV 32 -> RELU -> POOL]*2 -> FC 64 -> RELU -> FC'.")
