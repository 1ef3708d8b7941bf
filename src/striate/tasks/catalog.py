"""Every task by name: how it is made again from what a model file says of it."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from striate.core.instances import Skeleton
from striate.errors import UsageError, did_you_mean
from striate.models.catalog import create
from striate.models.contract import Classifier, Detector
from striate.models.detectors.catalog import create_backbone, create_detector
from striate.models.regressor import Regressor
from striate.ops.suppression import Suppression
from striate.tasks.classification import Classification
from striate.tasks.detection import Detection
from striate.tasks.keypoints import Keypoints
from striate.tasks.localization import Localization
from striate.tasks.task import Task

TASKS = (Classification.name, Localization.name, Keypoints.name, Detection.name)


def check_task(name: str) -> None:
    """Raise `UsageError` where there is no such task."""
    if name not in TASKS:
        raise UsageError(f"there is no task {name!r}.{did_you_mean(name, TASKS)} There are {', '.join(TASKS)}.")


def build_network(
    document: Mapping[str, Any], model: str, *, backbone: str | None, channels: int, size: tuple[int, int]
) -> nn.Module:
    """A network for a task, with fresh weights.

    Args:
        document: as `Task.to_json` gives it: its name, classes, and how many objects or which points it is for.
        model: of detection a detector; of classification, localization and keypoints a network of the catalog.
        backbone: of a detector; None: the published one.
        channels: of the images.
        size: height and width of the images.

    Raises:
        UsageError: no such task, model or backbone, or numbers that do not fit.
    """
    task, classes = document["task"], len(document["classes"])
    check_task(task)
    if task == Detection.name:
        return create_detector(model, backbone=backbone, classes=classes, channels=channels, size=size)
    if backbone is not None:
        raise UsageError(f"--backbone is for detectors; of {task} the network itself is named, with --model.")
    if task == Classification.name:
        return create(model, classes=classes, channels=channels, size=size)
    if task == Localization.name:
        heads = {"logits": document["objects"] * classes, "boxes": document["objects"] * 4}
    else:
        heads = {"points": 2 * len(document["points"]), "visible": len(document["points"])}
    return Regressor(create_backbone(model, channels=channels, size=size), heads, channels=channels, size=size)


def build_task(network: nn.Module, document: Mapping[str, Any], **options: Any) -> Task:
    """The task that `Task.to_json` described, around a network.

    Args:
        network: as of `build_network`.
        document: of the task.
        options: what matters in training only, by the names of the task's arguments.
    """
    classes, name = tuple(document["classes"]), document["task"]
    check_task(name)
    if isinstance(network, Detector):
        chosen = document.get("suppression")
        suppression = None if chosen is None else Suppression(**chosen)
        thresholds = document.get("thresholds")
        proposals = document.get("proposals")
        return Detection(
            network, classes, suppression=suppression, thresholds=thresholds, proposals=proposals, **options
        )
    if isinstance(network, Classifier):
        return Classification(network, classes, **options)
    assert isinstance(network, Regressor)
    if name == Localization.name:
        return Localization(network, classes, objects=document["objects"], form=document["form"], **options)
    skeleton = Skeleton(
        names=tuple(document["points"]),
        flips=tuple(document["flips"]),
        edges=tuple((first, last) for first, last in document["edges"]),
    )
    return Keypoints(network, classes, skeleton=skeleton, **options)
