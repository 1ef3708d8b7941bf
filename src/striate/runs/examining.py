"""A model's opinion of a data set, for the doctor: which images it finds alike, and which labels are likely wrong.

Labels are judged by a linear classifier over the model's features that was trained on other images: the images are
dealt into `FOLDS` parts, and the probabilities of each part come from a logistic regression on the other four. A
model's own probabilities are never used, even where it knows the very classes: it has learnt the labels of the images
that it was trained on by heart, and for those that were held out from it the regression on what goes into its last
layer comes to the same.
"""

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from striate.data.doctor.alike import FEWEST, MOST, alike_rows, families
from striate.data.doctor.examination import Examination, Opinion, class_key
from striate.data.doctor.label_errors import LabelError, in_words, likely_errors
from striate.data.preprocess import Pixels
from striate.data.split import group_keys
from striate.engine.log import Display
from striate.errors import DataError, UsageError
from striate.runs.checkpoints import weights_file
from striate.runs.embed import OpenedModel
from striate.runs.evaluate import split_again
from striate.runs.features import Extractor, extract
from striate.runs.model_file import read_card
from striate.runs.prepare import device_of
from striate.viz.contact_sheet import contact_sheet

FOLDS = 5
STRENGTHS = (0.001, 0.01, 0.1, 1.0)  # C of scikit-learn's logistic regression, from strong to weak regularisation
ON_SHEET = 48  # likely label errors on a picture
PAIRS_ON_SHEET, PAIRS_ABREAST = 24, 3

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


def with_opinion(
    of: Examination, model: OpenedModel, *, cache: Path | None, device: str = "auto", display: Display
) -> Examination:
    """An examination with what a model makes of the images.

    Args:
        of: what the doctor saw.
        model: of `striate.runs.embed.open_model`, with trained weights.
        cache: of the features, as for `striate.runs.features.extract`.
        device: to compute on.
        display: for people.

    Raises:
        UsageError: the model has fresh weights, or scikit-learn is not installed.
        DataError: no image can be read.
    """
    check_usable(model)
    if not len(of.readable):
        raise DataError(
            f"{of.dataset.name}: none of its {len(of.seen):,} images can be read, so no model can see them."
        )
    extractor = Extractor(model.network, model.preprocessing, device=device_of(device))
    display.say(f"Model: {model.name}, layer {extractor.layer!r}, {extractor.dimension:,} features.")
    found = extract(extractor, of.dataset, of.readable, cache=cache, display=display, what="Looking with the model")
    rows, values = found.rows, found.values
    sound = np.isfinite(values).all(axis=1)
    rows, values = rows[sound], values[sound]
    if not len(rows):
        raise DataError(f"{model.name} gives no finite features for any image of {of.dataset.name}: use another model.")

    notes: list[tuple[str, str]] = []
    if len(rows) < FEWEST:
        what = f"{len(rows)} images are too few to say how alike two of them are by chance"
        notes.append((what, f"Nothing to do; from {FEWEST} images on they are compared."))
    elif len(rows) > MOST:
        what = f"{len(rows):,} images are too many to compare each with each"
        notes.append((what, f"Check parts of up to {MOST:,}."))
    alike: list[tuple[int, int, float]] = []
    if len(rows) <= MOST:
        alike = alike_rows(of, rows, values, progress=lambda done, all_: display.progress("Comparing", done, all_))
        display.close()

    judged = judge_labels(of, rows, values, display=display)
    if not of.says_where:
        display.say(
            f"Judged {judged.count:,} labels, each by a classifier that was trained on others, in {FOLDS} folds."
        )
    notes += judged.notes
    if judged.count and (split := _learnt(model, of)):
        what = (
            f"the model was trained on the labels of this very data ({split}): errors that it has learnt by heart are "
        )
        notes.append((what + "missed", "For a second opinion use a model that was trained on other data."))
    opinion = Opinion(model=model.name, alike=alike, errors=judged.errors, judged=judged.count, notes=tuple(notes))
    return replace(of, opinion=opinion)


def check_usable(model: OpenedModel) -> None:
    """Raise `UsageError` where a model has fresh weights, or scikit-learn is not installed."""
    if not model.trained:
        raise UsageError(
            f"--model {model.name} has fresh weights, which see little more than colour and brightness: give trained "
            "ones with --weights, or a run or model file of your own in its place."
        )
    if find_spec("sklearn") is None:
        raise UsageError("--model needs scikit-learn, which is not installed: pip install 'striate[sklearn]'.")


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Labels that were judged."""

    errors: Sequence[LabelError]  # rows and classes are the data set's
    count: int  # labels that were judged
    notes: Sequence[tuple[str, str]]  # what was not, and how to mend that


def judge_labels(of: Examination, rows: Integers, features: Floats, *, display: Display) -> Judged:
    """Which labels are likely wrong.

    Classes whose names differ only in case or space are one. Exact copies, and images of one group, are dealt into
    the same part. A class with fewer images or groups than `FOLDS` is left out: neither are its labels judged, nor is
    it proposed for others.

    Args:
        of: the data set, looked at.
        rows: (M,) int64 of it.
        features: (M, D) float32, finite.
        display: shows the progress.
    """
    dataset = of.dataset
    if of.says_where:
        what = "labels of objects are not judged: the model is asked about whole images"
        return Judged(errors=(), count=0, notes=[(what, "Nothing to do; 'striate data show' draws boxes and classes.")])
    first_of: dict[str, int] = {}
    same = np.array([first_of.setdefault(class_key(name), k) for k, name in enumerate(dataset.classes)])
    in_range = of.in_range[rows]
    rows, features = rows[in_range], features[in_range]
    labels = same[of.labels[rows]]
    groups = _groups(of, rows)
    leaders = np.sort(np.unique(groups, return_index=True)[1])
    count = Counter(labels[leaders].tolist())
    enough = np.array([count[label] >= FOLDS for label in labels.tolist()], dtype=np.bool_)
    notes: list[tuple[str, str]] = []
    few = sorted({label for label in labels.tolist() if count[label] < FOLDS})
    fit = len(set(labels[enough].tolist()))
    if few:
        names = ", ".join(f"{dataset.classes[k]!r} ({count[k]})" for k in few[:8]) + (", ..." if len(few) > 8 else "")
        what = f"labels of classes with fewer than {FOLDS} different images or groups are not judged: {names}"
        notes.append((what, f"Add images: one for each of {FOLDS} folds at the very least."))
    if fit < 2:
        what = f"no label is judged: that takes two classes with {FOLDS} images each"
        return Judged(errors=(), count=0, notes=[*notes, (what, "Add images, or classes.")])
    rows, features, groups = rows[enough], features[enough], groups[enough]
    classes, numbers = np.unique(labels[enough], return_inverse=True)
    probabilities = out_of_fold(features, numbers.astype(np.int64), groups, display=display)
    errors = [
        replace(error, row=int(rows[error.row]), given=int(classes[error.given]), likely=int(classes[error.likely]))
        for error in likely_errors(numbers.astype(np.int64), probabilities)
    ]
    return Judged(errors=errors, count=len(rows), notes=notes)


def out_of_fold(features: Floats, labels: Integers, groups: Integers, *, display: Display) -> NDArray[np.float64]:
    """Probabilities of each image by a logistic regression that was trained on others.

    How strongly it is regularised is decided by the loss on the first fold, of `STRENGTHS`.

    Args:
        features: (N, D) float32.
        labels: (N,) int64, 0 to K - 1, each in `FOLDS` groups or more.
        groups: (N,) int64, whose equals stay together.
        display: shows the progress.

    Returns:
        (N, K) float64; rows sum to 1.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold

    features = (features - features.mean(axis=0)) / np.maximum(features.std(axis=0), np.finfo(np.float32).eps)
    _, leaders, member_of = np.unique(groups, return_index=True, return_inverse=True)
    dealer = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    fold_of_group = np.zeros(len(leaders), dtype=np.int64)
    for fold, (_, held_out) in enumerate(dealer.split(leaders, labels[leaders])):
        fold_of_group[held_out] = fold
    folds = fold_of_group[member_of]
    total, done = len(STRENGTHS) + FOLDS - 1, 0

    def probabilities_of(fold: int, strength: float) -> NDArray[np.float64]:
        nonlocal done
        display.progress("Judging labels", done, total)
        model = LogisticRegression(C=strength, max_iter=300, tol=1e-3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # stopping early only regularises more
            model.fit(features[folds != fold], labels[folds != fold])
        done += 1
        display.progress("Judging labels", done, total)
        return model.predict_proba(features[folds == fold]).astype(np.float64)

    def loss(found: NDArray[np.float64]) -> float:
        own = found[np.arange(len(found)), labels[folds == 0]]
        return float(-np.log(np.maximum(own, np.finfo(np.float32).tiny)).mean())

    tried = {strength: probabilities_of(0, strength) for strength in STRENGTHS}
    best = min(STRENGTHS, key=lambda strength: loss(tried[strength]))
    probabilities = np.zeros((len(labels), int(labels.max()) + 1))
    probabilities[folds == 0] = tried[best]
    for fold in range(1, FOLDS):
        probabilities[folds == fold] = probabilities_of(fold, best)
    display.close()
    return probabilities / probabilities.sum(axis=1, keepdims=True)


def _groups(of: Examination, rows: Integers) -> Integers:
    """(M,) int64: the same number for exact copies and for images of one group."""
    same = [(copies[0], row) for copies in of.copies for row in copies[1:]]
    if of.group_by is not None:
        first_of: dict[str, int] = {}
        same += [(first_of.setdefault(key, row), row) for row, key in enumerate(group_keys(of.dataset, of.group_by))]
    family = families(range(len(of.dataset)), same)
    return np.array([family[row] for row in rows.tolist()], dtype=np.int64)


def _learnt(model: OpenedModel, of: Examination) -> str | None:
    """Which split of the data the model was trained on, as far as fingerprints tell."""
    path = Path(model.name)
    if model.weights is not None or not path.exists() or not of.in_range.all():
        return None
    card = read_card(weights_file(model.name))
    trained = (card.data.get("fingerprints") or {}).get("train")
    try:
        known = split_again(of.dataset, card).fingerprints
    except UsageError:  # it was split by a group that this data does not have
        return None
    return next((name for name, value in known.items() if value == trained), None)


def errors_sheet(of: Examination) -> Image.Image | None:
    """The images whose labels are most likely wrong, with given and likely class; None where there are none."""
    if of.opinion is None or not of.opinion.errors:
        return None
    images: list[Pixels] = []
    captions: list[str] = []
    for error in of.opinion.errors[:ON_SHEET]:
        given, likely = of.dataset.classes[error.given], of.dataset.classes[error.likely]
        images.append(of.dataset.images.read(error.row))
        numbers = f"{in_words(error.given_probability)} \u2192 {in_words(error.likely_probability)}"
        captions.append(f"{given} \u2192 {likely}\n{numbers}\n{of.dataset.ids[error.row]}")
    return contact_sheet(images, captions)


def alike_sheet(of: Examination) -> Image.Image | None:
    """Pairs that the model finds alike, side by side, those in two classes or splits first; None without any."""
    if of.opinion is None or not of.opinion.alike:
        return None

    def harmless(pair: tuple[int, int, float]) -> tuple[bool, bool, float]:
        first, second, cosine = pair
        same_class = class_key(of.class_name(first)) == class_key(of.class_name(second))
        return same_class, of.split_of[first] == of.split_of[second], -cosine

    images: list[Pixels] = []
    captions: list[str] = []
    for first, second, cosine in sorted(of.opinion.alike, key=harmless)[:PAIRS_ON_SHEET]:
        for row, last in ((first, ""), (second, f"\ncosine {cosine:.4f}")):
            images.append(of.dataset.images.read(row))
            where = f", {of.split_of[row]}" if of.split_of[row] else ""
            captions.append(f"{of.class_name(row)}{where}\n{of.dataset.ids[row]}{last}")
    return contact_sheet(images, captions, columns=2 * min(PAIRS_ABREAST, len(images) // 2))
