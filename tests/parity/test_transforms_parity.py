"""Our batched operations against torchvision's one image at a time, and against SciPy, with the same parameters."""

import math

import numpy as np
import pytest
import scipy.ndimage
import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode, functional

from striate.data.transforms.auto_augment import (
    LEVELS,
    RAND_AUGMENT,
    TRIVIAL_AUGMENT_WIDE,
    Range,
    apply,
    magnitudes,
)
from striate.data.transforms.colour import jitter, shift_hue
from striate.data.transforms.crop import ATTEMPTS, RandomResizedCrop
from striate.data.transforms.draws import Draws
from striate.data.transforms.geometry import elastic_field, flip, keras_matrices, shift, warp
from striate.data.transforms.mixing import Erase


def smooth_images(count: int, channels: int, height: int, width: int, low: int = 0, high: int = 255) -> Tensor:
    """uint8 pictures without noise, so that half a pixel is half a grey level or two, not a hundred."""
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(count, channels, 4, 5, generator=generator)
    large = torch.nn.functional.interpolate(small, size=(height, width), mode="bicubic", align_corners=True)
    return (low + large.clamp(0, 1) * (high - low)).round().to(torch.uint8)


@pytest.mark.parametrize("fill", [0, 90])
def test_warp_equals_affine_of_torchvision(fill: int):
    images = smooth_images(6, 3, 21, 30)
    angles, shears, scales = [0.0, 10, -33, 90, 5, 170], [0.0, 8, -20, 0, 30, 3], [1.0, 0.8, 1.3, 1, 1, 0.5]
    translations = [(0, 0), (3, -2), (-4, 1), (0, 5), (1, 1), (0, 0)]
    matrices: list[list[float]] = []
    for angle, shear, scale, (right, down) in zip(angles, shears, scales, translations, strict=True):
        # the inverse of translate x rotate x shear x scale, about the centre
        turn, slant = math.radians(angle), math.tan(math.radians(shear))
        forward = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]]) @ np.array(
            [[1, -slant], [0, 1]]
        )
        inverse = np.linalg.inv(forward * scale)
        offset = -inverse @ [right, down]
        matrices.append([*inverse[0], offset[0], *inverse[1], offset[1]])
    ours = warp(images, torch.tensor(matrices).view(-1, 2, 3).float(), fill="constant", value=fill)
    for i, image in enumerate(images):
        theirs = functional.affine(
            image.float() - fill,
            angle=angles[i],
            translate=list(translations[i]),
            scale=scales[i],
            shear=[shears[i], 0.0],
            interpolation=InterpolationMode.BILINEAR,
        )
        # Not with its own `fill`, which weighs the pixels on the border twice.
        torch.testing.assert_close(ours[i], theirs + fill, atol=0.05, rtol=0)


@pytest.mark.parametrize(
    ("fill", "mode"),
    [("nearest", "nearest"), ("constant", "grid-constant"), ("reflect", "reflect"), ("wrap", "grid-wrap")],
)
def test_warp_equals_keras_on_scipy(fill: str, mode: str):
    """Keras' `apply_affine_transform` in its own terms: matrices over (row, column), SciPy's interpolation."""
    images = smooth_images(5, 1, 19, 24)
    angles = torch.tensor([0.0, 15, -40, 7, 100])
    down, across = torch.tensor([0.0, 3.5, -2, 8, 0]), torch.tensor([0.0, -6, 1.25, 2, 30])
    shears = torch.tensor([0.0, 10, -5, 20, 0])
    tall, wide = torch.tensor([1.0, 0.8, 1.2, 1, 1.5]), torch.tensor([1.0, 1.1, 0.7, 1, 1.5])
    ours = warp(images, keras_matrices(angles, down, across, shears, tall, wide), fill=fill, value=40)  # pyright: ignore[reportArgumentType]
    for i in range(5):
        turn, slant = math.radians(angles[i]), math.radians(shears[i])
        rotation = np.array([[math.cos(turn), -math.sin(turn), 0], [math.sin(turn), math.cos(turn), 0], [0, 0, 1]])
        shift = np.array([[1, 0, down[i]], [0, 1, across[i]], [0, 0, 1]])
        shear = np.array([[1, -math.sin(slant), 0], [0, math.cos(slant), 0], [0, 0, 1]])
        zoom = np.diag([float(tall[i]), float(wide[i]), 1])
        centre = np.array([[1, 0, 9.0], [0, 1, 11.5], [0, 0, 1]])
        matrix = centre @ rotation @ shift @ shear @ zoom @ np.linalg.inv(centre)
        theirs = scipy.ndimage.affine_transform(
            images[i, 0].numpy().astype(np.float64), matrix[:2, :2], matrix[:2, 2], order=1, mode=mode, cval=40
        )
        np.testing.assert_allclose(ours[i, 0].numpy(), theirs, atol=0.05)


def test_elastic_field_equals_the_gaussian_filter_of_scipy():
    noise = torch.rand(2, 2, 20, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
    ours = elastic_field(noise, alpha=34, sigma=4)
    for i in range(2):
        for axis in range(2):
            theirs = 34 * scipy.ndimage.gaussian_filter(noise[i, axis].numpy(), 4, mode="constant", cval=0)
            np.testing.assert_allclose(ours[i, axis].numpy(), theirs, atol=1e-4)


def test_elastic_displacements_point_where_scipy_looks():
    image = smooth_images(1, 1, 20, 28)
    noise = torch.rand(1, 2, 20, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
    field = elastic_field(noise, alpha=60, sigma=3)
    ours = warp(image, torch.eye(2, 3)[None], displacements=field)
    rows, columns = np.mgrid[:20, :28]
    places = [rows + field[0, 1].numpy(), columns + field[0, 0].numpy()]
    theirs = scipy.ndimage.map_coordinates(image[0, 0].numpy().astype(np.float64), places, order=1, mode="nearest")
    np.testing.assert_allclose(ours[0, 0].numpy(), theirs, atol=0.05)


@pytest.mark.parametrize(
    ("fill", "mode"), [("nearest", "edge"), ("constant", "constant"), ("reflect", "symmetric"), ("wrap", "wrap")]
)
def test_flip_and_shift_equal_flips_and_crops_of_a_padded_image(fill: str, mode: str):
    images = torch.randint(0, 256, (8, 3, 6, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    shifts = torch.tensor([[0, 0], [2, -3], [-2, 3], [1, 1], [0, 4], [-1, 0], [2, 2], [-2, -4]])
    mirrored = torch.tensor([0, 0, 0, 1, 1, 1, 0, 1]).bool()
    upside_down = torch.tensor([0, 0, 1, 0, 1, 0, 0, 1]).bool()
    ours = flip(flip(images, mirrored, 3), upside_down, 2)
    ours = shift(ours, shifts, fill=fill, value=77)  # pyright: ignore[reportArgumentType]
    assert ours.dtype == torch.uint8
    for i in range(8):
        image = images[i]
        image = functional.horizontal_flip(image) if mirrored[i] else image
        image = functional.vertical_flip(image) if upside_down[i] else image
        more = {"constant_values": 77} if mode == "constant" else {}
        padded = np.pad(image.numpy(), ((0, 0), (5, 5), (5, 5)), mode=mode, **more)  # pyright: ignore[reportCallIssue, reportArgumentType]
        down, right = shifts[i].tolist()
        np.testing.assert_array_equal(ours[i].numpy(), padded[:, 5 - down : 11 - down, 5 - right : 14 - right])


@pytest.mark.parametrize("channels", [1, 3])
def test_jitter_equals_brightness_contrast_saturation_of_torchvision(channels: int):
    images = smooth_images(5, channels, 12, 15, low=60, high=140)  # nothing is clipped on the way
    brightness = torch.tensor([1.0, 0.7, 1.4, 1.2, 0.9])
    contrast = torch.tensor([1.0, 1.3, 0.6, 1.1, 0.8])
    saturation = torch.tensor([1.0, 0.5, 1.2, 0.0, 1.3])
    ours = jitter(images, brightness, contrast, saturation)
    for i in range(5):
        theirs = functional.adjust_brightness(images[i].float() / 255, float(brightness[i]))
        theirs = functional.adjust_contrast(theirs, float(contrast[i]))
        theirs = functional.adjust_saturation(theirs, float(saturation[i]))
        torch.testing.assert_close(ours[i], theirs * 255, atol=0.05, rtol=0)


def test_jitter_is_near_the_rounding_and_clipping_of_torchvision():
    images = smooth_images(4, 3, 24, 24)
    generator = torch.Generator().manual_seed(1)
    factors = 0.6 + 0.8 * torch.rand(3, 4, generator=generator)
    ours = jitter(images, *factors)
    for i in range(4):
        theirs = functional.adjust_brightness(images[i], float(factors[0, i]))
        theirs = functional.adjust_contrast(theirs, float(factors[1, i]))
        theirs = functional.adjust_saturation(theirs, float(factors[2, i]))
        assert (ours[i] - theirs).abs().mean() < 5


def test_hue_equals_torchvision():
    images = torch.randint(0, 256, (6, 3, 10, 10), generator=torch.Generator().manual_seed(0)).float()
    images[0, :, :5] = 128  # grey has no hue
    turns = torch.tensor([0.3, 0.5, -0.5, 0.1, -0.2, 0.0])
    ours = shift_hue(images, turns)
    for i in range(6):
        theirs = functional.adjust_hue(images[i] / 255, float(turns[i])) * 255
        torch.testing.assert_close(ours[i], theirs, atol=0.01, rtol=0)


@pytest.mark.parametrize(
    ("ours", "theirs"), [(TRIVIAL_AUGMENT_WIDE, v2.TrivialAugmentWide()), (RAND_AUGMENT, v2.RandAugment())]
)
def test_tables_equal_torchvision(ours: dict[str, Range | None], theirs: v2.Transform):
    table = theirs._AUGMENTATION_SPACE  # pyright: ignore[reportAttributeAccessIssue]
    assert list(ours) == list(table)
    for name, scope in ours.items():
        function, signed = table[name]
        expected = function(LEVELS, 40, 60)
        assert (scope is None) == (expected is None)
        if scope is not None:
            assert scope.signed == signed
            levels = magnitudes(scope, torch.arange(LEVELS), (40, 60))
            if name == "Posterize":
                levels = levels.round()
            torch.testing.assert_close(levels, expected.float())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", list(TRIVIAL_AUGMENT_WIDE))
def test_operations_equal_torchvision(name: str, channels: int):
    images = smooth_images(8, channels, 23, 30)
    images[0] = 55  # nothing to stretch or equalise
    scope = TRIVIAL_AUGMENT_WIDE[name]
    strength = torch.zeros(8)
    if scope is not None:
        strength = magnitudes(scope, torch.tensor([0, 3, 7, 12, 18, 22, 27, 30]), (23, 30))
        strength = strength * torch.tensor([1, -1, 1, -1, 1, -1, 1, -1]) if scope.signed else strength
    ours = apply(name, images, strength)
    assert ours.dtype == torch.uint8
    reference = v2.TrivialAugmentWide()
    for i in range(8):
        magnitude = float(strength[i].round() if name == "Posterize" else strength[i])
        theirs = reference._apply_image_or_video_transform(images[i], name, magnitude, InterpolationMode.NEAREST, {})  # pyright: ignore[reportPrivateUsage]
        differing = (ours[i] != theirs).float().mean()
        # rounding may fall the other way on a pixel here and there
        assert differing <= 0.02, f"image {i}: {differing:.1%} of the pixels differ"
        if name not in ("ShearX", "ShearY", "Rotate"):
            assert (ours[i].int() - theirs.int()).abs().max() <= 1


def crops_of_torchvision(count: int, height: int, width: int) -> np.ndarray:
    torch.manual_seed(0)
    crop = v2.RandomResizedCrop(24)
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    drawn = [crop.make_params([image]) for _ in range(count)]
    return np.array([[d["top"], d["left"], d["height"], d["width"]] for d in drawn])


@pytest.mark.parametrize("size", [(80, 100), (30, 200), (200, 30)])
def test_crops_have_the_distribution_of_torchvision(size: tuple[int, int]):
    count = 3000
    crop = RandomResizedCrop()
    drawn = crop.draw(Draws(seed=0, epoch=0, step=0, total=count)).tolist()
    ours = np.array([crop.box(row, *size) for row in drawn])
    theirs = crops_of_torchvision(count, *size)
    for column in range(4):
        statistic = np.abs(
            np.searchsorted(np.sort(ours[:, column]), np.arange(201), side="right")
            - np.searchsorted(np.sort(theirs[:, column]), np.arange(201), side="right")
        ).max()
        # Kolmogorov-Smirnov: 1.95 is the critical value for p = 0.001
        assert statistic / count < 1.95 * math.sqrt(2 / count)
    assert (ours[:, 0] + ours[:, 2] <= size[0]).all()
    assert (ours[:, 1] + ours[:, 3] <= size[1]).all()
    assert ours.min() >= 0


def test_crop_of_an_image_that_no_attempt_fits_is_the_fallback_of_torchvision():
    crop = RandomResizedCrop(area=(0.9, 1.0))
    reference = v2.RandomResizedCrop(24, scale=(0.9, 1.0))
    row = crop.draw(Draws(seed=0, epoch=0, step=0, total=1))[0].tolist()
    assert len(row) == 2 * ATTEMPTS + 2
    for height, width in ((10, 1000), (1000, 10)):
        theirs = reference.make_params([torch.zeros(3, height, width)])
        assert crop.box(row, height, width) == (theirs["top"], theirs["left"], theirs["height"], theirs["width"])


def test_erased_rectangles_have_the_distribution_of_torchvision():
    count, height, width = 3000, 40, 60
    ours = Erase(probability=1).boxes(Draws(seed=0, epoch=0, step=0, total=count), height, width).numpy()
    torch.manual_seed(0)
    reference = v2.RandomErasing(p=1)
    image = torch.zeros(3, height, width)
    drawn = [reference.make_params([image]) for _ in range(count)]
    theirs = np.array([[d["i"], d["j"], d["i"] + d["h"], d["j"] + d["w"]] for d in drawn if d["v"] is not None])
    for column in range(4):
        statistic = np.abs(
            np.searchsorted(np.sort(ours[:, column]), np.arange(61), side="right") / len(ours)
            - np.searchsorted(np.sort(theirs[:, column]), np.arange(61), side="right") / len(theirs)
        ).max()
        assert statistic < 1.95 * math.sqrt(2 / count)


def test_erasing_equals_torchvision():
    images = torch.randn(4, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    draws = Draws(seed=1, epoch=0, step=0, total=4)
    draws.choose(1)
    boxes = Erase(probability=1).boxes(draws, 20, 20)
    ours = Erase(probability=1)(images.clone(), Draws(seed=1, epoch=0, step=0, total=4))
    for i, (top, left, bottom, right) in enumerate(boxes.tolist()):
        theirs = functional.erase(images[i], top, left, bottom - top, right - left, v=torch.zeros(1))
        assert torch.equal(ours[i], theirs)
        assert (ours[i] == 0).any()
