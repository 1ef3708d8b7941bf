"""A table of boxes: CSV with a header, and a row per object: image, label, box, and optionally split.

A box is four columns in pixels of the upright image: x1, y1, x2, y2; xmin, ymin, xmax, ymax; left, top, right, bottom;
or x, y, w, h, the upper left corner and the size. Columns width and height beside corners are of the image. Where no
number of the whole table is above 1 they are shares of the image, as Open Images has them. A row with an image and
nothing else says that there is nothing on it. Paths are relative to the table's own folder.
"""

import csv
import io
from pathlib import Path

from striate.data.dataset import Dataset, Skipped
from striate.data.formats import OBJECTS, SPLIT_NAMES, Part, bare_name, new_folder, parts, sorted_classes, write_image
from striate.data.formats.table import LABEL_NAMES, PATH_NAMES, SPLIT_COLUMNS, file_of, read_rows
from striate.data.images import Header
from striate.data.objects import Box, Found, Picture, dataset_of, headers
from striate.errors import DataError

NAME = "table of boxes"
EXPECTS = "a .csv or .tsv file with columns image, label and x1, y1, x2, y2 (or xmin ..., or x, y, w, h)"
TASKS = OBJECTS
HOLDS: frozenset[Part] = frozenset({"boxes", "class names", "ignored", "crowds"})

_CORNERS = (
    ("x1", "y1", "x2", "y2"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("x_min", "y_min", "x_max", "y_max"),
    ("left", "top", "right", "bottom"),
)
_SIZED = (
    ("x", "y", "w", "h"),
    ("x", "y", "width", "height"),
    ("bbox_x", "bbox_y", "bbox_width", "bbox_height"),
    ("left", "top", "width", "height"),
)
_IMAGE_NAMES = (*PATH_NAMES, "image_id", "imageid", "image_name", "frame")
_CLASS_NAMES = (*LABEL_NAMES, "labelname", "label_name", "name", "category_name")
_IGNORED = ("ignore", "difficult")
_CROWDS = ("crowd", "iscrowd", "is_crowd", "isgroupof")
_HEAD_BYTES = 1 << 16


def recognise(path: Path) -> bool:
    """A table whose header has four columns of a box."""
    if not path.is_file() or path.suffix.lower() not in (".csv", ".tsv"):
        return False
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except OSError:
        return False
    text = head.decode("utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", errors="replace")
    line = next((line for line in text.splitlines() if line.strip(",;|\t ")), "")
    return any(
        _box_columns([_folded(cell) for cell in cells]) is not None
        for mark in ",;|\t"
        for cells in csv.reader(io.StringIO(line), delimiter=mark, skipinitialspace=True)
    )


def load(path: Path) -> Dataset:
    """See `Format.load`; a row that cannot be used is skipped and recorded with its line number."""
    rows = read_rows(path)
    names = [_folded(cell) for cell in rows[0][1]] if rows else []
    box = _box_columns(names)
    image = next((names.index(name) for name in _IMAGE_NAMES if name in names), None)
    label = next((names.index(name) for name in _CLASS_NAMES if name in names), None)
    if box is None or image is None or label is None:
        what = "an image" if image is None else "a label" if label is None else "a box"
        raise DataError(f"{path}: no column holds {what}; the header is: {', '.join(names)}. Expected {EXPECTS}.")
    split = next((names.index(name) for name in SPLIT_COLUMNS if name in names), None)
    ignore = next((names.index(name) for name in _IGNORED if name in names), None)
    crowd = next((names.index(name) for name in _CROWDS if name in names), None)
    columns, sized = box
    size = None
    if not sized and "width" in names and "height" in names:
        size = names.index("height"), names.index("width")
    skipped: list[Skipped] = []
    pictures: dict[Path, Picture] = {}
    objects: list[tuple[Picture, str, Box, bool, bool]] = []
    for line, cells in rows[1:]:
        cells = [cell.strip() for cell in cells] + [""] * (len(names) - len(cells))
        reason = None
        if not cells[image]:
            reason = "the image is empty"
        part = cells[split].casefold() if split is not None else ""
        if part and part not in SPLIT_NAMES:
            reason = f"the split is {cells[split or 0]!r}, none of train, val, test"
        values = [cells[column] for column in columns]
        if reason is None:
            file = file_of(path, cells[image])
            if file not in pictures:
                stated = [_whole(cells[column]) for column in size or ()]
                pictures[file] = Picture(
                    file=file,
                    split=SPLIT_NAMES.get(part),
                    size=(stated[0], stated[1]) if stated and all(stated) else None,
                    source=f"{path.name} line {line}",
                )
            if SPLIT_NAMES.get(part) != pictures[file].split:
                reason = f"the split is {part or 'empty'!r}, and {pictures[file].split!r} where the image comes first"
            elif not any(values) and not cells[label]:
                continue  # nothing is on this image
            elif not cells[label]:
                reason = "the label is empty"
            else:
                try:
                    x1, y1, x2, y2 = map(float, values)
                    found = (x1, y1, x1 + x2, y1 + y2) if sized else (x1, y1, x2, y2)
                    flags = [column is not None and _is_true(cells[column]) for column in (ignore, crowd)]
                    objects.append((pictures[file], cells[label], found, flags[0], flags[1]))
                except ValueError:
                    reason = f"the box is {', '.join(values)}: not four numbers"
        if reason is not None:
            skipped.append(Skipped(source=f"{path.name} line {line}", reason=reason))
    classes = sorted_classes({name for _, name, *_ in objects})
    number = {name: k for k, name in enumerate(classes)}
    for picture, name, found, ignored, crowded in objects:
        picture.objects.append(Found(label=number[name], box=found, ignore=ignored, crowd=crowded))
    seen = list(headers(list(pictures)))
    if objects and max(max(found) for _, _, found, _, _ in objects) <= 1:
        for picture, header in zip(pictures.values(), seen, strict=True):
            if isinstance(header, Header):
                _scale(picture, header.size)
        reason = "no number of a box is above 1: they are read as shares of the image"
        skipped.append(Skipped(source=path.name, reason=reason, stray=True))
    return dataset_of(
        pictures.values(),
        path=path,
        root=path.parent,
        form=NAME,
        expects=EXPECTS,
        classes=classes,
        skipped=skipped,
        seen=seen,
    )


def save(dataset: Dataset, folder: Path) -> None:
    """See `Format.save`; writes ``boxes.csv`` and ``images/``; an image without objects has a row without a box."""
    folder = new_folder(folder)
    truths = dataset.instances
    flags = {"ignore": truths.ignore, "crowd": truths.crowd}
    lines: list[list[str]] = []
    for split, rows in parts(dataset, ""):
        for row in map(int, rows):
            name = bare_name(dataset.ids[row])
            file = write_image(dataset, row, folder / "images" / name).relative_to(folder).as_posix()
            truth = truths[row]
            ends = [split] if dataset.splits else []
            for k, (label, box) in enumerate(zip(truth.labels.tolist(), truth.boxes.numpy(), strict=True)):
                given = [flag for flag in (truth.ignore, truth.crowd) if flag is not None]
                cells = [str(value) for value in box]  # the shortest that 32 bits can be told by
                lines.append([file, dataset.classes[label], *cells, *(str(int(flag[k])) for flag in given), *ends])
            if not len(truth):
                lines.append([file, *[""] * (5 + sum(flag is not None for flag in flags.values())), *ends])
    with (folder / "boxes.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        given = [name for name, flag in flags.items() if flag is not None]
        writer.writerow(["image", "label", "x1", "y1", "x2", "y2", *given, *(["split"] if dataset.splits else [])])
        writer.writerows(lines)


def _folded(cell: str) -> str:
    return cell.strip().casefold().replace(" ", "_")


def _box_columns(names: list[str]) -> tuple[tuple[int, ...], bool] | None:
    """The four columns of a box, and whether the last two are its size; None where there are none."""
    for sized, forms in ((False, _CORNERS), (True, _SIZED)):
        for form in forms:
            if all(name in names for name in form):
                return tuple(names.index(name) for name in form), sized
    return None


def _scale(picture: Picture, size: tuple[int, int]) -> None:
    height, width = size
    for found in picture.objects:
        x1, y1, x2, y2 = found.box
        found.box = (x1 * width, y1 * height, x2 * width, y2 * height)


def _whole(text: str) -> int:
    try:
        return int(float(text))
    except ValueError:
        return 0


def _is_true(text: str) -> bool:
    return text.casefold() not in ("", "0", "0.0", "false", "no")
