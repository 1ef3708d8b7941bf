"""CornerNet: an object is a pair of corners.

Law, Deng: "CornerNet: Detecting Objects as Paired Keypoints", ECCV 2018, arXiv 1808.01244. Figures 4 and 7:

    backbone     Hourglass-104: two stacks (`striate.models.backbones.hourglass`)             256 x H/4 x W/4
    corners      two branches, for the upper left and the lower right corner, each:
      pooling    two of 3x3, 128; corner pooling of each, up and left (or down and right); sum;
                 3x3, 256; + 1x1, 256 of the map; ReLU; 3x3, 256
      heat       3x3 of 256, ReLU, 1x1: how likely an object of a class has its corner here     K x H/4 x W/4
      embedding  3x3 of 256, ReLU, 1x1: alike for two corners of one object                     1 x H/4 x W/4
      offsets    3x3 of 256, ReLU, 1x1: where in the cell the corner is                         2 x H/4 x W/4

AP on COCO test-dev, with each image and its mirror image (section 4.2; table 7 of arXiv's v2): 40.6, and 42.2 with
several scales of them. The first version has 42.1 for the latter: a mistake was mended since (comment on arXiv).

The targets of the heats are Gaussians around the corners, with the radius within which corners still make boxes of an
IoU of 0.3 (section 3.2); the loss is the penalty-reduced focal loss (equation 1). Offsets are taught at the corners, by
smooth L1 (equations 2 and 3). Embeddings of an object's corners are pulled together (equation 4) and those of different
objects of an image pushed apart, up to a distance of 1 (equation 5). Pull and push count 0.1 (section 4.1). Each stack
has its own branches; losses are averaged over stacks.

Decoding (section 4.2): the 100 hottest peaks of either kind; pairs of one class, the right way round, whose embeddings
differ by 0.5 at most; their score is the mean, so that one hot corner alone can make 0.5; soft-NMS; the best 100.

Another backbone than an hourglass comes in through up-convolutions (`striate.models.necks.stride_four`); the branches
are then as wide as what these give, 64 channels.

Differences from the authors' code: it takes an IoU of 0.7 and other roots of the radius's equations, which comes to
radii of about the paper's; pull and push are there summed over the images, here averaged; it clamps probabilities to
0.0001 from 0 and 1. What lies in a crowd or an ignored object is not taught to be cold.

Letters: B images, K classes, H height, W width, h and w of the map, N objects of the batch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.core.batch import Batch
from striate.core.instances import Assigned, Instances
from striate.models.contract import Backbone, Detector
from striate.models.heads.point import PointHead
from striate.models.necks.stride_four import STRIDE, StrideFour
from striate.models.weights import ClassRows
from striate.nn.conv import ConvNormAct
from striate.nn.corner_pool import CornerPool, Direction
from striate.ops.boxes import clip
from striate.ops.heatmaps import cell_boxes, draw, peaks, penalty_reduced_focal, radius
from striate.ops.matching import set_aside, taught
from striate.ops.suppression import Suppression

OVERLAP = 0.3  # of the Gaussians' radius, section 3.2
PULL, PUSH, OFFSET = 0.1, 0.1, 1.0  # weights of the losses, section 4.1
APART = 1.0  # the distance to which embeddings are pushed, section 3.3
CORNERS = 100  # of either kind, section 4.2
ALIKE = 0.5  # the largest distance of embeddings in a pair, section 4.2
PAIRS = 1000  # that soft-NMS looks at, in the authors' code
OBJECTS = 5  # in an image, for `first_loss`; a guess


class Pooling(nn.Module):
    """The corner pooling module: a residual block whose first convolution pools (figure 7)."""

    def __init__(self, channels: int, directions: tuple[Direction, Direction]):
        super().__init__()
        self.ways = nn.ModuleList(
            nn.Sequential(ConvNormAct(channels, channels // 2, 3), CornerPool(direction)) for direction in directions
        )
        self.merge = ConvNormAct(channels // 2, channels, 3, activation=None)
        self.shortcut = ConvNormAct(channels, channels, 1, activation=None)
        self.out = ConvNormAct(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """From (B, C, h, w) to the same."""
        first, second = self.ways
        return self.out(F.relu(self.merge(first(x) + second(x)) + self.shortcut(x)))


class Corner(nn.Module):
    """The branch of one of the two corners."""

    def __init__(self, channels: int, classes: int, directions: tuple[Direction, Direction]):
        super().__init__()
        self.pooling = Pooling(channels, directions)
        self.heat = PointHead(channels, classes, heat=True)
        self.embedding = PointHead(channels, 1)
        self.offsets = PointHead(channels, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """From (B, C, h, w) to heat (B, K, h, w), embedding (B, 1, h, w) and offsets (B, 2, h, w)."""
        x = self.pooling(x)
        return {"heat": self.heat(x), "embedding": self.embedding(x), "offsets": self.offsets(x)}


class Corners(nn.Module):
    """Both branches on one map."""

    def __init__(self, channels: int, classes: int):
        super().__init__()
        self.first = Corner(channels, classes, ("top", "left"))
        self.last = Corner(channels, classes, ("bottom", "right"))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """From (B, C, h, w) to what `CornerNet.forward` gives."""
        found: dict[str, Tensor] = {}
        for corner, branch in ((FIRST, self.first), (LAST, self.last)):
            found |= {f"{corner}_{name}": value for name, value in branch(x).items()}
        return found


FIRST, LAST = "first", "last"  # the upper left corner and the lower right one


@dataclass(frozen=True, kw_only=True, eq=False)
class Targets:
    """What a batch asks of the maps of one corner."""

    heat: Tensor  # (B, K, h, w) float32
    counts: Tensor  # (B, 1, h, w) float32: 0 where nothing is taught, 1 elsewhere
    images: Tensor  # (N,) int64, the image of each object
    cells: Tensor  # (N, 2) int64, row and column of its corner
    offsets: Tensor  # (N, 2) float32, x and y of the corner in its cell, 0 to 1


class CornerNet(Detector):
    """CornerNet around a backbone."""

    def __init__(self, backbone: Backbone, *, classes: int, channels: int, size: tuple[int, int]):
        super().__init__()
        self.classes, self.channels, self.size = classes, channels, size
        self.suppression = Suppression(kind="soft", score=0.001, candidates=PAIRS, limit=100)  # the authors' code
        self.backbone = backbone
        self.neck = StrideFour(backbone, "CornerNet")
        self.heads = nn.ModuleList(Corners(self.neck.channels, classes) for _ in range(self.neck.count))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """What the branches say of every cell, those of the last stack if there are several.

        Args:
            images: (B, channels, H, W) float32, normalised.

        Returns:
            For the upper left corner ``first_heat`` (B, K, h, w) logits, ``first_embedding`` (B, 1, h, w) and
            ``first_offsets`` (B, 2, h, w), x and y in cells; the same with ``last_`` for the lower right corner.
        """
        return self.heads[-1](self.neck(self.backbone(images))[-1])

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """``heat``, ``pull``, ``push`` and ``offset`` with their weights, averaged over the stacks (section 4.1)."""
        found = [
            {name: value.float() for name, value in heads(x).items()}
            for heads, x in zip(self.heads, self.neck(self.backbone(batch.images)), strict=True)
        ]
        first, last = self.targets(batch, found[0]["first_heat"].shape[2:])
        by_stack = [self._losses(raw, first, last) for raw in found]
        return {name: torch.stack([losses[name] for losses in by_stack]).mean() for name in by_stack[0]}

    @staticmethod
    def _losses(raw: dict[str, Tensor], first: Targets, last: Targets) -> dict[str, Tensor]:
        count = max(1, len(first.cells))
        heat: list[Tensor] = []
        offset: list[Tensor] = []
        embeddings: list[Tensor] = []
        for corner, targets in ((FIRST, first), (LAST, last)):
            heat.append((penalty_reduced_focal(raw[f"{corner}_heat"], targets.heat) * targets.counts).sum())
            at = (targets.images, slice(None), *targets.cells.unbind(1))
            offset.append(F.smooth_l1_loss(raw[f"{corner}_offsets"][at], targets.offsets, reduction="sum"))
            embeddings.append(raw[f"{corner}_embedding"][at][:, 0])
        pull, push = pull_and_push(embeddings[0], embeddings[1], first.images, len(first.heat))
        return {
            "heat": torch.stack(heat).sum() / count,
            "pull": PULL * pull,
            "push": PUSH * push,
            "offset": OFFSET * torch.stack(offset).sum() / count,
        }

    def targets(self, batch: Batch, size: Sequence[int]) -> tuple[Targets, Targets]:
        """What the batch asks of maps of ``size``, h and w: of the upper left corners and of the lower right ones."""
        device = batch.images.device
        height, width = size
        grid = cell_boxes((height, width), STRIDE, device)
        limits = torch.tensor((height, width), device=device) - 1
        kept = [objects.select(taught(objects)) for objects in batch.instances]
        images = torch.arange(len(batch), device=device).repeat_interleave(
            torch.tensor([len(objects) for objects in kept], device=device)
        )
        aside = torch.stack([set_aside(grid, objects) for objects in batch.instances])
        counts = 1 - aside.float().reshape(-1, 1, height, width)

        def of(corner: slice) -> Targets:
            heats: list[Tensor] = []
            cells: list[Tensor] = []
            offsets: list[Tensor] = []
            for objects in kept:
                points = objects.boxes[:, corner] / STRIDE
                own = torch.minimum(points.flip(1).floor().long().clamp(min=0), limits)
                sizes = (objects.boxes[:, 2:] - objects.boxes[:, :2]).flip(1) / STRIDE
                radii = radius(sizes.ceil(), OVERLAP).long()
                heats.append(draw(own, radii, objects.labels, (height, width), self.classes))
                cells.append(own)
                offsets.append(points - own.flip(1))
            heat = torch.stack(heats)
            return Targets(
                heat=heat,
                counts=torch.maximum(counts, (heat == 1).any(1, keepdim=True).float()),
                images=images,
                cells=torch.cat(cells),
                offsets=torch.cat(offsets),
            )

        return of(slice(0, 2)), of(slice(2, 4))

    @torch.no_grad()
    def detect(self, images: Tensor, sizes: Tensor) -> list[Instances]:
        """As the contract says; objects whose upper left corner is in the padding are left out."""
        raw = {name: value.float() for name, value in self(images).items()}
        number = torch.arange(len(images), device=images.device)[:, None]
        tops: dict[str, tuple[Tensor, ...]] = {}
        for corner in (FIRST, LAST):
            scores, labels, cells = peaks(raw[f"{corner}_heat"].sigmoid(), CORNERS)
            at = (number, slice(None), cells[..., 0], cells[..., 1])
            points = (cells.flip(-1) + raw[f"{corner}_offsets"][at]) * STRIDE
            tops[corner] = (scores, labels, points, raw[f"{corner}_embedding"][at][..., 0])
        scores, labels, points, embeddings = zip(tops[FIRST], tops[LAST], strict=True)
        # Pairs (B, corners of the first kind, corners of the last kind).
        fits = labels[0][:, :, None] == labels[1][:, None]
        fits &= (embeddings[0][:, :, None] - embeddings[1][:, None]).abs() <= ALIKE
        fits &= (points[0][:, :, None] < points[1][:, None]).all(-1)
        fits &= (points[0] < sizes.to(points[0]).flip(1)[:, None]).all(-1)[:, :, None]
        mean = torch.where(fits, (scores[0][:, :, None] + scores[1][:, None]) / 2, -1.0)
        found: list[Instances] = []
        for image, size in enumerate(sizes.tolist()):
            score, pairs = mean[image].flatten().topk(min(PAIRS, mean[image].numel()))
            pairs = pairs[score >= 0]
            one, other = pairs // mean.shape[2], pairs % mean.shape[2]
            boxes = torch.cat((points[0][image, one], points[1][image, other]), dim=1)
            found.append(self.suppression(clip(boxes, size), score[: len(pairs)], labels[0][image, one]))
        return found

    def assigned(self, batch: Batch) -> list[Assigned]:
        """The cells of each object's two corners, those of all upper left ones first."""
        height, width = batch.images.shape[2:]
        both = self.targets(batch, (-(-height // STRIDE), -(-width // STRIDE)))
        found: list[Assigned] = []
        for number, objects in enumerate(batch.instances):
            rows = taught(objects).nonzero()[:, 0].repeat(2)
            cells = torch.cat([targets.cells[targets.images == number] for targets in both])
            corners = cells.flip(1) * float(STRIDE)
            boxes = torch.cat((corners, corners + STRIDE), dim=1)
            found.append(Assigned(kind="corner", boxes=boxes, objects=rows, levels=torch.zeros_like(rows)))
        return found

    def first_loss(self) -> float:
        """With every cell at a probability of 0.1, all embeddings alike, and `OBJECTS` objects."""
        height, width = (side / STRIDE for side in self.size)
        cold = self.classes * height * width * 0.1**2 * -math.log(0.9) / OBJECTS
        hot = 0.9**2 * -math.log(0.1)
        return 2 * (cold + hot) + PUSH * APART + OFFSET * 4 * (1 / 6)

    def class_layers(self) -> dict[str, ClassRows]:
        """As `Detector.class_layers`."""
        corners = [f"heads.{place}.{which}" for place in range(len(self.heads)) for which in ("first", "last")]
        return {f"{corner}.heat.last": ClassRows() for corner in corners}


def pull_and_push(first: Tensor, last: Tensor, images: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """What brings embeddings of an object's corners together, and what keeps objects apart (equations 4 and 5).

    Args:
        first: (N,) embeddings of the upper left corners.
        last: (N,) of the lower right ones.
        images: (N,) int64, the image of each object.
        count: of images, over which both are averaged.
    """
    here = torch.bincount(images, minlength=count)[images].to(first)  # objects in the image of each
    mean = (first + last) / 2
    pull = (((first - mean) ** 2 + (last - mean) ** 2) / here).sum() / count
    others = (images[:, None] == images) & ~torch.eye(len(images), dtype=torch.bool, device=images.device)
    close = F.relu(APART - (mean[:, None] - mean).abs())
    push = (close * others / (here * (here - 1)).clamp(min=1)[:, None]).sum() / count
    return pull, push


def build(backbone: Backbone, *, classes: int, channels: int, size: tuple[int, int]) -> CornerNet:
    """CornerNet around an hourglass, or any backbone with a map of stride 32; ``size`` is only noted."""
    return CornerNet(backbone, classes=classes, channels=channels, size=size)
