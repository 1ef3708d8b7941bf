"""Embedding: what a network makes of every image of a data set or folder, into an embeddings file."""

import glob
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from striate.core.annotations import Classifications
from striate.data.dataset import Dataset, ImageArrays, Indices, Skipped
from striate.data.formats import folder as folder_of_classes
from striate.data.formats import formats, sorted_classes
from striate.data.images import ImageFiles
from striate.data.known import NAMES
from striate.data.open import open_dataset
from striate.data.preprocess import Preprocessing
from striate.data.split import split
from striate.engine.log import Display
from striate.errors import DataError, UsageError
from striate.models.contract import Classifier
from striate.models.detectors.catalog import DETECTORS, published
from striate.runs.checkpoints import create_with_weights, expected_input, is_official
from striate.runs.embeddings import About, Embeddings, open_embeddings, write_embeddings
from striate.runs.features import Extractor, cache_folder, embedding, extract
from striate.runs.inspecting import FRESH, Subject, preprocessing_of, subject
from striate.runs.model import expand
from striate.runs.prepare import device_of, unreadable

MAX_BAD = 0.01  # as for training
LISTED = 20  # bad files that are named one by one


@dataclass(frozen=True, kw_only=True)
class OpenedModel:
    """A network that can embed, and how to find it again."""

    name: str  # absolute path of a run folder or model file, or a name
    network: Classifier
    preprocessing: Preprocessing
    weights: str | None  # of a named network: absolute path, or the name of an official checkpoint
    origin: str | None
    trained: bool


def open_model(
    model: str, *, weights: str | None = None, origin: str | None = None, download: bool = False
) -> OpenedModel:
    """A network with its weights and the preprocessing that they expect.

    Args:
        model: run folder, model file, catalog name, ``timm:NAME`` or layer pattern.
        weights: for a named network, as for `striate.runs.checkpoints.create_with_weights`; without, its weights are
            drawn with seed 0.
        origin: the library whose names the weights have.
        download: fetch an official checkpoint that is not on this machine.

    Raises:
        UsageError: an unknown name, or one that does not fit the weights.
        ModelFileError: weights that cannot be read or do not fit.
    """
    own = os.path.expanduser(model)  # noqa: PTH111 (of a layer pattern pathlib may make an error)
    if model in DETECTORS and weights not in (None, "none"):
        embedding(published(model), model)
    if weights not in (None, "none") and not os.path.isfile(own) and not os.path.isdir(own):  # noqa: PTH112, PTH113
        official = is_official(weights)
        where = weights if official else str(Path(weights).expanduser().absolute())
        expected = expected_input(model, where)
        size = None if expected is None else expected.size
        network, _ = create_with_weights(model, where, download=download, origin=origin, size=size)
        if expected is None:
            images = (network.channels, *network.size)
            expected = preprocessing_of(Subject(name=model, network=network, images=images))
        return OpenedModel(
            name=model, network=network, preprocessing=expected, weights=where, origin=origin, trained=True
        )
    found = subject(model, weights=FRESH if weights in (None, "none") else weights)
    network = embedding(found.network, model)
    trained = found.preprocessing is not None
    return OpenedModel(
        name=str(Path(model).expanduser().absolute()) if trained else model,
        network=network,
        preprocessing=preprocessing_of(found),
        weights=None,
        origin=None,
        trained=trained,
    )


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """Images to embed, and how to find them again."""

    dataset: Dataset  # classes may be empty, labels -1
    folder: Path | None  # that the ids are relative to; None where the images are no files
    data: str | None  # where they are none: a known name or an absolute path
    root: Path | None


def gather(sources: Sequence[str | os.PathLike[str]], *, root: Path | None = None, download: bool = False) -> Gathered:
    """The images that a person named.

    Args:
        sources: one data set by its path or known name; or any number of folders, files and patterns. A folder of
            classes gives its images labels, and images outside of its class folders are taken without one.
        root: folder that holds a known data set.
        download: fetch a known data set that is not there yet.

    Raises:
        UsageError: no such name or path, a folder without images, options that do not apply.
        DataError: the data set is damaged.
    """
    names = [os.fspath(source) for source in sources]
    if len(names) == 1 and (names[0] in NAMES or root is not None or download or _is_dataset(Path(names[0]))):
        dataset = open_dataset(names[0], root=root, download=download)
        if isinstance(dataset.images, ImageFiles):
            assert dataset.path is not None
            where = dataset.path if dataset.path.is_dir() else dataset.path.parent
            return Gathered(dataset=dataset, folder=where.absolute(), data=None, root=None)
        data = names[0] if names[0] in NAMES else str(Path(names[0]).expanduser().absolute())
        return Gathered(dataset=dataset, folder=None, data=data, root=None if root is None else root.absolute())
    if root is not None or download:
        raise UsageError("--root and --download are for one known data set.")
    for name in names:
        if name in NAMES:
            raise UsageError(f"the data set {name} is embedded on its own: name it alone. A folder is ./{name}.")
        if not Path(name).expanduser().exists() and not glob.has_magic(name) and "://" not in name and name != "-":
            open_dataset(name)  # says what is nearest
    return _files(names)


def _is_dataset(path: Path) -> bool:
    """Whether a path is a data set of another kind than a folder of classes, whose other images are embedded too."""
    path = path.expanduser()
    return path.exists() and any(
        form.recognise(path) for form in formats().values() if form.NAME != folder_of_classes.NAME
    )


def _files(names: Sequence[str]) -> Gathered:
    """Folders, files and patterns as one data set."""
    found: dict[Path, str | None] = {}
    skipped: list[Skipped] = []
    roots: list[Path] = []
    splits: dict[str, list[Path]] = {}
    for name in names:
        path = Path(name).expanduser()
        if path.is_dir() and folder_of_classes.recognise(path):
            inside = open_dataset(path)
            assert isinstance(inside.images, ImageFiles)
            labels = inside.labels.tolist()
            for file, label in zip(inside.images.paths, labels, strict=True):
                found.setdefault(file.absolute(), inside.classes[label])
            for part, rows in inside.splits.items():
                splits.setdefault(part, []).extend(inside.images.paths[row].absolute() for row in rows.tolist())
            skipped += [item for item in inside.skipped if not item.stray]
        if name == "-":
            raise UsageError("images to embed lie in files: a later search has to find them again.")
        for file in expand([str(path)]):
            assert isinstance(file, str)
            found.setdefault(Path(file).absolute(), None)
        roots.append(path.absolute() if path.is_dir() else path.absolute().parent)
    if any(glob.has_magic(name) for name in names):
        roots = [file.parent for file in found]
    where = Path(os.path.commonpath(roots))
    files = sorted(found)
    classes = sorted_classes({label for label in found.values() if label is not None})
    number: dict[str | None, int] = {label: k for k, label in enumerate(classes)}
    row_of = {file: row for row, file in enumerate(files)}
    dataset = Dataset(
        name=where.name or "images",
        format=folder_of_classes.NAME if classes else "images",
        path=where,
        task="classification",
        classes=classes,
        ids=[file.relative_to(where).as_posix() for file in files],
        images=ImageFiles(files),
        truths=Classifications(labels=torch.tensor([number.get(found[file], -1) for file in files], dtype=torch.int64)),
        splits={
            part: np.array(sorted(row_of[file] for file in members), dtype=np.int64) for part, members in splits.items()
        },
        skipped=tuple(skipped),
    )
    return Gathered(dataset=dataset, folder=where, data=None, root=None)


def embed_sources(
    model: str,
    sources: Sequence[str | os.PathLike[str]],
    *,
    out: Path | None = None,
    layer: str | None = None,
    weights: str | None = None,
    origin: str | None = None,
    part: str = "all",
    root: Path | None = None,
    download: bool = False,
    max_bad: float = MAX_BAD,
    cache: str = "auto",
    device: str = "auto",
    display: Display,
) -> Embeddings:
    """Embed what a person named, as `open_model`, `gather` and `embed_dataset` say.

    Args:
        model: see `open_model`; with it ``weights``, ``origin`` and ``download``.
        sources: see `gather`; with it ``root`` and ``download``.
        out: the file; ``<name>.embeddings`` in the working folder when left out.
        layer: see `embed_dataset`; with it ``part``, ``max_bad`` and ``device``.
        weights: of a named network.
        origin: whose names they have.
        part: of the data.
        root: of a known data set.
        download: what is not there yet.
        max_bad: share of unreadable images.
        cache: ``auto``, ``none`` or a folder, see `striate.runs.features.cache_folder`.
        device: to compute on.
        display: for people.
    """
    if out is not None:
        refuse_out(out)
    gathered = gather(sources, root=root, download=download and len(sources) == 1 and os.fspath(sources[0]) in NAMES)
    opened = open_model(model, weights=weights, origin=origin, download=download)
    written = embed_dataset(
        opened,
        gathered,
        out or Path(f"{gathered.dataset.name}.embeddings"),
        layer=layer,
        part=part,
        max_bad=max_bad,
        cache=cache_folder(cache),
        device=device,
        display=display,
    )
    display.say(
        f"Embeddings: {written.path}, {len(written):,} images, {written.path.stat().st_size / 1e6:,.1f} MB. "
        f"Next: striate search {shlex.quote(str(written.path))} IMAGE"
    )
    return written


def embed_dataset(
    model: OpenedModel,
    gathered: Gathered,
    out: Path,
    *,
    layer: str | None = None,
    part: str = "all",
    max_bad: float = MAX_BAD,
    cache: Path | None,
    device: str = "auto",
    display: Display,
) -> Embeddings:
    """Embed images and write the file.

    Args:
        model: of `open_model`.
        gathered: of `gather`.
        out: the file; an older embeddings file is replaced.
        layer: a stage's name or the path of a module; what goes into the last full layer when left out.
        part: a split of the data, or ``all``.
        max_bad: share of images that cannot be read, above which nothing is written.
        cache: of the features, as for `striate.runs.features.extract`; from it an interrupted run goes on.
        device: to compute on.
        display: for people.

    Raises:
        UsageError: an unknown layer, or an ``out`` that cannot be taken.
        DataError: an unknown split, or too much of the data cannot be read.
    """
    refuse_out(out)
    dataset = gathered.dataset
    extractor = Extractor(model.network, model.preprocessing, layer=layer, device=device_of(device))
    rows = np.arange(len(dataset), dtype=np.int64) if part == "all" else split(dataset).of(part)
    label = f"{dataset.name}, {dataset.format}"
    classes = f", {len(dataset.classes)} classes" if dataset.classes else ""
    chosen = "" if part == "all" else f" of {part}"
    display.say(f"Model: {model.name}, layer {extractor.layer!r}, {extractor.dimension:,} features.")
    if not model.trained:
        display.say(
            f"Note: {model.name} has fresh weights. Untrained weights embed little more than colour and brightness: "
            "give trained ones (--weights), or a run of your own in its place."
        )
    display.say(f"Data: {label}, {len(rows):,} images{chosen}{classes}.")

    bad = {row: item for row, item in unreadable(dataset).items() if row in rows}
    lost = tuple(item for item in dataset.skipped if not item.stray) if part == "all" else ()
    total = len(rows) + len(lost)
    _refuse_bad((*lost, *bad.values()), total, max_bad)
    kept: Indices = rows[~np.isin(rows, list(bad))]
    features = extract(extractor, dataset, kept, cache=cache, display=display, what="embed")
    skipped = (*lost, *bad.values(), *features.skipped)
    _refuse_bad(skipped, total, max_bad)
    if features.computed < len(features.rows):
        display.say(
            f"{len(features.rows) - features.computed:,} of them were computed before, and read from the cache."
        )
    about = About(
        model=model.name,
        weights=model.weights,
        origin=model.origin,
        key=extractor.key,
        layer=extractor.layer,
        preprocessing=extractor.preprocessing,
        classes=dataset.classes,
        folder=None if gathered.folder is None else str(gathered.folder),
        data=gathered.data,
        root=None if gathered.root is None else str(gathered.root),
        skipped=tuple((item.source, item.reason) for item in skipped),
    )
    written = write_embeddings(
        out,
        about,
        values=features.values,
        labels=dataset.labels[features.rows],
        rows=features.rows,
        ids=_ids(gathered, features.rows),
    )
    for source, reason in about.skipped[:LISTED]:
        display.say(f"  left out: {source}: {reason}")
    if len(skipped) > LISTED:
        display.say(f"  ... and {len(skipped) - LISTED:,} more")
    return written


def _ids(gathered: Gathered, rows: Indices) -> list[str]:
    """What names each image: for a file its path from the folder."""
    dataset = gathered.dataset
    if isinstance(dataset.images, ImageArrays):
        return [dataset.ids[int(row)] for row in rows]
    assert isinstance(dataset.images, ImageFiles)
    assert gathered.folder is not None
    paths = [dataset.images.paths[row].absolute() for row in rows.tolist()]
    return [
        path.relative_to(gathered.folder).as_posix() if path.is_relative_to(gathered.folder) else path.as_posix()
        for path in paths
    ]


def refuse_out(out: Path) -> None:
    """Raise `UsageError` where an embeddings file cannot go: another kind of file is never replaced."""
    if out.is_dir():
        raise UsageError(f"--out {out} is a folder; it names the file, as in {out / 'photos.embeddings'}.")
    if out.exists():
        try:
            open_embeddings(out)
        except DataError:
            raise UsageError(
                f"--out {out} exists and is no embeddings file, so it is not replaced. Choose another name."
            ) from None


def _refuse_bad(skipped: Sequence[Skipped], total: int, share: float) -> None:
    if len(skipped) <= share * total:
        return
    shown = "\n".join(f"  {item.source}: {item.reason}" for item in skipped[:LISTED])
    more = f"\n  ... and {len(skipped) - LISTED} more" if len(skipped) > LISTED else ""
    raise DataError(
        f"{len(skipped)} of {total} images cannot be read, more than {share:.0%}; nothing was written.\n{shown}{more}\n"
        "Remove or mend them, or raise the limit with --max-bad."
    )
