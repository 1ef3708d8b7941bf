"""``striate embed``."""

from pathlib import Path
from typing import Any

import click

from striate.cli.output import print_json


@click.command()
@click.argument("model")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="where to write  [<name>.embeddings]")
@click.option("--layer", metavar="L", help="a stage or a module's path  [what goes into the last full layer]")
@click.option(
    "--weights", metavar="FILE", help="of a named network: a checkpoint, or torchvision:IMAGENET1K_V1 and such"
)
@click.option("--origin", metavar="O", help="library whose names a checkpoint has: torchvision, timm, ...")
@click.option("--split", "part", default="all", metavar="NAME", help="train, val, test or all", show_default=True)
@click.option("--root", type=click.Path(path_type=Path), help="folder that holds a known data set")
@click.option("--download", is_flag=True, help="fetch a known data set or official weights that are not there yet")
@click.option(
    "--max-bad",
    type=click.FloatRange(0, 1),
    default=0.01,
    metavar="SHARE",
    help="share of unreadable images above which nothing is written",
    show_default=True,
)
@click.option(
    "--cache", default="auto", metavar="DIR", help="keeps what is computed: a folder, auto, none", show_default=True
)
@click.option("--device", default="auto", help="cpu, cuda, cuda:1, mps")
@click.option("--json", "as_json", is_flag=True, help="one JSON document on standard output")
def command(
    model: str,
    sources: tuple[str, ...],
    out: Path | None,
    layer: str | None,
    weights: str | None,
    origin: str | None,
    part: str,
    root: Path | None,
    download: bool,
    max_bad: float,
    cache: str,
    device: str,
    as_json: bool,
) -> None:
    """Write what MODEL makes of every image of SOURCE at one layer into a file, for search, clusters and maps.

    MODEL is a run folder, a model file, or a name with --weights. SOURCE is a data set (a path or a known name), or any
    number of folders, files and patterns such as 'photos/*.jpg'; folders of classes give their images labels. The same
    command again goes on where it was stopped.
    """
    from striate.engine.log import Display
    from striate.runs.embed import embed_sources

    written = embed_sources(
        model,
        sources,
        out=out,
        layer=layer,
        weights=weights,
        origin=origin,
        part=part,
        root=root,
        download=download,
        max_bad=max_bad,
        cache=cache,
        device=device,
        display=Display(),
    )
    if as_json:
        about = written.about
        document: dict[str, Any] = {
            "schema": "striate.embed/1",
            "embeddings": str(written.path),
            "images": len(written),
            "features": written.dimension,
            "model": about.model,
            "weights": about.weights,
            "layer": about.layer,
            "key": about.key,
            "classes": list(about.classes),
            "skipped": [{"source": source, "reason": reason} for source, reason in about.skipped],
        }
        print_json(document)
