"""SSD: class scores and corrections for default boxes on maps of several sizes, in one pass.

Liu, Anguelov, Erhan, Szegedy, Reed, Fu, Berg: "SSD: Single Shot MultiBox Detector", ECCV 2016, arXiv 1512.02325v5.

`ssd300` (figure 2), VGG-16 up to conv5_3 and what stands on it. A map's scale s is a share of the image; "boxes" is
how many default boxes there are at each of its places.

    map        layers                                                  side  channels  step  boxes  s       next
    conv4_3    VGG-16, divided by its length, times 20 (section 3.1)   38    512       8     4      0.07    0.15
    conv7      pool5 3x3/1, conv6 3x3 dilated by 6, conv7 1x1          19    1024      16    6      0.15    0.33
    conv8_2    1x1-256, 3x3-512/2                                      10    512       32    6      0.33    0.51
    conv9_2    1x1-128, 3x3-256/2                                      5     256       64    6      0.51    0.69
    conv10_2   1x1-128, 3x3-256 without padding                        3     256       100   4      0.69    0.87
    conv11_2   1x1-128, 3x3-256 without padding                        1     256       300   4      0.87    1.05

`ssd512` (section 3.1, footnote; steps of the authors' code): as above to conv9_2, on maps of 64, 32, 16 and 8, then

    conv10_2   1x1-128, 3x3-256/2                                      4     256       128   6      0.58    0.74
    conv11_2   1x1-128, 3x3-256/2                                      2     256       256   4      0.74    0.90
    conv12_2   1x1-128, 4x4-256, padded by 1                           1     256       512   4      0.90    1.06

with the scales 0.04, 0.10, 0.26, 0.42 before. The scales are those for COCO (section 3.4). 8,732 and 24,564 boxes in
all (table 7).

A place's boxes (section 2.2, equation 4): squares of s and of sqrt(s s'), s' the next map's scale, then for each ratio
a = 2 (and 3, where there are six) the box s sqrt(a) wide and s / sqrt(a) high and its transpose. On each map a 3x3
convolution gives K + 1 scores per box, background first, and another 4 deltas (section 2.1).

                   parameters, 90 classes    AP on COCO
    ssd300         35,641,826                23.2 test-dev (table 5); 25.1 val2017 (torchvision's weights)
    ssd512                                   26.8 test-dev (table 5)

Of any backbone but VGG, the maps of the strides 8, 16 and 32 take the place of conv4_3, conv7 and conv8_2. `ssd` is for
images of any size: layers of stride 2 until one place is left, the first scale 0.07, the others evenly from 0.15 to 0.9
(equation 4, with the numbers of section 3.4), the boxes' centres by the maps' own sizes (section 2.2).

Learning (section 2.2): the best default box of each object, and all with an IoU of at least 0.5, are positives; of the
others those with the largest loss are negatives, at most 3 for each positive of the image, so that an image without
objects teaches nothing. Softmax loss and smooth L1 on deltas over the variances 0.1 and 0.2, both summed and divided
by the positives of the batch (equations 1 to 3).

As torchvision does it and the paper does not: the best box by overlap alone, where the authors' code takes pairs
greedily; of objects that share their best box the later one has it; scales of `ssd300` rounded to 0.01. Where more than
a quarter of an image's boxes are positives, torchvision counts some of them twice, and we do not. conv6 and conv7
start by the rule of the other added layers (Glorot and Bengio 2010; section 3), where the paper subsamples them from
VGG's full layers. On other backbones the scores start near 0.

Letters: B images, K classes, A default boxes, N objects.
"""

import copy
import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.core.batch import Batch
from striate.core.instances import Assigned, Instances
from striate.models.backbones.vgg import VGG
from striate.models.contract import Backbone, Detector, Stage, pyramid_stages
from striate.models.official import COCO, scene_input
from striate.models.weights import ClassRows, Names, Origin
from striate.nn.initialise import initialise
from striate.ops.boxes import clip, from_form, iou
from striate.ops.coders import DeltaCoder
from striate.ops.losses import smooth_l1
from striate.ops.matching import BELOW, match_by_iou, set_aside, taught
from striate.ops.suppression import Suppression

MATCHED = 0.5  # IoU from which a default box is a positive, section 2.2
NEGATIVES = 3  # to one positive, section 2.2
CODER = DeltaCoder(weights=(10.0, 10.0, 5.0, 5.0))  # one over the variances 0.1, 0.1, 0.2, 0.2 of the authors' code
LENGTH = 20.0  # to which conv4_3 is scaled at first, section 3.1
# Section 3.7; the candidates are of each class, and of the authors' code.
SUPPRESSION = Suppression(iou=0.45, score=0.01, candidates=400, limit=200)
ENDS = (2,)  # ratios of the first map and the last two, section 3.1
MIDDLE = (2, 3)  # of the others


@dataclass(frozen=True, kw_only=True)
class Extra:
    """1x1 and larger convolution that make one map more, each with its ReLU."""

    squeeze: int  # channels of the 1x1 convolution
    channels: int
    kernel: int = 3
    stride: int = 1
    padding: int = 0


@dataclass(frozen=True, kw_only=True)
class Spec:
    """The table above."""

    scales: tuple[float, ...]  # of each map, and of one more
    ratios: tuple[tuple[int, ...], ...]  # of each map, beside 1
    steps: tuple[int, ...] | None  # of each map, pixels from place to place; None: the image over the map's size
    extras: tuple[Extra, ...]  # from conv8 on


FIRST = Extra(squeeze=256, channels=512, stride=2, padding=1)  # conv8
HALVING = Extra(squeeze=128, channels=256, stride=2, padding=1)

VARIANTS: dict[str, Spec] = {
    "ssd300": Spec(
        scales=(0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05),
        ratios=(ENDS, MIDDLE, MIDDLE, MIDDLE, ENDS, ENDS),
        steps=(8, 16, 32, 64, 100, 300),
        extras=(FIRST, HALVING, Extra(squeeze=128, channels=256), Extra(squeeze=128, channels=256)),
    ),
    "ssd512": Spec(
        scales=(0.04, 0.10, 0.26, 0.42, 0.58, 0.74, 0.90, 1.06),
        ratios=(ENDS, MIDDLE, MIDDLE, MIDDLE, MIDDLE, ENDS, ENDS),
        steps=(8, 16, 32, 64, 128, 256, 512),
        extras=(FIRST, HALVING, HALVING, HALVING, Extra(squeeze=128, channels=256, kernel=4, padding=1)),
    ),
}


def spec_for(size: tuple[int, int]) -> Spec:
    """What `ssd` is for images of ``size``, height and width."""
    halvings = max(0, math.ceil(math.log2(max(size) / 32)))  # from the map of stride 32 to a single place
    maps = 3 + halvings
    step = (0.9 - 0.15) / (maps - 2)
    return Spec(
        scales=(0.07, *(0.15 + step * place for place in range(maps))),
        ratios=(ENDS, *(MIDDLE for _ in range(maps - 3)), ENDS, ENDS),
        steps=None,
        extras=(FIRST, *(HALVING for _ in range(halvings))),
    )


class UnpooledVGG(Backbone):
    """VGG up to conv4_3 and conv5_3, both as they are before their poolings, on the layers of a `VGG`."""

    def __init__(self, vgg: VGG):
        super().__init__()

        def unpooled(stage: nn.Sequential) -> nn.Sequential:
            return nn.Sequential(OrderedDict((name, layer) for name, layer in stage.named_children() if name != "pool"))

        self.stage1 = unpooled(vgg.stage1)
        self.stage2 = unpooled(vgg.stage2)
        self.stage3 = unpooled(vgg.stage3)
        self.stage4 = unpooled(vgg.stage4)
        self.stage5 = unpooled(vgg.stage5)
        self.pool = nn.MaxPool2d(2)
        self.pool3 = nn.MaxPool2d(2, ceil_mode=True)  # 75 to 38, figure 2
        self.stages = (
            Stage(name="conv4", channels=vgg.stages[3].channels, stride=8),
            Stage(name="conv5", channels=vgg.stages[4].channels, stride=16),
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) images to the maps of the strides 8 and 16."""
        x = self.stage2(self.pool(self.stage1(images)))
        x = self.stage3(self.pool(x))
        fourth = self.stage4(self.pool3(x))
        return [fourth, self.stage5(self.pool(fourth))]


class L2Norm(nn.Module):
    """Each place's channels divided by their length, times a learnt scale (section 3.1; Liu et al. 2016, ParseNet)."""

    def __init__(self, channels: int):
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels,), LENGTH))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), as it came."""
        return self.scale[:, None, None] * F.normalize(x)


class ConvolvedFullLayers(nn.Sequential):
    """pool5, conv6 and conv7: the full layers of VGG as convolutions with holes (section 3)."""

    def __init__(self, in_channels: int):
        super().__init__(
            OrderedDict[str, nn.Module](
                pool5=nn.MaxPool2d(3, stride=1, padding=1),
                conv6=nn.Conv2d(in_channels, 1024, 3, padding=6, dilation=6),
                relu6=nn.ReLU(inplace=True),
                conv7=nn.Conv2d(1024, 1024, 1),
                relu7=nn.ReLU(inplace=True),
            )
        )


class Neck(nn.Module):
    """From a backbone's maps to all that are read: of VGG, conv4_3 and conv5_3; of others, the strides 8, 16 and 32."""

    def __init__(self, backbone: Backbone, spec: Spec, who: str):
        super().__init__()
        self.norm: L2Norm | None = None
        self.full: ConvolvedFullLayers | None = None
        if isinstance(backbone, UnpooledVGG):
            self.norm = L2Norm(backbone.stages[0].channels)
            self.full = ConvolvedFullLayers(backbone.stages[1].channels)
            self.reads = [0, 1]
            self.channels = [backbone.stages[0].channels, 1024]
            extras = spec.extras
        else:
            self.reads = pyramid_stages(backbone, (8, 16, 32), who)
            self.channels = [backbone.stages[place].channels for place in self.reads]
            extras = spec.extras[1:]
        self.extras = nn.ModuleList()
        for extra in extras:
            self.extras.append(
                nn.Sequential(
                    nn.Conv2d(self.channels[-1], extra.squeeze, 1),
                    nn.ReLU(inplace=True),
                    nn.Conv2d(extra.squeeze, extra.channels, extra.kernel, extra.stride, extra.padding),
                    nn.ReLU(inplace=True),
                )
            )
            self.channels.append(extra.channels)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The maps that are read, fine to coarse."""
        found = [maps[place] for place in self.reads]
        x = found[-1] if self.full is None else self.full(found[-1])
        if self.norm is not None:
            found[0] = self.norm(found[0])
        found[-1] = x
        for extra in self.extras:
            x = extra(x)
            found.append(x)
        return found


class Head(nn.Module):
    """Two 3x3 convolutions on each map: scores and deltas."""

    def __init__(self, channels: Sequence[int], boxes: Sequence[int], *, classes: int):
        super().__init__()
        self.columns = classes + 1
        pairs = list(zip(channels, boxes, strict=True))
        self.logits = nn.ModuleList(nn.Conv2d(c, count * (classes + 1), 3, padding=1) for c, count in pairs)
        self.deltas = nn.ModuleList(nn.Conv2d(c, count * 4, 3, padding=1) for c, count in pairs)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """(B, A, K + 1) logits and (B, A, 4) deltas, map after map, row after row, box after box."""
        logits = [_by_box(conv(x), self.columns) for conv, x in zip(self.logits, maps, strict=True)]
        deltas = [_by_box(conv(x), 4) for conv, x in zip(self.deltas, maps, strict=True)]
        return torch.cat(logits, dim=1), torch.cat(deltas, dim=1)


def _by_box(x: Tensor, columns: int) -> Tensor:
    """(B, boxes * columns, H, W) to (B, H * W * boxes, columns)."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, columns)


def default_boxes(spec: Spec, grids: Sequence[tuple[int, int]], size: tuple[int, int]) -> list[Tensor]:
    """The default boxes of each map.

    Args:
        spec: their scales and ratios.
        grids: height and width of each map.
        size: height and width of the image.

    Returns:
        One (rows * columns * boxes, 4) float32 tensor per map, x1, y1, x2, y2 in pixels, not cut off at the border.
    """
    height, width = size
    boxes: list[Tensor] = []
    for place, (rows, columns) in enumerate(grids):
        scale, following = spec.scales[place : place + 2]
        sides = [(scale, scale), (math.sqrt(scale * following),) * 2]
        for ratio in spec.ratios[place]:
            wide, high = scale * math.sqrt(ratio), scale / math.sqrt(ratio)
            sides += [(wide, high), (high, wide)]
        # In shares of the image, and only then in pixels: so ties of equal overlaps fall as they do in torchvision.
        across, down = (width / spec.steps[place], height / spec.steps[place]) if spec.steps else (columns, rows)
        x = (torch.arange(columns) + 0.5) / across
        y = (torch.arange(rows) + 0.5) / down
        centres = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)  # (rows, columns, 2)
        centres = centres[:, :, None].expand(-1, -1, len(sides), -1)
        # Not larger than the image, as in torchvision; the centres stay where they are.
        extents = torch.tensor(sides).clamp(max=1).expand(rows, columns, -1, -1)
        shares = from_form(torch.cat((centres, extents), dim=-1), "cxcywh")
        boxes.append((shares * torch.tensor([width, height, width, height])).reshape(-1, 4))
    return boxes


def match(boxes: Tensor, objects: Instances) -> Tensor:
    """The object of each default box (section 2.2, "matching strategy").

    Args:
        boxes: (A, 4).
        objects: N of an image, those to be learnt.

    Returns:
        (A,) int64: the object, or `striate.ops.matching.BELOW`.
    """
    overlaps = iou(objects.boxes, boxes)
    matched = match_by_iou(overlaps, high=MATCHED, low=MATCHED, every_object=False)
    if not len(objects):
        return matched
    best = overlaps.argmax(dim=1)
    numbers = torch.arange(len(objects), device=best.device)
    return matched.index_fill(0, best, BELOW).scatter_reduce(0, best, numbers, "amax")


class SSD(Detector):
    """Backbone, neck and head as in the table above.

    Args:
        backbone: gives the maps.
        neck: makes more of them.
        head: scores and corrects the default boxes.
        spec: the default boxes.
        classes: K, without background.
        channels: of the images.
        size: height, width of the images.
    """

    def __init__(
        self,
        backbone: Backbone,
        neck: Neck,
        head: Head,
        *,
        spec: Spec,
        classes: int,
        channels: int,
        size: tuple[int, int],
    ):
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.head = head
        self.spec = spec
        self.classes = classes
        self.channels = channels
        self.size = size
        self.suppression = SUPPRESSION

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Raw outputs.

        Args:
            images: (B, channels, H, W) float32, normalised.

        Returns:
            ``logits`` (B, A, K + 1), background first, and ``deltas`` (B, A, 4).
        """
        logits, deltas = self.head(self.neck(self.backbone(images)))
        return {"logits": logits, "deltas": deltas}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """``confidence`` and ``localization`` (equations 1 to 3)."""
        maps = self.neck(self.backbone(batch.images))
        logits, deltas = self.head(maps)
        boxes = torch.cat(self._boxes(maps, batch.images))
        labels = torch.zeros(logits.shape[:2], dtype=torch.int64, device=logits.device)
        aside = torch.zeros_like(labels, dtype=torch.bool)
        targets = [deltas.new_empty(0, 4)]
        for image, objects in enumerate(batch.instances):
            if not len(objects):
                continue
            aside[image] = set_aside(boxes, objects)
            objects = objects.select(taught(objects))
            matched = match(boxes, objects)
            positive = (matched >= 0).nonzero()[:, 0]
            labels[image, positive] = objects.labels[matched[positive]] + 1
            targets.append(CODER.encode(objects.boxes[matched[positive]], boxes[positive]))
        positive = labels > 0
        learnt = positive | self._negatives(logits, positive, aside)
        count = max(1, sum(map(len, targets)))
        return {
            "confidence": F.cross_entropy(logits[learnt], labels[learnt], reduction="sum") / count,
            "localization": smooth_l1(deltas[positive], torch.cat(targets)).sum() / count,
        }

    @staticmethod
    @torch.no_grad()
    def _negatives(logits: Tensor, positive: Tensor, aside: Tensor) -> Tensor:
        """(B, A) bool: the default boxes whose loss as background is largest (section 2.2, "hard negative mining")."""
        loss = logits.logsumexp(dim=2) - logits[:, :, 0]
        loss = loss.masked_fill(positive | aside, -torch.inf)
        order = loss.argsort(dim=1, descending=True, stable=True)
        wanted = (NEGATIVES * positive.sum(dim=1)).minimum((loss > -torch.inf).sum(dim=1))
        first = torch.arange(order.shape[1], device=order.device) < wanted[:, None]
        return torch.zeros_like(positive).scatter(1, order, first)

    @torch.no_grad()
    def detect(self, images: Tensor, sizes: Tensor) -> list[Instances]:
        """The objects of each image, most confident first; `Suppression.candidates` are counted by class."""
        maps = self.neck(self.backbone(images))
        logits, deltas = self.head(maps)
        boxes = CODER.decode(deltas, torch.cat(self._boxes(maps, images)))
        scores = logits.softmax(dim=2)[:, :, 1:].transpose(1, 2).contiguous()  # (B, K, A)
        count = min(self.suppression.candidates, scores.shape[2])
        best, places = scores.topk(count, dim=2)
        found: list[Instances] = []
        for image, (height, width) in enumerate(sizes.tolist()):
            label, rank = (best[image] >= self.suppression.score).nonzero(as_tuple=True)
            chosen = clip(boxes[image, places[image, label, rank]], (height, width))
            found.append(self.suppression(chosen, best[image, label, rank], label))
        return found

    @torch.no_grad()
    def assigned(self, batch: Batch) -> list[Assigned]:
        """The default boxes that answer for objects."""
        # Shapes are all that is wanted of the maps, and running averages must stay as they are.
        shadow = copy.deepcopy(self).to("meta").eval()
        by_map = self._boxes(shadow.neck(shadow.backbone(batch.images.to("meta"))), batch.images)
        boxes = torch.cat(by_map)
        levels = torch.arange(len(by_map)).repeat_interleave(torch.tensor([len(some) for some in by_map]))
        found: list[Assigned] = []
        for objects in batch.instances:
            learnt = taught(objects).nonzero()[:, 0]
            matched = match(boxes, objects.select(learnt))
            rows = (matched >= 0).nonzero()[:, 0]
            found.append(
                Assigned(
                    kind="default box",
                    boxes=boxes[rows],
                    objects=learnt[matched[rows]],
                    levels=levels.to(rows.device)[rows],
                )
            )
        return found

    def first_loss(self) -> float:
        """A positive and its negatives with even scores, those of VGG's maps uneven; deltas of boxes that match."""
        uneven = 0.0 if self.neck.full is None else 1.5  # measured
        return (1 + NEGATIVES) * (math.log(self.classes + 1) + uneven) + 2.5

    def class_layers(self) -> dict[str, ClassRows]:
        """As `Detector.class_layers`."""
        counts = [2 + 2 * len(ratios) for ratios in self.spec.ratios]
        return {f"head.logits.{place}": ClassRows(groups=count, before=1) for place, count in enumerate(counts)}

    def _boxes(self, maps: Sequence[Tensor], images: Tensor) -> list[Tensor]:
        """The default boxes of each map, on the device of ``images``."""
        grids = [(x.shape[2], x.shape[3]) for x in maps]
        size = (images.shape[2], images.shape[3])
        return [boxes.to(images.device) for boxes in default_boxes(self.spec, grids, size)]


def build(variant: str, backbone: Backbone, *, classes: int, channels: int, size: tuple[int, int]) -> SSD:
    """A network of `VARIANTS`, or ``ssd``, around ``backbone``.

    Raises:
        UsageError: the backbone is no VGG and has no maps of the strides 8, 16 and 32.
    """
    spec = VARIANTS[variant] if variant in VARIANTS else spec_for(size)
    backbone = UnpooledVGG(backbone) if isinstance(backbone, VGG) else backbone
    neck = Neck(backbone, spec, variant)
    head = Head(neck.channels, [2 + 2 * len(ratios) for ratios in spec.ratios], classes=classes)
    for name, layer in (*neck.named_modules(), *head.named_modules()):
        if isinstance(layer, nn.Conv2d):
            small = name.startswith("logits") and neck.full is None
            initialise(layer, "softmax" if small else "saturating")
    return SSD(backbone, neck, head, spec=spec, classes=classes, channels=channels, size=size)


def _vgg_names() -> Names:
    """Names there of VGG-16's layers: numbered in one row up to conv4_3, and after the pooling from 1."""
    rows: list[tuple[str, str]] = []
    there = 0
    for stage, count in enumerate((2, 2, 3, 3), 1):
        for number in range(1, count + 1):
            rows.append((f"backbone.features.{there}.{{p}}", f"backbone.stage{stage}.conv{number}.{{p}}"))
            there += 2  # the convolution and its ReLU
        there += 1  # the pooling
    rows += [
        (f"backbone.extra.0.{2 * number - 1}.{{p}}", f"backbone.stage5.conv{number}.{{p}}") for number in (1, 2, 3)
    ]
    return tuple(rows)


_NAMES: Names = (
    *_vgg_names(),
    ("backbone.scale_weight", "neck.norm.scale"),
    ("backbone.extra.0.7.1.{p}", "neck.full.conv6.{p}"),
    ("backbone.extra.0.7.3.{p}", "neck.full.conv7.{p}"),
    *((f"backbone.extra.{place + 1}.{{layer}}.{{p}}", f"neck.extras.{place}.{{layer}}.{{p}}") for place in range(4)),
    ("head.classification_head.module_list.{place}.{p}", "head.logits.{place}.{p}"),
    ("head.regression_head.module_list.{place}.{p}", "head.deltas.{place}.{p}"),
)

# torchvision's weights began as the authors', in whose Caffe pixels went from 0 to 255 and had no deviation.
_INPUT = scene_input((300, 300), mean=(0.48235, 0.45882, 0.40784), std=(1 / 255, 1 / 255, 1 / 255), resize="stretch")

ORIGINS: dict[str, dict[str, Origin]] = {
    "ssd300": {"torchvision": Origin(model="ssd300_vgg16", names=_NAMES, input=_INPUT, classes=COCO[1:])},
    "ssd512": {},
    "ssd": {},
}
