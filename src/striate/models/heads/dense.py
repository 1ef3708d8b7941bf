"""What dense detectors share: convolutions on every level of a pyramid, and the best of very many predictions.

Lin, Goyal, Girshick, He, Dollar: "Focal Loss for Dense Object Detection", ICCV 2017, arXiv 1708.02002, section 4;
Tian, Shen, Chen, He: "FCOS: Fully Convolutional One-Stage Object Detection", ICCV 2019, arXiv 1904.01355, figure 2.

Letters: B images, C channels, H height, W width, A anchors of a place, M of all places of all levels, K classes, V
values per anchor, T candidates.
"""

import copy
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.core.instances import Instances, InstanceSets
from striate.ops.boxes import iou
from striate.ops.coders import DeltaCoder
from striate.ops.matching import BELOW, BETWEEN, match_by_iou, set_aside, taught
from striate.ops.suppression import Suppression

PRIOR = 0.01  # probability of an object that untrained logits say, Lin et al., section 4.1
DEVIATION = 0.01  # of a head's first weights, the same section


class Tower(nn.Module):
    """Some 3x3 convolutions, each with its ReLU; the same weights on all levels.

    Args:
        channels: C, kept throughout.
        depth: how many convolutions.
        groups: of the group normalisation (Wu and He 2018) after each of them; None: there is none.
        bias: whether the convolutions have one.
    """

    def __init__(self, channels: int, *, depth: int, groups: int | None = None, bias: bool = True):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1, bias=bias) for _ in range(depth))
        self.norms = nn.ModuleList(nn.GroupNorm(groups, channels) for _ in range(depth)) if groups else None
        for layer in self.convs:
            start_small(layer)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), as it came."""
        for place, conv in enumerate(self.convs):
            x = conv(x)
            if self.norms is not None:
                x = self.norms[place](x)
            x = F.relu(x, inplace=True)
        return x


def predictor(channels: int, values: int, *, prior: float | None = None) -> nn.Conv2d:
    """The last 3x3 convolution of a head, whose outputs are near one number at first.

    Args:
        channels: C.
        values: of each place: A x V.
        prior: the probability that its logits say at first; None: they are 0.
    """
    layer = nn.Conv2d(channels, values, 3, padding=1)
    start_small(layer, bias=0.0 if prior is None else -math.log((1 - prior) / prior))
    return layer


def start_small(layer: nn.Module, *, bias: float = 0.0) -> None:
    """Draw a convolution's weights from a normal distribution of `DEVIATION`, and set its bias."""
    assert isinstance(layer, nn.Conv2d)
    if not layer.weight.is_meta:
        nn.init.normal_(layer.weight, std=DEVIATION)
        if layer.bias is not None:
            nn.init.constant_(layer.bias, bias)


def by_anchor(maps: Sequence[Tensor], values: int) -> Tensor:
    """Maps (B, A V, H, W) of all levels as one (B, M, V), each level row after row, anchor after anchor."""
    return torch.cat([x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, values) for x in maps], dim=1)


def map_sizes(maps: Sequence[Tensor]) -> list[tuple[int, int]]:
    """Height and width of each map."""
    return [(x.shape[2], x.shape[3]) for x in maps]


def outline(backbone: nn.Module, neck: nn.Module, reads: Sequence[int], images: Tensor) -> list[tuple[int, int]]:
    """The sizes of the neck's maps for ``images``, without computing them and without touching running averages.

    Args:
        backbone: gives the maps.
        neck: takes some of them.
        reads: the places of those.
        images: (B, C, H, W).
    """
    shadow = copy.deepcopy(nn.ModuleList((backbone, neck))).to("meta").eval()
    maps = shadow[0](images.to("meta"))
    return map_sizes(shadow[1]([maps[place] for place in reads]))


def match_anchors(anchors: Tensor, objects: Instances, *, high: float, low: float) -> Tensor:
    """The object of each anchor by IoU; the best anchors of an object are its own even below ``high``.

    Args:
        anchors: (M, 4).
        objects: of an image; crowds and ignored ones among them.
        high: from here on an anchor is a positive.
        low: below it an anchor is background.

    Returns:
        (M,) int64: the object, `striate.ops.matching.BELOW` or `striate.ops.matching.BETWEEN`.
    """
    learnt = taught(objects).nonzero()[:, 0]
    matched = match_by_iou(iou(objects.boxes[learnt], anchors), high=high, low=low, every_object=True)
    if len(learnt) < len(objects):
        positive = matched >= 0
        matched[positive] = learnt[matched[positive]]
        matched[(matched == BELOW) & set_aside(anchors, objects)] = BETWEEN
    return matched


def positives(matched: Tensor, truths: InstanceSets) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What is to be learnt from a match.

    Args:
        matched: (B, M) int64, the object of each anchor among those of its image; below 0 none.
        truths: of the B images.

    Returns:
        (P,) int64 images, (P,) int64 anchors and (P,) int64 objects, among those of all images, of the P positives;
        and (B, M) int64 labels: as ``matched``, but with the class for the object.
    """
    image, place = (matched >= 0).nonzero(as_tuple=True)
    row = matched[image, place] + truths.offsets.to(matched.device)[image]
    labels = matched.clone()
    labels[image, place] = truths.labels[row]
    return image, place, row, labels


def best_pairs(logits: Tensor, count: int, quality: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """The most probable pairs of an anchor and a class, of each image of a batch.

    A pair among the best ``count`` has an anchor whose best class is among the best ``count``, so most logits are only
    compared.

    Args:
        logits: (B, M, K).
        count: T, or all pairs if there are fewer.
        quality: (B, M) factors of the probabilities.

    Returns:
        (B, T) probabilities, best first, times the quality; (B, T) int64 anchors and (B, T) int64 classes.
    """
    classes = logits.shape[2]
    best = logits.amax(dim=2)
    if quality is not None:
        best = best.sigmoid() * quality
    places = best.topk(min(count, best.shape[1]), dim=1).indices
    pairs = logits.gather(1, places[:, :, None].expand(-1, -1, classes))
    if quality is not None:
        pairs = pairs.sigmoid() * quality.gather(1, places)[:, :, None]
    scores, chosen = pairs.flatten(1).topk(min(count, pairs.shape[1] * classes), dim=1)
    if quality is None:
        scores = scores.sigmoid()
    return scores, places.gather(1, chosen.div(classes, rounding_mode="floor")), chosen % classes


def rows(values: Tensor, places: Tensor) -> Tensor:
    """(B, T, V): of (B, M, V) the rows at (B, T)."""
    return values.gather(1, places[:, :, None].expand(-1, -1, values.shape[2]))


def decide(
    logits: Tensor,
    deltas: Tensor,
    anchors: Tensor,
    counts: Sequence[int],
    *,
    coder: DeltaCoder,
    suppression: Suppression,
    sizes: Tensor,
) -> list[Instances]:
    """The objects that logits and deltas of anchors tell of.

    Args:
        logits: (B, M, K).
        deltas: (B, M, 4).
        anchors: (M, 4).
        counts: anchors of each level; of each the best `Suppression.candidates` pairs are looked at.
        coder: of the deltas.
        suppression: how they are chosen.
        sizes: (B, 2) int64, height and width of the images.
    """
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    before = 0
    for level in logits.split(counts, dim=1):
        scores, places, labels = best_pairs(level, suppression.candidates)
        found.append((scores, places + before, labels))
        before += level.shape[1]
    scores, places, labels = (torch.cat(parts, dim=1) for parts in zip(*found, strict=True))
    boxes = within(coder.decode(rows(deltas, places).float(), anchors[places]), sizes)
    return [suppression(*image) for image in zip(boxes, scores.float(), labels, strict=True)]


def within(boxes: Tensor, sizes: Tensor) -> Tensor:
    """(B, T, 4) boxes cut off at the border of their images.

    Args:
        boxes: x1, y1, x2, y2.
        sizes: (B, 2) int64, height and width.
    """
    limits = sizes.to(boxes).flip(1).repeat(1, 2)[:, None]
    return torch.minimum(boxes.clamp(min=0), limits)
