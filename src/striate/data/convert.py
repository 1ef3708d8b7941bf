"""From one format to another, and what is lost on the way.

Of what a data set holds: what no format here reads (VOC's truncated, pose, occluded and part; COCO's supercategories,
attributes, licences of single images and ids) is dropped when it is loaded, and listed nowhere.
"""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from striate.core.annotations import Classifications
from striate.core.instances import HIDDEN, InstanceSets
from striate.data.dataset import Dataset
from striate.data.formats import OBJECTS, Format, Part, formats
from striate.data.formats.yolo import rings_of
from striate.data.objects import NO_SHAPE
from striate.data.shapes import area_of
from striate.errors import DataError, UsageError, did_you_mean

_NEAR = 0.5  # pixels, or square pixels: what is no nearer than that is another box, or another area


def convert(dataset: Dataset, to: str, folder: Path) -> list[str]:
    """Save a data set in another format.

    Args:
        dataset: as opened.
        to: the name of a module of `striate.data.formats`, as in "coco".
        folder: new or empty.

    Returns:
        What the format could not hold, as in "12 masks"; nothing where all of it is kept.

    Raises:
        UsageError: there is no such format.
        DataError: the format is for other tasks, the folder holds something, or an image cannot be read; nothing is
            left behind then.
    """
    if to not in formats():
        raise UsageError(f"{to!r} is no format.{did_you_mean(to, formats())} There are {', '.join(formats())}.")
    form = formats()[to]
    says_where = isinstance(dataset.truths, InstanceSets)
    if says_where != (form.TASKS == OBJECTS):
        fit = ", ".join(name for name, other in formats().items() if other.TASKS != form.TASKS)
        truth = "say what is where" if says_where else "are classes of whole images"
        raise DataError(f"{dataset.name}: its truths {truth}, which {form.NAME} does not hold. These do: {fit}.")
    there, empty = folder.exists(), not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    done = False
    try:
        form.save(dataset, folder)
        done = True
    finally:
        if empty and not done:  # half a data set would be taken for a whole one
            shutil.rmtree(folder, ignore_errors=True)
            if there:
                folder.mkdir(exist_ok=True)
    return losses(dataset, form)


def losses(dataset: Dataset, form: Format) -> list[str]:
    """What of a data set a format that is for its task cannot hold, as in "12 masks"."""
    lost = [words for part, words in _parts(dataset, form) if part not in form.HOLDS]
    return [words for words in lost if words]


def renamed(dataset: Dataset, names: Mapping[str, str | None]) -> Dataset:
    """The same data with other class names; two that become one are one class.

    Args:
        dataset: of any task.
        names: old name -> new name, or None to drop the objects of the class; others keep theirs.

    Raises:
        UsageError: there is no class of such a name, or images, which have one class each, would have none.
    """
    for name in names:
        if name not in dataset.classes:
            raise UsageError(f"{dataset.name} has no class {name!r}.{did_you_mean(name, dataset.classes)}")
    dropped = [name for name, new in names.items() if new is None]
    new_names = [names.get(name, name) for name in dataset.classes]
    classes = tuple(dict.fromkeys(name for name in new_names if name is not None))
    numbers = torch.tensor([-1 if name is None else classes.index(name) for name in new_names])
    if isinstance(dataset.truths, Classifications):
        if dropped:
            raise UsageError(
                f"{dataset.name}: an image of the class {dropped[0]!r} would have none. Remove the images."
            )
        return replace(dataset, classes=classes, truths=Classifications(labels=numbers[dataset.truths.labels]))
    truths = dataset.truths.keep(numbers[dataset.truths.labels] >= 0)
    return replace(dataset, classes=classes, truths=replace(truths, labels=numbers[truths.labels]))


def _parts(dataset: Dataset, form: Format) -> Iterator[tuple[Part, str]]:
    """What there is of each part, in words; empty where there is nothing of it."""
    shown = np.unique(dataset.truths.labels.numpy())
    empty = [name for label, name in enumerate(dataset.classes) if label not in shown]
    yield "empty classes", _count(len(empty), "class without images", "classes without images") + _named(empty)
    yield "groups", _count(len(dataset.groups), "column", "columns") + _named(list(dataset.groups))
    yield "licence", f"the licence, {dataset.licence}" if dataset.licence else ""
    yield "class names", _count(len(dataset.classes), "class name", "class names") + _named(dataset.classes)
    if not isinstance(dataset.truths, InstanceSets):
        return
    truths = dataset.truths
    shapes = [shape for shape in truths.shapes or () if shape != NO_SHAPE]
    as_polygons = "polygons" in form.HOLDS and rings_of(dataset) is not None
    if not as_polygons:
        yield "masks", _count(len(shapes), "mask", "masks")
    yield "areas", _count(_areas(truths, as_polygons), "area", "areas")
    yield "crowds", _count(_true(truths.crowd), "crowd flag", "crowd flags")
    yield "ignored", _count(_true(truths.ignore), "flag of an object to ignore", "flags of objects to ignore")
    points = truths.keypoints
    if points is None:
        yield "boxes", _count(len(truths.boxes), "box", "boxes")
        return
    yield "points", _count(int((points[..., 2] > 0).sum()), "point", "points")
    yield (
        "hidden points",
        _count(int((points[..., 2] == HIDDEN).sum()), "mark of a hidden point", "marks of hidden points"),
    )
    known = points[..., 2] > 0
    yield "hidden points", _count(int((~known).sum()), "point that is not labelled", "points that are not labelled")
    around = torch.cat((_ends(points, known, -1), _ends(points, known, 1)), dim=1)
    stated = int(((around - truths.boxes).abs() > _NEAR).any(dim=1).sum())
    yield "boxes", _count(stated, "box that is not around its points", "boxes that are not around their points")
    if dataset.skeleton is not None:
        named = [name for place, name in enumerate(dataset.skeleton.names) if name != str(place)]
        yield "point names", _count(len(named), "name of a point", "names of points") + _named(named)
        yield "lines", _count(len(dataset.skeleton.edges), "line between points", "lines between points")


def _true(flags: torch.Tensor | None) -> int:
    return 0 if flags is None else int(flags.sum())


def _ends(points: torch.Tensor, known: torch.Tensor, sign: int) -> torch.Tensor:
    """(M, 2) least (sign -1) or greatest (1) x and y of the known points."""
    far = torch.where(known[..., None], sign * points[..., :2], -torch.inf)
    return sign * far.amax(dim=1)


def _areas(truths: InstanceSets, as_polygons: bool) -> int:
    """Areas that follow neither from the boxes nor, where those are kept, from the polygons."""
    if truths.areas is None:
        return 0
    x1, y1, x2, y2 = truths.boxes.unbind(1)
    follow = (x2 - x1) * (y2 - y1)
    if as_polygons and truths.shapes is not None:
        follow = torch.tensor([area_of(shape) for shape in truths.shapes])
    return int(((follow - truths.areas).abs() > _NEAR).sum())


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}" if number else ""


def _named(names: "list[str] | tuple[str, ...]") -> str:
    return f" ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})" if names else ""
