"""YOLO: a ``data.yaml`` with the classes and splits, and for each image a text file with a line per object.

A line is ``class x y width height``, the centre and the size as shares of the image's width and height; or ``class x1
y1 x2 y2 x3 y3 ...``, a polygon, also as shares; or, where the yaml says ``kpt_shape: [P, 2 or 3]``, the box and then
the points, with their visibility if there are three numbers of each. The text file lies where the image does, with
``labels`` for the last ``images`` of the path. An empty text file, or none, says that there is nothing on the image.

Shares are of the upright image, after its EXIF orientation, as the tools that write the format see it. A yaml that
names one split only makes no splits. Without a yaml, a folder with ``images`` and ``labels`` is read too; classes are
then named by ``classes.txt``, or by their numbers.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import yaml

from striate.core.instances import HIDDEN, UNLABELLED, VISIBLE, Polygons, Skeleton
from striate.data.dataset import Dataset, Skipped
from striate.data.formats import OBJECTS, SPLIT_NAMES, Part, bare_name, new_folder, parts, write_image
from striate.data.formats.coco import flips_of
from striate.data.images import IMAGE_SUFFIXES, Header
from striate.data.objects import (
    IN_PIXELS,
    NO_CLASS_ID,
    NO_FILE,
    Found,
    Picture,
    Point,
    Size,
    dataset_of,
    headers,
    sizes_of,
)
from striate.data.shapes import box_of
from striate.errors import DataError

NAME = "YOLO"
EXPECTS = "a data.yaml with names and train, or a folder with it; or a folder with images/ and labels/*.txt"
TASKS = OBJECTS
HOLDS: frozenset[Part] = frozenset(
    {"polygons", "points", "hidden points", "point names", "boxes", "class names", "empty classes"}
)

_SUFFIXES = (".yaml", ".yml")
_SPLITS = ("train", "val", "test")
_OTHER_NAMES = {"val": ("valid", "validation")}
_DIGITS = 8  # of a share: a ten-thousandth of a pixel in the largest images
_NO_LABELS = re.compile(r"(classes|train|val|test)\.txt$|readme", re.IGNORECASE)  # text that lies beside labels

Yaml = dict[str, Any]


def recognise(path: Path) -> bool:
    """A YAML file with names and splits, a folder with one, or with images/ and labels/ that hold text files."""
    if path.is_file():
        return path.suffix.lower() in _SUFFIXES and _is_yolo(path)
    if not path.is_dir():
        return False
    return bool(_yaml_files(path)) or (
        (path / "images").is_dir() and next((path / "labels").rglob("*.txt"), None) is not None
    )


def load(path: Path) -> Dataset:
    """See `Format.load`; a line that cannot be used is skipped, and recorded with its file and number."""
    file = path if path.is_file() else _yaml_file(path)
    skipped: list[Skipped] = []
    if file is None:
        root, names = path, _names_beside(path)
        images = _found_splits(path)
        skeleton, numbers = None, 0
    else:
        document = _document(file)
        root, names = file.parent, _names(file, document.get("names"))
        images = _stated_splits(file, document, skipped)
        skeleton, numbers = _skeleton(file, document)
    pairs = [(split, image) for split, files in images for image in files]
    seen = list(headers([image for _, image in pairs]))
    pictures: list[Picture] = []
    highest = -1
    for (split, image), header in zip(pairs, seen, strict=True):
        picture = Picture(file=image, split=split)
        pictures.append(picture)
        labels = labels_of(image)
        if not isinstance(header, Header):
            if labels.is_file() and header.kind != "missing":
                source = _name(labels, root)
                reason = f"the size of {image.name} cannot be read, and what it states are shares of that"
                skipped.append(Skipped(source=source, reason=reason))
            continue
        for number, line in _lines(labels):
            try:
                found = _object(line, header.size, skeleton, numbers)
                if found.label < 0 or (names is not None and found.label >= len(names)):
                    raise ValueError(f"{NO_CLASS_ID} number {found.label}")
            except ValueError as error:
                skipped.append(Skipped(source=f"{_name(labels, root)} line {number}", reason=str(error)))
            else:
                picture.objects.append(found)
                highest = max(highest, found.label)
    skipped += _without_image({labels_of(image) for _, image in pairs}, root)
    return dataset_of(
        pictures,
        path=path,
        root=root,
        form=NAME,
        expects=EXPECTS,
        classes=names if names is not None else [str(label) for label in range(highest + 1)],
        skipped=skipped,
        skeleton=skeleton,
        seen=seen,
    )


def save(dataset: Dataset, folder: Path) -> None:
    """See `Format.save`; writes ``data.yaml``, ``images/<split>/`` and ``labels/<split>/``.

    Where every object has a mask of polygons, each a single ring, and there are no points, polygons are written rather
    than boxes: read back, boxes are those around the polygons. What `striate.data.convert.losses` lists is not written.
    """
    folder = new_folder(folder)
    truths = dataset.instances
    rings = rings_of(dataset)
    splits: list[str] = []
    for split, rows in parts(dataset, "train"):
        splits.append(split)
        chosen: list[int] = rows.tolist()
        for row, (height, width) in zip(chosen, sizes_of(dataset, chosen), strict=True):
            name = bare_name(dataset.ids[row])
            file = write_image(dataset, row, folder / "images" / split / name)
            scale = np.array((width, height))
            lines: list[str] = []
            truth = truths[row]
            for k, (label, box) in enumerate(zip(truth.labels.tolist(), truth.boxes.double().numpy(), strict=True)):
                if rings is not None:
                    numbers = np.array(rings[int(truths.offsets[row]) + k]).reshape(-1, 2) / scale
                else:
                    numbers = np.stack(((box[:2] + box[2:]) / 2, box[2:] - box[:2])) / scale
                cells = [_share(value) for value in numbers.ravel().tolist()]
                if truth.keypoints is not None:
                    for x, y, known in truth.keypoints[k].tolist():
                        cells += [_share(x / width), _share(y / height), str(int(known))]
                lines.append(" ".join((str(label), *cells)))
            target = labels_of(file)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    document: Yaml = {"path": ".", **{split: f"images/{split}" for split in splits}}
    document |= {"names": dict(enumerate(dataset.classes))}
    if dataset.skeleton is not None:
        document |= {"kpt_shape": [len(dataset.skeleton.names), 3], "flip_idx": list(dataset.skeleton.flips)}
        document["kpt_names"] = list(dataset.skeleton.names)
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    (folder / "data.yaml").write_text(text, encoding="utf-8")


def rings_of(dataset: Dataset) -> list[tuple[float, ...]] | None:
    """The polygon of each object, where each has one and it can stand for the box; else None."""
    truths = dataset.instances
    if truths.shapes is None or truths.keypoints is not None:
        return None
    rings: list[tuple[float, ...]] = []
    for shape, box in zip(truths.shapes, truths.boxes.tolist(), strict=True):
        if not isinstance(shape, Polygons) or len(shape.rings) != 1:
            return None
        if not np.allclose(box_of(shape), box, atol=0.5):
            return None
        rings.append(shape.rings[0])
    return rings


def labels_of(image: Path) -> Path:
    """The text file of an image: ``labels`` for the last ``images`` of its path."""
    pieces = list(image.parts)
    for place in range(len(pieces) - 2, -1, -1):
        if pieces[place] == "images":
            pieces[place] = "labels"
            break
    return Path(*pieces).with_suffix(".txt")


def _is_yolo(file: Path) -> bool:
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, yaml.YAMLError):
        return False
    return isinstance(document, dict) and "names" in document and any(split in document for split in _SPLITS)


def _yaml_files(folder: Path) -> list[Path]:
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in _SUFFIXES and file.is_file())
    return [file for file in files if _is_yolo(file)]


def _yaml_file(folder: Path) -> Path | None:
    files = _yaml_files(folder)
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise DataError(f"{folder}: {names} all name classes and splits. Name the one to read.")
    return files[0] if files else None


def _document(file: Path) -> Yaml:
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}). Check its permissions.") from error
    except (ValueError, yaml.YAMLError) as error:
        raise DataError(f"{file}: is not YAML ({' '.join(str(error).split())}). Mend it.") from error
    return cast("Yaml", document)


def _names(file: Path, stated: Any) -> list[str]:
    """Class names from a list, or from a mapping of their numbers."""
    if isinstance(stated, Mapping):
        numbered = cast("Mapping[Any, Any]", stated)
        try:
            names = {int(number): str(name) for number, name in numbered.items()}
        except (TypeError, ValueError) as error:
            raise DataError(
                f"{file}: its names are {stated!r}. Expected a list, or numbers from 0 with names."
            ) from error
        return [names.get(number, str(number)) for number in range(max(names, default=-1) + 1)]
    if isinstance(stated, Sequence) and not isinstance(stated, str):
        return [str(name) for name in cast("Sequence[Any]", stated)]
    raise DataError(f"{file}: its names are {stated!r}. Expected a list, or numbers from 0 with names.")


def _names_beside(folder: Path) -> list[str] | None:
    for file in (folder / "classes.txt", folder / "labels" / "classes.txt"):
        if file.is_file():
            return [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    return None


def _skeleton(file: Path, document: Yaml) -> tuple[Skeleton | None, int]:
    """What the points mean, and how many numbers each has."""
    shape = document.get("kpt_shape")
    if shape is None:
        return None, 0
    if not isinstance(shape, list) or len(cast("list[Any]", shape)) != 2 or shape[1] not in (2, 3):
        raise DataError(f"{file}: its kpt_shape is {shape!r}. Expected the number of points, and 2 or 3.")
    count, numbers = int(shape[0]), int(shape[1])
    stated = document.get("kpt_names")
    if isinstance(stated, Mapping):  # of each class
        stated = next(iter(cast("Mapping[Any, Any]", stated).values()), None)
    named = isinstance(stated, list) and len(cast("list[Any]", stated)) == count
    names = tuple(str(name) for name in cast("list[Any]", stated)) if named else tuple(map(str, range(count)))
    flips = document.get("flip_idx")
    if flips is None:
        return Skeleton(names=names, flips=flips_of(names)), numbers
    if not isinstance(flips, list) or sorted(cast("list[Any]", flips)) != list(range(count)):
        raise DataError(f"{file}: its flip_idx is {flips!r}. Expected each number from 0 to {count - 1} once.")
    return Skeleton(names=names, flips=tuple(cast("list[int]", flips))), numbers


def _stated_splits(file: Path, document: Yaml, skipped: list[Skipped]) -> list[tuple[str | None, list[Path]]]:
    """The images of each split that the yaml names."""
    base = file.parent / str(document.get("path") or ".")
    splits: list[tuple[str | None, list[Path]]] = []
    for split in _SPLITS:
        names = (split, *_OTHER_NAMES.get(split, ()))
        stated = next((document[name] for name in names if document.get(name)), None)
        if stated is None:
            continue
        entries = cast("list[Any]", stated) if isinstance(stated, list) else [stated]
        images: list[Path] = []
        for entry in map(str, entries):
            # Exports say ../train/images and lie beside train; and path is often where the data once lay.
            stripped = re.sub(r"^(\.\./)+", "", entry)
            places = [base / entry, file.parent / entry, base / stripped, file.parent / stripped]
            place = next((place for place in places if place.exists()), None)
            if place is None:
                skipped.append(Skipped(source=f"{file.name} {split}", reason=f"{NO_FILE} or folder {entry}"))
            elif place.is_dir():
                images += _images(place)
            else:
                images += _listed(place, base)
        splits.append((split, images))
    return splits if len(splits) != 1 else [(None, splits[0][1])]


def _found_splits(folder: Path) -> list[tuple[str | None, list[Path]]]:
    """The images below images/, by the folders train, val, test there."""
    inner = [entry for entry in sorted((folder / "images").iterdir()) if entry.is_dir()]
    named = [entry for entry in inner if entry.name.casefold() in SPLIT_NAMES]
    if len(named) < 2:
        return [(None, _images(folder / "images"))]
    return [(SPLIT_NAMES[entry.name.casefold()], _images(entry)) for entry in named]


def _images(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)


def _listed(file: Path, base: Path) -> list[Path]:
    """The images that a text file lists, a path per line."""
    lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    return [next((p for p in (file.parent / line, base / line) if p.exists()), base / line) for line in lines if line]


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    if not file.is_file():
        return
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read ({error}). Expected a line per object, as text.") from error
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield number, line


def _object(line: str, size: Size, skeleton: Skeleton | None, each: int) -> Found:
    height, width = size
    try:
        label, *numbers = (float(cell) for cell in line.split())
    except ValueError:
        raise ValueError(f"holds something other than numbers: {line.strip()[:60]!r}") from None
    if label != int(label):
        raise ValueError(f"the class is {label:g}, not a whole number")
    if not np.isfinite(numbers).all():
        raise ValueError("holds a number that is not finite")
    if len(numbers) != 4 and skeleton is None:
        if len(numbers) < 6 or len(numbers) % 2:
            raise ValueError(f"has {len(numbers) + 1} numbers, expected 5, or 7 and more for a polygon")
        ring = tuple(share * (height if k % 2 else width) for k, share in enumerate(numbers))
        shape = Polygons(rings=(ring,))
        _check_shares(numbers)
        return Found(label=int(label), box=box_of(shape), shape=shape)
    points = None
    if skeleton is not None:
        count = len(skeleton.names)
        if len(numbers) != 4 + each * count:
            raise ValueError(f"has {len(numbers) + 1} numbers, expected {5 + each * count} as kpt_shape says")
        points = _points(numbers[4:], each, size)
    x, y, w, h = numbers[:4]
    _check_shares(numbers[:4])
    return Found(
        label=int(label),
        box=((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height),
        points=points,
    )


def _check_shares(numbers: Sequence[float]) -> None:
    if max(numbers) > 2:  # a little over 1 is a box that leaves the image
        raise ValueError(f"has {max(numbers):g} {IN_PIXELS}")


def _points(numbers: Sequence[float], step: int, size: Size) -> list[Point]:
    height, width = size
    points: list[Point] = []
    for place in range(0, len(numbers), step):
        x, y = numbers[place : place + 2]
        known = int(numbers[place + 2]) if step == 3 else UNLABELLED if x == y == 0 else VISIBLE
        known = known if known in (UNLABELLED, HIDDEN, VISIBLE) else VISIBLE
        points.append((x * width, y * height, known) if known else (0.0, 0.0, 0.0))
    return points


def _share(value: float) -> str:
    return f"{value:.{_DIGITS}f}".rstrip("0").rstrip(".") or "0"


def _without_image(known: set[Path], root: Path) -> list[Skipped]:
    """Text files beside those of images that belong to none."""
    folders = sorted({file.parent for file in known})
    texts = (file for folder in folders if folder.is_dir() for file in sorted(folder.glob("*.txt")))
    return [
        Skipped(source=_name(file, root), reason="there is no image of this name")
        for file in texts
        if file not in known and not _NO_LABELS.match(file.name)
    ]


def _name(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else file.as_posix()
