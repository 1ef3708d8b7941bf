"""What a detector finds at which score: precision against recall, the threshold with the best F1, the confusion matrix.

All of it at one IoU threshold, with the matching of `striate.metrics.matching.match`, so that the area under a curve is
COCO's AP at that threshold.

Letters: N images, D detections, M objects, K classes.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from striate.core.instances import InstanceSets
from striate.metrics.matching import (
    MOST,
    Bools,
    Floats,
    Matches,
    counted,
    crowds,
    greedy,
    match,
    overlapping,
    ranked,
    scores,
)

RECALLS = np.linspace(0, 1, 101)  # pycocotools, Params.setDetParams: recThrs


@dataclass(frozen=True, kw_only=True, eq=False)
class PrecisionRecall:
    """The detections of one class, most confident first; those that were set aside are left out.

    Where the threshold is the score of row i, the detections up to the last one with that score are shown.
    """

    scores: NDArray[np.float32]  # (D',)
    right: Bools  # (D',)
    objects: int  # that are to be found

    @property
    def precision(self) -> Floats:
        """(D',) share of right ones among the first i + 1 detections."""
        return self.right.cumsum() / np.arange(1, len(self.right) + 1)

    @property
    def recall(self) -> Floats:
        """(D',) share of the objects that the first i + 1 detections found; nan where there is none."""
        return self.right.cumsum() / self.objects if self.objects else np.full(len(self.right), np.nan)

    @property
    def interpolated(self) -> Floats:
        """(101,) greatest precision at recall 0, 0.01, ..., 1 or more, as COCO; nan without objects."""
        return interpolated(self.right, self.objects) if self.objects else np.full(len(RECALLS), np.nan)

    @property
    def average_precision(self) -> float | None:
        """Mean of the interpolated precision; None without objects."""
        return float(self.interpolated.mean()) if self.objects else None


class BestF1(TypedDict):
    """The score threshold of one class at which F1 is greatest, and what it gives.

    None where nothing can be said: the class has no objects, or, for the threshold and the precision, no detection of
    it is right.
    """

    name: str
    threshold: float | None  # detections with this score or more are shown
    f1: float | None
    precision: float | None
    recall: float | None
    objects: int


def precision_recall(
    predictions: InstanceSets, truths: InstanceSets, classes: int, *, iou: float = 0.5
) -> list[PrecisionRecall]:
    """The curve of every class.

    Args:
        predictions: D detections in N images, with scores.
        truths: M objects in the same images.
        classes: K.
        iou: the least that is a match.
    """
    return curves(predictions, truths, classes, match(predictions, truths, iou=iou))


def curves(predictions: InstanceSets, truths: InstanceSets, classes: int, matches: Matches) -> list[PrecisionRecall]:
    """The curve of every class where the matches are known."""
    rows = np.flatnonzero(~matches.aside)
    label, score = predictions.labels.cpu().numpy()[rows], scores(predictions)[rows]
    # COCO lines up the images one after the other, each already sorted; a stable sort does the same in one go.
    order = np.lexsort((-score, label))
    ends = np.searchsorted(label[order], np.arange(classes + 1))
    objects = np.bincount(truths.labels.cpu().numpy()[counted(truths)], minlength=classes)
    score, right = score[order], matches.right[rows][order]
    return [
        PrecisionRecall(scores=score[start:end], right=right[start:end], objects=int(objects[label]))
        for label, (start, end) in enumerate(pairwise(ends.tolist()))
    ]


def interpolated(right: Bools, objects: int) -> Floats:
    """(101,) precision as COCO interpolates it: pycocotools, ``accumulate``. Its mean is the average precision.

    Args:
        right: (D',) most confident first.
        objects: that are to be found, 1 or more.
    """
    found = right.cumsum()
    precision = found / (np.arange(1, len(right) + 1) + np.spacing(1.0))
    precision = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return precision[np.searchsorted(found / objects, RECALLS)]


def best_f1(found: list[PrecisionRecall], names: list[str] | tuple[str, ...]) -> list[BestF1]:
    """The score threshold with the greatest F1 of every class; the highest of those that are as good.

    Args:
        found: K curves.
        names: K class names.
    """
    return [_best_f1(curve, name) for curve, name in zip(found, names, strict=True)]


def confusion(
    predictions: InstanceSets,
    truths: InstanceSets,
    classes: int,
    *,
    score: float | NDArray[np.float32] | list[float],
    iou: float = 0.5,
) -> NDArray[np.int64]:
    """Which class was taken for which, with a background for what is not there.

    The detections of an image with enough score (a hundred at most) take their turns, most confident first, and take
    the free object of *any* class with the greatest IoU. So one right box with the wrong class is one confusion and
    not a missed object and a false alarm. Detections that find no object but lie in a crowd, or on an object to be
    ignored, of their class are set aside.

    Args:
        predictions: D detections in N images, with scores.
        truths: M objects in the same images.
        classes: K.
        score: the least score that is shown: one, or K of them, one per class.
        iou: the least that is a match.

    Returns:
        (K + 1, K + 1) int64: objects of class i (row) that were found as class j (column). The last row holds
        detections where no object is, the last column objects that were missed.
    """
    labels, other_labels = predictions.labels.cpu().numpy(), truths.labels.cpu().numpy()
    least = np.broadcast_to(np.asarray(score, np.float32), (classes,))
    shown = scores(predictions) >= least[labels]
    images = predictions.images.cpu().numpy()
    # What is not shown comes last, so that the first hundred are of what is.
    ranks = ranked(images, np.where(shown, scores(predictions), -np.inf).astype(np.float32))
    shown &= ranks < MOST
    to_find = counted(truths)
    pairs = overlapping(predictions, truths, iou)
    same = labels[pairs.detections] == other_labels[pairs.objects]
    pairs = pairs.where(shown[pairs.detections] & (to_find[pairs.objects] | same))
    taken = greedy(pairs, ranks, to_find, crowds(truths))
    matched = taken >= 0
    aside = matched.copy()
    aside[matched] = ~to_find[taken[matched]]
    true = np.full(len(labels), classes)
    true[matched] = other_labels[taken[matched]]
    table = np.zeros((classes + 1, classes + 1), np.int64)
    rows = shown & ~aside
    np.add.at(table, (true[rows], labels[rows]), 1)
    missed = to_find.copy()
    missed[taken[matched]] = False
    table[:classes, classes] = np.bincount(other_labels[missed], minlength=classes)
    return table


def _best_f1(curve: PrecisionRecall, name: str) -> BestF1:
    if not curve.objects:
        return BestF1(name=name, threshold=None, f1=None, precision=None, recall=None, objects=0)
    if not curve.right.any():
        return BestF1(name=name, threshold=None, f1=0.0, precision=None, recall=0.0, objects=curve.objects)
    # Only where the score changes can a threshold cut.
    last = np.flatnonzero(np.append(np.diff(curve.scores) != 0, True))
    right, shown = curve.right.cumsum()[last], last + 1
    f1 = 2 * right / (shown + curve.objects)
    best = int(f1.argmax())
    return BestF1(
        name=name,
        threshold=float(curve.scores[last[best]]),
        f1=float(f1[best]),
        precision=float(right[best] / shown[best]),
        recall=float(right[best] / curve.objects),
        objects=curve.objects,
    )
