"""Trained weights for the networks that say where: a whole detector's, or those of a backbone alone.

What a file is follows from its names: a model file of striate says it, a checkpoint of another library is a detector's
where its names are those of one, and else a classifier's, whose backbone is taken.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from striate.config import TrainSettings
from striate.errors import ModelFileError, UsageError
from striate.models.catalog import published_for
from striate.models.contract import Detector
from striate.models.detectors.catalog import create_detector, find_detector
from striate.models.regressor import Regressor
from striate.models.weights import matching, to_ours
from striate.runs.checkpoints import create_with_weights, is_official, is_ours, read_checkpoint, weights_file
from striate.runs.model_file import read_card, read_tensors


def start_from(network: nn.Module, settings: TrainSettings, classes: Sequence[str]) -> tuple[str, ...]:
    """Give a detector, or a network for localization or keypoints, the weights that the settings name.

    Args:
        network: with fresh weights; changed in place.
        settings: with ``weights``, ``model``, ``backbone``, ``origin``.
        classes: class names; where the file has another number of them, what depends on it is made anew.

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
        if card.task["task"] == "classification":
            return _backbone(network, card.model, settings)
        if (card.model, card.backbone) != (settings.model, settings.backbone if card.backbone else None):
            there = card.model + (f" with {card.backbone}" if card.backbone else "")
            raise ModelFileError(f"{settings.weights} holds {there}: name these with --model and --backbone.")
        same = tuple(card.classes) == tuple(classes)
        return _whole(network, read_tensors(file)[1], settings.weights, same)
    tensors = read_checkpoint(file)
    if isinstance(network, Detector):
        found = _origins(settings.model, settings.origin, tensors)
        if found:
            origin = find_detector(settings.model).origins[found[0]]
            return _whole(network, to_ours(tensors, network, origin), settings.weights, same=False)
    return _backbone(network, name, settings)


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
        if card.task["task"] != "classification":
            known, names = len(card.classes), card.classes
            backbone, channels, size = backbone or card.backbone, channels or card.channels, size or card.size
    channels, size = channels or 3, size or architecture.size

    def build(classes: int) -> Detector:
        return create_detector(name, backbone=backbone, classes=classes, channels=channels, size=size)

    if file is not None and known is None and not is_ours(file):
        tensors = read_checkpoint(file)
        found = _origins(name, origin, tensors)
        if found:
            with torch.device("meta"):
                one, two = build(1), build(2)
            known = _classes(to_ours(tensors, one, architecture.origins[found[0]]), one, two)
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


def _classes(tensors: Mapping[str, Tensor], one: Detector, two: Detector) -> int | None:
    """The number of classes that a detector's tensors are for, from what grows with it; None where nothing does."""
    larger = two.state_dict()
    for name, tensor in one.state_dict().items():
        for place, (low, high) in enumerate(zip(tensor.shape, larger[name].shape, strict=True)):
            if low != high and name in tensors:
                return 1 + (tensors[name].shape[place] - low) // (high - low)
    return None


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
def _whole(network: Detector | Regressor, tensors: Mapping[str, Tensor], where: str, same: bool) -> tuple[str, ...]:
    """All weights; those whose shape follows from the number of classes stay fresh where that is another."""
    own = network.state_dict()
    missing = [key for key in own if key not in tensors]
    extra = [key for key in tensors if key not in own]
    if missing or extra:
        parts = [f"{len(keys)} {what}, as {keys[0]}" for keys, what in ((missing, "missing"), (extra, "extra")) if keys]
        raise ModelFileError(f"the weights in {where} do not fit this detector: {'; '.join(parts)}.")
    other = [key for key in own if own[key].shape != tensors[key].shape]
    network.load_state_dict({key: own[key] if key in other else tensors[key] for key in own})
    if other:
        return (f"{len(other)} weights for the classes are made anew",)
    return () if same else ("the classes' weights are taken over in their order",)
