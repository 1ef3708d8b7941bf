"""What the report of a task that says where shows: its worst images, curves, and kinds of mistakes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from striate.core.instances import UNLABELLED, Instances, InstanceSets
from striate.metrics.tide import KINDS
from striate.ops.boxes import iou
from striate.ops.pairing import pair
from striate.runs.detecting import DetectionDetails
from striate.runs.evaluate import Evaluated
from striate.runs.report import Example, Figure
from striate.viz.charts import Bar, Series, bar_list, precision_recall_chart
from striate.viz.instances import draw_beside, draw_verdicts

WORST = 12  # images that are shown
RECALLS = np.linspace(0, 1, 101)

Judged = tuple[float, str]  # how bad, and in words


def fields_of(found: Evaluated) -> dict[str, Any]:
    """The fields of a `striate.runs.report.Report` for an evaluation of boxes or points."""
    fields: dict[str, Any] = {"table": found.per_class, "points": found.per_point, "examples": worst(found)}
    if found.details is not None:
        fields |= {"figures": _figures(found.details), "confusion": found.details.confusion}
    return fields


def worst(found: Evaluated, most: int = WORST) -> list[Example]:
    """The images on which the model does worst, the worst first; those without a fault are left out.

    Of a detector by the number of missed objects and false alarms at its thresholds, of localization by the overlap of
    the boxes, of keypoints by the points' distance in shares of the object's size.
    """
    predictions, truths = found.predictions, found.truths
    assert isinstance(predictions, InstanceSets)
    assert isinstance(truths, InstanceSets)
    judge: Callable[[Instances, Instances], Judged]
    if found.details is not None:
        predictions = _shown(predictions, found.details)
        judge = _detected
    else:
        judge = _localized if truths.keypoints is None else _pointed
    judged = [judge(one, true) for one, true in zip(predictions, truths, strict=True)]
    order = sorted(range(len(judged)), key=lambda row: -judged[row][0])
    examples: list[Example] = []
    for row in order[:most]:
        if not judged[row][0]:
            break
        index = int(found.indices[row])
        examples.append(
            Example(
                picture=_drawn(found, index, predictions[row], truths[row]),
                id=found.dataset.ids[index],
                verdict=judged[row][1],
            )
        )
    return examples


def _drawn(found: Evaluated, index: int, predicted: Instances, true: Instances) -> Image.Image:
    image, skeleton = found.dataset.images.read(index), found.dataset.skeleton
    if found.details is None:
        return draw_beside(image, true, predicted, found.classes, skeleton=skeleton)
    return draw_verdicts(image, true, predicted, pair(predicted, true), found.classes)


def _shown(predictions: InstanceSets, details: DetectionDetails) -> InstanceSets:
    assert predictions.scores is not None
    return predictions.keep(predictions.scores >= torch.tensor(details.thresholds)[predictions.labels])


def _detected(predicted: Instances, true: Instances) -> Judged:
    pairs = pair(predicted, true)
    counted = torch.ones(len(true), dtype=torch.bool)
    for passed in (true.crowd, true.ignore):
        counted = counted if passed is None else counted & ~passed
    right = _right(pairs, predicted, true)
    missed = int(counted.sum()) - int(counted[pairs[right]].sum())
    false = int((~right).sum())
    return float(missed + false), f"{missed} missed, {false} false of {int(counted.sum())} objects"


def _right(pairs: Tensor, predicted: Instances, true: Instances) -> Tensor:
    """(M,) bool: predictions that stand for an object of their own class."""
    matched = pairs >= 0
    right = matched.clone()
    right[matched] = true.labels[pairs[matched]] == predicted.labels[matched]
    return right


def _localized(predicted: Instances, true: Instances) -> Judged:
    overlap = float(iou(predicted.boxes, true.boxes).diagonal().mean())
    wrong = int((predicted.labels != true.labels).sum())
    return 1 - overlap + wrong, f"IoU {overlap:.2f}{', wrong class' if wrong else ''}"


def _pointed(predicted: Instances, true: Instances) -> Judged:
    assert predicted.keypoints is not None
    assert true.keypoints is not None
    labelled = true.keypoints[..., 2] > UNLABELLED
    size = (true.boxes[:, 2:] - true.boxes[:, :2]).amax(1, keepdim=True).clamp(min=1)
    away = ((predicted.keypoints - true.keypoints)[..., :2].norm(dim=2) / size)[labelled]
    if not len(away):
        return 0.0, "no point is labelled"
    return float(away.mean()), f"points {float(away.mean()):.1%} of the object away, the worst {float(away.max()):.1%}"


def _figures(details: DetectionDetails) -> list[Figure]:
    with_objects = [(name, curve) for name, curve in zip(details.classes, details.curves, strict=True) if curve.objects]
    lines = [
        Series(name=f"{name} {curve.average_precision or 0:.2f}", x=RECALLS.tolist(), y=curve.interpolated.tolist())
        for name, curve in with_objects
    ]
    if not with_objects:
        return []
    mean = np.mean([curve.interpolated for _, curve in with_objects], axis=0)
    overall = Series(name=f"mean {float(mean.mean()):.2f}", x=RECALLS.tolist(), y=mean.tolist())
    bars = [
        Bar(
            name=kind,
            value=details.mistakes.costs[kind],
            text=f"{details.mistakes.costs[kind]:.3f} ({details.mistakes.counts[kind]:,})",
        )
        for kind in KINDS
    ]
    return [
        Figure(markup=precision_recall_chart("Precision over recall at IoU 0.5", lines, overall)),
        Figure(
            markup=bar_list("What each kind of mistake costs", bars, unit="AP50 (count)", colour="wrong"),
            words="After TIDE (Bolya et al. 2020): the AP50 that mending all mistakes of one kind would gain.",
        ),
    ]
