"""Classifiers on features: logistic regression, a linear support vector machine, the nearest neighbours.

scikit-learn fits them. Features are standardised on the images that a classifier is fitted on; for the linear ones the
standardisation is folded into weights and biases, so that they are one full layer. The penalty is chosen by stratified
cross-validation: the best mean accuracy, and of equal ones the strongest, which trusts the training images least. How
sure its answers are is then set by a temperature.

Letters: N images, D features, K classes.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from striate.errors import DataError, UsageError
from striate.nn.nearest import NO_VOTE

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]

PENALTIES = (1e4, 1e3, 1e2, 1e1, 1.0, 1e-1, 1e-2)  # of the linear classifiers, 1/C
NEIGHBOURS = (50, 20, 10, 5, 3, 1)
SEARCHED_IMAGES = 5000  # that the penalty is chosen on, at most
NEVER = -30.0  # logit, below the others, of a class without a training image


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A linear classifier of features as they are: ``features @ weight.T + bias`` are the logits."""

    weight: Floats  # (K, D)
    bias: Floats  # (K,)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What cross-validation found for one penalty."""

    penalty: float
    accuracy: float  # mean over the folds
    deviation: float  # over the folds


class Fit(Protocol):
    """Fits a classifier on some images and tells what it says of others."""

    def __call__(self, values: Floats, labels: Labels, penalty: float, others: Floats) -> Floats:
        """(M, K) logits of ``others`` (M, D)."""
        ...


def search(
    fit: Fit,
    values: Floats,
    labels: Labels,
    penalties: Sequence[float],
    *,
    classes: Sequence[str],
    folds: int,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[Trial], Floats, Labels]:
    """Try penalties by cross-validation.

    Args:
        fit: the classifier.
        values: (N, D).
        labels: (N,).
        penalties: from strong to weak.
        classes: their names, for messages.
        folds: how many.
        seed: of the folds.
        progress: called with the number of fits done and their total.

    Returns:
        A trial per penalty, and for the best of them the out-of-fold scores (M, K) with their labels (M,).

    Raises:
        DataError: a class has fewer images than folds.
    """
    from sklearn.model_selection import StratifiedKFold

    check_folds(labels, classes, folds)
    if len(values) > SEARCHED_IMAGES:
        some = np.random.default_rng(seed).permutation(len(values))[:SEARCHED_IMAGES]
        values, labels = values[some], labels[some]
    parts = list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(values, labels))
    trials: list[Trial] = []
    found: dict[float, Floats] = {}
    for number, penalty in enumerate(penalties):
        scores = np.zeros((len(values), len(classes)), dtype=np.float32)
        for fold, (train, test) in enumerate(parts):
            scores[test] = fit(values[train], labels[train], penalty, values[test])
            progress(number * folds + fold + 1, len(penalties) * folds)
        right = scores.argmax(1) == labels
        accuracies = [float(right[test].mean()) for _, test in parts]
        trials.append(
            Trial(penalty=penalty, accuracy=float(np.mean(accuracies)), deviation=float(np.std(accuracies, ddof=1)))
        )
        found[penalty] = scores
    return trials, found[chosen(trials).penalty], labels


def check_folds(labels: Labels, classes: Sequence[str], folds: int) -> None:
    """Raise `DataError` where a class has fewer images than there are folds."""
    counts = np.bincount(labels, minlength=len(classes))
    few = [int(k) for k in np.flatnonzero(counts) if counts[k] < folds]
    if few:
        raise DataError(
            f"{classes[few[0]]!r} has {counts[few[0]]} training image(s), fewer than the {folds} folds that choose the "
            f"penalty{f', and so have {len(few) - 1} more classes' if len(few) > 1 else ''}. Add images, take fewer "
            "--folds, or choose the --penalty yourself, as in --penalty 1."
        )


def chosen(trials: Sequence[Trial]) -> Trial:
    """The best."""
    return max(trials, key=lambda trial: round(trial.accuracy, 6))  # the first of equal ones


def fit_linear(kind: str, values: Floats, labels: Labels, penalty: float, classes: int) -> Fitted:
    """Logistic regression (``logistic``) or a linear SVM with the squared hinge, one against the rest (``svm``).

    Args:
        kind: which.
        values: (N, D).
        labels: (N,).
        penalty: 1/C.
        classes: K; those without an image never win.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import LinearSVC

    there = np.unique(labels)
    mean, deviation = standard(values)
    given, basis = (values - mean) / deviation, None
    if len(values) < values.shape[1]:
        # The penalty is the same in every rotation of the features, and the images span N of the D dimensions.
        left, scale, basis = np.linalg.svd(given, full_matrices=False)
        given = left * scale
    make: Any = LogisticRegression if kind == "logistic" else LinearSVC
    model = make(C=1 / penalty, max_iter=1000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a thousand steps are near enough
        model.fit(given, labels)
    weight, bias = np.asarray(model.coef_), np.asarray(model.intercept_)
    weight = weight if basis is None else weight @ basis
    if len(there) == 2:  # one row, for the second class against the first
        weight, bias = np.concatenate([0 * weight, weight]), np.concatenate([0 * bias, bias])
    full = np.zeros((classes, values.shape[1]))
    offset = np.full(classes, NEVER)
    full[there] = weight / deviation
    offset[there] = bias - full[there] @ mean
    return Fitted(weight=full.astype(np.float32), bias=offset.astype(np.float32))


def standard(values: Floats) -> tuple[Floats, Floats]:
    """Mean and deviation of each feature; 1 for the deviation of one that is the same everywhere."""
    deviation = values.std(0)
    return values.mean(0), np.where(deviation > 1e-6, deviation, 1).astype(np.float32)


def linear(kind: str, classes: int) -> Fit:
    """A linear classifier for `search`."""

    def fit(values: Floats, labels: Labels, penalty: float, others: Floats) -> Floats:
        found = fit_linear(kind, values, labels, penalty, classes)
        return others @ found.weight.T + found.bias

    return fit


def nearest(classes: int) -> Fit:
    """The k nearest neighbours for `search`, where the penalty is k; the logits are those of `NearestNeighbours`."""

    def fit(values: Floats, labels: Labels, penalty: float, others: Floats) -> Floats:
        from sklearn.neighbors import KNeighborsClassifier

        model = KNeighborsClassifier(min(int(penalty), len(values)), metric="cosine").fit(values, labels)
        scores = np.zeros((len(others), classes), dtype=np.float32)
        scores[:, np.asarray(model.classes_)] = model.predict_proba(others)
        return np.log(scores + NO_VOTE)

    return fit


def temperature(scores: Floats, labels: Labels) -> float:
    """What scores are divided by so that their softmax fits the labels best (Guo et al. 2017, section 4.2)."""
    candidates = np.geomspace(0.02, 50, 120)
    losses = [_cross_entropy(scores / candidate, labels) for candidate in candidates]
    return float(candidates[int(np.argmin(losses))])


def _cross_entropy(logits: NDArray[Any], labels: Labels) -> float:
    shifted = logits - logits.max(1, keepdims=True)
    return float(np.mean(np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(labels)), labels]))


def require_sklearn(what: str) -> None:
    """Raise `UsageError` where scikit-learn is not installed; ``what`` needs it, in the plural."""
    from importlib.util import find_spec

    if find_spec("sklearn") is None:
        raise UsageError(f"{what} need scikit-learn, which is not installed: pip install 'striate[sklearn]'.")
