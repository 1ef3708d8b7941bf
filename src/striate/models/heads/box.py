"""The second stage of a detector: regions in, classes and better boxes out.

Girshick: "Fast R-CNN", ICCV 2015, arXiv 1504.08083. Every region is pooled to a grid of one size, goes through layers
of its own, and ends in two siblings (section 2.1): logits of K classes and background, and four deltas for each class.
Which regions the head learns from: section 2.3. What it finds: section 3.1.

Class 0 of the logits and of the deltas is background, as in the authors' files and torchvision's; the deltas of
background are never used. Labels everywhere else are 0-based without background, class k of the labels being k + 1
here.

Letters: B images, N regions of one image, R of all, C channels, h, w bins of a region, F features, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.core.instances import Instances
from striate.models.contract import Backbone
from striate.models.weights import ClassRows
from striate.nn.initialise import initialise
from striate.ops.boxes import at_least, clip, iou
from striate.ops.coders import DeltaCoder
from striate.ops.losses import smooth_l1
from striate.ops.matching import BELOW, BETWEEN, match_by_iou, sample, set_aside, taught
from striate.ops.suppression import Suppression

SMALLEST = 1e-2  # pixels: what is narrower or lower is no prediction; torchvision's


class Pooling(Protocol):
    """Cuts regions out of maps, as those of `striate.ops.rois`."""

    def __call__(self, maps: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """(R, C, h, w) of B-first maps and B times (N, 4) boxes in pixels of the images."""
        ...


class RegionHead(nn.Module):
    """What a detector asks of its second stage."""

    def forward(self, maps: Sequence[Tensor], boxes: Sequence[Tensor], backbone: Backbone) -> tuple[Tensor, Tensor]:
        """Classes and deltas of regions.

        Args:
            maps: those that the detector's neck gives.
            boxes: B times (N, 4), in pixels of the images.
            backbone: whose last stage some heads run on every region.

        Returns:
            (R, K + 1) float32 logits, background first, and (R, K + 1, 4) float32 deltas, or (R, 1, 4) where all
            classes share them.
        """
        raise NotImplementedError

    def class_layers(self) -> dict[str, ClassRows]:
        """As `striate.models.contract.Detector.class_layers`."""
        raise NotImplementedError


class FullLayers(nn.Sequential):
    """The full layers of a region, each followed by ReLU: fc6 and fc7 (Girshick 2015, section 2.1).

    Args:
        features: of the flattened grid, C h w.
        widths: of the layers.
        dropout: after each.
    """

    def __init__(self, features: int, widths: Sequence[int], *, dropout: float = 0.0):
        super().__init__()
        for number, width in enumerate(widths, 6):
            layer = nn.Linear(features, width)
            initialise(layer, "rectifier")
            self.add_module(f"fc{number}", layer)
            self.add_module(f"relu{number}", nn.ReLU(inplace=True))
            if dropout:
                self.add_module(f"drop{number}", nn.Dropout(dropout))
            features = width

    def forward(self, input: Tensor) -> Tensor:
        """From (R, C, h, w) to (R, F)."""
        return super().forward(input.flatten(1))


class Predictor(nn.Module):
    """The two siblings that end a head; they start at deviations of 0.01 and 0.001 (section 2.3).

    Args:
        features: F.
        classes: K.
        shared: one set of deltas for all classes.
    """

    def __init__(self, features: int, classes: int, *, shared: bool = False):
        super().__init__()
        self.logits = nn.Linear(features, classes + 1)
        self.deltas = nn.Linear(features, 4 * (1 if shared else classes + 1))
        initialise(self.logits, "softmax")
        nn.init.normal_(self.deltas.weight, std=0.001)
        nn.init.zeros_(self.deltas.bias)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """From (R, F) to (R, K + 1) logits and (R, K + 1 or 1, 4) deltas."""
        return self.logits(features).float(), self.deltas(features).float().unflatten(1, (-1, 4))

    def class_layers(self) -> dict[str, ClassRows]:
        """As `striate.models.contract.Detector.class_layers`."""
        logits = {"logits": ClassRows(before=1)}
        return logits if self.deltas.out_features == 4 else {**logits, "deltas": ClassRows(before=1, each=4)}


class BoxHead(RegionHead):
    """Pooling, layers of the region, and the two siblings.

    Args:
        pool: how regions are cut out of the maps.
        body: from (R, C, h, w) to (R, F).
        predictor: from (R, F) to logits and deltas.
    """

    def __init__(self, pool: Pooling, body: nn.Module, predictor: Predictor):
        super().__init__()
        self.pool = pool
        self.body = body
        self.predictor = predictor

    def forward(self, maps: Sequence[Tensor], boxes: Sequence[Tensor], backbone: Backbone) -> tuple[Tensor, Tensor]:
        """As `RegionHead.forward`."""
        return self.predictor(self.body(self.pool(maps, boxes)))

    def class_layers(self) -> dict[str, ClassRows]:
        """As `RegionHead.class_layers`."""
        return {f"predictor.{name}": rows for name, rows in self.predictor.class_layers().items()}


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Which regions of an image a head learns from (section 2.3)."""

    count: int = 512  # Lin et al. 2017, section 5.2; Girshick takes 64 of each of 2 images
    positives: float = 0.25  # the largest share of regions that are on an object
    overlap: float = 0.5  # IoU from which on a region is on an object; below it is background
    least: float = 0.0  # IoU that background has at least, where there is such background; 0.1 in the paper


@dataclass(frozen=True, kw_only=True, eq=False)
class Regions:
    """The regions that a head learns from, and what they are."""

    boxes: tuple[Tensor, ...]  # B times (N, 4) float32
    labels: Tensor  # (R,) int64, 0 for background, class + 1 otherwise
    targets: Tensor  # (R, 4) float32, the object's box; of background, the region itself


def learnable(objects: Instances) -> Tensor:
    """(N,) int64: the objects of an image that teach: no crowds, not ignored, wider and higher than nothing."""
    return (taught(objects) & at_least(objects.boxes, SMALLEST)).nonzero()[:, 0]


def match_regions(boxes: Tensor, objects: Instances, sampling: Sampling) -> Tensor:
    """(M,) int64: the object of each of (M, 4) regions among those of `learnable`, or as `match_by_iou` says it."""
    truth = objects.boxes[learnable(objects)]
    overlaps = iou(truth, boxes)
    matched = match_by_iou(overlaps, high=sampling.overlap, low=sampling.overlap, every_object=False)
    matched[(matched == BELOW) & set_aside(boxes, objects)] = BETWEEN
    if sampling.least and len(truth):
        easy = (matched == BELOW) & (overlaps.amax(dim=0) < sampling.least)
        if bool(((matched == BELOW) & ~easy).any()):
            matched[easy] = BETWEEN
    return matched


def sample_regions(proposals: Sequence[Tensor], truths: Sequence[Instances], sampling: Sampling) -> Regions:
    """Draw the regions to learn from, with torch's generator, image after image.

    Args:
        proposals: B times (N, 4). The objects themselves are added to them, as in the authors' code and torchvision's.
        truths: B of them.
        sampling: how many of which.
    """
    chosen: list[Tensor] = []
    labels: list[Tensor] = []
    targets: list[Tensor] = []
    for boxes, objects in zip(proposals, truths, strict=True):
        rows = learnable(objects)
        truth = objects.boxes[rows]
        boxes = torch.cat((boxes, truth.to(boxes)))
        matched = match_regions(boxes, objects, sampling)
        inside, outside = sample(matched, count=sampling.count, positives=sampling.positives)
        chosen.append(boxes[torch.cat((inside, outside))])
        labels.append(torch.cat((objects.labels[rows][matched[inside]] + 1, torch.zeros_like(outside))))
        targets.append(torch.cat((truth[matched[inside]].to(boxes), boxes[outside])))
    return Regions(boxes=tuple(chosen), labels=torch.cat(labels), targets=torch.cat(targets))


def region_losses(
    logits: Tensor, deltas: Tensor, regions: Regions, coder: DeltaCoder, *, beta: float
) -> tuple[Tensor, Tensor]:
    """The loss of the classes and that of the boxes (section 2.3, equations 1 to 3), both over the number of regions.

    Args:
        logits: (R, K + 1).
        deltas: (R, K + 1, 4) or (R, 1, 4).
        regions: R of them.
        coder: of the deltas.
        beta: where the smooth L1 loss turns from a parabola to a line; 1 in equation 3, 1/9 in torchvision.
    """
    count = max(len(regions.labels), 1)
    inside = regions.labels.nonzero()[:, 0]
    column = regions.labels[inside] if deltas.shape[1] > 1 else torch.zeros_like(inside)
    wanted = coder.encode(regions.targets[inside], torch.cat(regions.boxes)[inside])
    classes = F.cross_entropy(logits, regions.labels, reduction="sum") / count
    return classes, smooth_l1(deltas[inside, column], wanted, beta=beta).sum() / count


def find(
    scores: Tensor,
    deltas: Tensor,
    boxes: Sequence[Tensor],
    sizes: Tensor,
    *,
    coder: DeltaCoder,
    suppression: Suppression,
) -> list[Instances]:
    """The objects of each image.

    Args:
        scores: (R, K + 1), background first; each row sums to 1.
        deltas: (R, K + 1, 4) or (R, 1, 4).
        boxes: B times (N, 4), R in all.
        sizes: (B, 2), height and width of the images.
        coder: of the deltas.
        suppression: how the predictions are chosen from.
    """
    counts = [len(part) for part in boxes]
    found: list[Instances] = []
    limits: list[list[int]] = sizes.tolist()
    for own, part, region, (height, width) in zip(
        scores.split(counts), deltas.split(counts), boxes, limits, strict=True
    ):
        rows, labels = (own[:, 1:] >= suppression.score).nonzero().unbind(1)
        best = own[rows, labels + 1]
        if len(best) > suppression.candidates:
            best, kept = best.topk(suppression.candidates)
            rows, labels = rows[kept], labels[kept]
        column = labels + 1 if part.shape[1] > 1 else torch.zeros_like(labels)
        placed = clip(coder.decode(part[rows, column], region[rows]), (height, width))
        large = at_least(placed, SMALLEST)
        found.append(suppression(placed[large], best[large], labels[large]))
    return found
