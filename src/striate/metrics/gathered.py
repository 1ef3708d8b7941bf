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
        found, true = _columns(predictions), _columns(truths)
        if found.scores is None and len(found.boxes):
            raise ValueError("predictions must have scores: without them nothing says which come first.")
        for what, objects in (("true", true), ("predicted", found)):
            outside = objects.labels[(objects.labels < 0) | (objects.labels >= self.classes)]
            if len(outside):
                raise ValueError(f"{what} label {int(outside[0])} is outside of 0..{self.classes - 1}.")
        finite = torch.isfinite(found.boxes).all(1)
        for column in (found.scores, found.keypoints):
            if column is not None:
                finite &= torch.isfinite(column).flatten(1).all(1) if column.ndim > 1 else torch.isfinite(column)
        if not bool(finite.all()):
            raise DivergedError(
                f"The boxes, keypoints or scores of {int((~finite).sum())} of {len(finite)} predicted objects are not "
                "finite numbers, so nothing can be measured: the weights have diverged. Train again with a lower "
                "learning rate."
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


def _columns(objects: InstanceSets) -> InstanceSets:
    """Copies on the CPU of the columns that are measured; those that may be None say what None means.

    Copies, because a pickled view of a tensor carries the whole tensor along; areas in float64, so that an object
    at the border of two ranges of areas is where its box says.
    """
    boxes = _copy(objects.boxes).float()
    none = torch.zeros(len(boxes), dtype=torch.bool)
    return InstanceSets(
        offsets=_copy(objects.offsets),
        boxes=boxes,
        labels=_copy(objects.labels).long(),
        scores=None if objects.scores is None else _copy(objects.scores).float(),
        keypoints=None if objects.keypoints is None else _copy(objects.keypoints).float(),
        crowd=none if objects.crowd is None else _copy(objects.crowd),
        ignore=none if objects.ignore is None else _copy(objects.ignore),
        areas=area(boxes.double()) if objects.areas is None else _copy(objects.areas).double(),
    )


def _copy(column: Tensor) -> Tensor:
    return column.detach().to("cpu", copy=True)
