"""``striate predict``."""

import warnings
from pathlib import Path

import click

from striate.cli.output import print_json
from striate.errors import DataError


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="folder for annotated pictures")
@click.option("--batch", type=click.IntRange(1), default=64, help="images at once", show_default=True)
@click.option("--device", default="auto", help="cpu, cuda, cuda:1, mps")
@click.option("--json", "as_json", is_flag=True, help="one JSON document on standard output")
def command(model: Path, sources: tuple[str, ...], out: Path | None, batch: int, device: str, as_json: bool) -> None:
    """Predict every SOURCE: an image, a folder, a pattern such as 'photos/*.jpg', or - for standard input.

    Inputs that cannot be read are listed and make the exit code 3; the others are predicted all the same.
    """
    from striate.runs.model import expand, load
    from striate.runs.pictures import save_annotated

    inputs = expand(sources)
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # what failed is listed below
        found = load(model, device=device).predict(inputs, batch=batch)
    if out is not None:
        files = save_annotated(found, inputs, out)
        click.echo(f"Wrote {len(files)} pictures to {out}.", err=True)
    if as_json:
        print_json(found.to_json())
    else:
        for row in found:
            for line in row.lines():
                click.echo(f"{row.source}\t{line}")
    if found.failed:
        lines = "\n".join(f"  {item.error}" for item in found.failed)
        raise DataError(f"{len(found.failed)} of {len(inputs)} inputs could not be read:\n{lines}")
