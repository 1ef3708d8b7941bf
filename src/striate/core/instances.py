"""Annotations that say where: the objects of an image, with boxes, masks, keypoints.

One type for localization (the same number of objects in every image), keypoints (one object, with its points),
detection and instance segmentation, truth and prediction alike.

A box is (x1, y1, x2, y2) in pixels, float32. The image's upper left corner is (0, 0) and the centre of its first pixel
(0.5, 0.5), so that a box around one pixel has the width 1.

Letters: B images, N objects of one image, M objects of all, P keypoints, H height, W width.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Polygons:
    """A mask as the outlines of its parts, in pixels of the original image."""

    rings: tuple[tuple[float, ...], ...]  # each x1, y1, x2, y2, ...: three points or more


@dataclass(frozen=True, kw_only=True)
class RunLengths:
    """A mask as COCO counts it: column after column, runs of pixels outside and inside by turns."""

    size: tuple[int, int]  # height, width of the original image
    counts: tuple[int, ...]  # the first run is outside, and may be 0 long


Shape = Polygons | RunLengths

UNLABELLED, HIDDEN, VISIBLE = 0, 1, 2  # what is known of a keypoint, as COCO numbers it


@dataclass(frozen=True, kw_only=True)
class Skeleton:
    """What the keypoints of a data set mean: one for all of its classes."""

    names: tuple[str, ...]  # P of them
    flips: tuple[int, ...]  # P: which point each becomes when the image is mirrored left to right, itself if none
    edges: tuple[tuple[int, int], ...] = ()  # points that are drawn with a line between them, 0-based


@dataclass(frozen=True, kw_only=True, eq=False)
class Instances:
    """The objects of one image."""

    boxes: Tensor  # (N, 4) float32, x1, y1, x2, y2 in pixels
    labels: Tensor  # (N,) int64, 0-based, without background
    scores: Tensor | None = None  # (N,) float32, 0 to 1; None for a truth
    masks: Tensor | None = None  # (N, H, W) bool, on the grid of the image that the boxes are of
    shapes: tuple[Shape, ...] | None = None  # N masks as the data states them, in the original image
    keypoints: Tensor | None = None  # (N, P, 3) float32: x, y, visibility (0 not labelled, 1 hidden, 2 visible)
    crowd: Tensor | None = None  # (N,) bool: a region of many objects, in which nothing is counted; None: none is
    ignore: Tensor | None = None  # (N,) bool: neither found nor missed, as VOC's "difficult"; None: none is
    areas: Tensor | None = None  # (N,) float32, of the objects in the original image; None: those of the boxes

    def __len__(self) -> int:
        return self.boxes.shape[0]

    def select(self, indices: Tensor | slice) -> "Instances":
        """The objects at ``indices`` ((K,) int64, (N,) bool, or a slice), in that order."""
        return Instances(**{name: _rows(getattr(self, name), indices) for name in _COLUMNS})

    def to(self, device: torch.device | str) -> "Instances":
        """The same on another device; a copy to a GPU does not wait."""
        return Instances(**{name: _moved(getattr(self, name), device) for name in _COLUMNS})


_COLUMNS = tuple(field.name for field in fields(Instances))
_MARKS = ("crowd", "ignore")  # None says that no object has them


@dataclass(frozen=True, kw_only=True, eq=False)
class InstanceSets:
    """The objects of many images, in columns: what a data set holds, a batch carries and a metric takes.

    Indexing and iterating give one `Instances` per image.
    """

    offsets: Tensor  # (B + 1,) int64, on the CPU: image i has the rows offsets[i] to offsets[i + 1]
    boxes: Tensor  # (M, 4) float32, and so on as in `Instances`
    labels: Tensor  # (M,) int64
    scores: Tensor | None = None  # (M,) float32
    masks: Tensor | None = None  # (M, H, W) bool
    shapes: tuple[Shape, ...] | None = None  # M of them
    keypoints: Tensor | None = None  # (M, P, 3) float32
    crowd: Tensor | None = None  # (M,) bool
    ignore: Tensor | None = None  # (M,) bool
    areas: Tensor | None = None  # (M,) float32

    def __len__(self) -> int:
        return self.offsets.shape[0] - 1

    def __getitem__(self, index: int) -> Instances:
        place = range(len(self))[index]
        return self._objects(slice(int(self.offsets[place]), int(self.offsets[place + 1])))

    def __iter__(self) -> Iterator[Instances]:
        ends: list[int] = self.offsets.tolist()
        for first, end in pairwise(ends):
            yield self._objects(slice(first, end))

    @property
    def counts(self) -> Tensor:
        """(B,) int64, on the CPU: objects of each image."""
        return self.offsets.diff()

    @property
    def images(self) -> Tensor:
        """(M,) int64, on the device of the boxes: the image of each object."""
        return torch.arange(len(self)).repeat_interleave(self.counts).to(self.boxes.device)

    def select(self, indices: Tensor | slice) -> "InstanceSets":
        """The images at ``indices`` ((K,) int64, or a slice), in that order."""
        chosen = torch.arange(len(self))[indices.cpu() if isinstance(indices, Tensor) else indices]
        counts = self.counts[chosen]
        offsets = _offsets(counts)
        # The rows of image i are first[i], first[i] + 1, ...: counted on from its place in the new order.
        rows = torch.arange(int(offsets[-1])) + (self.offsets[chosen] - offsets[:-1]).repeat_interleave(counts)
        columns = {name: _rows(getattr(self, name), rows) for name in _COLUMNS}
        return InstanceSets(offsets=offsets, **columns)

    def keep(self, objects: Tensor) -> "InstanceSets":
        """The same images with fewer objects.

        Args:
            objects: (M,) bool, those that stay.
        """
        kept = torch.zeros(len(self), dtype=torch.int64).index_add_(0, self.images.cpu(), objects.cpu().long())
        columns = {name: _rows(getattr(self, name), objects) for name in _COLUMNS}
        return InstanceSets(offsets=_offsets(kept), **columns)

    def to(self, device: torch.device | str) -> "InstanceSets":
        """The same on another device; a copy to a GPU does not wait."""
        columns = {name: _moved(getattr(self, name), device) for name in _COLUMNS}
        return InstanceSets(offsets=self.offsets, **columns)

    def placed(self, placement: Tensor) -> "InstanceSets":
        """The same in the coordinates of a network's input; areas stay those of the original image.

        Args:
            placement: (B, 4) float32, as `striate.core.batch.Batch.placement`.
        """
        scale, shift = placement.to(self.boxes.device)[self.images].split(2, dim=1)
        points = self.keypoints
        if points is not None:
            points = torch.cat((points[..., :2] * scale[:, None] + shift[:, None], points[..., 2:]), dim=2)
        return replace(self, boxes=self.boxes * scale.repeat(1, 2) + shift.repeat(1, 2), keypoints=points)

    def restored(self, placement: Tensor, sizes: Tensor) -> "InstanceSets":
        """From the coordinates of a network's input to those of the original images, cut off at their borders.

        Args:
            placement: (B, 4) float32, as `striate.core.batch.Batch.placement`.
            sizes: (B, 2) int64, height and width of the original images.
        """
        scale, shift = placement.split(2, dim=1)
        back = self.placed(torch.cat((1 / scale, -shift / scale), dim=1))
        limits = sizes.flip(1).to(back.boxes)[self.images].repeat(1, 2)
        return replace(back, boxes=torch.minimum(back.boxes.clamp(min=0), limits))

    def from_left_to_right(self) -> "InstanceSets":
        """The same with the objects of each image in the order of their centres."""
        centres = (self.boxes[:, 0] + self.boxes[:, 2]).cpu()
        by_place = centres.argsort(stable=True)
        order = by_place[self.images.cpu()[by_place].argsort(stable=True)]
        return replace(self, **{name: _rows(getattr(self, name), order) for name in _COLUMNS})

    @staticmethod
    def concatenate(parts: "Sequence[InstanceSets]") -> "InstanceSets":
        """All images of ``parts`` in order; columns as in `of`."""
        full = [part for part in parts if len(part.boxes)] or parts
        return InstanceSets(
            offsets=_offsets(torch.cat([part.counts for part in parts])),
            **{name: _joined(full, name) for name in _COLUMNS},
        )

    @staticmethod
    def of(images: Sequence[Instances]) -> "InstanceSets":
        """Instances per image, packed.

        A column stays where every image that has objects has it; crowds and ignored objects, where any has.
        """
        full = [image for image in images if len(image)] or images
        columns = {name: _joined(full, name) for name in _COLUMNS}
        if not images:
            columns |= {"boxes": torch.empty(0, 4), "labels": torch.empty(0, dtype=torch.int64)}
        return InstanceSets(offsets=_offsets(torch.tensor([len(image) for image in images])), **columns)

    def _objects(self, rows: slice) -> Instances:
        return Instances(**{name: _rows(getattr(self, name), rows) for name in _COLUMNS})


@dataclass(frozen=True, kw_only=True, eq=False)
class Assigned:
    """What a detector holds responsible for the objects of one image, K of them."""

    kind: str  # what they are, in the detector's own word: "anchor", "cell", "point", "query", "proposal"
    boxes: Tensor  # (K, 4) float32, in the input's pixels: the anchor, or the cell that the point stands for
    objects: Tensor  # (K,) int64, the object that each answers for
    levels: Tensor  # (K,) int64, of the pyramid, fine to coarse; 0 where there is one


def _offsets(counts: Tensor) -> Tensor:
    return torch.cat((torch.zeros(1, dtype=torch.int64), counts.long().cumsum(0)))


def _rows(column: Any, rows: Tensor | slice) -> Any:
    if column is None or isinstance(rows, slice):
        return column if column is None else column[rows]
    if isinstance(column, Tensor):
        return column[rows.to(column.device)]
    numbers = rows.nonzero()[:, 0] if rows.dtype == torch.bool else rows
    return tuple(column[number] for number in numbers.tolist())


def _moved(column: Any, device: torch.device | str) -> Any:
    return column.to(device, non_blocking=True) if isinstance(column, Tensor) else column


def _joined(parts: Sequence[Instances | InstanceSets], name: str) -> Any:
    columns = [getattr(part, name) for part in parts]
    if name in _MARKS and any(column is not None for column in columns):
        columns = [
            torch.zeros(len(part.boxes), dtype=torch.bool, device=part.boxes.device) if column is None else column
            for part, column in zip(parts, columns, strict=True)
        ]
    if not any(len(part.boxes) for part in parts):  # of no objects at all, a column is there where any part has it
        return next((column for column in columns if column is not None), None)
    if any(column is None for column in columns):
        return None
    if isinstance(columns[0], Tensor):
        return torch.cat(columns)
    return tuple(shape for column in columns for shape in column)
