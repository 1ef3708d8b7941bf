"""The classification metric against scikit-learn, SciPy and a few lines of NumPy that know nothing of it."""

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
import torch

from striate.core.annotations import Classifications
from striate.metrics.classification import ClassificationMetric


def draw(
    seed: int, images: int, classes: int, *, absent_truths: int = 0, absent_predictions: int = 0, ties: bool = False
):
    """Random truths and scores; the last classes never occur as truth, the first never as prediction."""
    rng = np.random.default_rng(seed)
    truths = rng.integers(0, classes - absent_truths, images)
    logits = rng.normal(size=(images, classes))
    logits[np.arange(images), truths] += 1.5
    logits[:, :absent_predictions] = -9.0
    if ties:
        logits = np.round(logits)
    scores = np.exp(logits)
    return truths, (scores / scores.sum(1, keepdims=True)).astype(np.float32)


def measured(truths: np.ndarray, scores: np.ndarray) -> ClassificationMetric:
    metric = ClassificationMetric(scores.shape[1])
    tensor = torch.from_numpy(scores)
    for start in range(0, len(truths), 97):  # in uneven batches, as in life
        rows = slice(start, start + 97)
        metric.update(
            Classifications(labels=tensor[rows].argmax(1), scores=tensor[rows]),
            Classifications(labels=torch.from_numpy(truths[rows])),
        )
    return metric


CASES = {
    "ten classes": {"seed": 0, "images": 1000, "classes": 10},
    "two classes": {"seed": 1, "images": 500, "classes": 2},
    "a hundred classes, few images": {"seed": 2, "images": 150, "classes": 100},
    "classes without images": {"seed": 3, "images": 400, "classes": 8, "absent_truths": 3},
    "classes never predicted": {"seed": 4, "images": 400, "classes": 8, "absent_predictions": 2},
    "many ties": {"seed": 5, "images": 800, "classes": 12, "ties": True},
    "one image": {"seed": 6, "images": 1, "classes": 7},
}


@pytest.mark.parametrize("case", CASES)
def test_against_scikit_learn(case: str):
    truths, scores = draw(**CASES[case])
    metric = measured(truths, scores)
    metrics = metric.compute()
    labels = np.arange(scores.shape[1])
    predicted = scores.argmax(1)

    assert metrics["top1"] == pytest.approx(sklearn.metrics.accuracy_score(truths, predicted), abs=1e-12)
    np.testing.assert_array_equal(metric.confusion, sklearn.metrics.confusion_matrix(truths, predicted, labels=labels))
    macro = sklearn.metrics.precision_recall_fscore_support(truths, predicted, average="macro", zero_division=0)
    assert [metrics["precision"], metrics["recall"], metrics["f1"]] == pytest.approx(macro[:3], abs=1e-12)

    table = sklearn.metrics.precision_recall_fscore_support(truths, predicted, labels=labels, zero_division=0)
    rows = metric.per_class([f"class {label}" for label in labels])
    for key, column in zip(("precision", "recall", "f1", "support"), table, strict=True):
        assert [row[key] for row in rows] == pytest.approx(column.tolist(), abs=1e-12)

    exact = scores.astype(np.float64)
    exact /= exact.sum(1, keepdims=True)
    assert metrics["loss"] == pytest.approx(sklearn.metrics.log_loss(truths, exact, labels=labels), abs=1e-6)

    if scores.shape[1] > 5:
        # scikit-learn puts the higher label first among equal scores, we the lower: turn its order around.
        other = sklearn.metrics.top_k_accuracy_score(scores.shape[1] - 1 - truths, scores[:, ::-1], k=5, labels=labels)
        assert metrics["top5"] == pytest.approx(other, abs=1e-12)
    else:
        assert "top5" not in metrics


def calibration_error(truths: np.ndarray, scores: np.ndarray, bins: int = 15) -> float:
    """Equation 3 of Guo et al. 2017, bin by bin."""
    confidence, right = scores.max(1).astype(np.float64), scores.argmax(1) == truths
    total = 0.0
    for m in range(1, bins + 1):
        inside = (confidence > (m - 1) / bins) & (confidence <= m / bins)
        if inside.any():
            total += inside.sum() / len(truths) * abs(right[inside].mean() - confidence[inside].mean())
    return total


@pytest.mark.parametrize("case", CASES)
def test_calibration_error_against_its_equation(case: str):
    truths, scores = draw(**CASES[case])
    assert measured(truths, scores).compute()["ece"] == pytest.approx(calibration_error(truths, scores), abs=1e-9)


def test_calibration_error_at_the_edges_of_bins():
    confidences = np.array([1.0, 0.2, 0.4, 0.6, 0.8, 1 / 15, 14 / 15])
    scores = np.stack([confidences, (1 - confidences)], 1)
    metric = ClassificationMetric(2)
    metric.update(
        Classifications(labels=torch.zeros(7, dtype=torch.int64), scores=torch.from_numpy(scores)),
        Classifications(labels=torch.tensor([0, 1, 0, 1, 0, 1, 0])),
    )
    # Half-open on the left: 1/15 belongs to the first bin, 3/15 to the third, 1 to the last.
    assert np.flatnonzero(metric.reliability().counts).tolist() == [0, 2, 5, 8, 11, 13, 14]


@pytest.mark.parametrize(("images", "share"), [(400, 0.9), (250, 0.5), (1000, 0.99), (60, 0.2)])
def test_interval_against_scipy(images: int, share: float):
    right = np.arange(images) < images * share
    metric = ClassificationMetric(2)
    metric.update(
        Classifications(labels=torch.from_numpy(right).long(), scores=torch.full((images, 2), 0.5)),
        Classifications(labels=torch.ones(images, dtype=torch.int64)),
    )
    low, high = metric.interval(seed=3)
    reference = scipy.stats.bootstrap(
        (right.astype(float),), np.mean, method="percentile", n_resamples=10_000, batch=1000, rng=0
    ).confidence_interval
    # Both are quantiles of 10,000 draws from the same distribution: they may differ by the noise of a quantile.
    noise = 0.1 * np.sqrt(share * (1 - share) / images) + 1 / images
    assert low == pytest.approx(reference.low, abs=noise)
    assert high == pytest.approx(reference.high, abs=noise)
    assert low < share < high
