"""Which detection found which object.

A detection is compared with every object of its image: pairs are kept in columns, so that a whole data set is matched
in a few NumPy calls per rank instead of one loop per image.

Letters: N images, D detections, M objects, Q pairs of a detection and an object of the same image.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from striate.core.instances import InstanceSets
from striate.ops.boxes import area, overlap

AT_ONCE = 2_000_000  # pairs whose overlap is computed together: some 300 MB
MOST = 100  # detections of a class in an image that count: COCO's last maxDets

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """Detections and objects that overlap, in the order of the detections, and of the objects within one."""

    detections: Ints  # (Q,) rows of the predictions
    objects: Ints  # (Q,) rows of the truths
    iou: Floats  # (Q,); with a crowd the share of the detection that lies in it, as COCO has it

    def where(self, rows: Bools) -> "Pairs":
        """The pairs of ``rows``, (Q,)."""
        return Pairs(detections=self.detections[rows], objects=self.objects[rows], iou=self.iou[rows])


@dataclass(frozen=True, kw_only=True, eq=False)
class Matches:
    """What became of every detection.

    A detection is right (it found an object), set aside (it found a crowd or an object to be ignored, or is beyond the
    number that counts) or wrong.
    """

    objects: Ints  # (D,) rows of the truths; -1: none
    right: Bools  # (D,)
    aside: Bools  # (D,)
    found: Bools  # (M,) objects that a detection found


def counted(truths: InstanceSets) -> Bools:
    """(M,) the objects that are to be found: neither crowd nor to be ignored."""
    aside = torch.zeros(len(truths.boxes), dtype=torch.bool)
    for column in (truths.crowd, truths.ignore):
        if column is not None:
            aside |= column.cpu()
    return ~aside.numpy()


def crowds(truths: InstanceSets) -> Bools:
    """(M,) the objects that are crowds."""
    return np.zeros(len(truths.boxes), bool) if truths.crowd is None else truths.crowd.cpu().numpy()


def scores(predictions: InstanceSets) -> NDArray[np.float32]:
    """(D,) scores; none where there is no prediction."""
    return np.empty(0, np.float32) if predictions.scores is None else predictions.scores.cpu().numpy()


def overlapping(predictions: InstanceSets, truths: InstanceSets, least: float) -> Pairs:
    """All pairs, of any classes, whose IoU is ``least`` or more; ``least`` is above 0."""
    parts = list(_parts(predictions, truths, least))
    return Pairs(
        detections=np.concatenate([part.detections for part in parts]),
        objects=np.concatenate([part.objects for part in parts]),
        iou=np.concatenate([part.iou for part in parts]),
    )


def match(
    predictions: InstanceSets, truths: InstanceSets, *, iou: float = 0.5, most: int = MOST, pairs: Pairs | None = None
) -> Matches:
    """Match every class by itself as COCO does at one IoU threshold.

    The detections of an image take their turns by score, the earlier first among equal ones. Each takes the object of
    its class with the greatest IoU, of those that count and are not taken; where there is none, one that does not
    count. Among equal IoU the later object is taken, as in pycocotools (``evaluateImg``).

    Args:
        predictions: D detections in N images, with scores.
        truths: M objects in the same images.
        iou: the least that is a match.
        most: detections of a class in an image that count.
        pairs: what `overlapping` gave for a ``least`` of at most ``iou``, where it is known.
    """
    labels = predictions.labels.cpu().numpy()
    ranks = ranked(predictions.images.cpu().numpy(), scores(predictions), labels)
    pairs = overlapping(predictions, truths, iou) if pairs is None else pairs
    same = labels[pairs.detections] == truths.labels.cpu().numpy()[pairs.objects]
    pairs = pairs.where(same & (pairs.iou >= min(iou, 1 - 1e-10)) & (ranks[pairs.detections] < most))
    objects = greedy(pairs, ranks, counted(truths), crowds(truths))
    return _matches(objects, ranks >= most, counted(truths))


def ranked(images: Ints, scores: NDArray[np.float32], labels: Ints | None = None) -> Ints:
    """(D,) the turn of each detection in its image, or in its image and class: 0 has the highest score."""
    labels = np.zeros_like(images) if labels is None else labels
    order = np.lexsort((-scores, labels, images))
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(images[order]) != 0) | (np.diff(labels[order]) != 0)
    starts = np.flatnonzero(new)
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order)) - starts.repeat(np.diff(starts, append=len(order)))
    return ranks


def greedy(pairs: Pairs, ranks: Ints, counted: Bools, crowds: Bools) -> Ints:
    """(D,) the object that each detection takes, or -1, as `match` says; of all images at once, turn by turn.

    Args:
        pairs: those that may match. Two detections of the same rank share no object.
        ranks: (D,) turns.
        counted: (M,) objects that come before the others.
        crowds: (M,) objects that any number of detections may take.
    """
    turn = ranks[pairs.detections]
    order = np.lexsort((-pairs.objects, -pairs.iou, ~counted[pairs.objects], pairs.detections, turn))
    detections, objects = pairs.detections[order], pairs.objects[order]
    ends = np.searchsorted(turn[order], np.arange(turn.max(initial=-1) + 2))
    free = np.ones(len(counted), bool)
    taken = np.full(len(ranks), -1, np.int64)
    for start, end in pairwise(ends.tolist()):
        theirs = objects[start:end]
        able = free[theirs] | crowds[theirs]
        mine, theirs = detections[start:end][able], theirs[able]
        first = np.ones(len(mine), bool)
        first[1:] = np.diff(mine) != 0
        taken[mine[first]] = theirs[first]
        free[theirs[first]] = False
    return taken


def _matches(objects: Ints, beyond: Bools, counted: Bools) -> Matches:
    matched = objects >= 0
    right = np.zeros(len(objects), bool)
    right[matched] = counted[objects[matched]]
    found = np.zeros(len(counted), bool)
    found[objects[right]] = True
    return Matches(objects=objects, right=right, aside=(matched & ~right) | beyond, found=found)


def _parts(predictions: InstanceSets, truths: InstanceSets, least: float) -> Iterator[Pairs]:
    starts = truths.offsets[:-1].numpy()
    per_image = truths.counts.numpy()
    ends = predictions.offsets.numpy()
    boxes, others = predictions.boxes.cpu().double(), truths.boxes.cpu().double()
    sizes, other_sizes = area(boxes), area(others)
    in_crowd = torch.from_numpy(crowds(truths))
    images = predictions.images.cpu().numpy()
    total = np.concatenate(([0], (predictions.counts.numpy() * per_image).cumsum()))
    first = 0
    while True:
        last = max(first + 1, int(np.searchsorted(total, total[first] + AT_ONCE, side="right")) - 1)
        mine = np.arange(ends[first], ends[last]) if len(per_image) else np.empty(0, np.int64)
        many = per_image[images[mine]]
        detections = mine.repeat(many)
        objects = np.arange(len(detections)) - (many.cumsum() - many).repeat(many) + starts[images[detections]]
        rows, columns = torch.from_numpy(detections), torch.from_numpy(objects)
        common = overlap(boxes[rows], others[columns])
        of = sizes[rows]
        iou = common / torch.where(in_crowd[columns], of, of + other_sizes[columns] - common)
        kept = iou >= least  # of two empty boxes it is not a number, and not kept
        yield Pairs(detections=detections[kept.numpy()], objects=objects[kept.numpy()], iou=iou[kept].numpy())
        first = last
        if first >= len(per_image):
            return
