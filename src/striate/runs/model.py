"""A trained model, ready to use: `load` it, then `Model.predict` or `Model.embed` images of any kind."""

import glob
import os
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from striate.core.annotations import Annotations, Classification, Classifications, concatenate
from striate.core.batch import Batch
from striate.core.instances import HIDDEN, Instances, InstanceSets, Skeleton
from striate.data.images import IMAGE_SUFFIXES, decode, from_picture, quiet, read_image
from striate.data.preprocess import Pixels, Preprocessing
from striate.errors import DataError, UsageError
from striate.runs.folder import RunFolder, is_run
from striate.runs.model_file import Card, read_model
from striate.runs.prepare import device_of, evaluation_batch
from striate.tasks.classification import Classification as Classifying
from striate.tasks.task import Task

if TYPE_CHECKING:
    from striate.runs.features import Extractor

SCHEMA = "striate.predictions/1"
BATCH = 64
TOP = 5
LARGE = 32 << 10  # bytes of a file

Source: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | NDArray[Any] | Tensor


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a model says of one image."""

    source: str  # path, or "image 3" for one that was given as an object
    size: tuple[int, int]  # height, width of the image as it was
    annotation: Classification | Instances  # boxes and points in pixels of the image as it was
    classes: tuple[str, ...]
    skeleton: Skeleton | None = None  # of the keypoints

    @property
    def instances(self) -> Instances:
        """The objects, most confident first, of a model that says where."""
        if not isinstance(self.annotation, Instances):
            raise UsageError("this model predicts a class, not places: ask for `label`, `score` or `top()`.")
        return self.annotation

    @property
    def _classification(self) -> Classification:
        if not isinstance(self.annotation, Classification):
            raise UsageError("this model says where things are, not one class: ask for `instances`.")
        return self.annotation

    @property
    def label(self) -> str:
        """Name of the most probable class."""
        return self.classes[self._classification.label]

    @property
    def score(self) -> float:
        """Its probability."""
        score = self._classification.score
        assert score is not None
        return score

    def top(self, count: int = TOP) -> list[tuple[str, float]]:
        """The most probable classes with their probabilities, the most probable first."""
        probabilities = self._classification.scores
        assert probabilities is not None
        scores, labels = probabilities.topk(min(count, len(self.classes)))
        return [(self.classes[int(label)], float(score)) for score, label in zip(scores, labels, strict=True)]

    def lines(self) -> list[str]:
        """For a person: the three most probable classes; or a line per object: class, score, box, named points."""
        if isinstance(self.annotation, Classification):
            return ["\t".join(f"{name} {score:.4f}" for name, score in self.top(3))]
        return [
            f"{row['class']} {row['score']:.4f}\t" + " ".join(f"{side:.1f}" for side in row["box"]) + self._points(row)
            for row in self._annotations()
        ] or ["nothing found"]

    def _points(self, row: dict[str, Any]) -> str:
        points: list[list[float]] = row.get("keypoints", [])
        names = [str(number) for number in range(1, len(points) + 1)] if self.skeleton is None else self.skeleton.names
        return "".join(
            f"\t{name} {x:.1f} {y:.1f}{' hidden' if seen == HIDDEN else ''}"
            for name, (x, y, seen) in zip(names, points, strict=bool(points))
        )

    def to_json(self) -> dict[str, Any]:
        """One entry of ``striate.predictions/1``."""
        return {"source": self.source, "size": list(self.size), "annotations": self._annotations()}

    def _annotations(self) -> list[dict[str, Any]]:
        if isinstance(self.annotation, Classification):
            first = {"label": self.annotation.label, "class": self.label, "score": self.score}
            return [first | {"top": [{"class": name, "score": score} for name, score in self.top()]}]
        found = self.annotation
        assert found.scores is not None
        objects = [
            {"label": label, "class": self.classes[label], "score": score, "box": box}
            for label, score, box in zip(
                found.labels.tolist(), found.scores.tolist(), found.boxes.tolist(), strict=True
            )
        ]
        if found.keypoints is not None:
            for row, points in zip(objects, found.keypoints.tolist(), strict=True):
                row["keypoints"] = points
        return objects


@dataclass(frozen=True, kw_only=True)
class Failed:
    """An input that could not be read."""

    source: str
    error: str


@dataclass(frozen=True, kw_only=True)
class Predictions(Sequence[Prediction]):
    """Predictions in the order of their sources, in columns, and what could not be read.

    Indexing and iterating give one `Prediction` per image.
    """

    model: str
    classes: tuple[str, ...]
    sources: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]  # height, width of each image as it was
    annotations: Annotations  # on the CPU
    failed: tuple[Failed, ...] = ()
    skeleton: Skeleton | None = None  # of the keypoints

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return tuple(self[row] for row in range(*index.indices(len(self))))
        return Prediction(
            source=self.sources[index],
            size=self.sizes[index],
            annotation=self.annotations[index],
            classes=self.classes,
            skeleton=self.skeleton,
        )

    def __iter__(self) -> Iterator[Prediction]:
        for source, size, annotation in zip(self.sources, self.sizes, self.annotations, strict=True):
            yield Prediction(
                source=source, size=size, annotation=annotation, classes=self.classes, skeleton=self.skeleton
            )

    def to_json(self) -> dict[str, Any]:
        """The ``striate.predictions/1`` document."""
        return {
            "schema": SCHEMA,
            "model": self.model,
            "predictions": [row.to_json() for row in self],
            "failed": [{"source": item.source, "error": item.error} for item in self.failed],
        }


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """What a network makes of images at one of its layers, in their order, and what could not be read."""

    values: NDArray[np.float32]  # (M, D), a row per image that could be read
    sources: tuple[str, ...]  # M names
    layer: str
    failed: tuple[Failed, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Chunk:
    """Some of the sources: what was read of them, and what was not."""

    names: list[str]
    sizes: list[tuple[int, int]]  # height, width as it was
    pixels: list[Pixels]  # preprocessed
    failed: list[Failed]


class Model:
    """A trained network with its classes and its preprocessing.

    Attributes:
        card: what the model file says about itself.
        task: the network in its task, in evaluation mode.
        path: where it came from.
    """

    def __init__(self, task: Task, card: Card, path: Path, device: torch.device):
        self.task = task.to(device).eval()
        self.card = card
        self.path = path
        self.device = device

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the labels."""
        return self.card.classes

    def predict(self, sources: Iterable[Source] | Source, *, batch: int | None = None) -> Predictions:
        """Predict images of any kind and size.

        Args:
            sources: paths; encoded images as bytes; Pillow images; arrays (H, W), (H, W, 1 or 3) uint8; tensors
                (1 or 3, H, W) uint8 or float from 0 to 1. One of these, or many.
            batch: images at once; None: 64, and of a detector fewer, the larger its input.

        Returns:
            A prediction per readable image, in the order of the sources; the others are listed under ``failed``.
        """
        names: list[str] = []
        sizes: list[tuple[int, int]] = []
        parts = [self._none()]
        failed: list[Failed] = []
        if batch is None:
            where = not isinstance(self.task, Classifying)
            batch = min(BATCH, evaluation_batch(self.card.preprocessing.size)) if where else BATCH
        for chunk in _chunks(sources, self.card.preprocessing, batch):
            failed += chunk.failed
            if chunk.pixels:
                names += chunk.names
                sizes += chunk.sizes
                parts.append(self._predict_chunk(chunk))
        if failed:
            warnings.warn(f"{len(failed)} inputs could not be read; `failed` names them", stacklevel=2)
        return Predictions(
            model=str(self.path),
            classes=self.classes,
            sources=tuple(names),
            sizes=tuple(sizes),
            annotations=concatenate(parts),
            failed=tuple(failed),
            skeleton=getattr(self.task, "skeleton", None),
        )

    def embed(self, sources: Iterable[Source] | Source, *, layer: str | None = None, batch: int = BATCH) -> Embedded:
        """What the network makes of images at one of its layers, as numbers to compare images by.

        Args:
            sources: as for `predict`.
            layer: a stage's name or the path of a module; what goes into the last full layer when left out. Maps are
                averaged over their positions.
            batch: images at once.

        Returns:
            (M, D) float32 for the M readable images, in the order of the sources; the others are listed under
            ``failed``.

        Raises:
            UsageError: there is no such layer, or the network does not classify.
        """
        from striate.runs.features import Extractor, embedding

        network, preprocessing = embedding(self.task.network, str(self.path)), self.card.preprocessing
        extractor = Extractor(network, preprocessing, layer=layer, device=self.device)
        found = embed_images(extractor, sources, batch=batch)
        if found.failed:
            warnings.warn(f"{len(found.failed)} inputs could not be read; `failed` names them", stacklevel=2)
        return found

    def _predict_chunk(self, chunk: _Chunk) -> Annotations:
        """Predict what was read, each image on the canvas that it would have alone."""
        preprocessing = self.card.preprocessing
        canvases, group = np.unique(preprocessing.canvases(np.array(chunk.sizes)), axis=0, return_inverse=True)
        parts: list[Annotations] = []
        for number, (height, width) in enumerate(canvases.tolist()):
            rows = np.flatnonzero(group.reshape(-1) == number).tolist()
            pixels = preprocessing.normalise(np.stack([chunk.pixels[row][:height, :width] for row in rows]))
            parts.append(self.predict_tensor(torch.from_numpy(pixels), sizes=[chunk.sizes[row] for row in rows]))
        order = np.argsort(group.reshape(-1), kind="stable").argsort()
        return parts[0] if len(parts) == 1 else concatenate(parts).select(torch.from_numpy(order))

    @torch.inference_mode()
    def predict_tensor(self, images: Tensor, *, sizes: Sequence[tuple[int, int]] | None = None) -> Annotations:
        """Predict a batch that is preprocessed already.

        Args:
            images: (B, channels, height, width) float32, normalised as the card says.
            sizes: heights and widths of the images before that; None: they were as large as they are now.

        Returns:
            Annotations of the B images on the CPU, in pixels of the images as they were.
        """
        count = len(images)
        before = torch.tensor(sizes or [images.shape[2:]] * count).reshape(-1, 2)
        batch = Batch(
            images=images.to(self.device),
            sizes=before,
            truths=Classifications(labels=torch.zeros(count, dtype=torch.int64)),
            indices=torch.arange(count),
            placement=torch.from_numpy(self.card.preprocessing.placements(before.numpy())),
        )
        found = batch.restored(self.task.predict(batch)).to("cpu")
        return self._shown(found) if isinstance(found, InstanceSets) else found

    def _shown(self, found: InstanceSets) -> InstanceSets:
        """What is confident enough to be shown, by the thresholds of the model file where it has some."""
        thresholds = getattr(self.task, "thresholds", None)
        if thresholds is None or found.scores is None:
            return found
        return found.keep(found.scores >= torch.tensor(thresholds)[found.labels])

    def _none(self) -> Annotations:
        """Annotations of no images."""
        if isinstance(self.task, Classifying):
            return Classifications(labels=torch.empty(0, dtype=torch.int64), scores=torch.empty(0, len(self.classes)))
        return replace(InstanceSets.of([]), scores=torch.empty(0))


def embed_images(extractor: "Extractor", sources: Iterable[Source] | Source, *, batch: int = BATCH) -> Embedded:
    """Embed images of any kind; see `Model.embed`."""
    names: list[str] = []
    parts = [np.empty((0, extractor.dimension), dtype=np.float32)]
    failed: list[Failed] = []
    for chunk in _chunks(sources, extractor.preprocessing, batch):
        failed += chunk.failed
        if chunk.pixels:
            names += chunk.names
            pixels = extractor.preprocessing.normalise(np.stack(chunk.pixels))
            parts.append(extractor(torch.from_numpy(pixels)).cpu().numpy())
    return Embedded(values=np.concatenate(parts), sources=tuple(names), layer=extractor.layer, failed=tuple(failed))


def predict_each(model: Model, sources: Iterable[Source], answer: Callable[[Pixels], Instances]) -> Predictions:
    """Predict images one by one, each at its full size, in another way than `Model.predict`.

    Args:
        model: whose answers they are.
        sources: as of `Model.predict`.
        answer: from (H, W, 1 or 3) uint8 to the objects of the image, in its pixels.
    """
    names: list[str] = []
    sizes: list[tuple[int, int]] = []
    found: list[Instances] = []
    failed: list[Failed] = []
    for number, source in enumerate(sources):
        name = name_of(number, source)
        try:
            image = pixels_of(source, name)
        except DataError as error:
            failed.append(Failed(source=name, error=str(error)))
            continue
        names.append(name)
        sizes.append((image.shape[0], image.shape[1]))
        found.append(answer(image))
    if failed:
        warnings.warn(f"{len(failed)} inputs could not be read; `failed` names them", stacklevel=3)
    return Predictions(
        model=str(model.path),
        classes=model.classes,
        sources=tuple(names),
        sizes=tuple(sizes),
        annotations=InstanceSets.of(found),
        failed=tuple(failed),
    )


def name_of(number: int, source: Source) -> str:
    """What predictions call the image that stands at ``number``: its path, or its place where it has none."""
    return str(source) if isinstance(source, str | os.PathLike) else f"image {number}"


def _chunks(sources: Iterable[Source] | Source, preprocessing: Preprocessing, batch: int) -> Iterator[_Chunk]:
    """Batches of read images, in order; large files are read by threads, some batches ahead."""
    if isinstance(sources, str | os.PathLike | bytes | Image.Image | np.ndarray | Tensor):
        sources = [sources]
    numbered = enumerate(sources)
    ahead = max(1, os.cpu_count() or 1)
    waiting: deque[Future[_Chunk]] = deque()
    with ThreadPoolExecutor() as pool:
        while True:
            while len(waiting) < ahead and (chunk := list(islice(numbered, batch))):
                if not waiting and not _large(chunk[0][1]):  # the first speaks for its batch
                    yield _read(chunk, preprocessing)
                else:
                    waiting.append(pool.submit(_read, chunk, preprocessing))
            if not waiting:
                return
            yield waiting.popleft().result()


def _read(sources: list[tuple[int, Source]], preprocessing: Preprocessing) -> _Chunk:
    """Read and preprocess numbered sources."""
    chunk = _Chunk(names=[], sizes=[], pixels=[], failed=[])
    with quiet:
        for number, source in sources:
            name = name_of(number, source)
            try:
                image = pixels_of(source, name)
                chunk.pixels.append(preprocessing.pixels(image))
                chunk.sizes.append((image.shape[0], image.shape[1]))
                chunk.names.append(name)
            except DataError as error:
                chunk.failed.append(Failed(source=name, error=str(error)))
    return chunk


def _large(source: Source) -> bool:
    """Whether decoding takes long enough to be worth a thread: threads that only hold Python's lock slow each other."""
    try:
        return not isinstance(source, str | os.PathLike) or Path(source).stat().st_size > LARGE
    except (OSError, ValueError):
        return False


def load(path: str | os.PathLike[str], *, device: str = "auto") -> Model:
    """A trained model from a run folder or a model file.

    Raises:
        ModelFileError: missing, truncated, a pickle, another schema, or tensors that do not fit.
    """
    where = Path(path)
    file = RunFolder(where).model if is_run(where) else where
    task, card = read_model(file)
    return Model(task, card, where, device_of(device))


def pixels_of(source: Source, name: str) -> Pixels:
    """Any kind of image as (H, W, 1 or 3) uint8.

    Raises:
        DataError: unreadable, or an array or tensor of another shape or type.
    """
    if isinstance(source, bytes):
        return decode(source, name)
    if isinstance(source, Image.Image):
        return from_picture(source, name)
    if isinstance(source, Tensor):
        array = source.detach().cpu()
        if array.ndim != 3 or array.shape[0] not in (1, 3) or 0 in array.shape:
            raise DataError(f"{name} is a tensor of shape {tuple(array.shape)}; expected (1 or 3, height, width).")
        if array.is_floating_point():
            if not (float(array.min()) >= 0 and float(array.max()) <= 1):  # written so that not-a-number is refused too
                raise DataError(f"{name} is a float tensor outside 0 to 1: give images before any normalisation.")
            array = (array * 255).round().to(torch.uint8)
        if array.dtype != torch.uint8:
            raise DataError(f"{name} has the type {array.dtype}; expected uint8 from 0 to 255, or float from 0 to 1.")
        return np.ascontiguousarray(array.permute(1, 2, 0).numpy())
    if isinstance(source, np.ndarray):
        array = source[:, :, None] if source.ndim == 2 else source
        if array.ndim != 3 or array.shape[2] not in (1, 3) or 0 in array.shape:
            raise DataError(f"{name} is an array of shape {source.shape}; expected (height, width[, 1 or 3]).")
        if array.dtype != np.uint8:
            raise DataError(f"{name} has the type {array.dtype}; expected uint8 from 0 to 255.")
        return np.ascontiguousarray(array)
    try:
        path = os.fspath(source)
    except TypeError as error:
        raise DataError(
            f"{name} is of the type {type(source).__name__}; expected a path, bytes or an image."
        ) from error
    return read_image(path)


def expand(sources: Sequence[str]) -> list[str | bytes]:
    """What a person typed, as images: files, folders (all images below, sorted), globs, ``-`` for standard input.

    Raises:
        UsageError: a URL, which is never fetched; a folder or pattern without images.
    """
    found: list[str | bytes] = []
    for source in sources:
        path = Path(source)
        if source == "-":
            found.append(sys.stdin.buffer.read())
        elif "://" in source:
            raise UsageError(
                f"{source} is a URL, and striate fetches nothing by itself: download it and give the file."
            )
        elif path.is_dir():
            inside = sorted(str(file) for file in path.rglob("*") if _is_image(file, path))
            if not inside:
                raise UsageError(f"the folder {source} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}).")
            found += inside
        elif path.exists():
            found.append(source)
        elif glob.has_magic(source):
            matches = sorted(file for file in glob.glob(source, recursive=True) if Path(file).is_file())  # noqa: PTH207
            if not matches:
                raise UsageError(f"nothing matches {source!r}.")
            found += matches
        else:
            found.append(source)  # it is not there, and will be listed as failed
    return found


def _is_image(file: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(root).parts)
    return not hidden and file.suffix.lower() in IMAGE_SUFFIXES and file.is_file()
