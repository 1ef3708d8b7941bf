"""Real photos that two libraries ship, for studies of natural images."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from striate.errors import DataError


def photos() -> dict[str, NDArray[np.uint8]]:
    """Twelve photos by name, each (H, W, 3).

    Raises:
        DataError: scikit-image or scikit-learn is not installed.
    """
    try:
        import skimage.data
        from sklearn.datasets import load_sample_image
    except ImportError as error:
        raise DataError(
            "this study takes its photos from scikit-image and scikit-learn, which are not installed: "
            "pip install scikit-image scikit-learn. Or name images of your own with --data."
        ) from error
    found: dict[str, Any] = {name: load_sample_image(f"{name}.jpg") for name in ("china", "flower")}
    for name in ("astronaut", "brick", "camera", "cat", "coffee", "coins", "grass", "gravel", "rocket"):
        found[name] = getattr(skimage.data, name)()
    found["motorcycle"] = skimage.data.stereo_motorcycle()[0]
    return {name: np.dstack([photo] * 3) if photo.ndim == 2 else photo[..., :3] for name, photo in found.items()}


def write_halves(folder: Path, *, side: int, train: int, test: int) -> str:
    """Crops as a folder of classes, one class per photo: of the left halves to train on, of the right ones to test on.

    No pixel of a test image is in a training image. Each crop is one to one and a half times ``side`` wide, from
    anywhere in its half, mirrored or not, and resized.

    Args:
        folder: is made, or taken as it is where it is there.
        side: height and width of the crops.
        train: crops per photo.
        test: the same.

    Returns:
        The folder's path.
    """
    if folder.exists():
        return str(folder)
    rng = np.random.default_rng(0)
    unfinished = folder.with_name(f"{folder.name}-unfinished")
    for name, photo in photos().items():
        middle = photo.shape[1] // 2
        for split, half, count in (("train", photo[:, :middle], train), ("test", photo[:, middle:], test)):
            place = unfinished / split / name
            place.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                length = min(round(side * rng.uniform(1, 1.5)), *half.shape[:2])
                top, left = (int(rng.integers(0, extent - length + 1)) for extent in half.shape[:2])
                pixels = half[top : top + length, left : left + length]
                crop = Image.fromarray(pixels[:, ::-1] if rng.random() < 0.5 else pixels)
                crop.resize((side, side), Image.Resampling.LANCZOS).save(place / f"{number}.png")
    unfinished.rename(folder)
    return str(folder)
