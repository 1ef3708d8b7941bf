"""``striate map``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from striate.cli.output import print_json

if TYPE_CHECKING:
    from striate.runs.embedding_map import Method


@click.command()
@click.argument("embeddings", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="the page  [<name>-map.html]")
@click.option(
    "--method", type=click.Choice(("tsne", "umap", "pca")), default="tsne", help="how it is laid out", show_default=True
)
@click.option("--points", type=click.IntRange(3), default=10_000, metavar="N", help="images at most", show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, help="of the method", show_default=True)
@click.option("--root", type=click.Path(path_type=Path), help="where the images lie, if no longer where they were")
@click.option("--json", "as_json", is_flag=True, help="one JSON document on standard output")
def command(
    embeddings: Path, out: Path | None, method: "Method", points: int, seed: int, root: Path | None, as_json: bool
) -> None:
    """Draw a map of the images of EMBEDDINGS: one page that opens offline, with thumbnails under the pointer.

    Images that lie near each other are alike to the network. Of more than N images, an evenly drawn sample is shown.
    """
    from striate.engine.log import Display
    from striate.runs.embedding_map import map_embeddings, write_map
    from striate.runs.embeddings import open_embeddings, picture_path

    opened = open_embeddings(embeddings).located(root)
    target = picture_path(out, embeddings, "-map.html")
    display = Display()
    found = map_embeddings(opened, method=method, seed=seed, most=points, display=display)
    missing = write_map(found, target, display)
    if as_json:
        print_json(found.to_json() | {"page": str(target), "missing": missing})
    sample = "" if len(found.rows) == len(opened) else f" of {len(opened):,}, drawn evenly with seed {seed}"
    display.say(f"{len(found.rows):,} images{sample}: {found.words}.")
    if missing:
        display.say(f"{missing:,} of them are not there any more: --root says where they lie now.")
    display.say(f"Map: {target}, {target.stat().st_size / 1e6:,.1f} MB")
