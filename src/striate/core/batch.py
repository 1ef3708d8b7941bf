"""What travels from the data to a task."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from striate.core.annotations import Classifications


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Images with their truths, ready for a network."""

    images: Tensor  # (B, C, H, W) float32, normalised
    sizes: Tensor  # (B, 2) int64, height and width of the original image in pixels
    truths: Classifications  # B of them
    indices: Tensor  # (B,) int64, rows of the data set: with its `ids` they name the images

    def __len__(self) -> int:
        return self.images.shape[0]

    def select(self, rows: slice) -> "Batch":
        """The images at ``rows``; how a batch is cut into micro-batches."""
        return Batch(
            images=self.images[rows],
            sizes=self.sizes[rows],
            truths=self.truths.select(rows),
            indices=self.indices[rows],
        )

    def to(self, device: torch.device | str) -> "Batch":
        """The same with images and truths on ``device``; sizes and indices stay where they are."""
        return replace(self, images=self.images.to(device, non_blocking=True), truths=self.truths.to(device))
