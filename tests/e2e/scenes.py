"""A few of the sample's images, as data for quick runs."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from striate.data.dataset import Dataset, ImageArrays
from striate.data.open import open_dataset

PARTS = {"train": 12, "val": 6, "test": 6}
ODD = {"train": 12, "val": 7, "test": 5}  # which two processes cannot halve


def some(name: str, parts: Mapping[str, int] = PARTS) -> Dataset:
    """A few images of a sample, with its splits."""
    whole = open_dataset(name)
    rows = np.concatenate([whole.splits[part][:count] for part, count in parts.items()])
    ends = np.cumsum([0, *parts.values()])
    return replace(
        whole,
        ids=[f"{place:03}.png" for place in range(len(rows))],
        images=ImageArrays(np.stack([whole.images.read(int(row)) for row in rows])),
        truths=whole.instances.select(torch.from_numpy(rows)),
        splits={part: np.arange(ends[place], ends[place + 1]) for place, part in enumerate(parts)},
    )
