"""Proposals that nobody learns: regions of an image that may be objects, from its colours or from a grid.

R-CNN and Fast R-CNN take them from outside (Girshick et al. 2014, section 2.1; Girshick 2015, section 2.1): selective
search in the papers. It needs OpenCV's contributed modules, an extra. Sliding windows of several sizes and shapes need
nothing and find nothing: they are everywhere.

Letters: B images, N proposals of one image.
"""

import importlib
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch import Tensor

from striate.errors import UsageError

INSTALL = "pip install 'striate[selective-search]'"


class Proposer(Protocol):
    """Proposes regions of images."""

    @property
    def name(self) -> str:
        """What it is, for people."""
        ...

    def __call__(self, images: Tensor, sizes: Tensor) -> list[Tensor]:
        """Regions of each image.

        Args:
            images: (B, C, H, W) float32, normalised.
            sizes: (B, 2) int64, height and width of what is image; what lies right of it and below is padding.

        Returns:
            B times (N, 4) float32 boxes within ``sizes``, on the device of the images.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class SlidingWindows:
    """Windows of several sizes and shapes, a step apart that is a part of their own side, the same for all images.

    The last window of a row and a column ends at the border. With the numbers here every box of a shape between 1:2 and
    2:1 and at least an eighth of the image's shorter side has a window with which it overlaps by half or more.
    """

    scales: tuple[float, ...] = tuple(2 ** (place / 2 - 3) for place in range(7))  # 1/8 to 1 of the shorter side
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)  # height over width
    step: float = 0.25  # of a window's sides

    @property
    def name(self) -> str:
        """What it is, for people."""
        return "sliding windows"

    def __call__(self, images: Tensor, sizes: Tensor) -> list[Tensor]:
        """As `Proposer`."""
        limits: list[tuple[int, int]] = [(height, width) for height, width in sizes.tolist()]
        return [_windows(self, size).to(images.device) for size in limits]


@lru_cache(maxsize=64)
def _windows(numbers: SlidingWindows, size: tuple[int, int]) -> Tensor:
    parts: list[Tensor] = []
    with torch.inference_mode(False):  # what is kept may be learnt from later
        for scale in numbers.scales:
            for ratio in numbers.ratios:
                sides = (scale * min(size) * math.sqrt(ratio), scale * min(size) / math.sqrt(ratio))
                height, width = (min(side, limit) for side, limit in zip(sides, size, strict=True))
                y, x = (
                    torch.linspace(0, limit - side, 1 + math.ceil((limit - side) / (numbers.step * side)))
                    for side, limit in zip((height, width), size, strict=True)
                )
                top, left = torch.meshgrid(y, x, indexing="ij")
                corner = torch.stack((left, top), dim=-1).reshape(-1, 2)
                parts.append(torch.cat((corner, corner + torch.tensor([width, height])), dim=1))
    return torch.cat(parts)


@dataclass(frozen=True, kw_only=True)
class SelectiveSearch:
    """Regions that grow together by likeness (Uijlings, van de Sande, Gevers, Smeulders 2013), by OpenCV.

    Each image's channels are stretched to 0 to 255 first, since what is normalised is no picture. The same image gives
    the same regions.

    Raises:
        UsageError: when it is first asked, where OpenCV's contributed modules are not installed.
    """

    quality: bool = False  # the slower strategy with more regions; Girshick et al. 2014 use the fast one
    limit: int = 2000  # about as many as the papers have, the largest
    smallest: int = 8  # pixels: what is narrower or lower is left out

    @property
    def name(self) -> str:
        """What it is, for people."""
        return "selective search"

    def __call__(self, images: Tensor, sizes: Tensor) -> list[Tensor]:
        """As `Proposer`; an image in which nothing is found is one region, one without values has the most."""
        if images.is_meta:
            return [images.new_empty(self.limit, 4) for _ in range(len(images))]
        search = _opencv()
        limits: list[list[int]] = sizes.tolist()
        found: list[Tensor] = []
        for image, (height, width) in zip(images.detach().float().cpu(), limits, strict=True):
            picture = image[:, :height, :width]
            low, high = picture.amin(dim=(1, 2), keepdim=True), picture.amax(dim=(1, 2), keepdim=True)
            scaled = (picture - low) / (high - low).clamp(min=1e-6) * 255
            colours = scaled[torch.arange(3) % len(scaled)].byte().permute(1, 2, 0).contiguous()
            engine = search.createSelectiveSearchSegmentation()
            engine.setBaseImage(colours.numpy())
            if self.quality:
                engine.switchToSelectiveSearchQuality()
            else:
                engine.switchToSelectiveSearchFast()
            # OpenCV's own order is drawn at random.
            regions = sorted({(-w * h, x, y, w, h) for x, y, w, h in engine.process().tolist()})
            boxes = [[x, y, x + w, y + h] for _, x, y, w, h in regions if min(w, h) >= self.smallest][: self.limit]
            found.append(torch.tensor(boxes or [[0, 0, width, height]], dtype=torch.float32, device=images.device))
        return found


def _opencv() -> Any:
    """OpenCV's segmentation module."""
    try:
        return importlib.import_module("cv2").ximgproc.segmentation
    except (ImportError, AttributeError) as error:
        raise UsageError(
            "selective search needs OpenCV with its contributed modules, which is not installed: "
            f"{INSTALL}, or take the detector of the same name with sliding windows, such as fast_rcnn_windows."
        ) from error
