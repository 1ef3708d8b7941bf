"""``striate train``."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from textwrap import wrap
from typing import Any, Literal, get_args, get_origin

import click

from striate.cli.output import print_json, print_table
from striate.config import Layer, Resolved, TrainSettings, resolve
from striate.errors import UsageError
from striate.recipes import read_config, recipes

GROUPS = {
    "data": "Data",
    "images": "What the network sees",
    "model": "Model",
    "transfer": "What is taken over from the weights",
    "training": "How it learns",
    "machine": "How it runs",
}


class Sections(click.Command):
    """A command whose help shows its flags by group."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The command's own flags, then one section per group of settings, then the recipes."""
        group_of = {field.name: field.metadata["group"] for field in fields(TrainSettings)}
        rows: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record is not None:
                rows.setdefault(GROUPS.get(group_of.get(parameter.name or "", ""), "Command"), []).append(record)
        for title in ("Command", *GROUPS.values()):
            with formatter.section(title):
                formatter.write_dl(rows[title])
        with formatter.section("Recipes, for --config"):
            for line in wrap(", ".join(recipes()), formatter.width - 4, break_on_hyphens=False):
                formatter.write_text(line)


def settings_flags(function: Callable[..., Any]) -> Callable[..., Any]:
    """One flag per setting, made from its field; one that is not given stays out of the way."""
    for field in reversed(fields(TrainSettings)):
        if field.name == "data":
            continue
        flag = "--" + field.name.replace("_", "-")
        also = [f"--{field.metadata['also']}"] if field.metadata["also"] else []
        shown = "" if field.default in (None, "auto") else f"  [{str(field.default).lower()}]"
        kind: Any = field.type
        switch = kind is bool or bool in get_args(kind)
        choices = [str(choice) for choice in get_args(kind)] if get_origin(kind) is Literal else []
        metavar = "|".join(choices) if choices else _metavar(kind)
        option = click.option(
            f"{flag}/--no-{flag[2:]}" if switch else flag,
            *also,
            field.name,
            default=None,
            metavar=None if switch else metavar,
            help=field.metadata["help"] + shown,
        )
        function = option(function)
    return function


def _metavar(kind: Any) -> str:
    parts = get_args(kind) or (kind,)
    return "N" if int in parts else "X" if float in parts else "TEXT"


@click.command(cls=Sections)
@click.argument("data", required=False)
@click.option("--out", type=click.Path(path_type=Path), help="the run folder  [runs/<date>-<data>-<model>]")
@click.option("--resume", type=click.Path(path_type=Path), metavar="RUN", help="go on with a run that was stopped")
@click.option("--config", metavar="FILE", help="settings from a YAML file, a run folder or a recipe by its name")
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="any setting, by its name")
@click.option(
    "--dry-run", is_flag=True, help="show the settings with their sources and the time per epoch; train nothing"
)
@click.option("--find-lr", is_flag=True, help="try rising learning rates, draw the loss, suggest one; train nothing")
@click.option("--json", "as_json", is_flag=True, help="one JSON document on standard output")
@settings_flags
def command(
    data: str | None,
    out: Path | None,
    resume: Path | None,
    config: str | None,
    pairs: tuple[str, ...],
    dry_run: bool,
    find_lr: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Train a model on DATA: a path, or the name of a known data set ('digits' ships with striate)."""
    given = {name: value for name, value in flags.items() if value is not None}
    if resume is not None:
        extra = [name for name, value in {"DATA": data, "--out": out, "--config": config}.items() if value is not None]
        extra += [f"--{name.replace('_', '-')}" for name in given] + [f"--set {pair}" for pair in pairs]
        if extra or dry_run or find_lr:
            taken = ", ".join(extra) or "the rest"
            raise UsageError(f"--resume goes on with the settings that the run began with: take away {taken}.")
        _resume(resume, as_json)
        return
    resolved = _settings(data, config, pairs, given)
    if dry_run:
        _dry_run(resolved, as_json)
    elif find_lr:
        _find_lr(resolved, out, as_json)
    else:
        from striate.runs.train import train_run

        _show(train_run(resolved, out=out), as_json)


def _settings(data: str | None, config: str | None, pairs: tuple[str, ...], given: dict[str, Any]) -> Resolved:
    explicit: dict[str, Any] = dict(given)
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--set {pair!r} is not KEY=VALUE, as in --set epochs=10.")
        explicit[name.strip()] = value.strip()
    if data is not None:
        explicit["data"] = data
    layers = [read_config(config)] if config is not None else []
    layers.append(Layer(source="command line", values=explicit))
    if not any("data" in layer.values for layer in layers):
        raise UsageError("which data? Give a path or a name, as in 'striate train digits'.")
    return resolve(*layers)


def _show(run: Any, as_json: bool) -> None:
    from striate.engine import distributed

    if as_json and distributed.rank() == 0:
        print_json(run.to_json())


def _resume(path: Path, as_json: bool) -> None:
    from striate.runs.folder import open_run
    from striate.runs.train import resume_run

    _show(resume_run(open_run(path)), as_json)


def _dry_run(resolved: Resolved, as_json: bool) -> None:
    from striate.runs.rehearse import rehearse

    rehearsal = rehearse(resolved)
    if as_json:
        print_json(rehearsal.to_json())
        return
    rows = [
        (field.name, str(getattr(rehearsal.resolved.settings, field.name)), rehearsal.resolved.sources[field.name])
        for field in fields(TrainSettings)
    ]
    print_table(("setting", "value", "source"), rows)
    print_table(("measured", "value"), rehearsal.facts())


def _find_lr(resolved: Resolved, out: Path | None, as_json: bool) -> None:
    from striate.runs.rehearse import find_lr

    found = find_lr(resolved, out or Path("lr-range.svg"))
    if as_json:
        print_json(found.to_json())
        return
    click.echo(f"Suggested: --lr {found.suggestion:.2g}. The loss by learning rate is drawn in {found.plot}.")
