"""Two images made into one, with the objects of both: mixup and copy-paste.

Letters: B images, C channels, H height, W width, M objects of all.
"""

from dataclasses import replace

import torch
from torch import Tensor

from striate.core.instances import InstanceSets
from striate.data.transforms.moved import SMALLEST, boxes_of, gathered
from striate.errors import UsageError
from striate.ops.boxes import at_least

NO_MASKS = (
    "copy-paste cuts objects out along their masks, and the objects of this data have boxes only. "
    "Take data with polygons or masks (COCO, YOLO), or another --augment, such as strong without copy_paste."
)
PICKED = 0.5  # chance of an object to be pasted; Ghiasi et al. 2021, section 3, take "a random subset"
PICKS = 64  # random numbers for the objects of an image; further objects take them again


def mixed(images: Tensor, truths: InstanceSets, partners: Tensor, share: Tensor) -> tuple[Tensor, InstanceSets]:
    """Mixup for detection: blended images, the objects of both; Zhang et al. 2019 (bag of freebies), section 3.1.

    The images keep their geometry. The objects of both count in full: the authors weigh their losses by the shares.

    Args:
        images: (B, C, H, W) uint8, or float32, which is changed in place.
        truths: of the images.
        partners: (B,) int64, on the CPU; an image that is its own partner stays as it is.
        share: (B,) float32, of the image itself; 1: it stays as it is.

    Returns:
        (B, C, H, W) float32, and the truths.
    """
    both = (share < 1) & (partners != torch.arange(len(partners)))
    rows = both.nonzero()[:, 0]
    here, there = rows.to(images.device), partners[rows].to(images.device)
    floats = images.to(torch.float32)
    blended = torch.lerp(floats[there], floats[here], share[rows].to(images.device).view(-1, 1, 1, 1))
    return floats.index_copy_(0, here, blended), gathered(truths, *_pairs(partners, both))[0]


def pasted(
    images: Tensor,
    truths: InstanceSets,
    partners: Tensor,
    chosen: Tensor,
    picks: Tensor,
    min_visible: float,
) -> tuple[Tensor, InstanceSets]:
    """Copy-paste: objects of the partner, cut out along their masks; Ghiasi et al. 2021, section 3.

    Masks and boxes of objects that are covered in part become those of the rest, and a pasted object has the box of its
    mask, for what another hid of it does not come along. An object of which less than
    ``min_visible`` is left goes, where the authors let the smallest rest stay. A covered keypoint becomes a hidden one.
    Nothing is blended, which the authors found to be as good. An object without a mask, in data where others have one,
    is not pasted, and counts as all of its box where others cover it.

    Args:
        images: (B, C, H, W) uint8 or float32.
        truths: of the images, with masks.
        partners: (B,) int64, on the CPU.
        chosen: (B,) bool, images into which is pasted.
        picks: (B, PICKS) float32 from 0 to 1.
        min_visible: share of an object's mask.

    Returns:
        The same shape and dtype, and the truths.

    Raises:
        UsageError: the objects have no masks.
    """
    if truths.masks is None and len(truths.boxes):
        raise UsageError(NO_MASKS)
    objects, parts = gathered(truths, *_pairs(partners, chosen & (partners != torch.arange(len(partners)))))
    if objects.masks is None:
        return images, objects
    number = torch.arange(len(parts)) - objects.offsets[:-1].repeat_interleave(objects.counts)
    picked = picks.to(parts.device)[objects.images, number.to(parts.device) % PICKS] < PICKED
    for flag in (objects.crowd, objects.ignore):
        picked = picked if flag is None else picked & ~flag
    outlines = boxes_of(objects.masks)
    picked &= (parts == 1) & at_least(outlines, SMALLEST)
    bare = outlines[:, 2] == 0
    stay = picked | (parts == 0)
    objects, picked, bare = objects.keep(stay), picked[stay], bare[stay]
    masks, owners = objects.masks, objects.images
    assert masks is not None

    cover = torch.zeros(len(images), *masks.shape[1:], dtype=torch.int16, device=masks.device)
    covered = cover.index_add_(0, owners[picked], masks[picked].to(torch.int16)) > 0
    rows = chosen.nonzero()[:, 0]
    here, there = rows.to(images.device), partners[rows].to(images.device)
    at = covered[rows.to(covered.device)].to(images.device)[:, None]
    images = images.index_copy(0, here, torch.where(at, images[there], images[here]))

    extents = masks.clone()
    extents[bare] = _filled(objects.boxes[bare], masks)
    rest = torch.where(picked[:, None, None], extents, extents & ~covered[owners])
    before, after = extents.flatten(1).sum(1), rest.flatten(1).sum(1)
    changed = (after < before) | picked
    boxes = torch.where(changed[:, None], boxes_of(rest), objects.boxes)
    enough = after >= min_visible * before
    if objects.crowd is not None:
        enough |= objects.crowd
    points = objects.keypoints
    if points is not None:
        x, y = points[..., 0].long(), points[..., 1].long()
        hidden = covered[owners[:, None], y, x] & ~picked[:, None]
        visibility = torch.where(hidden, points[..., 2].clamp(max=1), points[..., 2])
        points = torch.cat((points[..., :2], visibility[..., None]), dim=2)
    objects = replace(objects, masks=rest & masks, boxes=boxes, keypoints=points)
    return images, objects.keep(~changed | (enough & at_least(boxes, SMALLEST)))


def _filled(boxes: Tensor, like: Tensor) -> Tensor:
    """(K, H, W) bool: the pixels whose centres lie in (K, 4) boxes."""
    x1, y1, x2, y2 = boxes[:, :, None].unbind(1)
    x = torch.arange(like.shape[2], device=like.device) + 0.5
    y = torch.arange(like.shape[1], device=like.device) + 0.5
    return ((y >= y1) & (y < y2))[:, :, None] & ((x >= x1) & (x < x2))[:, None]


def _pairs(partners: Tensor, both: Tensor) -> tuple[Tensor, Tensor]:
    """Image and partner, (B, 2), and whether each is used, (B, 2)."""
    own = torch.arange(len(partners))
    return torch.stack((own, partners), dim=1), torch.stack((torch.ones_like(both), both), dim=1)
