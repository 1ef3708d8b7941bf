"""``striate study``."""

from pathlib import Path
from typing import Literal

import click

from striate.cli.output import print_json, print_table
from striate.errors import UsageError

EFFORTS: tuple[Literal["quick", "full"], ...] = ("quick", "full")


@click.command()
@click.argument("name", required=False)
@click.option("--quick", is_flag=True, help="small sizes, under five minutes on two cores  [the default]")
@click.option("--full", is_flag=True, help="the sizes that the documentation shows")
@click.option("--data", metavar="DATA", help="other images than the study's own choice: a known name or a path")
@click.option("--root", type=click.Path(path_type=Path), metavar="DIR", help="folder that holds the known data sets")
@click.option("--seeds", type=int, metavar="N", help="how many seeds to measure over")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="the study's folder  [studies/NAME-quick]")
@click.option("--weights", metavar="FILE", help="pretrained weights, for studies that take them")
@click.option("--json", "as_json", is_flag=True, help="one JSON document on standard output")
def command(
    name: str | None,
    quick: bool,
    full: bool,
    data: str | None,
    root: Path | None,
    seeds: int | None,
    out: Path | None,
    weights: str | None,
    as_json: bool,
) -> None:
    """Measure the classic claim NAME again on this machine and write a page about it; without NAME, list them all.

    The same command again goes on where it was stopped.
    """
    if quick and full:
        raise UsageError("--quick and --full: choose one.")
    effort = "full" if full else "quick"
    if name is None:
        if quick or full or any(value is not None for value in (data, root, seeds, out, weights)):
            raise UsageError("which study? 'striate study' alone lists them, 'striate study NAME' runs one.")
        _list(as_json)
        return
    from striate.studies.run import run_study

    result = run_study(name, effort=effort, data=data, root=root, seeds=seeds, out=out, weights=weights)
    if as_json:
        print_json(result.to_json())


def _list(as_json: bool) -> None:
    from striate.studies import catalog

    studies = [catalog.find(name) for name in catalog.NAMES]
    pages = {
        study.name: [page for effort in EFFORTS if (page := Path(f"studies/{study.name}-{effort}/study.html")).exists()]
        for study in studies
    }
    if as_json:
        rows = [
            {
                "study": study.name,
                "title": study.title,
                "citation": study.citation,
                "data": list(study.data),
                "weights": study.weights or None,
                "pages": [str(page) for page in pages[study.name]],
            }
            for study in studies
        ]
        print_json({"schema": "striate.studies/1", "studies": rows})
        return
    print_table(
        ("study", "claim", "data", "page"),
        [
            (
                study.name,
                study.title,
                " or ".join(study.data) or ("its own" if study.own_data else "-"),
                "\n".join(map(str, pages[study.name])) or "-",
            )
            for study in studies
        ],
    )
    click.echo("'striate study NAME' measures one in minutes, --full as the documentation shows it.")
