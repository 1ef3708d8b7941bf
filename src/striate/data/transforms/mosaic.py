"""Mosaic, and the sampling of several images into one.

Four images meet at a random point (Bochkovskiy et al. 2020, section 3.4), which here lies in the scene that the map of
the result then shows: one map and one interpolation for all four. Each image of a group of four neighbours in the
global batch is the seed of one mosaic with all four in an order of its own; the authors take them from the whole data.

Letters: B images, C channels, H height, W width, G groups, S images of a group.
"""

import itertools
import math
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from striate.data.transforms.affine import magnification
from striate.data.transforms.draws import Draws
from striate.data.transforms.geometry import warp

GROUP = 4  # images of a mosaic: upper left, upper right, lower left, lower right
CENTRE = (0.2, 0.8)  # of width and height: `min_offset` of the authors' darknet
LEVELS = 3  # of a pyramid, at most
FEW = 1 << 20  # pixels that are worked on at a time: more would not stay in the cache


@dataclass(frozen=True, kw_only=True, eq=False)
class Tiles:
    """Which images meet in each scene, and where; on the CPU.

    A scene without a mosaic shows the image itself as its upper left tile, which then has no end.
    """

    sources: Tensor  # (B, 4) int64, rows of this process
    used: Tensor  # (B, 4) bool
    shifts: Tensor  # (B, 4, 2) float32, whole pixels: from a place in the image to that in the scene, x and y
    centre: Tensor  # (B, 2) float32, x and y in pixels of the scene, or infinite
    first: Tensor  # (B,) int64, the row of this process in which the group of each begins

    @property
    def borders(self) -> Tensor:
        """(B, 4, 4) float32: x1, y1, x2, y2 of the tiles; infinite where nothing ends them."""
        x, y = self.centre.unbind(1)
        end = torch.full_like(x, math.inf)
        corners = ((-end, -end, x, y), (x, -end, end, y), (-end, y, x, end), (x, y, end, end))
        return torch.stack([torch.stack(corner, dim=1) for corner in corners], dim=1)

    def rows(self, part: slice) -> "Tiles":
        """Those of whole groups, as if there were no others."""
        start = part.start
        return Tiles(
            sources=self.sources[part] - start,
            used=self.used[part],
            shifts=self.shifts[part],
            centre=self.centre[part],
            first=self.first[part] - start,
        )


def draw_tiles(draws: Draws, probability: float, content: Tensor, size: tuple[int, int]) -> Tiles:
    """The mosaics of a batch.

    Args:
        draws: of the batch; seven numbers are taken for each image.
        probability: of a mosaic.
        content: (B, 2) int64, height and width of each image without its padding right and below.
        size: H, W.
    """
    drawn = draws.uniform(0, 1, 7)
    chosen = drawn[:, :1] < probability
    own = torch.arange(len(drawn))[:, None].expand(-1, GROUP)
    order = drawn[:, 3:].argsort(dim=1)
    members = draws.groups(GROUP)
    sources = torch.where(chosen, members.gather(1, order), own)
    whole = torch.tensor([size[1], size[0]], dtype=torch.float32)
    centre = ((CENTRE[0] + (CENTRE[1] - CENTRE[0]) * drawn[:, 1:3]) * whole).round()
    # The corner of the image itself, not of its padding, lies at the centre.
    left_and_above = torch.tensor([[1, 1], [0, 1], [1, 0], [0, 0]])
    shifts = centre[:, None] - left_and_above * content.flip(1)[sources]
    return Tiles(
        sources=sources,
        used=chosen | (torch.arange(GROUP) == 0),
        shifts=shifts * chosen[:, :, None],
        centre=torch.where(chosen, centre, math.inf),
        first=members.amin(1),
    )


def quadrants(tiles: Tiles, inverse: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, H, W) uint8: which tile each pixel of the result shows.

    Args:
        tiles: B of them.
        inverse: (B, 2, 3) float32, from the result to the scene.
        size: H, W.
    """
    east, south = _sides(*_places(inverse, size), tiles.centre.to(inverse.device))
    return east.to(torch.uint8) + 2 * south.to(torch.uint8)


def pyramid_levels(shrinks: float) -> int:
    """How often an image must be halved so that bilinear sampling, which sees two pixels, leaves none out."""
    return min(LEVELS, max(0, math.ceil(math.log2(shrinks)) - 1))


def show(images: Tensor, inverse: Tensor, *, fill: int, tiles: Tiles | None = None, levels: int = 0) -> Tensor:
    """Show scenes through their maps, bilinear.

    An image that becomes smaller is first halved as often as its map allows, by means of four pixels, so that small
    things do not flicker in and out of sight.

    Args:
        images: (B, C, H, W) uint8 or float32.
        inverse: (B, 2, 3) float32, from the result to the scene, as in `geometry.warp`.
        fill: what lies beyond the border.
        tiles: which images are where in the scenes; None: each scene is one image.
        levels: how often an image may be halved.

    Returns:
        (B, C, H, W) float32.
    """
    count, _, height, width = images.shape
    if images.device.type != "cpu":
        return _show(images, inverse, fill, tiles, levels)
    starts = list(range(count)) if tiles is None else tiles.first.unique_consecutive().tolist()
    # Whole groups, a few at a time.
    starts = [*starts[:: max(1, FEW // (height * width * (1 if tiles is None else GROUP)))], count]
    shown = torch.empty(images.shape, dtype=torch.float32)
    for part in itertools.starmap(slice, pairwise(starts)):
        shown[part] = _show(images[part], inverse[part], fill, tiles and tiles.rows(part), levels)
    return shown


def _show(images: Tensor, inverse: Tensor, fill: int, tiles: Tiles | None, levels: int) -> Tensor:
    """All of what `show` does."""
    if tiles is None and levels == 0:
        return warp(images, inverse, fill="constant", value=fill)
    count, channels, height, width = images.shape
    device = images.device
    own = torch.arange(count)
    group_size, first = (1, own) if tiles is None else (GROUP, tiles.first)
    group, slot = first.unique_consecutive(return_inverse=True)[1], own - first
    groups = int(group[-1]) + 1
    full = count == groups * group_size

    # A group's images, then their halves, lie below each other in one tall image, each in a frame of `fill`.
    pyramid = [images.to(torch.float32)]
    for _ in range(levels):
        odd = F.pad(pyramid[-1], (0, pyramid[-1].shape[3] % 2, 0, pyramid[-1].shape[2] % 2), value=fill)
        pyramid.append(F.avg_pool2d(odd, 2))
    rows = [level.shape[2] + 2 for level in pyramid]
    starts = [group_size * sum(rows[:level]) for level in range(levels + 1)]
    tall = torch.full((groups, channels, group_size * sum(rows), width + 2), float(fill), device=device)
    for level, start, high in zip(pyramid, starts, rows, strict=True):
        part = tall[:, :, start : start + group_size * high].unflatten(2, (group_size, high))
        part = part[..., 1:-1, 1 : level.shape[3] + 1].transpose(1, 2)  # (G, S, C, h, w)
        if full:
            part.copy_(level.view(groups, group_size, *level.shape[1:]))
        else:
            part[group.to(device), slot.to(device)] = level

    # From a place in the result to one in the scene, in the image, in its half, in the tall image.
    chosen = torch.log2(magnification(inverse)).clamp(0, levels).floor().long()
    smaller = 0.5**chosen
    highs, begins = torch.tensor(rows)[chosen], torch.tensor(starts)[chosen]
    wides = torch.tensor([level.shape[3] for level in pyramid])[chosen]
    x, y = _places(inverse.to(device), (height, width))
    if tiles is None:
        across, down, top = torch.zeros(()), torch.zeros(()), begins + 1.0
        across, down, top = across.to(device), down.to(device), top.to(device)[:, None, None]
    else:
        east, south = _sides(x, y, tiles.centre.to(device))
        tops = begins[:, None] + (tiles.sources - first[:, None]) * highs[:, None] + 1
        table = torch.cat((tiles.shifts, tops[:, :, None]), dim=2).to(device)[..., None, None].unbind(1)
        fields: list[Tensor] = []
        for upper_left, upper_right, lower_left, lower_right in zip(*(tile.unbind(1) for tile in table), strict=True):
            fields.append(
                torch.where(
                    south, torch.where(east, lower_right, lower_left), torch.where(east, upper_right, upper_left)
                )
            )
        across, down, top = fields
    smaller, wides, highs = (values.to(device)[:, None, None] for values in (smaller, wides, highs))
    grid = torch.empty(count, height, width, 2, device=device)
    x = ((x - across) * smaller).sub_(0.5).clamp_(min=-1).minimum(wides).add_(1.5)
    torch.sub(x.mul_(2 / tall.shape[3]), 1, out=grid[..., 0])
    y = ((y - down) * smaller).sub_(0.5).clamp_(min=-1).minimum(highs - 2).add_(top).add_(0.5)
    torch.sub(y.mul_(2 / tall.shape[2]), 1, out=grid[..., 1])

    place = (group * group_size + slot).to(device)
    if not full:
        grid = grid.new_zeros(groups * group_size, height, width, 2).index_copy_(0, place, grid)
    grid = grid.view(groups, group_size * height, width, 2)
    sampled = F.grid_sample(tall, grid, mode="bilinear", padding_mode="border", align_corners=False)
    sampled = sampled.view(groups, channels, group_size, height, width).transpose(1, 2).flatten(0, 1)
    return sampled if full else sampled[place]


def _places(inverse: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The place in the scene of each pixel's centre, x and y in pixels; each (B, H, W)."""
    height, width = size
    x = torch.arange(width, device=inverse.device, dtype=torch.float32) - (width - 1) / 2
    y = torch.arange(height, device=inverse.device, dtype=torch.float32) - (height - 1) / 2
    across = inverse[:, :, 0, None] * x
    down = inverse[:, :, 1, None] * y + inverse[:, :, 2, None]
    down += torch.tensor([[width / 2], [height / 2]], device=inverse.device)
    return across[:, 0, None, :] + down[:, 0, :, None], across[:, 1, None, :] + down[:, 1, :, None]


def _sides(x: Tensor, y: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
    """Whether places lie right of the centre, and below it: (B, H, W) bool each."""
    return x >= centre[:, 0, None, None], y >= centre[:, 1, None, None]
