"""Augmentation policies by name, and the options that they are made of.

A policy is a set of options, and any option can be overridden in text, as in ``geometric(rotation=15, elastic=34)``.
These are the policies of classification; those that move boxes, masks and keypoints along are in `instances`.

The options of Keras' old `ImageDataGenerator`, and what stands for each here:

    rotation_range=15              geometric(rotation=15)
    width_shift_range=0.1          geometric(shift_x=0.1)     a fraction; from 1 on pixels
    height_shift_range=0.1         geometric(shift_y=0.1)     (shift=0.1 sets both)
    shear_range=10                 geometric(shear=10)        degrees
    zoom_range=0.1                 geometric(zoom=0.1)
    zoom_range=[0.8, 1.1]          geometric(zoom=0.8..1.1)
    brightness_range=[0.5, 1.5]    geometric(brightness=0.5..1.5)
    channel_shift_range=20         geometric(channel_shift=20)
    fill_mode="nearest"            geometric(fill=nearest)    or constant, reflect, wrap
    cval=128                       geometric(fill=constant, value=128)
    horizontal_flip=True           geometric(flip=yes)
    vertical_flip=True             geometric(flip_vertical=yes)
    featurewise_center             the preprocessing's `mean`, measured over the training split
    featurewise_std_normalization  the preprocessing's `std`
    rescale=1/255                  always: the preprocessing scales pixels to 0..1 before mean and std
    preprocessing_function         the preprocessing: what prediction must do too is no augmentation
    samplewise_center              not offered: prediction would have to do the same, and the preprocessing that the
    samplewise_std_normalization   model file carries has one mean and deviation; batch normalisation stands for it
    zca_whitening, zca_epsilon     not offered, for the same reason; the first convolution can learn it
    validation_split, data_format  `striate data split`; images are always (B, C, H, W)
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor

from striate.core.annotations import Classifications
from striate.core.instances import Skeleton
from striate.data.dataset import Dataset
from striate.data.transforms.auto_augment import LEVELS, AutoAugment
from striate.data.transforms.colour import ColourJitter
from striate.data.transforms.crop import RandomResizedCrop
from striate.data.transforms.draws import Draws
from striate.data.transforms.geometry import Fill, Move, Warp
from striate.data.transforms.mixing import Erase, Mixing
from striate.errors import UsageError, did_you_mean

Factors = tuple[float, float]
Auto = Literal["none", "trivial", "rand"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Everything that a policy can do; the defaults do nothing. In the order in which it is done."""

    crop: float = 0  # random resized crop: the smallest part of the area, as in 0.08; 0: off
    crop_ratio: float = 4 / 3  # its largest width / height, and height / width
    flip: bool = False  # left to right, half of the images
    flip_vertical: bool = False
    rotation: float = 0  # degrees either way
    shift: float = 0  # either way: a fraction of the size, from 1 on pixels. Alone it moves by whole pixels
    shift_x: float | None = None  # the same to the sides only
    shift_y: float | None = None  # the same up and down only
    shear: float = 0  # degrees either way
    zoom: Factors = (1, 1)  # height and width apart; above 1 shows more of the scene
    elastic: float = 0  # alpha of elastic distortions (Simard et al. 2003: 34); 0: off
    elastic_sigma: float = 4  # their smoothness in pixels
    fill: Fill = "nearest"  # what lies beyond the border: nearest, constant, reflect or wrap
    value: float = 0  # the pixel of `constant`, 0 to 255
    auto: Auto = "none"  # trivial: TrivialAugment (wide); rand: RandAugment
    auto_operations: int = 2  # of RandAugment
    auto_level: int = 9  # of RandAugment, 0 to 30
    brightness: Factors = (1, 1)  # factor; 0.4 stands for 0.6..1.4, here and below
    contrast: Factors = (1, 1)
    saturation: Factors = (1, 1)
    hue: float = 0  # parts of the colour circle either way, at most 0.5
    channel_shift: float = 0  # added to every pixel, out of 255, either way
    erase: float = 0  # probability of erasing a rectangle


POLICIES: Mapping[str, Options] = {
    "none": Options(),
    "light": Options(flip=True, shift=0.125, fill="reflect"),
    "standard": Options(crop=0.08, flip=True, brightness=(0.6, 1.4), contrast=(0.6, 1.4), saturation=(0.6, 1.4)),
    "strong": Options(crop=0.08, flip=True, auto="trivial", erase=0.25),
    "geometric": Options(rotation=10, shift=0.1, shear=10, zoom=(0.9, 1.1), fill="nearest"),
}

# Where a mirror image is another class, or none: characters, and what is named after a side.
UNMIRRORED_DATA = frozenset(["digits", "mnist", "emnist", "kmnist", "qmnist", "usps", "svhn", "omniglot", "gtsrb"])
UNMIRRORED_CLASS = re.compile(r"\d+|.|(digit|letter|character)\b.*|.*\b(left|right)\b.*|\d+ - \w+", re.IGNORECASE)
# Words of points that stay what they are in a mirror: no side is among them.
SIDELESS = frozenset(
    ["top", "bottom", "upper", "lower", "up", "down", "middle", "mid", "centre", "center"]
) | frozenset(
    ["head", "crown", "forehead", "nose", "mouth", "chin", "neck", "chest", "spine", "pelvis", "tail", "tip", "base"]
)


def mirror_makes_sense(dataset: Dataset) -> bool:
    """Whether a policy may mirror these images left to right when nobody said so.

    Not for digits, letters and other characters, and not where a class is named after a side. Judged by the data set's
    name and by its class names; an explicit ``flip=yes`` or ``flip=no`` always wins.
    """
    if dataset.name.casefold() in UNMIRRORED_DATA:
        return False
    return not any(UNMIRRORED_CLASS.fullmatch(name.replace("_", " ").strip()) for name in dataset.classes)


def mirror_images_known(skeleton: Skeleton) -> bool:
    """Whether it is known which point each becomes in a mirror.

    Flips that leave every point what it is do not say so: they stand where the data states none, and tools write them
    where nobody stated any. They are believed of a single point, and where all names are made of words without a side.
    """
    names = skeleton.names
    if len(names) == 1 or skeleton.flips != tuple(range(len(names))):
        return True
    return all(set(re.split(r"[\s_.-]+", name.casefold().strip())) <= SIDELESS for name in names)


class Step(Protocol):
    """One thing that happens to every image of a batch, each with its own random numbers."""

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """(B, C, H, W) uint8, or float32 from 0 to 255, to either."""
        ...

    def describe(self) -> str:
        """In words."""
        ...


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What happens to images in training. Letters: B images, C channels, H height, W width."""

    name: str
    crop: RandomResizedCrop | None = None  # done while reading; it is drawn first
    steps: tuple[Step, ...] = ()  # on pixels
    erase: Erase | None = None  # after normalisation, like the mixing
    mixing: Mixing | None = None

    @property
    def unit(self) -> int:
        """Images of the global batch, in its order, that stay in one process: partners of mixup and cutmix."""
        return 1 if self.mixing is None else 2

    def describe(self) -> list[str]:
        """One line for each step, in their order."""
        return [step.describe() for step in (self.crop, *self.steps, self.erase, self.mixing) if step is not None]

    def __call__(
        self,
        images: Tensor,
        truths: Classifications,
        draws: Draws,
        *,
        crops: Tensor | None,
        scale: Tensor,
        offset: Tensor,
    ) -> tuple[Tensor, Classifications]:
        """Augment and normalise a batch.

        Args:
            images: (B, C, H, W) uint8.
            truths: of the images.
            draws: of the batch; `crop` has been drawn from it.
            crops: what `crop` drew, where it is still to be done; None: it was done while reading.
            scale: (C, 1, 1) float32, of the normalisation.
            offset: (C, 1, 1) float32.

        Returns:
            (B, C, H, W) float32, and truths, which mixing makes soft.
        """
        if len(images) > 0:
            if self.crop is not None and crops is not None:
                images = self.crop(images, crops)
            for step in self.steps:
                images = step(images, draws)
        normalised = images.to(torch.float32).mul_(scale).add_(offset)
        if self.erase is not None and len(images) > 0:
            normalised = self.erase(normalised, draws)
        return (normalised, truths) if self.mixing is None else self.mixing(normalised, truths, draws)


def augmentation(text: str, *, classes: int, mixup: float = 0, cutmix: float = 0, flip: bool = True) -> Augmentation:
    """The augmentation that a text names.

    Args:
        text: a name from `POLICIES`, with options in parentheses or without: ``geometric(rotation=15, shift=0.1)``.
        classes: K, for the soft truths of mixup and cutmix.
        mixup: alpha; 0: off.
        cutmix: alpha; 0: off.
        flip: whether the policy may mirror images; see `mirror_makes_sense`. An option in ``text`` wins over it.

    Raises:
        UsageError: the policy or an option does not exist, or a value does not fit.
    """
    name, overridden = parse(text)
    if mixup < 0 or cutmix < 0:
        raise UsageError(
            f"mixup and cutmix are the alpha of a Beta distribution, 0 or more; got {mixup:g}, {cutmix:g}."
        )
    options = POLICIES[name]
    options = replace(options, flip=options.flip and flip)
    options = replace(options, **overridden)
    mixing = Mixing(classes=classes, mixup=mixup, cutmix=cutmix) if mixup or cutmix else None
    return build(text, options, mixing)


def build(name: str, options: Options, mixing: Mixing | None = None) -> Augmentation:
    """The steps of a set of options."""
    shift = (
        options.shift if options.shift_y is None else options.shift_y,
        options.shift if options.shift_x is None else options.shift_x,
    )
    warped = bool(options.rotation or options.shear or options.elastic or options.zoom != (1, 1))
    steps: list[Step] = []
    if options.flip or options.flip_vertical or (any(shift) and not warped):
        steps.append(
            Move(
                flip=options.flip,
                flip_vertical=options.flip_vertical,
                shift=(0, 0) if warped else shift,
                fill=options.fill,
                value=int(options.value),
            )
        )
    if warped:
        steps.append(
            Warp(
                rotation=options.rotation,
                shift=shift,
                shear=options.shear,
                zoom=options.zoom,
                elastic=options.elastic,
                elastic_sigma=options.elastic_sigma,
                fill=options.fill,
                value=options.value,
            )
        )
    if options.auto == "trivial":
        steps.append(AutoAugment(name="trivial", operations=1, level=None))
    elif options.auto == "rand":
        steps.append(AutoAugment(name="rand", operations=options.auto_operations, level=options.auto_level))
    colour = ColourJitter(
        brightness=options.brightness,
        contrast=options.contrast,
        saturation=options.saturation,
        hue=options.hue,
        channel_shift=options.channel_shift,
    )
    if colour != ColourJitter():
        steps.append(colour)
    crop = None
    if options.crop:
        crop = RandomResizedCrop(area=(options.crop, 1), ratio=(1 / options.crop_ratio, options.crop_ratio))
    return Augmentation(
        name=name,
        crop=crop,
        steps=tuple(steps),
        erase=Erase(probability=options.erase) if options.erase else None,
        mixing=mixing,
    )


# The values that an option takes, where its type does not say it; also those of `InstanceOptions`.
LIMITS: Mapping[str, tuple[float, float]] = {
    "crop": (0, 1),
    "crop_ratio": (1, 100),
    "shear": (0, 89),
    "value": (0, 255),
    "auto_operations": (1, 14),
    "auto_level": (0, LEVELS - 1),
    "hue": (0, 0.5),
    "channel_shift": (0, 255),
    "elastic_sigma": (0.1, 1000),
    "erase": (0, 1),
    "colour": (0, 1),
    "expand": (1, 16),
    "mosaic": (0, 1),
    "mixup": (0, 1),
    "mixup_alpha": (0.01, 100),
    "copy_paste": (0, 1),
    "min_visible": (0, 1),
}
WORDS: Mapping[str, tuple[str, ...]] = {"fill": get_args(Fill), "auto": get_args(Auto)}
WHOLE = frozenset(["auto_operations", "auto_level"])

YES_NO = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False, "0": False}


def parse(text: str, policies: Mapping[str, Any] = POLICIES) -> tuple[str, dict[str, Any]]:
    """A policy's name and the options in its parentheses.

    Args:
        text: as in `augmentation`.
        policies: name -> a dataclass of options, the same one for all.

    Raises:
        UsageError: the policy or an option does not exist, or a value does not fit.
    """
    match = re.fullmatch(r"\s*([\w-]+)\s*(?:\((.*)\))?\s*", text)
    if match is None:
        raise UsageError(
            f"augmentation {text!r} is not of the form 'geometric' or 'geometric(rotation=15, shift=0.1)'."
        )
    name = match[1]
    if name not in policies:
        raise UsageError(
            f"augmentation {name!r} does not exist.{did_you_mean(name, policies)} There are {', '.join(policies)}."
        )
    defaults: dict[str, Any] = {field.name: field.default for field in fields(policies[name])}
    overridden: dict[str, Any] = {}
    for part in (match[2] or "").split(","):
        if not part.strip():
            continue
        key, equals, word = (piece.strip() for piece in part.partition("="))
        if key not in defaults:
            raise UsageError(
                f"augmentation {text!r}: option {key!r} does not exist.{did_you_mean(key, defaults)} "
                f"There are {', '.join(defaults)}."
            )
        if not equals:
            example = _example(key, defaults[key])
            raise UsageError(f"augmentation {text!r}: option {key!r} needs a value, as in {key}={example}.")
        overridden[key] = _value(text, key, word, defaults[key])
    return name, overridden


def _example(key: str, default: object) -> str:
    if isinstance(default, str):
        return {"fill": "nearest", "auto": "trivial"}[key]
    return "yes" if isinstance(default, bool) else "0.2" if isinstance(default, tuple) else "1"


def _value(text: str, key: str, word: str, default: object) -> object:
    if isinstance(default, str):
        if word not in WORDS[key]:
            raise UsageError(f"augmentation {text!r}: {key} is one of {', '.join(WORDS[key])}, not {word!r}.")
        return word
    if isinstance(default, bool):
        if word.casefold() not in YES_NO:
            raise UsageError(f"augmentation {text!r}: {key} is yes or no, not {word!r}.")
        return YES_NO[word.casefold()]
    try:
        numbers = tuple(float(piece) for piece in word.split("..", 1))
    except ValueError:
        numbers = ()
    low, high = LIMITS.get(key, (0, float("inf")))
    if isinstance(default, tuple):
        if len(numbers) == 1 and 0 <= numbers[0] <= 1:
            numbers = (1 - numbers[0], 1 + numbers[0])
        above_zero = key in ("zoom", "scale")
        if len(numbers) != 2 or not 0 <= numbers[0] <= numbers[1] < high or (above_zero and numbers[0] == 0):
            raise UsageError(
                f"augmentation {text!r}: {key} is a number from 0 to 1, as in 0.2, or a range of factors, "
                f"as in 0.8..1.2; not {word!r}."
            )
        return numbers
    whole = key in WHOLE
    if (
        len(numbers) != 1
        or not low <= numbers[0] <= high
        or numbers[0] == float("inf")
        or whole > numbers[0].is_integer()
    ):
        kind = "a whole number" if whole else "a number"
        limits = f"of {low:g} or more" if high == float("inf") else f"from {low:g} to {high:g}"
        raise UsageError(f"augmentation {text!r}: {key} is {kind} {limits}, not {word!r}.")
    return int(numbers[0]) if whole else numbers[0]
