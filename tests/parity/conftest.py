"""Random data sets of objects, for the tests of several metrics."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from striate.core.instances import Instances, InstanceSets


def drawn(
    seed: int,
    *,
    images: int,
    classes: int,
    objects: int = 8,
    found: int = 12,
    crowd: float = 0.0,
    ignore: float = 0.0,
    areas: bool = False,
    ties: bool = False,
    side: float = 150,
    absent: int = 0,
) -> tuple[InstanceSets, InstanceSets]:
    """Objects and detections near them; a fifth of the images without objects, a fifth without detections."""
    generator = np.random.default_rng(seed)
    predictions, truths = [], []
    for _ in range(images):
        count = generator.integers(0, objects + 1) * (generator.random() > 0.2)
        corner = generator.uniform(0, 300, (count, 2))
        size = np.exp(generator.uniform(np.log(4), np.log(side), (count, 2)))
        if ties:
            corner, size = corner.round(), size.round()
        boxes = np.concatenate((corner, corner + size), 1)
        labels = generator.integers(0, classes - absent, count)
        truths.append(
            Instances(
                boxes=torch.from_numpy(boxes).float(),
                labels=torch.from_numpy(labels),
                crowd=torch.from_numpy(generator.random(count) < crowd) if crowd else None,
                ignore=torch.from_numpy(generator.random(count) < ignore) if ignore else None,
                areas=torch.from_numpy(size.prod(1) * generator.uniform(0.3, 1, count)).float() if areas else None,
            )
        )
        many = generator.integers(0, found + 1) * (generator.random() > 0.2)
        if count:
            source = generator.integers(0, count, many)
            near = boxes[source] + generator.normal(0, 0.06, (many, 4)) * np.tile(size[source], 2)
            near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
            guess = np.where(generator.random(many) < 0.8, labels[source], generator.integers(0, classes, many))
        else:
            near = generator.uniform(0, 100, (many, 4)) + np.array([0, 0, 100, 100])
            guess = generator.integers(0, classes, many)
        scores = generator.random(many)
        if ties:
            near, scores = near.round(), (scores * 4).round() / 4
        predictions.append(
            Instances(
                boxes=torch.from_numpy(near).float(),
                labels=torch.from_numpy(guess),
                scores=torch.from_numpy(scores).float(),
            )
        )
    return InstanceSets.of(predictions), InstanceSets.of(truths)


@pytest.fixture(scope="session")
def draw() -> Callable[..., tuple[InstanceSets, InstanceSets]]:
    """Predictions and truths; see `drawn`."""
    return drawn
