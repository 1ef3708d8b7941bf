"""Trained weights for the networks that say where: a whole detector's, or those of a backbone alone.

What a file is follows from its names: a model file of striate says it, a checkpoint of another library is a detector's
where its names are those of one, and else a classifier's, whose backbone is taken.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import torch
from torch import Tensor, nn

from striate.config import TrainSettings
from striate.data.preprocess import Preprocessing
from striate.errors import ModelFileError, UsageError
from striate.models.catalog import published_for
from striate.models.contract import Detector
from striate.models.detectors.catalog import DETECTORS, create_detector, find_detector, published
from striate.models.regressor import Regressor
from striate.models.weights import ClassRows, matching, to_ours
from striate.runs.checkpoints import (
    create_with_weights,
    expected_input,
    is_official,
    is_ours,
    read_checkpoint,
    weights_file,
)
from striate.runs.model_file import read_card, read_tensors
from striate.tasks.classification import Classification
from striate.tasks.detection import Detection

# How names of what is behind a detector's backbone begin, in torchvision, DETR's authors' code and transformers.
DETECTOR_PARTS = (
    "roi_heads.",
    "head.classification_head.",
    "head.regression_head.",
    "class_embed.",
    "class_labels_classifier.",
)


def start_from(network: nn.Module, settings: TrainSettings, classes: Sequence[str]) -> tuple[str, ...]:
    """Give a detector, or a network for localization or keypoints, the weights that the settings name.

    Args:
        network: with fresh weights; changed in place.
        settings: with ``weights``, ``model``, ``backbone``, ``origin``.
        classes: class names, () for those of the file. A class that the file knows by its name keeps its weights; of
            a file without names all do where their number is the same, and none where it is not.

    Returns:
        What was taken and what was made anew, in sentences.

    Raises:
        ModelFileError: a file that cannot be read, or whose weights do not fit.
        UsageError: names of no library that is known, or of more than one.
    """
    assert settings.weights is not None
    assert isinstance(network, Detector | Regressor)
    name = settings.backbone if isinstance(network, Detector) else settings.model
    if is_official(settings.weights):
        return _backbone(network, name, settings)
    file = weights_file(settings.weights)
    if is_ours(file):
        card = read_card(file)
        if card.task["task"] == Classification.name:
            return _backbone(network, card.model, settings)
        if (card.model, card.backbone) != (settings.model, settings.backbone if card.backbone else None):
            there = card.model + (f" with {card.backbone}" if card.backbone else "")
            raise ModelFileError(f"{settings.weights} holds {there}: name these with --model and --backbone.")
        return _whole(network, read_tensors(file)[1], settings.weights, card.classes, classes)
    tensors = read_checkpoint(file)
    if isinstance(network, Detector):
        found = _origins(settings.model, settings.origin, tensors)
        if found:
            origin = find_detector(settings.model).origins[found[0]]
            tensors = to_ours(tensors, network, origin)
            known = origin.classes if _classes(network, tensors) == len(origin.classes) else ()
            return _whole(network, tensors, settings.weights, known, classes)
        _refuse_other_detectors(tensors, settings)
    return _backbone(network, name, settings)


def said_by(settings: TrainSettings) -> dict[str, str]:
    """The model, and a detector's backbone, that weights to start from say where the settings leave them open.

    Args:
        settings: with ``weights``, of a task that says where.

    Returns:
        ``model`` or ``backbone`` or both, of those that are ``auto``.

    Raises:
        ModelFileError: a file that cannot be read.
        UsageError: a model file of another task that says where, or weights that several detectors would take.
    """
    assert settings.weights is not None
    if is_official(settings.weights):
        return {}
    detection = settings.task == Detection.name
    said: dict[str, str] = {}
    file = weights_file(settings.weights)
    if is_ours(file):
        card = read_card(file)
        if card.task["task"] == Classification.name:
            said = {"backbone" if detection else "model": card.model}
        elif card.task["task"] != settings.task:
            raise UsageError(
                f"--weights {settings.weights} is a model for {card.task['task']}, and this is {settings.task}: start "
                "from a model for the same task, or from a classifier's weights."
            )
        else:
            said = {"model": card.model} | ({"backbone": card.backbone} if card.backbone else {})
    elif detection:
        tensors = read_checkpoint(file)
        names = [settings.model] if settings.model != "auto" else list(DETECTORS)
        fitting = [name for name in names if _complete(name, settings.origin, tensors)]
        if len(fitting) > 1:
            raise UsageError(
                f"--weights {settings.weights} may be of {' or '.join(fitting)}: name the one that is meant with "
                "--model."
            )
        if fitting:
            said = {"model": fitting[0], "backbone": find_detector(fitting[0]).backbone}
    return {name: value for name, value in said.items() if getattr(settings, name) == "auto"}


def input_of(settings: TrainSettings) -> tuple[Preprocessing | None, bool]:
    """The preprocessing that weights to start from were trained with.

    Args:
        settings: with ``weights``, ``model``, ``backbone`` and ``origin``, of a task that says where.

    Returns:
        The preprocessing, None where nothing says so, and whether the weights are the whole network's rather than a
        classifier's, of which only the backbone is taken.
    """
    assert settings.weights is not None
    name = settings.backbone if settings.task == Detection.name else settings.model
    if is_official(settings.weights):
        return expected_input(name, settings.weights), False
    file = weights_file(settings.weights)
    if is_ours(file):
        card = read_card(file)
        return card.preprocessing, card.task["task"] != Classification.name
    if settings.task == Detection.name:
        found = _origins(settings.model, settings.origin, read_checkpoint(file))
        seen = find_detector(settings.model).origins[found[0]].input if found else None
        if seen is not None:
            return Preprocessing(channels=3, **asdict(seen)), True
    return expected_input(name, settings.weights), False


def create_with(
    name: str,
    weights: str,
    *,
    backbone: str | None = None,
    origin: str | None = None,
    download: bool = False,
    classes: int | None = None,
    channels: int | None = None,
    size: tuple[int, int] | None = None,
    new_head: bool = False,
) -> tuple[Detector, tuple[str, ...]]:
    """Build a detector and give it weights.

    Args:
        name: of a detector.
        weights: as `start_from` takes them.
        backbone: the model file's when left out, else the published one.
        origin: the library whose names the checkpoint has.
        download: fetch an official checkpoint that is not on this machine.
        classes: K; when left out the number of a detector's weights, else the published one.
        channels: of the images; the model file's when left out, else 3.
        size: height and width of the images; the model file's when left out, else the published ones.
        new_head: make what depends on the classes anew where the weights are for another number of them.

    Returns:
        The detector, and sentences as of `start_from`.

    Raises:
        UsageError: no such detector, backbone or origin, or another number of classes without ``new_head``.
        ModelFileError: weights that cannot be read or do not fit.
    """
    architecture = find_detector(name)
    known: int | None = None
    names: tuple[str, ...] = ()
    file = None if is_official(weights) else weights_file(weights)
    if file is not None and is_ours(file):
        card = read_card(file)
        if card.task["task"] != Classification.name:
            known, names = len(card.classes), card.classes
            backbone, channels, size = backbone or card.backbone, channels or card.channels, size or card.size
    channels = channels or 3

    def build(classes: int) -> Detector:
        return create_detector(
            name, backbone=backbone, classes=classes, channels=channels, size=size or architecture.size
        )

    if file is not None and known is None and not is_ours(file):
        tensors = read_checkpoint(file)
        found = _origins(name, origin, tensors)
        if found:
            of = architecture.origins[found[0]]
            size = size or (of.input.size if of.input else None)
            with torch.device("meta"):
                one = build(1)
            known = _classes(one, to_ours(tensors, one, of))
    if None not in (known, classes) and known != classes and not new_head:
        raise UsageError(
            f"{weights} is for {known} classes, not {classes}: leave the number out, or ask for a new head, so that "
            "what depends on the classes is made anew."
        )
    count = classes or known or architecture.classes
    network = build(count)
    settings = TrainSettings(
        model=name,
        backbone=backbone or architecture.backbone,
        weights=weights,
        origin=origin,
        download=download,
    )
    return network, start_from(network, settings, names)


def _origins(name: str, origin: str | None, tensors: Mapping[str, Tensor]) -> list[str]:
    """Whose checkpoint of the whole detector it may be; none where its names are not a detector's."""
    return [label for label in matching(tensors, find_detector(name).origins) if origin in (None, label)]


def _complete(name: str, origin: str | None, tensors: Mapping[str, Tensor]) -> bool:
    """Whether a checkpoint has every weight of a published detector, of which another may have more."""
    fitting = _origins(name, origin, tensors)
    if not fitting:
        return False
    network, origins = published(name), find_detector(name).origins
    return set(to_ours(tensors, network, origins[fitting[0]])) == set(network.state_dict())


def _refuse_other_detectors(tensors: Mapping[str, Tensor], settings: TrainSettings) -> None:
    """Refuse a checkpoint of a whole detector that is not the one to be built, rather than look for a classifier in it.

    Raises:
        ModelFileError: naming the detector that it is of, or else those that load.
    """
    if not any(name.startswith(DETECTOR_PARTS) for name in tensors):
        return
    of = [name for name in DETECTORS if _complete(name, None, tensors)]
    if of:
        theirs, wanted = _origins(of[0], None, tensors), f" by {settings.origin}" if settings.origin else ""
        raise ModelFileError(
            f"{settings.weights} is a checkpoint of {' or '.join(of)} by {' or '.join(theirs)}, not of "
            f"{settings.model}{wanted}: name these with --model and --origin, or start from a classifier's weights."
        )
    known = [f"{label}'s {origin.model}" for line in DETECTORS.values() for label, origin in line.origins.items()]
    raise ModelFileError(
        f"{settings.weights} is a checkpoint of a detector that has no counterpart here, as its names show; the first "
        f"is {next(iter(tensors))}. Nothing of it is taken: start from one of {', '.join(known)}, or from a "
        "classifier's weights."
    )


def _classes(network: Detector, tensors: Mapping[str, Tensor]) -> int | None:
    """The number of classes that a detector's tensors are for; None where what says so is not among them."""
    name, rows = next(iter(network.class_layers().items()))
    bias = tensors.get(f"{name}.bias")
    return None if bias is None else rows.classes(len(bias))


def _backbone(network: Detector | Regressor, name: str, settings: TrainSettings) -> tuple[str, ...]:
    """The backbone of a classifier's checkpoint."""
    assert settings.weights is not None
    size = published_for(name)[0][1:]
    trained, notes = create_with_weights(
        name,
        settings.weights,
        download=settings.download,
        origin=settings.origin,
        channels=network.channels,
        size=size,
        new_head=True,
    )
    own, found = network.backbone.state_dict(), trained.backbone.state_dict()
    other = [key for key in own if key not in found or own[key].shape != found[key].shape]
    if other:
        raise ModelFileError(
            f"{settings.weights} is of {name}, and {len(other)} weights of this network's backbone are not in it, as "
            f"{other[0]}: name the same network with --{'backbone' if isinstance(network, Detector) else 'model'}."
        )
    network.backbone.load_state_dict({key: found[key] for key in own})
    return (f"the backbone's are those of {name}", *notes, "the rest is made anew")


@torch.no_grad()
def _whole(
    network: Detector | Regressor,
    tensors: Mapping[str, Tensor],
    where: str,
    known: Sequence[str],
    names: Sequence[str],
) -> tuple[str, ...]:
    """All weights, but for the classes': these by name, where both sides have names.

    Args:
        network: changed in place.
        tensors: under our names.
        where: they come from.
        known: their classes; () where nobody knows.
        names: of the network's classes; () for whatever the tensors are for.
    """
    own = network.state_dict()
    missing = [key for key in own if key not in tensors]
    extra = [key for key in tensors if key not in own]
    if missing or extra:
        parts = [f"{len(keys)} {what}, as {keys[0]}" for keys, what in ((missing, "missing"), (extra, "extra")) if keys]
        raise ModelFileError(f"the weights in {where} do not fit this detector: {'; '.join(parts)}.")
    layers = _class_layers(network, names)
    by_class = {f"{layer}.{part}": rows for layer, rows in layers.items() for part in ("weight", "bias")}
    shared = [(names.index(name), known.index(name)) for name in names if name and name in known]
    carries = bool(known and names) and tuple(known) != tuple(names)
    taken: dict[str, Tensor] = {}
    anew: list[str] = []
    for key, fresh in own.items():
        trained, rows = tensors[key], by_class.get(key)
        fits = fresh.shape == trained.shape
        if carries and rows is not None and fresh.shape[1:] == trained.shape[1:]:
            fits = rows.rows(len(known)) == len(trained)
            trained = rows.carried(fresh, trained.to(fresh), shared) if fits else trained
        taken[key] = trained if fits else fresh
        anew += [] if fits else [key]
    network.load_state_dict(taken)
    notes: list[str] = []
    if anew:
        what = "weights for the classes" if set(anew) <= set(by_class) else f"weights of another shape, as {anew[0]},"
        notes.append(f"{len(anew)} {what} are made anew")
    if carries and layers:
        notes.append(f"{len(shared)} of {len(names)} classes keep the weights that they had by their names")
    elif layers and not known and not anew:
        notes.append("the classes' weights are taken over in their order")
    return tuple(notes)


def _class_layers(network: Detector | Regressor, names: Sequence[str]) -> dict[str, ClassRows]:
    """The layers whose outputs are of classes."""
    if isinstance(network, Detector):
        return network.class_layers()
    logits = network.state_dict().get("heads.logits.out.bias")  # of each of several objects, class after class
    return {} if logits is None or not names else {"heads.logits.out": ClassRows(groups=len(logits) // len(names))}
