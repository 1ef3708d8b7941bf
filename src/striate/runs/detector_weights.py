"""Trained weights for the networks that say where: a whole detector's, or those of a backbone alone.

What a file is follows from its names: a model file of striate says it, a checkpoint of another library is a detector's
where its names are those of one, and else a classifier's, whose backbone is taken.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from striate.config import TrainSettings
from striate.errors import ModelFileError
from striate.models.catalog import published_for
from striate.models.contract import Detector
from striate.models.detectors.catalog import find_detector
from striate.models.regressor import Regressor
from striate.models.weights import matching, to_ours
from striate.runs.checkpoints import create_with_weights, is_official, is_ours, read_checkpoint, weights_file
from striate.runs.model_file import read_card, read_tensors


def start_from(network: nn.Module, settings: TrainSettings, classes: Sequence[str]) -> tuple[str, ...]:
    """Give a detector, or a network for localization or keypoints, the weights that the settings name.

    Args:
        network: with fresh weights; changed in place.
        settings: with ``weights``, ``model``, ``backbone``, ``origin``.
        classes: class names; what a file of striate knows of other classes, or in another order, is made anew.

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
        origins = find_detector(settings.model).origins
        found = [settings.origin] if settings.origin in origins else matching(tensors, origins)
        if found and found[0] is not None:
            return _whole(network, to_ours(tensors, network, origins[found[0]]), settings.weights, same=False)
    return _backbone(network, name, settings)


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
