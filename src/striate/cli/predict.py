"""``striate predict``."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from striate.cli.output import print_json
from striate.errors import DataError, UsageError

if TYPE_CHECKING:
    from striate.runs.model import Model, Predictions

SHARE = click.FloatRange(0, 1)


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="folder for annotated pictures")
@click.option("--batch", type=click.IntRange(1), help="images at once  [64; of a detector fewer, the larger its input]")
@click.option("--device", default="auto", help="cpu, cuda, cuda:1, mps")
@click.option("--json", "as_json", is_flag=True, help="one JSON document on standard output")
@click.option(
    "--write", type=click.Choice(["coco", "yolo", "csv"]), help="detectors: write the objects in this form to --out too"
)
@click.option("--score", type=SHARE, help="detectors: least score that is shown  [each class' own, of the model file]")
@click.option(
    "--nms", type=SHARE, help="detectors: IoU above which the weaker box goes, not with --soft-nms  [the model's]"
)
@click.option("--soft-nms", is_flag=True, help="detectors: the weaker box loses score instead of going")
@click.option("--across-classes", is_flag=True, help="detectors: boxes of different classes compete too")
@click.option("--limit", type=click.IntRange(1), help="detectors: objects per image  [the model's]")
@click.option("--tile", type=click.IntRange(16), metavar="PIXELS", help="detectors: look at windows of large images")
@click.option("--overlap", type=click.FloatRange(0, 0.9), help="what these windows share of their side  [0.2]")
@click.option("--views", is_flag=True, help="detectors: look three times, at other scales and mirrored, and fuse")
@click.option("--slide", metavar="SCALES", help="localization: slide the window over larger images, as in 1,1.5,2")
@click.option("--track", is_flag=True, help="videos: follow the objects from frame to frame")
@click.option("--every", type=click.IntRange(1), default=1, help="videos: each so many-th frame", show_default=True)
def command(
    model: Path,
    sources: tuple[str, ...],
    out: Path | None,
    batch: int | None,
    device: str,
    as_json: bool,
    write: Literal["coco", "yolo", "csv"] | None,
    score: float | None,
    nms: float | None,
    soft_nms: bool,
    across_classes: bool,
    limit: int | None,
    tile: int | None,
    overlap: float | None,
    views: bool,
    slide: str | None,
    track: bool,
    every: int,
) -> None:
    """Predict every SOURCE: an image, a folder, a pattern such as 'photos/*.jpg', a video, or - for standard input.

    Inputs that cannot be read are listed and make the exit code 3; the others are predicted all the same.
    """
    from striate.runs.detect import Choice, choosing, predict_large
    from striate.runs.model import expand, load, name_of
    from striate.runs.pictures import save_annotated
    from striate.runs.sliding import predict_sliding
    from striate.runs.video import is_video
    from striate.runs.writing import check_writable

    if write is not None and out is None:
        raise UsageError(f"--write {write} needs a folder to write to: give --out DIR.")
    if overlap is not None and tile is None:
        raise UsageError("--overlap is of the windows that --tile makes: give --tile too.")
    if slide is not None and (tile is not None or views):
        raise UsageError("--slide is for localization, --tile and --views for detectors: take one of them.")
    if batch is not None and (slide is not None or tile is not None or views):
        raise UsageError("--batch is of whole images: --slide, --tile and --views choose how much they see at once.")
    loaded = load(model, device=device)
    choosing(loaded, Choice(score=score, nms=nms, soft=soft_nms, across=across_classes, limit=limit))
    videos = [source for source in sources if is_video(source)]
    if videos:
        if len(videos) < len(sources) or write is not None or tile is not None or views or slide is not None:
            raise UsageError(
                "videos are predicted alone, without --write, --tile, --views and --slide: give only videos."
            )
        _videos(loaded, videos, out, track, every, batch, as_json)
        return
    if track or every > 1:
        raise UsageError(f"--{'track' if track else 'every'} is for videos, and {sources[0]} is none.")
    inputs = expand(sources)
    if write is not None and out is not None:
        names = [name_of(number, source) for number, source in enumerate(inputs)]
        check_writable(names, out, write, task=loaded.task.name)
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # what failed is listed below
        if slide is not None:
            found = predict_sliding(loaded, inputs, scales=_scales(slide))
        elif tile is not None or views:
            found = predict_large(loaded, inputs, tile=tile, overlap=0.2 if overlap is None else overlap, views=views)
        else:
            found = loaded.predict(inputs, batch=batch)
    if out is not None:
        files = save_annotated(found, inputs, out)
        click.echo(f"Wrote {len(files)} pictures to {out}.", err=True)
        if write is not None:
            _write(found, out, write)
    if as_json:
        print_json(found.to_json())
    else:
        for row in found:
            for line in row.lines():
                click.echo(f"{row.source}\t{line}")
    if found.failed:
        raise _unread([item.error for item in found.failed], len(inputs))


def _unread(errors: Sequence[str], inputs: int) -> DataError:
    lines = "\n".join(f"  {error}" for error in errors)
    return DataError(f"{len(errors)} of {inputs} inputs could not be read:\n{lines}")


def _scales(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--slide {text!r}: expected scales such as 1,1.5,2.") from None


def _write(found: "Predictions", out: Path, form: Literal["coco", "yolo", "csv"]) -> None:
    from striate.core.instances import InstanceSets
    from striate.runs.writing import save_predictions

    assert isinstance(found.annotations, InstanceSets)  # which is checked before
    saved = save_predictions(
        found.sources, found.sizes, list(found.annotations), found.classes, out, form, skeleton=found.skeleton
    )
    click.echo(str(saved), err=True)


def _videos(
    model: "Model", videos: list[str], out: Path | None, track: bool, every: int, batch: int | None, as_json: bool
) -> None:
    from striate.runs.detect import copy_of, detection_of, predict_video
    from striate.runs.video import check_new

    if out is None:
        raise UsageError("a video's annotated copy needs a folder: give --out DIR.")
    detection_of(model, "a video")
    copies: dict[Path, str] = {}
    for video in videos:
        copy = copy_of(Path(video), out)
        if copy in copies:
            raise UsageError(
                f"the copies of {copies[copy]} and {video} would both be {copy}: predict them into two folders."
            )
        copies[copy] = video
        check_new(copy)
    documents: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    for video in videos:
        try:
            documents.append(predict_video(model, Path(video), out, track=track, every=every, batch=batch))
        except DataError as error:
            failed.append({"source": video, "error": str(error)})
    if as_json:
        print_json({"schema": "striate.videos/1", "videos": documents, "failed": failed})
    else:
        for document in documents:
            count = sum(len(frame["annotations"]) for frame in document["frames"])
            click.echo(f"{document['source']}\t{len(document['frames'])} frames, {count} objects\t{document['video']}")
    if failed:
        raise _unread([item["error"] for item in failed], len(videos))
