"""Average precision as PASCAL VOC defines it.

Everingham et al. 2010, "The Pascal Visual Object Classes (VOC) Challenge", section 4.2, equations 1 and 2; the
development kits of 2007 (11 recalls) and of 2010 and later (all recalls), VOCevaldet.m and VOCap.m.

The kit counts pixels from 1 and a box's last pixel as part of it, so its widths are x2 - x1 + 1. Boxes that lie around
their pixels, as everywhere in striate, have the same widths without the 1.

Letters: N images, D detections, M objects, K classes.
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypedDict

import numpy as np

from striate.core.instances import InstanceSets
from striate.metrics.coco import require_objects
from striate.metrics.gathered import Gathered
from striate.metrics.matching import Bools, Floats, Ints, counted, overlapping, scores

IOU = 0.5  # section 4.2: more than half by the text, half or more by the kit's VOCevaldet.m, which is what counts


class ClassPrecision(TypedDict):
    """One row of the table by class; a class without objects has no precision."""

    name: str
    VOC_AP: float | None
    VOC07_AP: float | None
    objects: int  # that count: not difficult


@dataclass(frozen=True, kw_only=True, eq=False)
class _Class:
    right: Ints  # (D',) right detections among the first i + 1, most confident first
    wrong: Ints  # (D',) wrong ones
    objects: int


class VocMetric(Gathered):
    """Mean average precision over classes at IoU 0.5.

    - ``VOC_AP``: area under precision against recall, precision made monotone (all points; since 2010).
    - ``VOC07_AP``: mean of the greatest precision at recall 0, 0.1, ..., 1 or more (11 points; 2007 to 2009). Recall is
      compared exactly; the kit's 0:0.1:1 holds 0.3 and others a rounding error too high.

    Detections are taken by score over all images, the earlier image first among equal ones. Each belongs to the object
    of its class with the greatest IoU in its image, taken or not: the first detection of an object is right, a later
    one is wrong, and one of a difficult object (``ignore``, or a crowd) does not count. The mean runs over classes with
    objects that are not difficult.
    """

    def compute(self) -> dict[str, float]:
        """The numbers that the class describes, under their names.

        Raises:
            DataError: no image was taken in, or no object to find is in any.
        """
        rows = self.per_class([str(label) for label in range(self.classes)])
        return {
            "VOC_AP": float(np.mean([row["VOC_AP"] for row in rows if row["VOC_AP"] is not None])),
            "VOC07_AP": float(np.mean([row["VOC07_AP"] for row in rows if row["VOC07_AP"] is not None])),
        }

    def per_class(self, names: list[str] | tuple[str, ...]) -> list[ClassPrecision]:
        """One row per class, in the order of the labels.

        Args:
            names: K class names.

        Raises:
            DataError: as `compute`.
        """
        predictions, truths = self.whole()
        require_objects(truths)
        return [
            ClassPrecision(
                name=name,
                VOC_AP=_all_points(found) if found.objects else None,
                VOC07_AP=_eleven_points(found) if found.objects else None,
                objects=found.objects,
            )
            for name, found in zip(names, _classes(predictions, truths, self.classes), strict=True)
        ]


def _classes(predictions: InstanceSets, truths: InstanceSets, classes: int) -> list[_Class]:
    labels, other_labels = predictions.labels.numpy(), truths.labels.numpy()
    right, aside = _judged(predictions, truths)
    order = np.lexsort((-scores(predictions), labels))
    ends = np.searchsorted(labels[order], np.arange(classes + 1))
    objects = np.bincount(other_labels[counted(truths)], minlength=classes)
    right, wrong = right[order], (~right & ~aside)[order]
    return [
        _Class(right=right[start:end].cumsum(), wrong=wrong[start:end].cumsum(), objects=int(objects[label]))
        for label, (start, end) in enumerate(pairwise(ends.tolist()))
    ]


def _judged(predictions: InstanceSets, truths: InstanceSets) -> tuple[Bools, Bools]:
    """(D,) the detections that are right, and those that do not count."""
    labels = predictions.labels.numpy()
    # VOC knows no crowds: IoU with one is that of its box.
    pairs = overlapping(predictions, replace(truths, crowd=None), IOU)
    pairs = pairs.where(labels[pairs.detections] == truths.labels.numpy()[pairs.objects])
    order = np.lexsort((pairs.objects, -pairs.iou, pairs.detections))  # the first of equally near objects
    detections, objects = pairs.detections[order], pairs.objects[order]
    nearest = np.append(True, np.diff(detections) != 0)[: len(detections)]
    detections, objects = detections[nearest], objects[nearest]

    to_find = counted(truths)[objects]
    aside = np.zeros(len(labels), bool)
    aside[detections[~to_find]] = True
    # The first by score of those that belong to one object; the rows of an image are in order among equal scores.
    detections, objects = detections[to_find], objects[to_find]
    order = np.lexsort((detections, -scores(predictions)[detections], objects))
    first = np.append(True, np.diff(objects[order]) != 0)[: len(order)]
    right = np.zeros(len(labels), bool)
    right[detections[order][first]] = True
    return right, aside


def _precision(found: _Class) -> Floats:
    """(D',) greatest precision from each detection on."""
    precision = found.right / np.maximum(found.right + found.wrong, 1)
    return np.maximum.accumulate(precision[::-1])[::-1]


def _all_points(found: _Class) -> float:
    steps = np.diff(found.right, prepend=0)
    return float((_precision(found) * steps).sum() / found.objects)


def _eleven_points(found: _Class) -> float:
    places = np.searchsorted(10 * found.right, found.objects * np.arange(11))
    reached = places[places < len(found.right)]
    return float(_precision(found)[reached].sum() / 11)
