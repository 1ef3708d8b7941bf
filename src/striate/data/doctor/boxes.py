"""The checks of data that says where: boxes, points, and what ties them to images and classes.

Each is a function from an examination to problems, as in `striate.data.doctor.checks`, and has its line in
`OBJECT_CHECKS`. Data whose truths are classes of whole images gives none. Letters: M objects of all images.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from striate.core.instances import InstanceSets
from striate.data.dataset import Skipped
from striate.data.doctor.examination import Examination, Problem, Severity
from striate.data.objects import IN_PIXELS, NO_CLASS_ID, NO_FILE, NO_IMAGE_ID, NO_SIZE, OTHER_SIZE, OUTSIDE, TWICE
from striate.ops.boxes import iou

SLACK = 1.0  # pixels that a box may leave its image by: tools round, and count from 0 or from 1
SUSPICIOUS = 0.05  # share of boxes that are off from which on all are suspected to be stated otherwise
EXPLAINED = 0.1  # of those, how many may still be off once they are read that way
SAME = 0.5  # pixels between the sides of two boxes that are one
STRIDE = 8  # of the finest map on which most detectors look for objects
MANY = 100  # objects of one image: COCO's metrics look at no more detections
CROWDED = 0.7  # IoU of two objects of one class from which on suppression usually takes one of them
MOST_PAIRS = 2000  # objects of one image up to which all pairs are looked at

Boxes = NDArray[np.float64]


@dataclass(frozen=True)
class _Objects:
    """The objects of readable images in columns."""

    boxes: Boxes  # (M, 4)
    images: NDArray[np.int64]  # (M,) their rows
    sizes: Boxes  # (M, 2) width and height of the image of each


def outside(of: Examination) -> Iterator[Problem]:
    """Boxes that leave their image."""
    objects = _objects(of)
    beyond = _beyond(objects.boxes, objects.sizes)
    for row, members in _by_image(objects.images, beyond > SLACK):
        worst = members[int(beyond[members].argmax())]
        message = f"{_many(len(members), 'box leaves', 'boxes leave')} the image by up to {beyond[worst]:.1f} pixels: "
        message += _box(objects.boxes[worst])
        yield _of_row(of, row, "box_outside", "warning", message, "Mend it; --fix cuts it off at the border.")


def misread(of: Examination) -> Iterator[Problem]:
    """So many boxes that are off that they are likely stated in another way than the format says."""
    objects = _stated(of)
    upright = ~np.isin(objects.images, _turned(of))  # those that EXIF turns have a check of their own
    boxes, sizes = objects.boxes[upright], objects.sizes[upright]
    if not len(boxes):
        return
    shares = (boxes.min(axis=1) >= -0.5) & (boxes.max(axis=1) <= 1.5) & (sizes.min(axis=1) > STRIDE)
    if shares.mean() > 1 - SUSPICIOUS:
        message = (
            f"{_many(int(shares.sum()), 'box lies', 'boxes lie')} within one pixel: shares of the image, not pixels"
        )
        yield _of_all("boxes_normalised", "error", message, "Multiply them by the image's width and height.")
        return
    x1, y1, x2, y2 = boxes.T
    bad = _is_off(boxes, sizes)
    if bad.sum() < 3 or bad.mean() < SUSPICIOUS:
        return
    readings = {
        "x and y are swapped": np.stack((y1, x1, y2, x2), axis=1),
        "width and height are swapped": np.stack((x1, y1, x1 + (y2 - y1), y1 + (x2 - x1)), axis=1),
        "the lower right corner stands where width and height are expected": np.stack(
            (x1, y1, x2 - x1, y2 - y1), axis=1
        ),
        "width and height stand where the lower right corner is expected": np.stack((x1, y1, x1 + x2, y1 + y2), axis=1),
        "the middle of the box stands where its upper left corner is expected": boxes
        - np.tile(np.stack((x2 - x1, y2 - y1), axis=1) / 2, 2),
    }
    left = {words: int(_is_off(read, sizes).sum()) for words, read in readings.items()}
    words = min(left, key=lambda words: left[words])
    if left[words] <= EXPLAINED * bad.sum():
        message = f"{bad.sum():,} of {len(boxes):,} boxes leave their image or have no size; "
        message += f"if {words}, {'none does' if not left[words] else f'{left[words]:,} do'}"
        yield _of_all("boxes_misread", "error", message, "Look at some with 'striate data show', and mend all of them.")


def repeated(of: Examination) -> Iterator[Problem]:
    """The same box twice on one image: for one class, or for two."""
    truths = _truths(of)
    if truths is None:
        return
    for row, truth in enumerate(truths):
        plain = _uncrowded(truth.crowd, len(truth))
        if len(plain) < 2:
            continue
        keys = Counter[tuple[float, ...]]()
        labels: dict[tuple[float, ...], set[int]] = {}
        for box, label in zip((truth.boxes[plain] / SAME).round().tolist(), truth.labels[plain].tolist(), strict=True):
            keys[tuple(box)] += 1
            labels.setdefault(tuple(box), set()).add(label)
        twice = sum(count - len(labels[key]) for key, count in keys.items())
        two = [key for key in keys if len(labels[key]) > 1]
        if twice:
            message = f"{_many(twice, 'box is there', 'boxes are there')} more than once, with the same class"
            yield _of_row(of, row, "duplicate_box", "warning", message, "Keep one of each, as --fix does.")
        if two:
            names = " and ".join(repr(of.dataset.classes[label]) for label in sorted(labels[two[0]]))
            message = f"{_many(len(two), 'box has', 'boxes have')} two classes: {names}"
            yield _of_row(
                of, row, "box_of_two_classes", "warning", message, "Keep the right class, if it is one object."
            )


def negatives(of: Examination) -> Iterator[Problem]:
    """Images without objects, counted: they stay, and teach what is none."""
    truths = _truths(of)
    empty = 0 if truths is None else int((truths.counts == 0).sum())
    if truths is not None and empty == len(truths):
        yield _of_all("no_objects", "error", "no image has an object", "Check where the annotations lie.")
    elif empty:
        message = f"{empty:,} of {len(of.dataset):,} images have no object: they are kept, as negatives"
        yield _of_all("images_without_objects", "note", message, "Nothing to do, if nothing is on them.")


def turned_boxes(of: Examination) -> Iterator[Problem]:
    """Images that EXIF turns, and boxes that fit them only unturned."""
    objects = _stated(of)
    members = np.isin(objects.images, _turned(of))
    if not members.any():
        return
    boxes, sizes = objects.boxes[members], objects.sizes[members]
    off, stored = _beyond(boxes, sizes) > SLACK, _beyond(boxes, sizes[:, ::-1]) > SLACK
    if (off & ~stored).sum() > (stored & ~off).sum() and off.mean() > SUSPICIOUS:
        message = f"{off.sum():,} of {len(boxes):,} boxes on images that EXIF turns leave them, and would not if they "
        message += "were not turned: they were drawn on the stored pixels"
        yield _of_all("boxes_not_turned", "error", message, "Turn the boxes, or take the orientation out of the files.")
        return
    images = len(np.unique(objects.images[members]))
    message = (
        f"{_many(images, 'image', 'images')} with boxes {'is' if images == 1 else 'are'} turned by EXIF; the boxes "
    )
    message += "are taken to be of the picture as it is shown"
    yield _of_all("boxes_on_turned_images", "note", message, "Look at some with 'striate data show'.")


def tiny_objects(of: Examination) -> Iterator[Problem]:
    """Objects smaller than a cell of the map that detectors look at."""
    objects = _objects(of)
    x1, y1, x2, y2 = objects.boxes.T
    small = np.sqrt(np.clip(x2 - x1, 0, None) * np.clip(y2 - y1, 0, None)) < STRIDE
    if small.any():
        message = (
            f"{small.sum():,} of {len(small):,} objects are smaller than {STRIDE}x{STRIDE} pixels, the stride of the "
        )
        message += "finest map of most detectors, before the images are resized"
        severity: Severity = "warning" if small.mean() > SUSPICIOUS else "note"
        yield _of_all("tiny_objects", severity, message, "Train with larger images, or in tiles.")


def crowding(of: Examination) -> Iterator[Problem]:
    """Images with very many objects, and objects of one class that cover each other."""
    truths = _truths(of)
    if truths is None:
        return
    many = (truths.counts > MANY).nonzero()[:, 0].tolist()
    for row in many:
        message = f"has {int(truths.counts[row]):,} objects; COCO's metrics look at {MANY} detections of an image"
        yield _of_row(of, row, "many_objects", "note", message, "Predict in tiles, or allow more detections.")
    covered = 0
    for truth in truths:
        plain = _uncrowded(truth.crowd, len(truth))
        if not 2 <= len(plain) <= MOST_PAIRS:
            continue
        boxes, labels = truth.boxes[plain], truth.labels[plain]
        shared = iou(boxes, boxes) * (labels[:, None] == labels)
        apart = ((boxes[:, None] - boxes).abs() > SAME).any(dim=2)  # others are one object twice
        covered += int(((shared > CROWDED) & apart).any(dim=1).sum())
    if covered:
        message = (
            f"{covered:,} of {len(truths.boxes):,} objects share an IoU above {CROWDED} with another of their class: "
        )
        message += "suppression keeps one of two such detections"
        yield _of_all("crowded_objects", "note", message, "Use soft-NMS, or a detector without NMS.")


def odd_points(of: Examination) -> Iterator[Problem]:
    """Points outside of their image or far from their box, objects of which no point is known, odd visibilities."""
    truths = _truths(of)
    if truths is None or truths.keypoints is None:
        return
    points = truths.keypoints.double().numpy()
    images = truths.images.numpy()
    known = points[..., 2] > 0
    size = np.array([seen.size[::-1] for seen in of.seen], dtype=np.float64).reshape(-1, 2)[images]
    readable = size.min(axis=1, initial=np.inf) > 0
    x, y = points[..., 0], points[..., 1]
    beyond = (x < -SLACK) | (y < -SLACK) | (x > size[:, :1] + SLACK) | (y > size[:, 1:] + SLACK)
    for row, members in _by_image(images, np.any(beyond & known, axis=1) & readable):
        count = int((beyond & known)[members].sum())
        message = f"{_many(count, 'point lies', 'points lie')} outside of the image"
        yield _of_row(of, row, "point_outside", "warning", message, "Mend it, or mark it as not labelled (0).")
    x1, y1, x2, y2 = (truths.boxes.double().numpy()[:, [side]] for side in range(4))
    reach = np.maximum(x2 - x1, y2 - y1) / 2
    far = (x < x1 - reach) | (y < y1 - reach) | (x > x2 + reach) | (y > y2 + reach)
    for row, members in _by_image(images, np.any(far & known & ~beyond, axis=1)):
        message = (
            f"{_many(int((far & known)[members].sum()), 'point lies', 'points lie')} far from the box of its object"
        )
        yield _of_row(of, row, "point_far_from_box", "warning", message, "Check that they belong together.")
    odd = ~np.isin(points[..., 2], (0, 1, 2))
    if odd.any():
        message = f"{_many(int(odd.sum()), 'point has', 'points have')} a visibility that is none of 0, 1, 2"
        yield _of_all("odd_visibility", "error", message, "0 is not labelled, 1 hidden, 2 visible.")
    none = int((~known.any(axis=1)).sum())
    if none:
        message = f"{none:,} of {len(points):,} objects have no point that is known"
        yield _of_all("objects_without_points", "note", message, "Nothing to do, if they cannot be told.")


OBJECT_CHECKS: tuple[Callable[[Examination], Iterator[Problem]], ...] = (
    misread,
    turned_boxes,
    outside,
    repeated,
    odd_points,
    negatives,
    tiny_objects,
    crowding,
)

# How the reason begins or what is in it: the check, its severity, how to mend it. The first that fits counts.
_LOST: tuple[tuple[str, str, Severity, str], ...] = (
    (NO_IMAGE_ID, "unknown_image_id", "error", "Add the image, or remove what is said of it."),
    (NO_CLASS_ID, "unknown_class_id", "error", "Add the class, or mend its id."),
    (TWICE, "listed_twice", "warning", "Give each its own id, and list each once."),
    (IN_PIXELS, "boxes_in_pixels", "error", "Divide x by the image's width, y by its height."),
    (NO_SIZE, "box_without_size", "warning", "Mend the box, or remove it."),
    (OUTSIDE, "box_outside", "warning", "Mend the box, or remove it."),
    (OTHER_SIZE, "size_disagrees", "warning", "State the file's own size, and boxes in its pixels."),
    (NO_FILE, "missing_file", "warning", "Copy the image, or remove what is said of it."),
    ("there is no image of this name", "annotation_without_image", "warning", "Add the image, or remove the file."),
)


# Errors that a corrected copy would hide, because boxes are not where they are stated, or objects would be background
# there: a person has to mend them.
BY_HAND = ("boxes_misread", "boxes_normalised", "boxes_not_turned", "boxes_in_pixels", "unknown_class_id")


def only_by_hand(of: Examination) -> Problem | None:
    """The first finding that a corrected copy would hide; None where there is none."""
    if not of.says_where:
        return None
    lost = (of_skipped(item) for item in of.dataset.skipped)
    found = [*misread(of), *turned_boxes(of), *(problem for problem in lost if problem is not None)]
    return next((problem for problem in found if problem.check in BY_HAND), None)


def of_skipped(item: Skipped) -> Problem | None:
    """What to say of an object, an image or a file that a format of objects could not use; None of all else."""
    for words, check, severity, fix in _LOST:
        if words in item.reason:
            return Problem(check=check, severity=severity, file=item.source, message=item.reason, fix=fix)
    return None


def _truths(of: Examination) -> InstanceSets | None:
    return of.dataset.truths if isinstance(of.dataset.truths, InstanceSets) else None


def _objects(of: Examination) -> _Objects:
    """Crowd regions included; objects of images that cannot be read are left out."""
    truths = _truths(of)
    if truths is None:
        return _Objects(np.empty((0, 4)), np.empty(0, dtype=np.int64), np.empty((0, 2)))
    images = truths.images.numpy()
    sizes = np.array([seen.size[::-1] for seen in of.seen], dtype=np.float64).reshape(-1, 2)[images]
    there = sizes.min(axis=1, initial=np.inf) > 0
    return _Objects(truths.boxes.double().numpy()[there], images[there], sizes[there])


def _stated(of: Examination) -> _Objects:
    """Also those that were left out because they have no size or lie outside, as far as their images are known."""
    objects = _objects(of)
    if not of.says_where:
        return objects
    row_of = {id_: row for row, id_ in enumerate(of.dataset.ids)}
    boxes: list[list[float]] = []
    rows: list[int] = []
    for item in of.dataset.skipped:
        stated = re.search(r": ((?:\S+ ){3}\S+)$", item.reason)
        row = row_of.get(re.sub(r" object \d+$", "", item.source))
        if stated and row is not None and item.reason.startswith((NO_SIZE, OUTSIDE)) and min(of.seen[row].size) > 0:
            values = [float(value) for value in stated[1].split()]
            if np.isfinite(values).all():
                boxes.append(values)
                rows.append(row)
    sizes = np.array([of.seen[row].size[::-1] for row in rows], dtype=np.float64).reshape(-1, 2)
    return _Objects(
        np.concatenate((objects.boxes, np.array(boxes, dtype=np.float64).reshape(-1, 4))),
        np.concatenate((objects.images, np.array(rows, dtype=np.int64))),
        np.concatenate((objects.sizes, sizes)),
    )


def _turned(of: Examination) -> list[int]:
    """Rows of images that EXIF turns."""
    return [row for row, seen in enumerate(of.seen) if seen.header is not None and seen.header.orientation != 1]


def _beyond(boxes: Boxes, sizes: Boxes) -> NDArray[np.float64]:
    """(M,) pixels by which each box leaves its image of (M, 2) width and height; 0 or less where it does not."""
    return np.maximum(-boxes[:, :2], boxes[:, 2:] - sizes).max(axis=1, initial=-np.inf)


def _is_off(boxes: Boxes, sizes: Boxes) -> NDArray[np.bool_]:
    """(M,) whether each box leaves its image or has no size."""
    return (_beyond(boxes, sizes) > SLACK) | (boxes[:, 2:] <= boxes[:, :2]).any(axis=1)


def _uncrowded(crowd: torch.Tensor | None, count: int) -> torch.Tensor:
    """Numbers of the objects of an image that are no crowd."""
    return torch.arange(count) if crowd is None else (~crowd).nonzero()[:, 0]


def _by_image(images: NDArray[np.int64], chosen: NDArray[np.bool_]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """The chosen objects of each image that has some."""
    members = np.flatnonzero(chosen)
    rows = images[members]
    for row in np.unique(rows).tolist():
        yield row, members[rows == row]


def _many(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def _box(box: NDArray[np.float64]) -> str:
    return " ".join(f"{value:g}" for value in box)


def _of_row(of: Examination, row: int, check: str, severity: Severity, message: str, fix: str) -> Problem:
    return Problem(check=check, severity=severity, file=of.dataset.ids[row], message=message, fix=fix)


def _of_all(check: str, severity: Severity, message: str, fix: str) -> Problem:
    return Problem(check=check, severity=severity, message=message, fix=fix)
