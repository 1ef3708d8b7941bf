"""``striate models``."""

import re
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from striate.cli.output import print_json, print_table
from striate.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable

    from striate.models.official import Checkpoint

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

    With the name of one model, its official weights are listed too, or the page of a detector. Any network that
    classifies is one for localization and keypoints too. 'timm:*' lists timm's models.
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
    from striate.models.catalog import CATALOG, names
    from striate.models.detectors.catalog import DETECTORS, page
    from striate.models.detectors.catalog import names as detector_names
    from striate.tasks.catalog import TASKS

    if task is not None and task not in TASKS:
        raise UsageError(
            f"--task {task}: no model is for that, only for {', '.join(TASKS)}.{did_you_mean(task, TASKS)}"
        )
    found = [*map(_classifier, names(pattern)), *map(_detector, detector_names(pattern))]
    if not found:
        raise UsageError(
            f"no model's name holds {pattern!r}.{did_you_mean(pattern or '', [*CATALOG, *DETECTORS])} "
            "'striate models' lists them all."
        )
    low, high = _number("--min-parameters", min_parameters), _number("--max-parameters", max_parameters)
    if low is not None and high is not None and low > high:
        raise UsageError(f"--min-parameters {min_parameters} is more than --max-parameters {max_parameters}.")
    rows = [
        replace(row, weights=tuple(w for w in row.weights if (licence or "").casefold() in w.licence.casefold()))
        for row in found
        if task in (None, *row.tasks)
    ]
    like = f" like {pattern!r}" if pattern is not None else ""
    if task is not None:
        like += f" for {task}"
        if not rows:
            raise UsageError(f"there is no model{like}.")
    if licence is not None:
        rows = [row for row in rows if row.weights]
        if not rows:
            known = sorted({weights.licence for name in CATALOG for weights in _classifier(name).weights})
            raise UsageError(
                f"no model{like} has official weights whose licence has {licence!r} (--weights). The licences that "
                f"there are: {', '.join(known)}."
            )
        like += f" with official weights whose licence has {licence!r}"
    counts = {row.name: row.parameters() for row in rows}
    rows = [row for row in rows if (low or 0) <= counts[row.name] and (high is None or counts[row.name] <= high)]
    if not rows:
        raise UsageError(f"no model{like} has {_asked(low, high)}; {_nearest(counts, low, high)}.")
    if as_json:
        models = [row.to_json(counts[row.name]) for row in rows]
        print_json({"schema": "striate.models/1", "models": models})
        return
    print_table(
        ("model", "task", "parameters", "input", "weights", "what it is"),
        [
            (
                row.name,
                row.tasks[0],
                f"{counts[row.name]:,}",
                "x".join(map(str, (*row.images[1:], row.images[0]))) + (" only" if row.only_size else ""),
                f"{max(weights.top1 for weights in row.weights):.1f}%" if row.weights else "",
                row.summary + (f", with {row.backbone}" if row.backbone else ""),
            )
            for row in rows
        ],
        right=("parameters", "weights"),
    )
    official = [weights for row in rows for weights in row.weights if len(rows) == 1 or row.name == pattern]
    if official:
        print_table(
            ("--weights", "top-1", "top-5", "images", "MB", "licence", "file"),
            [
                (
                    weights.name,
                    f"{weights.top1:.2f}%",
                    f"{weights.top5:.2f}%",
                    f"{weights.crop}x{weights.crop} of {weights.resize}",
                    str(weights.megabytes),
                    weights.licence,
                    weights.url,
                )
                for weights in official
            ],
            right=("top-1", "top-5", "MB"),
        )
    if pattern in DETECTORS:
        click.echo(f"\n{page(pattern)}\n")
    if any(row.backbone for row in rows):
        click.echo("A detector takes other backbones with --backbone NAME, and says which maps one must have.")
    if any(not row.backbone for row in rows):
        click.echo(
            "weights: the best published top-1 on ImageNet of official weights. A layer pattern is a model too, as in "
            "--model '[CONV 32 -> RELU -> POOL]*2 -> FC 64 -> RELU -> FC', and so is timm:NAME. Any of the networks "
            "that classify is one for localization and keypoints too."
        )


@dataclass(frozen=True, kw_only=True)
class _Row:
    """A model of either catalog."""

    name: str
    tasks: tuple[str, ...]  # what it can be trained for, what it was published for first
    images: tuple[int, int, int]  # channels, height, width
    only_size: bool
    classes: int
    summary: str
    origins: tuple[str, ...]
    parameters: "Callable[[], int]"
    weights: "tuple[Checkpoint, ...]" = ()
    backbone: str | None = None  # of a detector

    def to_json(self, parameters: int) -> dict[str, Any]:
        """One of ``models``."""
        return {
            "name": self.name,
            "task": self.tasks[0],
            "tasks": list(self.tasks),
            "backbone": self.backbone,
            "parameters": parameters,
            "input": list(self.images),
            "only_size": self.only_size,
            "classes": self.classes,
            "summary": self.summary,
            "origins": list(self.origins),
            "weights": [
                {
                    "name": row.name,
                    "url": row.url,
                    "sha256_prefix": row.sha256,
                    "licence": row.licence,
                    "top1": round(row.top1 / 100, 5),
                    "top5": round(row.top5 / 100, 5),
                }
                for row in self.weights
            ],
        }


def _classifier(name: str) -> _Row:
    from striate.models.catalog import CATALOG, parameters
    from striate.models.official import checkpoints

    entry = CATALOG[name]
    return _Row(
        name=name,
        tasks=(entry.task, "localization", "keypoints"),
        images=entry.images,
        only_size=entry.only_size,
        classes=entry.classes,
        summary=entry.summary,
        origins=tuple(entry.origins),
        parameters=partial(parameters, name),
        weights=tuple(checkpoints(name)),
    )


def _detector(name: str) -> _Row:
    from striate.models.detectors.catalog import DETECTORS, parameters

    entry = DETECTORS[name]
    return _Row(
        name=name,
        tasks=("detection",),
        images=(3, *entry.size),
        only_size=entry.only_size,
        classes=entry.classes,
        summary=entry.summary,
        origins=tuple(entry.origins),
        parameters=partial(parameters, name),
        backbone=entry.backbone,
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
