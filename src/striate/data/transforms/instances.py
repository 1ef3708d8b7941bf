"""Augmentation that moves the truth along: boxes, masks and keypoints with their images.

The policies, by the names that those of `policy` have:

    none        nothing
    light       mirrored; shifted by up to a tenth; brightness and contrast by up to a fifth
    standard    mirrored; scaled by 0.5 to 1.5; shifted; brightness, contrast and saturation by up to 0.4
    strong      as standard, with mosaic for half of the images, mixup for 0.15 of them and, where the data has masks,
                copy-paste for 0.3 of them
    geometric   rotated and sheared by up to 10 degrees, scaled by 0.9 to 1.1, shifted by up to a tenth
    ssd         Liu et al. 2016: photometric distortion, expansion, IoU crop, mirrored
    copy-paste  Ghiasi et al. 2021: mirrored; scaled by 0.1 to 2; objects of one other image pasted. Needs masks

Any option can be overridden, as in ``strong(rotation=5, mosaic=1, copy_paste=0.3)``.

In this order: colour; mosaic; mirror, scale, shear, rotation, shift, expansion and IoU crop, which are one map and one
interpolation for each image; copy-paste; mixup; normalisation. Beyond the border is the padding's `fill`.

An image that was fitted with padding moves in its own frame, as if it were padded afterwards: a mirrored one stays in
the upper left corner, nothing is shown in the padding, and it is known what is image. A mosaic fills the whole canvas;
of two images made into one, it is the larger height and width.

Which objects stay. An object stays while at least `min_visible` (0.3) of the area of its box is in the image and what
is in the image is at least 2 pixels wide and high; its box is cut off at the border. In an image that an IoU crop cut,
its centre has to be inside instead, as in the paper. What is left of a crowd stays, however little. A box that a
rotation or shear turns becomes the upright box around it, or, where it was the box of the object's mask (to 2 pixels),
the box of the mask. Keypoints that leave the image become (0, 0, 0), which stands for not labelled.

Masks are those that the data states as polygons or runs; they are drawn for a batch when copy-paste or a turn needs
them. An object under pasted ones keeps the visible part of its mask, and the box around that; with less than
`min_visible` of its mask to be seen it goes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from striate.core.instances import InstanceSets, Skeleton
from striate.data.transforms.affine import Motion, inverted, joined, window_maps, within
from striate.data.transforms.blending import NO_MASKS, PICKS, mixed, pasted
from striate.data.transforms.colour import ColourJitter
from striate.data.transforms.draws import Draws
from striate.data.transforms.iou_crop import chosen_crops, draw_crops
from striate.data.transforms.mosaic import GROUP, draw_tiles, pyramid_levels, show
from striate.data.transforms.moved import Scenes
from striate.data.transforms.policy import Factors, Step, parse
from striate.errors import UsageError

MIXUP_ALPHA = 1.5  # Zhang et al. 2019, section 3.1: Beta(1.5, 1.5) was better than Beta(1, 1)


@dataclass(frozen=True, kw_only=True)
class InstanceOptions:
    """Everything that a policy can do; the defaults do nothing."""

    flip: bool = False  # left to right, half of the images
    flip_vertical: bool = False
    scale: Factors = (1, 1)  # above 1 things become larger; 0.5 stands for 0.5..1.5, here and below
    rotation: float = 0  # degrees either way
    shear: float = 0  # degrees either way
    shift: float = 0  # either way: a fraction of the size, from 1 on pixels
    shift_x: float | None = None  # the same to the sides only
    shift_y: float | None = None  # the same up and down only
    expand: float = 1  # half of the images on a canvas up to so many times as wide and high
    iou_crop: bool = False
    brightness: Factors = (1, 1)  # factor
    contrast: Factors = (1, 1)
    saturation: Factors = (1, 1)
    hue: float = 0  # parts of the colour circle either way, at most 0.5
    channel_shift: float = 0  # added to every pixel, out of 255, either way
    colour: float = 1  # probability of each of the five
    mosaic: float = 0  # probability
    mixup: float = 0  # probability
    mixup_alpha: float = MIXUP_ALPHA
    copy_paste: float = 0  # probability; needs masks
    min_visible: float = 0.3  # share of an object's box that must be in the image


_STANDARD = InstanceOptions(
    flip=True, scale=(0.5, 1.5), shift=0.1, brightness=(0.6, 1.4), contrast=(0.6, 1.4), saturation=(0.6, 1.4)
)
INSTANCE_POLICIES: Mapping[str, InstanceOptions] = {
    "none": InstanceOptions(),
    "light": InstanceOptions(flip=True, shift=0.1, brightness=(0.8, 1.2), contrast=(0.8, 1.2)),
    "standard": _STANDARD,
    "strong": replace(_STANDARD, mosaic=0.5, mixup=0.15, copy_paste=0.3),
    "geometric": InstanceOptions(rotation=10, shift=0.1, shear=10, scale=(0.9, 1.1)),
    # Section 2.2; the figures of colour, which the paper does not give, are those of the authors' configuration, with
    # the hue of torchvision (18 of 360 degrees), and contrast about the mean as torchvision has it.
    "ssd": InstanceOptions(
        flip=True,
        expand=4,
        iou_crop=True,
        contrast=(0.5, 1.5),
        saturation=(0.5, 1.5),
        hue=0.05,
        channel_shift=32,
        colour=0.5,
    ),
    # Section 3: large scale jittering, and a random subset of the objects of another image into every image.
    "copy-paste": InstanceOptions(flip=True, scale=(0.1, 2), copy_paste=1),
}
JOINING = ("mosaic", "mixup", "copy_paste")  # what adds objects of other images


@dataclass(frozen=True, kw_only=True)
class InstanceAugmentation:
    """What happens in training to images whose truth says where. Letters: B images, C, H, W."""

    # What `policy.Augmentation` does while reading and after normalisation, and this does not.
    crop: ClassVar[None] = None
    erase: ClassVar[None] = None
    mixing: ClassVar[None] = None

    name: str
    colour: Step | None = None
    motion: Motion = Motion()
    iou_crop: bool = False
    mosaic: float = 0  # probability
    mixup: float = 0
    mixup_alpha: float = MIXUP_ALPHA
    copy_paste: float = 0
    min_visible: float = 0.3
    skeleton: Skeleton | None = None
    clean_from: int | None = None  # the epoch from which images are no longer joined
    fill: int = 0  # grey value beyond the border
    fixed: bool = False  # each image keeps all of its objects: where one would go, the image is only mirrored

    @property
    def unit(self) -> int:
        """Images of the global batch, in order, that belong together and stay in one process."""
        return GROUP if self.mosaic else 2 if self.mixup or self.copy_paste else 1

    def needs_masks(self, epoch: int) -> bool:
        """Whether masks make a difference in an epoch: objects are pasted, or turned boxes drawn in to their masks."""
        return self.motion.turns or (self.copy_paste > 0 and self._joins(epoch))

    @property
    def steps(self) -> tuple[str, ...]:
        """What is done, in words; empty if nothing is."""
        joining = [
            *([f"mosaic: {self.mosaic:.0%} of the images"] if self.mosaic else []),
            *([f"copy-paste: {self.copy_paste:.0%} of the images"] if self.copy_paste else []),
            *([f"mixup: {self.mixup:.0%} of the images, alpha {self.mixup_alpha:g}"] if self.mixup else []),
        ]
        if joining and self.clean_from is not None:
            joining = [f"{line}, before epoch {self.clean_from + 1}" for line in joining]
        return (
            *([self.colour.describe()] if self.colour is not None else []),
            *joining[: bool(self.mosaic)],
            *self.motion.describe(),
            *(["cropped so that an object's IoU with the crop is at least 0.1 to 0.9"] if self.iou_crop else []),
            *joining[bool(self.mosaic) :],
        )

    def describe(self) -> list[str]:
        """One line for each step, in their order."""
        return list(self.steps)

    def __call__(
        self,
        images: Tensor,
        truths: InstanceSets,
        draws: Draws,
        *,
        crops: None,
        scale: Tensor,
        offset: Tensor,
        content: Tensor | None = None,
    ) -> tuple[Tensor, InstanceSets, Tensor]:
        """Augment and normalise a batch.

        Args:
            images: (B, C, H, W) uint8, padded right and below.
            truths: of the images, in their pixels.
            draws: of the batch.
            crops: None; nothing is cropped while reading.
            scale: (C, 1, 1) float32, of the normalisation.
            offset: (C, 1, 1) float32.
            content: (B, 2) int64, on the CPU: height and width of the images without their padding; None: they have
                none. Mosaic joins images at these corners.

        Returns:
            (B, C, H, W) float32; the truths, without `shapes` where something may have moved; and (B, 2) int64, the
            content of what is returned.

        Raises:
            UsageError: copy-paste is on, and objects have no masks.
        """
        del crops
        if content is None:
            content = torch.tensor(images.shape[2:]).expand(len(images), 2)
        if len(images) > 0:
            if self.colour is not None:
                images = self._padded(self.colour(images, draws), content)
            joining = self._joins(draws.epoch)
            images, truths, content = self._moved(images, truths, draws, content, self.mosaic * joining)
            if self.copy_paste:
                chosen, picks = draws.choose(self.copy_paste * joining), draws.uniform(0, 1, PICKS)
                if joining:
                    images, truths = pasted(images, truths, draws.partners(), chosen, picks, self.min_visible)
                    content = _of_both(content, draws.partners(), chosen)
            if self.mixup:
                chosen, share = draws.choose(self.mixup * joining), draws.beta(self.mixup_alpha)
                if joining:
                    images, truths = mixed(images, truths, draws.partners(), torch.where(chosen, share, 1))
                    content = _of_both(content, draws.partners(), chosen)
        return images.to(torch.float32).mul_(scale).add_(offset), truths, content

    def _joins(self, epoch: int) -> bool:
        """Whether images are joined in an epoch."""
        return self.clean_from is None or epoch < self.clean_from

    def _padded(self, images: Tensor, content: Tensor) -> Tensor:
        """Images, changed in place, with the padding's grey beyond their content."""
        for row, (height, width) in enumerate(content.tolist()):
            images[row, :, height:] = self.fill
            images[row, :, :, width:] = self.fill
        return images

    def _moved(
        self, images: Tensor, truths: InstanceSets, draws: Draws, content: Tensor, mosaic: float
    ) -> tuple[Tensor, InstanceSets, Tensor]:
        """Mosaic, and the one map of each image."""
        if not (mosaic or self.iou_crop or self.motion != Motion()):
            return images, truths, content
        size = (images.shape[2], images.shape[3])
        device = truths.boxes.device
        tiles = None
        joined_images = torch.zeros(len(images), dtype=torch.bool)
        if mosaic:
            tiles = draw_tiles(draws, mosaic, content, size)
            joined_images = tiles.used[:, 1]
        frames = torch.where(joined_images[:, None], torch.tensor(size), content)
        maps, mirrored = (within(each, frames, size) for each in self.motion.draw(draws, frames, joined_images))
        scenes = Scenes.of(truths, tiles, frames)
        centred = torch.zeros(len(images), dtype=torch.bool, device=device)
        if self.iou_crop:
            boxes, owners = scenes.boxes(maps.to(device), size), scenes.objects.images
            if scenes.objects.crowd is not None:
                boxes, owners = boxes[~scenes.objects.crowd], owners[~scenes.objects.crowd]
            windows, centred = chosen_crops(draw_crops(draws), boxes, owners, frames)
            maps = joined(maps, within(window_maps(windows.cpu(), frames), frames, size))
        stay = scenes.stay(maps.to(device), size, centred=centred, min_visible=self.min_visible)
        if self.fixed:
            lost = torch.zeros(len(images), device=device).index_add_(0, scenes.objects.images, (~stay).float()) > 0
            maps, stay = torch.where(lost.cpu()[:, None, None], mirrored, maps), None
        levels = pyramid_levels(self.motion.shrinks)
        shown = self._padded(show(images, inverted(maps), fill=self.fill, tiles=tiles, levels=levels), frames)
        moved = scenes.shown(maps.to(device), size, stay, skeleton=self.skeleton, tight=self.motion.turns)
        return shown, moved, frames


def _of_both(content: Tensor, partners: Tensor, chosen: Tensor) -> Tensor:
    """(B, 2): the content of images, where ``chosen`` (B,) with that of their partners."""
    return torch.where(chosen[:, None], torch.maximum(content, content[partners]), content)


def instance_augmentation(
    text: str,
    *,
    flip: bool = True,
    skeleton: Skeleton | None = None,
    clean_from: int | None = None,
    fill: int = 0,
    fixed: bool = False,
    masks: bool = True,
) -> InstanceAugmentation:
    """The augmentation that a text names, for truths that say where.

    Args:
        text: a name from `INSTANCE_POLICIES`, with options in parentheses or without: ``strong(rotation=5)``.
        flip: whether the policy may mirror images; see `policy.mirror_makes_sense`. An option in ``text`` wins over it.
        skeleton: of the keypoints; names of left and right change places in a mirror.
        clean_from: the epoch, from 0, from which mosaic, mixup and copy-paste are off; None: never.
        fill: grey value of the padding, 0 to 255.
        fixed: each image has a fixed number of objects and keeps them (localization, keypoints): nothing is joined,
            and an image that would lose an object is only mirrored.
        masks: whether the data has masks. Without them, a policy that pastes among other things leaves that out.

    Raises:
        UsageError: the policy or an option does not exist, or a value does not fit; or objects are to be pasted and
            the data has no masks.
    """
    name, overridden = parse(text, INSTANCE_POLICIES)
    options = INSTANCE_POLICIES[name]
    options = replace(options, flip=options.flip and flip)
    if fixed:
        asked = {"copy_paste": options.copy_paste} | overridden if name == "copy-paste" else overridden
        wrong = [key for key in JOINING if asked.get(key)]
        if wrong:
            raise UsageError(
                f"augmentation {text!r}: {', '.join(wrong)} adds objects of other images, and this task has a fixed "
                "number of objects in each image. Leave it out."
            )
        nothing: dict[str, Any] = dict.fromkeys(JOINING, 0)
        options = replace(options, **nothing)
    if not masks and name != "copy-paste":
        options = replace(options, copy_paste=0)
    options = replace(options, **overridden)
    if options.copy_paste and not masks:
        raise UsageError(f"augmentation {text!r}: {NO_MASKS}")
    colour = ColourJitter(
        brightness=options.brightness,
        contrast=options.contrast,
        saturation=options.saturation,
        hue=options.hue,
        channel_shift=options.channel_shift,
        probability=options.colour,
    )
    motion = Motion(
        flip=options.flip,
        flip_vertical=options.flip_vertical,
        rotation=options.rotation,
        shear=options.shear,
        scale=options.scale,
        shift=(
            options.shift if options.shift_y is None else options.shift_y,
            options.shift if options.shift_x is None else options.shift_x,
        ),
        expand=options.expand,
    )
    return InstanceAugmentation(
        name=text,
        colour=None if colour == ColourJitter(probability=options.colour) else colour,
        motion=motion,
        iou_crop=options.iou_crop,
        mosaic=options.mosaic,
        mixup=options.mixup,
        mixup_alpha=options.mixup_alpha,
        copy_paste=options.copy_paste,
        min_visible=options.min_visible,
        skeleton=skeleton,
        clean_from=clean_from,
        fill=fill,
        fixed=fixed,
    )
