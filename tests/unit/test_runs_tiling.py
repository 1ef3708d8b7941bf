from collections.abc import Sequence

import numpy as np
import pytest
import torch

from striate.core.instances import Instances
from striate.errors import UsageError
from striate.ops.boxes import clip, iou
from striate.runs.tiling import Pixels, at_scales, detect_augmented, detect_tiled


def seer(images: Sequence[Pixels]) -> list[Instances]:
    """Finds every value above 0 of an image as an object: exactly what of it is to be seen, high values first."""
    answers: list[Instances] = []
    for image in images:
        values = [int(value) for value in np.unique(image)[::-1] if value]
        boxes: list[list[float]] = []
        for value in values:
            rows, columns = np.nonzero((image == value).any(2))
            boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        answers.append(
            Instances(
                boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
                labels=torch.tensor([value % 3 for value in values], dtype=torch.int64),
                scores=torch.tensor([0.5 + value / 1000 for value in values]),
            )
        )
    return answers


def scene(seed: int, size: tuple[int, int], greatest: int) -> tuple[Pixels, list[list[float]]]:
    """Rectangles that do not touch, each with a value of its own; and their boxes, the highest value first."""
    rng = np.random.default_rng(seed)
    image = np.zeros((*size, 1), dtype=np.uint8)
    boxes: list[list[float]] = []
    for _ in range(200):
        height, width = rng.integers(6, greatest, 2).tolist()
        y, x = int(rng.integers(0, max(1, size[0] - height))), int(rng.integers(0, max(1, size[1] - width)))
        around = image[max(0, y - 2) : y + height + 2, max(0, x - 2) : x + width + 2]
        if around.any() or y + height > size[0] or x + width > size[1]:
            continue
        boxes.append([x, y, x + width, y + height])
        image[y : y + height, x : x + width] = len(boxes)
    return image, boxes[::-1]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("greatest", [40, 90, 250])  # smaller than the overlap is not needed, nor than a window
def test_every_object_is_found_once_and_whole(seed: int, whole: bool, greatest: int):
    image, boxes = scene(seed, (330, 410), greatest)
    (found,) = detect_tiled(seer, [image], tile=128, overlap=0.2, whole=whole)
    assert found.boxes.tolist() == boxes
    assert len(boxes) > 3


@pytest.mark.parametrize("greatest", [40, 90, 250])
def test_boxes_that_are_a_little_off_are_still_joined(greatest: int):
    rng = np.random.default_rng(0)

    def shaky(images: Sequence[Pixels]) -> list[Instances]:
        answers: list[Instances] = []
        for found, image in zip(seer(images), images, strict=True):
            sides = (found.boxes[:, 2:] - found.boxes[:, :2]).repeat(1, 2)
            boxes = found.boxes + 0.03 * sides * torch.from_numpy(rng.standard_normal(sides.shape)).float()
            boxes = clip(boxes, (image.shape[0], image.shape[1]))
            answers.append(Instances(boxes=boxes, labels=found.labels, scores=found.scores))
        return answers

    image, boxes = scene(1, (330, 410), greatest)
    (found,) = detect_tiled(shaky, [image], tile=128, overlap=0.25, whole=False)
    overlaps = iou(found.boxes, torch.tensor(boxes, dtype=torch.float32))
    assert overlaps.shape[0] == overlaps.shape[1]
    assert (overlaps.max(0).values > 0.6).all()


def test_images_of_any_sizes_go_through_in_batches():
    sizes: list[int] = []

    def counting(images: Sequence[Pixels]) -> list[Instances]:
        sizes.append(len(images))
        return seer(images)

    scenes = [scene(seed, size, 30) for seed, size in enumerate([(50, 60), (200, 100), (128, 128), (300, 300)])]
    found = detect_tiled(counting, [image for image, _ in scenes], tile=128, overlap=0.25, batch=4)
    assert [objects.boxes.tolist() for objects in found] == [boxes for _, boxes in scenes]
    assert max(sizes) == 4
    assert sum(sizes) == 1 + (2 + 1) + 1 + (9 + 1)
    assert detect_tiled(seer, [], tile=128) == []


@pytest.mark.parametrize("merge", ["wbf", "nms"])
def test_all_views_of_an_image_agree(merge: str):
    image = np.zeros((60, 80, 3), dtype=np.uint8)
    image[10:30, 20:60] = 255
    seen: list[tuple[int, ...]] = []

    def bright(images: Sequence[Pixels]) -> list[Instances]:
        seen.extend(view.shape for view in images)
        return seer([((view > 127) * 255).astype(np.uint8) for view in images])

    (found,) = detect_augmented(at_scales(bright), [image], scales=(0.5, 1, 2), flip=True, merge=merge)  # pyright: ignore[reportArgumentType]
    np.testing.assert_allclose(found.boxes, [[20, 10, 60, 30]], atol=0.5)
    assert found.scores is not None
    assert found.scores.tolist() == pytest.approx([0.755])
    assert seen == [(30, 40, 3)] * 2 + [(60, 80, 3)] * 2 + [(120, 160, 3)] * 2


def test_what_half_of_the_views_see_counts_half():
    def left_only(images: Sequence[Pixels]) -> list[Instances]:
        return [objects.select(objects.boxes[:, 0] < 30) for objects in seer(images)]

    image = np.zeros((60, 80, 1), dtype=np.uint8)
    image[10:30, 5:25] = 100
    (fused,) = detect_augmented(at_scales(left_only), [image])
    (best,) = detect_augmented(at_scales(left_only), [image], merge="nms")
    assert fused.scores is not None
    assert best.scores is not None
    assert fused.scores.tolist() == pytest.approx([0.3])
    assert best.scores.tolist() == pytest.approx([0.6])


def test_a_tiled_detector_can_be_augmented():
    image, boxes = scene(3, (200, 260), 60)
    (found,) = detect_augmented(lambda _: lambda images: detect_tiled(seer, images, tile=128), [image], merge="nms")
    assert found.boxes.tolist() == boxes


@pytest.mark.parametrize("scales", [(), (0.0,), (1.0, float("inf"))])
def test_scales_that_make_no_image_are_refused(scales: tuple[float, ...]):
    with pytest.raises(UsageError, match="scales above 0"):
        detect_augmented(at_scales(seer), [], scales=scales)
