"""Detecting more than once: large images window by window, and an image at several sizes and mirrored.

Both take any detector as a function (`Detect`) and give the same kind of answer, so that one can be put into the other.
"""

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from striate.core.instances import Instances
from striate.errors import UsageError
from striate.ops.merging import Window, fuse, join_windows, mirrored, rescaled, suppress, windows

Pixels = NDArray[np.uint8]
Detect: TypeAlias = Callable[[Sequence[Pixels]], list[Instances]]  # (H, W, C) images; boxes in the pixels of each


def detect_tiled(
    detect: Detect, images: Sequence[Pixels], *, tile: int, overlap: float = 0.2, whole: bool = True, batch: int = 64
) -> list[Instances]:
    """Detect in windows of large images; `striate.ops.merging.join_windows` says how seams are mended.

    Args:
        detect: the detector.
        images: (H, W, C) uint8, of any sizes; one that fits into a window is detected as it is.
        tile: side of a window in pixels.
        overlap: what neighbouring windows share, as a part of their side.
        whole: whether the whole image, too, is shown to the detector: objects larger than a window are then found, at
            the cost of one image more.
        batch: windows that are handed to the detector at once.

    Returns:
        The objects of each image in its pixels, most confident first.

    Raises:
        UsageError: a tile or an overlap that makes no windows.
    """
    plans: list[list[Window]] = []
    for image in images:
        height, width = image.shape[:2]
        places = windows((height, width), tile, overlap)
        if whole and len(places) > 1:
            places.append(Window(x1=0, y1=0, x2=width, y2=height))
        plans.append(places)
    jobs = [(image, place) for image, places in zip(images, plans, strict=True) for place in places]
    found: list[Instances] = []
    for start in range(0, len(jobs), batch):
        chunk = jobs[start : start + batch]
        found += detect([np.ascontiguousarray(image[place.rows, place.columns]) for image, place in chunk])
    answers: list[Instances] = []
    rest = iter(found)
    for image, places in zip(images, plans, strict=True):
        parts = [next(rest) for _ in places]
        size = (image.shape[0], image.shape[1])
        answers.append(parts[0] if len(places) == 1 else join_windows(parts, places, size))
    return answers


def detect_augmented(
    detect_at: Callable[[float], Detect],
    images: Sequence[Pixels],
    *,
    scales: Sequence[float] = (1.0,),
    flip: bool = True,
    merge: Literal["wbf", "nms"] = "wbf",
    flips: Sequence[int] = (),
) -> list[Instances]:
    """Detect in an image at several scales, as it is and mirrored, and merge the answers (test-time augmentation).

    Args:
        detect_at: gives the detector that looks at images at a scale: one whose input is larger or smaller by this
            factor, or `at_scales` of one that takes images at the size that they have.
        images: (H, W, C) uint8, of any sizes.
        scales: factors of the size.
        flip: whether the mirror image of each, too, is looked at.
        merge: ``wbf``, weighted boxes fusion (`striate.ops.merging.fuse`), by which a box that few views have has a
            lower score; or ``nms``, by which the best box of each object stays as it is.
        flips: which keypoint each becomes in the mirror image; needed where the detector finds keypoints.

    Returns:
        The objects of each image in its pixels, most confident first.

    Raises:
        UsageError: no scale, or one that is not above 0.
    """
    if not scales or not all(0 < scale < float("inf") for scale in scales):
        raise UsageError(
            f"test-time augmentation takes one or more scales above 0, such as 0.8, 1 and 1.2; got {list(scales)}."
        )
    views: list[list[Instances]] = [[] for _ in images]
    for scale in scales:
        detect = detect_at(scale)
        for view, objects in zip(views, detect(images), strict=True):
            view.append(objects)
        if flip:
            mirror_images = [np.ascontiguousarray(image[:, ::-1]) for image in images]
            for view, objects, image in zip(views, detect(mirror_images), images, strict=True):
                view.append(mirrored(objects, image.shape[1], flips))
    return [(fuse if merge == "wbf" else suppress)(view) for view in views]


def at_scales(detect: Detect) -> Callable[[float], Detect]:
    """For `detect_augmented`: a detector that takes images at the size that they have, given smaller and larger ones.

    A detector that brings every image to one size would see the same thing at every scale.
    """

    def detect_at(scale: float) -> Detect:
        def scaled(images: Sequence[Pixels]) -> list[Instances]:
            if scale == 1:
                return detect(images)
            resized = [_resized(image, scale) for image in images]
            return [
                rescaled(objects, (image.shape[0] / small.shape[0], image.shape[1] / small.shape[1]))
                for objects, image, small in zip(detect(resized), images, resized, strict=True)
            ]

        return scaled

    return detect_at


def _resized(image: Pixels, scale: float) -> Pixels:
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    array = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
    return array[:, :, None] if image.shape[2] == 1 else array
