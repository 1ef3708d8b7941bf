"""A corrected copy of a data set, with a log of what was done to which file and why. The original is only read."""

import csv
import json
import os
import shutil
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, ImageOps

from striate.core.instances import InstanceSets
from striate.data.convert import renamed
from striate.data.dataset import Dataset, ImageArrays, Images, Indices, Skipped
from striate.data.doctor.boxes import SAME, SLACK, only_by_hand
from striate.data.doctor.checks import LISTED_TWICE, SUFFIXES, name_to_keep, same_names, to_keep
from striate.data.doctor.examination import Examination
from striate.data.formats import coco, format_named, inner_name, table
from striate.data.formats import folder as folder_format
from striate.data.images import FORMATS, ImageFiles
from striate.data.objects import NO_SHAPE, OUTSIDE, STILL_USED
from striate.errors import DataError, UsageError
from striate.files import write_text
from striate.ops.boxes import area, at_least, clip

UNUSED = "unused"  # what images of no split are called in a copy, where all have one
_EXIF_ORIENTATION = 0x0112
_LOSSLESS_TIFF = ("raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "group3", "group4")


@dataclass(frozen=True, kw_only=True)
class Fix:
    """Something that was done; a line of the log."""

    file: str  # id in the original
    action: Literal["dropped", "renamed", "turned", "left out", "cut off", "merged"]  # the last two: boxes
    reason: str
    now: str | None = None  # where it lies in the copy, relative to it


@dataclass(frozen=True, kw_only=True)
class Mended:
    """A corrected copy."""

    path: Path  # what to train on: the folder, or the table in it
    log: Path
    kept: int  # images in the copy
    fixes: tuple[Fix, ...]

    def actions(self) -> dict[str, int]:
        """How often each action was done."""
        return dict(Counter(fix.action for fix in self.fixes))


def mend(of: Examination, out: Path) -> Mended:
    """Write a copy of a data set without what is wrong with it.

    Dropped are files that cannot be decoded, pictures that are in two classes (all copies), all exact copies but one
    (the one that stays is held out: test before val before train), and labels that are out of range. Classes whose
    names differ only in case or space become one. Images that EXIF turns are turned and stored again: PNG, TIFF, BMP
    and WebP without loss, JPEG with its own quantisation tables. Wrong suffixes are put right. Everything else is
    copied byte for byte; what the format did not read is left out.

    Of images with objects the copy is COCO JSON, which holds all that was read. Their files keep their bytes, turned by
    EXIF or not, and their suffixes. Boxes that leave their image are cut off at its border; those that are then without
    area are left out; of several objects that are the same one stays. Of exact copies one stays where their objects are
    the same, or one of them has some and those dropped have none; else all stay, for a person. Images of no split come
    into one called "unused".

    Args:
        of: what `examine` saw.
        out: a folder that does not exist or is empty, outside of the data. It comes to be whole or not at all.

    Returns:
        The copy. Its log lies beside it, not in it, where it would be one more stray file; one JSON object per line
        for each file, or box, that something was done to.

    Raises:
        UsageError: ``out`` is not such a folder.
        DataError: nothing would be left, there is what a copy would hide (`striate.data.doctor.boxes.BY_HAND`), or it
            cannot be written.
    """
    dataset = of.dataset
    check_target(dataset, out)
    if (off := only_by_hand(of)) is not None:
        where = f"{off.file}: " if off.file else ""
        raise DataError(f"{dataset.name}: no copy is written, which would hide this: {where}{off.message}. {off.fix}")
    dropped = _to_drop(of)
    fixes = [Fix(file=dataset.ids[row], action="dropped", reason=reason) for row, reason in sorted(dropped.items())]
    fixes += [_left_out(item) for item in dataset.skipped if not item.reason.endswith(STILL_USED)]
    rows = np.array([row for row in range(len(dataset)) if row not in dropped], dtype=np.int64)
    if not len(rows):
        raise DataError(f"{dataset.name}: no image would be left; the first was dropped because it {fixes[0].reason}.")
    names = {name: name for name in dataset.classes}
    for alike in same_names(dataset.classes):
        kept = name_to_keep(of, alike)
        names.update(dict.fromkeys(alike, " ".join(kept.split())))
    done = False
    partial = out.resolve().with_name(f".{out.resolve().name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        if of.says_where:
            inner = _write_objects(of, rows, names, partial, fixes)
        elif isinstance(dataset.images, ImageFiles):
            inner = _write_files(of, dataset.images, rows, names, partial, fixes)
        else:
            inner = _write_arrays(dataset, rows, names, partial)
        lines = (json.dumps({key: value for key, value in asdict(fix).items() if value is not None}) for fix in fixes)
        write_text(log_of(out), "".join(f"{line}\n" for line in lines))
        if out.is_dir():
            out.rmdir()
        partial.rename(out.resolve())
        done = True
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{out}: the copy cannot be written ({reason}). Nothing was left behind.") from error
    finally:
        if not done:
            shutil.rmtree(partial, ignore_errors=True)
            log_of(out).unlink(missing_ok=True)
    return Mended(path=out / inner, log=log_of(out), kept=len(rows), fixes=tuple(fixes))


def check_target(dataset: Dataset, out: Path) -> None:
    """Raise `UsageError` unless ``out`` can take a copy; worth asking before hours of looking at images."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        what = "a folder that is not empty" if out.is_dir() else "a file"
        raise UsageError(f"--fix {out}: is {what}, and nothing is written over. Name a new folder.")
    if log_of(out).exists():
        raise UsageError(f"--fix {out}: there is a log of an earlier copy, {log_of(out)}. Name a new folder.")
    home = None if dataset.path is None else dataset.path.resolve()
    if home is not None and home.is_file():  # COCO's lie in a folder beside the images'
        home = home.parent.parent if home.parent.name == "annotations" else None
    if home is not None and out.resolve().is_relative_to(home):
        raise UsageError(f"--fix {out}: lies inside of {home}, which is never touched. Name a folder outside.")
    if isinstance(dataset.truths, InstanceSets) and dataset.splits:
        rows, times = np.unique(np.concatenate(list(dataset.splits.values())), return_counts=True)
        if (times > 1).any():
            raise UsageError(
                f"--fix {out}: {dataset.ids[int(rows[times > 1][0])]} is in several splits, and the copy, COCO JSON, "
                "has each image in one. Take it out of the others."
            )


def log_of(out: Path) -> Path:
    """Where the log of a copy lies: ``clean.fixes.jsonl`` beside ``clean``."""
    return out.with_name(f"{out.resolve().name}.fixes.jsonl")


def _to_drop(of: Examination) -> dict[int, str]:
    """Rows that do not come into the copy, and why."""
    ids = of.dataset.ids
    dropped = {int(row): "has a label that is out of range" for row in np.flatnonzero(~of.in_range)}
    for row, seen in enumerate(of.seen):
        if seen.failure is not None:
            dropped[row] = f"cannot be read: {seen.failure.reason}"
    row_of = {id_: row for row, id_ in enumerate(ids)}
    for item in of.dataset.skipped:
        id_, listed_twice, _ = item.reason.partition(LISTED_TWICE)
        if listed_twice and id_ in row_of:
            dropped[row_of[id_]] = f"is listed under two labels ({item.source})"
    for rows in of.copies:
        if of.contradictory(rows):
            for row in rows:
                others = ", ".join(f"{ids[other]} ({of.class_name(other)!r})" for other in rows if other != row)
                dropped[row] = f"is {of.class_name(row)!r} here, and is the same picture as {others}"
        else:
            keeper = to_keep(of, [row for row in rows if row not in dropped] or rows)
            for row in rows:
                if row != keeper and row not in dropped and _says_no_more(of, row, keeper):
                    dropped[row] = f"is the same picture as {ids[keeper]}, which stays" + (
                        f" because it is in {of.split_of[keeper]}" if of.split_of[row] != of.split_of[keeper] else ""
                    )
                    if of.says_where:
                        dropped[row] += f"; objects here: {of.objects[row]}, there: {of.objects[keeper]}"
    return dropped


def _says_no_more(of: Examination, row: int, keeper: int) -> bool:
    """Whether nothing is known of an image that is not known of its copy, too."""
    if not of.says_where or not of.objects[row]:
        return True
    truths = of.dataset.instances
    keys = [
        sorted((label, *place) for label, place in zip(one.labels.tolist(), _places(one.boxes), strict=True))
        for one in (truths[row], truths[keeper])
    ]
    return keys[0] == keys[1]


def _places(boxes: torch.Tensor) -> list[list[float]]:
    """Boxes as they are told apart."""
    return (boxes / SAME).round().tolist()


def _left_out(item: Skipped) -> Fix:
    return Fix(file=item.source, action="left out", reason=item.reason)


def _write_files(
    of: Examination,
    images: ImageFiles,
    rows: Indices,
    names: Mapping[str, str],
    out: Path,
    fixes: list[Fix],
) -> str:
    """Copy the files and, for a table, write it; returns what to open, relative to ``out``."""
    dataset = of.dataset
    is_table = dataset.format == table.NAME
    wanted: dict[int, str] = {}
    reasons: dict[int, list[str]] = {}
    for row in map(int, rows):
        id_, label = dataset.ids[row], of.class_name(row)
        wanted[row] = _inside_table(id_) if is_table else _inside_folder(of, row, names[label])
        reasons[row] = [] if names[label] == label else [f"class {label!r} is now {names[label]!r}"]
        header = of.seen[row].header
        suffix = PurePosixPath(id_).suffix.lower()
        if header is not None and suffix not in SUFFIXES[header.format]:
            known = any(suffix in suffixes for suffixes in SUFFIXES.values())
            wanted[row] = wanted[row][: -len(suffix)] if known else wanted[row]
            wanted[row] += SUFFIXES[header.format][0]
            reasons[row].append(f"is {header.format} by its content")
    lines: dict[int, list[str]] = {}
    for row in sorted(wanted, key=lambda row: wanted[row] != dataset.ids[row]):  # who keeps its name comes first
        id_ = dataset.ids[row]
        target = _free(out / wanted[row])
        target.parent.mkdir(parents=True, exist_ok=True)
        now = target.relative_to(out).as_posix()
        header = of.seen[row].header
        if header is not None and header.orientation != 1:
            _turn(images.paths[row], target, header.format)
            turned = f"was turned by its EXIF orientation {header.orientation}; the pixels are turned now"
            fixes.append(Fix(file=id_, action="turned", reason="; ".join([turned, *reasons[row]]), now=now))
        else:
            shutil.copyfile(images.paths[row], target)
            if now != id_:
                reason = "; ".join(reasons[row]) or "lay outside of the data's folder"
                fixes.append(Fix(file=id_, action="renamed", reason=reason, now=now))
        split = [of.split_of[row]] if dataset.splits else []
        label = names[of.class_name(row)]
        lines[row] = [now, label, *split, *(column[row] for column in dataset.groups.values())]
    if not is_table:
        return ""
    assert dataset.path is not None
    name = dataset.path.with_suffix(".csv").name
    with (out / name).open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "label", *(["split"] if dataset.splits else []), *dataset.groups])
        writer.writerows(lines[row] for row in sorted(lines))
    return name


def _inside_folder(of: Examination, row: int, label: str) -> str:
    """Where an image lies in a copy that is a folder of classes."""
    id_, old = of.dataset.ids[row], of.class_name(row)
    pieces = id_.split("/")
    place = 1 if of.dataset.splits else 0
    if of.dataset.format == folder_format.NAME and len(pieces) > place + 1 and pieces[place] == old:
        return "/".join([*pieces[:place], label, *pieces[place + 1 :]])
    split = of.split_of[row]
    return "/".join([*([split] if split else []), label, inner_name(id_, old)])


def _inside_table(id_: str) -> str:
    """Where an image lies beside the copy of a table: where it lay, or in ``images`` if that was elsewhere."""
    path = PurePosixPath(id_)
    return f"images/{path.name}" if path.is_absolute() or ".." in path.parts else id_


def _free(target: Path) -> Path:
    free, count = target, 1
    while free.exists():
        count += 1
        free = target.with_stem(f"{target.stem}-{count}")
    return free


def _write_arrays(dataset: Dataset, rows: Indices, names: Mapping[str, str], out: Path) -> str:
    """Save images in memory in their own format, or as a folder of classes; returns "", the folder itself."""
    kept = renamed(_only(dataset, rows), names)
    (format_named(dataset.format) or format_named(folder_format.NAME) or folder_format).save(kept, out)
    return ""


def _write_objects(of: Examination, rows: Indices, names: Mapping[str, str], out: Path, fixes: list[Fix]) -> str:
    """Save images with their objects, mended, as COCO JSON; returns "", the folder itself."""
    dataset = of.dataset
    other = {name: new for name, new in names.items() if name != new}
    fixes += [
        Fix(file=dataset.name, action="renamed", reason=f"the class {name!r} is now {new!r}")
        for name, new in other.items()
    ]
    kept = renamed(_only(dataset, rows), other)
    truths = _mended(kept, [of.seen[row].size for row in rows.tolist()], fixes)
    splits = dict(kept.splits)
    if splits and len(rest := np.setdiff1d(np.arange(len(kept)), np.concatenate(list(splits.values())))):
        splits[UNUSED] = rest
    coco.save(replace(kept, truths=truths, splits=splits), out)
    return ""


def _mended(dataset: Dataset, sizes: Sequence[tuple[int, int]], fixes: list[Fix]) -> InstanceSets:
    """Boxes cut off at the border of their image; without those that have no area or are there twice.

    Args:
        dataset: with objects.
        sizes: height and width of each image.
        fixes: what is done is added.
    """
    truths = dataset.instances
    images, labels = truths.images, truths.labels.tolist()
    cut = clip(truths.boxes, torch.tensor(sizes)[images])
    beyond = (truths.boxes - cut).abs().amax(dim=1) > SLACK
    boxes = torch.where(beyond[:, None], cut, truths.boxes)
    stays = at_least(boxes, 1e-6)  # as training asks
    crowd = truths.crowd if truths.crowd is not None else torch.zeros(len(boxes), dtype=torch.bool)
    ignored = truths.ignore.tolist() if truths.ignore is not None else [False] * len(boxes)
    shapes = truths.shapes or [NO_SHAPE] * len(boxes)
    points = truths.keypoints.flatten(1).tolist() if truths.keypoints is not None else [[]] * len(boxes)
    seen: set[Hashable] = set()
    for k, place in enumerate(_places(truths.boxes)):
        id_, stated = dataset.ids[int(images[k])], f"the box {_words(truths.boxes[k])}"
        key = (int(images[k]), labels[k], *place, ignored[k], shapes[k], *points[k])
        if not stays[k]:
            reason = f"{OUTSIDE}: {_words(truths.boxes[k])}" if beyond[k] else f"{stated} has no area"
            fixes.append(Fix(file=id_, action="left out", reason=reason))
        elif key in seen and not crowd[k]:
            stays[k] = False
            reason = f"{stated} of {dataset.classes[labels[k]]!r} is there more than once; one stays"
            fixes.append(Fix(file=id_, action="merged", reason=reason))
        elif beyond[k]:
            fixes.append(
                Fix(file=id_, action="cut off", reason=f"{stated} left the image; now it is {_words(boxes[k])}")
            )
        if stays[k] and not crowd[k]:
            seen.add(key)
    areas = truths.areas
    if areas is not None:  # of an object without a mask it is the box's, where nothing else is stated
        bare = torch.tensor([shape == NO_SHAPE for shape in shapes], dtype=torch.bool) & (
            (areas - area(truths.boxes)).abs() <= SLACK
        )
        areas = torch.where(beyond & bare, area(boxes), areas)
    return replace(truths, boxes=boxes, areas=areas).keep(stays)


def _words(box: torch.Tensor) -> str:
    return " ".join(f"{value:g}" for value in box.tolist())


def _only(dataset: Dataset, rows: Indices) -> Dataset:
    """Some images of a data set, without what was skipped."""
    chosen: list[int] = rows.tolist()
    return replace(
        dataset,
        ids=[dataset.ids[row] for row in chosen],
        images=_some(dataset.images, rows),
        truths=dataset.truths.select(torch.from_numpy(rows)),
        splits={
            name: np.flatnonzero(np.isin(rows, members))
            for name, members in dataset.splits.items()
            if np.isin(rows, members).any()
        },
        groups={name: [column[row] for row in chosen] for name, column in dataset.groups.items()},
        skipped=(),
    )


def _some(images: Images, rows: Indices) -> Images:
    chosen: list[int] = rows.tolist()
    if isinstance(images, ImageFiles):
        return ImageFiles([images.paths[row] for row in chosen])
    if isinstance(images, ImageArrays):
        return ImageArrays(images.pixels[rows])
    return ImageArrays(np.stack([images.read(row) for row in chosen]))  # drawn when they are read, all of one size


def _turn(source: Path, target: Path, form: str) -> None:
    """Store a picture as EXIF says it is meant, in its own mode and format."""
    with Image.open(source, formats=FORMATS) as picture:
        picture.load()
        upright = ImageOps.exif_transpose(picture)
        exif = picture.getexif()
        swapped = exif.get(_EXIF_ORIENTATION, 1) >= 5
        if _EXIF_ORIENTATION in exif:
            del exif[_EXIF_ORIENTATION]
        options: dict[str, Any] = {"exif": exif, "icc_profile": picture.info.get("icc_profile")}
        if form == "JPEG":
            options |= _jpeg_options(picture, swapped)
        elif form == "WEBP":
            options |= {"lossless": True, "exact": True}
        elif form == "TIFF":  # Pillow has turned it, and taken the tag away, when it loaded it
            packed = picture.info.get("compression", "raw")
            options = {
                "compression": packed if packed in _LOSSLESS_TIFF else "tiff_lzw",
                "icc_profile": options["icc_profile"],
            }
        upright.save(target, form, **options)


def _jpeg_options(picture: Image.Image, swapped: bool) -> dict[str, Any]:
    """The tables and the subsampling that the file has: what was rounded once is rounded alike."""
    from PIL import JpegImagePlugin

    quantization: Mapping[int, Sequence[int]] = getattr(picture, "quantization", {})
    tables = {
        key: np.reshape(values, (8, 8)).T.ravel().tolist() if swapped else list(values)
        for key, values in quantization.items()
    }
    subsampling = JpegImagePlugin.get_sampling(picture)
    options: dict[str, Any] = {"qtables": tables} if tables else {"quality": 95}
    if subsampling >= 0 and not (
        swapped and subsampling == 1
    ):  # 4:2:2 turned would be 4:4:0, which Pillow cannot write
        options["subsampling"] = subsampling
    else:
        options["subsampling"] = 0
    return options
