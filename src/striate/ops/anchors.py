"""Boxes of given sizes and shapes around every place of a pyramid's maps.

Faster R-CNN (Ren et al. 2015, section 3.1.1) has them on one map, FPN (Lin et al. 2017, section 4.1) on many. Points,
as FCOS wants them, are the centres of anchors as large as a step of their map.

Placement and rounding are torchvision's, so that weights trained there find the same anchors here:
- an anchor's centre is the upper left corner of its place's cell (`Anchors.centre` 0), not the cell's middle;
- its sides are rounded so that the corners of one around (0, 0) are whole pixels;
- a map's step is the input's side over the map's, rounded down: 48 pixels where 96 pixels give a map of 2.

Letters: L levels, A anchors per place, M anchors of all levels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from striate.core.instances import Assigned


@dataclass(frozen=True, kw_only=True)
class Anchors:
    """The anchors of a detector, whatever the size of its input."""

    sizes: tuple[
        tuple[float, ...], ...
    ]  # of each level, fine to coarse: sides of squares of the anchors' areas, pixels
    ratios: tuple[float, ...]  # height over width, the same on all levels
    whole: bool = True  # around (0, 0) the corners are whole pixels
    centre: float = 0.0  # where in its cell an anchor's centre lies, in steps: 0.5 is the middle

    @property
    def per_place(self) -> int:
        """A: ratio after ratio, and of each ratio size after size."""
        return len(self.ratios) * len(self.sizes[0])

    def on(self, size: tuple[int, int], maps: Sequence[tuple[int, int]], device: torch.device | str) -> Tensor:
        """All anchors for an input of ``size``, made once and kept: not to be changed in place.

        Args:
            size: height and width of the input in pixels.
            maps: height and width of each of the L maps.
            device: for the result.

        Returns:
            (M, 4) float32, x1, y1, x2, y2: level after level, of each row after row, and at each place its A anchors.
        """
        return _on(self, (int(size[0]), int(size[1])), tuple((int(h), int(w)) for h, w in maps), str(device))

    def counts(self, maps: Sequence[tuple[int, int]]) -> list[int]:
        """How many of the M anchors each of the L maps has."""
        return [height * width * self.per_place for height, width in maps]


def assigned(kind: str, anchors: Tensor, matched: Tensor, counts: Sequence[int]) -> Assigned:
    """Which anchors answer for which object of an image.

    Args:
        kind: the detector's word for them.
        anchors: (M, 4).
        matched: (M,) int64, the object of each; below 0 none.
        counts: anchors of each level.
    """
    rows = (matched >= 0).nonzero()[:, 0]
    levels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts)).to(rows.device)
    return Assigned(kind=kind, boxes=anchors[rows], objects=matched[rows], levels=levels[rows])


@lru_cache(maxsize=64)
def _on(anchors: Anchors, size: tuple[int, int], maps: tuple[tuple[int, int], ...], device: str) -> Tensor:
    levels: list[Tensor] = []
    with torch.inference_mode(False):  # what is kept may be learnt from later
        for sides, (height, width) in zip(anchors.sizes, maps, strict=True):
            tall = torch.tensor(anchors.ratios, device=device)[:, None].sqrt()
            side = torch.tensor(sides, device=device, dtype=torch.float32)
            half = torch.stack(((side / tall).flatten(), (side * tall).flatten()), dim=1) / 2
            cell = torch.cat((-half, half), dim=1)
            if anchors.whole:
                cell = cell.round()
            x = (torch.arange(width, device=device) + anchors.centre) * (size[1] // width)
            y = (torch.arange(height, device=device) + anchors.centre) * (size[0] // height)
            rows, columns = torch.meshgrid(y, x, indexing="ij")
            places = torch.stack((columns, rows, columns, rows), dim=-1)
            levels.append((places[:, :, None] + cell).reshape(-1, 4))
        return torch.cat(levels)
