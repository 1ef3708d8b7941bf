"""The same in Python as on the command line, with the same words."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch import nn

from striate.analysis.inspection import Inspection
from striate.config import Layer, Resolved, resolve
from striate.engine.log import Display
from striate.errors import UsageError
from striate.models import catalog
from striate.models.contract import Classifier, Detector
from striate.models.detectors.catalog import DETECTORS, create_detector
from striate.recipes import read_config
from striate.runs import checkpoints
from striate.runs.detector_weights import create_with
from striate.runs.embed import MAX_BAD, embed_sources
from striate.runs.embeddings import Embeddings
from striate.runs.evaluate import Evaluated, evaluate_model
from striate.runs.folder import open_run
from striate.runs.inspecting import Subject, inspect_subject, subject
from striate.runs.train import Run, resume_run, train_run

if TYPE_CHECKING:
    from striate.studies.run import StudyResult


def train(
    data: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str] | None = None,
    config: str | os.PathLike[str] | None = None,
    quiet: bool = False,
    **settings: Any,
) -> Run:
    """Train a model.

    Args:
        data: path or known name.
        out: the run folder; ``runs/<date>-<data>-<model>`` when left out.
        config: a file of settings, or the name of a recipe.
        quiet: show no progress.
        settings: any of `striate.config.TrainSettings`, as in ``model="resnet20", epochs=30``.

    Raises:
        StriateError: of the kind that went wrong, see `striate.errors`.
    """
    resolved = settings_from(config, Layer(source="argument", values={"data": os.fspath(data), **settings}))
    return train_run(resolved, out=None if out is None else Path(out), display=Display(quiet=quiet))


def settings_from(config: str | os.PathLike[str] | None, explicit: Layer) -> Resolved:
    """Settings: explicit ones over those of a file or recipe over the defaults."""
    layers = [explicit] if config is None else [read_config(os.fspath(config)), explicit]
    return resolve(*layers)


def resume(run: str | os.PathLike[str], *, quiet: bool = False) -> Run:
    """Go on with a run that was stopped, to the very weights that it would have reached."""
    return resume_run(open_run(Path(run)), display=Display(quiet=quiet))


def evaluate(
    model: str | os.PathLike[str],
    data: str | os.PathLike[str] | None = None,
    *,
    split: str | None = None,
    root: str | os.PathLike[str] | None = None,
    download: bool = False,
    device: str = "auto",
    quiet: bool = False,
) -> Evaluated:
    """Measure a run or model file on its own data, or on other data; see `striate.runs.evaluate.evaluate_model`."""
    return evaluate_model(
        Path(model),
        None if data is None else os.fspath(data),
        split=split,
        root=None if root is None else Path(root),
        download=download,
        device=device,
        display=Display(quiet=quiet),
    )


def create(
    name: str,
    *,
    classes: int | None = None,
    channels: int | None = None,
    size: int | tuple[int, int] | None = None,
    weights: str | os.PathLike[str] | None = None,
    origin: str | None = None,
    download: bool = False,
    new_head: bool = False,
    backbone: str | None = None,
) -> Classifier | Detector:
    """A network of the catalog, of timm, or of a layer pattern, or a detector, as a `torch.nn.Module`.

    Args:
        name: catalog name, ``timm:NAME``, layer pattern, or a detector's name.
        classes: number of classes, of a detector without background; the checkpoint's when left out, else the published
            network's.
        channels: channels of the images; the published network's when left out. Weights for another number are
            adapted by the rule of `striate.models.weights.adapt_channels`.
        size: height and width of the images, or one number for a square; the published network's when left out, 32x32
            for a layer pattern.
        weights: ``none``, a model file of striate, a checkpoint (``.safetensors``, ``.pth``) of another library, or the
            name of an official one, as in ``torchvision:IMAGENET1K_V1`` (`striate models NAME` lists them).
        origin: ``torchvision``, ``timm``, ...: the library whose names the checkpoint has.
        download: fetch an official checkpoint that is not on this machine.
        new_head: keep fresh weights in the last layer where the checkpoint has another number of classes.
        backbone: of a detector: a catalog name or ``timm:NAME``; the published one when left out. A classifier's
            weights are then the backbone's.

    Raises:
        UsageError: an unknown name or origin, or a size or backbone that the network does not take.
        ModelFileError: weights that cannot be read or do not fit.
    """
    if name in DETECTORS:
        return _create_detector(
            name,
            backbone=backbone,
            classes=classes,
            channels=channels,
            size=None if size is None else sides(size),
            weights=None if weights is None else os.fspath(weights),
            origin=origin,
            download=download,
            new_head=new_head,
        )
    if backbone is not None:
        raise UsageError(f"backbone={backbone!r} is for detectors ({', '.join(DETECTORS)}), and {name} is none.")
    if weights not in (None, "none"):
        network, _ = checkpoints.create_with_weights(
            name,
            os.fspath(weights),
            download=download,
            origin=origin,
            classes=classes,
            channels=channels,
            size=None if size is None else sides(size),
            new_head=new_head,
        )
        return network
    images, published = catalog.published_for(name)
    return catalog.create(
        name,
        classes=published if classes is None else classes,
        channels=images[0] if channels is None else channels,
        size=images[1:] if size is None else sides(size),
    )


def _create_detector(
    name: str,
    *,
    backbone: str | None,
    classes: int | None,
    channels: int | None,
    size: tuple[int, int] | None,
    weights: str | None,
    origin: str | None,
    download: bool,
    new_head: bool,
) -> Detector:
    if weights not in (None, "none"):
        detector, _ = create_with(
            name,
            weights,
            backbone=backbone,
            origin=origin,
            download=download,
            classes=classes,
            channels=channels,
            size=size,
            new_head=new_head,
        )
        return detector
    published = DETECTORS[name]
    return create_detector(
        name,
        backbone=backbone,
        classes=classes or published.classes,
        channels=channels or 3,
        size=size or published.size,
    )


def sides(size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width from what a person gave: both, or one number for a square.

    Raises:
        UsageError: anything else.
    """
    both: Any = (size, size) if isinstance(size, int) else size
    if not isinstance(both, tuple) or len(both) != 2 or not all(isinstance(side, int) for side in both):
        raise UsageError(f"size={size!r} is no size: a number of pixels, or (height, width).")
    height, width = both
    return height, width


def save_weights(network: Classifier | Detector, path: str | os.PathLike[str], *, name: str, origin: str) -> None:
    """Write a network's weights as another library names them; see `striate.runs.checkpoints.save_weights`."""
    checkpoints.save_weights(network, Path(path), name=name, origin=origin)


def inspect(
    model: str | os.PathLike[str] | nn.Module,
    *,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    classes: int | None = None,
    backbone: str | None = None,
    batch: int | None = 1,
) -> Inspection:
    """What a network is made of: layers, parameters, multiply-accumulates, memory, receptive fields.

    Nothing is computed and no weights are allocated.

    Args:
        model: catalog name, ``timm:NAME``, layer pattern, a detector's name, run folder, model file, or any
            `torch.nn.Module` that takes (B, C, H, W) images.
        size: height and width of the images; the model's own when left out.
        channels: of the images; the model's own when left out, 3 for a module.
        classes: the model's own when left out.
        backbone: of a detector that is named; the published one when left out.
        batch: images that the memory is for; None leaves the memory out, which is the slower part.

    Raises:
        UsageError: an unknown name, numbers that the network cannot take, or a module without a size.
        ModelFileError: a file that holds no model.
    """
    both = None if size is None else sides(size)
    if isinstance(model, nn.Module):
        if isinstance(model, Classifier):
            both, channels = both or model.size, channels or model.channels
        if isinstance(model, Detector):
            both, channels = both or model.input_size, channels or model.channels
        if both is None:
            raise UsageError("a module does not say what images it takes: give size=(height, width), and channels=.")
        found = Subject(name=type(model).__name__, network=model, images=(channels or 3, *both))
    elif isinstance(model, str | os.PathLike):  # pyright: ignore[reportUnnecessaryIsInstance]
        found = subject(os.fspath(model), size=both, channels=channels, classes=classes, backbone=backbone)
    else:
        raise UsageError(f"{type(model).__name__} is nothing to inspect: give a name, a path or a torch.nn.Module.")
    return inspect_subject(found, batch=batch)


def embed(
    model: str | os.PathLike[str],
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    out: str | os.PathLike[str] | None = None,
    layer: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    origin: str | None = None,
    split: str = "all",
    root: str | os.PathLike[str] | None = None,
    download: bool = False,
    max_bad: float = MAX_BAD,
    cache: str = "auto",
    device: str = "auto",
    quiet: bool = False,
) -> Embeddings:
    """Write what a model makes of many images into an embeddings file, and open it.

    Args:
        model: run folder, model file, or a name with ``weights``.
        sources: a data set (path or known name), or any number of folders, files and patterns.
        out: the file; ``<name>.embeddings`` in the working folder when left out.
        layer: a stage's name or the path of a module; what goes into the last full layer when left out.
        weights: of a named network: a checkpoint, or the name of an official one.
        origin: the library whose names a checkpoint has.
        split: ``train``, ``val``, ``test`` or ``all``.
        root: folder that holds a known data set.
        download: fetch a known data set or official weights that are not there yet.
        max_bad: share of images that cannot be read above which nothing is written.
        cache: keeps what is computed: a folder, ``auto`` or ``none``.
        device: to compute on.
        quiet: show no progress.

    Raises:
        StriateError: of the kind that went wrong, see `striate.errors`.
    """
    many = [sources] if isinstance(sources, str | os.PathLike) else sources
    return embed_sources(
        os.fspath(model),
        many,
        out=None if out is None else Path(out),
        layer=layer,
        weights=None if weights is None else os.fspath(weights),
        origin=origin,
        part=split,
        root=None if root is None else Path(root),
        download=download,
        max_bad=max_bad,
        cache=cache,
        device=device,
        display=Display(quiet=quiet),
    )


def study(
    name: str,
    *,
    effort: Literal["quick", "full"] = "quick",
    data: str | os.PathLike[str] | None = None,
    root: str | os.PathLike[str] | None = None,
    seeds: int | None = None,
    out: str | os.PathLike[str] | None = None,
    weights: str | os.PathLike[str] | None = None,
    quiet: bool = False,
) -> "StudyResult":
    """Measure one of the field's classic claims again; see `striate.studies.run.run_study`."""
    from striate.studies.run import run_study  # studies train with the functions above

    return run_study(
        name,
        effort=effort,
        data=None if data is None else os.fspath(data),
        root=None if root is None else Path(root),
        seeds=seeds,
        out=None if out is None else Path(out),
        weights=None if weights is None else os.fspath(weights),
        display=Display(quiet=quiet),
    )
