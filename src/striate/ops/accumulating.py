"""One box out of many windows that saw the same object: greedy merging (Sermanet et al. 2014, "OverFeat", section 4.3).

Non-maximum suppression keeps one of the boxes; this averages those that agree and adds up their confidence, so that
many windows that say the same outvote one that is sure. Letters: N boxes.
"""

import torch
from torch import Tensor

from striate.core.instances import Instances
from striate.ops.boxes import iou

APART = 0.5  # pairs that match worse than this are two objects


def accumulate(boxes: Tensor, scores: Tensor, labels: Tensor, *, apart: float = APART) -> Instances:
    """Merge the boxes of each class until none match.

    The two boxes that match best become their mean, weighted by confidence, with the sum of their confidences; and so
    on until the best match is worse than ``apart``. How badly two boxes match is the distance of their centres over
    their mean diagonal, plus one minus their IoU. (The paper adds the area in common to the distance, by which boxes
    that share more would match worse, and gives no unit or threshold: this is what it must mean.)

    Args:
        boxes: (N, 4) float32.
        scores: (N,) float32.
        labels: (N,) int64.
        apart: see above; 0 to 2.

    Returns:
        What is left, most confident first. The score is the summed confidence over that of all boxes of all classes.
    """
    total = float(scores.sum()) or 1.0
    left: list[tuple[Tensor, float, int]] = []
    for label in labels.unique().tolist():
        mine = labels == label
        merged, confidence = _merged(boxes[mine], scores[mine], apart)
        left += [(box, float(score), label) for box, score in zip(merged, confidence, strict=True)]
    left.sort(key=lambda row: -row[1])
    return Instances(
        boxes=torch.stack([row[0] for row in left]) if left else boxes.new_zeros(0, 4),
        scores=torch.tensor([row[1] / total for row in left], dtype=torch.float32),
        labels=torch.tensor([row[2] for row in left], dtype=torch.int64),
    )


def _merged(boxes: Tensor, scores: Tensor, apart: float) -> tuple[Tensor, Tensor]:
    """The boxes of one class, merged, and their summed confidences."""
    while len(boxes) > 1:
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        diagonals = (boxes[:, 2:] - boxes[:, :2]).norm(dim=1).clamp(min=1e-6)
        worse = torch.cdist(centres, centres) / ((diagonals[:, None] + diagonals) / 2) + 1 - iou(boxes, boxes)
        worse.fill_diagonal_(torch.inf)
        best = int(worse.argmin())
        one, other = best // len(boxes), best % len(boxes)
        if float(worse[one, other]) > apart:
            break
        pair = torch.tensor([one, other])
        weight = scores[pair].sum()
        box = (boxes[pair] * scores[pair][:, None]).sum(0) / weight.clamp(min=1e-12)
        rest = torch.ones(len(boxes), dtype=torch.bool)
        rest[pair] = False
        boxes, scores = torch.cat((boxes[rest], box[None])), torch.cat((scores[rest], weight[None]))
    return boxes, scores
