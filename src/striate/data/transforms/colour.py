"""Brightness, contrast, saturation and hue, each image with its own factors.

Letters: B images, C channels (1 or 3), H height, W width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from striate.data.transforms.draws import Draws

CACHED = 1 << 19  # pixels times channels; 2 MiB as float32

LUMA = (0.2989, 0.587, 0.114)  # weights of red, green and blue in grey; torchvision's digits of ITU-R 601-2


def jitter(
    images: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor, addition: Tensor | None = None
) -> Tensor:
    """Change brightness, then contrast, then saturation, in one multiplication by a matrix for each image.

    Unlike torchvision's `ColorJitter`, which clips and rounds after each of the three, this clips once at the end.

    Args:
        images: (B, C, H, W) uint8, or float32 from 0 to 255.
        brightness: factors of the pixel, (B,) float32.
        contrast: factors of the distance from the image's mean grey.
        saturation: factors of the distance from the pixel's own grey; without effect on grey images.
        addition: to every pixel, in the end; (B,) float32.

    Returns:
        (B, C, H, W) float32 from 0 to 255.
    """
    count, channels, height, width = images.shape
    device = images.device
    flat = images.reshape(count, channels, height * width)
    gain = brightness * contrast
    luma = torch.tensor(LUMA) if channels == 3 else torch.ones(1)
    keep = saturation if channels == 3 else torch.ones_like(saturation)
    matrices = gain.view(-1, 1, 1) * (
        keep.view(-1, 1, 1) * torch.eye(channels) + (1 - keep).view(-1, 1, 1) * luma.expand(channels, channels)
    )
    matrices = matrices.to(device)
    scale = ((1 - contrast) * brightness).to(device) / (height * width)  # from the sum of an image's grey to its bias
    luma = luma.to(device, torch.float64)
    bias = torch.zeros(count) if addition is None else addition
    bias = bias.to(device)
    # A few images at a time, so that the float copy stays in the cache: for 224 x 224 pixels three times as fast.
    changed = torch.empty(flat.shape, dtype=torch.float32, device=device)
    few = max(1, CACHED // (channels * height * width))
    floats = torch.empty((min(few, count), *flat.shape[1:]), dtype=torch.float32, device=device)
    for start in range(0, count, few):
        part = slice(start, min(start + few, count))
        copy = floats[: part.stop - start].copy_(flat[part])
        # Whole numbers, row by row and then in float64: exact, so that it does not depend on how threads share the sum.
        sums = copy.view(-1, channels, height, width).sum(dim=3).sum(dim=2, dtype=torch.float64) @ luma
        offset = (bias[part] + scale[part] * sums.to(torch.float32)).view(-1, 1, 1)
        torch.baddbmm(offset, matrices[part], copy, out=changed[part]).clamp_(0, 255)
    return changed.view(count, channels, height, width)


def shift_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Turn the hue of HSV colours.

    Args:
        images: (B, 3, H, W) float32 from 0 to 255.
        turns: (B,) float32, parts of the colour circle, -0.5 to 0.5.

    Returns:
        (B, 3, H, W) float32.
    """
    red, green, blue = images.unbind(1)
    value, largest = images.max(dim=1)
    chroma = value - images.amin(dim=1)
    divisor = torch.where(chroma == 0, 1, chroma)
    # Sixths of the circle, counted from red; the formula and its inverse as in Smith 1978.
    sixth = torch.where(
        largest == 0,
        (green - blue) / divisor,
        torch.where(largest == 1, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    sixth = sixth + 6 * turns.to(images.device).view(-1, 1, 1)
    places = (sixth[:, None] + torch.tensor([5.0, 3.0, 1.0], device=images.device).view(3, 1, 1)) % 6
    return value[:, None] - chroma[:, None] * torch.minimum(places, 4 - places).clamp_(0, 1)


@dataclass(frozen=True, kw_only=True)
class ColourJitter:
    """Random brightness, contrast, saturation and hue.

    Saturation and hue leave grey images as they are.
    """

    brightness: tuple[float, float] = (1, 1)
    contrast: tuple[float, float] = (1, 1)
    saturation: tuple[float, float] = (1, 1)
    hue: float = 0  # parts of the colour circle either way, at most 0.5
    channel_shift: float = 0  # added to every pixel, out of 255, either way
    probability: float = 1  # of each of them

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """(B, C, H, W) uint8, or float32 from 0 to 255, to float32."""
        changed = jitter(
            images,
            self._drawn(draws, self.brightness, 1),
            self._drawn(draws, self.contrast, 1),
            self._drawn(draws, self.saturation, 1),
            self._drawn(draws, (-self.channel_shift, self.channel_shift), 0) if self.channel_shift else None,
        )
        if self.hue and images.shape[1] == 3:
            turns = self._drawn(draws, (-self.hue, self.hue), 0)
            # A few at a time, so that what lies between stays in the cache.
            few = max(1, CACHED // changed[0].numel()) if changed.device.type == "cpu" else len(changed)
            for rows in turns.nonzero()[:, 0].split(few):
                here = rows.to(changed.device)
                changed.index_copy_(0, here, shift_hue(changed[here], turns[rows]))
        return changed

    def _drawn(self, draws: Draws, span: tuple[float, float], nothing: float) -> Tensor:
        """(B,) float32 from a span, or what changes nothing."""
        values = draws.uniform(*span)
        return values if self.probability == 1 else torch.where(draws.choose(self.probability), values, nothing)

    def describe(self) -> str:
        """In words."""
        parts = [
            f"{name} x {low:g} to {high:g}"
            for name, (low, high) in (
                ("brightness", self.brightness),
                ("contrast", self.contrast),
                ("saturation", self.saturation),
            )
            if (low, high) != (1, 1)
        ]
        parts += [f"hue turned by up to {self.hue:g} of the circle"] if self.hue else []
        parts += [f"up to {self.channel_shift:g} of 255 added or taken away"] if self.channel_shift else []
        chance = "" if self.probability == 1 else f", each in {self.probability:.0%} of the images"
        return "; ".join(parts) + chance
