"""TrivialAugment and RandAugment, with the images of a batch grouped by operation.

Sources: Müller and Hutter 2021, "TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation" (the wide space,
table 1); Cubuk et al. 2019, "RandAugment". Operations, ranges and kernels are those of torchvision's
`TrivialAugmentWide` and `RandAugment`: nearest-neighbour interpolation, black beyond the border.

Letters: B images, M images of one operation, C channels (1 or 3), H height, W width.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from striate.data.transforms.colour import LUMA
from striate.data.transforms.draws import Draws
from striate.data.transforms.geometry import warp

LEVELS = 31  # magnitudes from the first to the last of a range, evenly


@dataclass(frozen=True)
class Range:
    """Magnitudes of an operation at the lowest and the highest level."""

    low: float
    high: float
    signed: bool = False  # either way, with equal chances
    of: Literal["", "height", "width"] = ""  # a fraction of that, where it is not absolute


TRIVIAL_AUGMENT_WIDE: Mapping[str, Range | None] = {
    "Identity": None,
    "ShearX": Range(0, 0.99, signed=True),
    "ShearY": Range(0, 0.99, signed=True),
    "TranslateX": Range(0, 32, signed=True),  # pixels
    "TranslateY": Range(0, 32, signed=True),
    "Rotate": Range(0, 135, signed=True),  # degrees
    "Brightness": Range(0, 0.99, signed=True),  # factor - 1
    "Color": Range(0, 0.99, signed=True),
    "Contrast": Range(0, 0.99, signed=True),
    "Sharpness": Range(0, 0.99, signed=True),
    "Posterize": Range(8, 2),  # bits that stay
    "Solarize": Range(1, 0),  # pixels from this part of 255 on are inverted
    "AutoContrast": None,
    "Equalize": None,
}

RAND_AUGMENT: Mapping[str, Range | None] = {
    "Identity": None,
    "ShearX": Range(0, 0.3, signed=True),
    "ShearY": Range(0, 0.3, signed=True),
    "TranslateX": Range(0, 150 / 331, signed=True, of="width"),
    "TranslateY": Range(0, 150 / 331, signed=True, of="height"),
    "Rotate": Range(0, 30, signed=True),
    "Brightness": Range(0, 0.9, signed=True),
    "Color": Range(0, 0.9, signed=True),
    "Contrast": Range(0, 0.9, signed=True),
    "Sharpness": Range(0, 0.9, signed=True),
    "Posterize": Range(8, 4),
    "Solarize": Range(1, 0),
    "AutoContrast": None,
    "Equalize": None,
}


def magnitudes(scope: Range, levels: Tensor, size: tuple[int, int]) -> Tensor:
    """The magnitudes at ``levels`` ((M,) int64, 0 to 30) for images of ``size`` (height, width); (M,) float32."""
    unit = {"": 1, "height": size[0], "width": size[1]}[scope.of]
    return torch.linspace(scope.low * unit, scope.high * unit, LEVELS)[levels]


def apply(operation: str, images: Tensor, magnitude: Tensor) -> Tensor:
    """Do one operation to every image, each with its own magnitude.

    Args:
        operation: a name from the tables above.
        images: (M, C, H, W) uint8.
        magnitude: (M,) float32, signed.

    Returns:
        (M, C, H, W) uint8.
    """
    if operation in ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"):
        matrices = _matrices(operation, magnitude, (images.shape[2], images.shape[3]))
        return warp(images, matrices, fill="constant", interpolation="nearest").to(torch.uint8)
    each = magnitude.to(images.device).view(-1, 1, 1, 1)
    match operation:
        case "Identity":
            return images
        case "Brightness":
            return _blend(images, torch.zeros((), device=images.device), 1 + each)
        case "Color":
            return images if images.shape[1] == 1 else _blend(images, _grey(images), 1 + each)
        case "Contrast":
            # float64, so that the mean does not depend on how threads share the sum
            mean = _grey(images).mean(dim=(1, 2, 3), keepdim=True, dtype=torch.float64)
            return _blend(images, mean.to(torch.float32), 1 + each)
        case "Sharpness":
            return (images - each * (_smooth(images) - images)).clamp_(0, 255).to(torch.uint8)
        case "Posterize":
            dropped = 8 - each.round().to(torch.int32)
            return ((images >> dropped) << dropped).to(torch.uint8)
        case "Solarize":
            return torch.where(images >= 255 * each, 255 - images, images)
        case _:
            from torchvision.transforms.v2 import functional  # 4 s, and only needed here

            return functional.autocontrast(images) if operation == "AutoContrast" else functional.equalize(images)


def _matrices(operation: str, magnitude: Tensor, size: tuple[int, int]) -> Tensor:
    height, width = size
    matrices = torch.eye(2, 3).repeat(len(magnitude), 1, 1)
    match operation:
        case "ShearX":  # the upper edge stays, as in the paper's code
            matrices[:, 0, 1], matrices[:, 0, 2] = magnitude, magnitude * height / 2
        case "ShearY":  # the left edge stays
            matrices[:, 1, 0], matrices[:, 1, 2] = magnitude, magnitude * width / 2
        case "TranslateX":
            matrices[:, 0, 2] = -magnitude.trunc()
        case "TranslateY":
            matrices[:, 1, 2] = -magnitude.trunc()
        case _:
            angle = torch.deg2rad(magnitude)
            sine, cosine = torch.sin(angle), torch.cos(angle)
            matrices[:, 0, 0], matrices[:, 0, 1] = cosine, -sine
            matrices[:, 1, 0], matrices[:, 1, 1] = sine, cosine
    return matrices


def _blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return (images * factor + other * (1 - factor)).clamp_(0, 255).to(torch.uint8)


def _grey(images: Tensor) -> Tensor:
    """(M, 1, H, W) float32, whole numbers."""
    if images.shape[1] == 1:
        return images.to(torch.float32)
    weights = torch.tensor(LUMA, device=images.device).view(3, 1, 1)
    return (images * weights).sum(dim=1, keepdim=True).floor_()


def _smooth(images: Tensor) -> Tensor:
    """Pillow's SMOOTH filter inside, the image itself on its border."""
    smooth = images.to(torch.float32)
    channels, height, width = images.shape[1:]
    if height > 2 and width > 2:
        kernel = torch.full((3, 3), 1 / 13, device=images.device)
        kernel[1, 1] = 5 / 13
        inner = F.conv2d(smooth, kernel.expand(channels, 1, 3, 3), groups=channels)
        smooth = smooth.clone()
        smooth[..., 1:-1, 1:-1] = inner.round_()
    return smooth


@dataclass(frozen=True, kw_only=True)
class AutoAugment:
    """Random operations from a table, at random or fixed magnitudes."""

    name: Literal["trivial", "rand"]
    operations: int  # one after the other on each image
    level: int | None  # 0 to 30; None: drawn for each image

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """(B, C, H, W) uint8, or float32 from 0 to 255, to uint8."""
        if images.dtype != torch.uint8:
            images = images.round().to(torch.uint8)
        space = TRIVIAL_AUGMENT_WIDE if self.name == "trivial" else RAND_AUGMENT
        for _ in range(self.operations):
            chosen = draws.integers(0, len(space))
            levels = draws.integers(0, LEVELS)
            signs = 1 - 2 * draws.integers(0, 2)
            if self.level is not None:
                levels = torch.full_like(levels, self.level)
            changed = torch.empty_like(images)
            for number, (operation, scope) in enumerate(space.items()):
                rows = (chosen == number).nonzero()[:, 0]
                if len(rows) == 0:
                    continue
                strength = torch.zeros(len(rows))
                if scope is not None:
                    strength = magnitudes(scope, levels[rows], (images.shape[2], images.shape[3]))
                    strength = strength * signs[rows] if scope.signed else strength
                rows = rows.to(images.device)
                changed[rows] = apply(operation, images[rows], strength)
            images = changed
        return images

    def describe(self) -> str:
        """In words."""
        if self.name == "trivial":
            return f"TrivialAugment (wide): {self.operations} of 14 operations at a random strength"
        return f"RandAugment: {self.operations} of 14 operations at strength {self.level} of {LEVELS - 1}"
