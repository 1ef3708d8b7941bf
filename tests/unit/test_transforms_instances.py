"""Augmentation that moves the truth along: boxes, keypoints and masks go where the pixels go."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from rectangles import HEIGHT, WIDTH, white_rectangles
from torch import Tensor

from striate.core.batch import Batch
from striate.core.instances import Instances, InstanceSets, Polygons, Skeleton
from striate.data.dataset import Dataset
from striate.data.loader import Loader
from striate.data.preprocess import Preprocessing
from striate.data.samples import scenes
from striate.data.shapes import mask_of, run_lengths
from striate.data.transforms.affine import Motion, affine_maps, inverted, joined
from striate.data.transforms.blending import PICKS, pasted
from striate.data.transforms.draws import Draws
from striate.data.transforms.geometry import warp
from striate.data.transforms.instances import INSTANCE_POLICIES, InstanceAugmentation, instance_augmentation
from striate.data.transforms.mosaic import Tiles, draw_tiles, pyramid_levels, show
from striate.data.transforms.moved import boxes_of
from striate.errors import UsageError

EYES = Skeleton(names=("nose", "left_eye", "right_eye"), flips=(0, 2, 1))

EVERY = [
    *INSTANCE_POLICIES,
    "strong(rotation=20, shear=10, copy_paste=0.5, iou_crop=yes, expand=4)",
    "none(mosaic=1)",
    "none(mixup=1)",
    "none(copy_paste=1)",
    "light(flip_vertical=yes, shift_x=7, shift_y=0)",
]


def augmented(
    policy: InstanceAugmentation | str,
    images: Tensor,
    truths: InstanceSets,
    draws: Draws | None = None,
    **more: Any,
) -> tuple[Tensor, InstanceSets]:
    """Pixels as they are, from 0 to 255."""
    policy = instance_augmentation(policy) if isinstance(policy, str) else policy
    shown, moved, _ = policy(
        images,
        truths,
        Draws(seed=0, epoch=0, step=0, total=len(images)) if draws is None else draws,
        crops=None,
        scale=torch.ones(images.shape[1], 1, 1),
        offset=torch.zeros(images.shape[1], 1, 1),
        **more,
    )
    return shown, moved


def lit(image: Tensor, channel: int) -> Tensor:
    """(4,) float32: the box around what is bright in a channel; pixels at the border count by how bright they are."""
    bright = image[channel] > 0.5 * image[channel].max()
    return boxes_of(bright[None])[0]


def assert_same(a: tuple[Tensor, InstanceSets], b: tuple[Tensor, InstanceSets]) -> None:
    assert torch.equal(a[0], b[0])
    assert torch.equal(a[1].offsets, b[1].offsets)
    for name in ("boxes", "labels", "masks", "keypoints", "crowd", "ignore", "areas"):
        ours, theirs = getattr(a[1], name), getattr(b[1], name)
        assert (ours is None) == (theirs is None), name
        assert ours is None or torch.equal(ours, theirs), name


GEOMETRY = [
    "none(flip=yes, flip_vertical=yes)",
    "none(shift=0.3)",
    "none(scale=0.5..1.5)",
    "none(scale=0.5..1.5, shift=0.3, flip=yes)",
    "none(rotation=180)",
    "none(rotation=30, shear=20, scale=0.7..1.3, flip=yes)",
    "none(expand=4)",
    "none(iou_crop=yes)",
    "none(expand=4, iou_crop=yes, flip=yes)",
    "none(mosaic=1)",
    "none(mosaic=0.5, scale=0.5..1.5, shift=0.1, flip=yes)",
    "none(mosaic=1, rotation=15, shear=5, scale=0.5..1.5, flip=yes)",
    "none(mixup=1, scale=0.5..1.5)",
]


@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize("text", GEOMETRY)
def test_a_white_rectangle_coincides_with_its_box(text: str, masks: bool):
    count, found = 48, 0
    images, truths = white_rectangles(count)
    truths = truths if masks else replace(truths, masks=None)
    shown, moved = augmented(text, images, truths)
    assert shown.shape == images.shape
    assert (shown.flatten(1) > 0).any(1).float().mean() > 0.5
    assert len(moved) == count
    turned = "rotation" in text
    for image, objects in zip(shown, moved, strict=True):
        for j in range(len(objects)):
            channel = int(objects.labels[j])
            around = lit(image, channel)
            cut = turned and not masks and not inside(objects.boxes[j])
            if not cut:  # the box of a turned rectangle that is cut off is larger than what is left of it
                assert (around - objects.boxes[j]).abs().max() <= 1.01, (around, objects.boxes[j])
            if objects.masks is not None:
                assert (boxes_of(objects.masks[j][None])[0] - around).abs().max() <= 1
            found += 1
    assert found >= count * 0.6


def inside(box: Tensor) -> bool:
    return bool((box[:2] > 0.01).all() and box[2] < WIDTH - 0.01 and box[3] < HEIGHT - 0.01)


@pytest.mark.parametrize("text", ["none(scale=0.5..1.5, shift=0.5)", "none(mosaic=1, scale=0.5..1.5)"])
def test_objects_go_by_the_share_of_their_box_that_is_seen(text: str):
    """Per image, what is seen of each of the four rectangles, against its size before times the magnification."""
    images, truths = white_rectangles(80)
    _, moved = augmented(text, images, truths)
    # the same again with a rule that drops nothing tells how large each was to be
    stayed, gone = 0, 0
    _, all_seen = augmented(text.replace(")", ", min_visible=0)"), images, truths)
    for i in range(80):
        kept = set(moved[i].labels.tolist())
        for label, box in zip(all_seen[i].labels.tolist(), all_seen[i].boxes, strict=True):
            seen = float((box[2:] - box[:2]).prod())
            source = next(
                s for s in range(i // 4 * 4, i // 4 * 4 + 4) if s % 4 == label
            )  # in these pictures a group has one of each
            whole = float((truths.boxes[source, 2:] - truths.boxes[source, :2]).prod())
            scale = magnifications(text, 80)[i]
            share = seen / (whole * scale**2)
            if abs(share - 0.3) > 0.01 and float((box[2:] - box[:2]).min()) > 2.01:
                assert (label in kept) == (share > 0.3)
                stayed, gone = stayed + (share > 0.3), gone + (share <= 0.3)
    assert stayed > 20
    assert gone > 3


def magnifications(text: str, count: int) -> list[float]:
    """The scale that the first numbers of a batch stand for."""
    draws = Draws(seed=0, epoch=0, step=0, total=count)
    if "mosaic" in text:
        draws.uniform(0, 1, 7)
    return (0.5 + draws.uniform(0, 1, 13)[:, 4]).tolist()


def test_an_object_smaller_than_two_pixels_goes_and_a_crowd_stays():
    boxes = torch.tensor([[0.0, 0, 20, 20], [50, 50, 51.5, 60], [0, 0, 20, 20], [0, 0, 1, 20]])
    truths = InstanceSets.of(
        [
            Instances(
                boxes=boxes,
                labels=torch.arange(4),
                crowd=torch.tensor([False, False, True, True]),
                ignore=torch.tensor([True, True, False, False]),
            )
        ]
    )
    images = torch.zeros(1, 3, HEIGHT, WIDTH, dtype=torch.uint8)
    policy = instance_augmentation("none(shift_x=15, shift_y=0)")
    for seed in range(200):
        _, moved = augmented(policy, images, truths, Draws(seed=seed, epoch=0, step=0, total=1))
        assert 1 not in moved.labels
        assert 3 not in moved.labels
        shift = float(moved.boxes[moved.labels == 2][0, 2]) - 20
        if shift != -14:  # exactly 0.3
            assert (0 in moved.labels) == (shift > -14)
        assert moved.crowd is not None
        assert moved.ignore is not None
        assert moved.crowd.tolist() == [label > 1 for label in moved.labels.tolist()]
        assert moved.ignore.tolist() == [label < 2 for label in moved.labels.tolist()]


def test_an_iou_crop_keeps_the_objects_whose_centre_is_inside():
    images, truths = white_rectangles(64, objects=3)
    policy = instance_augmentation("none(iou_crop=yes)")
    _, moved = augmented(policy, images, truths)
    _, unbound = augmented(replace(policy, min_visible=0.999), images, truths)
    assert torch.equal(moved.boxes, unbound.boxes)  # in a crop the centre decides; the others are whole
    cropped = [i for i in range(64) if len(moved[i]) < 3 or not torch.equal(moved[i].boxes, truths[i].boxes)]
    assert 32 < len(cropped) < 64
    assert all(len(moved[i]) >= 1 for i in range(64))
    empty = InstanceSets.of([Instances(boxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64))] * 64)
    same, _ = augmented(policy, images, empty)
    torch.testing.assert_close(same, images.float(), atol=0.05, rtol=0)


def test_keypoints_change_sides_in_a_mirror_and_are_unlabelled_outside():
    images, truths = white_rectangles(64)
    policy = instance_augmentation("none(flip=yes, shift=0.2, min_visible=0)", skeleton=EYES)
    _, moved = augmented(policy, images, truths)
    assert moved.keypoints is not None
    assert truths.keypoints is not None
    mirrored = [0, 0]
    only_mirrored = augmented("none(flip=yes)", images, truths)[1].boxes
    for i in range(64):
        if not len(moved[i]):
            continue
        (x1, y1, x2, _), points = moved[i].boxes[0].tolist(), moved[i].keypoints
        assert points is not None
        visible = points[0, :, 2] > 0
        flipped = bool(only_mirrored[i, 0] != truths.boxes[i, 0])
        mirrored[int(flipped)] += 1
        # before: 0 upper left corner, 1 upper right, 2 middle; mirrored: 0 upper right, 2 upper left, 1 middle
        places = {0: (x2, y1), 2: (x1, y1)} if flipped else {0: (x1, y1), 1: (x2, y1)}
        for number, (x, y) in places.items():
            if visible[number]:
                torch.testing.assert_close(points[0, number, :2], torch.tensor([x, y]))
            else:
                assert points[0, number].tolist() == [0, 0, 0]
                assert x in (0, WIDTH) or y in (0, HEIGHT)
    assert min(mirrored) > 10
    still, one = torch.zeros(1), torch.ones(1)
    half_turn = affine_maps(still + 180, still, one, torch.ones(1, 2), torch.zeros(1, 2))
    both = affine_maps(still, still, one, -torch.ones(1, 2), torch.zeros(1, 2))
    torch.testing.assert_close(half_turn, both, atol=1e-6, rtol=0)  # no mirror: the names stay


@pytest.mark.parametrize("text", EVERY)
def test_every_process_makes_the_same_and_so_does_a_resumed_run(text: str):
    policy = instance_augmentation(text, skeleton=EYES, fill=114)
    images, truths = white_rectangles(11, objects=2)
    images = images[:, :3]
    whole = augmented(policy, images, truths)
    assert_same(whole, augmented(policy, images, truths))
    parts: list[tuple[Tensor, InstanceSets]] = []
    for rows in (torch.arange(4), torch.arange(4, 4), torch.arange(4, 11)):
        draws = Draws(seed=0, epoch=0, step=0, total=11, rows=rows)
        parts.append(augmented(policy, images[rows], truths.select(rows), draws))
    assert_same((torch.cat([p[0] for p in parts]), InstanceSets.concatenate([p[1] for p in parts])), whole)


@pytest.mark.parametrize("text", ["ssd", "none(mixup=1)", "strong(rotation=20, expand=4, iou_crop=yes)"])
def test_the_loader_gives_the_same_in_every_process(text: str):
    data = scenes.load("scenes")
    size = Preprocessing(size=(64, 80), channels=3, mean=(0.5,) * 3, std=(0.25,) * 3, resize="fit")
    policy = instance_augmentation(text)

    def batches(start: int = 0, rank: int = 0, world: int = 1):
        loader = Loader(data, np.arange(22), size, batch=9, seed=5, augmentation=policy, rank=rank, world=world)
        return [(batch.images, batch.instances) for batch in loader.epoch(1, start)]

    alone = batches()
    for ours, resumed in zip(alone[1:], batches(start=1), strict=True):
        assert_same(ours, resumed)
    for whole, *parts in zip(alone, batches(rank=0, world=2), batches(rank=1, world=2), strict=True):
        assert_same((torch.cat([p[0] for p in parts]), InstanceSets.concatenate([p[1] for p in parts])), whole)


@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("text", EVERY)
def test_few_images_and_images_without_objects(text: str, count: int):
    policy = instance_augmentation(text, fill=114)
    nothing = Instances(
        boxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64), masks=torch.zeros(0, HEIGHT, WIDTH).bool()
    )
    images = torch.randint(0, 256, (count, 1, HEIGHT, WIDTH), dtype=torch.uint8)
    shown, moved = augmented(policy, images, InstanceSets.of([nothing] * count))
    assert shown.shape == images.shape
    assert shown.dtype == torch.float32
    assert shown.isfinite().all()
    assert len(moved) == count
    assert len(moved.boxes) == 0
    if count:
        one, rest = white_rectangles(1)[1][0], [nothing] * (count - 1)
        some = InstanceSets.of([*rest, replace(one, keypoints=None, crowd=None, areas=None)])
        assert len(augmented(policy, images, some)[1]) == count


@pytest.mark.parametrize("text", ["standard", "strong", "geometric", "ssd", "none(mosaic=1, expand=2)"])
def test_beyond_the_border_is_the_fill(text: str):
    policy = replace(instance_augmentation(text, fill=114), colour=None, mixup=0)
    images = torch.full((16, 3, HEIGHT, WIDTH), 255, dtype=torch.uint8)
    empty = InstanceSets.of([Instances(boxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64))] * 16)
    shown, _ = augmented(policy, images, empty)
    assert shown.min() == pytest.approx(114, abs=0.05)
    assert shown.max() == pytest.approx(255, abs=0.05)
    same, _ = augmented(policy, torch.full_like(images, 114), empty)
    torch.testing.assert_close(same, torch.full_like(same, 114), atol=0.01, rtol=0)


def test_the_padding_keeps_its_grey_where_colours_change():
    images = torch.full((5, 3, HEIGHT, WIDTH), 114, dtype=torch.uint8)
    content = torch.tensor([[96, 128], [96, 60], [30, 128], [20, 20], [95, 127]])
    for i, (height, width) in enumerate(content.tolist()):
        images[i, :, :height, :width] = torch.randint(0, 256, (3, height, width))
    empty = InstanceSets.of([Instances(boxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64))] * 5)
    policy = instance_augmentation("none(brightness=0.3..0.6, hue=0.1)", fill=114)
    shown, _ = augmented(policy, images, empty, content=content)
    for i, (height, width) in enumerate(content.tolist()):
        assert (shown[i, :, height:] == 114).all()
        assert (shown[i, :, :, width:] == 114).all()
        assert (shown[i, :, :height, :width] != images[i, :, :height, :width]).float().mean() > 0.9


def test_the_last_epochs_are_clean():
    images, truths = white_rectangles(16)
    policy = instance_augmentation("strong(copy_paste=1, mosaic=1, mixup=1)", clean_from=2)
    plain = instance_augmentation("standard")
    policy, plain = replace(policy, colour=None), replace(plain, colour=None)
    joined_up = augmented(policy, images, truths, Draws(seed=0, epoch=1, step=0, total=16))
    clean = augmented(policy, images, truths, Draws(seed=0, epoch=2, step=0, total=16))
    assert_same(clean, augmented(plain, images, truths, Draws(seed=0, epoch=2, step=0, total=16)))
    assert joined_up[1].counts.max() > 1
    assert clean[1].counts.max() == 1
    assert "mixup: 100% of the images, alpha 1.5, before epoch 3" in policy.describe()


def test_a_mosaic_shows_each_image_of_its_group_in_a_quarter():
    images = torch.arange(8, dtype=torch.uint8).view(8, 1, 1, 1).expand(8, 1, HEIGHT, WIDTH) * 30 + 10
    empty = InstanceSets.of([Instances(boxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64))] * 8)
    shown, _ = augmented("none(mosaic=1)", images, empty)
    orders: set[tuple[float, ...]] = set()
    for i in range(8):
        corners = shown[i, 0, [0, 0, -1, -1], [0, -1, 0, -1]].round()
        assert sorted(corners.tolist()) == [10 + 30 * (i // 4 * 4 + k) for k in range(4)]
        assert set(shown[i].round().unique().tolist()) == set(corners.tolist())
        row = (shown[i, 0, :, 0] - corners[0]).abs() < 0.1
        column = (shown[i, 0, 0] - corners[0]).abs() < 0.1
        assert 0.2 * HEIGHT - 1 <= row.sum() <= 0.8 * HEIGHT + 1
        assert 0.2 * WIDTH - 1 <= column.sum() <= 0.8 * WIDTH + 1
        orders.add(tuple(corners.tolist()))
    assert len(orders) > 4


def test_a_mosaic_is_a_paste_of_shifted_images():
    """Pixel for pixel, with pictures whose content ends before their padding."""
    images = torch.randint(0, 256, (4, 3, HEIGHT, WIDTH), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    content = torch.tensor([[96, 128], [50, 128], [96, 70], [61, 33]])
    for i, (height, width) in enumerate(content.tolist()):
        images[i, :, height:] = 7
        images[i, :, :, width:] = 7
    draws = Draws(seed=3, epoch=0, step=0, total=4)
    tiles = draw_tiles(draws, 1, content, (HEIGHT, WIDTH))
    identity = torch.eye(2, 3).expand(4, 2, 3)
    ours = show(images, identity, fill=7, tiles=tiles)
    for i in range(4):
        x, y = (int(v) for v in tiles.centre[i].tolist())
        expected = torch.full((3, HEIGHT, WIDTH), 7, dtype=torch.uint8)
        for q, source in enumerate(tiles.sources[i].tolist()):
            height, width = content[source].tolist()
            picture = images[source, :, :height, :width]
            above, left = q < 2, q % 2 == 0
            rows = (max(0, y - height), y) if above else (y, min(HEIGHT, y + height))
            columns = (max(0, x - width), x) if left else (x, min(WIDTH, x + width))
            high, wide = rows[1] - rows[0], columns[1] - columns[0]
            part = picture[:, -high:] if above else picture[:, :high]
            expected[:, rows[0] : rows[1], columns[0] : columns[1]] = part[:, :, -wide:] if left else part[:, :, :wide]
        torch.testing.assert_close(ours[i], expected.float(), atol=0.2, rtol=0)


def test_groups_at_the_end_and_with_holes_wrap_around():
    draws = Draws(seed=0, epoch=0, step=0, total=10)
    assert draws.groups(4)[[0, 5, 8, 9]].tolist() == [[0, 1, 2, 3], [5, 6, 7, 4], [8, 9, 8, 9], [9, 8, 9, 8]]
    draws.keep(torch.tensor([0, 2, 3, 7, 9]))
    assert draws.groups(4).tolist() == [[0, 1, 2, 0], [1, 2, 0, 1], [2, 0, 1, 2], [3, 3, 3, 3], [4, 4, 4, 4]]
    images, truths = white_rectangles(10)
    rows = torch.tensor([0, 2, 3, 7, 9])
    draws = Draws(seed=0, epoch=0, step=0, total=10)
    whole = augmented("strong", images[:, :3], truths, draws)
    draws = Draws(seed=0, epoch=0, step=0, total=10)
    draws.keep(rows)
    damaged = augmented("strong", images[rows, :3], truths.select(rows), draws)
    assert damaged[0].shape[0] == 5
    assert whole[0].shape[0] == 10


@pytest.mark.parametrize("levels", [0, 1, 2])
def test_halved_images_show_the_same_scene(levels: int):
    """A smooth picture looks the same through the pyramid, also at odd sizes and in every group."""
    x = torch.linspace(0, 3, 75)
    pictures = (
        120 + 50 * torch.sin(x + torch.arange(6)[:, None, None, None]) * torch.cos(torch.linspace(0, 2, 53))[:, None]
    )
    drawn = Draws(seed=0, epoch=0, step=0, total=6).uniform(0, 1, 3)
    scales = 1 / (1 + 3.9 * drawn[:, 0])
    maps = affine_maps(60 * drawn[:, 1], 20 * drawn[:, 2], scales, torch.ones(6, 2), torch.zeros(6, 2))
    ours = show(pictures, inverted(maps), fill=120, levels=levels)
    difference = (ours - warp(pictures, inverted(maps), fill="constant", value=120)).abs()
    assert difference.mean() < 0.2
    assert (difference > 6).float().mean() < 0.005  # where the picture ends


def test_small_things_do_not_flicker():
    """Lines one pixel wide, made four times smaller: they keep their share of light wherever they fall."""
    picture = torch.zeros(4, 1, 64, 64)
    picture[..., ::4] = 255
    shifts = torch.tensor([[0.0, 0], [0.25, 0], [0.5, 0], [0.75, 0]])
    maps = affine_maps(torch.zeros(4), torch.zeros(4), torch.full((4,), 0.25), torch.ones(4, 2), shifts)
    middle = show(picture, inverted(maps), fill=0, levels=pyramid_levels(8))[:, 0, 28:36, 28:36].mean((1, 2))
    torch.testing.assert_close(middle, torch.full((4,), 255 / 4), atol=1, rtol=0)
    assert [pyramid_levels(s) for s in (1, 2, 2.1, 4, 8, 100)] == [0, 0, 1, 1, 2, 3]


def test_mixup_blends_and_joins():
    images, truths = white_rectangles(5)
    shown, moved = augmented("none(mixup=1)", images, truths)
    assert moved.counts.tolist() == [2, 2, 2, 2, 1]  # the last one has no partner
    assert moved[0].labels.tolist() == [0, 1]
    assert moved[1].labels.tolist() == [1, 0]
    assert torch.equal(moved[3].boxes, truths.boxes[[3, 2]])
    assert torch.equal(shown[4], images[4].float())
    draws = Draws(seed=0, epoch=0, step=0, total=5)
    draws.choose(1)
    share = draws.beta(1.5)
    for i in range(4):
        expected = share[i] * images[i].float() + (1 - share[i]) * images[i ^ 1].float()
        torch.testing.assert_close(shown[i], expected)


def square(x: int, y: int, side: int = 8) -> Tensor:
    mask = torch.zeros(32, 32, dtype=torch.bool)
    mask[y : y + side, x : x + side] = True
    return mask


def test_copy_paste_covers_what_lies_beneath():
    own = torch.stack([square(0, 0), square(20, 20), square(4, 20), square(12, 2)])
    other = torch.stack([square(4, 0), square(20, 20), square(12, 0, 10)])
    points = torch.zeros(4, 2, 3)
    points[0] = torch.tensor([[6.5, 2.5, 2], [1.5, 1.5, 2]])
    first = Instances(boxes=boxes_of(own), labels=torch.arange(4), masks=own, keypoints=points)
    around = boxes_of(other) + torch.tensor([[0, 0, 0, 9], [0, 0, 0, 0], [0, 0, 0, 0]])  # a part of the first is hidden
    second = Instances(boxes=around, labels=torch.arange(4, 7), masks=other, keypoints=torch.zeros(3, 2, 3))
    images = torch.stack((torch.full((1, 32, 32), 10.0), torch.full((1, 32, 32), 20.0)))
    pictures, truths = pasted(
        images,
        InstanceSets.of([first, second]),
        torch.tensor([1, 0]),
        torch.tensor([True, False]),
        torch.zeros(2, PICKS),
        0.3,
    )
    # 0: half is left; 1: covered entirely; 2: untouched; 3: a fifth or less is left
    assert truths[0].labels.tolist() == [0, 2, 4, 5, 6]
    assert truths[1].labels.tolist() == [4, 5, 6]
    assert truths[0].boxes[0].tolist() == [0, 0, 4, 8]
    assert truths[0].boxes[1].tolist() == [4, 20, 12, 28]
    assert truths[0].boxes[2].tolist() == [4, 0, 12, 8]
    assert truths[0].masks is not None
    assert torch.equal(truths[0].masks[0], square(0, 0) & ~square(4, 0))
    assert torch.equal(pictures[0, 0] == 20, other.any(0))
    assert (pictures[1] == 20).all()
    assert truths[0].keypoints is not None
    assert truths[0].keypoints[0, :, 2].tolist() == [1, 2]
    none_picked, same = pasted(
        images,
        InstanceSets.of([first, second]),
        torch.tensor([1, 0]),
        torch.tensor([True, True]),
        torch.ones(2, PICKS),
        0.3,
    )
    assert torch.equal(none_picked, images)
    assert same.counts.tolist() == [4, 3]


def test_copy_paste_needs_masks():
    images, truths = white_rectangles(2)
    policy = instance_augmentation("none(copy_paste=1)")
    assert policy.needs_masks(0)
    assert policy.unit == 2
    with pytest.raises(UsageError, match=r"copy-paste cuts objects out along their masks.*boxes only"):
        augmented(policy, images, replace(truths, masks=None))
    for text in ("copy-paste", "light(copy_paste=0.1)", "strong(copy_paste=1)"):
        with pytest.raises(UsageError, match=r"copy-paste cuts objects out along their masks.*boxes only"):
            instance_augmentation(text, masks=False)
    with pytest.raises(UsageError, match=r"copy_paste adds objects.*fixed number"):
        instance_augmentation("copy-paste", fixed=True)
    assert instance_augmentation("strong").copy_paste == 0.3
    assert instance_augmentation("strong", masks=False).copy_paste == 0


def test_masks_are_wanted_only_where_they_make_a_difference():
    assert not instance_augmentation("standard").needs_masks(0)
    assert instance_augmentation("geometric").needs_masks(0)
    policy = instance_augmentation("strong", clean_from=3)
    assert [policy.needs_masks(epoch) for epoch in range(5)] == [True, True, True, False, False]


def test_objects_without_a_mask_among_others_are_covered_and_never_pasted():
    own = torch.stack([square(0, 0), square(20, 20)])
    around = boxes_of(own)
    first = Instances(boxes=around, labels=torch.arange(2), masks=torch.zeros_like(own))
    other = torch.stack([square(4, 0), square(20, 20, 9), square(0, 20)])
    masks = other.clone()
    masks[2] = False
    second = Instances(boxes=boxes_of(other), labels=torch.arange(2, 5), masks=masks)
    images = torch.stack((torch.full((1, 32, 32), 10.0), torch.full((1, 32, 32), 20.0)))
    pictures, truths = pasted(
        images,
        InstanceSets.of([first, second]),
        torch.tensor([1, 0]),
        torch.tensor([True, False]),
        torch.zeros(2, PICKS),
        0.3,
    )
    assert truths[0].labels.tolist() == [0, 2, 3]
    assert truths[0].boxes[0].tolist() == [0, 0, 4, 8]
    assert torch.equal(pictures[0, 0] == 20, masks.any(0))
    assert truths[0].masks is not None
    assert not truths[0].masks[0].any()


def loaded(data: Dataset, text: str, *, rank: int = 0, world: int = 1, workers: int = 2, epoch: int = 0) -> Batch:
    """The first batch of 12 images of 128x160 pixels."""
    preprocessing = Preprocessing(size=(128, 160), channels=3, mean=(0.0,) * 3, std=(1.0,) * 3, resize="fit", fill=114)
    loader = Loader(
        data,
        np.arange(12),
        preprocessing,
        batch=12,
        seed=5,
        augmentation=instance_augmentation(text, fill=114, clean_from=3),
        workers=workers,
        rank=rank,
        world=world,
    )
    return next(loader.epoch(epoch))


@pytest.mark.parametrize("text", ["copy-paste", "strong", "strong(copy_paste=1, rotation=10)"])
def test_training_pastes_objects_of_scenes(text: str):
    data = scenes.load("scenes")
    batch = loaded(data, text)
    truths = batch.instances
    assert truths.masks is not None
    assert truths.masks.shape == (len(truths.boxes), 128, 160)
    for objects in truths:
        assert objects.masks is not None
        if "strong" not in text:  # where mixup lays one image over the other, both are seen
            # what is pasted hides what is beneath
            pairs = (objects.masks[:, None] & objects.masks).flatten(2).any(2)
            assert pairs.sum() == len(objects)
        around = boxes_of(objects.masks)
        assert (around[:, :2] >= objects.boxes[:, :2] - 1).all()
        assert (around[:, 2:] <= objects.boxes[:, 2:] + 1).all()
    without = loaded(data, text.replace("copy-paste", "none(flip=yes, scale=0.1..2)").replace("copy_paste=1, ", ""))
    if text == "copy-paste":
        assert len(truths.boxes) > len(without.instances.boxes)
    # Workers and processes change nothing.
    again = loaded(data, text, workers=1)
    assert_same((batch.images, truths), (again.images, again.instances))
    first, second = (loaded(data, text, rank=rank, world=2) for rank in range(2))
    both = InstanceSets.concatenate([first.instances, second.instances])
    assert_same((batch.images, truths), (torch.cat((first.images, second.images)), both))
    clean = loaded(data, text, epoch=3).instances
    assert (clean.masks is None) == ("rotation" not in text)


def test_training_pastes_along_polygons():
    """Masks of polygons, drawn where the images lie in the input, are the masks of the same shapes as runs."""
    data = scenes.load("scenes")
    x1, y1, x2, y2 = data.instances.boxes.T
    rings = torch.stack((x1, y1, x2, y1, x2, y2, x1, y2), dim=1).double().tolist()
    outlines = tuple(Polygons(rings=(tuple(ring),)) for ring in rings)
    grid = torch.arange(128) + 0.5
    inside = ((grid > y1[:, None]) & (grid < y2[:, None]))[:, :, None] & ((grid > x1[:, None]) & (grid < x2[:, None]))[
        :, None
    ]
    runs = tuple(run_lengths(mask) for mask in inside.numpy())
    one, other = (
        loaded(replace(data, truths=replace(data.instances, shapes=shapes)), "copy-paste")
        for shapes in (outlines, runs)
    )
    assert_same((one.images, one.instances), (other.images, other.instances))


def test_boxes_that_are_not_those_of_the_mask_stay_around_the_whole_object():
    """Where a mask shows a part of its object only, a turned box stays the one around the turned corners."""
    images, truths = white_rectangles(8)
    assert truths.masks is not None
    half = truths.masks.clone()
    half[:, :, : WIDTH // 2] = False
    policy = "none(rotation=20, min_visible=0)"
    whole = augmented(policy, images, replace(truths, masks=None))[1]
    hidden = augmented(policy, images, replace(truths, masks=half))[1]
    parts = (boxes_of(half) - truths.boxes).abs().amax(1) > 2
    assert parts.any()
    assert torch.equal(hidden.boxes[parts], whole.boxes[parts])


def test_a_fixed_number_of_objects_stays():
    images, truths = white_rectangles(64)
    policy = instance_augmentation("strong(shift=0.7)", fixed=True, flip=False)
    assert (policy.mosaic, policy.mixup, policy.unit) == (0, 0, 1)
    shown, moved = augmented(replace(policy, colour=None), images, truths)
    assert moved.counts.tolist() == [1] * 64
    still = (moved.boxes == truths.boxes).all(1)
    assert 5 < still.sum() < 60
    torch.testing.assert_close(shown[still], images[still].float(), atol=0.05, rtol=0)
    with pytest.raises(UsageError, match=r"mosaic adds objects.*fixed number"):
        instance_augmentation("light(mosaic=0.5)", fixed=True)


def test_shapes_go_where_something_moves():
    images, truths = white_rectangles(2)
    shapes = (Polygons(rings=((0.0, 0.0, 5.0, 0.0, 5.0, 5.0),)),) * 2
    truths = replace(truths, shapes=shapes)
    assert augmented("none", images, truths)[1] is truths
    assert augmented("light", images[:, :3], truths)[1].shapes is None


def test_policies_and_their_words():
    assert set(INSTANCE_POLICIES) == {"none", "light", "standard", "strong", "geometric", "ssd", "copy-paste"}
    for name in INSTANCE_POLICIES:
        lines = instance_augmentation(name).describe()
        assert all(lines)
        assert (name == "none") == (not lines)
    assert instance_augmentation("strong", clean_from=10).describe() == [
        "brightness x 0.6 to 1.4; contrast x 0.6 to 1.4; saturation x 0.6 to 1.4",
        "mosaic: 50% of the images, before epoch 11",
        "mirrored left to right, half of the images",
        "scaled by 0.5 to 1.5, placed anywhere",
        "shifted by whole pixels, by up to 0.1 of the size",
        "copy-paste: 30% of the images, before epoch 11",
        "mixup: 15% of the images, alpha 1.5, before epoch 11",
    ]
    assert [instance_augmentation(text).unit for text in ("standard", "none(mixup=0.1)", "strong")] == [1, 2, 4]
    assert not instance_augmentation("ssd", flip=False).motion.flip
    assert instance_augmentation("ssd(flip=yes)", flip=False).motion.flip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sdd", r"'sdd' does not exist. Did you mean 'ssd'.*geometric, ssd, copy-paste"),
        ("light(crop=0.3)", r"option 'crop' does not exist.*There are flip"),
        ("strong(mosaic=2)", "mosaic is a number from 0 to 1"),
        ("ssd(expand=0.5)", "expand is a number from 1 to 16"),
        ("ssd(scale=0..1)", "scale is .*range of factors"),
        ("ssd(iou_crop)", "needs a value, as in iou_crop=yes"),
    ],
)
def test_mistyped_text_names_what_there_is(text: str, message: str):
    with pytest.raises(UsageError, match=message):
        instance_augmentation(text)


def test_maps_join_and_turn_round():
    drawn = Draws(seed=0, epoch=0, step=0, total=5).uniform(-1, 1, 8)
    first = affine_maps(drawn[:, 0] * 90, drawn[:, 1] * 30, 1 + drawn[:, 2] / 2, torch.ones(5, 2), drawn[:, 3:5] * 9)
    then = affine_maps(drawn[:, 5] * 90, drawn[:, 6] * 30, 1 + drawn[:, 7] / 2, -torch.ones(5, 2), drawn[:, 3:5] * 5)
    square_of = torch.tensor([[0.0, 0, 1]]).expand(5, 1, 3)
    product = torch.cat((then, square_of), 1) @ torch.cat((first, square_of), 1)
    torch.testing.assert_close(joined(first, then), product[:, :2])
    back = joined(first, inverted(first))
    torch.testing.assert_close(back, torch.eye(2, 3).expand(5, 2, 3), atol=1e-5, rtol=0)


def test_expansion_places_the_image_anywhere_on_a_larger_canvas():
    frames = torch.tensor([[HEIGHT, WIDTH]]).expand(4000, 2)
    maps, mirrored = Motion(expand=4).draw(Draws(seed=0, epoch=0, step=0, total=4000), frames, torch.zeros(4000).bool())
    assert torch.equal(mirrored, torch.eye(2, 3).expand(4000, 2, 3))
    ratio = 1 / maps[:, 0, 0]
    larger = ratio > 1
    assert larger.float().mean() == pytest.approx(0.5, abs=0.03)
    assert ratio[larger].mean() == pytest.approx(2.5, abs=0.06)
    left = maps[:, 0, 2] + WIDTH / 2 - WIDTH / 2 / ratio
    room = WIDTH * (1 - 1 / ratio)
    assert left.min() >= -1e-3
    assert (left <= room + 1e-3).all()
    assert (left[larger] / room[larger]).mean() == pytest.approx(0.5, abs=0.03)
    assert math.isclose(Motion(expand=4, scale=(0.5, 1)).shrinks, 8)


def test_scenes_keep_boxes_and_masks_together():
    """Real pictures: under every policy a mask lies in its box, and its box around it where the whole is seen."""
    data = scenes.load("scenes")
    rows = torch.arange(12)
    truths = data.truths.select(rows)
    assert isinstance(truths, InstanceSets)
    assert truths.shapes is not None
    masks = torch.from_numpy(np.stack([mask_of(shape) for shape in truths.shapes]))  # pyright: ignore[reportArgumentType]
    images = torch.from_numpy(np.stack([data.images.read(i) for i in range(12)])).permute(0, 3, 1, 2).contiguous()
    for text in EVERY:
        shown, moved = augmented(text, images, replace(truths, masks=masks))
        assert shown.isfinite().all()
        assert moved.masks is not None
        around = boxes_of(moved.masks)
        seen = moved.masks.flatten(1).any(1)
        assert seen.float().mean() > 0.9
        assert (around[seen, :2] >= moved.boxes[seen, :2] - 1).all(), text
        assert (around[seen, 2:] <= moved.boxes[seen, 2:] + 1).all(), text
        assert moved.boxes.min() >= 0
        assert moved.boxes.max() <= 128
        assert len(moved.boxes) == len(moved.labels) == int(moved.offsets[-1])


def test_tiles_have_borders_only_where_they_meet():
    tiles = Tiles(
        sources=torch.zeros(2, 4, dtype=torch.int64),
        used=torch.ones(2, 4, dtype=torch.bool),
        shifts=torch.zeros(2, 4, 2),
        centre=torch.tensor([[5.0, 7.0], [math.inf, math.inf]]),
        first=torch.zeros(2, dtype=torch.int64),
    )
    assert tiles.borders[0, 3].tolist() == [5, 7, math.inf, math.inf]
    assert tiles.borders[0, 1].tolist() == [5, -math.inf, math.inf, 7]
    assert tiles.borders[1, 0].tolist() == [-math.inf, -math.inf, math.inf, math.inf]
