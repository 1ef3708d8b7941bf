"""`digits`: 7,000 real handwritten digits out of MNIST, so that everything can be tried without a network."""

from importlib import resources

import numpy as np
import torch

from striate.core.annotations import Classifications
from striate.data.dataset import Dataset, ImageArrays

LICENCE = "CC BY-SA 3.0 (Yann LeCun, Corinna Cortes, Christopher J. C. Burges)"


def load() -> Dataset:
    """The 6,000 train and 1,000 test images of `draw_digits`, 28x28, grey, as many of each digit."""
    file = resources.files("striate.data.samples").joinpath("digits.npz")
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        images = [arrays["train_images"], arrays["test_images"]]
        labels = [arrays["train_labels"], arrays["test_labels"]]
    train, total = len(labels[0]), len(labels[0]) + len(labels[1])
    return Dataset(
        name="digits",
        format="sample of MNIST that ships with the package",
        path=None,
        task="classification",
        classes=tuple("0123456789"),
        ids=[f"train[{i}]" for i in range(train)] + [f"test[{i}]" for i in range(total - train)],
        images=ImageArrays(np.concatenate(images)[..., None]),
        truths=Classifications(labels=torch.from_numpy(np.concatenate(labels).astype(np.int64))),
        splits={"train": np.arange(train, dtype=np.int64), "test": np.arange(train, total, dtype=np.int64)},
        licence=LICENCE,
    )
