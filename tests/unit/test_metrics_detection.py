"""Matching, curves, confusion and mistakes on examples small enough to be judged by eye."""

import numpy as np
import pytest
import torch

from striate.core.instances import Instances, InstanceSets
from striate.errors import DataError
from striate.metrics.detection import best_f1, confusion, precision_recall
from striate.metrics.matching import match
from striate.metrics.tide import KINDS, mistakes
from striate.metrics.voc import VocMetric

CAT, DOG = 0, 1
Row = tuple[float, float, float, float]


def objects(*rows: tuple[Row, int], **columns: list[bool]) -> Instances:
    return Instances(
        boxes=torch.tensor([box for box, _ in rows]).reshape(-1, 4),
        labels=torch.tensor([label for _, label in rows], dtype=torch.int64),
        **{name: torch.tensor(values) for name, values in columns.items()},
    )


def found(*rows: tuple[Row, int, float]) -> Instances:
    return Instances(
        boxes=torch.tensor([box for box, _, _ in rows]).reshape(-1, 4),
        labels=torch.tensor([label for _, label, _ in rows], dtype=torch.int64),
        scores=torch.tensor([score for _, _, score in rows]),
    )


def sets(*images: Instances) -> InstanceSets:
    return InstanceSets.of(images)


# A box of 10 x 10, the same moved to the right for IoU 2/3, 1/3 and 1/19, and one far away.
HERE = (0.0, 0.0, 10.0, 10.0)
NEAR = (2.0, 0.0, 12.0, 10.0)
ROUGH = (5.0, 0.0, 15.0, 10.0)
TOUCHING = (9.0, 0.0, 19.0, 10.0)
AWAY = (100.0, 100.0, 110.0, 110.0)
ELSEWHERE = (200.0, 200.0, 210.0, 210.0)


def test_a_better_box_with_less_score_comes_too_late():
    matches = match(sets(found((NEAR, CAT, 0.9), (HERE, CAT, 0.8))), sets(objects((HERE, CAT))))
    assert matches.objects.tolist() == [0, -1]
    assert matches.right.tolist() == [True, False]


def test_of_equal_scores_the_first_comes_first():
    matches = match(sets(found((NEAR, CAT, 0.9), (HERE, CAT, 0.9))), sets(objects((HERE, CAT))))
    assert matches.right.tolist() == [True, False]


def test_an_object_that_counts_before_one_that_does_not():
    truths = sets(objects((HERE, CAT), (NEAR, CAT), ignore=[True, False]))
    matches = match(sets(found((HERE, CAT, 0.9), (HERE, CAT, 0.8), (HERE, CAT, 0.7))), truths)
    # The nearest is to be ignored: it is taken second, once, and the third finds nothing.
    assert matches.objects.tolist() == [1, 0, -1]
    assert matches.right.tolist() == [True, False, False]
    assert matches.aside.tolist() == [False, True, False]


def test_a_crowd_swallows_all_that_lies_inside():
    truths = sets(objects(((0.0, 0.0, 100.0, 100.0), CAT), crowd=[True]))
    matches = match(sets(found((HERE, CAT, 0.9), (NEAR, CAT, 0.8), (HERE, DOG, 0.7), (AWAY, CAT, 0.6))), truths)
    assert matches.aside.tolist() == [True, True, False, False]
    assert not matches.found.any()


def test_precision_and_recall():
    predictions = sets(found((HERE, CAT, 0.9), (AWAY, CAT, 0.8)), found((HERE, CAT, 0.7)), found())
    truths = sets(objects((HERE, CAT)), objects((HERE, CAT)), objects((HERE, CAT), (AWAY, CAT)))
    cat, dog = precision_recall(predictions, truths, 2)
    assert cat.precision.tolist() == pytest.approx([1, 1 / 2, 2 / 3])
    assert cat.recall.tolist() == [1 / 4, 1 / 4, 2 / 4]
    # Recalls 0 to 0.25 at precision 1, to 0.5 at 2/3, none beyond.
    assert cat.interpolated[[0, 25, 26, 50, 51, 100]].tolist() == pytest.approx([1, 1, 2 / 3, 2 / 3, 0, 0])
    assert cat.average_precision == pytest.approx((26 + 25 * 2 / 3) / 101)
    assert dog.average_precision is None
    assert not dog.objects
    rows = best_f1([cat, dog], ["cat", "dog"])
    expected = {"name": "cat", "threshold": np.float32(0.7), "f1": 4 / 7, "precision": 2 / 3, "recall": 0.5}
    assert rows[0] == pytest.approx(expected | {"objects": 4}, nan_ok=False)
    assert set(list(rows[1].values())[1:5]) == {None}


def test_a_threshold_cannot_part_equal_scores():
    predictions = sets(found((HERE, CAT, 0.5), (AWAY, CAT, 0.5), (ELSEWHERE, CAT, 0.5)))
    row = best_f1(precision_recall(predictions, sets(objects((HERE, CAT))), 1), ["cat"])[0]
    assert (row["threshold"], row["precision"], row["recall"], row["f1"]) == (0.5, pytest.approx(1 / 3), 1, 0.5)


def test_nothing_right_has_no_threshold():
    row = best_f1(precision_recall(sets(found((AWAY, CAT, 0.5))), sets(objects((HERE, CAT))), 1), ["cat"])[0]
    assert row == {"name": "cat", "threshold": None, "f1": 0.0, "precision": None, "recall": 0.0, "objects": 1}


def test_confusion_with_background():
    predictions = sets(
        found((HERE, DOG, 0.9), (AWAY, CAT, 0.8), (ELSEWHERE, CAT, 0.2)), found((HERE, CAT, 0.6)), found()
    )
    truths = sets(objects((HERE, CAT), (ELSEWHERE, CAT)), objects(), objects((HERE, DOG)))
    assert confusion(predictions, truths, 2, score=0.5).tolist() == [
        [0, 1, 1],  # a cat found as a dog, one missed (its detection has too little score)
        [0, 0, 1],  # a dog missed
        [2, 0, 0],  # two cats where nothing is
    ]
    # One threshold per class.
    assert confusion(predictions, truths, 2, score=[0.1, 0.95]).tolist() == [[1, 0, 1], [0, 0, 1], [2, 0, 0]]


def test_confusion_sets_aside():
    truths = sets(objects((HERE, CAT), (AWAY, DOG), crowd=[True, False], ignore=[False, True]))
    predictions = sets(found((HERE, CAT, 0.9), (HERE, CAT, 0.9), (AWAY, DOG, 0.9), (AWAY, CAT, 0.9)))
    assert confusion(predictions, truths, 2, score=0.5).tolist() == [[0, 0, 0], [0, 0, 0], [1, 0, 0]]


MISTAKES = [  # what is found beside a right dog, and what it is
    ((HERE, DOG), "classification"),
    ((ROUGH, CAT), "localization"),
    ((ROUGH, DOG), "both"),
    ((AWAY, DOG), "duplicate"),
    ((ELSEWHERE, CAT), "background"),
    ((TOUCHING, CAT), "background"),
]


@pytest.mark.parametrize(("row", "kind"), MISTAKES)
def test_kinds_of_mistakes(row: tuple[Row, int], kind: str):
    truths = sets(objects((HERE, CAT), (AWAY, DOG)), objects((AWAY, DOG)))
    predictions = sets(found((AWAY, DOG, 0.9), (*row, 0.8)), found((AWAY, DOG, 0.7)))
    result = mistakes(predictions, truths, 2)
    assert result.kinds.tolist() == [-1, KINDS.index(kind), -1]
    missed = kind not in ("classification", "localization")
    assert result.counts == {name: int(name == kind or (name == "missed" and missed)) for name in KINDS}
    assert result.missed.tolist() == [missed, False, False]
    # Cats have AP 0. Dogs have 1, unless a wrong dog comes between the two: 51 recalls at 1, 50 at 2/3.
    dogs = (51 + 50 * 2 / 3) / 101 if row[1] == DOG else 1.0
    assert result.base == pytest.approx(dogs / 2)
    cost = {
        "classification": 1 - dogs / 2,  # the cat is found, and the wrong dog is gone
        "localization": 0.5,
        "both": (1 - dogs) / 2,
        "duplicate": (1 - dogs) / 2,
        "background": 0.0,
    }[kind]
    assert result.costs[kind] == pytest.approx(cost)
    # Without the missed cat only the dogs are left to be measured.
    assert result.costs["missed"] == pytest.approx(dogs / 2 if missed else 0.0)
    assert result.costs["false_negative"] == pytest.approx(dogs / 2)
    assert result.costs["false_positive"] == pytest.approx((1 - dogs) / 2)


def test_one_mistake_per_object_is_mended():
    truths = sets(objects((HERE, CAT), (AWAY, CAT)))
    predictions = sets(found((ROUGH, CAT, 0.9), (ROUGH, CAT, 0.8), (AWAY, CAT, 0.7)))
    result = mistakes(predictions, truths, 1)
    assert result.counts["localization"] == 2
    assert result.base == pytest.approx(51 / 3 / 101)  # the third is the first that is right
    assert result.costs["localization"] == pytest.approx(1 - result.base)


def test_what_is_set_aside_is_no_mistake():
    truths = sets(objects((HERE, CAT), (AWAY, CAT), ignore=[True, False]))
    result = mistakes(sets(found((HERE, CAT, 0.9), (AWAY, CAT, 0.8))), truths, 1)
    assert result.kinds.tolist() == [-1, -1]
    assert result.base == pytest.approx(1)


def test_nothing_found_and_nothing_to_find():
    truths = sets(objects((HERE, CAT)), objects())
    result = mistakes(sets(found(), found()), truths, 1)
    assert result.counts == dict.fromkeys(KINDS[:5], 0) | {"missed": 1}
    assert result.base == 0
    assert confusion(sets(found(), found()), truths, 1, score=0.5).tolist() == [[0, 1], [0, 0]]
    metric = VocMetric(1)
    metric.update(sets(found(), found()), truths)
    assert metric.compute() == {"VOC_AP": 0, "VOC07_AP": 0}
    with pytest.raises(DataError, match="no object to find"):
        mistakes(sets(found((HERE, CAT, 0.5))), sets(objects()), 1)
    curve = precision_recall(sets(found((HERE, CAT, 0.5))), sets(objects()), 1)[0]
    assert len(curve.right) == 1
    assert np.isnan(curve.recall).all()


def test_many_images_are_cut_into_parts(monkeypatch: pytest.MonkeyPatch):
    generator = torch.Generator().manual_seed(0)
    counts = torch.randint(0, 6, (2, 50), generator=generator)
    images = []
    for row in counts.tolist():
        corners = [torch.rand(count, 2, generator=generator) * 20 for count in row]
        images.append([torch.cat((corner, corner + 15), 1) for corner in corners])
    truths = sets(*(Instances(boxes=b, labels=torch.zeros(len(b), dtype=torch.int64)) for b in images[0]))
    predictions = sets(
        *(
            Instances(boxes=b, labels=torch.zeros(len(b), dtype=torch.int64), scores=torch.linspace(1, 0.5, len(b)))
            for b in images[1]
        )
    )
    whole = match(predictions, truths, iou=0.3)
    for at_once in (1, 7, 40):
        monkeypatch.setattr("striate.metrics.matching.AT_ONCE", at_once)
        part = match(predictions, truths, iou=0.3)
        np.testing.assert_array_equal(part.objects, whole.objects)
    assert whole.right.sum() > 20
