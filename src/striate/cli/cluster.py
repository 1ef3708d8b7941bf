"""``striate cluster``."""

from pathlib import Path

import click

from striate.cli.output import print_json, print_table


@click.command()
@click.argument("embeddings", type=click.Path(path_type=Path))
@click.option("--clusters", "count", type=click.IntRange(1), metavar="K", help="how many  [chosen by silhouette]")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="folder of the sheets  [<name>-clusters]")
@click.option("--seed", type=click.IntRange(0), default=0, help="of k-means' starts", show_default=True)
@click.option("--root", type=click.Path(path_type=Path), help="where the images lie, if no longer where they were")
@click.option("--json", "as_json", is_flag=True, help="one JSON document on standard output")
def command(embeddings: Path, count: int | None, out: Path | None, seed: int, root: Path | None, as_json: bool) -> None:
    """Put the images of EMBEDDINGS into clusters by k-means, and draw the most central ones of each.

    The folder gets a contact sheet per cluster, clusters.csv and images.csv, and the whole as clusters.json. Where
    images have classes, purity is the share of a cluster's images that have its most frequent class.
    """
    from striate.engine.log import Display
    from striate.runs.clusters import cluster_embeddings, write_clusters
    from striate.runs.embeddings import open_embeddings

    opened = open_embeddings(embeddings).located(root)
    folder = out or Path(f"{embeddings.stem}-clusters")
    display = Display()
    found = cluster_embeddings(opened, count, seed=seed, display=display)
    if found.silhouettes:
        tried = sorted(found.silhouettes, key=lambda k: -found.silhouettes[k])
        best = ", ".join(f"{k}: {found.silhouettes[k]:.3f}" for k in tried[:3])
        sample = "" if found.sampled == len(opened) else f" over {found.sampled:,} images drawn with seed {seed}"
        display.say(
            f"{tried[0]} clusters: of {min(tried)} to {max(tried)}, the greatest mean silhouette{sample} ({best}). "
            "--clusters sets another number."
        )
    sheets, missing = write_clusters(found, folder)
    if as_json:
        print_json(
            found.to_json() | {"out": str(folder), "sheets": [sheet.name for sheet in sheets], "missing": missing}
        )
    else:
        rows = [
            (
                str(number),
                f"{len(cluster.rows):,}",
                *(
                    (cluster.label or "-", f"{cluster.share:.4f}" if cluster.labelled else "-")
                    if opened.classes
                    else ()
                ),
                opened.ids[int(cluster.rows[0])],
            )
            for number, cluster in enumerate(found.clusters, 1)
        ]
        columns = ("cluster", "images", *(("class", "purity") if opened.classes else ()), "most central")
        print_table(columns, rows, right=("cluster", "images", "purity"))
        if found.purity is not None:
            click.echo(f"Purity of all: {found.purity:.4f}")
    if missing:
        display.say(f"{missing} of the images shown are not there any more: --root says where they lie now.")
    display.say(f"Sheets: {folder}")
