"""CenterNet: an object is the centre of its box.

Zhou, Wang, Kraehenbuehl: "Objects as Points", 2019, arXiv 1904.07850. Section 4 and, for ResNets, section 5:

    backbone     the map of stride 32
    neck         three up-convolutions (`striate.models.necks.stride_four`)        64 x H/4 x W/4
    heat         3x3 of 64, ReLU, 1x1: how likely an object of a class has its centre here    K x H/4 x W/4
    offsets      3x3 of 64, ReLU, 1x1: where in the cell the centre is                        2 x H/4 x W/4
    sizes        3x3 of 64, ReLU, 1x1: width and height                                       2 x H/4 x W/4

    backbone                  AP on COCO val2017 (table 1, no test augmentation)
    ResNet-18                 28.1
    ResNet-101                34.6; 34.8 in the text of section 6.1
    Hourglass-104             40.3

Trained on 512x512, tested on images of their own size (section 6.1); the 3x3 convolutions of the ResNets' neck are
deformable there (section 5), here ordinary.

The target of the heat is a Gaussian around each centre, with a radius as CornerNet's for an IoU of 0.7; the loss is the
penalty-reduced focal loss (equation 1). Offsets and sizes are taught at the centres only, by L1 (equations 2 and 3),
which counts 1 for offsets and 0.1 for sizes (equation 4). All are divided by the number of objects.

A cell that is no cooler than its eight neighbours is an object: the 100 hottest are the answer. Nothing is suppressed.

Sizes are in cells, that is in quarters of pixels, as in the authors' code. A backbone that ends at stride 4, as an
hourglass does, has no neck; of an hourglass every stack has heads (of 256), whose losses are averaged, and detection
reads the last.

Differences from the authors' code: it divides the losses of offsets and sizes by twice the number of objects, and
clamps probabilities to 0.0001 from 0 and 1. What lies in a crowd or an ignored object is not taught to be cold.

Letters: B images, K classes, H height, W width, h and w of the map, N objects of the batch.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from striate.core.batch import Batch
from striate.core.instances import Assigned, Instances
from striate.models.contract import Backbone, Detector
from striate.models.heads.point import PointHead
from striate.models.necks.stride_four import STRIDE, StrideFour
from striate.models.weights import ClassRows
from striate.ops.boxes import clip, to_form
from striate.ops.heatmaps import cell_boxes, draw, peaks, penalty_reduced_focal, radius
from striate.ops.matching import set_aside, taught
from striate.ops.suppression import Suppression

OVERLAP = 0.7  # of the Gaussians' radius, in the authors' code
OFFSET, SIZE = 1.0, 0.1  # weights of the losses, section 4
PEAKS = 100  # section 4
OBJECTS = 5  # in an image, for `first_loss`; a guess


class Heads(nn.Module):
    """Heat, offsets and sizes of one map."""

    def __init__(self, in_channels: int, classes: int):
        super().__init__()
        self.heat = PointHead(in_channels, classes, heat=True)
        self.offsets = PointHead(in_channels, 2)
        self.sizes = PointHead(in_channels, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """From (B, C, h, w) to what `CenterNet.forward` gives."""
        return {"heat": self.heat(x), "offsets": self.offsets(x), "sizes": self.sizes(x)}


@dataclass(frozen=True, kw_only=True, eq=False)
class Targets:
    """What a batch asks of the maps."""

    heat: Tensor  # (B, K, h, w) float32
    counts: Tensor  # (B, 1, h, w) float32: 0 where nothing is taught, 1 elsewhere
    images: Tensor  # (N,) int64, the image of each object
    cells: Tensor  # (N, 2) int64, row and column of its centre
    offsets: Tensor  # (N, 2) float32, x and y of the centre in its cell, 0 to 1
    sizes: Tensor  # (N, 2) float32, width and height in cells


class CenterNet(Detector):
    """CenterNet around a backbone."""

    def __init__(self, backbone: Backbone, *, classes: int, channels: int, size: tuple[int, int]):
        super().__init__()
        self.classes, self.channels, self.size = classes, channels, size
        self.suppression = Suppression(kind="none", score=0.0, candidates=PEAKS, limit=PEAKS)
        self.backbone = backbone
        self.neck = StrideFour(backbone, "CenterNet")
        self.heads = nn.ModuleList(Heads(self.neck.channels, classes) for _ in range(self.neck.count))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """What the heads say of every cell, those of the last stack if there are several.

        Args:
            images: (B, channels, H, W) float32, normalised.

        Returns:
            ``heat`` (B, K, h, w) logits; ``offsets`` (B, 2, h, w), x and y, and ``sizes`` (B, 2, h, w), width and
            height, in cells.
        """
        return self.heads[-1](self.neck(self.backbone(images))[-1])

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """``heat``, ``offset`` and ``size`` with their weights, averaged over the stacks."""
        found = [
            {name: value.float() for name, value in heads(x).items()}
            for heads, x in zip(self.heads, self.neck(self.backbone(batch.images)), strict=True)
        ]
        targets = self.targets(batch, found[0]["heat"].shape[2:])
        count = max(1, len(targets.cells))
        rows, columns = targets.cells.unbind(1)
        sums = {"heat": [], "offset": [], "size": []}
        for raw in found:
            sums["heat"].append((penalty_reduced_focal(raw["heat"], targets.heat) * targets.counts).sum())
            offsets, sizes = (raw[name][targets.images, :, rows, columns] for name in ("offsets", "sizes"))
            sums["offset"].append(OFFSET * (offsets - targets.offsets).abs().sum())
            sums["size"].append(SIZE * (sizes - targets.sizes).abs().sum())
        return {name: torch.stack(values).mean() / count for name, values in sums.items()}

    def targets(self, batch: Batch, size: tuple[int, int]) -> Targets:
        """What the batch asks of maps of ``size``, h and w."""
        heats: list[Tensor] = []
        counts: list[Tensor] = []
        places: list[tuple[Tensor, Tensor, Tensor]] = []
        images: list[Tensor] = []
        grid = cell_boxes(size, STRIDE, batch.images.device)
        for number, objects in enumerate(batch.instances):
            kept = taught(objects)
            centres, sizes = (to_form(objects.boxes[kept], "cxcywh") / STRIDE).split(2, dim=1)
            limits = torch.tensor(size, device=centres.device) - 1
            cells = torch.minimum(centres.flip(1).floor().long().clamp(min=0), limits)
            radii = radius(sizes.flip(1).ceil(), OVERLAP).long()
            heats.append(draw(cells, radii, objects.labels[kept], size, self.classes))
            counts.append(1 - set_aside(grid, objects).float().reshape(1, *size))
            places.append((cells, centres - cells.flip(1), sizes))
            images.append(torch.full((len(cells),), number, device=cells.device))
        cells, offsets, sizes = (torch.cat(parts) for parts in zip(*places, strict=True))
        heat = torch.stack(heats)
        return Targets(
            heat=heat,
            counts=torch.maximum(torch.stack(counts), (heat == 1).any(1, keepdim=True).float()),
            images=torch.cat(images),
            cells=cells,
            offsets=offsets,
            sizes=sizes,
        )

    @torch.no_grad()
    def detect(self, images: Tensor, sizes: Tensor) -> list[Instances]:
        """As the contract says: the hottest peaks; those with the centre in the padding are left out."""
        raw = {name: value.float() for name, value in self(images).items()}
        scores, labels, cells = peaks(raw["heat"].sigmoid(), PEAKS)
        place = torch.arange(len(images), device=images.device)[:, None], slice(None), cells[..., 0], cells[..., 1]
        centres = cells.flip(-1) + raw["offsets"][place]
        halves = raw["sizes"][place].clamp(min=0) / 2
        boxes = torch.cat((centres - halves, centres + halves), dim=-1) * STRIDE
        found: list[Instances] = []
        for number, size in enumerate(sizes.tolist()):
            inside = (cells[number] * STRIDE < torch.tensor(size, device=cells.device)).all(1)
            ours = (part[number][inside] for part in (scores, labels))
            found.append(self.suppression(clip(boxes[number][inside], size), *ours))
        return found

    def assigned(self, batch: Batch) -> list[Assigned]:
        """The cell of each object's centre."""
        height, width = batch.images.shape[2:]
        targets = self.targets(batch, (-(-height // STRIDE), -(-width // STRIDE)))
        corners = targets.cells.flip(1) * float(STRIDE)
        boxes = torch.cat((corners, corners + STRIDE), dim=1)
        found: list[Assigned] = []
        for number, objects in enumerate(batch.instances):
            own = targets.images == number
            rows = taught(objects).nonzero()[:, 0]
            found.append(Assigned(kind="cell", boxes=boxes[own], objects=rows, levels=torch.zeros_like(rows)))
        return found

    def first_loss(self) -> float:
        """With every cell at a probability of 0.1, and `OBJECTS` objects of a third of the image in it."""
        height, width = (side / STRIDE for side in self.size)
        cold = self.classes * height * width * 0.1**2 * -math.log(0.9) / OBJECTS
        hot = 0.9**2 * -math.log(0.1)
        return cold + hot + OFFSET * (1 / 2 + 1 / 2) + SIZE * (height + width) / 3

    def class_layers(self) -> dict[str, ClassRows]:
        """As `Detector.class_layers`."""
        return {f"heads.{place}.heat.last": ClassRows() for place in range(len(self.heads))}


def build(backbone: Backbone, *, classes: int, channels: int, size: tuple[int, int]) -> CenterNet:
    """CenterNet around any backbone with a map of stride 32, or one that ends at stride 4; ``size`` is only noted."""
    return CenterNet(backbone, classes=classes, channels=channels, size=size)
