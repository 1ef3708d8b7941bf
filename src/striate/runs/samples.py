"""Pictures of a data set: samples with their classes, and what training would see of them."""

import numpy as np
import torch
from PIL import Image

from striate.core.instances import Instances, InstanceSets
from striate.data.dataset import Dataset, Indices
from striate.data.loader import Loader
from striate.data.preprocess import Pixels, Preprocessing
from striate.data.split import split
from striate.errors import DataError
from striate.runs.prepare import Prepared, loader
from striate.viz.contact_sheet import comparison_sheet, contact_sheet
from striate.viz.instances import draw_instances

VERSIONS = 6  # augmented samples of one image
OBJECTS = 256  # side of a cell in which objects are drawn: class names can be read


def sample_sheet(dataset: Dataset, *, split_name: str, count: int, seed: int) -> tuple[Image.Image, int]:
    """Some images of a split with their classes.

    Args:
        dataset: where they come from.
        split_name: one of its splits, official or drawn as training would, or "all".
        count: how many.
        seed: which ones.

    Returns:
        An RGB picture, and how many of the images could not be read and are missing from it.

    Raises:
        DataError: there is no such split, or none of the images can be read.
    """
    rows = np.arange(len(dataset), dtype=np.int64) if split_name == "all" else split(dataset).of(split_name)
    chosen = spread(dataset, rows, count, seed)
    images, skipped = _read(dataset, chosen)
    captions = [_class(dataset, row) for row in images]
    shown = [_with_truth(dataset, image, row) for row, image in images.items()]
    return contact_sheet(shown, captions, cell=_cell(dataset)), skipped


def augmented_sheet(prepared: Prepared, *, split_name: str, count: int, seed: int) -> tuple[Image.Image, int]:
    """Some images of a split, and beside each what training sees of it in a few epochs.

    The samples come out of the loader that training uses, with its preprocessing and augmentation; only the
    normalisation is taken back.

    Args:
        prepared: the data with the settings that it would be trained with.
        split_name: one of its splits.
        count: how many images.
        seed: which ones, and of the augmentation.

    Returns:
        An RGB picture, and how many of the images could not be read and are missing from it.

    Raises:
        DataError: there is no such split, or none of the images can be read.
    """
    dataset = prepared.dataset
    chosen = spread(dataset, prepared.splits.of(split_name), count, seed)
    originals, skipped = _read(dataset, chosen)
    batches = Loader(
        dataset,
        chosen,
        prepared.preprocessing,
        batch=len(chosen),
        seed=seed,
        augmentation=loader(prepared, "train", batch=1, training=True).augmentation,
        shuffle=False,
    )
    versions: dict[int, list[Pixels]] = {row: [] for row in originals}
    for epoch in range(VERSIONS):
        for batch in batches.epoch(epoch):
            pictures = denormalised(batch.images, prepared.preprocessing)
            for place, (row, pixels) in enumerate(zip(batch.indices.tolist(), pictures, strict=True)):
                drawn = batch.truths
                objects = drawn[place] if isinstance(drawn, InstanceSets) else None
                versions[row].append(pixels if objects is None else _drawn(dataset, pixels, objects))
    height, width = prepared.preprocessing.size
    heading = f"augment={prepared.resolved.settings.augment}, {height}x{width}, seed {seed}"
    captions = [_class(dataset, row) for row in originals]
    shown = [_with_truth(dataset, image, row) for row, image in originals.items()]
    samples = [versions[row] for row in originals]
    return comparison_sheet(shown, samples, captions, heading=heading, cell=_cell(dataset)), skipped


def spread(dataset: Dataset, rows: Indices, count: int, seed: int) -> Indices:
    """Some rows, as many of each class as can be, in the order of the classes.

    Args:
        dataset: with the labels.
        rows: to choose from, (N,) int64.
        count: how many; fewer where there are fewer.
        seed: of the choice.

    Returns:
        (M,) int64.
    """
    mixed = np.random.default_rng(seed).permutation(rows)
    labels = dataset.strata[mixed]
    turns = np.zeros(len(mixed), dtype=np.int64)  # how many of the same class come before
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        turns[members] = np.arange(len(members))
    first = np.argsort(turns, kind="stable")[:count]
    return mixed[first[np.lexsort((turns[first], labels[first]))]]


def denormalised(images: torch.Tensor, preprocessing: Preprocessing) -> list[Pixels]:
    """From a network's input back to pixels.

    Args:
        images: (B, C, H, W) float32.
        preprocessing: what they were normalised with.

    Returns:
        B arrays, (H, W, C) uint8.
    """
    mean, std = np.asarray(preprocessing.mean), np.asarray(preprocessing.std)
    values = (images.permute(0, 2, 3, 1).cpu().numpy() * std + mean) * 255
    return list(np.clip(np.rint(values), 0, 255).astype(np.uint8))


def _read(dataset: Dataset, rows: Indices) -> tuple[dict[int, Pixels], int]:
    images: dict[int, Pixels] = {}
    last: DataError | None = None
    for row in rows.tolist():
        try:
            images[row] = dataset.images.read(row)
        except DataError as error:
            last = error
    if last is not None and not images:
        raise last
    return images, len(rows) - len(images)


def _class(dataset: Dataset, row: int) -> str:
    if not isinstance(dataset.truths, InstanceSets):
        return dataset.classes[int(dataset.labels[row])]
    count = len(dataset.truths[row])
    return "no objects" if not count else f"{count} object{'' if count == 1 else 's'}"


def _cell(dataset: Dataset) -> int | None:
    return OBJECTS if isinstance(dataset.truths, InstanceSets) else None


def _with_truth(dataset: Dataset, image: Pixels, row: int) -> Pixels:
    """The image with its objects drawn, where it has a truth that says where."""
    return _drawn(dataset, image, dataset.truths[row]) if isinstance(dataset.truths, InstanceSets) else image


def _drawn(dataset: Dataset, image: Pixels, objects: Instances) -> Pixels:
    return np.asarray(draw_instances(image, objects, dataset.classes, skeleton=dataset.skeleton, side=OBJECTS))
