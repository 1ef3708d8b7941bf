"""Boxes, masks and keypoints through our maps, against torchvision's one image at a time with the same parameters."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode, functional

from striate.core.instances import Instances, InstanceSets
from striate.data.transforms.affine import affine_maps, inverted, joined, window_maps
from striate.data.transforms.draws import Draws
from striate.data.transforms.iou_crop import chosen_crops, draw_crops
from striate.data.transforms.mosaic import show
from striate.data.transforms.moved import Scenes

HEIGHT, WIDTH = 60, 80
SIZE = (HEIGHT, WIDTH)
ANGLES, SHEARS, SCALES = [0.0, 10, -33, 90, 5, 170], [0.0, 8, -20, 0, 30, 3], [1.0, 0.8, 1.3, 1, 1, 0.5]
SHIFTS = [(0, 0), (3, -2), (-4, 1), (0, 5), (1, 1), (0, 0)]
COUNT = len(ANGLES)


def objects(per_image: int = 4) -> tuple[Tensor, InstanceSets]:
    """Smooth pictures, and boxes with masks and keypoints."""
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(COUNT, 3, 4, 5, generator=generator)
    images = F.interpolate(small, size=SIZE, mode="bicubic", align_corners=True).clamp(0, 1).mul(255).round()
    place = torch.rand(COUNT * per_image, 2, generator=generator) * torch.tensor([WIDTH - 30, HEIGHT - 30])
    side = 6 + 24 * torch.rand(COUNT * per_image, 2, generator=generator)
    boxes = torch.cat((place, place + side), dim=1)
    masks = torch.zeros(len(boxes), HEIGHT, WIDTH, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.round().int().tolist(), strict=True):
        mask[y1:y2, x1 : (x1 + x2) // 2] = True
        mask[y1 : (y1 + y2) // 2, x1:x2] = True
    points = torch.stack((place, place + side, place + side * torch.tensor([0.0, 1])), dim=1)
    points = torch.cat((points, torch.full((len(boxes), 3, 1), 2.0)), dim=2)
    one = [slice(i * per_image, (i + 1) * per_image) for i in range(COUNT)]
    sets = [
        Instances(boxes=boxes[i], labels=torch.zeros(per_image).long(), masks=masks[i], keypoints=points[i])
        for i in one
    ]
    return images.to(torch.uint8), InstanceSets.of(sets)


def moved(truths: InstanceSets, maps: Tensor) -> InstanceSets:
    return Scenes.of(truths, None).shown(maps, SIZE, None, skeleton=None, tight=False)


def typed(truth: Instances) -> tuple[tv_tensors.BoundingBoxes, tv_tensors.Mask, tv_tensors.KeyPoints]:
    assert truth.keypoints is not None
    return (
        tv_tensors.BoundingBoxes(truth.boxes, format="XYXY", canvas_size=SIZE),  # pyright: ignore[reportCallIssue]
        tv_tensors.Mask(truth.masks),
        tv_tensors.KeyPoints(truth.keypoints[..., :2], canvas_size=SIZE),  # pyright: ignore[reportCallIssue]
    )


def assert_equal(ours: Instances, boxes: Tensor, masks: Tensor, points: Tensor, differing: float = 0) -> None:
    box = functional.clamp_bounding_boxes(tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=SIZE))  # pyright: ignore[reportCallIssue]
    torch.testing.assert_close(ours.boxes, torch.as_tensor(box).as_subclass(Tensor), atol=2e-3, rtol=0)
    assert ours.masks is not None
    assert ours.keypoints is not None
    # a place half way between two pixels may fall to either
    assert (ours.masks != masks.as_subclass(Tensor).bool()).float().mean() <= differing
    points = points.as_subclass(Tensor)
    inside = ((points >= 0) & (points < torch.tensor([WIDTH, HEIGHT]))).all(-1)
    seen = ours.keypoints[..., 2] > 0
    assert (seen == inside)[((points - torch.tensor([WIDTH, HEIGHT])).abs() > 0.01).all(-1)].all()
    torch.testing.assert_close(ours.keypoints[..., :2][seen], points[seen], atol=2e-3, rtol=0)


def test_mirrors_equal_torchvision():
    images, truths = objects()
    still = torch.zeros(COUNT)
    for mirrors, flip in (((-1.0, 1.0), functional.horizontal_flip), ((1.0, -1.0), functional.vertical_flip)):
        maps = affine_maps(still, still, still + 1, torch.tensor([mirrors]).expand(COUNT, 2), torch.zeros(COUNT, 2))
        ours, shown = moved(truths, maps), show(images, inverted(maps), fill=9)
        for i in range(COUNT):
            boxes, masks, points = typed(truths[i])
            # torchvision mirrors keypoints as pixel numbers, whose first centre is 0; ours is 0.5
            mirrored = flip(tv_tensors.KeyPoints(points - 0.5, canvas_size=SIZE)) + 0.5  # pyright: ignore[reportCallIssue]
            assert_equal(ours[i], flip(boxes), flip(masks), mirrored)
            torch.testing.assert_close(shown[i], flip(images[i]).float(), atol=0.02, rtol=0)


def test_maps_equal_affine_of_torchvision():
    images, truths = objects()
    angles, shears, scales = torch.tensor([ANGLES, SHEARS, SCALES]).unbind(0)
    maps = affine_maps(
        angles,
        shears,
        scales,
        torch.ones(COUNT, 2),
        torch.tensor(SHIFTS).float(),
    )
    ours, shown = moved(truths, maps), show(images, inverted(maps), fill=90)
    for i in range(COUNT):
        more: dict[str, Any] = {
            "angle": ANGLES[i],
            "translate": list(SHIFTS[i]),
            "scale": SCALES[i],
            "shear": [SHEARS[i], 0.0],
        }
        boxes, masks, points = typed(truths[i])
        boxes = functional.affine_bounding_boxes(
            boxes.as_subclass(Tensor), boxes.format, SIZE, **more, clamping_mode=None
        )
        assert_equal(
            ours[i],
            boxes,
            functional.affine(masks, **more),
            outside_kept(points, more),
            differing=0.002,
        )
        theirs = functional.affine(images[i].float() - 90, interpolation=InterpolationMode.BILINEAR, **more)
        torch.testing.assert_close(shown[i], theirs + 90, atol=0.05, rtol=0)


def outside_kept(points: tv_tensors.KeyPoints, more: dict[str, Any]) -> Tensor:
    """torchvision clamps keypoints to the image; on a canvas so large that none leaves it they show where they go."""
    middle = [WIDTH / 2, HEIGHT / 2]
    return functional.affine_keypoints(points.as_subclass(Tensor), (10_000, 10_000), **more, center=middle)[0]


@pytest.mark.parametrize("window", [(10, 5, 70, 50), (0, 0, 40, 30), (31, 12, 80, 60)])
def test_windows_equal_resized_crops_of_torchvision(window: tuple[int, int, int, int]):
    images, truths = objects()
    maps = window_maps(torch.tensor([window]).expand(COUNT, 4).float(), SIZE)
    ours, shown = moved(truths, maps), show(images, inverted(maps), fill=0)
    x1, y1, x2, y2 = window
    for i in range(COUNT):
        boxes, masks, points = typed(truths[i])
        crop: dict[str, Any] = {"top": y1, "left": x1, "height": y2 - y1, "width": x2 - x1, "size": list(SIZE)}
        theirs, _ = functional.resized_crop_bounding_boxes(
            boxes.as_subclass(Tensor), boxes.format, **crop, clamping_mode=None
        )
        scale = torch.tensor([WIDTH / (x2 - x1), HEIGHT / (y2 - y1)])
        places = (points.as_subclass(Tensor) - torch.tensor([x1, y1])) * scale
        assert_equal(ours[i], theirs, functional.resized_crop(masks, **crop), places, differing=0.01)
        picture = functional.resized_crop(images[i].float(), **crop, antialias=False)
        # beyond a crop ours sees the picture's next pixel, theirs repeats the last one
        torch.testing.assert_close(shown[i, :, 2:-2, 2:-2], picture[:, 2:-2, 2:-2], atol=0.05, rtol=0)


def test_expansion_then_crop_equals_zoom_out_then_crop_of_torchvision():
    """Two steps of torchvision, with two interpolations, are one map."""
    _, truths = objects()
    canvas = torch.zeros(COUNT, 2, 3)
    canvas[:, 0, 0] = canvas[:, 1, 1] = 0.5
    canvas[:, :, 2] = torch.tensor([WIDTH, HEIGHT]) * 0.25  # the lower right quarter of a canvas twice as large
    maps = joined(canvas, window_maps(torch.tensor([[20.0, 15, 80, 60]]).expand(COUNT, 4), SIZE))
    ours = moved(truths, maps)
    for i in range(COUNT):
        boxes, _, _ = typed(truths[i])
        padded = functional.pad(boxes, [WIDTH, HEIGHT, 0, 0])
        small = functional.resize(padded, list(SIZE))
        theirs, _ = functional.resized_crop_bounding_boxes(
            small.as_subclass(Tensor), boxes.format, 15, 20, 45, 60, size=list(SIZE), clamping_mode=None
        )
        clamped = functional.clamp_bounding_boxes(
            tv_tensors.BoundingBoxes(theirs, format="XYXY", canvas_size=SIZE)  # pyright: ignore[reportCallIssue]
        )
        torch.testing.assert_close(ours[i].boxes, clamped.as_subclass(Tensor), atol=2e-3, rtol=0)


def test_iou_crops_have_the_distribution_of_torchvision():
    height, width, count = 300, 500, 800
    boxes = torch.tensor([[40.0, 30, 200, 220], [250, 100, 480, 290], [10, 200, 60, 280]])
    ours, cropped = chosen_crops(
        draw_crops(Draws(seed=0, epoch=0, step=0, total=count)),
        boxes.repeat(count, 1),
        torch.arange(count).repeat_interleave(3),
        (height, width),
    )
    torch.manual_seed(0)
    reference = v2.RandomIoUCrop()
    sample = [
        torch.zeros(3, height, width),
        tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(height, width)),  # pyright: ignore[reportCallIssue]
    ]
    drawn = [reference.make_params(sample) for _ in range(count)]
    theirs = np.array([[p["left"], p["top"], p["left"] + p["width"], p["top"] + p["height"]] for p in drawn if p])
    whole = 1 - len(theirs) / count
    assert abs(float((~cropped).float().mean()) - whole) < 4 * (2 * whole * (1 - whole) / count) ** 0.5
    mine = ours[cropped].numpy()
    for column in range(4):
        statistic = np.abs(
            np.searchsorted(np.sort(mine[:, column]), np.arange(501), side="right") / len(mine)
            - np.searchsorted(np.sort(theirs[:, column]), np.arange(501), side="right") / len(theirs)
        ).max()
        # Kolmogorov-Smirnov: 1.95 is the critical value for p = 0.001
        assert statistic < 1.95 * (1 / len(mine) + 1 / len(theirs)) ** 0.5
