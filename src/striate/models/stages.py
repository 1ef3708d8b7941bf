"""Which stage of a network each of its parameters belongs to."""

import torch
from torch import Tensor

from striate.models.contract import Classifier
from striate.models.features import last_layer

HEAD, CLASSIFIER = "head", "classifier"


def parameter_stages(network: Classifier) -> dict[str, tuple[str, ...]]:
    """The names of the parameters of each stage, shallow to deep.

    A parameter belongs to the first stage whose map depends on it, as the graph of a forward pass tells. After the
    stages come ``head``, what the head has before its last layer, and ``classifier``, that layer and auxiliary heads.
    Stages without parameters are left out.

    Args:
        network: on any device; stays as it is.
    """
    name_of = {id(parameter): name for name, parameter in network.named_parameters()}
    asked = {name: parameter.requires_grad for name, parameter in network.named_parameters()}
    training, device = network.training, next(network.parameters()).device
    try:
        network.eval().requires_grad_(True)
        with torch.enable_grad():
            maps = network.backbone(torch.zeros(1, network.channels, *network.size, device=device))
    finally:
        network.train(training)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(asked[name])
    placed: dict[str, str] = {}
    visited: set[object] = set()
    for stage, found in zip(network.backbone.stages, maps, strict=True):
        for parameter in _leaves(found, visited):
            placed.setdefault(name_of[id(parameter)], stage.name)
    stages: dict[str, list[str]] = {name: [] for name in (*(s.name for s in network.backbone.stages), HEAD, CLASSIFIER)}
    last = f"{last_layer(network)}."
    deepest = network.backbone.stages[-1].name
    for name in name_of.values():
        if name.startswith((last, "auxiliary.")):
            place = CLASSIFIER
        elif name.startswith("head."):
            place = HEAD
        else:  # what a prediction does not use goes with the deepest stage
            place = placed.get(name, deepest)
        stages[place].append(name)
    return {stage: tuple(names) for stage, names in stages.items() if names}


def _leaves(tensor: Tensor, visited: set[object]) -> list[Tensor]:
    """The parameters that a tensor was computed from, without those behind nodes that were visited before."""
    found: list[Tensor] = []
    waiting = [tensor.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in visited:
            continue
        visited.add(node)
        if hasattr(node, "variable"):
            found.append(node.variable)  # pyright: ignore[reportAttributeAccessIssue]
        waiting.extend(following for following, _ in node.next_functions)
    return found
