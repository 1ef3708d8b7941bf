"""A table of images: CSV with a path and a label per row, and optionally a split and other columns.

Columns are found by their names where there is a header, else by what is in them: the path ends like an image, a split
is train, val or test throughout, and the label is the first column that is neither. Whatever is left can be grouped by.
Comma, semicolon, tab and bar separate columns; paths are relative to the table's own folder.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from striate.core.annotations import Classifications
from striate.data.dataset import Dataset, Indices, Skipped
from striate.data.formats import (
    CLASSES,
    SPLIT_NAMES,
    Part,
    inner_name,
    new_folder,
    parts,
    says_where,
    sorted_classes,
    write_image,
)
from striate.data.images import IMAGE_SUFFIXES, ImageFiles
from striate.errors import DataError

NAME = "table of images"
EXPECTS = "a .csv or .tsv file with columns path and label, and optionally split"
TASKS = CLASSES
HOLDS: frozenset[Part] = frozenset({"class names", "groups"})

PATH_NAMES = (
    "path",
    "file",
    "filename",
    "file_name",
    "filepath",
    "file_path",
    "image",
    "image_path",
    "img",
    "img_path",
)
LABEL_NAMES = ("label", "class", "class_name", "classname", "category", "target")
SPLIT_COLUMNS = ("split", "set", "subset", "partition")

_PROBE_ROWS = 100  # rows that are looked at to tell the columns


@dataclass(frozen=True, kw_only=True)
class _Columns:
    path: int
    label: int
    split: int | None
    others: dict[str, int]  # name -> column
    header: bool


def recognise(path: Path) -> bool:
    """A file that is called like a table, and has no columns of boxes."""
    return path.is_file() and path.suffix.lower() in (".csv", ".tsv") and not says_where(path)


def load(path: Path) -> Dataset:
    """See `Format.load`; a row that cannot be used is skipped and recorded with its line number."""
    lines = read_rows(path)
    columns = _columns(path, [cells for _, cells in lines[:_PROBE_ROWS]])
    skipped: list[Skipped] = []
    rows: dict[str, tuple[str, str | None, Path, list[str]]] = {}  # id -> (label, split, file, all cells)
    tried: Path | None = None
    for line, cells in lines[1:] if columns.header else lines:
        file, reason = _file(path, cells, columns)
        if file is None:
            skipped.append(Skipped(source=f"{path.name} line {line}", reason=reason))
            continue
        label = cells[columns.label].strip()
        split = None if columns.split is None else SPLIT_NAMES.get(cells[columns.split].strip().casefold(), "")
        id_ = file.relative_to(path.parent).as_posix() if file.is_relative_to(path.parent) else file.as_posix()
        if not label:
            reason = "the label is empty"
        elif split == "" and columns.split is not None:
            reason = f"the split is {cells[columns.split]!r}, none of train, val, test"
        elif id_ in rows:
            reason = f"{id_} is listed a second time"
            reason += "" if rows[id_][0] == label else f", with another label: {label!r}, first {rows[id_][0]!r}"
        elif not file.is_file():
            reason = f"there is no file {id_}"
            tried = tried or file
        else:
            rows[id_] = (label, split, file, cells)
            continue
        skipped.append(Skipped(source=f"{path.name} line {line}", reason=reason))
    if not rows:
        if tried is not None:
            raise DataError(f"{path}: none of its images exists, as {tried}. Paths are relative to {path.parent}.")
        raise DataError(f"{path}: no row can be used. {_first(skipped)}Expected {EXPECTS}.")
    ids = sorted(rows)
    classes = sorted_classes({label for label, _, _, _ in rows.values()})
    number = {label: k for k, label in enumerate(classes)}
    splits: dict[str, Indices] = {}
    for split in ("train", "val", "test"):
        members = [i for i, id_ in enumerate(ids) if rows[id_][1] == split]
        if members:
            splits[split] = np.array(members, dtype=np.int64)
    return Dataset(
        name=path.stem,
        format=NAME,
        path=path,
        task="classification",
        classes=classes,
        ids=ids,
        images=ImageFiles([rows[id_][2] for id_ in ids]),
        truths=Classifications(labels=torch.tensor([number[rows[id_][0]] for id_ in ids], dtype=torch.int64)),
        splits=splits,
        groups={name: [_cell(rows[id_][3], column) for id_ in ids] for name, column in columns.others.items()},
        skipped=tuple(skipped),
    )


def save(dataset: Dataset, folder: Path) -> None:
    """See `Format.save`; writes ``labels.csv`` and ``images/``, files byte for byte, images in memory as PNG."""
    folder = new_folder(folder)
    names = list(dataset.groups)
    lines: list[list[str]] = []
    for split, rows in parts(dataset, ""):
        for row in map(int, rows):
            label = dataset.classes[int(dataset.labels[row])]
            name = inner_name(dataset.ids[row], label).removeprefix("images/")
            file = write_image(dataset, row, folder / "images" / name)
            cells = [file.relative_to(folder).as_posix(), label, *([split] if split else [])]
            lines.append(cells + [dataset.groups[name][row] for name in names])
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "label", *(["split"] if dataset.splits else []), *names])
        writer.writerows(lines)


def read_rows(path: Path) -> list[tuple[int, list[str]]]:
    """Every row that is not empty, with the number of the line that it ends on."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Check its permissions.") from error
    try:
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(f"{path}: line {line} is not UTF-8. Save the table as CSV UTF-8.") from error
    if path.suffix.lower() == ".tsv":
        delimiter = "\t"
    else:
        head = text[:100_000].splitlines()[:20]
        delimiter = max(",;\t|", key=lambda mark: min((line.count(mark) for line in head if line.strip()), default=0))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    try:
        rows = [(reader.line_num, cells) for cells in reader]
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num} is not CSV ({error}). Mend its quotes.") from error
    return [(line, cells) for line, cells in rows if any(cell.strip() for cell in cells)]


def _columns(path: Path, rows: Sequence[list[str]]) -> _Columns:
    """Tell the columns by the header's names, else by the first rows."""
    if not rows:
        raise DataError(f"{path}: the table is empty. Expected {EXPECTS}.")
    header = not any(_is_image_name(cell) for cell in rows[0])
    names = [cell.strip() for cell in rows[0]] if header else []
    folded = [name.casefold().replace(" ", "_") for name in names]
    body = rows[1:] if header else rows
    if not body:
        raise DataError(f"{path}: the table has a header, but no rows. Expected {EXPECTS}.")
    width = max(len(cells) for cells in body)
    image = _named(folded, PATH_NAMES)
    if image is None:
        image = next((c for c in range(width) if any(_is_image_name(_cell(cells, c)) for cells in body)), None)
    if image is None:
        seen = ", ".join(names) or ", ".join(rows[0])
        raise DataError(f"{path}: no column holds image files; its first row is: {seen}. Expected {EXPECTS}.")
    split = _named(folded, SPLIT_COLUMNS)
    if split is None and not header:
        split = next((c for c in range(width) if c != image and _is_split(body, c)), None)
    elif split is not None and not any(_cell(cells, split).casefold() in SPLIT_NAMES for cells in body):
        split = None  # called "set", say, but something else
    label = _named(folded, LABEL_NAMES)
    if label is None:
        label = next((c for c in range(width) if c not in (image, split)), None)
    if label is None:
        raise DataError(f"{path}: there is a column of images, but none of labels. Expected {EXPECTS}.")
    others: dict[str, int] = {}
    for column in range(width):
        if column not in (image, split, label):
            name = names[column] if column < len(names) and names[column] else f"column {column + 1}"
            others[name if name not in others else f"{name} (column {column + 1})"] = column
    return _Columns(path=image, label=label, split=split, others=others, header=header)


def _file(path: Path, cells: list[str], columns: _Columns) -> tuple[Path | None, str]:
    """The file that a row names, or None and why there is none."""
    needed = max(columns.path, columns.label, columns.split or 0)
    if len(cells) <= needed:
        return None, f"{len(cells)} columns, expected at least {needed + 1}"
    name = cells[columns.path].strip()
    if not name:
        return None, "the path is empty"
    return file_of(path, name), ""


def file_of(path: Path, name: str) -> Path:
    """The file that a table names, relative to its own folder."""
    file = path.parent / name
    if "\\" in name and not file.exists():  # written on Windows
        file = path.parent / name.replace("\\", "/")
    return file


def _named(folded: list[str], wanted: tuple[str, ...]) -> int | None:
    return next((folded.index(name) for name in wanted if name in folded), None)


def _is_image_name(cell: str) -> bool:
    return Path(cell.strip().replace("\\", "/")).suffix.lower() in IMAGE_SUFFIXES


def _is_split(body: Sequence[list[str]], column: int) -> bool:
    return all(_cell(cells, column).casefold() in SPLIT_NAMES for cells in body)


def _cell(cells: list[str], column: int) -> str:
    return cells[column].strip() if column < len(cells) else ""


def _first(skipped: Sequence[Skipped]) -> str:
    return f"{skipped[0].source}: {skipped[0].reason}. " if skipped else ""
