"""Images that were fitted with padding: augmentation keeps it in place, and training knows where it is."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from rectangles import HEIGHT, WIDTH, white_rectangles

from striate.core.instances import Instances, InstanceSets
from striate.data.dataset import Dataset
from striate.data.loader import Loader
from striate.data.preprocess import Pixels, Preprocessing
from striate.data.transforms.draws import Draws
from striate.data.transforms.instances import instance_augmentation

GEOMETRY = [
    "none(flip=yes, flip_vertical=yes)",
    "none(scale=0.5..1.5, shift=0.3, flip=yes)",
    "none(rotation=30, shear=20, scale=0.7..1.3, flip=yes)",
    "none(expand=4, iou_crop=yes, flip=yes)",
]


@pytest.mark.parametrize("text", GEOMETRY)
def test_a_padded_image_moves_as_if_it_were_padded_afterwards(text: str):
    images, truths = white_rectangles(24)
    high, wide = 61, 77
    fits = (truths.boxes[:, 2] <= wide) & (truths.boxes[:, 3] <= high)
    assert fits.sum() > 5
    truths = truths.keep(fits)
    assert truths.masks is not None
    cut, content = images[:, :, :high, :wide].contiguous(), torch.tensor([[high, wide]]).expand(24, 2)
    padded = torch.zeros_like(images)
    padded[:, :, :high, :wide] = cut
    policy = instance_augmentation(text)
    plain: dict[str, Any] = {"scale": torch.ones(4, 1, 1), "offset": torch.zeros(4, 1, 1), "crops": None}
    here, objects, inner = policy(padded, truths, Draws(seed=0, epoch=0, step=0, total=24), content=content, **plain)
    cut_truths = replace(truths, masks=truths.masks[:, :high, :wide])
    there, same, whole = policy(cut, cut_truths, Draws(seed=0, epoch=0, step=0, total=24), **plain)
    assert torch.equal(inner, content)
    assert torch.equal(whole, content)
    assert not here[:, :, high:].any()
    assert not here[:, :, :, wide:].any()
    torch.testing.assert_close(here[:, :, :high, :wide], there, atol=0.1, rtol=0)  # of 255
    assert objects.counts.tolist() == same.counts.tolist()
    torch.testing.assert_close(objects.boxes, same.boxes, atol=1e-3, rtol=0)
    torch.testing.assert_close(objects.keypoints, same.keypoints, atol=1e-3, rtol=0)
    assert objects.masks is not None
    assert not objects.masks[:, high:].any()
    assert not objects.masks[:, :, wide:].any()


def test_a_mosaic_fills_the_canvas_and_mixup_joins_the_contents():
    images, truths = white_rectangles(4)
    content = torch.tensor([[96, 60], [50, 128], [96, 128], [40, 30]])
    plain: dict[str, Any] = {
        "crops": None,
        "scale": torch.ones(4, 1, 1),
        "offset": torch.zeros(4, 1, 1),
        "content": content,
    }
    draws = {"seed": 0, "epoch": 0, "step": 0, "total": 4}
    assert (
        instance_augmentation("none(mosaic=1)")(images, truths, Draws(**draws), **plain)[2].tolist()
        == [[HEIGHT, WIDTH]] * 4
    )
    mixed = instance_augmentation("none(mixup=1)")(images, truths, Draws(**draws), **plain)[2]
    assert mixed.tolist() == [[96, 128], [96, 128], [96, 128], [96, 128]]


@pytest.mark.parametrize("text", ["none", "standard"])
def test_training_knows_what_is_image_as_evaluation_does(text: str):
    """Landscape, portrait and square images on one canvas; with everything in view, the truth is the same too."""
    shapes = [(48, 64), (64, 48), (64, 64), (20, 80)]
    pixels = [np.full((height, width, 3), 200, dtype=np.uint8) for height, width in shapes]
    found = [Instances(boxes=torch.tensor([[0.0, 0, w, h]]), labels=torch.zeros(1).long()) for h, w in shapes]
    dataset = Dataset(
        name="made",
        format="arrays",
        path=None,
        task="detection",
        classes=("thing",),
        ids=["a", "b", "c", "d"],
        images=Pictures(pixels),
        truths=InstanceSets.of(found),
    )
    plain = Preprocessing(size=(96, 96), channels=3, mean=(0.0,) * 3, std=(1.0,) * 3, resize="fit", fill=114)
    loader = Loader(dataset, np.arange(4), plain, batch=4, seed=0, shuffle=False)
    (seen,) = loader.epoch(0)
    loader = Loader(
        dataset,
        np.arange(4),
        plain,
        batch=4,
        seed=0,
        shuffle=False,
        augmentation=instance_augmentation(text, fill=114),
    )
    (trained,) = loader.epoch(0)
    assert trained.placement is None
    assert trained.content.tolist() == seen.content.tolist() == [[72, 96], [96, 72], [96, 96], [24, 96]]
    assert trained.select(slice(1, 3)).content.tolist() == [[96, 72], [96, 96]]
    for image, (height, width) in zip(trained.images, trained.content.tolist(), strict=True):
        torch.testing.assert_close(image[:, height:], torch.full_like(image[:, height:], 114 / 255))
        torch.testing.assert_close(image[:, :, width:], torch.full_like(image[:, :, width:], 114 / 255))
    if text == "none":
        torch.testing.assert_close(trained.images, seen.images)
        torch.testing.assert_close(trained.instances.boxes, seen.instances.boxes)


class Pictures:
    """Images of several sizes in memory."""

    def __init__(self, pixels: list[Pixels]):
        self._pixels = pixels

    def __len__(self) -> int:
        return len(self._pixels)

    def read(self, index: int) -> Pixels:
        return self._pixels[index]

    def content(self, index: int) -> bytes:
        return self._pixels[index].tobytes()
