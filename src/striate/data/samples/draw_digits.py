"""Draw the sample `digits` from the files of MNIST: 600 train and 100 test images of each digit.

    python -m striate.data.samples.draw_digits MNIST_FOLDER digits.npz

The split is MNIST's own. Within each split and digit the images are drawn at random, without replacement, by one
NumPy generator; they keep the order that they have in MNIST.
"""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from striate.data.formats.idx import read_idx

PER_DIGIT = {"train": 600, "test": 100}
SEED = 1998  # the year of the paper that MNIST was published with


def draw(mnist: Path) -> dict[str, NDArray[np.uint8]]:
    """Draw from a folder with MNIST's four gzipped IDX files.

    Returns:
        ``train_images`` (6000, 28, 28), ``train_labels`` (6000,), ``test_images`` (1000, 28, 28), ``test_labels``
        (1000,), all uint8.
    """
    generator = np.random.default_rng(SEED)
    drawn: dict[str, NDArray[np.uint8]] = {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images = read_idx(mnist / f"{prefix}-images-idx3-ubyte.gz", dimensions=3)
        labels = read_idx(mnist / f"{prefix}-labels-idx1-ubyte.gz", dimensions=1)
        rows = [generator.permutation(np.flatnonzero(labels == digit))[: PER_DIGIT[split]] for digit in range(10)]
        chosen = np.sort(np.concatenate(rows))
        drawn[f"{split}_images"], drawn[f"{split}_labels"] = images[chosen], labels[chosen]
    return drawn


if __name__ == "__main__":
    np.savez_compressed(sys.argv[2], **draw(Path(sys.argv[1])))  # pyright: ignore[reportArgumentType]
