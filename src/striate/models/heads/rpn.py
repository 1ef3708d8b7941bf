"""The region proposal network: the first stage of a detector, which says where something is, not what.

Ren, He, Girshick, Sun: "Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks", NIPS 2015,
arXiv 1506.01497, section 3.1. A 3x3 convolution and ReLU on each map, then two 1x1 convolutions: whether each of the A
anchors of a place is on an object, and four deltas that move it there. All levels of a pyramid share them (Lin et al.
2017, section 4.1).

    learnt from    256 anchors of each image, at most half of them on an object, IoU from 0.7 on or an object's best;
                   background is below 0.3 (sections 3.1.2 and 3.1.3)
    proposals      the best anchors of each level, moved, cut off at the image's border, NMS at 0.7 within a level,
                   and the best of what is left (section 3.3; Lin et al. 2017, section 5.1)

Differences from the paper, all as in torchvision:
- One logistic unit per anchor, not two with a softmax.
- Anchors that cross the border of the image are learnt from too.
- The loss of the boxes is divided by the number of anchors sampled, like that of the classes, with no factor; the
  smooth L1 loss turns at 1/9, as in the authors' code. The paper's equation 1 has lambda 10 over the number of places.

Letters: B images, L levels, A anchors per place, M anchors of all levels, P proposals, N objects.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.core.instances import Assigned, InstanceSets
from striate.models.heads.box import learnable
from striate.ops.anchors import Anchors, assigned
from striate.ops.boxes import at_least, clip, iou
from striate.ops.coders import DeltaCoder
from striate.ops.losses import smooth_l1
from striate.ops.matching import BELOW, BETWEEN, match_by_iou, sample, set_aside
from striate.ops.suppression import nms

SMALLEST = 1e-3  # pixels: what is narrower or lower is no proposal; torchvision's
NOTHING = -1.0  # the score of a row that is no proposal


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many proposals there are."""

    before: int  # of each level, before suppression
    after: int  # of the image, after it


@dataclass(frozen=True, kw_only=True)
class Proposing:
    """The numbers of a region proposal network."""

    anchors: Anchors
    training: Counts
    testing: Counts
    high: float = 0.7  # section 3.1.2
    low: float = 0.3  # section 3.1.2
    sample: int = 256  # section 3.1.3
    positives: float = 0.5  # section 3.1.3
    beta: float = 1 / 9  # of smooth L1: sigma 3 of the authors' code
    overlap: float = 0.7  # of the suppression, section 3.3


@dataclass(frozen=True, kw_only=True, eq=False)
class Proposed:
    """What the network gives out."""

    objectness: Tensor  # (B, M) float32 logits
    deltas: Tensor  # (B, M, 4) float32
    anchors: Tensor  # (M, 4) float32
    counts: tuple[int, ...]  # of the anchors of each of the L levels


class RPN(nn.Module):
    """A region proposal network.

    Args:
        channels: of the maps.
        numbers: of the network.
        hidden: channels of the 3x3 convolution.
    """

    def __init__(self, channels: int, numbers: Proposing, *, hidden: int):
        super().__init__()
        self.numbers = numbers
        self.coder = DeltaCoder()
        self.conv = nn.Conv2d(channels, hidden, 3, padding=1)
        self.objectness = nn.Conv2d(hidden, numbers.anchors.per_place, 1)
        self.deltas = nn.Conv2d(hidden, 4 * numbers.anchors.per_place, 1)
        for layer in (self.conv, self.objectness, self.deltas):  # section 3.1.3
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.constant_(layer.bias, 0.0)  # pyright: ignore[reportArgumentType]

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Proposed:
        """Objectness and deltas of every anchor.

        Args:
            maps: L of (B, channels, H, W), fine to coarse; what comes after them is not read.
            size: height and width of the input in pixels.
        """
        maps = maps[: len(self.numbers.anchors.sizes)]
        objectness: list[Tensor] = []
        deltas: list[Tensor] = []
        for one in maps:
            hidden = F.relu(self.conv(one), inplace=True)
            objectness.append(self.objectness(hidden).permute(0, 2, 3, 1).flatten(1))
            deltas.append(self.deltas(hidden).permute(0, 2, 3, 1).reshape(len(one), -1, 4))
        sides = [(one.shape[2], one.shape[3]) for one in maps]
        return Proposed(
            objectness=torch.cat(objectness, dim=1).float(),
            deltas=torch.cat(deltas, dim=1).float(),
            anchors=self.numbers.anchors.on(size, sides, maps[0].device),
            counts=tuple(self.numbers.anchors.counts(sides)),
        )

    @torch.no_grad()
    def propose(self, found: Proposed, sizes: Tensor, counts: Counts) -> tuple[Tensor, Tensor]:
        """The best regions of each image, the most likely first. No gradient flows through them (section 3.2).

        Args:
            found: of `forward`.
            sizes: (B, 2), height and width of what is image.
            counts: how many.

        Returns:
            (B, P, 4) float32 boxes and (B, P) float32 scores from 0 to 1. Where an image has fewer proposals than P,
            its last rows have the score `NOTHING`.
        """
        places, scores, levels = self._best(found, counts.before)
        anchors = found.anchors[places]
        boxes = self.coder.decode(found.deltas.gather(1, places[..., None].expand(-1, -1, 4)), anchors)
        limits: list[list[int]] = sizes.tolist()
        boxes = torch.stack([clip(part, (height, width)) for part, (height, width) in zip(boxes, limits, strict=True)])
        scores = torch.where(at_least(boxes, SMALLEST), scores, NOTHING)
        kept = torch.zeros_like(scores, dtype=torch.bool)
        for own, part, likely in zip(kept, boxes, scores, strict=True):
            own[nms(part, likely, levels, self.numbers.overlap)] = True
        scores = torch.where(kept, scores, NOTHING)
        rows = scores.argsort(dim=1, descending=True, stable=True)[:, : counts.after]
        return boxes.gather(1, rows[..., None].expand(-1, -1, 4)), scores.gather(1, rows)

    def _best(self, found: Proposed, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """The likeliest anchors of each level: (B, Q) rows and scores, and their (Q,) levels."""
        rows: list[Tensor] = []
        scores: list[Tensor] = []
        first = 0
        for level in found.objectness.split(found.counts, dim=1):
            best, own = level.topk(min(count, level.shape[1]), dim=1)
            rows.append(own + first)
            scores.append(best.sigmoid())
            first += level.shape[1]
        levels = torch.arange(len(rows)).repeat_interleave(torch.tensor([own.shape[1] for own in rows]))
        return torch.cat(rows, dim=1), torch.cat(scores, dim=1), levels.to(found.objectness.device)

    def match(self, found: Proposed, truths: InstanceSets) -> list[Tensor]:
        """B times (M,) int64: the object of each anchor among those of `learnable`, or as `match_by_iou` says it."""
        matches: list[Tensor] = []
        for objects in truths:
            overlaps = iou(objects.boxes[learnable(objects)], found.anchors)
            matched = match_by_iou(overlaps, high=self.numbers.high, low=self.numbers.low, every_object=True)
            matched[(matched == BELOW) & set_aside(found.anchors, objects)] = BETWEEN
            matches.append(matched)
        return matches

    def losses(self, found: Proposed, truths: InstanceSets) -> tuple[Tensor, Tensor]:
        """The loss of the objectness and that of the deltas, both over the number of anchors drawn.

        The anchors are drawn with torch's generator, image after image.
        """
        logits: list[Tensor] = []
        wanted: list[Tensor] = []
        deltas: list[Tensor] = []
        targets: list[Tensor] = []
        for place, (matched, objects) in enumerate(zip(self.match(found, truths), truths, strict=True)):
            inside, outside = sample(matched, count=self.numbers.sample, positives=self.numbers.positives)
            logits.append(found.objectness[place, torch.cat((inside, outside))])
            wanted += [torch.ones_like(inside, dtype=torch.float32), torch.zeros_like(outside, dtype=torch.float32)]
            deltas.append(found.deltas[place, inside])
            truth = objects.boxes[learnable(objects)][matched[inside]]
            targets.append(self.coder.encode(truth, found.anchors[inside]))
        count = max(sum(map(len, logits)), 1)
        objectness = F.binary_cross_entropy_with_logits(torch.cat(logits), torch.cat(wanted), reduction="sum")
        boxes = smooth_l1(torch.cat(deltas), torch.cat(targets), beta=self.numbers.beta).sum()
        return objectness / count, boxes / count

    def assigned(self, found: Proposed, truths: InstanceSets) -> list[Assigned]:
        """The anchors that are on an object when this batch is learnt from, drawn or not."""
        answers: list[Assigned] = []
        for matched, objects in zip(self.match(found, truths), truths, strict=True):
            rows = torch.cat((learnable(objects), matched.new_tensor([BETWEEN, BELOW])))  # -2 and -1 stay below 0
            answers.append(assigned("anchor", found.anchors, rows[matched], found.counts))
        return answers


def as_lists(boxes: Tensor, scores: Tensor) -> list[Tensor]:
    """B times (N, 4): the rows of (B, P, 4) boxes that are proposals."""
    return [part[: int(count)] for part, count in zip(boxes, (scores != NOTHING).sum(dim=1), strict=True)]
