"""Which points answer for which objects, by what the network predicts at them itself.

Feng, Zhong, Gao, Scott, Huang: "TOOD: Task-aligned One-stage Object Detection", ICCV 2021, arXiv 2108.07755, section
3.2. A point whose class and box are both good becomes a positive; one that has only the one does not.

    t = s^alpha u^beta      s the score of the object's class, u the IoU of the predicted box with it
    positives               of each object the `count` of its points with the largest t
    quality                 t, scaled so that the largest of an object is the largest u of its positives: what the
                            class's score is to become, and the weight of the point's box

As in the authors' code, only points inside a box are its candidates, and a point that two objects want is given to that
of the larger IoU. Beyond it, so that the first steps work and small objects are learnt too:
- a point is a candidate also where the middle of the object lies in its cell, so no object is without one;
- a share of `NEAR` of t is how near the point is to the middle, which decides where no predicted box overlaps yet;
- the largest quality of an object is `LEAST` or more, or what nothing overlaps would never teach anything.

Letters: B images, N objects of an image at most, M points, K classes, P pairs of an object and a point.
"""

import torch
from torch import Tensor

from striate.core.instances import InstanceSets
from striate.ops.boxes import area, overlap
from striate.ops.matching import BELOW

LEAST = 0.1
NEAR = 1e-9  # decides up to an IoU of a few hundredths: 0.01 x 0.05^6 = 1.6e-10


def padded(truths: InstanceSets, kept: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The objects of a batch in a table with a row for each image.

    Args:
        truths: of B images.
        kept: (all objects,) bool, those that the table has.

    Returns:
        (B, N, 4) boxes, (B, N) int64 labels, (B, N) int64 rows of ``truths``, and (B, N) bool, where there is one.
    """
    rows = kept.nonzero()[:, 0]
    image = truths.images[rows]
    counts = torch.bincount(image, minlength=len(truths))
    first = counts.cumsum(0) - counts
    column = torch.arange(len(rows), device=rows.device) - first[image]
    shape = (len(truths), int(counts.max()) if len(counts) else 0)
    there = torch.zeros(shape, dtype=torch.bool, device=rows.device)
    there[image, column] = True
    table = torch.zeros(shape, dtype=torch.int64, device=rows.device)
    table[image, column] = rows
    if not len(rows):
        return truths.boxes.new_zeros((*shape, 4)), table, table, there
    return truths.boxes[table] * there[:, :, None], truths.labels[table], table, there


@torch.no_grad()
def align(
    logits: Tensor,
    boxes: Tensor,
    cells: Tensor,
    truths: Tensor,
    labels: Tensor,
    there: Tensor,
    *,
    count: int,
    alpha: float,
    beta: float,
) -> tuple[Tensor, Tensor]:
    """The object of each point, and how well the point does.

    Args:
        logits: (B, M, K), of the classes.
        boxes: (B, M, 4), predicted.
        cells: (M, 4), of the points, which are their middles.
        truths: (B, N, 4).
        labels: (B, N) int64.
        there: (B, N) bool, which of them are objects.
        count: m, positives of an object at most.
        alpha: the score's power.
        beta: the IoU's power.

    Returns:
        (B, M) int64, the object among the N of its image or `striate.ops.matching.BELOW`; and (B, M) float32 from 0
        to 1, the quality, 0 where there is no object.
    """
    images, points = logits.shape[:2]
    if not truths.shape[1]:
        return logits.new_full((images, points), BELOW, dtype=torch.int64), cells.new_zeros((images, points))
    middle, step = (cells[:, :2] + cells[:, 2:]) / 2, cells[:, 2:] - cells[:, :2]
    centre, reach = (truths[..., :2] + truths[..., 2:]) / 2, (truths[..., 2:] - truths[..., :2]) / 2
    off = (middle - centre[:, :, None]).abs()  # (B, N, M, 2)
    inside = (off < torch.maximum(reach[:, :, None], step / 2 + _EDGE)).all(-1) & there[:, :, None]

    image, row, place = inside.nonzero(as_tuple=True)  # P pairs: few of all
    mine, own = boxes[image, place].float(), truths[image, row]
    common = overlap(mine, own)
    fit = common / (area(mine) + area(own) - common).clamp(min=_EDGE)
    score = logits[image, place, labels[image, row]].float().sigmoid()
    far = (off[image, row, place] / (reach[image, row] + step[place])).square().sum(-1)
    aligned = score**alpha * fit**beta + NEAR / (1 + far)

    table = torch.zeros(inside.shape, device=fit.device)
    table[image, row, place] = aligned
    best, chosen = table.topk(min(count, points), dim=2)
    taken = torch.zeros_like(inside).scatter_(2, chosen, best > 0)
    overlaps = torch.full_like(table, -1.0)
    overlaps[image, row, place] = fit
    overlaps.masked_fill_(~taken, -1.0)
    largest, winner = overlaps.max(dim=1)
    matched = torch.where(largest >= 0, winner, BELOW)

    held = torch.zeros_like(taken).scatter_(1, winner[:, None], True) & taken
    highest = (table * held).amax(dim=2)
    finest = (overlaps * held).amax(dim=2)
    scale = finest.clamp(min=LEAST) / highest.clamp(min=NEAR / 100)
    quality = table.gather(1, winner[:, None])[:, 0] * scale.gather(1, winner)
    return matched, torch.where(matched >= 0, quality, 0.0)


_EDGE = 1e-6  # pixels: a middle on the border of two cells is in both
