"""What `striate inspect` looks at: a model of any origin as a network, and everything that is said of it."""

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from striate.analysis.effective import EffectiveField, SizesComparison, effective_field, field_against_sizes, noise
from striate.analysis.inspection import Inspection, inspect_network
from striate.analysis.memory import predict_memory
from striate.data.dataset import Dataset, ImageArrays
from striate.data.images import ImageFiles, probe, read_image
from striate.data.preprocess import Pixels, Preprocessing
from striate.errors import DataError, ModelFileError, UsageError, did_you_mean
from striate.models import catalog
from striate.models.contract import Classifier, Detector
from striate.models.detectors.catalog import DETECTORS, create_detector
from striate.models.detectors.catalog import names as detector_names
from striate.models.official import IMAGENET_MEAN, IMAGENET_STD
from striate.models.pattern import looks_like_pattern
from striate.models.timm_provider import is_timm
from striate.runs.checkpoints import create_with_weights, is_official, is_ours, official
from striate.runs.finetune import freeze
from striate.runs.folder import RunFolder, is_run
from striate.runs.model_file import read_model

FRESH = "fresh weights, seed 0"
GLOB = re.compile(r"[*?]")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A network to look at."""

    name: str
    network: nn.Module  # on the meta device where it has no weights of its own
    images: tuple[int, int, int]  # channels, height, width
    preprocessing: Preprocessing | None = None  # that it was trained with
    weights: str = "no weights"  # in words


def subject(
    model: str,
    *,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    classes: int | None = None,
    backbone: str | None = None,
    weights: str | None = None,
    origin: str | None = None,
    download: bool = False,
) -> Subject:
    """A network by its name, or out of a run or model file.

    Args:
        model: run folder, model file, catalog name, ``timm:NAME``, layer pattern, or a detector's name. A folder that
            is no run hides no name.
        size: height and width of the images; the network's own when left out.
        channels: of the images; the network's own when left out.
        classes: the network's own when left out.
        backbone: of a detector that is named; the published one when left out.
        weights: for a named network, which stays on the meta device without: ``FRESH``, a checkpoint of another
            library, or the name of an official one.
        origin: whose names the checkpoint has.
        download: fetch an official checkpoint that is not on this machine.

    Raises:
        UsageError: an unknown name, or numbers that the network cannot take.
        ModelFileError: a file or folder that holds no model, or weights that do not fit.
    """
    path = Path(os.path.expanduser(model))  # noqa: PTH111 (of a layer pattern it makes no error)
    # os.path takes any text, where pathlib refuses a pattern that is longer than a file's name can be.
    folder = os.path.isdir(path)  # noqa: PTH112
    if folder and not is_run(path) and not _is_name(model):
        raise ModelFileError(f"the folder {model} is no run: it has no run.yaml.")
    if os.path.isfile(path) or (folder and is_run(path)):  # noqa: PTH113
        if weights not in (None, FRESH):
            raise UsageError(f"{model} has its own weights: leave --weights {weights} out.")
        task, card = read_model(RunFolder(path).model if folder else path)
        if channels not in (None, card.channels) or classes not in (None, len(card.classes)):
            raise UsageError(
                f"{model} was trained for {card.channels} channels and {len(card.classes)} classes: only the size of "
                "the images can be another."
            )
        if backbone is not None:
            raise UsageError(f"{model} has its own backbone: leave --backbone {backbone} out.")
        freeze(task.network, card.frozen)
        trained = task.network.input_size if isinstance(task.network, Detector) else card.size
        return Subject(
            name=model,
            network=task.network,
            images=(card.channels, *(size or trained)),
            preprocessing=replace(card.preprocessing, size=size or card.size),
            weights="the run's weights" if folder else "the file's weights",
        )
    if model in DETECTORS:
        if weights not in (None, FRESH):
            raise UsageError(f"{model} is a detector, of which a run or model file is looked at with its weights.")
        architecture = DETECTORS[model]
        with torch.device("cpu" if weights else "meta"), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            detector = create_detector(
                model,
                backbone=backbone,
                classes=classes or architecture.classes,
                channels=channels or 3,
                size=size or architecture.size,
            )
        return Subject(
            name=model,
            network=detector,
            images=(detector.channels, *detector.input_size),
            weights=weights or "no weights",
        )
    if backbone is not None:
        raise UsageError(f"--backbone {backbone}: {model} is no detector, but a network of its own.")
    own, own_classes = catalog.published_for(model)
    height, width = size or own[1:]
    images = (channels or own[0], height, width)
    if weights not in (None, FRESH):
        if not is_official(weights) and is_ours(Path(weights)):
            raise UsageError(f"{weights} is a model file of striate: name it in the place of {model}.")
        network, _ = create_with_weights(
            model, weights, download=download, origin=origin, classes=classes, channels=images[0], size=images[1:]
        )
        found = Subject(name=model, network=network, images=images, weights=weights)
        if not is_official(weights) or images[0] != 3:
            return found
        trained = official(model, weights)
        return replace(found, preprocessing=replace(preprocessing_of(found), mean=trained.mean, std=trained.std))
    with torch.device("cpu" if weights else "meta"), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = catalog.create(model, classes=classes or own_classes, channels=images[0], size=images[1:])
    return Subject(name=model, network=network, images=images, weights=weights or "no weights")


def _is_name(model: str) -> bool:
    return model in catalog.CATALOG or model in DETECTORS or is_timm(model) or looks_like_pattern(model)


def inspect_subject(found: Subject, *, batch: int | None = None) -> Inspection:
    """Layers, figures and, where a batch is given, the memory that it takes."""
    inspection = inspect_network(found.network, found.images, name=found.name)
    if batch is None:
        return inspection
    return replace(inspection, memory=predict_memory(found.network, found.images, batch=batch))


@dataclass(frozen=True, kw_only=True)
class FieldsOnImage:
    """The effective fields of some stages, and the image that they were measured on."""

    image: Pixels | None  # as the network sees it; None for noise
    fields: tuple[EffectiveField, ...]


def measure_fields(
    found: Subject, inspection: Inspection, *, image: Path | None, stages: Sequence[str] = ()
) -> FieldsOnImage:
    """Measure the effective receptive field of a network with weights.

    Args:
        found: with weights.
        inspection: of it.
        image: a person's own; noise without it.
        stages: names; all that keep position when left out.

    Raises:
        UsageError: a network without declared stages, or a stage that it does not have.
        DataError: an image that cannot be read.
    """
    if isinstance(found.network, Detector):
        raise UsageError(f"{found.name} is a detector; its fields are those of its backbone: name that instead.")
    if not isinstance(found.network, Classifier):
        raise UsageError(f"{found.name} declares no stages, so there is no map to look from.")
    places = [stage.name for stage in inspection.stages if stage.stride]
    unknown = [name for name in stages if name not in places]
    if unknown or not places:
        raise UsageError(
            f"{found.name} has no map called {unknown[0]!r}.{did_you_mean(unknown[0], places)} It has: "
            f"{', '.join(places)}."
            if unknown
            else f"{found.name} keeps no positions: every unit sees the whole image."
        )
    pixels = None if image is None else preprocessing_of(found).pixels(read_image(image))
    batch: Tensor = (
        noise(found.images)
        if pixels is None
        else torch.from_numpy(preprocessing_of(found).normalise(pixels[None])).contiguous()
    )
    fields = tuple(effective_field(found.network, inspection, name, batch) for name in stages or places)
    return FieldsOnImage(image=pixels, fields=fields)


def compare_with_data(
    found: Subject, fields: Sequence[EffectiveField], dataset: Dataset
) -> tuple[list[SizesComparison], int]:
    """Whether what is in the images fits into the fields.

    The truth of classification has no boxes: what has to be seen is then each whole image, in the size in which the
    network gets it, without the border that padding adds.

    Returns:
        One comparison per field, and the number of images that cannot be read and are left out.

    Raises:
        DataError: no image can be read.
    """
    images = dataset.images
    if isinstance(images, ImageArrays):
        sizes = [(images.pixels.shape[1], images.pixels.shape[2])] * len(images)
    else:
        assert isinstance(images, ImageFiles)
        sizes: list[tuple[int, int]] = []
        for path in images.paths:
            with suppress(DataError):
                sizes.append(probe(path).size)
        if not sizes:
            raise DataError(f"none of the {len(images.paths)} images can be read, so there are no sizes to compare.")
    skipped = len(images.paths) - len(sizes) if isinstance(images, ImageFiles) else 0
    height, width = found.images[1:]
    scaled = np.array(sizes, dtype=np.float64)
    if preprocessing_of(found).resize == "pad":
        scaled *= np.minimum(1, np.minimum(height / scaled[:, 0], width / scaled[:, 1]))[:, None]
    else:
        scaled[:] = (height, width)
    return [field_against_sizes(field, scaled) for field in fields], skipped


def preprocessing_of(found: Subject) -> Preprocessing:
    """What makes the input of an image: what the model says, or the usual one of ImageNet."""
    if found.preprocessing is not None:
        return found.preprocessing
    channels, height, width = found.images
    if channels not in (1, 3):
        raise UsageError(f"{found.name} takes {channels} channels; an image has 1 or 3.")
    grey = (sum(IMAGENET_MEAN) / 3,), (sum(IMAGENET_STD) / 3,)
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if channels == 3 else grey
    return Preprocessing(size=(height, width), channels=3 if channels == 3 else 1, mean=mean, std=std)


def expand(models: Sequence[str]) -> list[str]:
    """What a person typed, with patterns such as ``resnet*`` replaced by the names of the catalog that match.

    Raises:
        UsageError: a pattern that nothing matches.
    """
    found: list[str] = []
    for model in models:
        # A layer pattern repeats with a star too, but has arrows, brackets or spaces; a file may have one in its name.
        if GLOB.search(model) and not re.search(r"[\s>\[\]]", model) and not os.path.exists(model):  # noqa: PTH110
            matches = [*catalog.names(model), *detector_names(model)]
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
