"""The fingerprint of a data set changes with what is taught, and with nothing else."""

from dataclasses import replace

import numpy as np
import torch

from striate.core.annotations import Classifications
from striate.core.instances import Instances, InstanceSets, Polygons, RunLengths
from striate.data.dataset import Dataset, ImageArrays
from striate.data.objects import NO_SHAPE

ALL = np.arange(2)
SQUARE = Polygons(rings=((0.0, 0.0, 4.0, 0.0, 4.0, 4.0),))


def data(truths: Classifications | InstanceSets) -> Dataset:
    return Dataset(
        name="data",
        format="made",
        path=None,
        task="classification" if isinstance(truths, Classifications) else "detection",
        classes=("a", "b"),
        ids=["x", "y"],
        images=ImageArrays(np.zeros((2, 4, 4, 1), dtype=np.uint8)),
        truths=truths,
    )


def boxes() -> InstanceSets:
    one = Instances(boxes=torch.tensor([[0.0, 0, 4, 4], [1, 1, 3, 3]]), labels=torch.tensor([0, 1]))
    return InstanceSets.of([one, one])


def test_classes_and_plain_boxes_keep_the_fingerprint_that_they_have_always_had() -> None:
    classes = data(Classifications(labels=torch.tensor([0, 1])))
    assert classes.fingerprint(ALL) == "4dc215e490d9db52866a635a06fe2c7601580ca919f264e11bc5b0006d950838"
    assert data(boxes()).fingerprint(ALL) == "4f27794ed86df5c786b79fd50740654db4ea758ece2ec22438cf39f61f2bf8d5"


def test_masks_crowds_and_ignored_objects_count() -> None:
    plain = boxes()
    runs = RunLengths(size=(4, 4), counts=(3, 4, 9))
    other = Polygons(rings=((0.0, 0.0, 4.0, 0.0, 4.0, 3.0),))
    first = torch.tensor([True, False, False, False])
    versions = [
        plain,
        replace(plain, crowd=first),
        replace(plain, crowd=first.flip(0)),
        replace(plain, ignore=first),
        replace(plain, shapes=(SQUARE, NO_SHAPE, NO_SHAPE, NO_SHAPE)),
        replace(plain, shapes=(NO_SHAPE, SQUARE, NO_SHAPE, NO_SHAPE)),
        replace(plain, shapes=(other, NO_SHAPE, NO_SHAPE, NO_SHAPE)),
        replace(plain, shapes=(runs, NO_SHAPE, NO_SHAPE, NO_SHAPE)),
        replace(plain, shapes=(replace(runs, counts=(4, 4, 8)), NO_SHAPE, NO_SHAPE, NO_SHAPE)),
    ]
    assert len({data(truths).fingerprint(ALL) for truths in versions}) == len(versions)
    nothing = replace(plain, crowd=torch.zeros(4).bool(), ignore=torch.zeros(4).bool(), shapes=(NO_SHAPE,) * 4)
    assert data(nothing).fingerprint(ALL) == data(plain).fingerprint(ALL)
