"""Objects that move with their images.

Letters: B images, M objects of all, S tiles of a scene, H, W height and width.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from striate.core.instances import InstanceSets, Skeleton
from striate.data.transforms.affine import inverted, map_boxes, map_points
from striate.data.transforms.geometry import warp
from striate.data.transforms.mosaic import Tiles, quadrants
from striate.ops.boxes import area, at_least, clip

SMALLEST = 2  # pixels: the side of the smallest object that is still taught
AGREED = 2  # pixels: a box this near to that of its mask is one
FEW = 1 << 23  # pixels of masks that are moved at a time


def gathered(truths: InstanceSets, sources: Tensor, used: Tensor) -> tuple[InstanceSets, Tensor]:
    """The objects of several images each, as those of one.

    Args:
        truths: of the images.
        sources: (B, S) int64, on the CPU: images.
        used: (B, S) bool, on the CPU: which of them count.

    Returns:
        B images without `shapes`, and (M,) int64: which of the S each object comes from.
    """
    chosen = replace(truths, shapes=None).select(sources[used])
    counts = torch.zeros(used.shape, dtype=torch.int64)
    counts[used] = chosen.counts
    offsets = torch.cat((torch.zeros(1, dtype=torch.int64), counts.sum(1).cumsum(0)))
    parts = torch.arange(used.shape[1]).expand(used.shape)[used].repeat_interleave(chosen.counts)
    return replace(chosen, offsets=offsets), parts.to(truths.boxes.device)


@dataclass(frozen=True, kw_only=True, eq=False)
class Scenes:
    """Objects in their scenes, before the map of each scene."""

    objects: InstanceSets  # boxes in pixels of the scene, cut off where their tile ends; masks still of the image
    whole: Tensor  # (M, 4) float32: the boxes, not cut off
    tiles: Tiles | None
    parts: Tensor  # (M,) int64: the tile of each object
    frames: Tensor | None = None  # (B, 2) int64: height and width of what is shown, to the padding; None: all

    @staticmethod
    def of(truths: InstanceSets, tiles: Tiles | None, frames: Tensor | None = None) -> "Scenes":
        """The scenes of images, or of the mosaics of images."""
        frames = None if frames is None else frames.to(truths.boxes.device)
        if tiles is None:
            parts = torch.zeros(len(truths.boxes), dtype=torch.int64, device=truths.boxes.device)
            objects = replace(truths, shapes=None)
            return Scenes(objects=objects, whole=truths.boxes, tiles=None, parts=parts, frames=frames)
        objects, parts = gathered(truths, tiles.sources, tiles.used)
        images = objects.images
        shift = tiles.shifts.to(parts.device)[images, parts]
        borders = tiles.borders.to(parts.device)[images, parts]
        whole = objects.boxes + shift.repeat(1, 2)
        inner = torch.maximum(whole.view(-1, 2, 2), borders[:, None, :2])
        inner = torch.minimum(inner, borders[:, None, 2:]).flatten(1)
        points = objects.keypoints
        if points is not None:
            places = points[..., :2] + shift[:, None]
            inside = (places >= borders[:, None, :2]).all(2) & (places < borders[:, None, 2:]).all(2)
            points = torch.cat((places, (points[..., 2] * inside)[..., None]), dim=2)
        objects = replace(objects, boxes=inner, keypoints=points)
        return Scenes(objects=objects, whole=whole, tiles=tiles, parts=parts, frames=frames)

    def boxes(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """(M, 4) float32: around where the objects are shown, cut off at the border of the image."""
        images = self.objects.images
        return clip(map_boxes(maps[images], self.objects.boxes, size), self._limits(size)[images].flip(-1))

    def stay(self, maps: Tensor, size: tuple[int, int], *, centred: Tensor, min_visible: float) -> Tensor:
        """Which objects stay.

        Args:
            maps: (B, 2, 3) float32, on the device of the boxes.
            size: H, W.
            centred: (B,) bool: images in which an object needs its centre inside, not `min_visible`.
            min_visible: share of an object's box.

        Returns:
            (M,) bool.
        """
        images = self.objects.images
        mapped = map_boxes(maps[images], self.objects.boxes, size)
        limits = self._limits(size)[images]
        seen = clip(mapped, limits.flip(-1))
        shown = area(seen) >= min_visible * area(map_boxes(maps[images], self.whole, size))
        centre = (mapped[:, :2] + mapped[:, 2:]) / 2
        inside = ((centre > 0) & (centre < limits)).all(1)
        shown = torch.where(centred[images], inside, shown)
        if self.objects.crowd is not None:
            shown |= self.objects.crowd  # what is left of a crowd is a crowd
        return shown & at_least(seen, SMALLEST)

    def shown(
        self,
        maps: Tensor,
        size: tuple[int, int],
        stay: Tensor | None,
        *,
        skeleton: Skeleton | None,
        tight: bool,
    ) -> InstanceSets:
        """The objects as the maps show them.

        Args:
            maps: (B, 2, 3) float32, on the device of the boxes.
            size: H, W.
            stay: (M,) bool, those that are left; None: all.
            skeleton: whose names of left and right change places in a mirror.
            tight: take the box of the mask where the box was that of the mask before; for maps that turn.
        """
        objects, parts = self.objects, self.parts
        objects = replace(objects, boxes=self.boxes(maps, size))
        agreed = None
        if tight and objects.masks is not None:
            agreed = ((boxes_of(objects.masks) - self._in_image()).abs() <= AGREED).all(1)
        if stay is not None:
            objects, parts = objects.keep(stay), parts[stay]
            agreed = agreed if agreed is None else agreed[stay]
        images = objects.images
        points = objects.keypoints
        if points is not None:
            objects = replace(
                objects, keypoints=_moved_points(points, maps[images], size, self._limits(size)[images], skeleton)
            )
        if objects.masks is None:
            return objects
        back = inverted(maps)
        inverse = back[images]
        if self.tiles is not None:
            inverse[:, :, 2] -= self.tiles.shifts.to(parts.device)[images, parts]
        masks = _moved_masks(objects.masks, inverse)
        if self.tiles is not None:
            masks &= quadrants(self.tiles, back, size)[images] == parts[:, None, None]
        if self.frames is not None:
            high, wide = self.frames[images].unbind(1)
            masks &= torch.arange(size[0], device=masks.device)[:, None] < high[:, None, None]
            masks &= torch.arange(size[1], device=masks.device) < wide[:, None, None]
        objects = replace(objects, masks=masks)
        if agreed is None:
            return objects
        outlines = boxes_of(masks)
        objects = replace(
            objects,
            boxes=torch.where(agreed[:, None] & (outlines[:, 2:] > 0).all(1, keepdim=True), outlines, objects.boxes),
        )
        return objects if stay is None else objects.keep(at_least(outlines, SMALLEST) | ~agreed)

    def _limits(self, size: tuple[int, int]) -> Tensor:
        """(B, 2) float32: the largest x and y that are shown."""
        device = self.parts.device
        frames = torch.tensor(size, device=device).expand(len(self.objects), 2) if self.frames is None else self.frames
        return frames.flip(1).float()

    def _in_image(self) -> Tensor:
        """(M, 4) float32: the boxes in the images that the objects come from."""
        if self.tiles is None:
            return self.whole
        return self.whole - self.tiles.shifts.to(self.parts.device)[self.objects.images, self.parts].repeat(1, 2)


def boxes_of(masks: Tensor) -> Tensor:
    """(M, H, W) bool to the (M, 4) float32 boxes around them; all 0 around nothing."""
    sides: list[Tensor] = []
    for line in (masks.any(1), masks.any(2)):  # columns, then rows
        first = line.to(torch.uint8).argmax(1)
        last = line.shape[1] - line.flip(1).to(torch.uint8).argmax(1)
        sides.append(torch.stack((first, last), dim=1) * line.any(1, keepdim=True))
    return torch.stack(sides, dim=2).flatten(1).to(torch.float32)


def _moved_points(
    points: Tensor, maps: Tensor, size: tuple[int, int], limits: Tensor, skeleton: Skeleton | None
) -> Tensor:
    """Keypoints through their maps; (0, 0, 0) where they are no longer in the image."""
    if skeleton is not None:
        mirrored = maps[:, 0, 0] * maps[:, 1, 1] < maps[:, 0, 1] * maps[:, 1, 0]
        renamed = torch.tensor(skeleton.flips, device=points.device).argsort()
        points = torch.where(mirrored[:, None, None], points[:, renamed], points)
    places = map_points(maps, points[..., :2], size)
    inside = ((places >= 0) & (places < limits[:, None])).all(2)
    return torch.cat((places, points[..., 2:]), dim=2) * (inside & (points[..., 2] > 0))[..., None]


def _moved_masks(masks: Tensor, inverse: Tensor) -> Tensor:
    """(M, H, W) bool through (M, 2, 3) inverse maps, to the nearest pixel."""
    moved = torch.empty_like(masks)
    few = max(1, FEW // (masks.shape[1] * masks.shape[2]))
    for start in range(0, len(masks), few):
        part = slice(start, start + few)
        floats = warp(masks[part, None].float(), inverse[part], fill="constant", interpolation="nearest")
        moved[part] = floats[:, 0] > 0
    return moved
