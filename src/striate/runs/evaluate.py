"""Evaluation of a trained model, with the split that it was measured on as part of the result."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from striate.core.annotations import Annotations
from striate.core.instances import InstanceSets
from striate.data.dataset import Dataset, Indices, Skipped
from striate.data.loader import Loader
from striate.data.open import open_dataset
from striate.data.preprocess import Preprocessing
from striate.data.split import Splits, fewer
from striate.data.split import split as make_split
from striate.engine import distributed
from striate.engine.evaluate import evaluate
from striate.engine.log import Display
from striate.errors import DataError, UsageError, did_you_mean
from striate.metrics.classification import ClassificationMetric
from striate.metrics.keypoints import KeypointMetric
from striate.metrics.metric import Metric
from striate.runs.building import check_fits, ordered, renumbered, says_where
from striate.runs.detecting import DetectionDetails, details, speed
from striate.runs.folder import RunFolder, is_run
from striate.runs.model_file import Card, read_model
from striate.runs.prepare import Prepared, device_of, evaluation_batch, readable
from striate.tasks.detection import Detection
from striate.tasks.keypoints import Keypoints
from striate.tasks.task import Task

SCHEMA = "striate.evaluation/1"
HEADLINES = ("test", "val", "train")


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """How good a model is on one split of one data set."""

    task: str
    headline: str  # the metric that speaks for the model
    split: str
    samples: int
    metrics: dict[str, float]
    per_class: Sequence[Mapping[str, Any]]  # of each class ``name`` and the task's figures
    classes: tuple[str, ...]
    metric: Metric  # which has more than the numbers
    held_out: str  # how the images relate to those that the model was trained on
    predictions: Annotations  # in the original images
    truths: Annotations
    indices: torch.Tensor  # (N,) int64, rows of `dataset`
    dataset: Dataset
    skipped: tuple[Skipped, ...]  # images of the split that could not be read, missing from all numbers
    per_point: Sequence[Mapping[str, Any]] = ()  # of keypoints: of each point ``name`` and its figures
    details: DetectionDetails | None = None  # of a detector
    speed: Mapping[str, Any] | None = None  # of a detector; `striate.runs.detecting.speed`

    @property
    def classification(self) -> ClassificationMetric | None:
        """The metric, where classes were predicted."""
        return self.metric if isinstance(self.metric, ClassificationMetric) else None

    @property
    def confusion(self) -> NDArray[np.int64]:
        """(K, K) of a classification, rows are the truth."""
        assert isinstance(self.metric, ClassificationMetric)
        return self.metric.confusion

    @property
    def interval(self) -> tuple[float, float] | None:
        """95% bootstrap interval of a classification's top1."""
        return None if self.classification is None else self.classification.interval(seed=0)

    @property
    def pace(self) -> str:
        """How a detector's speed was measured."""
        assert self.speed is not None
        threads = self.speed["threads"]
        return (
            f"those of batches of {self.speed['batch']}, reading left out, on {self.speed['device']} with {threads} "
            f"thread{'' if threads == 1 else 's'}"
        )

    def to_json(self) -> dict[str, Any]:
        """The ``striate.evaluation/1`` document."""
        own: dict[str, Any] = {}
        if self.interval is not None:
            own = {"top1_interval": list(self.interval)}
        if self.per_point:
            own = {"per_point": [dict(row) for row in self.per_point]}
        if self.details is not None:
            own = {**self.details.to_json(), "speed": self.speed}
        return {
            "schema": SCHEMA,
            "task": self.task,
            "split": self.split,
            "held_out": self.held_out,
            "samples": self.samples,
            "metrics": self.metrics,
            **own,
            "per_class": [dict(row) for row in self.per_class],
            **({} if self.classification is None else {"confusion": self.confusion.tolist()}),
            "skipped": [{"source": item.source, "reason": item.reason} for item in self.skipped],
        }


def evaluate_run(run: RunFolder, prepared: Prepared, *, split: str, display: Display) -> Evaluated:
    """The kept weights of a run on one of its own splits."""
    return _measure(*_on_device(run.model, prepared.device), prepared.dataset, prepared.splits, split, display)


def evaluate_model(
    model: Path,
    data: str | None = None,
    *,
    split: str | None = None,
    root: Path | None = None,
    download: bool = False,
    device: str = "auto",
    display: Display | None = None,
) -> Evaluated:
    """A run or a model file on its own data or on other data.

    Args:
        model: run folder or model file.
        data: path or known name; left out, the data that the model was trained on.
        split: train, val, test or all. Left out: as `headline_split` says; of other data without a split, all.
        root: folder of a known data set.
        download: fetch a known data set that is not there.
        device: as in the settings.
        display: for people.

    Raises:
        DataError: classes that the model does not know, a split that is not there, or no image that can be read.
    """
    display = display or Display()
    run = RunFolder(model) if is_run(model) else None
    path = model if run is None else run.model
    target = device_of(device)
    with distributed.processes(target):
        task, card = _on_device(path, target)
        own = data is None
        if own and run is not None:
            settings = run.resolved.settings
            data, root = settings.data, root or _path(settings.root)
        elif own:
            data, root = str(card.data.get("source") or ""), root or _path(card.data.get("root"))
            if not data:
                raise UsageError(f"{path} does not say which data it was trained on: name the data, too.")
        opened = open_dataset(data, root=root, download=download)
        if says_where(opened.task) != says_where(task.name):
            raise UsageError(f"{path} is a model for {task.name}, and the truth of {opened.name} is for {opened.task}.")
        check_fits(opened, task)
        dataset = for_classes(ordered(opened, task.name), card.classes)
        if own and run is not None:
            splits = Splits.load(run.split, dataset)
            if distributed.rank() == 0:
                for note in splits.notes:
                    display.say(f"Note: {note}.")
        elif own or dataset.splits or split not in (None, "all"):
            splits = split_again(dataset, card)
        else:
            splits = whole(dataset)
        chosen = split or headline_split(splits)
        if split == "all":
            splits = whole(dataset, splits)
        return _measure(task, card, dataset, splits, chosen, display)


def headline_split(splits: Splits) -> str:
    """The split whose numbers speak for a model: test, else val, else train, of those that hold images.

    Raises:
        DataError: there are no images.
    """
    found = [name for name in (*HEADLINES, *splits.indices) if len(splits.indices.get(name, ()))]
    if not found:
        raise DataError(f"there is no image to measure on ({splits.origin}).")
    return found[0]


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


def split_again(dataset: Dataset, card: Card) -> Splits:
    """The split as it was drawn for the model's training; of other data, one drawn the same way."""
    how = card.data.get("split") or {}
    validation = how.get("validation", "auto")
    splits = make_split(
        dataset,
        seed=how.get("seed", 0),
        group_by=how.get("group_by"),
        validation=None if validation == "auto" else float(validation),
    )
    if how.get("per_class") is not None and "train" in splits.indices:
        splits = fewer(splits, dataset, int(how["per_class"]))
    if set(splits.fingerprints.values()) <= set(_known(card).values()):
        return splits
    # Training left unreadable files out before it took the fingerprints; here they stay, to be counted as skipped.
    return replace(splits, fingerprints=readable(dataset, splits)[0].fingerprints)


def whole(dataset: Dataset, parts: Splits | None = None) -> Splits:
    """All images as one split named ``all``; of ``parts`` the fingerprints are kept, which tell who was trained on."""
    indices: Indices = np.arange(len(dataset), dtype=np.int64)
    return Splits(
        indices={"all": indices},
        fingerprints={**(parts.fingerprints if parts else {}), "all": dataset.fingerprint(indices)},
        origin="all images, unsplit",
        notes=parts.notes if parts else (),
    )


def for_classes(dataset: Dataset, classes: tuple[str, ...]) -> Dataset:
    """The data set with its labels renumbered, by name, as a model's.

    Raises:
        DataError: the data has classes that the model does not know.
    """
    if dataset.classes == classes:
        return dataset
    unknown = [name for name in dataset.classes if name not in classes]
    if unknown:
        hints = did_you_mean(unknown[0], classes)
        raise DataError(
            f"{dataset.name} has {len(unknown)} classes that the model does not know: {', '.join(unknown[:8])}.{hints} "
            f"The model knows {', '.join(classes[:8])}{', ...' if len(classes) > 8 else ''}."
        )
    return renumbered(dataset, classes)


def _on_device(path: Path, device: torch.device) -> tuple[Task, Card]:
    task, card = read_model(path)
    return task.to(device), card


def _measure(task: Task, card: Card, dataset: Dataset, splits: Splits, split: str, display: Display) -> Evaluated:
    if split not in splits.indices or not len(splits.indices[split]):
        there = [name for name, indices in splits.indices.items() if len(indices)]
        raise DataError(
            f"{dataset.name} has no {split} split; it has {', '.join(there)}.{did_you_mean(split, there)} "
            "'--split all' takes every image."
        )

    def loader(preprocessing: Preprocessing) -> Loader:
        return Loader(
            dataset,
            splits.indices[split],
            preprocessing,
            batch=evaluation_batch(preprocessing.size),
            seed=0,
            shuffle=False,
            device=next(task.parameters()).device,
            rank=distributed.rank(),
            world=distributed.world(),
        )

    batches = loader(card.preprocessing)
    found = evaluate(
        task, batches, keep=True, progress=lambda done, total: display.progress(f"evaluating {split}", done, total)
    )
    display.close()
    skipped = tuple(distributed.gathered(batches.skipped))
    if found.indices is None:
        raise DataError(
            f"none of the {len(skipped):,} images of {dataset.name}'s {split} split can be read, as {skipped[0].reason}"
        )
    if skipped and distributed.rank() == 0:
        display.say(
            f"{len(skipped):,} of the {split} split's {len(splits.indices[split]):,} images could not be read and are "
            f"in none of the numbers, the first: {skipped[0].reason}"
        )
    assert found.predictions is not None
    assert found.truths is not None
    rows: Sequence[Mapping[str, Any]] = found.metric.per_class(card.classes)
    points: Sequence[Mapping[str, Any]] = ()
    if isinstance(task, Keypoints):
        assert isinstance(found.metric, KeypointMetric)
        points = found.metric.per_point(task.skeleton.names)
    looked_at, pace = None, None
    if isinstance(task, Detection):
        assert isinstance(found.predictions, InstanceSets)
        assert isinstance(found.truths, InstanceSets)
        looked_at = details(found.predictions, found.truths, card.classes, task.thresholds)
        rows = [{**row, **more} for row, more in zip(rows, looked_at.rows(), strict=True)]
        whole = batches if card.preprocessing.multiple is None else loader(replace(card.preprocessing, multiple=None))
        with closing(whole.epoch(0)) as again:
            first = next((batch for batch in again if len(batch)), None)
        pace = None if first is None else speed(task, first)
    return Evaluated(
        task=task.name,
        headline=task.headline,
        split=split,
        samples=len(found.indices),
        metrics=found.metric.compute(),
        per_class=rows,
        per_point=points,
        classes=card.classes,
        metric=found.metric,
        held_out=_held_out(split, splits.fingerprints, _known(card)),
        predictions=found.predictions,
        truths=found.truths,
        indices=found.indices,
        dataset=dataset,
        skipped=skipped,
        details=looked_at,
        speed=pace,
    )


def _known(card: Card) -> Mapping[str, str]:
    """Fingerprints, by split, of the data that a model was trained on."""
    return card.data.get("fingerprints") or {}


def _held_out(split: str, fingerprints: Mapping[str, str], known: Mapping[str, str]) -> str:
    """What the fingerprints say about the images, in words."""
    same = [name for name, value in known.items() if value == fingerprints.get(split)]
    if "train" in same:
        return "the very images that the model was trained on: the numbers say nothing about new ones"
    if "val" in same:
        return "the images that the best epoch was chosen on: the numbers flatter a little"
    if "test" in same or "unused" in same:
        return "held out: the model never saw these images"
    if split == "all" and "train" in known and known["train"] in fingerprints.values():
        return "with the images that the model was trained on among them: the numbers flatter"
    return f"other data than this model was held out for: whether it saw these {split} images is not known"
