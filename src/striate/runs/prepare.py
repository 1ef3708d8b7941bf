"""From settings to something that can be trained: data, splits, preprocessing, network.

What a person left to "auto" is decided here, from the model and the data, and the source of each decision is kept.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from striate.config import Resolved
from striate.data.dataset import Dataset, ImageArrays, Indices, Skipped
from striate.data.images import ImageFiles, has_end, probe
from striate.data.known import NAMES
from striate.data.loader import Loader
from striate.data.open import open_dataset
from striate.data.preprocess import Preprocessing
from striate.data.split import Splits, fewer, split
from striate.data.transforms.instances import INSTANCE_POLICIES, instance_augmentation
from striate.data.transforms.policy import augmentation, mirror_images_known, mirror_makes_sense, parse
from striate.engine import distributed
from striate.engine.optimizers import LearningGroup, peak_lr
from striate.errors import DataError, UsageError, did_you_mean
from striate.models.catalog import find, native_size, obstacle, published_for
from striate.models.contract import Classifier
from striate.models.official import IMAGENET_MEAN, IMAGENET_STD
from striate.models.timm_provider import is_timm
from striate.runs.building import (
    SMALL_BACKBONE,
    SMALL_SCENE,
    build,
    canvas_step,
    check_labels,
    check_truths,
    choose_detector,
    choose_regions,
    choose_task,
    fitted,
    ordered,
    says_where,
    scene_size,
)
from striate.runs.checkpoints import expected_input, is_official, is_ours, weights_file
from striate.runs.detector_weights import input_of, said_by
from striate.runs.finetune import check_transfer, learning_groups, settle
from striate.runs.heads import head_groups, settle_heads
from striate.runs.model_file import read_card, read_model
from striate.tasks.classification import Classification
from striate.tasks.detection import Detection
from striate.tasks.distillation import Distillation, Teacher
from striate.tasks.keypoints import Keypoints
from striate.tasks.task import Task

SMALL = 64  # pixels: up to here an image is small, and nothing is cut out of it
DEFAULT_SIZE = 64  # input size where images differ in size and the model is for small ones
FEW_EPOCHS = 5  # from here on the last one is clean; of fewer all are needed to learn at all
PROBED = 200  # images looked at for their size and colour
MEASURED = 2000  # images whose mean and standard deviation normalise the input


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Everything that training needs, before its first step."""

    resolved: Resolved
    dataset: Dataset
    splits: Splits
    skipped: tuple[Skipped, ...]  # of the data set and of the look at its files
    preprocessing: Preprocessing
    task: Task  # on the CPU, untrained or with the weights asked for
    device: torch.device
    weights: tuple[str, ...]  # what of the weights asked for was adapted or made anew, in sentences
    groups: tuple[LearningGroup, ...]  # of parameters that learn at different rates; none where all learn alike
    reason: str = ""  # of the way of transfer, where it was chosen by measuring

    @property
    def network(self) -> Classifier:
        """The task's."""
        network = self.task.network
        assert isinstance(network, Classifier)
        return network

    @property
    def classification(self) -> Classification:
        """The task, where it is one."""
        assert isinstance(self.task, Classification)
        return self.task

    @property
    def parameters(self) -> int:
        """Trainable parameters of the network."""
        return sum(parameter.numel() for parameter in self.task.network.parameters() if parameter.requires_grad)


@dataclass(frozen=True)
class _Seen:
    """Size and colour of the images."""

    size: tuple[int, int] | None  # None where they differ
    grey: bool


def from_anywhere(resolved: Resolved) -> Resolved:
    """The settings with absolute paths, so that a run can be resumed and evaluated from any folder.

    Data that is not there stays as it was typed, and so does the answer of `open_dataset`.
    """
    settings = resolved.settings
    paths = {
        name: Path(value).expanduser()
        for name in ("root", "weights", "splits", "teacher", "cache")
        if (value := getattr(settings, name))
        and not (name == "weights" and (value == "none" or is_official(value)))
        and not (name == "cache" and value in ("auto", "none"))
    }
    data = Path(settings.data).expanduser()
    if settings.data not in NAMES and data.exists():
        paths["data"] = data
    absolute = {name: str(path.absolute()) for name, path in paths.items()}
    return Resolved(settings=replace(settings, **absolute), sources=resolved.sources)


def prepare(
    resolved: Resolved,
    *,
    splits_file: Path | None = None,
    preprocessing: Preprocessing | None = None,
    start: bool = True,
) -> Prepared:
    """Open the data, decide what was left open, and build the network.

    Args:
        resolved: the settings.
        splits_file: the split of a run that is resumed; a new one is made without it.
        preprocessing: the preprocessing of a run that is resumed; measured without it.
        start: read the weights to start from; a resumed run's state holds what became of them.

    Raises:
        DataError: the data cannot be read, too much of it is bad, or labels are out of range.
        UsageError: settings that do not fit the data or the model.
    """
    settings = resolved.settings
    if preprocessing is None:
        check_transfer(resolved)
    dataset = open_dataset(
        settings.data, root=Path(settings.root) if settings.root else None, download=settings.download
    )
    resolved = choose_task(resolved, dataset)
    settings = resolved.settings
    dataset = ordered(dataset, settings.task)
    check_labels(dataset)
    if splits_file is None and settings.splits is not None:
        splits_file = Path(settings.splits)
    if splits_file is not None:
        splits = Splits.load(splits_file, dataset)
    else:
        validation = None if settings.validation == "auto" else settings.validation
        splits = split(dataset, seed=settings.seed, group_by=settings.group_by, validation=validation)
    splits, bad = readable(dataset, splits)
    if settings.per_class is not None and "train" in splits.indices:
        splits = fewer(splits, dataset, settings.per_class)
    skipped = (*dataset.skipped, *bad.values())
    lost = tuple(item for item in skipped if not item.stray)
    _refuse_bad(lost, len(dataset) + len(lost) - len(bad), settings.max_bad)
    if not len(splits.indices["train"]):
        raise DataError(f"{dataset.name}: no image is left to train on.")

    where = says_where(settings.task)
    check_truths(dataset, settings.task, np.concatenate(list(splits.indices.values())))
    seen = _look(dataset, splits.indices["train"])
    expected = None
    if preprocessing is None:
        resolved = _model_of_weights(resolved)
    resolved = _model(resolved, seen)
    if preprocessing is None:
        resolved, expected = _of_weights(resolved)
    resolved, size = _size(resolved, seen)
    resolved = choose_regions(resolved, size)
    settings = resolved.settings
    if settings.channels == "auto":
        resolved = resolved.because("data", channels="1" if seen.grey else "3")
    if settings.resize == "auto" and where:
        resolved = resolved.because("task", resize="fit")
    elif where and settings.resize in ("crop", "pad"):
        why = "cuts objects away" if settings.resize == "crop" else "puts a border on all sides"
        raise UsageError(f"--resize {settings.resize} {why}, and {settings.task} is about where they are: take fit.")
    elif settings.resize == "auto":
        inside = seen.size is not None and seen.size[0] <= size[0] and seen.size[1] <= size[1]
        resolved = resolved.because("data", resize="pad" if inside else "crop")
    resolved = settle_heads(settle(resolved))
    settings = resolved.settings
    if where and settings.augment == "auto":
        resolved = resolved.because("task", augment="standard")
    elif settings.augment == "auto":
        resolved = resolved.because("data", augment="light" if max(size) <= SMALL else "standard")
    if settings.lr == "auto":
        resolved = resolved.because("optimizer", lr=peak_lr(settings))
    if settings.interpolation == "auto":
        resolved = resolved.because("default", interpolation="bilinear")
    if settings.normalise == "auto" and expected is not None and str(expected.channels) == settings.channels:
        resolved = resolved.because("weights", normalise="checkpoint")
    elif settings.normalise == "auto":
        resolved = resolved.because("data", normalise="data")
    if where and settings.clean_epochs == "auto":
        resolved = resolved.because("default", clean_epochs=usual_clean_epochs(settings.epochs))
    settings = resolved.settings
    channels = 1 if settings.channels == "1" else 3
    if preprocessing is None:
        plain = Preprocessing(
            size=size,
            channels=channels,
            mean=(0.0,) * channels,
            std=(1.0,) * channels,
            resize=settings.resize if settings.resize != "auto" else "crop",
            crop_fraction=expected.crop_fraction if expected and not where else 1.0 if max(size) <= SMALL else 0.875,
            interpolation="bicubic" if settings.interpolation == "bicubic" else "bilinear",
            multiple=canvas_step(settings.model, settings),
        )
        preprocessing = _normalised(fitted(plain), settings.normalise, expected, dataset, splits.indices["train"])

    if not where:
        _check_trainable(settings.model, size, len(splits.indices["train"]), settings.batch)
    torch.manual_seed(settings.seed)
    task, notes = build(resolved, dataset, splits.indices["train"], channels=channels, size=size, start=start)
    if settings.teacher is not None:
        assert isinstance(task, Classification)
        task = Distillation(
            task.network,
            dataset.classes,
            teacher=_teacher(settings.teacher, dataset.classes, preprocessing),
            temperature=settings.temperature,
            share=settings.teacher_share,
            label_smoothing=settings.label_smoothing,
            class_weights=None if task.class_weights is None else task.class_weights.tolist(),
        )
    device = device_of(settings.device)
    resolved = resolved.because("machine", device=device.type) if settings.device == "auto" else resolved
    prepared = Prepared(
        resolved=resolved,
        dataset=dataset,
        splits=splits,
        skipped=skipped,
        preprocessing=preprocessing,
        task=task,
        device=device,
        weights=notes,
        groups=learning_groups(task.network, settings) or head_groups(task.network, settings),
    )
    watched(prepared)
    return prepared


def changes(prepared: Prepared, document: Mapping[str, Any]) -> list[str]:
    """What has changed in the data of a run since it began.

    Args:
        prepared: the data as it is now.
        document: the run's, `striate.runs.folder.RunFolder.document`.

    Returns:
        Sentences for a person; none where all is as it was.

    Raises:
        DataError: the classes are others, so that the weights no longer fit the labels.
    """
    then, classes = document["data"], prepared.dataset.classes
    if tuple(then["classes"]) != classes:
        gone = [name for name in then["classes"] if name not in classes]
        new = [name for name in classes if name not in then["classes"]]
        parts = [f"{what} {', '.join(names)}" for what, names in (("without", gone), ("with", new)) if names]
        raise DataError(
            f"{prepared.dataset.name} has other classes than when the run began: it is now "
            f"{' and '.join(parts) or 'in another order'}. Bring the data back as it was, or start a new run."
        )
    now = prepared.splits.fingerprints
    other = [name for name in {**then["fingerprints"], **now} if then["fingerprints"].get(name) != now.get(name)]
    if not other:
        return []
    return [
        f"The data has changed since the run began ({', '.join(other)}): the result is no longer, bit for bit, the "
        "one that the run would have come to."
    ]


def loader(prepared: Prepared, name: str, *, batch: int, training: bool) -> Loader:
    """Batches of one split; augmented and shuffled for training, else as evaluation sees them."""
    settings = prepared.resolved.settings
    augment = None
    if training and says_where(settings.task):
        clean = settings.clean_epochs
        augment = instance_augmentation(
            settings.augment,
            flip=mirror_makes_sense(prepared.dataset) and not unmirrored_points(prepared),
            skeleton=prepared.dataset.skeleton,
            clean_from=settings.epochs - clean if isinstance(clean, int) else None,
            fill=prepared.preprocessing.fill,
            fixed=settings.task != Detection.name,
            masks=prepared.dataset.instances.shapes is not None,
        )
    elif training:
        augment = augmentation(
            settings.augment,
            mixup=settings.mixup,
            cutmix=settings.cutmix,
            classes=len(prepared.dataset.classes),
            flip=mirror_makes_sense(prepared.dataset),
        )
    return Loader(
        prepared.dataset,
        prepared.splits.indices[name],
        prepared.preprocessing,
        batch=batch,
        seed=settings.seed,
        augmentation=augment,
        shuffle=training,
        device=prepared.device,
        workers=None if settings.workers == "auto" else settings.workers,
        rank=distributed.rank(),
        world=distributed.world(),
    )


def unmirrored_points(prepared: Prepared) -> bool:
    """Whether the policy would mirror, and does not, because nothing says which points are mirror images.

    Raises:
        UsageError: as `striate.data.transforms.policy.parse`.
    """
    settings, skeleton = prepared.resolved.settings, prepared.dataset.skeleton
    if settings.task != Keypoints.name or skeleton is None or mirror_images_known(skeleton):
        return False
    name, overridden = parse(settings.augment, INSTANCE_POLICIES)
    return INSTANCE_POLICIES[name].flip and "flip" not in overridden and mirror_makes_sense(prepared.dataset)


def usual_clean_epochs(epochs: int) -> int:
    """The last epochs without joined images where nobody says how many: a tenth, and one of five to nine."""
    return max(epochs // 10, int(epochs >= FEW_EPOCHS))


def watched(prepared: Prepared) -> tuple[str, ...]:
    """The splits that are measured after each epoch beside val.

    Raises:
        UsageError: a split that is not there.
    """
    text = prepared.resolved.settings.watch
    names = () if text == "none" else tuple(part.strip() for part in text.split(","))
    there = [name for name, rows in prepared.splits.indices.items() if len(rows) and name != "val"]
    for name in names:
        if name not in there:
            raise UsageError(
                f"--watch names the split {name!r}; it takes {', '.join(there)}.{did_you_mean(name, there)}"
            )
    return names


def evaluation_batch(size: tuple[int, int]) -> int:
    """Images at once, over all processes, where no gradient is kept.

    Each process has about as much memory in use at any input size: that of a few hundred small images.
    """
    return max(1, min(256, 256 * SMALL**2 // (size[0] * size[1]))) * distributed.world()


def device_of(text: str) -> torch.device:
    """The device that a setting names; ``auto`` is the first GPU, or the CPU.

    Raises:
        UsageError: a device that is not there.
    """
    if text == "auto":
        text = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(text)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        there = "cpu, cuda" if torch.cuda.is_available() else "mps, cpu" if torch.backends.mps.is_available() else "cpu"
        raise UsageError(f"--device {text} cannot be used here; this machine has {there}.") from None
    if text == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return device


def readable(dataset: Dataset, splits: Splits) -> tuple[Splits, dict[int, Skipped]]:
    """Splits without the files that are not images, fingerprints included, and these files by row."""
    bad = unreadable(dataset)
    kept = {name: rows[~np.isin(rows, list(bad))] for name, rows in splits.indices.items()}
    fingerprints = dict(splits.fingerprints)
    for name, rows in kept.items():
        if len(rows) < len(splits.indices[name]):
            fingerprints[name] = dataset.fingerprint(rows)
    return replace(splits, indices=kept, fingerprints=fingerprints), bad


def unreadable(dataset: Dataset) -> dict[int, Skipped]:
    """Files that are not images, by row, found without decoding: only a file without its format's end is decoded."""
    if not isinstance(dataset.images, ImageFiles):
        return {}
    bad: dict[int, Skipped] = {}
    for row, path in enumerate(dataset.images.paths):
        try:
            probe(path)
            if not has_end(path):
                dataset.images.read(row)
        except DataError as error:
            bad[row] = Skipped(source=dataset.ids[row], reason=str(error))
    return bad


def _refuse_bad(skipped: tuple[Skipped, ...], total: int, share: float) -> None:
    if total and len(skipped) > share * total:
        shown = "\n".join(f"  {item.source}: {item.reason}" for item in skipped[:20])
        more = f"\n  ... and {len(skipped) - 20} more" if len(skipped) > 20 else ""
        raise DataError(
            f"{len(skipped)} of {total} files are bad, more than {share:.0%}; nothing was trained.\n{shown}{more}\n"
            "'striate data check DATA --fix OUT' writes a copy without them; --max-bad raises the limit."
        )


def _look(dataset: Dataset, indices: Indices) -> _Seen:
    if isinstance(dataset.images, ImageArrays):
        _, height, width, channels = dataset.images.pixels.shape
        return _Seen((height, width), channels == 1)
    sizes: set[tuple[int, int]] = set()
    grey = True
    for index in indices[np.linspace(0, len(indices) - 1, min(PROBED, len(indices))).astype(int)]:
        try:
            image = dataset.images.read(int(index))
        except DataError:  # damage that only a decoder sees: the loader skips it, counts it and names it
            continue
        sizes.add((image.shape[0], image.shape[1]))
        grey = grey and image.shape[2] == 1
    return _Seen(sizes.pop() if len(sizes) == 1 else None, grey)


def _teacher(path: str, classes: tuple[str, ...], preprocessing: Preprocessing) -> Teacher:
    task, card = read_model(weights_file(path))
    own, student = (tuple(map(torch.from_numpy, each.affine())) for each in (card.preprocessing, preprocessing))
    return Teacher(
        task.network,
        knows=card.classes,
        asked=classes,
        size=card.preprocessing.size,
        scale=own[0],
        offset=own[1],
        student_scale=student[0],
        student_offset=student[1],
    )


def _model_of_weights(resolved: Resolved) -> Resolved:
    """The model, and a detector's backbone, where they were left open and the weights to start from say them.

    Raises:
        UsageError: of classification, where they do not say it; weights of several detectors.
    """
    settings = resolved.settings
    if settings.weights in (None, "none"):
        return resolved
    if says_where(settings.task):
        return resolved.because("weights", **said_by(settings))
    if settings.model != "auto":
        return resolved
    if is_official(settings.weights) or not is_ours(file := weights_file(settings.weights)):
        raise UsageError(f"--weights {settings.weights} does not say which network it is of: name it with --model.")
    return resolved.because("weights", model=read_card(file).model)


def _of_weights(resolved: Resolved) -> tuple[Resolved, Preprocessing | None]:
    """What follows from the weights to start from: the images that they were trained to see.

    Of a classifier's weights for the backbone of a network that says where, only normalisation and interpolation.
    """
    settings = resolved.settings
    if settings.weights in (None, "none"):
        return resolved, None
    assert settings.weights is not None
    where = says_where(settings.task)
    expected, whole = input_of(settings) if where else (expected_input(settings.model, settings.weights), True)
    if expected is None:
        return resolved, None
    own: dict[str, Any] = {"interpolation": expected.interpolation}
    if whole:
        own |= {"size": f"{expected.size[0]}x{expected.size[1]}", "channels": str(expected.channels)}
        own |= {"resize": expected.resize}
    resolved = resolved.because("weights", **{name: own[name] for name in own if getattr(settings, name) == "auto"})
    return resolved, expected


def _normalised(
    plain: Preprocessing, how: str, expected: Preprocessing | None, dataset: Dataset, indices: Indices
) -> Preprocessing:
    """The preprocessing with the mean and deviation that a setting asks for."""
    channels = plain.channels
    if how == "data":
        return measured(plain, dataset, indices)
    if how == "checkpoint":
        if expected is None or expected.channels != channels:
            raise UsageError(
                f"--normalise checkpoint: nothing says what these weights were trained to see with {channels} "
                "channel(s). Take --normalise imagenet, half or data."
            )
        return replace(plain, mean=expected.mean, std=expected.std)
    if how == "imagenet":
        if channels != 3:
            raise UsageError("--normalise imagenet is for colour images: set --channels 3.")
        return replace(plain, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    return replace(plain, mean=(0.5,) * channels, std=(0.5,) * channels) if how == "half" else plain


def _model(resolved: Resolved, seen: _Seen) -> Resolved:
    """The model where it was left open, and a detector's backbone."""
    settings = resolved.settings
    if settings.task == Detection.name:
        return choose_detector(resolved, seen.size)
    if settings.model != "auto":
        return resolved
    if says_where(settings.task):
        return resolved.because("task", model=SMALL_BACKBONE)
    small = seen.size is not None and max(seen.size) <= 32
    return resolved.because("data", model="lenet5_modern" if small else "resnet20")


def _size(resolved: Resolved, seen: _Seen) -> tuple[Resolved, tuple[int, int]]:
    settings = resolved.settings
    if settings.size != "auto":
        match = re.fullmatch(r"(\d+)(?:[xX](\d+))?", settings.size.strip())
        if match is None or "0" in (match[1].lstrip("0") or "0", (match[2] or match[1]).lstrip("0") or "0"):
            raise UsageError(f"--size {settings.size!r} is not a size: H or HxW in pixels, as in 224 or 240x320.")
        return resolved, (int(match[1]), int(match[2] or match[1]))
    if settings.task == Detection.name:
        source, size = scene_size(settings.model, seen.size)
        return resolved.because(source, size=f"{size[0]}x{size[1]}"), size
    native = native_size(settings.model)
    _, height, width = published_for(settings.model)[0]
    if native is not None:
        size, source = native, "model"
    elif seen.size is not None and max(seen.size) <= (SMALL_SCENE if says_where(settings.task) else SMALL):
        size = _upwards(settings.model, seen.size)
        source = "data" if size == seen.size else "model"
    elif max(height, width) > SMALL:
        size, source = (height, width), "model"
    else:
        size, source = (DEFAULT_SIZE, DEFAULT_SIZE), "default"
    return resolved.because(source, size=f"{size[0]}x{size[1]}"), size


def _upwards(model: str, size: tuple[int, int]) -> tuple[int, int]:
    """``size``, or the nearest larger one that the model can be trained on."""
    if is_timm(model):
        return size if not obstacle(model, size, batch=2, training=True) else published_for(model)[0][1:]
    architecture = find(model)
    step = architecture.multiple
    whole = (-(-size[0] // step) * step, -(-size[1] // step) * step)
    lowest = architecture.smallest
    below = whole[0] < lowest[0] or whole[1] < lowest[1]
    if below and obstacle(model, whole, batch=2, training=True):
        return max(whole[0], lowest[0]), max(whole[1], lowest[1])
    return whole


def _check_trainable(model: str, size: tuple[int, int], images: int, batch: int | str) -> None:
    """Refuse a size on which training would fail in the middle, or on the last batch of an epoch.

    Raises:
        UsageError: with the layer at which it fails.
    """
    lowest = find(model).smallest
    if not is_timm(model) and size[0] >= lowest[0] and size[1] >= lowest[1]:
        return
    asked = f"{size[0]}x{size[1]}"
    if reason := obstacle(model, size, batch=2, training=True):
        raise UsageError(f"{model} cannot be trained on images of {asked} pixels: {reason}. Set a larger --size.")
    alone = batch == 1 or (isinstance(batch, int) and images % batch == 1)
    if alone and (reason := obstacle(model, size, training=True)):
        raise UsageError(
            f"{model} cannot be trained on one image of {asked} pixels, and {images} images in batches of {batch} "
            f"leave one alone: {reason}. Set another --batch or a larger --size."
        )


def measured(plain: Preprocessing, dataset: Dataset, indices: Indices) -> Preprocessing:
    """The preprocessing with mean and standard deviation of some training images, evenly picked."""
    picked = indices[np.linspace(0, len(indices) - 1, min(MEASURED, len(indices))).astype(int)]
    sums, squares, count = np.zeros(plain.channels), np.zeros(plain.channels), 0
    for index in picked:
        try:
            pixels = plain.pixels(dataset.images.read(int(index)))
        except DataError:
            continue
        flat = pixels.reshape(-1, plain.channels).astype(np.float64) / 255
        sums, squares, count = sums + flat.sum(0), squares + (flat**2).sum(0), count + len(flat)
    mean = sums / max(1, count)
    std = np.sqrt(np.maximum(squares / max(1, count) - mean**2, 1e-6))
    return replace(plain, mean=tuple(round(float(m), 6) for m in mean), std=tuple(round(float(s), 6) for s in std))
