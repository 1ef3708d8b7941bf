"""A folder of classes: each sub-folder is a class, named by it, and holds its images at any depth.

Optionally one level above the classes there is one folder per split (``train/cat/1.jpg``). Classes are sorted by name,
as torchvision's ImageFolder does, but by value where all names are whole numbers.
"""

import os
from collections.abc import Iterator
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

NAME = "folder of classes"
EXPECTS = "one sub-folder with images per class, or train/, val/ and test/ with such folders in them"
TASKS = CLASSES
HOLDS: frozenset[Part] = frozenset({"class names"})


def recognise(path: Path) -> bool:
    """A folder with an image in a sub-folder, and nothing that says what is on it and where."""
    return path.is_dir() and next(_full_folders(path), None) is not None and not says_where(path)


def load(path: Path) -> Dataset:
    """See `Format.load`."""
    skipped: list[Skipped] = []
    folders = _folders(path, skipped)
    split_folders = [name for name in folders if name.casefold() in SPLIT_NAMES]
    # A lone "test" among other folders is a class of that name; "train" says that splits are meant.
    has_splits = any(SPLIT_NAMES[name.casefold()] == "train" for name in split_folders) or (
        len(split_folders) == len(folders)
    )
    rows: list[tuple[str, str, str | None]] = []  # (id, class, split)
    if has_splits:
        _skip_loose(path, "", skipped, "lies in no split and no class folder")
        for name in folders:
            if name not in split_folders:
                skipped.append(Skipped(source=f"{name}/", reason="lies beside train/ and is no split", stray=True))
                continue
            split = SPLIT_NAMES[name.casefold()]
            _skip_loose(path, name, skipped, "lies in no class folder")
            for label in _folders(path / name, skipped, f"{name}/"):
                rows += [(id_, label, split) for id_ in _class(path, f"{name}/{label}", skipped)]
    else:
        _skip_loose(path, "", skipped, "lies in no class folder")
        for label in folders:
            rows += [(id_, label, None) for id_ in _class(path, label, skipped)]
    if not rows:
        where = "no class folder with images in its splits" if has_splits else "no class folder with images"
        raise DataError(f"{path}: {where}. Expected {EXPECTS}.")
    inner = path / rows[0][1]
    if not has_splits and len({label for _, label, _ in rows}) == 1 and len(list(_full_folders(inner))) > 1:
        raise DataError(f"{path}: its only class folder, {inner.name}, is itself a {NAME}. Name {inner}.")
    rows.sort()
    classes = sorted_classes({label for _, label, _ in rows})
    number = {label: k for k, label in enumerate(classes)}
    splits: dict[str, Indices] = {}
    for split in ("train", "val", "test"):
        members = [i for i, row in enumerate(rows) if row[2] == split]
        if members:
            splits[split] = np.array(members, dtype=np.int64)
    return Dataset(
        name=path.resolve().name,
        format=NAME,
        path=path,
        task="classification",
        classes=classes,
        ids=[id_ for id_, _, _ in rows],
        images=ImageFiles([path / id_ for id_, _, _ in rows]),
        truths=Classifications(labels=torch.tensor([number[label] for _, label, _ in rows], dtype=torch.int64)),
        splits=splits,
        skipped=tuple(skipped),
    )


def save(dataset: Dataset, folder: Path) -> None:
    """See `Format.save`; image files are copied byte for byte, images in memory become PNG."""
    for label in dataset.classes:
        if "/" in label or "\\" in label or label.startswith(".") or not label.strip():
            raise DataError(f"{dataset.name}: the class {label!r} cannot be the name of a folder. Rename it.")
    folder = new_folder(folder)
    for split, rows in parts(dataset, ""):
        for row in map(int, rows):
            label = dataset.classes[int(dataset.labels[row])]
            name = inner_name(dataset.ids[row], label)
            write_image(dataset, row, folder / split / label / name)


def hidden(name: str) -> bool:
    """Whether a file or folder is one that a system or a tool left behind."""
    return name.startswith(".") or name.casefold() in ("thumbs.db", "desktop.ini", "__macosx")


def _folders(path: Path, skipped: list[Skipped], prefix: str = "") -> list[str]:
    """Names of the sub-folders, hidden ones skipped."""
    names = [entry.name for entry in _entries(path) if entry.is_dir()]
    skipped += [
        Skipped(source=f"{prefix}{name}/", reason="hidden folder", stray=True) for name in names if hidden(name)
    ]
    return [name for name in names if not hidden(name)]


def _full_folders(path: Path) -> Iterator[str]:
    """Names of the sub-folders with an image in them."""
    for name in _folders(path, []):
        if next(_images_in(path, name, []), None) is not None:
            yield name


def _class(path: Path, relative: str, skipped: list[Skipped]) -> list[str]:
    ids = list(_images_in(path, relative, skipped))
    if not ids:
        skipped.append(Skipped(source=f"{relative}/", reason="no images in this folder: it makes no class", stray=True))
    return ids


def _images_in(root: Path, relative: str, skipped: list[Skipped], above: tuple[str, ...] = ()) -> Iterator[str]:
    """Paths, relative to the root, of the images below a folder."""
    real = os.path.realpath(root / relative)
    if real in above:  # a link to a folder that it lies in
        skipped.append(Skipped(source=f"{relative}/", reason="a link that leads back into itself", stray=True))
        return
    try:
        entries = _entries(root / relative)
    except DataError:
        skipped.append(Skipped(source=f"{relative}/", reason="the folder cannot be read"))
        return
    for entry in entries:
        id_ = f"{relative}/{entry.name}"
        if entry.is_dir():
            if hidden(entry.name):
                skipped.append(Skipped(source=f"{id_}/", reason="hidden folder", stray=True))
            else:
                yield from _images_in(root, id_, skipped, (*above, real))
        elif reason := _unfit(entry.name):
            skipped.append(Skipped(source=id_, reason=reason, stray=True))
        else:
            yield id_


def _skip_loose(path: Path, relative: str, skipped: list[Skipped], reason: str) -> None:
    """Record the files that lie above the class folders; loose images in one entry, there may be thousands."""
    loose: list[str] = []
    for entry in _entries(path / relative):
        if entry.is_dir():
            continue
        id_ = f"{relative}/{entry.name}" if relative else entry.name
        if unfit := _unfit(entry.name):
            skipped.append(Skipped(source=id_, reason=unfit, stray=True))
        else:
            loose.append(id_)
    if loose:
        more = f" (and {len(loose) - 1:,} more images)" if len(loose) > 1 else ""
        skipped.append(Skipped(source=f"{loose[0]}{more}", reason=reason, stray=True))


def _unfit(name: str) -> str | None:
    if hidden(name):
        return "hidden file"
    suffix = Path(name).suffix.lower()
    return None if suffix in IMAGE_SUFFIXES else f"not an image by its suffix ({suffix or 'none'})"


def _entries(path: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{path}: the folder cannot be read ({error.strerror}). Check its permissions.") from error
