"""``striate search``."""

from pathlib import Path

import click

from striate.cli.output import print_json, print_table
from striate.errors import DataError


@click.command()
@click.argument("embeddings", type=click.Path(path_type=Path))
@click.argument("queries", nargs=-1, required=True, metavar="QUERY...")
@click.option("--top", type=click.IntRange(1), default=12, metavar="N", help="images for each query", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="the sheet, a PNG  [<name>-search.png]")
@click.option("--model", metavar="M", help="where the model is, if no longer where it was when it embedded the images")
@click.option("--weights", metavar="FILE", help="where the weights of a named network are now")
@click.option("--origin", metavar="O", help="library whose names the weights have")
@click.option("--root", type=click.Path(path_type=Path), help="where the images lie, if no longer where they were")
@click.option("--approximate", is_flag=True, help="ask an index, built once beside the file: for millions (extra: ann)")
@click.option("--device", default="auto", help="cpu, cuda, cuda:1, mps")
@click.option("--json", "as_json", is_flag=True, help="one JSON document on standard output")
def command(
    embeddings: Path,
    queries: tuple[str, ...],
    top: int,
    out: Path | None,
    model: str | None,
    weights: str | None,
    origin: str | None,
    root: Path | None,
    approximate: bool,
    device: str,
    as_json: bool,
) -> None:
    """Find the images of EMBEDDINGS that are most like each QUERY, and draw them beside it.

    QUERY is an image, a folder, a pattern such as 'photos/*.jpg', or - for standard input. Similarity is the cosine of
    the angle between two embeddings, 1 for equal ones. Queries that cannot be read are listed and make the exit code 3.
    """
    from striate.engine.log import Display
    from striate.files import replacing
    from striate.runs.embeddings import open_embeddings, picture_path
    from striate.runs.model import expand
    from striate.runs.search import ROWS, hits, search_images, sheet_of

    opened = open_embeddings(embeddings).located(root)
    target = picture_path(out, embeddings, "-search.png")
    opened.check_top(top)
    inputs = expand(queries)
    display = Display()
    if opened.many and not approximate:
        display.say(f"Exact search over {len(opened):,} images; --approximate asks an index instead.")
    extractor = opened.extractor(model=model, weights=weights, origin=origin, device=device)
    found = search_images(opened, inputs, extractor=extractor, top=top, approximate=approximate, display=display)
    sheet, missing = sheet_of(found, inputs)
    with replacing(target) as temporary:
        sheet.save(temporary, "PNG")
    if as_json:
        print_json(found.to_json() | {"sheet": str(target), "missing": missing})
    else:
        for source, near in zip(found.queries, found.neighbours, strict=True):
            click.echo(source)
            rows = [
                (f"{similarity:.4f}", opened.ids[row], opened.class_of(row) or "") for row, similarity in hits(near)
            ]
            columns = ("similarity", "image", *(("class",) if opened.classes else ()))
            print_table(columns, [row[: len(columns)] for row in rows], right=("similarity",))
    if missing:
        display.say(f"{missing} of the images are not there any more: --root says where they lie now.")
    more = "" if len(found.queries) <= ROWS else f", the first {ROWS} of {len(found.queries):,} queries"
    display.say(f"Sheet: {target}{more}")
    if found.failed:
        lines = "\n".join(f"  {item.error}" for item in found.failed)
        raise DataError(f"{len(found.failed)} of {len(inputs)} queries could not be read:\n{lines}")
