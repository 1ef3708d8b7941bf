"""From many overlapping predictions to one per object. Letters: N boxes of one image."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from striate.core.instances import Instances
from striate.ops.boxes import iou

# Pairs of boxes that one pass over all classes may compare for each class that a pass of its own would be (a call and
# its slices) before the passes are worth it; benchmarks/nms.py.
WORTH_A_CALL = 10_000


@dataclass(frozen=True, kw_only=True)
class Suppression:
    """How a detector's predictions become its answer; stored in the model file, changed by ``predict``'s options."""

    kind: Literal["hard", "soft", "none"] = "hard"  # soft: Bodla et al. 2017, Gaussian
    iou: float = 0.5  # hard: a box that overlaps a better one by more than this goes
    sigma: float = 0.5  # soft: scores fall by exp(-IoU^2 / sigma)
    per_class: bool = True  # boxes of different classes leave each other alone
    score: float = 0.05  # the lowest that is kept
    candidates: int = 1000  # the best predictions that suppression looks at (of each level, where there are levels)
    limit: int = 100  # objects per image

    def __call__(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> Instances:
        """The predictions that stay, most confident first; of equal scores the first one first.

        Args:
            boxes: (N, 4) float32, x1, y1, x2, y2.
            scores: (N,) float32.
            labels: (N,) int64.
        """
        above = (scores >= self.score).nonzero()[:, 0]
        order = above[scores[above].argsort(descending=True, stable=True)]
        boxes, scores, labels = boxes[order], scores[order], labels[order]
        if self.kind == "hard":
            kept = nms(boxes, scores, labels if self.per_class else torch.zeros_like(labels), self.iou)
        elif self.kind == "soft":
            kept, scores = self._soft(boxes, scores, labels)
        else:
            kept = torch.arange(len(boxes), device=boxes.device)
        kept = kept[: self.limit]
        return Instances(boxes=boxes[kept], scores=scores[kept], labels=labels[kept])

    def _soft(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The rows that stay, best first, and all rows' scores after the decay."""
        left, kept = scores.clone(), list[int]()
        open_ = torch.ones_like(scores, dtype=torch.bool)
        for _ in range(min(len(boxes), self.limit)):
            best = int(torch.where(open_, left, -1.0).argmax())
            if float(left[best]) < self.score:
                break
            kept.append(best)
            open_[best] = False
            decay = torch.exp(-iou(boxes[best : best + 1], boxes)[0].square() / self.sigma)
            touched = open_ & (labels == labels[best]) if self.per_class else open_
            left = torch.where(touched, left * decay, left)
        return torch.tensor(kept, dtype=torch.int64, device=boxes.device), left


def nms(boxes: Tensor, scores: Tensor, labels: Tensor, threshold: float) -> Tensor:
    """Non-maximum suppression within each class.

    Args:
        boxes: (N, 4) float32.
        scores: (N,) float32.
        labels: (N,) int64.
        threshold: a box that overlaps a better one of its class by more than this goes.

    Returns:
        (K,) int64, rows that stay, by falling score; of equal scores the first one first. On the meta device, where
        nothing is known to overlap, all stay.
    """
    from torchvision.ops import nms as plain  # takes seconds to import

    order = scores.argsort(descending=True, stable=True)
    if order.is_meta:
        return order
    boxes, labels = boxes[order], labels[order]
    # Ranks instead of scores: the order of equal scores is then ours, not that of an unstable sort.
    ranks = torch.arange(len(order), 0, -1, device=boxes.device, dtype=boxes.dtype)
    if boxes.device.type == "cpu" and len(order) ** 2 > WORTH_A_CALL * len(counts := labels.bincount().tolist()):
        by_class = labels.argsort(stable=True)
        boxes, ranks = boxes[by_class], ranks[by_class]
        first, kept = 0, [by_class[:0]]
        for count in filter(None, counts):
            rows = slice(first, first + count)
            kept.append(plain(boxes[rows], ranks[rows], threshold) + first)
            first += count
        return order[by_class[torch.cat(kept)].sort().values]
    if not len(order):
        return order
    # Classes are moved apart, so that one pass does for all of them; in float64, where that changes no overlap.
    boxes = boxes.double()
    far = (boxes.max() - boxes.min().clamp(max=0) + 1) * labels
    return order[plain(boxes + far[:, None], ranks.double(), threshold)]
