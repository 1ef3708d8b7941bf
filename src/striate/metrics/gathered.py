"""What metrics of objects gather: predictions and truths, image by image, in the pixels of the original images.

Letters: B images of a batch, N images in all, M objects, K classes, P keypoints.
"""

from typing import Self

import torch
from torch import Tensor

from striate.core.instances import InstanceSets
from striate.errors import DataError, DivergedError
from striate.ops.boxes import area


class Gathered:
    """Predictions and truths of many images, for a metric that needs them all at once.

    Objects of different images are compared by their scores, and among equal scores those of the earlier image come
    first, as in the COCO API. Which image is earlier is said by ``indices``, the rows of the data set: with them the
    result is the same however the images are cut over batches and processes. Without them the order is that of arrival,
    and merging in another order can matter where objects of different images have the same score.

    What is gathered can be pickled, and so sent from one process to another.
    """

    def __init__(self, classes: int):
        self.classes = classes
        self._predictions: list[InstanceSets] = []
        self._truths: list[InstanceSets] = []
        self._indices: list[Tensor | None] = []

    def update(self, predictions: InstanceSets, truths: InstanceSets, indices: Tensor | None = None) -> None:
        """Take in one batch; image i of both is the same. On any device; masks are not looked at.

        Args:
            predictions: objects found in B images, with scores.
            truths: objects of the B images, in the same pixels as the predictions.
            indices: (B,) int64, rows of the data set, as `striate.core.batch.Batch.indices`.

        Raises:
            ValueError: the numbers of images do not fit, labels are outside of 0..K-1, or predictions have no scores.
            DivergedError: boxes, keypoints or scores of predictions are not finite.
        """
        if len(predictions) != len(truths) or (indices is not None and len(indices) != len(truths)):
            raise ValueError(
                f"predictions, truths and indices must be of the same images; got {len(predictions)} images with "
                f"predictions, {len(truths)} with truths{'' if indices is None else f', {len(indices)} indices'}."
            )
        if predictions.scores is None and len(predictions.boxes):
            raise ValueError("predictions must have scores: without them nothing says which come first.")
        found, true = _found(predictions), _true(truths)
        for what, labels in (("true", true.labels), ("predicted", found.labels)):
            if len(labels):
                for label in (int(labels.min()), int(labels.max())):
                    if not 0 <= label < self.classes:
                        raise ValueError(f"{what} label {label} is outside of 0..{self.classes - 1}.")
        for what, column in (("boxes", found.boxes), ("scores", found.scores), ("keypoints", found.keypoints)):
            if column is not None and not bool(torch.isfinite(column).all()):
                wrong = int((~torch.isfinite(column)).reshape(len(column), -1).any(1).sum())
                raise DivergedError(
                    f"The {what} of {wrong} of {len(column)} predicted objects are not finite numbers, so nothing can "
                    "be measured: the weights have diverged. Train again with a lower learning rate."
                )
        self._predictions.append(found)
        self._truths.append(true)
        self._indices.append(None if indices is None else indices.to("cpu", copy=True))

    def merge(self, other: Self) -> None:
        """Take in what another process gathered."""
        self._predictions += other._predictions
        self._truths += other._truths
        self._indices += other._indices

    @property
    def count(self) -> int:
        """N, the number of images taken in."""
        return sum(len(truths) for truths in self._truths)

    def whole(self) -> tuple[InstanceSets, InstanceSets]:
        """Predictions and truths of all N images, on the CPU, in the order of the data set.

        Truths have the columns ``crowd``, ``ignore`` and ``areas``, whatever was taken in.

        Raises:
            DataError: no image was taken in.
        """
        if not self.count:
            raise DataError("There is no image to measure on: the split is empty. Choose another split or data set.")
        predictions, truths = InstanceSets.concatenate(self._predictions), InstanceSets.concatenate(self._truths)
        indices = [index for index in self._indices if index is not None]
        if len(indices) == len(self._indices):
            order = torch.cat(indices).argsort(stable=True)
            predictions, truths = predictions.select(order), truths.select(order)
        return predictions, truths


# Copies on the CPU of the columns that are measured: a pickled view of a tensor would carry the whole tensor along.


def _found(objects: InstanceSets) -> InstanceSets:
    return InstanceSets(
        offsets=_copy(objects.offsets),
        boxes=_copy(objects.boxes).float(),
        labels=_copy(objects.labels).long(),
        scores=None if objects.scores is None else _copy(objects.scores).float(),
        keypoints=None if objects.keypoints is None else _copy(objects.keypoints).float(),
    )


def _true(objects: InstanceSets) -> InstanceSets:
    """Columns that may be None say what None means.

    Areas are float64, so that an object at the border of two ranges of areas is where its box says.
    """
    boxes = _copy(objects.boxes).float()
    none = torch.zeros(len(boxes), dtype=torch.bool)
    return InstanceSets(
        offsets=_copy(objects.offsets),
        boxes=boxes,
        labels=_copy(objects.labels).long(),
        keypoints=None if objects.keypoints is None else _copy(objects.keypoints).float(),
        crowd=none if objects.crowd is None else _copy(objects.crowd),
        ignore=none if objects.ignore is None else _copy(objects.ignore),
        areas=area(boxes.double()) if objects.areas is None else _copy(objects.areas).double(),
    )


def _copy(column: Tensor) -> Tensor:
    return column.detach().to("cpu", copy=True)
