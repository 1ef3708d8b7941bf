"""What is to be learnt, from settings and data: the task with its network.

Classification has its own ways of starting from trained weights (`striate.runs.transfer`); the tasks that say where
share the rest.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from striate.config import Resolved, TrainSettings
from striate.core.instances import InstanceSets
from striate.data.dataset import Dataset, Indices
from striate.data.preprocess import Preprocessing
from striate.data.transforms.instances import INSTANCE_POLICIES
from striate.data.transforms.policy import POLICIES
from striate.errors import DataError, UsageError
from striate.models.contract import Detector
from striate.models.detectors.catalog import DEFAULT, DETECTORS, find_detector
from striate.models.detectors.two_stage import learn_from
from striate.ops.boxes import at_least
from striate.runs.checkpoints import create_with_weights
from striate.runs.detector_weights import start_from
from striate.runs.finetune import USES
from striate.tasks.catalog import TASKS, build_network, build_task, check_task
from striate.tasks.classification import Classification, class_weights
from striate.tasks.detection import Detection
from striate.tasks.keypoints import Keypoints
from striate.tasks.localization import Localization
from striate.tasks.task import Task

SMALL_SCENE = 320  # pixels: up to here a detector sees images of one size as they are, and a small backbone does
LARGE_SCENE = (640, 640)  # height, width that larger ones are fitted into where the detector leaves it open
SMALL_BACKBONE = "resnet18"
SMALL_REGIONS, SMALL_PROPOSALS = 32, 100  # of a small input, of which a head with 1,000 regions would do all the work

# What a task that says where has for a default where classification has another.
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    Detection.name: {"batch": 16, "lr": 0.001, "clip": 10.0},
    Localization.name: {"lr": 0.001},
    Keypoints.name: {"lr": 0.001},
}
CLASSIFICATION_ONLY = (
    *("mixup", "cutmix", "per_class", "class_weights", "transfer", "temperature", "teacher_share"),
    *USES,
)
FOR = {  # settings that only some tasks read
    "label_smoothing": (Classification.name, Localization.name),
    **dict.fromkeys(("backbone", "regions", "proposals"), (Detection.name,)),
    **dict.fromkeys(("box_loss", "box_form", "heads", "first_epochs"), (Localization.name,)),
    "by_shape": (Detection.name,),
    "clean_epochs": (Localization.name, Keypoints.name, Detection.name),
    **dict.fromkeys(CLASSIFICATION_ONLY, (Classification.name,)),
}


def says_where(task: str) -> bool:
    """Whether a task's truth has a place in the image."""
    return task != Classification.name


def choose_task(resolved: Resolved, dataset: Dataset) -> Resolved:
    """The task that was asked for, or the one that the data's truth is for, with its defaults.

    Raises:
        UsageError: no such task, or a setting that it does not read.
        DataError: the data has no truth for it.
    """
    asked = resolved.settings.task
    if asked != "auto":
        check_task(asked)
    task = dataset.task if asked == "auto" else asked
    if (task == Classification.name) != (dataset.task == Classification.name):
        fitting = [name for name in TASKS if says_where(name) == says_where(dataset.task)]
        raise UsageError(
            f"--task {task}: the truth of {dataset.name} is for {dataset.task} ({', '.join(fitting)} would do)."
        )
    _check_policy(resolved.settings.augment, task)
    usual = TrainSettings()
    for name, tasks in FOR.items():
        if task not in tasks and getattr(resolved.settings, name) not in (getattr(usual, name), "none"):
            raise UsageError(f"--{name.replace('_', '-')} is for {' and '.join(tasks)}, and this is {task}.")
    free = {name: value for name, value in DEFAULTS.get(task, {}).items() if resolved.sources[name] == "default"}
    if resolved.settings.optimizer == "sgd":
        free.pop("lr", None)  # which is for Adam
    return resolved.because("data", task=task).because("task", **free)


def _check_policy(text: str, task: str) -> None:
    """Raise `UsageError` where an augmentation exists, but only for other tasks."""
    name = text.partition("(")[0].strip()
    own, others = (INSTANCE_POLICIES, POLICIES) if says_where(task) else (POLICIES, INSTANCE_POLICIES)
    if name in others and name not in own:
        tasks = [other for other in TASKS if says_where(other) != says_where(task)]
        raise UsageError(
            f"--augment {name} is for {', '.join(tasks)}, and this is {task}, which takes {', '.join(own)}."
        )


def check_truths(dataset: Dataset, task: str, rows: Indices) -> None:
    """Refuse truths that cannot be learnt from.

    Args:
        dataset: what is trained on.
        task: for which task.
        rows: the images of all splits.

    Raises:
        DataError: labels out of range; too few classes; boxes without area; no objects at all; of localization another
            number of objects in some image than in the others, of keypoints another than one, or no points.
    """
    check_labels(dataset)
    if not says_where(task):
        return
    truths = dataset.instances
    turned = (~at_least(truths.boxes, 1e-6)).nonzero()[:, 0]
    if len(turned):
        box = [round(value, 2) for value in truths.boxes[turned[0]].tolist()]
        raise DataError(
            f"{dataset.ids[int(truths.images[turned[0]])]} has the box {box}, which has no area; expected x1 < x2 and "
            f"y1 < y2. {len(turned)} are like that; 'striate data check DATA --fix OUT' writes a copy without them."
        )
    counts = truths.counts[torch.from_numpy(rows)]
    if not int(counts.sum()):
        raise DataError(f"{dataset.name} has no object in any of its {len(rows):,} images.")
    if task == Detection.name:
        return
    wanted = objects_of(dataset, rows) if task == Localization.name else 1
    other = (counts != wanted).nonzero()[:, 0]
    if len(other):
        row = int(rows[int(other[0])])
        raise DataError(
            f"{task} needs {wanted} object{'' if wanted == 1 else 's'} in every image, and {dataset.ids[row]} has "
            f"{int(truths.counts[row])} ({len(other):,} images have another number). '--task detection' takes any."
        )
    if task == Keypoints.name and len(dataset.classes) > 1:
        raise DataError(
            f"{dataset.name} has points of {len(dataset.classes)} classes ({', '.join(dataset.classes[:5])}), and the "
            "task finds those of one: make them one with 'striate data convert --class OLD=NEW'."
        )
    if task == Keypoints.name and (truths.keypoints is None or dataset.skeleton is None):
        raise DataError(f"{dataset.name} has boxes, but no points: '--task localization' or detection takes it.")


def ordered(dataset: Dataset, task: str) -> Dataset:
    """The data set as a task sees it: for localization the objects of an image stand from left to right."""
    if task != Localization.name or not isinstance(dataset.truths, InstanceSets):
        return dataset
    return replace(dataset, truths=dataset.truths.from_left_to_right())


def check_fits(dataset: Dataset, task: Task) -> None:
    """Raise `DataError` where a model cannot be measured on data: another number of objects, or no points."""
    if not says_where(task.name):
        return
    truths = dataset.instances
    wanted = task.objects if isinstance(task, Localization) else 1 if isinstance(task, Keypoints) else None
    other = torch.empty(0) if wanted is None else (truths.counts != wanted).nonzero()[:, 0]
    if len(other):
        row = int(other[0])
        raise DataError(
            f"this model finds {wanted} object{'' if wanted == 1 else 's'} in every image, and {dataset.ids[row]} has "
            f"{int(truths.counts[row])} ({len(other):,} images of {dataset.name} have another number)."
        )
    if isinstance(task, Keypoints) and (
        truths.keypoints is None or truths.keypoints.shape[1] != len(task.skeleton.names)
    ):
        raise DataError(f"this model finds {len(task.skeleton.names)} points, and {dataset.name} has no such points.")


def check_labels(dataset: Dataset) -> None:
    """Raise `DataError` when a label is not an index into the class names, or when there are too few classes."""
    labels = dataset.truths.labels
    outside = (labels < 0) | (labels >= len(dataset.classes))
    if bool(outside.any()):
        first = int(outside.nonzero()[0])
        row = int(dataset.truths.images[first]) if isinstance(dataset.truths, InstanceSets) else first
        what = "objects" if isinstance(dataset.truths, InstanceSets) else "images"
        raise DataError(
            f"{dataset.ids[row]} has the label {int(labels[first])}, but there are {len(dataset.classes)} classes, "
            f"0 to {len(dataset.classes) - 1}; {int(outside.sum())} {what} are labelled like that. Labels are 0-based."
        )
    if not says_where(dataset.task) and len(dataset.classes) < 2:
        raise DataError(
            f"{dataset.name} has {len(dataset.classes)} class ({', '.join(dataset.classes)}); a classifier needs two "
            "or more. A folder of classes holds one folder per class."
        )


def objects_of(dataset: Dataset, rows: Indices) -> int:
    """The number of objects that most images have."""
    counts = dataset.instances.counts[torch.from_numpy(rows)]
    return max(1, int(torch.bincount(counts).argmax()))


def choose_detector(resolved: Resolved, size: tuple[int, int] | None) -> Resolved:
    """A detector and its backbone where they were left open.

    Args:
        resolved: the settings.
        size: height and width of the images, None where they differ.
    """
    settings = resolved.settings
    if settings.model == "auto":
        resolved = resolved.because("task", model=DEFAULT)
    if settings.backbone == "auto":
        source, backbone = usual_backbone(resolved.settings.model, size)
        resolved = resolved.because(source, backbone=backbone)
    return resolved


def choose_regions(resolved: Resolved, size: tuple[int, int]) -> Resolved:
    """How many regions a two-stage detector sees, where it was left open: fewer than its paper's on small inputs.

    Args:
        resolved: the settings.
        size: height and width of the input.

    Raises:
        UsageError: a number was given, and the detector looks at no regions.
    """
    settings = resolved.settings
    if settings.task != Detection.name:
        return resolved
    stages = find_detector(settings.model).regions
    if stages == "none":
        for name in ("regions", "proposals"):
            if getattr(settings, name) != "auto":
                raise UsageError(
                    f"--{name}: {settings.model} looks at no regions. Leave it out, or take a two-stage detector, such "
                    "as faster_rcnn."
                )
        return resolved
    if max(size) > SMALL_SCENE:
        return resolved
    chosen: dict[str, int] = {}
    if settings.regions == "auto":
        chosen["regions"] = SMALL_REGIONS
    if settings.proposals == "auto" and stages == "proposed":
        chosen["proposals"] = SMALL_PROPOSALS
    return resolved.because("size", **chosen)


def usual_backbone(model: str, size: tuple[int, int] | None) -> tuple[str, str]:
    """Where the backbone of a detector comes from that nobody named, and which it is: a small one for small images."""
    architecture = find_detector(model)
    small = size is not None and max(size) <= SMALL_SCENE and not architecture.only_backbone
    if small and architecture.backbone.startswith("resnet"):
        return "data", SMALL_BACKBONE
    return "model", architecture.backbone


def scene_size(model: str, size: tuple[int, int] | None) -> tuple[str, tuple[int, int]]:
    """The input size of a detector where it was left open, and where it comes from."""
    architecture = DETECTORS[model]
    if architecture.only_size:
        return "model", architecture.size
    step = architecture.multiple
    if size is not None and max(size) <= SMALL_SCENE:
        whole = (-(-size[0] // step) * step, -(-size[1] // step) * step)
        return ("data" if whole == size else "model"), whole
    return "default", LARGE_SCENE


def canvas_step(model: str, settings: TrainSettings) -> int | None:
    """Of what a canvas' sides are multiples: the stride of a detector's coarsest map; None: there is one size for all.

    Raises:
        UsageError: a detector that takes one size, or images that are not fitted.
    """
    if not settings.by_shape:
        return None
    architecture = find_detector(model)
    if architecture.only_size or architecture.built_for_size:
        raise UsageError(
            f"--by-shape gives batches of several sizes, and {model} takes one only: leave it out, or take another "
            "detector, such as strider_s, retinanet, faster_rcnn or detr."
        )
    if settings.resize != "fit":
        raise UsageError(f"--by-shape is for images that keep their shape (--resize fit), not for {settings.resize}.")
    return max(architecture.stride, architecture.multiple)


def build(
    resolved: Resolved,
    dataset: Dataset,
    rows: Indices,
    *,
    channels: int,
    size: tuple[int, int],
    start: bool,
) -> tuple[Task, tuple[str, ...]]:
    """The task that the settings name, on the CPU, with fresh weights or those that they start from.

    Args:
        resolved: the settings, decided.
        dataset: with the classes.
        rows: the images to train on.
        channels: of the input.
        size: of the input.
        start: read the weights to start from.

    Returns:
        The task, and what of the weights was adapted or made anew, in sentences.
    """
    settings = resolved.settings
    document: dict[str, Any] = {"task": settings.task, "classes": list(dataset.classes)}
    options: dict[str, Any] = {}
    weights = settings.weights if start and settings.weights != "none" else None
    if settings.task == Classification.name:
        options["label_smoothing"] = settings.label_smoothing
        options["class_weights"] = class_weights(
            settings.class_weights, dataset.classes, torch.from_numpy(dataset.labels[rows])
        )
        if weights is not None:
            network, notes = create_with_weights(
                settings.model,
                weights,
                download=settings.download,
                origin=settings.origin,
                classes=len(dataset.classes),
                channels=channels,
                size=size,
                new_head=True,
                names=dataset.classes,
            )
            return build_task(network, document, **options), notes
    elif settings.task == Localization.name:
        document |= {"objects": objects_of(dataset, rows), "form": settings.box_form}
        options |= {"loss": settings.box_loss, "label_smoothing": settings.label_smoothing}
    elif settings.task == Keypoints.name:
        assert dataset.skeleton is not None
        skeleton = dataset.skeleton
        document |= {"points": skeleton.names, "flips": skeleton.flips, "edges": skeleton.edges}
    backbone = settings.backbone if settings.task == Detection.name else None
    network = build_network(document, settings.model, backbone=backbone, channels=channels, size=size)
    notes = () if weights is None else start_from(network, settings, dataset.classes)
    if isinstance(network, Detector) and settings.regions != "auto":
        learn_from(network, settings.regions)
    if settings.proposals != "auto":
        document["proposals"] = settings.proposals
    return build_task(network, document, **options), notes


def renumbered(dataset: Dataset, classes: tuple[str, ...]) -> Dataset:
    """The data set with its labels, by name, as indices into ``classes``, which has all of its own."""
    number = torch.tensor([classes.index(name) for name in dataset.classes])
    return replace(dataset, classes=classes, truths=replace(dataset.truths, labels=number[dataset.truths.labels]))


def fitted(preprocessing: Preprocessing) -> Preprocessing:
    """The preprocessing with a border that is neither black nor white, where it adds one."""
    return replace(preprocessing, fill=114) if preprocessing.resize == "fit" else preprocessing
