"""What is said of a detector beyond its AP: thresholds, curves, confusions, kinds of mistakes, speed."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from striate.core.batch import Batch
from striate.core.instances import InstanceSets
from striate.metrics.coco import DetectionMetric
from striate.metrics.detection import PrecisionRecall, best_f1, confusion, precision_recall
from striate.metrics.tide import Mistakes, mistakes
from striate.metrics.voc import VocMetric
from striate.tasks.task import Task

UNMEASURED = 0.5  # threshold of a class that had no right prediction to choose one by
TRIALS = 5  # timed passes, of which the median counts


@dataclass(frozen=True, kw_only=True)
class DetectionDetails:
    """A detector's predictions on one split, looked at from all sides."""

    classes: tuple[str, ...]
    thresholds: tuple[float, ...]  # K: score from which on a class is shown
    measured: bool  # whether the thresholds come from the model file, and not from this very split
    curves: Sequence[PrecisionRecall]  # K, at IoU 0.5
    confusion: NDArray[np.int64]  # (K + 1, K + 1) at the thresholds; the last is background
    mistakes: Mistakes
    voc: dict[str, float]  # AP50 as VOC takes it, by all points and by eleven

    def rows(self) -> list[dict[str, Any]]:
        """For each class the threshold, and precision, recall and F1 with it."""
        return [
            {"name": name, "threshold": threshold, **_at(curve, threshold)}
            for name, threshold, curve in zip(self.classes, self.thresholds, self.curves, strict=True)
        ]

    def to_json(self) -> dict[str, Any]:
        """Thresholds, mistakes with what each kind costs in AP50, confusion, VOC's AP."""
        return {
            "thresholds": dict(zip(self.classes, self.thresholds, strict=True)),
            "thresholds_from": "the model file" if self.measured else "this split",
            "mistakes": {"counts": self.mistakes.counts, "costs": self.mistakes.costs},
            "confusion": self.confusion.tolist(),
            "voc": self.voc,
        }


def details(
    predictions: InstanceSets, truths: InstanceSets, classes: tuple[str, ...], thresholds: Sequence[float] | None
) -> DetectionDetails:
    """Look at a detector's predictions.

    Args:
        predictions: of N images.
        truths: of the same.
        classes: K class names.
        thresholds: of the model file; None: the best of this split.
    """
    count = len(classes)
    curves = precision_recall(predictions, truths, count)
    chosen = tuple(thresholds) if thresholds is not None else choose(curves, classes)
    voc = VocMetric(count)
    voc.update(predictions, truths)
    return DetectionDetails(
        classes=classes,
        thresholds=chosen,
        measured=thresholds is not None,
        curves=curves,
        confusion=confusion(predictions, truths, count, score=list(chosen)),
        mistakes=mistakes(predictions, truths, count),
        voc=voc.compute(),
    )


def choose(curves: Sequence[PrecisionRecall], classes: tuple[str, ...]) -> tuple[float, ...]:
    """For each class the score threshold with the best F1; `UNMEASURED` where none can be told."""
    found = best_f1(list(curves), classes)
    return tuple(UNMEASURED if row["threshold"] is None else float(row["threshold"]) for row in found)


def thresholds_by(metric: DetectionMetric, classes: tuple[str, ...]) -> tuple[float, ...]:
    """Each class' threshold, by what a metric gathered on images that the model was not trained on."""
    return choose(precision_recall(*metric.whole(), len(classes)), classes)


@torch.inference_mode()
def speed(task: Task, batch: Batch) -> dict[str, Any]:
    """How fast a model answers, network and choice of boxes, without reading images.

    Args:
        task: on the device of the batch.
        batch: real images.

    Returns:
        ``images_per_second`` of the whole batch, ``latency_ms`` of one image alone, ``batch``, ``size`` (height and
        width of the input), ``device``, ``threads``.
    """

    def timed(part: Batch) -> float:
        task.predict(part)
        seconds: list[float] = []
        for _ in range(TRIALS):
            began = time.perf_counter()
            task.predict(part)
            if part.images.device.type == "cuda":
                torch.cuda.synchronize(part.images.device)
            seconds.append(time.perf_counter() - began)
        return statistics.median(seconds)

    return {
        "images_per_second": round(len(batch) / timed(batch), 2),
        "latency_ms": round(1000 * timed(batch.select(slice(0, 1))), 2),
        "batch": len(batch),
        "size": list(batch.images.shape[2:]),
        "device": str(batch.images.device),
        "threads": torch.get_num_threads(),
    }


def _at(curve: PrecisionRecall, threshold: float) -> dict[str, float | None]:
    """Precision, recall and F1 of what scores ``threshold`` or more."""
    shown = int((curve.scores >= np.float32(threshold)).sum())
    right = int(curve.right[:shown].sum())
    precision = right / shown if shown else None
    recall = right / curve.objects if curve.objects else None
    total = shown + curve.objects
    return {"precision": precision, "recall": recall, "f1": 2 * right / total if curve.objects else None}
