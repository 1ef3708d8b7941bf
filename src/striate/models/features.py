"""What a network makes of an image at one of its layers, as a vector.

Letters: B images, C channels, H height, W width, D length of the vector, K classes.
"""

import copy
from typing import NoReturn

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from striate.errors import UsageError, did_you_mean
from striate.models.contract import Classifier
from striate.nn.nearest import NearestNeighbours


class FeatureExtractor(nn.Module):
    """A network up to one of its layers.

    What comes after the layer is not computed; for a stage the backbone is computed whole.

    Args:
        network: stays as it is, in the mode that it is in.
        layer: the name of a stage, or the path of a module. None: what goes into the last layer, which is where
            transfer takes features from (Razavian et al. 2014, "CNN Features off-the-shelf").

    Attributes:
        layer: a stage's name, a module's path, or ``input of PATH``.

    Raises:
        UsageError: there is no such layer.
    """

    def __init__(self, network: Classifier, layer: str | None = None):
        super().__init__()
        self.network = network
        stages = [stage.name for stage in network.backbone.stages]
        modules = [name for name, _ in network.named_modules() if name]
        self._stage = stages.index(layer) if layer in stages else None
        self._last = layer is None or layer == f"input of {last_layer(network)}"
        if layer is not None and not self._last and layer not in stages and layer not in modules:
            raise UsageError(
                f"the network has no layer {layer!r}.{did_you_mean(layer, [*stages, *modules])} Its stages are "
                f"{', '.join(stages)}; any module's path will do, as 'striate inspect' shows them."
            )
        self._path = last_layer(network) if self._last else layer or ""
        self.layer = f"input of {self._path}" if self._last else self._path

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) normalised images to (B, D) float32 features; a map is averaged over its positions."""
        if self._stage is not None:
            return _vector(self.network.backbone(images)[self._stage])
        module = self.network.get_submodule(self._path)

        def before(_module: nn.Module, inputs: tuple[object, ...]) -> NoReturn:
            raise _ReachedError(inputs[0])

        def after(_module: nn.Module, _inputs: object, output: object) -> NoReturn:
            raise _ReachedError(output)

        handle = module.register_forward_pre_hook(before) if self._last else module.register_forward_hook(after)
        try:
            self.network(images)
        except _ReachedError as reached:
            if not isinstance(reached.value, Tensor):
                raise UsageError(f"the layer {self.layer} gives no tensor: choose another.") from None
            return _vector(reached.value)
        finally:
            handle.remove()
        raise UsageError(f"the layer {self.layer} takes no part in a prediction: choose another.")


class _ReachedError(Exception):
    """The layer was reached: nothing behind it is needed."""

    def __init__(self, value: object):
        super().__init__()
        self.value = value


def _vector(x: Tensor) -> Tensor:
    """(B, D) of a map (B, C, H, W), of tokens (B, N, C) or of what is a vector already."""
    if x.dim() == 4:
        x = x.mean((2, 3))
    elif x.dim() == 3:
        x = x.mean(1)
    return x.flatten(1).float()


def last_layer(network: Classifier) -> str:
    """The path of the layer that gives the class scores: the last one with K outputs that is no auxiliary head's."""
    found = ""
    for path, module in network.named_modules():
        own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        scores = any(t.dim() > 1 and t.shape[0] == network.classes for t in own) or isinstance(
            module, NearestNeighbours
        )
        if scores and not path.startswith("auxiliary"):
            found = path
    if not found:
        raise UsageError("the network has no layer with an output for every class.")
    return found


def fold_batch_norm(network: Classifier, images: Tensor, *, keep: str = "") -> Classifier:
    """A copy for prediction in which every batch normalisation is folded into the convolution before it.

    Args:
        network: in evaluation mode.
        images: a few that it takes, (B, C, H, W): the copy's scores are compared with the network's on them.
        keep: the path of a layer that has to give what it gives.

    Returns:
        The copy, with other module types at the same paths; a plain copy where folding would change the scores.
    """
    pairs: list[tuple[str, str]] = []
    outputs: dict[int, tuple[str, Tensor]] = {}  # the tensors are held, so that no id is used twice
    handles: list[torch.utils.hooks.RemovableHandle] = []

    def note_output(path: str, module: nn.Module) -> None:
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            outputs[id(output)] = (path, output)

        handles.append(module.register_forward_hook(hook))

    def note_input(path: str, module: nn.Module) -> None:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if id(inputs[0]) in outputs:
                pairs.append((outputs[id(inputs[0])][0], path))

        handles.append(module.register_forward_pre_hook(hook))

    for path, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            note_output(path, module)
        elif isinstance(module, nn.BatchNorm2d):
            note_input(path, module)
    with torch.no_grad():
        expected = network(images)
        for handle in handles:
            handle.remove()
        folded = copy.deepcopy(network)
        for path, after_it in pairs:
            conv, norm = folded.get_submodule(path), folded.get_submodule(after_it)
            if path != keep and isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                folded.set_submodule(path, fuse_conv_bn_eval(conv, norm))
                folded.set_submodule(after_it, nn.Identity())
        same = torch.allclose(folded(images), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
    return folded if same else copy.deepcopy(network)
