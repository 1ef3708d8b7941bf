"""Images per second of the loader, against torchvision's ImageFolder, and from memory.

    python benchmarks/reading.py            a folder of 500 px JPEGs, standard augmentation at 224 px, two cores
    python benchmarks/reading.py --memory   28 x 28 grey images in memory, against a bare loop, plain and augmented

The folder is made of the sample photographs of scikit-image and scikit-learn: random parts of them, saved as JPEG with
quality 90. Both sides decode, crop (8% to 100% of the area), flip, jitter (0.4 each of brightness, contrast and
saturation), and give normalised float32 batches of 64; nothing is trained. Trials alternate in one process, and the
first epoch of each side, which starts workers and fills the file cache, does not count.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from striate.core.annotations import Classifications
from striate.data.dataset import Dataset, ImageArrays
from striate.data.images import ImageFiles
from striate.data.loader import Loader
from striate.data.preprocess import Preprocessing
from striate.data.transforms.policy import augmentation

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH = 64


def write_photos(folder: Path, count: int) -> None:
    from skimage import data
    from sklearn.datasets import load_sample_image

    photos = {
        "astronaut": data.astronaut(),
        "cat": data.chelsea(),
        "coffee": data.coffee(),
        "flower": load_sample_image("flower.jpg"),
        "palace": load_sample_image("china.jpg"),
        "rocket": data.rocket(),
    }
    rng = np.random.default_rng(0)
    for i in range(count):
        name = list(photos)[i % len(photos)]
        pixels = photos[name]
        height, width = (int(side * rng.uniform(0.6, 1)) for side in pixels.shape[:2])
        top, left = rng.integers(pixels.shape[0] - height + 1), rng.integers(pixels.shape[1] - width + 1)
        picture = Image.fromarray(np.ascontiguousarray(pixels[top : top + height, left : left + width]))
        scale = 500 / max(picture.size)
        picture = picture.resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC)
        path = folder / name / f"{i:05}.jpg"
        path.parent.mkdir(exist_ok=True)
        picture.save(path, quality=90)


def our_files(folder: Path) -> Callable[[int], int]:
    paths = sorted(folder.glob("*/*.jpg"))
    classes = tuple(sorted({path.parent.name for path in paths}))
    dataset = Dataset(
        name="photos",
        format="folder of classes",
        path=folder,
        task="classification",
        classes=classes,
        ids=[str(path.relative_to(folder)) for path in paths],
        images=ImageFiles(paths),
        truths=Classifications(labels=torch.tensor([classes.index(path.parent.name) for path in paths])),
    )
    loader = Loader(
        dataset,
        np.arange(len(paths)),
        Preprocessing(size=(224, 224), channels=3, mean=MEAN, std=STD),
        batch=BATCH,
        seed=0,
        augmentation=augmentation("standard", classes=len(classes)),
        workers=2,
    )
    return lambda epoch: sum(len(batch) for batch in loader.epoch(epoch))


def their_files(folder: Path) -> Callable[[int], int]:
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    transform = v2.Compose(
        [
            v2.RandomResizedCrop(224),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    loader = torch.utils.data.DataLoader(
        ImageFolder(folder, transform), batch_size=BATCH, shuffle=True, num_workers=2, persistent_workers=True
    )
    return lambda epoch: sum(len(images) for images, _ in loader)


def in_memory(count: int) -> dict[str, Callable[[int], int]]:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, 28, 28, 1), dtype=np.uint8)
    labels = torch.from_numpy(rng.integers(0, 10, count))
    dataset = Dataset(
        name="made",
        format="arrays",
        path=None,
        task="classification",
        classes=tuple("0123456789"),
        ids=range(count),  # pyright: ignore[reportArgumentType]
        images=ImageArrays(pixels),
        truths=Classifications(labels=labels),
    )
    preprocessing = Preprocessing(size=(28, 28), channels=1, mean=(0.1307,), std=(0.3081,))

    def bare(epoch: int) -> int:
        """The least that a hand-written loop would do."""
        images, total = torch.from_numpy(pixels).permute(0, 3, 1, 2), 0
        order = torch.randperm(count)
        for start in range(0, count, BATCH):
            rows = order[start : start + BATCH]
            batch, _ = images[rows].float().div_(255).sub_(0.1307).div_(0.3081), labels[rows]
            total += len(batch)
        return total

    sides = {"a bare loop": bare}
    for text in ("none", "light", "geometric", "geometric(elastic=34)"):
        policy = None if text == "none" else augmentation(text, classes=10)
        loader = Loader(dataset, np.arange(count), preprocessing, batch=BATCH, seed=0, augmentation=policy)
        sides[f"striate, {text}"] = lambda epoch, loader=loader: sum(len(batch) for batch in loader.epoch(epoch))
    return sides


def compare(sides: dict[str, Callable[[int], int]], trials: int) -> dict[str, list[float]]:
    """Images per second of every side, trial by trial, the sides taking turns."""
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for trial in range(trials + 1):
        for name, epoch in sides.items():
            began = time.perf_counter()
            images = epoch(trial)
            if trial > 0:
                rates[name].append(images / (time.perf_counter() - began))
    for name, values in rates.items():
        low, middle, high = min(values), statistics.median(values), max(values)
        print(f"{name:36} {middle:12,.0f} images/s   (min {low:,.0f}, max {high:,.0f}, {trials} trials)")
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory", action="store_true", help="measure images in memory instead of files")
    parser.add_argument("--images", type=int, help="how many (default: 600 files, 60,000 in memory)")
    parser.add_argument("--trials", type=int, default=5)
    options = parser.parse_args()

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    torch.set_num_threads(min(2, torch.get_num_threads()))
    if options.memory:
        compare(in_memory(options.images or 60_000), options.trials)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_photos(folder, options.images or 600)
        theirs, ours = "torchvision ImageFolder, v2", "striate Loader, standard"
        rates = compare({theirs: their_files(folder), ours: our_files(folder)}, options.trials)
        ratios = [a / b for a, b in zip(rates[ours], rates[theirs], strict=True)]
        print(f"ratio {statistics.median(ratios):.2f} (min {min(ratios):.2f}, max {max(ratios):.2f}); target 2.0")


if __name__ == "__main__":
    main()
