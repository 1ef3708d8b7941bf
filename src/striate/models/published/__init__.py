"""Published figures of the architectures, each row with its source.

One module per architecture file, found by looking, with ``ROWS`` and, where there are any, ``ERRORS`` and
``CONNECTIONS``. `striate inspect --verify`, the tests and the pages of the documentation read these rows.
"""

import importlib
import pkgutil
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Literal

Figure = Literal["parameters", "macs", "activations", "shape", "receptive_field"]


@dataclass(frozen=True, kw_only=True)
class Published:
    """One figure of a network as it was published, for its own images and classes.

    Attributes:
        model: name in the catalog.
        figure: parameters (trainable); macs (multiply-accumulates for one image); activations (elements of the output,
            for the whole network of all convolutions, poolings and full layers together); shape (channels, height,
            width of the output); receptive_field (pixels, of the output).
        value: the published figure.
        source: where it is printed.
        layer: dotted name of the module; "" for the whole network.
        within: how far ours may be: half a unit of the last digit printed.
        disputed: why the printed figure does not hold; "" where it does.
    """

    model: str
    figure: Figure
    value: int | tuple[int, ...]
    source: str
    layer: str = ""
    within: int = 0
    disputed: str = ""


@dataclass(frozen=True, kw_only=True)
class Connections:
    """Connections of a layer of LeCun's networks: for every unit its inputs and its bias; "" for the whole network."""

    model: str
    layer: str
    count: int
    source: str


@dataclass(frozen=True, kw_only=True)
class PublishedError:
    """A published error in percent, top-1 unless ``data`` says otherwise."""

    model: str
    data: str
    error: float
    source: str


@cache
def modules() -> tuple[ModuleType, ...]:
    """The modules with the rows of one architecture file each."""
    return tuple(importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__))


def rows(model: str | None = None) -> list[Published]:
    """The rows of one network, or of all."""
    found: list[Published] = [row for module in modules() for row in module.ROWS]
    return [row for row in found if model in (None, row.model)]


def errors(model: str | None = None) -> list[PublishedError]:
    """The published errors of one network, or of all."""
    found: list[PublishedError] = [row for module in modules() for row in getattr(module, "ERRORS", ())]
    return [row for row in found if model in (None, row.model)]


def connections(model: str | None = None) -> list[Connections]:
    """The published connections of one network, or of all."""
    found: list[Connections] = [row for module in modules() for row in getattr(module, "CONNECTIONS", ())]
    return [row for row in found if model in (None, row.model)]
