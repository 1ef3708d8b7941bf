"""Affine maps of whole scenes, each image with its own: drawn, joined, turned round, applied to boxes and points.

A map takes a place in the input to where it is shown in the output; the matrices of `geometry.warp` are the inverse of
it. Places are (x, y) in pixels from the centre of the image, those of boxes and points from its upper left corner.
Letters: B images or maps, M boxes, P points, H height, W width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from striate.data.transforms.draws import Draws
from striate.data.transforms.geometry import extent, pixels

EXPANDED = 0.5  # of the images; Liu et al. 2016 give the rule, their published configuration the share


def joined(first: Tensor, then: Tensor) -> Tensor:
    """(B, 2, 3) and (B, 2, 3) to the one map that does both, in that order."""
    # Written out, not a matrix product, whose rounding may depend on how many there are.
    product = then[:, :, 0, None] * first[:, 0, None] + then[:, :, 1, None] * first[:, 1, None]
    product[:, :, 2] += then[:, :, 2]
    return product


def inverted(maps: Tensor) -> Tensor:
    """(B, 2, 3) to the maps that lead back."""
    (a, b, right), (c, d, down) = (row.unbind(1) for row in maps.unbind(1))
    factor = 1 / (a * d - b * c)
    return torch.stack(
        (
            torch.stack((d, -b, b * down - d * right), dim=1) * factor[:, None],
            torch.stack((-c, a, c * right - a * down), dim=1) * factor[:, None],
        ),
        dim=1,
    )


def magnification(maps: Tensor) -> Tensor:
    """(B,): how much longer a line becomes, on the average of all directions (the square root of the area's factor)."""
    return (maps[:, 0, 0] * maps[:, 1, 1] - maps[:, 0, 1] * maps[:, 1, 0]).abs().sqrt()


def map_points(maps: Tensor, points: Tensor, size: tuple[int, int]) -> Tensor:
    """Where points are shown.

    Args:
        maps: (M, 2, 3) float32.
        points: (M, P, 2) float32, x and y.
        size: H, W.

    Returns:
        (M, P, 2) float32.
    """
    middle = torch.tensor([size[1] / 2, size[0] / 2], device=points.device)
    x, y = (points - middle).unsqueeze(2).unbind(3)
    return maps[:, None, :, 0] * x + maps[:, None, :, 1] * y + (maps[:, None, :, 2] + middle)


def map_boxes(maps: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """The smallest upright boxes around where boxes are shown.

    Args:
        maps: (M, 2, 3) float32.
        boxes: (M, 4) float32.
        size: H, W.

    Returns:
        (M, 4) float32, not cut off.
    """
    corners = map_points(maps, boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].view(-1, 4, 2), size)
    return torch.cat((corners.amin(1), corners.amax(1)), dim=1)


def within(maps: Tensor, frames: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps of the upper left part of an image, as maps of all of it.

    Args:
        maps: (B, 2, 3) float32, of places counted from the centre of the part.
        frames: (B, 2) int64, height and width of the part.
        size: H, W.

    Returns:
        (B, 2, 3) float32, of places counted from the centre of the image.
    """
    x, y = ((frames - torch.tensor(size, device=frames.device)).flip(1).float() / 2).to(maps.device).unbind(1)
    moved = maps.clone()
    moved[:, 0, 2] += x - (maps[:, 0, 0] * x + maps[:, 0, 1] * y)
    moved[:, 1, 2] += y - (maps[:, 1, 0] * x + maps[:, 1, 1] * y)
    return moved


def window_maps(windows: Tensor, size: tuple[int, int] | Tensor) -> Tensor:
    """The maps that show a window only, as large as the image.

    Args:
        windows: (B, 4) float32, x1, y1, x2, y2 in pixels.
        size: H, W, of all or (B, 2) of each.

    Returns:
        (B, 2, 3) float32.
    """
    whole = torch.as_tensor(size, dtype=torch.float32, device=windows.device).flip(-1)
    first, last = windows.split(2, dim=1)
    factor = whole / (last - first)
    offset = (whole - first - last) / 2 * factor
    maps = torch.zeros(len(windows), 2, 3, device=windows.device)
    maps[:, 0, 0], maps[:, 1, 1], maps[:, :, 2] = factor[:, 0], factor[:, 1], offset
    return maps


def affine_maps(angles: Tensor, shears: Tensor, scales: Tensor, mirrors: Tensor, shifts: Tensor) -> Tensor:
    """Mirror, then scale, shear, rotate (as torchvision's `affine` does) and shift.

    Args:
        angles: (B,) float32, degrees, clockwise.
        shears: (B,) float32, degrees, along x.
        scales: (B,) float32.
        mirrors: (B, 2) float32, -1 swaps left and right, top and bottom.
        shifts: (B, 2) float32, pixels to the right and down.

    Returns:
        (B, 2, 3) float32.
    """
    angle = torch.deg2rad(angles)
    sine, cosine, slant = torch.sin(angle), torch.cos(angle), torch.tan(torch.deg2rad(shears))
    across, down = (scales[:, None] * mirrors).unbind(1)
    x = torch.stack((cosine * across, (-sine - cosine * slant) * down, shifts[:, 0]), dim=1)
    y = torch.stack((sine * across, (cosine - sine * slant) * down, shifts[:, 1]), dim=1)
    return torch.stack((x, y), dim=1)


@dataclass(frozen=True, kw_only=True)
class Motion:
    """Random mirroring, scale jitter, rotation, shear and shift, then expansion: one map for each image.

    Scale jitter is that of Ghiasi et al. 2021, section 3: an enlarged image is cut out anywhere, one made smaller lies
    anywhere. Expansion is that of Liu et al. 2016, section 3.6: half of the images are placed anywhere on a canvas
    up to `expand` times as wide and high.
    """

    flip: bool = False
    flip_vertical: bool = False
    rotation: float = 0  # degrees either way
    shear: float = 0  # degrees either way
    scale: tuple[float, float] = (1, 1)  # above 1 things become larger
    shift: tuple[float, float] = (
        0,
        0,
    )  # largest, down and across: a fraction of the size, from 1 on pixels; whole ones
    expand: float = 1

    @property
    def turns(self) -> bool:
        """Whether an upright box may not stay upright."""
        return bool(self.rotation or self.shear)

    @property
    def shrinks(self) -> float:
        """How many times smaller things can become."""
        return max(1, self.expand / self.scale[0])

    def draw(self, draws: Draws, frames: Tensor, placed: Tensor) -> tuple[Tensor, Tensor]:
        """One map for each image.

        Args:
            draws: of the batch; thirteen numbers are taken for each image, whatever is on.
            frames: (B, 2) int64, on the CPU: height and width of the images.
            placed: (B,) bool, images that scale jitter leaves in their middle.

        Returns:
            (B, 2, 3) float32, and those that only mirror.
        """
        drawn = draws.uniform(0, 1, 13)
        whole = frames.flip(1).float()
        mirrors = 1 - 2 * ((drawn[:, :2] < 0.5) & torch.tensor([self.flip, self.flip_vertical])).float()
        either_way = drawn * 2 - 1
        scales = self.scale[0] + drawn[:, 4] * (self.scale[1] - self.scale[0])
        reach = torch.tensor([[pixels(self.shift[1], w), pixels(self.shift[0], h)] for h, w in frames.tolist()])
        room = (scales - 1).abs().masked_fill(placed, 0)[:, None] * whole / 2
        maps = affine_maps(
            either_way[:, 2] * self.rotation,
            either_way[:, 3] * self.shear,
            scales,
            mirrors,
            either_way[:, 5:7] * room + (either_way[:, 7:9] * reach).round(),
        )
        still = torch.zeros(len(drawn))
        mirrored = affine_maps(still, still, still + 1, mirrors, torch.zeros(len(drawn), 2))
        if self.expand > 1:
            ratio = 1 + (drawn[:, 9] < EXPANDED) * drawn[:, 10] * (self.expand - 1)
            canvas = torch.zeros(len(drawn), 2, 3)
            canvas[:, 0, 0] = canvas[:, 1, 1] = 1 / ratio
            canvas[:, :, 2] = (1 - 1 / ratio)[:, None] * whole * (drawn[:, 11:13] - 0.5)
            maps = joined(maps, canvas)
        return maps, mirrored

    def describe(self) -> list[str]:
        """In words, one line for each part."""
        return [
            *(["mirrored left to right, half of the images"] if self.flip else []),
            *(["mirrored top to bottom, half of the images"] if self.flip_vertical else []),
            *([f"scaled by {self.scale[0]:g} to {self.scale[1]:g}, placed anywhere"] if self.scale != (1, 1) else []),
            *([f"rotated by up to {self.rotation:g} degrees"] if self.rotation else []),
            *([f"sheared by up to {self.shear:g} degrees"] if self.shear else []),
            *([f"shifted by whole pixels, {extent(self.shift)}"] if any(self.shift) else []),
            *(
                [f"half of the images on a canvas up to {self.expand:g} times as wide and high"]
                if self.expand > 1
                else []
            ),
        ]
