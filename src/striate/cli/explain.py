"""``striate explain``."""

from dataclasses import asdict
from pathlib import Path

import click

from striate.cli.output import print_json, print_table
from striate.errors import UsageError

SCHEMA = "striate.targets/1"


@click.command()
@click.argument("model")
@click.argument("data")
@click.option("--targets", is_flag=True, help="which anchors, cells, points or queries answer for which object")
@click.option("--backbone", metavar="NAME", help="of a detector that is named  [the published one]")
@click.option("--root", type=click.Path(path_type=Path), help="folder that holds a known data set")
@click.option(
    "--split", "split_name", default="train", metavar="NAME", help="where the images are from", show_default=True
)
@click.option("--count", type=click.IntRange(1, 100), default=4, help="images", show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, help="which images", show_default=True)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("targets"), show_default=True)
@click.option("--json", "as_json", is_flag=True, help="one JSON document on standard output")
def command(
    model: str,
    data: str,
    targets: bool,
    backbone: str | None,
    root: Path | None,
    split_name: str,
    count: int,
    seed: int,
    out: Path,
    as_json: bool,
) -> None:
    """Show why a model does what it does.

    With --targets: draw on images of DATA what the detector MODEL (a name, a run or a model file) holds responsible for
    each object while it learns.
    """
    if not targets:
        raise UsageError("say what to explain: --targets draws what a detector learns from.")
    from striate.runs.explaining import explain_targets

    found = explain_targets(
        model, data, out, backbone=backbone, root=root, split_name=split_name, count=count, seed=seed
    )
    if as_json:
        images = [{**asdict(one), "picture": str(one.picture)} for one in found]
        print_json({"schema": SCHEMA, "model": model, "images": images})
        return
    rows = [
        (
            one.id,
            str(one.objects),
            f"{one.assigned:,} {one.kind}{_plural(one.kind)}",
            str(one.unanswered),
            str(one.passed_over),
            str(one.picture),
        )
        for one in found
    ]
    columns = ("objects", "unanswered", "crowd or ignored")
    print_table(("image", "objects", "answered by", *columns[1:], "picture"), rows, right=columns)


def _plural(word: str) -> str:
    return "es" if word.endswith("x") else "s"
