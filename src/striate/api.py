"""The same in Python as on the command line, with the same words."""

import os
from pathlib import Path
from typing import Any

from striate.config import Layer, Resolved, resolve
from striate.engine.log import Display
from striate.models import catalog
from striate.models.contract import Classifier
from striate.recipes import read_config
from striate.runs.evaluate import Evaluated, evaluate_model
from striate.runs.folder import open_run
from striate.runs.train import Run, resume_run, train_run


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
    name: str, *, classes: int = 10, channels: int = 3, size: tuple[int, int] | None = None, weights: str | None = None
) -> Classifier:
    """A network of the catalog, or of a layer pattern, as a `torch.nn.Module`.

    Args:
        name: catalog name or layer pattern.
        classes: number of classes.
        channels: channels of the input.
        size: height and width of the input; the model's own, or 32x32 where it takes any.
        weights: a model file whose weights are loaded.

    Raises:
        UsageError: an unknown name, or a size that the network does not take.
        ModelFileError: weights that do not fit.
    """
    network = catalog.create(
        name, classes=classes, channels=channels, size=size or catalog.native_size(name) or (32, 32)
    )
    if weights is not None:
        from striate.runs.model_file import load_weights, read_tensors

        load_weights(network, read_tensors(Path(weights))[1], Path(weights))
    return network
