"""What travels from the data to a task."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from striate.core.annotations import Annotations, Classifications
from striate.core.instances import InstanceSets


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Images with their truths, ready for a network."""

    images: Tensor  # (B, C, H, W) float32, normalised
    sizes: Tensor  # (B, 2) int64, height and width of the original image in pixels
    truths: Annotations  # B of them, in the coordinates of `images`
    indices: Tensor  # (B,) int64, rows of the data set: with its `ids` they name the images
    # (B, 4) float32, on the CPU: scale x, scale y, shift x, shift y. A point of the original image lies at
    # point * scale + shift in `images`. None: the image fills the input, or its truth has no place.
    placement: Tensor | None = None
    # (B, 2) int64, on the CPU: height and width of `images` up to the padding, where no placement says so.
    inner: Tensor | None = None

    def __len__(self) -> int:
        return self.images.shape[0]

    @property
    def labels(self) -> Classifications:
        """The truths of a classification."""
        assert isinstance(self.truths, Classifications)
        return self.truths

    @property
    def instances(self) -> InstanceSets:
        """The truths of a task that says where."""
        assert isinstance(self.truths, InstanceSets)
        return self.truths

    @property
    def content(self) -> Tensor:
        """(B, 2) int64, on the CPU: height and width of `images` up to where the padding right and below begins."""
        whole = torch.tensor(self.images.shape[2:]).expand(len(self), 2)
        if self.placement is None:
            return whole if self.inner is None else self.inner
        scale, shift = self.placement.split(2, dim=1)
        return torch.minimum((self.sizes * scale.flip(1) + shift.flip(1)).round().long(), whole)

    def restored(self, annotations: Annotations) -> Annotations:
        """Annotations of `images` in the coordinates of the original images."""
        return annotations if self.placement is None else annotations.restored(self.placement, self.sizes)

    def select(self, rows: slice | Tensor) -> "Batch":
        """The images at ``rows``, a slice or (N,) int64 on the CPU; how a batch is cut into micro-batches."""
        return Batch(
            images=self.images[rows],
            sizes=self.sizes[rows],
            truths=self.truths.select(rows if isinstance(rows, slice) else rows.to(self.images.device)),
            indices=self.indices[rows],
            placement=None if self.placement is None else self.placement[rows],
            inner=None if self.inner is None else self.inner[rows],
        )

    def to(self, device: torch.device | str) -> "Batch":
        """The same with images and truths on ``device``; what stays on the CPU stays there."""
        return replace(self, images=self.images.to(device, non_blocking=True), truths=self.truths.to(device))
