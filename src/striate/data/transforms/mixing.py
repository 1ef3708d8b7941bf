"""Random erasing, mixup and cutmix: what happens after normalisation.

Letters: B images, C channels, H height, W width, K classes.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from striate.core.annotations import Classifications
from striate.data.transforms.draws import Draws

ATTEMPTS = 10  # as in torchvision


@dataclass(frozen=True, kw_only=True)
class Erase:
    """A rectangle of random size, shape and place becomes zero, which after normalisation is the mean colour.

    Zhong et al. 2017, "Random Erasing Data Augmentation"; ranges and algorithm are those of torchvision.
    """

    probability: float
    area: tuple[float, float] = (0.02, 0.33)  # of the image's area
    ratio: tuple[float, float] = (0.3, 3.3)  # height / width

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """(B, C, H, W) float32, normalised; changed in place."""
        chosen = draws.choose(self.probability)
        boxes = self.boxes(draws, *images.shape[-2:])
        boxes[~chosen] = 0
        return images.masked_fill_(inside(boxes, images), 0)

    def boxes(self, draws: Draws, height: int, width: int) -> Tensor:
        """(B, 4) int64: top, left, bottom, right of the rectangles; empty where no attempt fitted."""
        areas = height * width * draws.uniform(*self.area, ATTEMPTS)
        ratios = draws.uniform(math.log(self.ratio[0]), math.log(self.ratio[1]), ATTEMPTS).exp_()
        place = draws.uniform(0, 1, 2)
        heights, widths = (areas * ratios).sqrt_().round_(), (areas / ratios).sqrt_().round_()
        fits = (heights < height) & (widths < width)
        first = fits.to(torch.uint8).argmax(dim=1, keepdim=True)
        extent = torch.cat([heights.gather(1, first), widths.gather(1, first)], dim=1).to(torch.int64)
        extent[~fits.any(dim=1)] = 0
        room = torch.tensor([height, width]) - extent
        corner = torch.minimum((place * (room + 1)).to(torch.int64), room)
        return torch.cat([corner, corner + extent], dim=1)

    def describe(self) -> str:
        """In words."""
        return (
            f"random erasing: {self.probability:.0%} of the images, "
            f"{self.area[0]:.0%} to {self.area[1]:.0%} of the area"
        )


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """Mixup and cutmix; the truths become soft.

    Zhang et al. 2017, "mixup: Beyond Empirical Risk Minimization"; Yun et al. 2019, "CutMix", section 3. Each image is
    mixed with its neighbour in the global batch (`Draws.partners`) with its own lambda, not one for a whole batch. With
    both on, each image is mixed in one of the two ways, with equal chances.
    """

    classes: int
    mixup: float = 0  # alpha of Beta(alpha, alpha); 0: off
    cutmix: float = 0

    def __call__(self, images: Tensor, truths: Classifications, draws: Draws) -> tuple[Tensor, Classifications]:
        """Mix.

        Args:
            images: (B, C, H, W) float32, normalised.
            truths: of the images.
            draws: of the batch.

        Returns:
            Images of the same shape, and truths with the labels of before and (B, K) scores.
        """
        height, width = images.shape[-2:]
        partners = draws.partners()
        share = torch.ones(len(draws))  # of the image itself
        boxes = torch.zeros((len(draws), 4), dtype=torch.int64)
        if self.mixup:
            share = draws.beta(self.mixup)
        if self.cutmix:
            boxes = cutmix_boxes(draws.beta(self.cutmix), draws.uniform(0, 1, 2), height, width)
        if self.mixup and self.cutmix:
            mixed = draws.choose(0.5)
            share, boxes = torch.where(mixed, share, 1), torch.where(mixed[:, None], 0, boxes)
        others = partners.to(images.device)
        weights = share.to(images.device).view(-1, 1, 1, 1)
        if self.cutmix:
            weights = torch.where(inside(boxes, images), 0, weights)
        mixed_images = torch.lerp(images[others], images, weights)

        # The label's weight is the area that is really seen, which the border may have made smaller than drawn.
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        share = (share * (1 - area / (height * width))).to(images.device).view(-1, 1)
        scores = truths.scores if truths.scores is not None else F.one_hot(truths.labels, self.classes)
        scores = scores.to(torch.float32)
        return mixed_images, Classifications(labels=truths.labels, scores=share * scores + (1 - share) * scores[others])

    def describe(self) -> str:
        """In words."""
        parts = [
            f"{name}, alpha {alpha:g}" for name, alpha in (("mixup", self.mixup), ("cutmix", self.cutmix)) if alpha
        ]
        return " or ".join(parts)


def cutmix_boxes(share: Tensor, centre: Tensor, height: int, width: int) -> Tensor:
    """The rectangles that come from the partner; Yun et al. 2019, equation 2, as in the authors' code.

    Args:
        share: lambda, the part that stays, (B,) float32.
        centre: (B, 2) float32 from 0 to 1, down and across.
        height: of the images.
        width: of the images.

    Returns:
        (B, 4) int64: top, left, bottom, right, clipped to the image.
    """
    size = torch.tensor([height, width])
    half = ((1 - share).sqrt()[:, None] * size).to(torch.int64) // 2
    middle = torch.minimum((centre * size).to(torch.int64), size - 1)
    return torch.cat([(middle - half).clamp(min=0), torch.minimum(middle + half, size)], dim=1)


def inside(boxes: Tensor, images: Tensor) -> Tensor:
    """(B, 1, H, W) bool on the images' device: the pixels in boxes of (B, 4) int64 top, left, bottom, right."""
    top, left, bottom, right = boxes.to(images.device).view(-1, 4, 1).unbind(1)
    rows = torch.arange(images.shape[2], device=images.device)
    columns = torch.arange(images.shape[3], device=images.device)
    down = (rows >= top) & (rows < bottom)
    across = (columns >= left) & (columns < right)
    return (down[:, :, None] & across[:, None, :]).unsqueeze(1)
