"""The checks. Each is a function from an examination to problems, and has its line in `CHECKS`."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from striate.data.dataset import Skipped
from striate.data.doctor.boxes import OBJECT_CHECKS, of_skipped
from striate.data.doctor.examination import Examination, Problem, Severity, class_key
from striate.data.doctor.label_errors import in_words
from striate.data.doctor.near import SMALLEST
from striate.data.formats.folder import hidden
from striate.data.images import Failure, ImageError, probe

HUGE = 50_000_000  # pixels from which on an image costs more time than it can be worth
TINY = 8  # pixels of the shorter side below which nothing can be seen, where most images are larger
TALL = 5.0  # times the shorter side from which on a square crop shows little of an image
IMBALANCE = 10.0  # times the smallest class from which on the largest one drowns it
FEW = 10  # images of a class below which a split of it means nothing

SUFFIXES: Mapping[str, Sequence[str]] = {  # of each format, the one to give first
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "DIB": (".dib", ".bmp"),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}

MODES: Mapping[str, str] = {  # Pillow's modes that are not simply grey or RGB, and what becomes of them
    "1": "has 1 bit per pixel; becomes grey",
    "P": "has a palette; becomes RGB",
    "PA": "has a palette and transparency; becomes RGB on white",
    "LA": "is grey with transparency; becomes grey on white",
    "La": "is grey with transparency; becomes grey on white",
    "RGBA": "has transparency; becomes RGB on white",
    "RGBa": "has transparency; becomes RGB on white",
    "RGBX": "has a fourth channel that is not used",
    "CMYK": "is CMYK; becomes RGB without its colour profile, and may look different",
    "YCbCr": "is YCbCr; becomes RGB",
    "LAB": "is LAB; becomes RGB",
    "HSV": "is HSV; becomes RGB",
    "F": "has floating-point pixels; becomes 8-bit grey",
}
SIXTEEN_BITS = "has more than 8 bits per pixel; is scaled to 8-bit grey"  # modes that begin with I

_UNREADABLE: Mapping[Failure, str] = {
    "missing": "missing_file",
    "empty": "empty_file",
    "not an image": "not_an_image",
    "damaged": "damaged_file",
    "too large": "too_large",
    "unsupported": "unsupported_pixels",
}

LISTED_TWICE = " is listed a second time, with another label"  # how a table says that a row contradicts another

_TO_COUNT = "Move it into a class folder, if it is meant to count."

_BY_SUFFIX = "not an image by its suffix"  # how a folder says that it did not look inside

_HELD_OUT_FIRST = ("test", "val", "train")  # which of several copies stays


def unreadable_files(of: Examination) -> Iterator[Problem]:
    """Files that cannot be decoded: missing, empty, no image, truncated or damaged, absurdly large, odd pixels."""
    failures = [(row, seen.failure) for row, seen in enumerate(of.seen) if seen.failure is not None]
    severity: Severity = "error" if of.too_many_bad else "warning"
    for row, failure in failures:
        yield _of_row(
            of, row, _UNREADABLE[failure.kind], severity, failure.reason, "Copy it again, or let --fix drop it."
        )


def wrong_extensions(of: Examination) -> Iterator[Problem]:
    """Files whose suffix says another format than their content."""
    for row, seen in enumerate(of.seen):
        suffix = PurePosixPath(of.dataset.ids[row]).suffix
        if seen.header is not None and suffix.lower() not in SUFFIXES[seen.header.format]:
            right = SUFFIXES[seen.header.format][0]
            message = f"is {seen.header.format} by its content, and {suffix or 'nothing'} by its name"
            yield _of_row(of, row, "wrong_extension", "warning", message, f"Rename it to {right}.")


def odd_modes(of: Examination) -> Iterator[Problem]:
    """Pixels that are neither 8-bit grey nor 8-bit RGB, and what becomes of them; grey and colour mixed."""
    modes = {row: seen.header.mode for row, seen in enumerate(of.seen) if seen.header is not None and not seen.failure}
    if len(set(modes.values())) == 1 and len(modes) > 1:
        mode = next(iter(modes.values()))
        if words := _mode_words(mode):
            message = f"every image {words} (mode {mode})"
            yield _of_all("odd_mode", "note", message, "Nothing to do, if that is what is meant.")
        return
    for row, mode in modes.items():
        if words := _mode_words(mode):
            yield _of_row(of, row, "odd_mode", "note", f"{words} (mode {mode})", "Nothing to do, if that is meant.")
    channels = Counter(of.seen[row].channels for row in of.readable.tolist())
    if len(channels) > 1:
        message = f"{channels[1]:,} images are grey and {channels[3]:,} in colour"
        yield _of_all(
            "mixed_colour", "note", message, "Train with --channels 1 if colour should not tell classes apart."
        )


def turned_and_animated(of: Examination) -> Iterator[Problem]:
    """Images that EXIF turns, and files with more than one frame."""
    for row, seen in enumerate(of.seen):
        if seen.header is None:
            continue
        if seen.header.orientation != 1:
            message = f"is turned by its EXIF orientation {seen.header.orientation}; other tools may not turn it"
            fix = "Nothing to do, if its boxes are of the picture as it is shown."
            fix = fix if of.says_where else "--fix turns the pixels themselves."
            yield _of_row(of, row, "exif_rotation", "note", message, fix)
        if seen.header.frames > 1:
            message = f"has {seen.header.frames} frames or pages; only the first is read"
            yield _of_row(of, row, "several_frames", "note", message, "Save each frame as its own image, if it counts.")


def odd_sizes(of: Examination) -> Iterator[Problem]:
    """Images so large, so small or so long that they are hardly meant."""
    sides = sorted(min(of.seen[row].size) for row in of.readable.tolist())
    usual = sides[len(sides) // 2] if sides else 0
    for row in of.readable.tolist():
        height, width = of.seen[row].size
        if height * width > HUGE:
            message = f"has {height}x{width} pixels, {height * width / 1e6:.0f} megapixels: slow to read in every epoch"
            yield _of_row(of, row, "huge_image", "warning", message, "Scale it down.")
        if min(height, width) < TINY and (usual >= 4 * TINY or max(height, width) == 1):
            message = f"has {height}x{width} pixels; half of the images have a shorter side of {usual} or more"
            yield _of_row(of, row, "tiny_image", "warning", message, "Replace it with the original, or remove it.")
        elif max(height, width) > TALL * min(height, width):
            message = f"has {height}x{width} pixels; a crop of the middle shows little of it"
            yield _of_row(of, row, "extreme_aspect", "note", message, "Cut it, or train with --resize pad.")


def copies(of: Examination) -> Iterator[Problem]:
    """The same pixels more than once: under two classes, in two splits, or just twice."""
    for rows in of.copies:
        if of.contradictory(rows):
            for row in rows[1:]:
                message = f"is the same picture as {of.dataset.ids[rows[0]]}, which is {of.class_name(rows[0])!r}"
                message += f"; here it is {of.class_name(row)!r}"
                if of.class_name(row) == of.class_name(rows[0]):
                    message = f"is one more copy of {of.dataset.ids[rows[0]]}, which has two classes"
                fix = "Keep it under the right class only; --fix drops it everywhere."
                yield _of_row(of, row, "two_labels", "error", message, fix)
            continue
        keeper = to_keep(of, rows)
        for row in rows:
            if row == keeper:
                continue
            other = of.dataset.ids[keeper]
            if of.split_of[row] != of.split_of[keeper]:
                message = f"is in {of.split_of[row]}, and the same picture is in {of.split_of[keeper]}: {other}"
                fix = "--fix keeps the copy that is held out."
                yield _of_row(of, row, "duplicate_across_splits", "error", message, fix)
            else:
                fix = "--fix keeps one copy."
                if not of.dataset.splits:
                    fix = "A drawn split may train on one copy and test on the other: --fix keeps one."
                yield _of_row(of, row, "duplicate", "warning", f"is the same picture as {other}", fix)


def near_copies(of: Examination) -> Iterator[Problem]:
    """Pictures that look alike; each is named once, with the one that matters most."""
    small = sum(of.seen[row].thumbnail is None for row in of.readable.tolist())
    if small:
        who = "the images" if small == len(of.readable) else f"{small:,} images"
        message = f"{who} are smaller than {SMALLEST} pixels: near duplicates are not looked for among them"
        yield _of_all(
            "near_duplicate_not_checked", "note", message, "Nothing to do: exact duplicates are found at any size."
        )
    for pair in _worst(of, of.near):
        looks = f"looks like {of.dataset.ids[pair.other]}"
        yield _alike(of, pair, "near_duplicate", looks)


def model_copies(of: Examination) -> Iterator[Problem]:
    """Pictures that a model finds alike though their pixels differ: an opinion, at which nothing is ever dropped."""
    if of.opinion is None:
        return
    cosines = {(first, second): cosine for first, second, cosine in of.opinion.alike}
    for pair in _worst(of, list(cosines)):
        cosine = cosines[min(pair.row, pair.other), max(pair.row, pair.other)]
        looks = f"looks to the model like {of.dataset.ids[pair.other]} (cosine {cosine:.4f})"
        yield _alike(of, pair, "model_duplicate", looks)


def label_errors(of: Examination) -> Iterator[Problem]:
    """Labels that are likely wrong by confident learning, and what the model cannot tell."""
    if of.opinion is None:
        return
    for error in of.opinion.errors:
        given, likely = of.dataset.classes[error.given], of.dataset.classes[error.likely]
        message = f"is labelled {given!r} (probability {in_words(error.given_probability)}); the model rather sees "
        message += f"{likely!r} ({in_words(error.likely_probability)})"
        fix = "Look at the first, which are the most likely: mend the label, or leave it. The model may be wrong."
        yield _of_row(of, error.row, "likely_label_error", "warning", message, fix)
    for what, mend in of.opinion.notes:
        yield _of_all("model_cannot_tell", "note", what, mend)


@dataclass(frozen=True)
class _Pair:
    """Two pictures that look alike, named by the row that matters less."""

    row: int
    other: int
    bad: int  # 2: under two classes, 1: in two splits, 0: neither


def _worst(of: Examination, pairs: Sequence[tuple[int, int]]) -> list[_Pair]:
    """Of the pairs of each row the one that matters most."""
    worst: dict[int, _Pair] = {}
    for first, second in pairs:
        apart = of.split_of[first] != of.split_of[second]
        bad = 2 if class_key(of.class_name(first)) != class_key(of.class_name(second)) else 1 if apart else 0
        row, other = (first, second) if _rank(of, first) > _rank(of, second) else (second, first)
        if row not in worst or bad > worst[row].bad:
            worst[row] = _Pair(row, other, bad)
    return [worst[row] for row in sorted(worst)]


def _alike(of: Examination, pair: _Pair, check: str, looks: str) -> Problem:
    """What to say of it: ``check`` is the name of the least bad kind."""
    row, other = pair.row, pair.other
    if pair.bad == 2:
        message = f"{looks}, which is {of.class_name(other)!r}; here it is {of.class_name(row)!r}"
        return _of_row(of, row, f"{check}_two_labels", "warning", message, "Look at both: one class may be wrong.")
    if pair.bad == 1:
        message = f"{looks}; one is in {of.split_of[row]}, the other in {of.split_of[other]}"
        fix = "Look at both; if they show one scene, keep them in one split."
        return _of_row(of, row, f"{check}_across_splits", "warning", message, fix)
    drawn = not of.dataset.splits
    fix = "Split with --group-by, so that they stay together." if drawn else "Nothing, within one split."
    return _of_row(of, row, check, "warning" if drawn else "note", looks, fix)


def labels(of: Examination) -> Iterator[Problem]:
    """Labels that are no index into the class names, and data of a single class."""
    for row in np.flatnonzero(~of.in_range).tolist():
        message = f"has label {of.labels[row]}, but the classes are 0 to {len(of.dataset.classes) - 1}"
        yield _of_row(of, row, "label_out_of_range", "error", message, "Labels are 0-based: mend the label.")
    present = [name for k, name in enumerate(of.dataset.classes) if any(counts[k] for counts in of.counts.values())]
    if len({class_key(name) for name in present}) < 2 and not of.says_where:
        message = f"there is only one class: {', '.join(map(repr, present)) or 'none'}"
        yield _of_all("one_class", "error", message, "A classifier needs two: one folder, or one label, per class.")


def class_names(of: Examination) -> Iterator[Problem]:
    """Names that differ only in case or space."""
    for names in same_names(of.dataset.classes):
        kept = name_to_keep(of, names)
        for name in names:
            if name != kept:
                message = f"the classes {kept!r} and {name!r} differ only in case or space"
                yield _of_all("class_names", "error", message, f"--fix makes both {kept!r}.")


def class_sizes(of: Examination) -> Iterator[Problem]:
    """Classes that are missing from a split, have very few images, or far fewer than others."""
    classes = of.dataset.classes
    total = np.sum(list(of.counts.values()), axis=0)
    for k, name in enumerate(classes):
        if total[k] == 0:
            fix = "Remove its name, or add images."
            yield _of_all("empty_class", "warning", f"class {name!r} has no image at all", fix)
            continue
        for split, counts in of.counts.items():
            if counts[k] == 0:
                message = f"class {name!r} has no image in {split}, and {total[k]:,} elsewhere"
                fix = "Move some there, or the class is never " + ("learnt." if split == "train" else "measured.")
                yield _of_all("class_missing_from_split", "warning", message, fix)
    learnt = of.counts.get("train", total)
    where = " in train" if "train" in of.counts else ""
    for k, name in enumerate(classes):
        if 0 < learnt[k] < FEW:
            message = f"class {name!r} has only {_images(int(learnt[k]))}{where}"
            yield _of_all("few_images", "warning", message, f"Add images, {FEW} at the very least.")
    there = learnt[learnt > 0]
    if len(there) > 1 and there.max() >= IMBALANCE * there.min():
        most, least = int(learnt.argmax()), int(np.where(learnt > 0, learnt, learnt.max() + 1).argmin())
        message = f"{classes[most]!r} has {_images(int(learnt[most]))}{where}, {classes[least]!r} {learnt[least]:,}: "
        message += f"{learnt[most] / learnt[least]:.0f} times as many"
        fix = "Train with --class-weights auto, and read the figures per class."
        yield _of_all("imbalance", "warning", message, fix)


def passed_over(of: Examination) -> Iterator[Problem]:
    """Files, folders and rows of a table that the format did not read."""
    for item in of.dataset.skipped:
        if of.says_where and (problem := of_skipped(item)) is not None:
            yield problem
            continue
        source = item.source.split(" (and ")[0]
        row = re.fullmatch(r"(.*) line (\d+)", source)
        if row is not None:
            two = LISTED_TWICE in item.reason
            yield Problem(
                check="two_labels" if two else "skipped_row",
                severity="error" if two or of.too_many_bad else "warning",
                file=row[1],
                row=int(row[2]),
                message=item.reason,
                fix="Keep the right row." if two else "Mend the row, or remove it.",
            )
        elif hidden(PurePosixPath(source).name):
            yield Problem(
                check="hidden_file",
                severity="note",
                file=source,
                message=f"{item.reason}: it is not read",
                fix="Nothing to do; --fix leaves it out.",
            )
        elif source.endswith("/") and "no images" in item.reason:
            yield Problem(
                check="empty_folder",
                severity="warning",
                file=source,
                message=item.reason,
                fix="Remove it, or put its images in.",
            )
        elif form := _image_format(of, item):
            yield Problem(
                check="wrong_extension",
                severity="warning",
                file=source,
                message=f"is {form} by its content, but is not read because of its name",
                fix=f"Rename it to {SUFFIXES[form][0]}.",
            )
        else:
            yield Problem(
                check="not_read",
                severity="note" if item.reason.startswith(_BY_SUFFIX) else "warning",
                file=source,
                message=item.reason + item.source.removeprefix(source),
                fix="Mend it, if it is meant to count." if of.says_where else _TO_COUNT,
            )


def _image_format(of: Examination, item: Skipped) -> str | None:
    """The format of an image that was passed over because of its suffix; None for everything else."""
    if of.dataset.path is None or not item.reason.startswith(_BY_SUFFIX):
        return None
    try:
        return probe(of.dataset.path / item.source).format
    except ImageError:
        return None


def groups(of: Examination) -> Iterator[Problem]:
    """What a split by group would say: classes missing from a drawn split, groups torn by official ones."""
    for note in of.split_notes:
        yield _of_all(
            "groups",
            "warning",
            f"grouped by {of.group_by!r}: {note}",
            "Choose groups that are smaller, or mend the split.",
        )


CHECKS: tuple[Callable[[Examination], Iterator[Problem]], ...] = (
    labels,
    class_names,
    copies,
    unreadable_files,
    wrong_extensions,
    passed_over,
    class_sizes,
    groups,
    near_copies,
    model_copies,
    label_errors,
    odd_sizes,
    odd_modes,
    turned_and_animated,
    *OBJECT_CHECKS,
)


def find_problems(of: Examination) -> list[Problem]:
    """What all checks say: errors first, then warnings, then notes."""
    found = [problem for check in CHECKS for problem in check(of)]
    order = {"error": 0, "warning": 1, "note": 2}
    return sorted(found, key=lambda problem: order[problem.severity])


def to_keep(of: Examination, rows: Sequence[int]) -> int:
    """Which of several copies stays: one that is held out, of those one with the most objects, the first of those."""
    return min(rows, key=lambda row: (_rank(of, row), -of.objects[row], row))


def same_names(classes: Sequence[str]) -> list[list[str]]:
    """Groups of two or more class names that differ only in case or space."""
    alike: dict[str, list[str]] = defaultdict(list)
    for name in classes:
        alike[class_key(name)].append(name)
    return [names for names in alike.values() if len(names) > 1]


def name_to_keep(of: Examination, names: Sequence[str]) -> str:
    """Of class names that mean the same the one with the most images."""
    total = np.sum(list(of.counts.values()), axis=0)
    return max(names, key=lambda name: (total[of.dataset.classes.index(name)], name == name.strip()))


def _rank(of: Examination, row: int) -> int:
    name = of.split_of[row]
    return _HELD_OUT_FIRST.index(name) if name in _HELD_OUT_FIRST else len(_HELD_OUT_FIRST)


def _mode_words(mode: str) -> str | None:
    return SIXTEEN_BITS if mode.startswith("I") else MODES.get(mode)


def _images(count: int) -> str:
    return f"{count:,} image{'' if count == 1 else 's'}"


def _of_row(of: Examination, row: int, check: str, severity: Severity, message: str, fix: str) -> Problem:
    id_ = of.dataset.ids[row]
    number = re.fullmatch(r".*\[(\d+)\]", id_)
    return Problem(
        check=check, severity=severity, file=id_, row=int(number[1]) if number else None, message=message, fix=fix
    )


def _of_all(check: str, severity: Severity, message: str, fix: str) -> Problem:
    return Problem(check=check, severity=severity, message=message, fix=fix)
