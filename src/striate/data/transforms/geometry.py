"""Where pixels come from: flips, shifts, affine maps and elastic distortions, each image with its own parameters.

Letters: B images, C channels, H height, W width. A matrix maps a place in the output to the place in the input that it
shows; places are (x, y) in pixels from the centre of the image.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from striate.data.transforms.draws import Draws

# What lies beyond the border: nearest aaa|abc|ccc, constant kkk|abc|kkk, reflect cba|abc|cba, wrap abc|abc|abc.
Fill = Literal["nearest", "constant", "reflect", "wrap"]

PADDING = {"nearest": "border", "constant": "zeros", "reflect": "reflection", "wrap": "border"}  # torch's words


def warp(
    images: Tensor,
    matrices: Tensor,
    *,
    fill: Fill = "nearest",
    value: float = 0,
    displacements: Tensor | None = None,
    interpolation: Literal["bilinear", "nearest"] = "bilinear",
) -> Tensor:
    """Show each image through its own affine map.

    Args:
        images: (B, C, H, W) uint8 or float32.
        matrices: (B, 2, 3) float32.
        fill: what lies beyond the border.
        value: of ``constant``.
        displacements: (B, 2, H, W) float32, added to the places in the input, x first, in pixels.
        interpolation: how pixels between pixels are made.

    Returns:
        (B, C, H, W) float32.
    """
    height, width = images.shape[-2:]
    device = images.device
    # In grid_sample's coordinates the centre is 0 and the outer edges of the outer pixels are -1 and 1.
    scaled = matrices * torch.tensor([2 / width, 2 / height], device=matrices.device).view(2, 1)
    scaled = scaled.to(device)
    x = torch.arange(width, device=device, dtype=torch.float32) - (width - 1) / 2
    y = torch.arange(height, device=device, dtype=torch.float32) - (height - 1) / 2
    across = scaled[:, :, 0, None] * x
    down = scaled[:, :, 1, None] * y + scaled[:, :, 2, None]
    grid = across[:, :, None, :] + down[:, :, :, None]  # (B, 2, H, W)
    if displacements is not None:
        grid += displacements.to(device) * torch.tensor([2 / width, 2 / height], device=device).view(2, 1, 1)
    floats = images.to(torch.float32)
    if fill == "wrap":
        # One more row and column, so that the last pixel has its neighbour, the first.
        floats = F.pad(floats, (0, 1, 0, 1), mode="circular")
        for axis, size in ((0, width), (1, height)):
            pixel = ((grid[:, axis] + 1) * size - 1) / 2 % size
            grid[:, axis] = (2 * pixel + 1) / (size + 1) - 1
    if fill == "constant" and value:
        floats = floats - value
    shown = F.grid_sample(
        floats, grid.permute(0, 2, 3, 1), mode=interpolation, padding_mode=PADDING[fill], align_corners=False
    )
    return shown.add_(value) if fill == "constant" and value else shown


def flip(images: Tensor, chosen: Tensor, axis: int) -> Tensor:
    """Mirror the chosen images along an axis.

    Args:
        images: (B, C, H, W), any dtype.
        chosen: (B,) bool, on the CPU.
        axis: 2 swaps top and bottom, 3 left and right.

    Returns:
        The same shape and dtype.
    """
    rows = chosen.nonzero()[:, 0].to(images.device)
    return images.index_copy(0, rows, images.index_select(0, rows).flip(axis))


def shift(images: Tensor, shifts: Tensor, *, fill: Fill = "nearest", value: int = 0) -> Tensor:
    """Shift by whole pixels.

    Args:
        images: (B, C, H, W), any dtype.
        shifts: (B, 2) int64, pixels down and to the right.
        fill: what lies beyond the border.
        value: of ``constant``.

    Returns:
        The same shape and dtype.
    """
    count, channels, height, width = images.shape
    rows, row_inside = _sources(height, shifts[:, 0], fill)
    columns, column_inside = _sources(width, shifts[:, 1], fill)
    flat = (rows[:, :, None] * width + columns[:, None, :]).view(count, 1, height * width).to(images.device)
    moved = images.reshape(count, channels, height * width).gather(2, flat.expand(-1, channels, -1))
    moved = moved.view(count, channels, height, width)
    if fill == "constant":
        inside = row_inside[:, None, :, None] & column_inside[:, None, None, :]
        moved = moved.masked_fill_(~inside.to(images.device), value)
    return moved


def _sources(size: int, shifts: Tensor, fill: Fill) -> tuple[Tensor, Tensor]:
    """For each place along one axis the place that it shows, and whether that lies inside; (B, size) each."""
    places = torch.arange(size) - shifts[:, None]
    inside = (places >= 0) & (places < size)
    if fill == "wrap":
        places = places % size
    elif fill == "reflect":
        places = places % (2 * size)
        places = torch.minimum(places, 2 * size - 1 - places)
    else:
        places = places.clamp(0, size - 1)
    return places, inside


def elastic_field(noise: Tensor, *, alpha: float, sigma: float) -> Tensor:
    """Smooth random displacements, after Simard, Steinkraus and Platt 2003, section 2.

    Args:
        noise: (B, 2, H, W) float32, uniform from -1 to 1.
        alpha: scale of the displacements.
        sigma: of the Gaussian that smooths them, in pixels, cut off at 4 sigma; beyond the border the noise is zero.

    Returns:
        (B, 2, H, W) float32, in pixels.
    """
    count, axes, height, width = noise.shape
    # Two large products instead of many small ones: first along the rows, then, transposed, along the columns.
    smooth = (noise.reshape(-1, width) @ _gaussian(width, sigma)).view(-1, height, width)
    smooth = smooth.transpose(1, 2).reshape(-1, height) @ _gaussian(height, sigma).mul(alpha)
    return smooth.view(count, axes, width, height).transpose(2, 3)


@cache
def _gaussian(size: int, sigma: float) -> Tensor:
    """(size, size): the matrix that smooths along an axis of that size."""
    radius = int(4 * sigma + 0.5)
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=torch.float64) / sigma) ** 2)
    kernel /= kernel.sum()
    distance = torch.arange(size)[:, None] - torch.arange(size)
    near = kernel[(distance + radius).clamp(0, 2 * radius)]
    return torch.where(distance.abs() <= radius, near, 0).to(torch.float32)


@dataclass(frozen=True, kw_only=True)
class Move:
    """Random flips, and shifts by whole pixels."""

    flip: bool
    flip_vertical: bool
    shift: tuple[float, float] = (0, 0)  # largest, down and across: a fraction of the size, from 1 on pixels
    fill: Fill = "nearest"
    value: int = 0

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """(B, C, H, W), any dtype, to the same."""
        if self.flip:
            images = flip(images, draws.choose(0.5), axis=3)
        if self.flip_vertical:
            images = flip(images, draws.choose(0.5), axis=2)
        if any(self.shift):
            reach = torch.tensor(
                [int(pixels(most, size)) for most, size in zip(self.shift, images.shape[-2:], strict=True)]
            )
            shifts = (draws.uniform(0, 1, 2) * (2 * reach + 1)).to(torch.int64).minimum(2 * reach) - reach
            images = shift(images, shifts, fill=self.fill, value=self.value)
        return images

    def describe(self) -> str:
        """In words."""
        parts = [
            *(["mirrored left to right, half of the images"] if self.flip else []),
            *(["mirrored top to bottom, half of the images"] if self.flip_vertical else []),
            *(
                [f"shifted by whole pixels, {extent(self.shift)}, beyond the border {self.fill}"]
                if any(self.shift)
                else []
            ),
        ]
        return "; ".join(parts)


@dataclass(frozen=True, kw_only=True)
class Warp:
    """Random rotation, shift, shear and zoom, and elastic distortion, in one interpolation.

    The affine part is that of Keras' `ImageDataGenerator`: rotation, then shift, shear and zoom.
    """

    rotation: float = 0  # degrees either way
    shift: tuple[float, float] = (0, 0)  # largest, down and across: a fraction of the size, from 1 on pixels
    shear: float = 0  # degrees either way
    zoom: tuple[float, float] = (1, 1)  # height and width apart; 1.1 shows a tenth more of the scene, 0.9 a tenth less
    elastic: float = 0  # alpha of Simard et al. 2003, who take 34 for 29 x 29 pixels
    elastic_sigma: float = 4  # pixels; 4 in the paper
    fill: Fill = "nearest"
    value: float = 0

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """(B, C, H, W) uint8 or float32 to float32."""
        height, width = images.shape[-2:]
        drawn = draws.uniform(-1, 1, 6) * torch.tensor(
            [
                self.rotation,
                pixels(self.shift[0], height),
                pixels(self.shift[1], width),
                self.shear,
                *((self.zoom[1] - self.zoom[0]) / 2,) * 2,
            ]
        )
        angles, down, across, shears, zoom_height, zoom_width = drawn.unbind(1)
        middle = (self.zoom[0] + self.zoom[1]) / 2
        matrices = keras_matrices(angles, down, across, shears, middle + zoom_height, middle + zoom_width)
        displacements = None
        if self.elastic:
            noise = draws.noise(2, height, width)
            displacements = elastic_field(noise, alpha=self.elastic, sigma=self.elastic_sigma)
        return warp(images, matrices, fill=self.fill, value=self.value, displacements=displacements)

    def describe(self) -> str:
        """In words."""
        parts = [
            *([f"rotated by up to {self.rotation:g} degrees"] if self.rotation else []),
            *([f"shifted {extent(self.shift)}"] if any(self.shift) else []),
            *([f"sheared by up to {self.shear:g} degrees"] if self.shear else []),
            *(
                [f"zoomed by {self.zoom[0]:g} to {self.zoom[1]:g}, height and width apart"]
                if self.zoom != (1, 1)
                else []
            ),
            *([f"elastic distortion, alpha {self.elastic:g}, sigma {self.elastic_sigma:g}"] if self.elastic else []),
        ]
        return f"{'; '.join(parts)}; beyond the border {self.fill}"


def keras_matrices(
    angles: Tensor, down: Tensor, across: Tensor, shears: Tensor, zoom_height: Tensor, zoom_width: Tensor
) -> Tensor:
    """The product rotation x shift x shear x zoom of Keras' `apply_affine_transform`, written out.

    Args:
        angles: degrees.
        down: pixels.
        across: pixels.
        shears: degrees.
        zoom_height: factors.
        zoom_width: factors; all (B,) float32.

    Returns:
        (B, 2, 3) float32.
    """
    angle, shear = torch.deg2rad(angles), torch.deg2rad(shears)
    sine, cosine = torch.sin(angle), torch.cos(angle)
    x = torch.stack([torch.cos(angle + shear) * zoom_width, sine * zoom_height, sine * down + cosine * across], dim=1)
    y = torch.stack(
        [-torch.sin(angle + shear) * zoom_width, cosine * zoom_height, cosine * down - sine * across], dim=1
    )
    return torch.stack([x, y], dim=1)


def pixels(most: float, size: int) -> float:
    """A shift below 1 is a fraction of the size."""
    return most * size if most < 1 else most


def extent(shift: tuple[float, float]) -> str:
    """A shift in words."""
    down, across = (f"{most:.3g} of the size" if most < 1 else f"{most:g} pixels" for most in shift)
    return f"by up to {down}" if shift[0] == shift[1] else f"by up to {down} up or down and {across} to the sides"
