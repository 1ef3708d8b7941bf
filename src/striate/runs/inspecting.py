"""What `striate inspect` looks at: a model of any origin as a network, and everything that is said of it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from striate.analysis.inspection import Inspection, inspect_network
from striate.analysis.memory import predict_memory
from striate.errors import ModelFileError, UsageError
from striate.models import catalog
from striate.runs.folder import RunFolder, is_run
from striate.runs.model_file import read_model

GLOB = re.compile(r"[*?]")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A network to look at."""

    name: str
    network: nn.Module  # on the meta device where it has no weights of its own
    images: tuple[int, int, int]  # channels, height, width


def subject(
    model: str,
    *,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    classes: int | None = None,
    weights: bool = False,
) -> Subject:
    """A network by its name, or out of a run or model file.

    Args:
        model: run folder, model file, catalog name, ``timm:NAME`` or layer pattern.
        size: height and width of the images; the network's own when left out.
        channels: of the images; the network's own when left out.
        classes: the network's own when left out.
        weights: give it weights, so that it can run; else a named network stays on the meta device.

    Raises:
        UsageError: an unknown name, or numbers that the network cannot take.
        ModelFileError: a file or folder that holds no model.
    """
    path = Path(model).expanduser()
    if path.exists():
        if path.is_dir() and not is_run(path):
            raise ModelFileError(f"the folder {model} is no run: it has no run.yaml.")
        task, card = read_model(RunFolder(path).model if path.is_dir() else path)
        if channels not in (None, card.channels) or classes not in (None, len(card.classes)):
            raise UsageError(
                f"{model} was trained for {card.channels} channels and {len(card.classes)} classes: only the size of "
                "the images can be another."
            )
        return Subject(name=model, network=task.network, images=(card.channels, *(size or card.size)))
    own, own_classes = catalog.published_for(model)
    images = (channels or own[0], *(size or own[1:]))
    with torch.device("cpu" if weights else "meta"):
        network = catalog.create(model, classes=classes or own_classes, channels=images[0], size=(images[1], images[2]))
    return Subject(name=model, network=network, images=images)


def inspect_subject(found: Subject, *, batch: int | None = None) -> Inspection:
    """Layers, figures and, where a batch is given, the memory that it takes."""
    inspection = inspect_network(found.network, found.images, name=found.name)
    if batch is None:
        return inspection
    return replace(inspection, memory=predict_memory(found.network, found.images, batch=batch))


def expand(models: Sequence[str]) -> list[str]:
    """What a person typed, with patterns such as ``resnet*`` replaced by the names of the catalog that match.

    Raises:
        UsageError: a pattern that nothing matches.
    """
    found: list[str] = []
    for model in models:
        # A layer pattern repeats with a star too, but has arrows, brackets or spaces; a file may have one in its name.
        if GLOB.search(model) and not re.search(r"[\s>\[\]]", model) and not Path(model).exists():
            matches = catalog.names(model)
            if not matches:
                raise UsageError(f"no model's name matches {model!r}. 'striate models' lists them all.")
            found += matches
        else:
            found.append(model)
    return found


def parse_input(text: str) -> tuple[tuple[int, int], int | None]:
    """``224``, ``224x320`` or ``224x320x1``: height and width, and the channels where they are said.

    Raises:
        UsageError: anything else.
    """
    match = re.fullmatch(r"(\d+)(?:[xX](\d+)(?:[xX](\d+))?)?", text.strip())
    if match is None or "0" in {part and (part.lstrip("0") or "0") for part in match.groups()}:
        raise UsageError(f"--input {text!r} is no size of images: H, HxW or HxWxC, as in 224, 240x320 or 28x28x1.")
    height = int(match[1])
    return (height, int(match[2] or height)), int(match[3]) if match[3] else None
