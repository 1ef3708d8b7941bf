"""From what the files of a format state to a data set of objects: what the formats of boxes and points share.

Boxes and points of a data set are in pixels of the image as it is meant, its EXIF orientation applied, and most tools
write them so. Where a format also states the image's size, and states that of the stored pixels of an image that EXIF
turns by a quarter, its objects were drawn on those and are turned along.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray

from striate.core.instances import InstanceSets, Polygons, RunLengths, Shape, Skeleton
from striate.data.dataset import Dataset, ImageArrays, Images, Indices, Skipped
from striate.data.images import Header, ImageError, ImageFiles, cpus, probe, upright
from striate.data.shapes import area_of, mask_of, run_lengths
from striate.errors import DataError

Box = tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels
Point = tuple[float, float, float]  # x, y in pixels, visibility
Size = tuple[int, int]  # height, width

NO_SHAPE = Polygons(rings=())  # of an object without a mask, in data that has some

# How reasons begin, or what is in them, for the doctor to tell them apart.
NO_IMAGE_ID = "no image has the id"
NO_CLASS_ID = "no class has the"
TWICE = "occurs a second time"
NO_FILE = "there is no file"
NO_SIZE = "the box has no size"
OUTSIDE = "the box lies outside of the image"
OTHER_SIZE = "the file has"
IN_PIXELS = "where shares of the image, 0 to 1, are expected: pixels?"

# How they end where nothing is lost.
KEPT = "that is kept"
AS_THE_FILE = "read as the file is"
STILL_USED = (KEPT, AS_THE_FILE)


@dataclass(kw_only=True, slots=True)
class Found:
    """One object, as a file states it."""

    label: int
    box: Box
    shape: Shape | None = None
    points: Sequence[Point] | None = None
    crowd: bool = False
    ignore: bool = False
    area: float | None = None


@dataclass(kw_only=True, slots=True)
class Picture:
    """One image with its objects, as files state them."""

    file: Path
    split: str | None = None
    objects: list[Found] = field(default_factory=list[Found])
    size: Size | None = None  # as stated beside the objects
    source: str = ""  # what to call it when it is skipped; its id by default


# Height and width of images that a loader has asked for: a run makes many loaders of the same images.
_SHAPES: WeakKeyDictionary[Images, dict[int, Size]] = WeakKeyDictionary()


def headers(files: Sequence[Path]) -> Iterator[Header | ImageError]:
    """What each file says of itself, or why it cannot be read, in order; several are opened at once."""

    def look(file: Path) -> Header | ImageError:
        try:
            return probe(file)
        except ImageError as error:
            return error

    with ThreadPoolExecutor(min(8, 2 * cpus())) as pool:
        yield from pool.map(look, files, chunksize=64)


def id_of(file: Path, root: Path) -> str:
    """What an image is called: its path relative to the data's folder where it lies below."""
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else file.as_posix()


def is_box(box: Sequence[float]) -> bool:
    """Whether four numbers are finite and span an area."""
    return bool(np.isfinite(box).all()) and box[2] > box[0] and box[3] > box[1]


def dataset_of(
    pictures: Iterable[Picture],
    *,
    path: Path,
    root: Path,
    form: str,
    expects: str,
    classes: Sequence[str],
    skipped: Sequence[Skipped] = (),
    skeleton: Skeleton | None = None,
    licence: str | None = None,
    seen: Sequence[Header | ImageError] | None = None,
) -> Dataset:
    """A data set of the images whose files are there, sorted by their ids.

    An image whose file is missing, or listed before, or of another size than stated, is skipped; an object without
    size, or outside of its image, too.

    Args:
        pictures: in any order.
        path: of the data.
        root: what ids are relative to.
        form: the format's name.
        expects: what it expects, for the message where nothing can be used.
        classes: names; labels count them from 0.
        skipped: what could not be used so far.
        skeleton: what keypoints mean; None where objects have none.
        licence: as stated by the data.
        seen: headers of the pictures' files, where they have been read.

    Raises:
        DataError: no image can be used.
    """
    pictures, skipped = list(pictures), list(skipped)
    if seen is None:
        seen = list(headers([picture.file for picture in pictures]))
    kept: dict[str, Picture] = {}
    for picture, header in zip(pictures, seen, strict=True):
        id_ = id_of(picture.file, root)
        reason = None
        if isinstance(header, ImageError) and header.kind == "missing":
            reason = f"{NO_FILE} {id_}"
        elif id_ in kept:
            reason = f"{id_} {TWICE}"
        else:
            reason = _fitted(picture, header, id_, skipped)
        if reason is None:
            kept[id_] = picture
        else:
            lost = f", with {len(picture.objects)} objects" if picture.objects else ""
            skipped.append(Skipped(source=picture.source or id_, reason=reason + lost))
    if not kept:
        first = f" {skipped[0].source}: {skipped[0].reason}." if skipped else ""
        raise DataError(f"{path}: no image can be used.{first} Expected {expects}.")
    ids = sorted(kept)
    chosen = [kept[id_] for id_ in ids]
    splits: dict[str, Indices] = {}
    for split in ("train", "val", "test"):
        members = [i for i, picture in enumerate(chosen) if picture.split == split]
        if members:
            splits[split] = np.array(members, dtype=np.int64)
    truths = _packed(chosen, skeleton)
    return Dataset(
        name=path.stem if path.is_file() else path.resolve().name,
        format=form,
        path=path,
        task=task_of(truths),
        classes=tuple(classes),
        ids=ids,
        images=ImageFiles([picture.file for picture in chosen]),
        truths=truths,
        splits=splits,
        skipped=tuple(skipped),
        licence=licence,
        skeleton=skeleton,
    )


def task_of(truths: InstanceSets) -> str:
    """What is to be learnt: with one object in every image where it is, or its points; else all objects."""
    if (truths.counts != 1).any():
        return "detection"
    return "localization" if truths.keypoints is None else "keypoints"


def sizes_of(dataset: Dataset, rows: Sequence[int]) -> list[Size]:
    """Height and width of images, upright, for formats that state them.

    Raises:
        DataError: an image cannot be read.
    """
    if not isinstance(dataset.images, ImageFiles):
        return [dataset.images.read(row).shape[:2] for row in rows]
    sizes: list[Size] = []
    for header in headers([dataset.images.paths[row] for row in rows]):
        if isinstance(header, ImageError):
            raise header
        sizes.append(header.size)
    return sizes


def shapes_of(dataset: Dataset, rows: Indices, *, instead: Size) -> NDArray[np.int64]:
    """(N, 2) height and width of images, upright, read from headers; ``instead`` where one cannot be read."""
    if isinstance(dataset.images, ImageArrays):
        return np.tile(np.array(dataset.images.pixels.shape[1:3], dtype=np.int64), (len(rows), 1))
    known = _SHAPES.setdefault(dataset.images, {})
    unknown = [row for row in rows.tolist() if row not in known]
    if isinstance(dataset.images, ImageFiles):
        for row, header in zip(unknown, headers([dataset.images.paths[row] for row in unknown]), strict=True):
            known[row] = header.size if isinstance(header, Header) else instead
    else:
        known.update((row, dataset.images.read(row).shape[:2]) for row in unknown)
    return np.array([known[row] for row in rows.tolist()], dtype=np.int64).reshape(-1, 2)


def turned(found: Found, orientation: int, stored: Size) -> Found:
    """An object that was drawn on the pixels as stored, on the picture as EXIF turns it.

    Args:
        found: in pixels of the stored picture.
        orientation: EXIF, 1 to 8.
        stored: height and width of the stored picture.
    """
    height, width = stored

    def place(x: float, y: float) -> tuple[float, float]:
        x, y = (width - x if orientation in (2, 3, 7, 8) else x), (height - y if orientation in (3, 4, 6, 7) else y)
        return (y, x) if orientation >= 5 else (x, y)

    (x1, y1), (x2, y2) = place(*found.box[:2]), place(*found.box[2:])
    shape = found.shape
    if isinstance(shape, RunLengths):
        shape = run_lengths(upright(mask_of(shape).view(np.uint8), orientation).view(np.bool_))
    elif shape is not None:
        rings = tuple(tuple(v for x, y in _pairs(ring) for v in place(x, y)) for ring in shape.rings)
        shape = Polygons(rings=rings)
    points = found.points and [(*place(x, y), seen) if seen else (x, y, seen) for x, y, seen in found.points]
    return replace(
        found, box=(min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)), shape=shape, points=points or found.points
    )


def _fitted(picture: Picture, header: Header | ImageError, id_: str, skipped: list[Skipped]) -> str | None:
    """Bring the objects of a picture onto its upright pixels; gives the reason where that cannot be done."""
    size = picture.size
    if isinstance(header, Header):
        if size is not None and size != header.size:
            if size != header.size[::-1]:
                return f"{OTHER_SIZE} {_words(header.size)} pixels, not {_words(size)} as stated: boxes would be off"
            if header.orientation >= 5:
                picture.objects = [turned(found, header.orientation, size) for found in picture.objects]
            else:
                reason = f"{OTHER_SIZE} {_words(header.size)} pixels, not {_words(size)} as stated: {AS_THE_FILE}"
                skipped.append(Skipped(source=picture.source or id_, reason=reason, stray=True))
        size = header.size
    objects: list[Found] = []
    for number, found in enumerate(picture.objects, start=1):
        reason = None
        if not is_box(found.box):
            reason = f"{NO_SIZE}: {_plain(found.box)}"
        elif size is not None and not _touches(found.box, size):
            reason = f"{OUTSIDE}, {_words(size)} pixels: {_plain(found.box)}"
        elif size is not None and isinstance(found.shape, RunLengths) and found.shape.size != size:
            reason = f"the mask has {_words(found.shape.size)} pixels, the image {_words(size)}"
        if reason is None:
            objects.append(found)
        else:
            skipped.append(Skipped(source=f"{id_} object {number}", reason=reason, stray=True))
    picture.objects = objects
    return None


def _touches(box: Box, size: Size) -> bool:
    return box[0] < size[1] and box[1] < size[0] and box[2] > 0 and box[3] > 0


def _packed(pictures: Sequence[Picture], skeleton: Skeleton | None) -> InstanceSets:
    objects = [found for picture in pictures for found in picture.objects]
    counts = [len(picture.objects) for picture in pictures]
    points = None
    if skeleton is not None:
        none = [(0.0, 0.0, 0.0)] * len(skeleton.names)
        points = torch.tensor([found.points or none for found in objects], dtype=torch.float32)
        points = points.reshape(len(objects), len(skeleton.names), 3)
    masked = any(found.shape is not None for found in objects)
    areas = None
    if masked or any(found.area is not None for found in objects):
        areas = torch.tensor([_area(found) for found in objects], dtype=torch.float32)
    return InstanceSets(
        offsets=torch.tensor(np.concatenate(([0], np.cumsum(counts))).astype(np.int64)),
        boxes=torch.tensor([found.box for found in objects], dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor([found.label for found in objects], dtype=torch.int64),
        shapes=tuple(found.shape or NO_SHAPE for found in objects) if masked else None,
        keypoints=points,
        crowd=torch.tensor([found.crowd for found in objects]) if any(found.crowd for found in objects) else None,
        ignore=torch.tensor([found.ignore for found in objects]) if any(found.ignore for found in objects) else None,
        areas=areas,
    )


def _area(found: Found) -> float:
    if found.area is not None:
        return found.area
    if found.shape is not None:
        return area_of(found.shape)
    x1, y1, x2, y2 = found.box
    return (x2 - x1) * (y2 - y1)


def _pairs(ring: Sequence[float]) -> Iterator[tuple[float, float]]:
    return zip(ring[::2], ring[1::2], strict=True)


def _words(size: Size) -> str:
    return f"{size[1]}x{size[0]}"


def _plain(box: Box) -> str:
    return " ".join(f"{value:g}" for value in box)
