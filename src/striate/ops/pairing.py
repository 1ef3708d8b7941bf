"""Which predicted object stands for which true one, in one image. Letters: N true objects, M predicted ones."""

import torch
from torch import Tensor

from striate.core.instances import Instances
from striate.ops.boxes import area, iou, overlap
from striate.ops.matching import taught


def pair(predicted: Instances, true: Instances, *, threshold: float = 0.5) -> Tensor:
    """The true object that each prediction stands for.

    In four rounds, each over the predictions that are left, the most confident first. A prediction takes the object
    with the largest overlap among those it may have and nobody has: 1. of its class, by an IoU of ``threshold`` or
    more; 2. of another class, by the same: the place is right and the class is wrong. What is left may then stand, any
    number of times, for what is to be passed over: 3. an ignored object, by the same IoU; 4. a crowd of its class, by
    the share of the prediction that lies in it.

    Args:
        predicted: M objects; those without scores are taken in their order.
        true: N objects.
        threshold: of the overlap.

    Returns:
        (M,) int64 on the CPU, the true object, or -1 for none.
    """
    found = torch.full((len(predicted),), -1, dtype=torch.int64)
    if not len(predicted) or not len(true):
        return found
    boxes, others = predicted.boxes.cpu(), true.boxes.cpu()
    same = predicted.labels.cpu()[:, None] == true.labels.cpu()[None]
    overlaps = iou(boxes, others)
    within = overlap(boxes[:, None], others[None]) / area(boxes).clamp(min=1e-9)[:, None]
    none = torch.zeros(len(true), dtype=torch.bool)
    crowd = none if true.crowd is None else true.crowd.cpu()
    ignore = none if true.ignore is None else true.ignore.cpu() & ~crowd
    counted = taught(true).cpu()

    rows = torch.arange(len(predicted))
    if predicted.scores is not None:
        rows = predicted.scores.cpu().argsort(descending=True, stable=True)
    rounds = (
        (overlaps, same & counted, True),
        (overlaps, ~same & counted, True),
        (overlaps, ignore.expand_as(same), False),
        (within, same & crowd, False),
    )
    free = torch.ones(len(true), dtype=torch.bool)
    for measure, allowed, once in rounds:
        for row in rows.tolist():
            if found[row] >= 0:
                continue
            left = torch.where(allowed[row] & free if once else allowed[row], measure[row], -1.0)
            best = int(left.argmax())
            if float(left[best]) >= threshold:
                found[row] = best
                free[best] &= not once
    return found
