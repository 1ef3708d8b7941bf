"""A network of the catalog held against its paper: every published figure, ours beside it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from striate.analysis.inspection import Inspection, inspect_network
from striate.errors import UsageError, did_you_mean
from striate.models.catalog import CATALOG, published
from striate.models.contract import Classifier
from striate.models.published import Published, rows


@dataclass(frozen=True, kw_only=True)
class Check:
    """A published figure and ours."""

    row: Published
    ours: int | tuple[int, ...]

    @property
    def held(self) -> bool:
        """Whether ours is the published figure, to the last digit printed."""
        if isinstance(self.ours, int) and isinstance(self.row.value, int):
            return abs(self.ours - self.row.value) <= self.row.within
        return self.ours == self.row.value

    def to_json(self) -> dict[str, Any]:
        """One row of ``checks``."""
        row = self.row
        return {
            "layer": row.layer,
            "figure": row.figure,
            "published": row.value,
            "within": row.within,
            "ours": self.ours,
            "held": self.held,
            "source": row.source,
            "disputed": row.disputed,
        }


def verify(name: str) -> list[Check]:
    """Every published figure of a network of the catalog, ours beside it, for the published images and classes.

    Raises:
        UsageError: a name that is not in the catalog, as those of timm, patterns, runs and files are not.
    """
    if name not in CATALOG:
        raise UsageError(
            f"published figures exist for names of the catalog only ('striate models' lists them), and {name!r} is "
            f"none.{did_you_mean(name, CATALOG)}"
        )
    wanted = rows(name)
    network = published(name)
    shapes = output_shapes(
        network, {row.layer for row in wanted if row.figure in ("shape", "activations")} | {*_drawn(network)}
    )
    needed = any(row.figure in ("macs", "receptive_field") for row in wanted)
    inspection = inspect_network(network, CATALOG[name].images, name=name) if needed else None
    return [Check(row=row, ours=_ours(row, network, shapes, inspection)) for row in wanted]


def _ours(
    row: Published, network: Classifier, shapes: dict[str, tuple[int, ...]], inspection: Inspection | None
) -> int | tuple[int, ...]:
    if row.figure == "parameters":
        found = network.get_submodule(row.layer).parameters()
        return sum(parameter.numel() for parameter in found if parameter.requires_grad)
    if row.figure == "shape":
        return shapes[row.layer]
    if row.figure == "activations":
        return sum(torch.Size(shapes[name]).numel() for name in ([row.layer] if row.layer else _drawn(network)))
    assert inspection is not None
    inside = [
        layer
        for layer in inspection.layers
        if not row.layer or f"{layer.name}.".startswith((f"{row.layer}.", f"{row.layer} "))
    ]
    if row.figure == "macs":
        return sum(layer.macs for layer in inside)
    field = inside[-1].receptive_field
    assert field is not None, f"{row.layer} has no receptive field"
    return field.size[0]


def _drawn(network: Classifier) -> list[str]:
    """The layers whose outputs figures and lectures count as the network's activations."""
    drawn = nn.Conv2d | nn.Linear | nn.MaxPool2d | nn.AvgPool2d
    return [name for name, module in network.named_modules() if isinstance(module, drawn)]


def output_shapes(network: Classifier, layers: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Shapes of what modules give for one image, without the batch; of several tensors the last.

    Args:
        network: on the meta device; it gets a hook for every layer.
        layers: dotted names of modules; those that do not run are left out.
    """
    found: dict[str, tuple[int, ...]] = {}

    def note(name: str, output: Any) -> None:  # a tensor or several
        found[name] = tuple((output if isinstance(output, Tensor) else output[-1]).shape[1:])

    for name in layers:
        hook: nn.Module = network.get_submodule(name)
        hook.register_forward_hook(lambda _, __, output, name=name: note(name, output))
    images = torch.empty(1, network.channels, *network.size, device="meta")
    network.eval()(images)
    return found
