"""What kind of mistakes a detector makes, and what each kind costs.

Bolya et al. 2020, "TIDE: A General Toolbox for Identifying Object Detection Errors", section 2. Every wrong detection
gets one kind (section 2.2); an oracle mends all mistakes of one kind and leaves the others alone, and the AP50 that is
gained is what the kind costs (section 2.3, equation 1).

The order in which kinds are tried, which the paper does not say, is that of its code (tidecv 1.0.1): localization,
classification, duplicate, background, both. Where it differs from us:

- the mean of AP runs over classes with objects, so that the whole is COCO's AP50; tidecv also counts, with an AP of 0,
  classes that were only predicted;
- a detection set aside by a crowd or an object to be ignored is no mistake; tidecv files it under one, and may mend it;
- a hundred detections count per image and class, as in COCO; tidecv takes a hundred per image;
- recalls are COCO's 101, some of which are a rounding error away from tidecv's;
- detections with equal scores stay in their order; tidecv puts mistakes first where an oracle has been.

Letters: D detections, M objects, K classes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from striate.core.instances import InstanceSets
from striate.metrics.coco import require_objects
from striate.metrics.detection import interpolated
from striate.metrics.matching import Bools, Ints, Matches, Pairs, counted, match, overlapping, scores

FOREGROUND, BACKGROUND = 0.5, 0.1  # section 2.2: t_f and t_b
KINDS = ("classification", "localization", "both", "duplicate", "background", "missed")  # section 2.2, 1 to 6
SPECIAL = ("false_positive", "false_negative")  # section 2: all mistakes of precision, all of recall


@dataclass(frozen=True, kw_only=True, eq=False)
class Mistakes:
    """Every mistake by its kind."""

    kinds: NDArray[np.int8]  # (D,) index into KINDS; -1 of a detection that is right or set aside
    objects: Ints  # (D,) the object that a classification or localization mistake is about; -1 of others
    missed: Bools  # (M,) objects that were not found, and that no such mistake is about
    counts: dict[str, int]  # of each of KINDS
    costs: dict[str, float]  # what AP50 gains, as a fraction, by mending each of KINDS and of SPECIAL; 0 or more
    base: float  # AP50


def mistakes(predictions: InstanceSets, truths: InstanceSets, classes: int) -> Mistakes:
    """Find out what is wrong with every detection.

    With the IoU of a detection that matched nothing:

    - ``localization``: with an object of its class from 0.1 to 0.5;
    - ``classification``: with an object of another class 0.5 or more;
    - ``duplicate``: with an object of its class 0.5 or more, which a more confident detection took;
    - ``background``: with no object above 0.1;
    - ``both``: the rest, which is from 0.1 to 0.5 with an object of another class;
    - ``missed``: objects that were not found and that no localization or classification mistake is about.

    Oracles: a localization or classification mistake becomes right, the latter in the object's class, if the object
    was not found; of several about one object the most confident, the others vanish. Duplicate, background and both
    vanish. Missed objects are no longer counted. ``false_positive``: all wrong detections vanish. ``false_negative``:
    no object that was not found is counted.

    Args:
        predictions: D detections, with scores.
        truths: M objects in the same images.
        classes: K.

    Raises:
        DataError: there is no object to find.
    """
    require_objects(truths)
    pairs = overlapping(predictions, truths, BACKGROUND)
    matches = match(predictions, truths, iou=FOREGROUND, pairs=pairs)
    kinds, objects = _kinds(predictions, truths, pairs, matches)

    # One mistake per object can be mended: that of the most confident detection.
    about = np.flatnonzero((objects >= 0) & ~matches.found[objects])
    order = about[np.lexsort((about, -scores(predictions)[about], objects[about]))]
    first = np.append(True, np.diff(objects[order]) != 0)[: len(order)]
    mendable = np.zeros(len(kinds), bool)
    mendable[order[first]] = True
    missed = counted(truths) & ~matches.found
    unfound = missed.copy()
    missed[objects[order]] = False

    labels, true_labels = predictions.labels.cpu().numpy(), truths.labels.cpu().numpy()
    positives = np.bincount(true_labels[counted(truths)], minlength=classes)
    table = _Table(scores=scores(predictions), labels=labels, right=matches.right, kept=~matches.aside)
    base = table.mean_ap(positives)
    costs: dict[str, float] = {}
    for kind, name in enumerate(KINDS[:5]):
        of_kind = kinds == kind
        mended = of_kind & mendable
        labels_then = labels.copy()
        labels_then[mended] = true_labels[objects[mended]]
        then = _Table(
            scores=table.scores,
            labels=labels_then,
            right=table.right | mended,
            kept=table.kept & (~of_kind | mended),
        )
        costs[name] = then.mean_ap(positives)
    costs["missed"] = table.mean_ap(positives - np.bincount(true_labels[missed], minlength=classes))
    only_right = _Table(scores=table.scores, labels=labels, right=table.right, kept=table.kept & table.right)
    costs["false_positive"] = only_right.mean_ap(positives)
    costs["false_negative"] = table.mean_ap(positives - np.bincount(true_labels[unfound], minlength=classes))
    counts = {name: int((kinds == kind).sum()) for kind, name in enumerate(KINDS)} | {"missed": int(missed.sum())}
    return Mistakes(
        kinds=kinds,
        objects=objects,
        missed=missed,
        counts=counts,
        # Below 0 only by the 101 steps of the interpolation, as tidecv says and does.
        costs={name: max(value - base, 0.0) for name, value in costs.items()},
        base=base,
    )


def _kinds(
    predictions: InstanceSets, truths: InstanceSets, pairs: Pairs, matches: Matches
) -> tuple[NDArray[np.int8], Ints]:
    pairs = pairs.where(counted(truths)[pairs.objects])
    labels, other_labels = predictions.labels.cpu().numpy(), truths.labels.cpu().numpy()
    same = labels[pairs.detections] == other_labels[pairs.objects]
    own, nearest = _nearest(pairs.where(same), len(labels))
    other, other_nearest = _nearest(pairs.where(~same), len(labels))
    tests = (
        matches.right | matches.aside,
        (own >= BACKGROUND) & (own <= FOREGROUND),
        other >= FOREGROUND,
        own >= FOREGROUND,
        np.maximum(own, other) <= BACKGROUND,
    )
    names = (None, "localization", "classification", "duplicate", "background")
    codes = [-1 if name is None else KINDS.index(name) for name in names]
    kinds = np.select(tests, codes, KINDS.index("both")).astype(np.int8)
    objects = np.select(
        [kinds == KINDS.index("localization"), kinds == KINDS.index("classification")], [nearest, other_nearest], -1
    )
    return kinds, objects


def _nearest(pairs: Pairs, detections: int) -> tuple[NDArray[np.float64], Ints]:
    """(D,) greatest IoU of each detection, 0 where it has no pair, and the first object that has it, or -1."""
    order = np.lexsort((pairs.objects, -pairs.iou, pairs.detections))
    rows = pairs.detections[order]
    first = order[np.append(True, np.diff(rows) != 0)[: len(rows)]]
    iou, objects = np.zeros(detections), np.full(detections, -1, np.int64)
    iou[pairs.detections[first]] = pairs.iou[first]
    objects[pairs.detections[first]] = pairs.objects[first]
    return iou, objects


@dataclass(frozen=True, kw_only=True, eq=False)
class _Table:
    scores: NDArray[np.float32]  # (D,)
    labels: Ints  # (D,)
    right: Bools  # (D,)
    kept: Bools  # (D,)

    def mean_ap(self, positives: Ints) -> float:
        """AP50, mean over the classes with ``positives``, (K,); 0 where there is none."""
        rows = np.flatnonzero(self.kept)
        order = rows[np.lexsort((-self.scores[rows], self.labels[rows]))]
        ends = np.searchsorted(self.labels[order], np.arange(len(positives) + 1))
        found = [
            interpolated(self.right[order[ends[label] : ends[label + 1]]], int(positives[label])).mean()
            for label in np.flatnonzero(positives)
        ]
        return float(np.mean(found)) if found else 0.0
