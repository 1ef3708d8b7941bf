"""Feature extraction: a frozen network, its features computed once, and a classifier fitted on them.

The result is a model like any other: the classifier becomes the network's last layer.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from striate.config import Resolved, TrainSettings
from striate.core.annotations import Classifications
from striate.core.batch import Batch
from striate.data.dataset import Indices, Skipped
from striate.engine import distributed
from striate.engine.fit import Best, fit
from striate.engine.fit import Fitted as EngineFitted
from striate.engine.log import Display, Log
from striate.engine.precision import Precision
from striate.errors import DataError, InterruptedRunError, UsageError, did_you_mean
from striate.models.features import last_layer
from striate.models.heads import Head, replace_head
from striate.nn.nearest import NearestNeighbours
from striate.runs.feature_classifiers import (
    NEIGHBOURS,
    PENALTIES,
    Fit,
    Fitted,
    Floats,
    Labels,
    Trial,
    check_folds,
    chosen,
    fit_linear,
    linear,
    nearest,
    require_sklearn,
    search,
    standard,
    temperature,
)
from striate.runs.features import Extractor, Features, cache_folder, extract
from striate.runs.finetune import learning_groups, settle
from striate.runs.prepare import Prepared
from striate.tasks.classification import Classification

MUCH_PER_CLASS = 500  # images of a typical class from which on fine-tuning pays
MEASURED_IMAGES = 1000  # that the choice of the way is measured on, at most
USUAL_PENALTY = {"logistic": 100.0, "svm": 100.0, "softmax": 0.1, "knn": 1.0}  # where none is searched
SOFTMAX_PENALTIES = (3.0, 1.0, 0.3, 0.1, 0.03, 0.0)  # decoupled weight decay
SOFTMAX_LR, SOFTMAX_BATCH, SOFTMAX_STEPS = 0.01, 64, 500


@dataclass(frozen=True, kw_only=True)
class Transferred:
    """What feature extraction came to."""

    fitted: EngineFitted
    head: Head | None  # None where the network's own last layer holds the classifier
    skipped: tuple[Skipped, ...]  # images that could not be read


def settle_features(prepared: Prepared) -> Prepared:
    """Check what training on features asks for, and settle what it does not read.

    Raises:
        UsageError: several processes, no scikit-learn, or a layer that is no stage.
        DataError: a class has fewer images than folds.
    """
    resolved, settings = prepared.resolved, prepared.resolved.settings
    require_sklearn("classifiers on features")
    _stage(prepared, settings.layer)
    if settings.penalty == "auto":
        labels = prepared.dataset.labels[prepared.splits.indices["train"]]
        check_folds(labels, prepared.classification.classes, settings.folds)
    if len(np.unique(prepared.dataset.labels[prepared.splits.indices["train"]])) < 2:
        raise DataError("all training images are of one class: a classifier on features needs two.")
    if settings.classifier == "knn" and settings.penalty != "auto" and settings.penalty % 1:
        raise UsageError(f"--penalty {settings.penalty:g} of knn is its number of neighbours, which is whole.")
    refuse_processes()
    taken = {"batch": SOFTMAX_BATCH, "precision": "float32", "channels_last": False}
    open_ones = {name: value for name, value in taken.items() if getattr(settings, name) == "auto"}
    return replace(prepared, resolved=resolved.because("features", **open_ones))


def refuse_processes() -> None:
    """Raise `UsageError` under torchrun."""
    if distributed.world() > 1:
        raise UsageError("--transfer features runs in one process: start it without torchrun.")


def fit_on_features(prepared: Prepared, log: Log, display: Display, *, stop: Callable[[], bool]) -> Transferred:
    """Extract features, choose the penalty, fit the classifier and put it into the network.

    Args:
        prepared: whose network is given the classifier.
        log: takes every event.
        display: for people.
        stop: asked between batches and between the parts of the work.

    Raises:
        DataError: a class has fewer images than folds.
        InterruptedRunError: `stop` said so; computed features are kept.
    """
    started = time.perf_counter()
    settings, task = prepared.resolved.settings, prepared.classification
    classes = len(task.classes)
    extractor, stage = features_of(prepared)
    train = _features(prepared, extractor, "train", display, stop)
    _heed(stop)
    labels = prepared.dataset.labels[train.rows]
    trials: list[Trial] = []
    scale = 1.0
    if settings.penalty == "auto":
        fit_fold, penalties = _searched(settings, classes)
        trials, scores, seen = search(
            fit_fold,
            train.values,
            labels,
            penalties,
            classes=task.classes,
            folds=settings.folds,
            seed=settings.seed,
            progress=_progress(display, stop),
        )
        if settings.classifier != "knn":
            scale = 1 / temperature(scores, seen)
        display.close()
    penalty = chosen(trials).penalty if trials else float(settings.penalty)
    _say(settings, trials, penalty, log)
    head = Head(kind="linear", stage=stage)
    if settings.classifier == "knn":
        neighbours = min(max(1, round(penalty)), len(labels))
        head = Head(kind="knn", stage=stage, examples=len(labels), neighbours=neighbours)
    replace_head(prepared.network, head)
    last = prepared.network.get_submodule(last_layer(prepared.network))
    if isinstance(last, NearestNeighbours):
        last.remember(torch.from_numpy(train.values), torch.from_numpy(labels))
    else:
        assert isinstance(last, nn.Linear)
        if settings.classifier == "softmax":
            found = _softmax(train.values, labels, penalty, classes, settings)
        else:
            found = fit_linear(settings.classifier, train.values, labels, penalty, classes)
        with torch.no_grad():
            last.weight.copy_(torch.from_numpy(found.weight) * scale)
            last.bias.copy_(torch.from_numpy(found.bias) * scale)
    train_metrics = _measured(task, last, train.values, labels)
    best: Best | None = None
    skipped = train.skipped
    if len(prepared.splits.indices.get("val", ())):
        val = _features(prepared, extractor, "val", display, stop)
        skipped = (*skipped, *val.skipped)
        metrics = _measured(task, last, val.values, prepared.dataset.labels[val.rows])
        best = Best(epoch=1, value=metrics[task.headline], metrics=metrics)
        log.record("features", penalty=penalty, train=train_metrics, val=metrics)
    else:
        log.record("features", penalty=penalty, train=train_metrics)
    seconds = time.perf_counter() - started
    plain = head == Head(kind="linear", stage=None)
    return Transferred(
        fitted=EngineFitted(best=best, epochs=1, seconds=seconds, steps=0, micro_batches=1),
        head=None if plain else head,
        skipped=skipped,
    )


def decide(prepared: Prepared, display: Display) -> Prepared:
    """Choose the way of transfer by the four classic cases: little or much data, like the source's or unlike it.

    The cases are those of the CS231n course notes ("Transfer Learning", When and how to fine-tune?). How like the
    source the images are is measured: what the deepest features, made for the source's classes, are worth against
    those of a stage in the middle, which are general (Yosinski et al. 2014), by cross-validated logistic regression.

    Returns:
        The same with the settings and the reason of the choice.
    """
    resolved, settings = prepared.resolved, prepared.resolved.settings
    require_sklearn("classifiers on features")
    found: dict[str, Any] = {}
    if distributed.rank() == 0:  # timing decides last bits of the features: all processes do what one has found
        found["values"], found["reason"] = _way(prepared, display)
    found = distributed.same_for_all(found)
    display.say(f"Transfer: {found['reason']}")
    free = {name: value for name, value in found["values"].items() if getattr(settings, name) != value}
    resolved = settle(resolved.because("measured", **free))
    if resolved.settings.transfer == "features" and resolved.sources["augment"] == "data":
        resolved = Resolved(
            settings=replace(resolved.settings, augment="none"), sources={**resolved.sources, "augment": "features"}
        )
    groups = learning_groups(prepared.network, resolved.settings)
    return replace(prepared, resolved=resolved, groups=groups, reason=found["reason"])


def _way(prepared: Prepared, display: Display) -> tuple[dict[str, Any], str]:
    """The settings that the measurement asks for, and the reason in words."""
    settings = prepared.resolved.settings
    rows = prepared.splits.indices["train"]
    labels = prepared.dataset.labels[rows]
    counts = np.bincount(labels, minlength=len(prepared.classification.classes))
    typical = int(np.median(counts[counts > 0]))
    much = typical >= MUCH_PER_CLASS
    # A class too small for the folds says nothing of the others: it is left out of the measurement.
    folds = settings.folds if (counts >= settings.folds).sum() > 1 else 2
    enough = np.flatnonzero(counts >= folds)
    few_in_a_class = settings.penalty == "auto" and bool((counts[counts > 0] < settings.folds).any())
    chosen_by: dict[str, Any] = {"transfer": "features", "layer": "auto"}
    if few_in_a_class:
        chosen_by["penalty"] = USUAL_PENALTY[settings.classifier]
    if len(enough) < 2:
        case = "classes with a single image leave nothing to measure: a classifier on the features of the last layer"
    else:
        deep, middle, stage = _worth(prepared, rows[np.isin(labels, enough)], folds, display)
        like = middle.accuracy <= deep.accuracy + deep.deviation / math.sqrt(folds)
        figures = (
            f"On its features logistic regression reaches {deep.accuracy:.3f} at the last layer and "
            f"{middle.accuracy:.3f} at {stage} ({folds}-fold cross-validation on training images; "
            f"the largest class would give {counts.max() / counts.sum():.3f})"
        )
        alike = "like the ones that the weights come from" if like else "unlike those that the weights come from"
        if not much:
            chosen_by["layer"] = "auto" if like else stage
            way = f"a {settings.classifier} classifier on frozen features" + ("" if like else f" of the stage {stage}")
        elif like:
            chosen_by = {"transfer": "finetune"}
            way = "fine-tuning of all stages, the earlier the gentler"
        else:
            chosen_by = {"transfer": "finetune"}
            if settings.layer_decay == "auto":
                chosen_by["layer_decay"] = 1.0
            way = "fine-tuning of all stages at one rate, as little of them fits"
        case = f"{figures}: the images are {alike}. {'Much' if much else 'Little'} data of that kind asks for {way}"
    reason = f"{len(rows):,} training images, {typical:,} of a typical class, which is {'much' if much else 'little'}. "
    return chosen_by, f"{reason}{case[0].upper()}{case[1:]}."


def _worth(prepared: Prepared, rows: Indices, folds: int, display: Display) -> tuple[Trial, Trial, str]:
    """What logistic regression reaches on the last layer's features and on those of a stage in the middle."""
    settings, labels = prepared.resolved.settings, prepared.dataset.labels[rows]
    most = max(folds, MEASURED_IMAGES // len(prepared.classification.classes))  # of a class
    drawn = np.random.default_rng(settings.seed).permutation(len(rows))
    picked = np.sort(np.concatenate([drawn[labels[drawn] == label][:most] for label in np.unique(labels)]))
    maps = [stage.name for stage in prepared.network.backbone.stages]
    middle = maps[len(maps) // 2 - 1] if len(maps) > 1 else maps[0]
    trials: list[Trial] = []
    for stage in (None, middle):
        extractor, _ = features_of(prepared, stage)
        found = extract(
            extractor,
            prepared.dataset,
            rows[picked],
            cache=cache_folder(settings.cache),
            display=display,
            what=f"features at {extractor.layer}",
            workers=None if settings.workers == "auto" else settings.workers,
        )
        tried, _, _ = search(
            linear("logistic", len(prepared.classification.classes)),
            found.values,
            prepared.dataset.labels[found.rows],
            (USUAL_PENALTY["logistic"],),
            classes=prepared.classification.classes,
            folds=folds,
            seed=settings.seed,
        )
        trials.append(tried[0])
    return trials[0], trials[1], middle


def features_of(prepared: Prepared, stage: str | None = None) -> tuple[Extractor, str | None]:
    """The extractor of the layer that a setting, or ``stage``, names; with the stage that a head on it reads.

    The stage is None where the network's own last layer takes the features. A network whose last layer is no full
    layer gives the features of its deepest stage.
    """
    stage = _stage(prepared, stage or prepared.resolved.settings.layer)
    return Extractor(prepared.network, prepared.preprocessing, layer=stage, device=prepared.device), stage


def _stage(prepared: Prepared, layer: str) -> str | None:
    network = prepared.network
    stages = [stage.name for stage in network.backbone.stages]
    if layer == "auto":
        return None if isinstance(network.get_submodule(last_layer(network)), nn.Linear) else stages[-1]
    if layer not in stages:
        raise UsageError(
            f"--layer {layer}: a classifier takes the features of a stage, one of {', '.join(stages)}."
            f"{did_you_mean(layer, stages)}"
        )
    return layer


def _features(
    prepared: Prepared, extractor: Extractor, split: str, display: Display, stop: Callable[[], bool]
) -> Features:
    settings = prepared.resolved.settings
    found = extract(
        extractor,
        prepared.dataset,
        prepared.splits.indices[split],
        cache=cache_folder(settings.cache),
        display=display,
        what=f"features of {split}",
        workers=None if settings.workers == "auto" else settings.workers,
        stop=stop,
    )
    read = len(found.rows) - found.computed
    display.say(
        f"Features of {split}: {len(found.rows):,} images x {extractor.dimension:,} at {extractor.layer}"
        + (f", {read:,} of them from {cache_folder(settings.cache)}." if read else ".")
    )
    return found


def _searched(settings: TrainSettings, classes: int) -> tuple[Fit, tuple[float, ...]]:
    if settings.classifier == "knn":
        return nearest(classes), tuple(float(k) for k in NEIGHBOURS)
    if settings.classifier == "softmax":

        def softmax(values: Floats, labels: Labels, penalty: float, others: Floats) -> Floats:
            found = _softmax(values, labels, penalty, classes, settings)
            return others @ found.weight.T + found.bias

        return softmax, SOFTMAX_PENALTIES
    return linear(settings.classifier, classes), PENALTIES


def _progress(display: Display, stop: Callable[[], bool]) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        display.progress("choosing the penalty", done, total)
        _heed(stop)

    return progress


def _heed(stop: Callable[[], bool]) -> None:
    if stop():
        raise InterruptedRunError("interrupted")


def _say(settings: TrainSettings, trials: list[Trial], penalty: float, log: Log) -> None:
    what = "neighbours" if settings.classifier == "knn" else "penalty"
    if trials:
        best = chosen(trials)
        log.display.say(
            f"Classifier: {settings.classifier}, {what} {penalty:g} of {', '.join(f'{t.penalty:g}' for t in trials)} "
            f"by {settings.folds}-fold cross-validation, accuracy {best.accuracy:.4f} (folds ± {best.deviation:.4f})."
        )
        log.record("cross_validation", classifier=settings.classifier, trials=[asdict(trial) for trial in trials])
    else:
        log.display.say(f"Classifier: {settings.classifier}, {what} {penalty:g}, nothing searched.")


def _measured(task: Classification, last: nn.Module, values: Floats, labels: Labels) -> dict[str, float]:
    metric = task.metric()
    with torch.inference_mode():
        scores = last.cpu()(torch.from_numpy(values)).softmax(1)
    truths = Classifications(labels=torch.from_numpy(labels))
    metric.update(Classifications(labels=scores.argmax(1), scores=scores), truths)
    return metric.compute()


class _FeatureBatches:
    """Shuffled batches of features; batch k of an epoch follows from the seed, the epoch and k."""

    wait = 0.0

    def __init__(self, values: Tensor, labels: Tensor, seed: int):
        self.values = values
        self.labels = labels
        self.seed = seed
        self.steps = math.ceil(len(labels) / SOFTMAX_BATCH)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """See `striate.engine.evaluate.Batches`."""
        order = torch.from_numpy(np.random.default_rng([self.seed, epoch]).permutation(len(self.labels)))
        for rows in order.split(SOFTMAX_BATCH)[start:]:
            yield Batch(
                images=self.values[rows],
                sizes=torch.ones(len(rows), 2, dtype=torch.int64),
                truths=Classifications(labels=self.labels[rows]),
                indices=rows,
            )


def _softmax(values: Floats, labels: Labels, penalty: float, classes: int, settings: TrainSettings) -> Fitted:
    """A full layer trained by the engine with cross-entropy and weight decay, on standardised features."""
    mean, deviation = standard(values)
    layer = nn.Linear(values.shape[1], classes)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    task = Classification(layer, [str(k) for k in range(classes)])
    batches = _FeatureBatches(torch.from_numpy((values - mean) / deviation), torch.from_numpy(labels), settings.seed)
    fit(
        task,
        batches,
        None,
        TrainSettings(
            epochs=max(settings.epochs, math.ceil(SOFTMAX_STEPS / batches.steps)),
            batch=SOFTMAX_BATCH,
            lr=SOFTMAX_LR,
            weight_decay=penalty,
            seed=settings.seed,
        ),
        Log(None, Display(quiet=True)),
        precision=Precision(),
        device=torch.device("cpu"),
        batch=SOFTMAX_BATCH,
    )
    weight: Floats = (layer.weight.detach().numpy() / deviation).astype(np.float32)
    bias: Floats = (layer.bias.detach().numpy() - weight @ mean).astype(np.float32)
    return Fitted(weight=weight, bias=bias)
