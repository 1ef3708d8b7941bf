"""Random resized crops, drawn before anything is decoded."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from striate.data.transforms.draws import Draws
from striate.data.transforms.geometry import warp

ATTEMPTS = 10  # as in torchvision


@dataclass(frozen=True, kw_only=True)
class RandomResizedCrop:
    """A part of the image with random area and aspect ratio, resized to the network's input.

    Szegedy et al. 2015 (GoogLeNet), section 6; the algorithm is that of torchvision's `RandomResizedCrop`. The numbers
    are drawn as fractions and become pixels once the image's size is known: reading then decodes only what is needed.
    """

    area: tuple[float, float] = (0.08, 1.0)  # of the image's area
    ratio: tuple[float, float] = (3 / 4, 4 / 3)  # width / height

    def draw(self, draws: Draws) -> Tensor:
        """(B, 2 * ATTEMPTS + 2) float32: fractions of the area, aspect ratios, and the position down and across."""
        areas = draws.uniform(*self.area, ATTEMPTS)
        ratios = draws.uniform(math.log(self.ratio[0]), math.log(self.ratio[1]), ATTEMPTS).exp_()
        places = draws.uniform(0, 1, 2)
        return torch.cat([areas, ratios, places], dim=1)

    def box(self, drawn: Sequence[float], height: int, width: int) -> tuple[int, int, int, int]:
        """The crop of an image of ``height`` x ``width`` pixels as (top, left, height, width) in pixels.

        Args:
            drawn: one row of what `draw` gave.
            height: of the image.
            width: of the image.
        """
        down, across = drawn[-2], drawn[-1]
        for area, ratio in zip(drawn[:ATTEMPTS], drawn[ATTEMPTS : 2 * ATTEMPTS], strict=True):
            crop_width = round(math.sqrt(height * width * area * ratio))
            crop_height = round(math.sqrt(height * width * area / ratio))
            if 0 < crop_width <= width and 0 < crop_height <= height:
                # the smaller of the two: a float32 just under 1 may round up in the product
                top = min(int(down * (height - crop_height + 1)), height - crop_height)
                left = min(int(across * (width - crop_width + 1)), width - crop_width)
                return top, left, crop_height, crop_width
        # No attempt fitted: the largest central crop whose aspect ratio is allowed.
        crop_height, crop_width = height, width
        if width / height < self.ratio[0]:
            crop_height = min(height, max(1, round(width / self.ratio[0])))
        elif width / height > self.ratio[1]:
            crop_width = min(width, max(1, round(height * self.ratio[1])))
        return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width

    def __call__(self, images: Tensor, drawn: Tensor) -> Tensor:
        """Crop images that have the right size already, each to its own box and back to that size (bilinear).

        A crop is never larger than the result, so that nothing is shrunk and antialiasing has nothing to do.

        Args:
            images: (B, C, H, W) uint8 or float32.
            drawn: what `draw` gave.

        Returns:
            (B, C, H, W) float32.
        """
        height, width = images.shape[-2:]
        boxes = torch.tensor([self.box(row, height, width) for row in drawn.tolist()], dtype=torch.float32)
        top, left, crop_height, crop_width = boxes.unbind(1)
        matrices = torch.zeros((len(boxes), 2, 3))
        matrices[:, 0, 0], matrices[:, 0, 2] = crop_width / width, left + (crop_width - width) / 2
        matrices[:, 1, 1], matrices[:, 1, 2] = crop_height / height, top + (crop_height - height) / 2
        return warp(images, matrices)

    def describe(self) -> str:
        """In words."""
        return (
            f"random resized crop: {self.area[0]:.0%} to {self.area[1]:.0%} of the area, "
            f"width / height {self.ratio[0]:.2f} to {self.ratio[1]:.2f}"
        )
