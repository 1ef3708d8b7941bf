"""Confident learning: against the paper's definitions worked by hand, its first theorem, and planted errors."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score

from striate.core.annotations import Classifications
from striate.core.instances import InstanceSets
from striate.data.dataset import Dataset, ImageArrays
from striate.data.doctor.examination import Opinion, examine
from striate.data.doctor.label_errors import (
    LabelError,
    confident_joint,
    in_words,
    joint,
    likely_errors,
    thresholds,
)
from striate.engine.log import Display
from striate.runs.examining import FOLDS, judge_labels, out_of_fold

QUIET = Display(quiet=True)

# Ten images of three classes, so few that every number below is worked by hand.
LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 2])
PROBABILITIES = np.array(
    [
        [0.80, 0.10, 0.10],
        [0.60, 0.30, 0.10],
        [0.10, 0.80, 0.10],  # wrong, surely
        [0.40, 0.35, 0.25],  # reaches no threshold
        [0.10, 0.80, 0.10],
        [0.50, 0.40, 0.10],  # wrong, perhaps
        [0.15, 0.65, 0.20],
        [0.10, 0.10, 0.80],
        [0.30, 0.30, 0.40],  # reaches no threshold
        [0.49, 0.00, 0.51],  # finds 2 more probable, but reaches the threshold of 0 only
    ]
)


def test_thresholds_are_the_mean_self_confidence() -> None:
    expected = [(0.8 + 0.6 + 0.1 + 0.4) / 4, (0.8 + 0.4 + 0.65) / 3, (0.8 + 0.4 + 0.51) / 3]
    assert thresholds(LABELS, PROBABILITIES) == pytest.approx(expected)


def test_confident_joint_worked_by_hand() -> None:
    assert confident_joint(LABELS, PROBABILITIES).tolist() == [[2, 1, 0], [1, 2, 0], [1, 0, 1]]


def test_of_two_thresholds_the_more_probable_class_counts() -> None:
    # Thresholds 0.4 and 0.525: the third image is further above the first, but the second class is more probable.
    probabilities = np.array([[0.6, 0.4], [0.2, 0.8], [0.45, 0.55], [0.5, 0.5]])
    assert confident_joint(np.array([0, 0, 1, 1]), probabilities).tolist() == [[1, 1], [1, 1]]


def test_joint_is_calibrated_to_the_number_of_images_of_each_label() -> None:
    expected = np.array([[2 * 4 / 3, 4 / 3, 0], [1, 2, 0], [3 / 2, 0, 3 / 2]]) / 10
    found = joint(LABELS, PROBABILITIES)
    np.testing.assert_allclose(found, expected)
    np.testing.assert_allclose(found.sum(axis=1), [0.4, 0.3, 0.3])


def test_errors_worked_by_hand() -> None:
    # The joint wants one image of 0 that is a 1, one of 1 that is a 0, two of 2 that are 0. The latter two are the
    # ninth and tenth, but these find their own label most probable.
    found = likely_errors(LABELS, PROBABILITIES)
    assert found == [
        LabelError(row=2, given=0, likely=1, given_probability=0.1, likely_probability=0.8),
        LabelError(row=5, given=1, likely=0, given_probability=0.4, likely_probability=0.5),
    ]


@pytest.mark.parametrize("seed", range(3))
def test_exact_under_ideal_probabilities(seed: int) -> None:
    """The paper's theorem 1: where an image's probabilities are the noise of its class, the errors come out exactly."""
    random = np.random.default_rng(seed)
    classes, count = 5, 2000
    noise = random.dirichlet(np.ones(classes), classes) * 0.3 + 0.7 * np.eye(classes)  # of a true class, the labels
    true = random.integers(0, classes, count)
    given = np.array([random.choice(classes, p=noise[label]) for label in true])
    expected = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(expected, (given, true), 1)
    assert confident_joint(given, noise[true]).tolist() == expected.tolist()
    found = likely_errors(given, noise[true])
    assert sorted(error.row for error in found) == np.flatnonzero(given != true).tolist()
    assert all(error.likely == true[error.row] for error in found)
    own = [error.given_probability for error in found]
    assert own == sorted(own)


def test_a_class_without_images_is_neither_found_nor_in_the_way() -> None:
    probabilities = np.hstack([PROBABILITIES * 0.6, np.full((10, 1), 0.4)])
    assert thresholds(LABELS, probabilities)[3] == np.inf
    assert confident_joint(LABELS, probabilities)[:3, :3].tolist() == confident_joint(LABELS, PROBABILITIES).tolist()
    assert joint(LABELS, probabilities)[3].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("labels", "probabilities", "words"),
    [
        (LABELS[:9], PROBABILITIES, "9 labels need"),
        (LABELS[:0], PROBABILITIES[:0], "at least one"),
        (LABELS + 1, PROBABILITIES, "labels 1 to 3 for 3 classes"),
        (LABELS, PROBABILITIES * 2, "sum to 1"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(labels: np.ndarray, probabilities: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        thresholds(labels, probabilities)


def test_probabilities_in_words() -> None:
    assert [in_words(value) for value in (0.9876, 0.0005, 0.0004, 1.0)] == ["0.988", "0.001", "<0.001", "1.000"]


def test_every_probability_comes_from_a_classifier_that_has_not_seen_the_image() -> None:
    """Noise with more features than images is learnt by heart at once: only images that were seen are known."""
    random = np.random.default_rng(0)
    features = random.standard_normal((100, 300)).astype(np.float32)
    labels = random.permutation(np.repeat([0, 1], 50))
    twice, both = np.concatenate([features, features]), np.concatenate([labels, labels])

    def known(groups: np.ndarray) -> float:
        return (out_of_fold(twice, both, groups, display=QUIET).argmax(axis=1) == both).mean()

    assert known(np.arange(200)) > 0.8  # the copies of most images were seen
    assert known(np.tile(np.arange(100), 2)) < 0.65  # copies were kept together
    again = out_of_fold(twice, both, np.arange(200), display=QUIET)
    np.testing.assert_array_equal(again, out_of_fold(twice, both, np.arange(200), display=QUIET))
    np.testing.assert_allclose(again.sum(axis=1), 1)


def arrays(pixels: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> Dataset:
    return Dataset(
        name="arrays",
        format="arrays",
        path=None,
        task="classification",
        classes=classes,
        ids=[f"scene{k // 2}_{k}[{k}]" for k in range(len(labels))],
        images=ImageArrays(pixels),
        truths=Classifications(labels=torch.from_numpy(labels)),
    )


@pytest.fixture(scope="module")
def digits() -> tuple[Dataset, np.ndarray, np.ndarray]:
    """scikit-learn's digits, 3% of them with another label; with what is planted and the pixels as features."""
    images, labels = load_digits(return_X_y=True)
    random = np.random.default_rng(0)
    planted = random.choice(len(labels), round(0.03 * len(labels)), replace=False)
    given = labels.astype(np.int64)
    given[planted] = (given[planted] + random.integers(1, 10, len(planted))) % 10
    pixels = (images * 15.9).astype(np.uint8).reshape(-1, 8, 8, 1)
    dataset = arrays(pixels, given, tuple(map(str, range(10))))
    return dataset, np.isin(np.arange(len(labels)), planted), labels


def test_planted_errors_are_found_first(digits: tuple[Dataset, np.ndarray, np.ndarray]) -> None:
    dataset, wrong, true = digits
    features = dataset.images.pixels.reshape(len(dataset), -1).astype(np.float32)  # type: ignore[attr-defined]
    of = examine(dataset)
    judged = judge_labels(of, of.readable, features, display=QUIET)
    rows = [error.row for error in judged.errors]
    assert judged.count == len(dataset)
    assert judged.notes == []
    # A linear classifier of 8x8 pixels errs in one of 20 digits itself; 54 labels are wrong.
    assert wrong[rows].mean() >= 0.85  # precision
    assert wrong[rows].sum() >= 0.75 * wrong.sum()  # recall
    assert wrong[rows[:30]].all()
    score = np.zeros(len(wrong))
    score[rows] = np.arange(len(rows), 0, -1)
    assert average_precision_score(wrong, score) > 0.75
    found = [error for error in judged.errors if wrong[error.row]]
    assert np.mean([error.likely == true[error.row] for error in found]) > 0.9
    assert all(error.given == dataset.truths.labels[error.row] for error in judged.errors)


def test_small_classes_are_left_out_and_said(digits: tuple[Dataset, np.ndarray, np.ndarray]) -> None:
    dataset = digits[0]
    labels = dataset.truths.labels.numpy()[:300].copy()
    labels[:4], labels[4] = 10, 12  # a class of four, one that has no name, and "0 " that is the same as "0"
    labels[np.flatnonzero(labels == 0)[::2]] = 11
    of = examine(arrays(dataset.images.pixels[:300], labels, (*dataset.classes, "few", "0 ")))  # type: ignore[attr-defined]
    features = of.dataset.images.pixels.reshape(300, -1).astype(np.float32)  # type: ignore[attr-defined]
    judged = judge_labels(of, of.readable, features, display=QUIET)
    assert judged.count == 295
    assert judged.notes == [
        (
            f"labels of classes with fewer than {FOLDS} different images or groups are not judged: 'few' (4)",
            f"Add images: one for each of {FOLDS} folds at the very least.",
        )
    ]
    assert not {error.likely for error in judged.errors} & {10, 11, 12}
    assert not {error.given for error in judged.errors} & {10, 11, 12}


def test_groups_count_as_one_and_too_few_of_all_is_said(digits: tuple[Dataset, np.ndarray, np.ndarray]) -> None:
    dataset = digits[0]
    labels = np.repeat([0, 1], 8)
    data = arrays(dataset.images.pixels[:16], labels, ("a", "b"))  # type: ignore[attr-defined]
    features = data.images.pixels.reshape(16, -1).astype(np.float32)  # type: ignore[attr-defined]
    assert judge_labels(examine(data), np.arange(16), features, display=QUIET).count == 16
    judged = judge_labels(examine(data, group_by=r"scene(\d+)"), np.arange(16), features, display=QUIET)
    assert (judged.errors, judged.count) == ((), 0)
    assert "'a' (4), 'b' (4)" in judged.notes[0][0]
    assert "no label is judged" in judged.notes[1][0]


def test_labels_of_objects_are_not_judged_and_that_is_said(digits: tuple[Dataset, np.ndarray, np.ndarray]) -> None:
    data = digits[0]
    truths = InstanceSets(
        offsets=torch.arange(len(data) + 1), boxes=torch.tensor([[1.0, 1, 6, 6]] * len(data)), labels=data.truths.labels
    )
    of = examine(replace(data, task="detection", truths=truths))
    features = data.images.pixels.reshape(len(data), -1).astype(np.float32)  # type: ignore[attr-defined]
    judged = judge_labels(of, of.readable, features, display=QUIET)
    assert (judged.errors, judged.count) == ((), 0)
    assert [what for what, _ in judged.notes] == [
        "labels of objects are not judged: the model is asked about whole images"
    ]


def test_the_report_names_each_and_warns_only(digits: tuple[Dataset, np.ndarray, np.ndarray]) -> None:
    from striate.data.doctor.checks import find_problems

    dataset = digits[0]
    error = LabelError(row=7, given=3, likely=8, given_probability=0.0001, likely_probability=0.97)
    opinion = Opinion(model="m", alike=[], errors=[error], judged=9, notes=[("one thing", "Do another.")])
    found = find_problems(replace(examine(dataset), opinion=opinion))
    by_check = {problem.check: problem for problem in found}
    problem = by_check["likely_label_error"]
    assert (problem.severity, problem.file, problem.row) == ("warning", "scene3_7[7]", 7)
    assert problem.message == "is labelled '3' (probability <0.001); the model rather sees '8' (0.970)"
    assert (by_check["model_cannot_tell"].message, by_check["model_cannot_tell"].fix) == ("one thing", "Do another.")
    assert not any(problem.check.startswith(("likely", "model")) for problem in find_problems(examine(dataset)))
