"""Augmentation policies by name."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from striate.core.annotations import Classifications
from striate.data.transforms.crop import RandomResizedCrop
from striate.data.transforms.draws import Draws


class Step(Protocol):
    """One thing that happens to every image of a batch, each with its own random numbers."""

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """(B, C, H, W) uint8, or float32 from 0 to 255, to the same."""
        ...

    def describe(self) -> str:
        """In words."""
        ...


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What happens to images in training."""

    name: str
    crop: RandomResizedCrop | None = None  # happens while reading
    steps: tuple[Step, ...] = ()
    mixes: bool = False

    def describe(self) -> list[str]:
        """One line per step."""
        return [step.describe() for step in (self.crop, *self.steps) if step is not None]

    def __call__(
        self,
        images: Tensor,
        truths: Classifications,
        draws: Draws,
        *,
        crops: Tensor | None,
        scale: Tensor,
        offset: Tensor,
    ) -> tuple[Tensor, Classifications]:
        """Augment and normalise."""
        for step in self.steps:
            images = step(images, draws)
        return images.to(torch.float32).mul_(scale).add_(offset), truths


def augmentation(name: str, *, classes: int, mixup: float = 0, cutmix: float = 0, flip: bool = True) -> Augmentation:
    """The policy of that name."""
    return Augmentation(name=name)
