"""Landmarks in ``.pts`` files, as the 300-W challenge has them (Sagonas et al. 2013): one beside each image.

A file is ``version: 1``, ``n_points: 68``, and the points between braces, x and y in a line. Pixels count from 1, as in
MATLAB, so that the middle of the first one is 1: here 0.5. The box is the one around the points, every point is
visible, and the class is ``face`` where there are 68 points, else ``object``; points have their numbers for names. An
image without a file has no object. Folders called train or test, trainset or testset, are the splits.
"""

import os
import re
from collections import Counter
from itertools import islice
from pathlib import Path

from striate.core.instances import VISIBLE, Skeleton
from striate.data.dataset import Dataset, Skipped
from striate.data.formats import OBJECTS, SPLIT_NAMES, Part, bare_name, new_folder, parts, write_image
from striate.data.images import IMAGE_SUFFIXES
from striate.data.objects import Found, Picture, Point, dataset_of
from striate.errors import DataError

NAME = "points in .pts files"
EXPECTS = "a folder with images and a .pts file of landmarks beside each, at any depth"
TASKS = OBJECTS
HOLDS: frozenset[Part] = frozenset({"points"})

_SHIFT = 0.5  # from the middle of the first pixel as 1 to it as 0.5
_LOOKED_AT = 200  # entries of each folder, to recognise the format
_FOLDERS_LOOKED_AT = 20
_SPLITS = SPLIT_NAMES | {"trainset": "train", "testset": "test"}

# The parts of a face, which are drawn as lines (figure 1 of Sagonas et al.): first point, last, whether it is closed.
_FACE_LINES = (
    (0, 16, False),
    (17, 21, False),
    (22, 26, False),
    (27, 30, False),
    (31, 35, False),
    (36, 41, True),
    (42, 47, True),
    (48, 59, True),
    (60, 67, True),
)
# Mirrored, the points of each row change places with those across: the first with the last, and so on inwards.
_FACE_ROWS = (
    range(17),
    range(17, 27),
    range(31, 36),
    (36, 37, 38, 39, 42, 43, 44, 45),
    (41, 40, 47, 46),
    range(48, 55),
    range(55, 60),
    range(60, 65),
    range(65, 68),
)
FACE_POINTS = 68


def recognise(path: Path) -> bool:
    """A folder with a .pts file among the first entries of it or of its folders."""
    return path.is_dir() and _has_points(path, 2)


def load(path: Path) -> Dataset:
    """See `Format.load`; a file that cannot be used is skipped and recorded, and so is its image."""
    files = sorted(file for file in path.rglob("*") if not file.name.startswith("."))
    images = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
    points = {file.with_suffix(""): file for file in files if file.suffix.lower() == ".pts"}
    skipped: list[Skipped] = []
    read: dict[Path, list[Point]] = {}
    bad: set[Path] = set()
    for stem, file in points.items():
        try:
            read[stem] = _points(file)
        except ValueError as error:
            bad.add(stem)
            skipped.append(Skipped(source=file.relative_to(path).as_posix(), reason=str(error)))
    usual = Counter(len(row) for row in read.values()).most_common(1)
    count = usual[0][0] if usual else 0
    for stem, row in list(read.items()):
        if len(row) != count:
            reason = f"has {len(row)} points, the other files have {count}"
            skipped.append(Skipped(source=points[stem].relative_to(path).as_posix(), reason=reason))
            bad.add(stem)
            del read[stem]
    if not read:
        first = f" {skipped[0].source}: {skipped[0].reason}." if skipped else ""
        raise DataError(f"{path}: no file of points can be used.{first} Expected {EXPECTS}.")
    pictures: list[Picture] = []
    for image in images:
        stem = image.with_suffix("")
        if stem in bad:
            continue
        picture = Picture(file=image, split=_split_of(image.relative_to(path)))
        if stem in read:
            x, y = [point[0] for point in read[stem]], [point[1] for point in read[stem]]
            picture.objects.append(Found(label=0, box=(min(x), min(y), max(x), max(y)), points=read[stem]))
        pictures.append(picture)
    with_image = {image.with_suffix("") for image in images}
    for stem in sorted(read.keys() - with_image):
        source = points[stem].relative_to(path).as_posix()
        skipped.append(Skipped(source=source, reason="there is no image of this name"))
    return dataset_of(
        pictures,
        path=path,
        root=path,
        form=NAME,
        expects=EXPECTS,
        classes=("face",) if count == FACE_POINTS else ("object",),
        skipped=skipped,
        skeleton=skeleton_of(count),
    )


def save(dataset: Dataset, folder: Path) -> None:
    """See `Format.save`; writes ``<split>/`` with images and files; raises where an image has two objects."""
    truths = dataset.instances
    if truths.keypoints is None:
        raise DataError(f"{dataset.name}: has no points, and {NAME} hold nothing else. Save it otherwise.")
    if (truths.counts > 1).any():
        row = int((truths.counts > 1).nonzero()[0])
        raise DataError(f"{dataset.name}: {dataset.ids[row]} has {int(truths.counts[row])} objects; {NAME} hold one.")
    folder = new_folder(folder)
    for split, rows in parts(dataset, ""):
        for row in map(int, rows):
            file = write_image(dataset, row, folder / split / bare_name(dataset.ids[row]))
            points = truths[row].keypoints
            if points is None or not len(points):
                continue
            lines = [f"{x + _SHIFT:.6f} {y + _SHIFT:.6f}" for x, y, _ in points[0].tolist()]
            text = "\n".join(("version: 1", f"n_points: {len(lines)}", "{", *lines, "}", ""))
            file.with_suffix(".pts").write_text(text, encoding="utf-8")


def skeleton_of(count: int) -> Skeleton:
    """What is known of so many points: for the 68 of 300-W, which are mirror images and which are joined."""
    names = tuple(map(str, range(count)))
    if count != FACE_POINTS:
        return Skeleton(names=names, flips=tuple(range(count)))
    flips = list(range(count))
    for row in _FACE_ROWS:
        for point, other in zip(row, reversed(row), strict=True):
            flips[point] = other
    edges = [(k, k + 1) for first, last, _ in _FACE_LINES for k in range(first, last)]
    edges += [(last, first) for first, last, closed in _FACE_LINES if closed]
    return Skeleton(names=names, flips=tuple(flips), edges=tuple(edges))


def _has_points(folder: Path, depth: int) -> bool:
    inner: list[Path] = []
    image: Path | None = None
    try:
        with os.scandir(folder) as entries:
            for entry in islice(entries, _LOOKED_AT):
                suffix = Path(entry.name).suffix.lower()
                if suffix == ".pts":
                    return True
                if suffix in IMAGE_SUFFIXES:
                    image = folder / entry.name
                elif depth and entry.is_dir():
                    inner.append(folder / entry.name)
        if image is not None and image.with_suffix(".pts").exists():  # images may come first
            return True
    except OSError:
        return False
    return any(_has_points(place, depth - 1) for place in inner[:_FOLDERS_LOOKED_AT])


def _points(file: Path) -> list[Point]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot be read ({error})") from None
    body = re.search(r"\{([^{}]*)\}", text)
    if body is None:
        raise ValueError("has no points between { and }")
    lines = [line.split() for line in body[1].splitlines() if line.strip()]
    try:
        points: list[Point] = [(float(x) - _SHIFT, float(y) - _SHIFT, VISIBLE) for x, y in lines]
    except ValueError:
        raise ValueError("has a line that is not x and y") from None
    stated = re.search(r"n_points:\s*(\d+)", text)
    if stated is not None and int(stated[1]) != len(points):
        raise ValueError(f"says n_points: {stated[1]}, and has {len(points)}")
    if len(points) < 2:
        raise ValueError(f"has {len(points)} points, expected two or more: the box is the one around them")
    return points


def _split_of(file: Path) -> str | None:
    return next((_SPLITS[part.casefold()] for part in file.parts[:-1] if part.casefold() in _SPLITS), None)
