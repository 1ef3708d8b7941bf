"""The settings of a training run: typed, frozen, validated, and each with the place that its value came from.

The command line makes its flags from these fields, so a setting is written down once: name, type, default and help.
Imports nothing heavy; pydantic is loaded when values are validated.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, TypeVar, get_args

from striate.errors import UsageError, did_you_mean

T = TypeVar("T")
Auto = Literal["auto"]


def setting(
    default: T,
    group: str,
    help: str,
    *,
    above: float | None = None,
    low: float | None = None,
    high: float | None = None,
    also: str | None = None,
) -> T:
    """A field with its group, help and range, and another name of its flag.

    ``above`` excludes its end, ``low`` and ``high`` include theirs.
    """
    limits = {"above": above, "low": low, "high": high}
    return field(default=default, metadata={"group": group, "help": help, "also": also, **limits})


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Everything that decides what a training run computes. Written in full into every run folder."""

    # What is learnt from
    data: str = setting("digits", "data", "path or known name of the data")
    task: str = setting(
        "auto",
        "data",
        "classification, localization, keypoints or detection; left out, it follows from the data's truth",
    )
    root: str | None = setting(None, "data", "folder that holds a known data set")
    download: bool = setting(False, "data", "fetch a known data set or official weights that are not there yet")
    validation: float | Auto = setting(
        "auto", "data", "share of train held out for validation where the data has none; 0: none", low=0, high=0.9
    )
    group_by: str | None = setting(None, "data", "column, or pattern on the file name, whose equals stay in one split")
    splits: str | None = setting(None, "data", "split file that 'striate data split' wrote; none is drawn then")
    per_class: int | None = setting(None, "data", "train on so many images of each class, drawn by the seed", low=1)
    max_bad: float = setting(
        0.01, "data", "share of unreadable images above which the run does not start", low=0, high=1
    )

    # What the network sees
    size: str = setting("auto", "images", "input size in pixels: H, HxW, or auto from the model and the data")
    resize: Literal["auto", "crop", "stretch", "pad", "fit"] = setting("auto", "images", "how an image gets that size")
    by_shape: bool = setting(
        False, "images", "of a detector: batches of images of like shape, each on a canvas no larger than they need"
    )
    interpolation: Literal["auto", "bilinear", "bicubic"] = setting(
        "auto", "images", "how an image is resized; auto: as for the weights to start from, else bilinear"
    )
    normalise: Literal["auto", "checkpoint", "data", "imagenet", "half", "none"] = setting(
        "auto",
        "images",
        "mean and deviation of the input; auto: as for the weights to start from, else of the data; half: 0.5 and 0.5",
    )
    channels: Literal["auto", "1", "3"] = setting("auto", "images", "1: grey, 3: colour")
    augment: str = setting(
        "auto",
        "images",
        "policy, with options: none, light, standard, strong, geometric(rotation=10); for boxes also ssd, copy-paste",
    )
    mixup: float = setting(0.0, "images", "alpha of mixup; 0: off", low=0)
    cutmix: float = setting(0.0, "images", "alpha of cutmix; 0: off", low=0)

    # What learns
    model: str = setting("auto", "model", "catalog name or layer pattern; auto: the weights' own, or by the images")
    backbone: str = setting("auto", "model", "of a detector: catalog name or timm:NAME; auto: by model and images")
    regions: int | Auto = setting(
        "auto",
        "model",
        "regions of an image that a two-stage detector learns from; auto: as published, 32 of inputs to 320 px",
        low=1,
    )
    proposals: int | Auto = setting(
        "auto",
        "model",
        "proposals of an image that a two-stage detector looks at; auto: as published, 100 of inputs to 320 px",
        low=1,
    )
    weights: str | None = setting(
        None,
        "model",
        "none, a run, a model file, a checkpoint, or an official one such as torchvision:IMAGENET1K_V1",
        also="from",
    )
    origin: str | None = setting(None, "model", "library whose names a checkpoint has: torchvision, timm, ...")

    # What is taken over from the weights
    transfer: Literal["none", "features", "finetune", "auto"] = setting(
        "none",
        "transfer",
        "none: train all of it; features: freeze it and fit a classifier; finetune: head first; auto: by measuring",
    )
    classifier: Literal["logistic", "svm", "softmax", "knn"] = setting(
        "logistic", "transfer", "what is fitted on features"
    )
    layer: str = setting("auto", "transfer", "stage that features are taken from; auto: what goes into the last layer")
    penalty: float | Auto = setting(
        "auto",
        "transfer",
        "1/C of the classifier, weight decay of softmax, neighbours of knn; auto: cross-validated",
        above=0,
    )
    folds: int = setting(5, "transfer", "parts that cross-validation cuts the training images into", low=2)
    cache: str = setting("auto", "transfer", "folder that keeps computed features; none: keep none")
    unfreeze: str = setting("all", "transfer", "stages that finetune trains, from the last on: a number, or all")
    head_epochs: int | Auto = setting(
        "auto", "transfer", "epochs of the new head alone, all else frozen; auto: a fifth of them", low=0
    )
    gradual: bool = setting(False, "transfer", "unfreeze one stage more in each epoch, from the last on")
    layer_decay: float | Auto = setting(
        "auto",
        "transfer",
        "learning rate of a stage over that of the next one; auto: 1/2.6 in finetune",
        above=0,
        high=1,
    )
    teacher: str | None = setting(None, "transfer", "run or model file whose soft answers are learnt too")
    temperature: float = setting(4.0, "transfer", "softens the teacher's answers", above=0)
    teacher_share: float = setting(0.9, "transfer", "weight of the teacher's answers in the loss", low=0, high=1)

    # How it learns
    epochs: int = setting(20, "training", "passes over the training images", low=1)
    batch: int | Auto = setting(64, "training", "images per step, over all processes; auto: the most that fits", low=1)
    accumulate: int = setting(1, "training", "micro-batches that a step is cut into", low=1)
    optimizer: Literal["sgd", "adam", "adamw"] = setting("adamw", "training", "optimizer")
    lr: float | Auto = setting("auto", "training", "learning rate at its peak; auto: 0.1 for SGD, else 0.002", above=0)
    momentum: float = setting(0.9, "training", "momentum of SGD, or beta1 of Adam", low=0, high=0.9999)
    nesterov: bool = setting(True, "training", "Nesterov's form of SGD's momentum")
    schedule: Literal["constant", "step", "plateau", "cosine", "onecycle"] = setting(
        "onecycle", "training", "course of the learning rate"
    )
    warmup: float = setting(0.0, "training", "epochs of linear warm-up; one-cycle brings its own", low=0)
    patience: int = setting(
        0,
        "training",
        "stop after so many epochs without a better validation metric, once all of it learns; 0: never",
        low=0,
    )
    watch: str = setting(
        "none", "training", "splits to measure after each epoch beside val, as in train,test; they decide nothing"
    )
    weight_decay: float = setting(1e-2, "training", "L2; decoupled in AdamW", low=0)
    decay_all: bool = setting(False, "training", "decay norms and biases too")
    l1: float = setting(0.0, "training", "L1 penalty", low=0)
    label_smoothing: float = setting(0.0, "training", "share of the target spread over all classes", low=0, high=0.999)
    class_weights: str = setting("none", "training", "none, auto (inverse frequency), or name=weight,name=weight")
    box_loss: Literal["smooth_l1", "l2", "iou", "giou", "diou", "ciou"] = setting(
        "smooth_l1", "training", "loss of the box in localization"
    )
    box_form: Literal["corners", "centre"] = setting(
        "corners", "training", "what localization regresses: two corners, or centre and size"
    )
    heads: Literal["jointly", "class_first", "box_first"] = setting(
        "jointly",
        "training",
        "in localization: both heads with the body; or one with the body, then the other on the frozen body",
    )
    first_epochs: int | Auto = setting(
        "auto", "training", "epochs of the first head and the body; auto: half of them", low=1
    )
    clean_epochs: int | Auto = setting(
        "auto",
        "training",
        "last epochs without mosaic, mixup and copy-paste, of objects; auto: a tenth, and one of five to nine",
        low=0,
    )
    clip: float = setting(0.0, "training", "largest gradient norm; 0: not clipped", low=0)
    ema: float = setting(0.0, "training", "decay of the weights' moving average; 0: off", low=0, high=0.99999)
    seed: int = setting(0, "training", "seed of everything random", low=0)

    # How it runs
    device: str = setting("auto", "machine", "cpu, cuda, cuda:1, mps")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = setting(
        "auto", "machine", "arithmetic of the training steps; auto: the fastest of a few timed steps"
    )
    channels_last: bool | Auto = setting("auto", "machine", "memory format; auto: timed together with the precision")
    compile: bool = setting(False, "machine", "torch.compile the training step")
    deterministic: bool = setting(False, "machine", "refuse operations that may differ between two runs")
    workers: int | Auto = setting("auto", "machine", "threads that read images; auto: one per core", low=1)
    checkpoint_every: float = setting(30.0, "machine", "seconds between checkpoints", above=0)
    tensorboard: bool = setting(False, "machine", "write TensorBoard events too (extra: tensorboard)")


TYPES: Mapping[str, Any] = {entry.name: entry.type for entry in fields(TrainSettings)}
NAMES = tuple(TYPES)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Some settings and the place that they were read from."""

    source: str  # "recipe mnist-fast", "file settings.yaml", "command line", "measured", ...
    values: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """Settings with the source of every one."""

    settings: TrainSettings
    sources: Mapping[str, str]

    def because(self, source: str, **values: Any) -> "Resolved":
        """The same with what was measured or found out; what a person gave is never replaced."""
        given = [name for name in values if getattr(self.settings, name) != "auto" and self.sources[name] != "default"]
        replaced = [name for name in given if getattr(self.settings, name) != values[name]]
        if replaced:
            raise ValueError(f"{', '.join(replaced)} given explicitly and must not be replaced")
        free = {name: value for name, value in values.items() if name not in given}
        return Resolved(
            settings=replace(self.settings, **free), sources={**self.sources, **dict.fromkeys(free, source)}
        )


def resolve(*layers: Layer) -> Resolved:
    """Lay settings over each other, later over earlier, and validate the result.

    Args:
        layers: from the most general to the most explicit. Text is converted to the setting's type, and for a setting
            that is text whole numbers and paths are converted to it.

    Raises:
        UsageError: an unknown setting, or a value that does not fit; names the setting, the source and what fits.
    """
    values: dict[str, Any] = {}
    sources = dict.fromkeys(NAMES, "default")
    for layer in layers:
        for name, value in layer.values.items():
            key = name.replace("-", "_")
            if key not in sources:
                raise UsageError(f"unknown setting {name!r} ({layer.source}).{did_you_mean(key, NAMES)}")
            values[key], sources[key] = _as_written(value, TYPES[key]), layer.source
    return Resolved(settings=_validated(values, sources), sources=sources)


def _as_written(value: Any, kind: Any) -> Any:
    """A value as it would be typed for a setting of text or of words to choose from: ``64`` as ``"64"``."""
    takes_text = any(part is str or isinstance(part, str) for part in (kind, *get_args(kind)))
    whole = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if takes_text and (whole or isinstance(value, os.PathLike)) else value


def _validated(values: dict[str, Any], sources: Mapping[str, str]) -> TrainSettings:
    from pydantic import TypeAdapter, ValidationError

    try:
        settings = TypeAdapter(TrainSettings).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        raise UsageError(_misfit(name, values.get(name), sources[name])) from None
    for entry in fields(TrainSettings):
        value, limits = getattr(settings, entry.name), entry.metadata
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        above, low, high = limits["above"], limits["low"], limits["high"]
        if (
            value != value
            or (above is not None and value <= above)
            or (low is not None and value < low)
            or (high is not None and value > high)
        ):
            raise UsageError(_misfit(entry.name, value, sources[entry.name]))
    return settings


def _misfit(name: str, value: object, source: str) -> str:
    entry = next(entry for entry in fields(TrainSettings) if entry.name == name)
    takes = expected(entry.type, entry.metadata)
    return f"{name} = {value!r} ({source}) does not fit: it takes {takes} ({entry.metadata['help']})."


def expected(kind: Any, limits: Mapping[str, Any]) -> str:
    """What a setting takes, in words: ``"a number, at least 0, or auto"``."""
    import types
    from typing import Union, get_origin

    if get_origin(kind) in (types.UnionType, Union):
        return " or ".join(expected(part, limits) for part in get_args(kind))
    if get_origin(kind) is Literal:
        return ", ".join(str(value) for value in get_args(kind))
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "nothing"}[kind]
    if kind in (int, float):
        ends = {"above": "above", "low": "at least", "high": "at most"}
        words += "".join(f", {text} {limits[end]:g}" for end, text in ends.items() if limits[end] is not None)
    return words


def read_settings(text: str, source: str) -> Layer:
    """Settings from YAML text: a mapping of names to values, as ``run.yaml`` and recipes hold them.

    ``run.yaml`` itself is accepted: of a document with a ``settings`` key only that part is read.
    """
    import yaml

    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{source} is not YAML: {error}") from None
    if isinstance(document, dict) and "settings" in document:
        document = document["settings"]
    if not isinstance(document, dict):
        raise UsageError(f"{source} must hold settings as 'name: value' lines, such as 'epochs: 10'.")
    return Layer(source=source, values={str(name): value for name, value in document.items()})
