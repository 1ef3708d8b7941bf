"""Which labels are likely wrong: confident learning, from probabilities that a model gave to images it had not seen.

Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels", Journal of Artificial
Intelligence Research 70, sections 3.1 and 3.2. A class j has its own threshold t_j: how probable images labelled j find
j on average. An image labelled i that finds j at least as probable as t_j counts as a j; these counts, calibrated to
the number of images of each label, estimate the joint distribution of given and true labels, and so how many images
of each pair of classes to look for. The images are ranked by self-confidence, the probability of their own label.

Letters: N images, K classes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]
Floats = NDArray[np.floating]


@dataclass(frozen=True, kw_only=True)
class LabelError:
    """An image whose label is likely wrong."""

    row: int  # of the arrays
    given: int
    likely: int  # the most probable of the other classes
    given_probability: float  # self-confidence
    likely_probability: float


def in_words(probability: float) -> str:
    """A probability for people, to three decimals."""
    return f"{probability:.3f}" if probability >= 0.0005 else "<0.001"


def thresholds(labels: Labels, probabilities: Floats) -> NDArray[np.float64]:
    """How probable the images of each class find it on average (equation 2).

    Args:
        labels: (N,) int64, 0 to K - 1.
        probabilities: (N, K) of images that the model was not trained on; rows sum to 1.

    Returns:
        (K,) float64; infinite for a class without images, which nothing reaches.

    Raises:
        ValueError: the arrays do not fit each other.
    """
    _check(labels, probabilities)
    count = np.bincount(labels, minlength=probabilities.shape[1])
    total = np.bincount(labels, weights=_of_label(labels, probabilities), minlength=probabilities.shape[1])
    return np.divide(total, count, out=np.full(len(count), np.inf), where=count > 0)


def confident_joint(labels: Labels, probabilities: Floats) -> NDArray[np.int64]:
    """How many images with each label count, with confidence, as each class (equation 1).

    Args:
        labels: (N,) int64.
        probabilities: (N, K).

    Returns:
        (K, K) int64, the given label first. An image that reaches no threshold is not counted; of several reached
        ones the most probable class counts, not the one that is furthest above its own.
    """
    reached = probabilities >= thresholds(labels, probabilities)
    counts = reached.any(axis=1)
    classes = probabilities.shape[1]
    likely = np.where(reached, probabilities, -1.0).argmax(axis=1)
    cells = labels[counts] * classes + likely[counts]
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def joint(labels: Labels, probabilities: Floats) -> NDArray[np.float64]:
    """The joint distribution of given and true labels: the confident joint, calibrated (equation 3).

    Args:
        labels: (N,) int64.
        probabilities: (N, K).

    Returns:
        (K, K) float64, the given label first: sums to 1, and each row to the share of its label. A label none of
        whose images reaches a threshold is taken to be right.
    """
    counts = confident_joint(labels, probabilities).astype(np.float64)
    silent = counts.sum(axis=1) == 0
    counts[silent, silent] = 1
    images = np.bincount(labels, minlength=len(counts))
    calibrated = counts / counts.sum(axis=1, keepdims=True) * images[:, None]
    return calibrated / calibrated.sum()


def likely_errors(labels: Labels, probabilities: Floats) -> list[LabelError]:
    """Images whose labels are likely wrong, most likely first.

    They are chosen by both of the paper's ways that use the calibrated joint, where they agree (section 3.2, "C+NR"):
    by class, the images that find their own label least probable; by noise rate, those with the largest margin of one
    other class over it. Each takes as many as the joint says. Images that find their own label most probable stay out.

    Of the paper's two orders this is the one by self-confidence, not by normalised margin: where two classes overlap,
    many images have a large margin, but few find their own label impossible.

    Args:
        labels: (N,) int64.
        probabilities: (N, K) of images that the model was not trained on.

    Returns:
        Errors in the order of self-confidence, the least first.
    """
    wrong = np.rint(len(labels) * joint(labels, probabilities)).astype(np.int64)
    np.fill_diagonal(wrong, 0)
    own = _of_label(labels, probabilities)
    by_class, by_rate = np.zeros(len(labels), dtype=bool), np.zeros(len(labels), dtype=bool)
    for given, row in enumerate(wrong):
        members = np.flatnonzero(labels == given)
        by_class[members[np.argsort(own[members], kind="stable")[: row.sum()]]] = True
        for other in np.flatnonzero(row):
            margins = probabilities[members, other] - own[members]
            by_rate[members[np.argsort(-margins, kind="stable")[: row[other]]]] = True
    others = probabilities.astype(np.float64)
    others[np.arange(len(labels)), labels] = -1
    likely = others.argmax(axis=1)
    best = others.max(axis=1)
    rows = np.flatnonzero(by_class & by_rate & (best > own))
    order = rows[np.argsort(own[rows], kind="stable")]
    return [
        LabelError(
            row=row,
            given=int(labels[row]),
            likely=int(likely[row]),
            given_probability=float(own[row]),
            likely_probability=float(best[row]),
        )
        for row in order.tolist()
    ]


def _of_label(labels: Labels, probabilities: Floats) -> NDArray[np.float64]:
    """(N,) float64: how probable each image finds its own label."""
    return probabilities[np.arange(len(labels)), labels].astype(np.float64)


def _check(labels: Labels, probabilities: Floats) -> None:
    count = len(labels)
    if probabilities.ndim != 2 or len(probabilities) != count or not count:
        raise ValueError(f"{count} labels need ({count}, K) probabilities, at least one; got {probabilities.shape}.")
    if labels.min() < 0 or labels.max() >= probabilities.shape[1]:
        raise ValueError(f"labels {labels.min()} to {labels.max()} for {probabilities.shape[1]} classes.")
    if not np.allclose(probabilities.sum(axis=1), 1, atol=1e-3):
        raise ValueError("the probabilities of an image must sum to 1.")
