"""How well a fixed number of objects is placed: the class and the box of each.

Row k of an image's predictions and row k of its truths are the same object: a network that localizes has one output
per object, and what puts objects in order is the task's business. Everything is gathered as whole numbers, so that the
result is the same to the last bit however the images are cut over batches and processes.

Letters: B images of a batch, M objects of the batch, K classes.
"""

from typing import Self, TypedDict

import torch
from torch import Tensor

from striate.core.instances import InstanceSets
from striate.errors import DataError, DivergedError
from striate.ops.boxes import area, overlap

# Russakovsky et al. 2015, "ImageNet Large Scale Visual Recognition Challenge", section 4.2: the IoU with the truth at
# which a box is right. Exactly half is enough here, as in COCO and in VOC's kit.
RIGHT = 0.5
UNIT = 2**32  # IoU is added up in units of 2^-32, rounded per object: integers add up to the same in any order
COLUMNS = ("objects", "top1", "gt_known", "top1_localization", "iou")


class ClassPlaces(TypedDict):
    """One row of the table by class; a class without objects has only zeros."""

    name: str
    IoU: float
    top1: float
    gt_known_localization: float
    top1_localization: float
    objects: int


class LocalizationMetric:
    """IoU of boxes, right classes, and both together, over all objects of K classes.

    - ``IoU``: mean intersection over union of predicted and true box, whatever the class.
    - ``top1``: share of objects with the right class.
    - ``gt_known_localization``: share whose IoU is 0.5 or more, whatever the class (the "GT-known Loc" of the papers on
      weakly supervised localization, such as Choe et al. 2020).
    - ``top1_localization``: share with the right class and an IoU of 0.5 or more: one minus the localization error of
      ILSVRC with one guess (Russakovsky et al. 2015, section 4.2).

    Objects that are crowds or to be ignored do not count.
    """

    def __init__(self, classes: int):
        self.classes = classes
        self._sums = torch.zeros(classes, len(COLUMNS), dtype=torch.int64)

    def update(self, predictions: InstanceSets, truths: InstanceSets, indices: Tensor | None = None) -> None:
        """Take in one batch; image i of both is the same, and so is object k of an image. On any device.

        Args:
            predictions: M objects in B images.
            truths: as many in the same images, in the same pixels.
            indices: of the images; the result does not depend on their order.

        Raises:
            ValueError: the numbers of objects do not fit, or labels are outside of 0..K-1.
            DivergedError: predicted boxes are not finite.
        """
        counts, true_counts = predictions.counts.tolist(), truths.counts.tolist()
        if counts != true_counts:
            where = next((k for k, pair in enumerate(zip(counts, true_counts, strict=False)) if pair[0] != pair[1]), -1)
            of = f"image {where} has {counts[where]} and {true_counts[where]}" if where >= 0 else "of other images"
            raise ValueError(f"predictions and truths must have the same objects, one for one; got {of}.")
        labels, true_labels = predictions.labels.cpu(), truths.labels.cpu()
        for what, column in (("true", true_labels), ("predicted", labels)):
            outside = column[(column < 0) | (column >= self.classes)]
            if len(outside):
                raise ValueError(f"{what} label {int(outside[0])} is outside of 0..{self.classes - 1}.")
        boxes, true_boxes = predictions.boxes.detach().cpu().double(), truths.boxes.cpu().double()
        finite = torch.isfinite(boxes).all(1)
        if not bool(finite.all()):
            raise DivergedError(
                f"The boxes of {int((~finite).sum())} of {len(finite)} objects are not finite numbers, so nothing can "
                "be measured: the weights have diverged. Train again with a lower learning rate."
            )
        common = overlap(boxes, true_boxes)
        union = area(boxes) + area(true_boxes) - common
        iou = torch.where(union > 0, common / union.clamp(min=torch.finfo(torch.float64).tiny), 0.0)
        same, placed = labels == true_labels, iou >= RIGHT
        rows = torch.stack(
            (torch.ones_like(labels), same.long(), placed.long(), (same & placed).long(), (iou * UNIT).round().long()),
            dim=1,
        )
        counted = torch.ones(len(labels), dtype=torch.bool)
        for column in (truths.crowd, truths.ignore):
            if column is not None:
                counted &= ~column.cpu()
        self._sums.index_add_(0, true_labels[counted].long(), rows[counted])

    def merge(self, other: Self) -> None:
        """Take in what another process gathered; exact."""
        self._sums += other._sums

    @property
    def count(self) -> int:
        """The number of objects taken in."""
        return int(self._sums[:, 0].sum())

    def compute(self) -> dict[str, float]:
        """The numbers that the class describes, under their names; raises `DataError` when there was no object."""
        if not self.count:
            raise DataError("There is no object to measure on: the split is empty. Choose another split or data set.")
        return _shares(self._sums.sum(0))

    def per_class(self, names: list[str] | tuple[str, ...]) -> list[ClassPlaces]:
        """One row per true class, in the order of the labels.

        Args:
            names: K class names.
        """
        return [
            ClassPlaces(name=name, **_shares(sums), objects=int(sums[0]))
            for name, sums in zip(names, self._sums, strict=True)
        ]


def _shares(sums: Tensor) -> dict[str, float]:
    objects, top1, gt_known, both, iou = sums.tolist()
    some = max(objects, 1)
    return {
        "IoU": iou / UNIT / some,
        "top1": top1 / some,
        "gt_known_localization": gt_known / some,
        "top1_localization": both / some,
    }
