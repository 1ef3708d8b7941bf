"""``striate models``."""

import re

import click

from striate.cli.output import print_json, print_table
from striate.errors import UsageError, did_you_mean

TIMM = "timm:"


@click.command()
@click.argument("pattern", required=False)
@click.option("--task", metavar="NAME", help="only models for one task")
@click.option("--max-parameters", metavar="N", help="only models of at most so many parameters, as in 5M or 800k")
@click.option("--min-parameters", metavar="N", help="only models of at least so many parameters")
@click.option(
    "--weights", "licence", metavar="LICENCE", help="only models with official weights whose licence has this word"
)
@click.option("--json", "as_json", is_flag=True, help="one JSON document on standard output")
def command(
    pattern: str | None,
    task: str | None,
    max_parameters: str | None,
    min_parameters: str | None,
    licence: str | None,
    as_json: bool,
) -> None:
    """List the models whose name contains PATTERN, or matches it where it has * or ?, as they were published.

    With the name of one model, its official weights are listed too. 'timm:*' lists timm's models.
    """
    if pattern is not None and pattern.startswith(TIMM):
        filters = {
            "--task": task,
            "--max-parameters": max_parameters,
            "--min-parameters": min_parameters,
            "--weights": licence,
        }
        given = [flag for flag, value in filters.items() if value is not None]
        if given:
            raise UsageError(
                f"timm's models are listed by name only: leave {' and '.join(given)} out, or ask for models of "
                "striate's own. 'striate inspect timm:NAME' says what one of timm's has."
            )
        _list_timm(pattern, as_json)
        return
    from striate.models.catalog import CATALOG, names, parameters
    from striate.models.official import checkpoints

    tasks = sorted({entry.task for entry in CATALOG.values()})
    if task is not None and task not in tasks:
        raise UsageError(
            f"--task {task}: no model is for that, only for {', '.join(tasks)}.{did_you_mean(task, tasks)}"
        )
    if not names(pattern):
        raise UsageError(
            f"no model's name holds {pattern!r}.{did_you_mean(pattern or '', CATALOG)} 'striate models' lists them all."
        )
    low, high = _number("--min-parameters", min_parameters), _number("--max-parameters", max_parameters)
    if low is not None and high is not None and low > high:
        raise UsageError(f"--min-parameters {min_parameters} is more than --max-parameters {max_parameters}.")
    rows = [
        (
            name,
            CATALOG[name],
            [row for row in checkpoints(name) if (licence or "").casefold() in row.licence.casefold()],
        )
        for name in names(pattern)
        if task in (None, CATALOG[name].task)
    ]
    like = f" like {pattern!r}" if pattern is not None else ""
    if task is not None:
        like += f" for {task}"
        if not rows:
            raise UsageError(f"there is no model{like}.")
    if licence is not None:
        rows = [row for row in rows if row[2]]
        if not rows:
            known = sorted({row.licence for name in CATALOG for row in checkpoints(name)})
            raise UsageError(
                f"no model{like} has official weights whose licence has {licence!r} (--weights). The licences that "
                f"there are: {', '.join(known)}."
            )
        like += f" with official weights whose licence has {licence!r}"
    counts = {name: parameters(name) for name, _, _ in rows}
    rows = [row for row in rows if (low or 0) <= counts[row[0]] and (high is None or counts[row[0]] <= high)]
    if not rows:
        raise UsageError(f"no model{like} has {_asked(low, high)}; {_nearest(counts, low, high)}.")
    if as_json:
        models = [
            {
                "name": name,
                "task": entry.task,
                "parameters": counts[name],
                "input": list(entry.images),
                "only_size": entry.only_size,
                "classes": entry.classes,
                "summary": entry.summary,
                "origins": list(entry.origins),
                "weights": [
                    {
                        "name": row.name,
                        "url": row.url,
                        "sha256_prefix": row.sha256,
                        "licence": row.licence,
                        "top1": round(row.top1 / 100, 5),
                        "top5": round(row.top5 / 100, 5),
                    }
                    for row in weights
                ],
            }
            for name, entry, weights in rows
        ]
        print_json({"schema": "striate.models/1", "models": models})
        return
    print_table(
        ("model", "task", "parameters", "input", "weights", "what it is"),
        [
            (
                name,
                entry.task,
                f"{counts[name]:,}",
                "x".join(map(str, (*entry.images[1:], entry.images[0]))) + (" only" if entry.only_size else ""),
                f"{max(row.top1 for row in weights):.1f}%" if weights else "",
                entry.summary,
            )
            for name, entry, weights in rows
        ],
        right=("parameters", "weights"),
    )
    official = [row for name, _, weights in rows for row in weights if len(rows) == 1 or name == pattern]
    if official:
        print_table(
            ("--weights", "top-1", "top-5", "images", "MB", "licence", "file"),
            [
                (
                    row.name,
                    f"{row.top1:.2f}%",
                    f"{row.top5:.2f}%",
                    f"{row.crop}x{row.crop} of {row.resize}",
                    str(row.megabytes),
                    row.licence,
                    row.url,
                )
                for row in official
            ],
            right=("top-1", "top-5", "MB"),
        )
    click.echo(
        "weights: the best published top-1 on ImageNet of official weights. A layer pattern is a model too, as in "
        "--model '[CONV 32 -> RELU -> POOL]*2 -> FC 64 -> RELU -> FC', and so is timm:NAME."
    )


def _list_timm(pattern: str, as_json: bool) -> None:
    from striate.models.timm_provider import names

    found = names(pattern)
    if not found:
        raise UsageError(f"timm has no model like {pattern!r}. 'striate models timm:*' lists them all.")
    if as_json:
        print_json({"schema": "striate.models/1", "models": [{"name": name} for name in found]})
    else:
        click.echo("\n".join(found))


def _asked(low: float | None, high: float | None) -> str:
    bounds = [f"{words} {bound:,.0f}" for words, bound in (("at least", low), ("at most", high)) if bound is not None]
    return f"{' and '.join(bounds)} parameters"


def _nearest(counts: dict[str, int], low: float | None, high: float | None) -> str:
    """The models on either side of bounds between which there is none."""
    below = [name for name in counts if low is not None and counts[name] < low]
    above = [name for name in counts if high is not None and counts[name] > high]
    found: list[str] = []
    if below:
        name = max(below, key=counts.__getitem__)
        found.append(f"the {'next smaller' if above else 'largest'} is {name} with {counts[name]:,}")
    if above:
        name = min(above, key=counts.__getitem__)
        found.append(f"the {'next larger' if below else 'smallest'} is {name} with {counts[name]:,}")
    return " and ".join(found)


def _number(flag: str, text: str | None) -> float | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kKmMbB]?)", text.strip())
    if match is None:
        raise UsageError(f"{flag} {text!r} is no number of parameters, as in 60000, 800k, 5M or 0.1B.")
    return float(match[1]) * {"": 1, "k": 1e3, "m": 1e6, "b": 1e9}[match[2].lower()]
