"""YOLO: one grid over the image, and each cell answers for the object whose centre falls into it.

Redmon, Divvala, Girshick, Farhadi: "You Only Look Once: Unified, Real-Time Object Detection", CVPR 2016, arXiv
1506.02640v5. `yolov1`, figure 3, 24 convolutions and two full layers; "-s-2" is a stride of 2:

    layers                                                                       output at 448x448
    7x7x64-s-2                                                                   224x224x64
    pooling 2x2-s-2, 3x3x192                                                     112x112x192
    pooling, 1x1x128, 3x3x256, 1x1x256, 3x3x512                                  56x56x512
    pooling, (1x1x256, 3x3x512) x 4, 1x1x512, 3x3x1024                           28x28x1024
    pooling, (1x1x512, 3x3x1024) x 2                                             14x14x1024      the backbone
    3x3x1024, 3x3x1024-s-2                                                       7x7x1024        the neck
    3x3x1024, 3x3x1024                                                           7x7x1024
    full layer                                                                   4096            the head
    full layer                                                                   7x7x30

Each of S x S cells predicts N boxes of five numbers and one set of C class probabilities: S = 7, N = 2 (the paper's B),
C = 20 give 7 x 7 x (2 x 5 + 20) (section 2). x and y are the centre within the cell, 0 to 1; w and h are predicted as
square roots of shares of the image; the fifth number, the confidence, stands for the box's IoU with the object.

The loss (equation 3), sums of squares over cells i and boxes j; a cell with an object holds the box responsible whose
IoU with it is highest:

    coordinates   5 x    (x - x^)^2 + (y - y^)^2                   of responsible boxes, lambda_coord = 5
    sizes         5 x    (sqrt w - sqrt w^)^2 + (sqrt h - ...)^2   of responsible boxes
    object               (confidence - IoU)^2                      of responsible boxes
    no_object     0.5 x  confidence^2                              of all others, lambda_noobj = 0.5
    class                sum over classes (p - p^)^2               of cells with an object

A detection's score is class probability x confidence (equation 1).

Mean AP on VOC 2007, trained on 2007 and 2012 (table 1): 63.4. Parameters, 20 classes: 271,716,734.

What the paper leaves open and the authors' code says (detection_layer.c of darknet): where no box overlaps the object,
the one nearest in the root of summed squares is responsible; of several objects in a cell the first counts; the first
of the full layers is followed by the leaky activation and dropout of 0.5 (section 2.2). Losses are divided by the
images of the batch.

Differences: convolutions are normalised (`striate.models.backbones.darknet_yolo`). Any backbone with a map of stride 32
takes the place of the first 20. A cell is 64x64 pixels, so an image of another size has another grid, not always
square. `yolo` is for small images and quick training: cells of 32x32 pixels on the map as it is, which is 7 x 7 at
224x224, with narrower layers and less dropout. Its full layers read 32 channels of each cell: the more they read, the
longer they take to learn from nothing which of them tell of which cell.

Letters: B images, S^2 cells, row after row, N boxes of a cell, C classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from striate.core.batch import Batch
from striate.core.instances import Assigned, Instances
from striate.errors import UsageError
from striate.models.backbones.darknet_yolo import LEAKY
from striate.models.contract import Backbone, Detector, pyramid_stages
from striate.models.weights import ClassRows
from striate.nn.conv import ConvNormAct
from striate.nn.initialise import initialise
from striate.ops.boxes import area, clip, from_form, overlap, to_form
from striate.ops.matching import set_aside, taught
from striate.ops.suppression import Suppression

COORDINATES = 5.0  # lambda_coord, section 2.2
NO_OBJECT = 0.5  # lambda_noobj, section 2.2
STRIDE = 32  # of the map that the neck reads
SUPPRESSION = Suppression(iou=0.5, score=0.001)  # as the authors' code evaluates; section 2.3 gives no numbers


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What stands on the backbone."""

    boxes: int  # of each cell
    neck: tuple[tuple[int, int], ...]  # channels and stride of the 3x3 convolutions
    units: int  # of the hidden full layer
    dropout: float = 0.5  # after it, section 2.2


VARIANTS: dict[str, Spec] = {
    "yolov1": Spec(boxes=2, neck=((1024, 1), (1024, 2), (1024, 1), (1024, 1)), units=4096),
    "yolo": Spec(boxes=2, neck=((256, 1), (32, 1)), units=1024, dropout=0.1),
}


class Head(nn.Module):
    """The two full layers, which see the whole image."""

    def __init__(self, channels: int, grid: tuple[int, int], spec: Spec, classes: int):
        super().__init__()
        self.boxes = spec.boxes
        self.cells = grid[0] * grid[1]
        self.hidden = nn.Linear(channels * self.cells, spec.units)
        self.act = LEAKY()
        self.dropout = nn.Dropout(spec.dropout)
        self.output = nn.Linear(spec.units, self.cells * (spec.boxes * 5 + classes))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """From the (B, channels, rows, columns) map to ``boxes``, ``confidence`` and ``classes`` of each cell."""
        x = self.output(self.dropout(self.act(self.hidden(x.flatten(1)))))
        x = x.view(len(x), self.cells, -1)
        boxes, confidence, classes = x.split((self.boxes * 4, self.boxes, x.shape[2] - self.boxes * 5), dim=2)
        return {"boxes": boxes.unflatten(2, (self.boxes, 4)), "confidence": confidence, "classes": classes}


@dataclass(frozen=True, kw_only=True, eq=False)
class Truth:
    """What the cells of a batch are to say."""

    images: Tensor  # (M,) int64, image of each cell that has an object
    cells: Tensor  # (M,) int64, the cell
    objects: Tensor  # (M,) int64, the object, a row of the batch's instances
    boxes: Tensor  # (M, 4) x and y within the cell, width and height as shares of the image
    labels: Tensor  # (M,) int64
    aside: Tensor  # (B, S^2) bool, cells on crowds and ignored objects


class YOLO(Detector):
    """Backbone, neck and head as in the table above.

    Args:
        backbone: gives a map of stride 32.
        spec: what stands on it.
        classes: C.
        channels: of the images.
        size: height, width of the images, the only ones that it takes: full layers have one weight per cell.
        who: the variant's name, for messages.
    """

    def __init__(
        self,
        backbone: Backbone,
        spec: Spec,
        *,
        classes: int,
        channels: int,
        size: tuple[int, int],
        who: str,
    ):
        super().__init__()
        (self.reads,) = pyramid_stages(backbone, (STRIDE,), who)
        layers: list[nn.Module] = []
        before, cell = backbone.stages[self.reads].channels, STRIDE
        for after, stride in spec.neck:
            layers.append(ConvNormAct(before, after, 3, stride, activation=LEAKY))
            before, cell = after, cell * stride
        if size[0] % cell or size[1] % cell:
            raise UsageError(
                f"{who} divides images into cells of {cell}x{cell} pixels: height and width must be multiples of "
                f"{cell}, not {size[0]}x{size[1]}."
            )
        self.grid = (size[0] // cell, size[1] // cell)
        self.backbone = backbone
        self.neck = nn.Sequential(*layers)
        self.head = Head(before, self.grid, spec, classes)
        self.classes = classes
        self.channels = channels
        self.size = size
        self.suppression = SUPPRESSION

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Raw outputs.

        Args:
            images: (B, channels, H, W) float32, normalised, of `size`.

        Returns:
            ``boxes`` (B, S^2, N, 4): x, y, and the square roots of w and h; ``confidence`` (B, S^2, N); ``classes``
            (B, S^2, C).

        Raises:
            UsageError: images of another size.
        """
        if tuple(images.shape[2:]) != self.size:
            raise UsageError(
                f"this network was built for images of {self.size[0]}x{self.size[1]} pixels, and its full layers take "
                f"no others; these are {images.shape[2]}x{images.shape[3]}."
            )
        return self.head(self.neck(self.backbone(images)[self.reads]))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The five parts of equation 3: ``coordinates``, ``sizes``, ``object``, ``no_object``, ``class``."""
        outputs = self(batch.images)
        truth = self._truth(batch)
        boxes = outputs["boxes"][truth.images, truth.cells]  # (M, N, 4)
        confidence = outputs["confidence"]
        probabilities = outputs["classes"][truth.images, truth.cells]  # (M, C)

        rows = torch.arange(len(boxes), device=boxes.device)
        overlaps = self._overlaps(boxes.detach(), truth.boxes)
        responsible = self._responsible(boxes.detach(), truth.boxes, overlaps)
        answer = boxes[rows, responsible]
        centre, root = answer.split(2, dim=1)
        true_centre, true_size = truth.boxes.split(2, dim=1)

        silent = ~truth.aside[:, :, None].expand_as(confidence)
        silent = silent.index_put((truth.images, truth.cells), silent.new_ones(()))  # a cell's other boxes
        silent = silent.index_put((truth.images, truth.cells, responsible), silent.new_zeros(()))
        right = nn.functional.one_hot(truth.labels, self.classes)
        parts = {
            "coordinates": COORDINATES * (centre - true_centre).square().sum(),
            "sizes": COORDINATES * (root - true_size.sqrt()).square().sum(),
            "object": (confidence[truth.images, truth.cells, responsible] - overlaps[rows, responsible]).square().sum(),
            "no_object": NO_OBJECT * confidence[silent].square().sum(),
            "class": (probabilities - right).square().sum(),
        }
        return {name: part / max(1, len(batch)) for name, part in parts.items()}

    @torch.no_grad()
    def detect(self, images: Tensor, sizes: Tensor) -> list[Instances]:
        """The objects of each image, most confident first (equation 1, and section 2.3 on non-maximum suppression)."""
        outputs = self(images)
        size = outputs["boxes"].new_tensor([images.shape[3], images.shape[2]])
        cells = torch.arange(outputs["boxes"].shape[1], device=images.device)
        boxes = self._in_pixels(outputs["boxes"], cells[:, None], size)
        # Both are meant as probabilities, and no more than that is asked of them in training.
        scores = outputs["confidence"].clamp(0, 1)[..., None] * outputs["classes"].clamp(0, 1)[:, :, None]
        found: list[Instances] = []
        for some, score, (height, width) in zip(boxes, scores.flatten(1, 2), sizes.tolist(), strict=True):
            places, labels = (score >= self.suppression.score).nonzero(as_tuple=True)
            best = score[places, labels].argsort(descending=True, stable=True)[: self.suppression.candidates]
            places, labels = places[best], labels[best]
            chosen = clip(some.flatten(0, 1)[places], (height, width))
            found.append(self.suppression(chosen, score[places, labels], labels))
        return found

    @torch.no_grad()
    def assigned(self, batch: Batch) -> list[Assigned]:
        """The cells that answer for objects."""
        truth = self._truth(batch)
        found: list[Assigned] = []
        for image, first in enumerate(batch.instances.offsets[:-1].tolist()):
            here = truth.images == image
            found.append(
                Assigned(
                    kind="cell",
                    boxes=self._cells(truth.boxes)[truth.cells[here]],
                    objects=truth.objects[here] - first,
                    levels=torch.zeros_like(truth.objects[here]),
                )
            )
        return found

    def first_loss(self) -> float:
        """Of three objects in an image, a third of it wide and high, where nothing is predicted yet.

        An object costs 5 (1/3 + 1/3) for the centre, 5 (1/3 + 1/3) for the roots and 1 for the class; no box overlaps
        anything, so that no confidence is missing.
        """
        return 3 * (COORDINATES * 4 / 3 + 1)

    def class_layers(self) -> dict[str, ClassRows]:
        """As `Detector.class_layers`."""
        return {"head.output": ClassRows(groups=self.head.cells, before=5 * self.head.boxes)}

    def _truth(self, batch: Batch) -> Truth:
        """Which cell answers for which object, and what it is to say."""
        truths = batch.instances
        columns = Instances(boxes=truths.boxes, labels=truths.labels, crowd=truths.crowd, ignore=truths.ignore)
        rows, across = self.grid
        size = truths.boxes.new_tensor([self.size[1], self.size[0]])
        place, extent = (to_form(truths.boxes, "cxcywh").reshape(-1, 2, 2) / size).unbind(1)
        limit = place.new_tensor([across, rows])
        column, row = (place * limit).floor().clamp(min=0).minimum(limit - 1).unbind(1)
        cells = (row * across + column).long()
        learnt = taught(columns)

        # The first object of each cell.
        count = rows * across
        key = truths.images * count + cells
        numbers = torch.arange(len(key), device=key.device)
        first = key.new_full((len(truths) * count,), len(key))
        first = first.scatter_reduce(0, key[learnt], numbers[learnt], "amin")
        keys = (first < len(key)).nonzero()[:, 0]
        objects = first[keys]

        aside = torch.zeros(len(truths), count, dtype=torch.bool, device=key.device)
        if not learnt.all():
            aside[truths.images[~learnt], cells[~learnt]] = True
            for image, some in enumerate(truths):
                aside[image] |= set_aside(self._cells(truths.boxes), some)
        within = place[objects] * limit - torch.stack((column, row), dim=1)[objects]
        return Truth(
            images=keys // count,
            cells=keys % count,
            objects=objects,
            boxes=torch.cat((within, extent[objects]), dim=1),
            labels=truths.labels[objects],
            aside=aside,
        )

    def _overlaps(self, boxes: Tensor, truths: Tensor) -> Tensor:
        """(M, N) IoU of the boxes of M cells, as they are predicted, and their objects."""
        # Within a cell all that matters is the place relative to it: cell number 0 does for all.
        origin = torch.zeros((), dtype=torch.int64, device=boxes.device)
        whole = boxes.new_ones(2)
        found = self._in_pixels(boxes, origin, whole)
        true = self._in_pixels(torch.cat((truths[:, :2], truths[:, 2:].sqrt()), dim=1), origin, whole)[:, None]
        common = overlap(found, true)
        return common / (area(found) + area(true) - common).clamp(min=1e-9)

    def _responsible(self, boxes: Tensor, truths: Tensor, overlaps: Tensor) -> Tensor:
        """(M,) int64: the box of each cell that answers for its object."""
        predicted = torch.cat((boxes[..., :2], boxes[..., 2:].square()), dim=2)
        rows, across = self.grid
        shares = predicted.new_tensor([1 / across, 1 / rows, 1, 1])  # of the image, all four
        distance = ((predicted - truths[:, None]) * shares).square().sum(2)
        return torch.where((overlaps > 0).any(1), overlaps.argmax(1), distance.argmin(1))

    def _in_pixels(self, boxes: Tensor, cells: Tensor, size: Tensor) -> Tensor:
        """(..., 4) predicted boxes as x1, y1, x2, y2.

        Args:
            boxes: x, y, and the square roots of w and h.
            cells: (...) or broadcasting, their cells.
            size: (2,) width and height of the image.
        """
        rows, across = self.grid
        corner = torch.stack((cells % across, cells // across), dim=-1)
        place = (boxes[..., :2] + corner) / size.new_tensor([across, rows])
        return from_form(torch.cat((place * size, boxes[..., 2:].square() * size), dim=-1), "cxcywh")

    def _cells(self, like: Tensor) -> Tensor:
        """(S^2, 4) the cells as boxes, on the device of ``like``."""
        rows, across = self.grid
        y, x = torch.meshgrid(torch.arange(rows), torch.arange(across), indexing="ij")
        corner = torch.stack((x, y), dim=-1).reshape(-1, 2)
        side = torch.tensor([self.size[1] / across, self.size[0] / rows])
        return torch.cat((corner * side, (corner + 1) * side), dim=1).to(like.device)


def build(variant: str, backbone: Backbone, *, classes: int, channels: int, size: tuple[int, int]) -> YOLO:
    """A network of `VARIANTS` around ``backbone``.

    Raises:
        UsageError: the backbone has no map of stride 32, or the image does not divide into cells.
    """
    detector = YOLO(backbone, VARIANTS[variant], classes=classes, channels=channels, size=size, who=variant)
    for layer in detector.neck.modules():
        if isinstance(layer, nn.Conv2d):
            initialise(layer, "leaky")
    initialise(detector.head.hidden, "leaky")
    initialise(detector.head.output, "softmax")
    return detector
