"""The embeddings file: what a network makes of many images, in one ``.safetensors`` with one JSON document.

docs/embeddings.md describes the format. The embeddings are mapped from the file, not read: opening takes no time, and
the first search brings them into memory.

Letters: N images, D features, Q queries, k neighbours.
"""

import json
import os
from collections.abc import Sequence
from copy import copy
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from striate.data.images import ImageFiles
from striate.data.preprocess import Pixels, Preprocessing
from striate.errors import DataError, ModelFileError, StriateError, UsageError, did_you_mean
from striate.runs.neighbours import MANY, Floats, Neighbours, approximate, index_path, nearest, open_index

if TYPE_CHECKING:
    from striate.data.dataset import Images
    from striate.engine.log import Display
    from striate.runs.clusters import Clusters
    from striate.runs.features import Extractor
    from striate.runs.model import Source

SCHEMA, VERSION = "striate.embeddings", 1
METADATA = "striate"  # key of the document, as in a model file
TOP = 12
TENSORS = {"embeddings": ("F32", 2), "norms": ("F32", 1), "labels": ("I64", 1), "rows": ("I64", 1), "ids": ("U8", 1)}
TYPES = {"F32": np.dtype("<f4"), "I64": np.dtype("<i8"), "U8": np.dtype("u1")}


@dataclass(frozen=True, kw_only=True)
class About:
    """What an embeddings file says about itself."""

    model: str  # absolute path of a run folder or model file, or a name such as "resnet50"
    weights: str | None = None  # of a named network: absolute path, or the name of an official checkpoint
    origin: str | None = None  # whose names the weights have
    key: str  # hash over weights, layer and preprocessing: equal keys give equal embeddings
    layer: str
    preprocessing: Preprocessing
    classes: tuple[str, ...] = ()  # names; empty where no image has a label
    folder: str | None = None  # that the ids are relative to; None for a data set that is no files
    data: str | None = None  # the data set that `rows` count in: a known name or an absolute path; None for files
    root: str | None = None  # folder that holds a known data set
    skipped: tuple[tuple[str, str], ...] = ()  # images that could not be read: what, why
    striate: str = ""  # version that wrote the file

    def to_json(self) -> dict[str, Any]:
        """The document in the file's metadata."""
        return {"schema": f"{SCHEMA}/{VERSION}"} | asdict(self) | {"preprocessing": self.preprocessing.to_json()}


class Embeddings:
    """Embeddings of many images, as they lie in a file.

    Attributes:
        path: of the file.
        about: what the file says about itself.
        values: (N, D) float32 as the network gave them, mapped from the file, read-only.
        norms: (N,) float32, their Euclidean lengths.
        labels: (N,) int64, indices into ``about.classes``; -1 where an image has none.
        rows: (N,) int64, row of each image in the data set.
        ids: what names each image: a path relative to ``about.folder``, or "train[12]".
    """

    def __init__(self, path: Path, about: About, arrays: dict[str, NDArray[Any]], ids: tuple[str, ...]):
        self.path = path
        self.about = about
        self.values: Floats = arrays["embeddings"]
        self.norms: Floats = arrays["norms"]
        self.labels: NDArray[np.int64] = arrays["labels"]
        self.rows: NDArray[np.int64] = arrays["rows"]
        self.ids = ids
        self.folder = about.folder
        self.root = about.root
        self._extractor: Extractor | None = None
        self._index: Any = None

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"Embeddings({str(self.path)!r}, {len(self)} x {self.dimension})"

    @property
    def dimension(self) -> int:
        """D."""
        return self.values.shape[1]

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the labels."""
        return self.about.classes

    def class_of(self, row: int) -> str | None:
        """Class name of an image, None where it has none."""
        label = int(self.labels[row])
        return None if label < 0 else self.classes[label]

    def units(self, rows: NDArray[np.int64] | slice = slice(None)) -> Floats:
        """Embeddings of length 1; those of length 0 stay zeros. (M, D) float32, a copy in memory."""
        lengths = np.maximum(self.norms[rows], np.finfo(np.float32).tiny)
        return (np.asarray(self.values[rows]) / lengths[:, None]).astype(np.float32, copy=False)

    def search(
        self,
        query: "NDArray[np.float32] | Source",
        top: int = TOP,
        *,
        approximately: bool = False,
        display: "Display | None" = None,
    ) -> Neighbours:
        """The most similar images by cosine, the most similar first.

        Args:
            query: (D,) floats; or an image of any kind (`striate.runs.model.Source`), embedded by the file's own model.
            top: k.
            approximately: among the candidates of an index, which is built beside the file when it is first used.
            display: for the progress of that.

        Raises:
            UsageError: a vector of another length, more neighbours than there are images.
            DataError: the image cannot be read.
            ModelFileError: the model is not there or is another.
        """
        if isinstance(query, np.ndarray) and np.issubdtype(query.dtype, np.floating):
            return self.search_all(query[None], top, approximately=approximately, display=display)[0]
        from striate.runs.model import embed_images

        found = embed_images(self.extractor(), [query])
        if found.failed:
            raise DataError(found.failed[0].error)
        return self.search_all(found.values, top, approximately=approximately, display=display)[0]

    def search_all(
        self, queries: NDArray[Any], top: int = TOP, *, approximately: bool = False, display: "Display | None" = None
    ) -> list[Neighbours]:
        """The same for (Q, D) queries at once."""
        if queries.ndim != 2 or queries.shape[1] != self.dimension:
            raise UsageError(
                f"a query has {queries.shape[-1] if queries.ndim else 0} features, but {self.path} holds embeddings of "
                f"{self.dimension}: embed it with the same model and layer ({self.about.layer})."
            )
        if not np.isfinite(queries).all():
            raise UsageError("a query holds numbers that are not finite.")
        self.check_top(top)
        vectors = queries.astype(np.float32)
        if not approximately:
            return nearest(self.values, self.norms, vectors, top)
        if self._index is None:
            from striate.engine.log import Display

            file = index_path(self.path, self.about.key, self.norms)
            self._index = open_index(file, self.values, display=display or Display(quiet=True))
        return approximate(self._index, self.values, vectors, top)

    def check_top(self, top: int) -> None:
        """Raise `UsageError` where there are not so many images."""
        if not 1 <= top <= len(self):
            raise UsageError(f"{top} neighbours were asked for, but {self.path} holds {len(self):,} images (--top).")

    def cluster(self, count: int | None = None, *, seed: int = 0) -> "Clusters":
        """Clusters by k-means; see `striate.runs.clusters.cluster_embeddings`."""
        from striate.runs.clusters import cluster_embeddings

        return cluster_embeddings(self, count, seed=seed)

    @property
    def many(self) -> bool:
        """Whether there are so many that an index is worth its time."""
        return len(self) >= MANY

    def extractor(
        self, *, model: str | None = None, weights: str | None = None, origin: str | None = None, device: str = "auto"
    ) -> "Extractor":
        """The network that made the embeddings, at their layer, with their preprocessing.

        Args:
            model: where the model lies now; where it lay when left out.
            weights: where the weights of a named network lie now.
            origin: whose names they have.
            device: to compute on.

        Raises:
            ModelFileError: the model is not there, or is another one than the embeddings were made with.
        """
        asked = (model, weights, origin) != (None, None, None)
        if self._extractor is not None and not asked:
            return self._extractor
        from striate.runs.embed import open_model
        from striate.runs.features import Extractor
        from striate.runs.prepare import device_of

        name = model or self.about.model
        if model is None and _gone(name):
            raise ModelFileError(
                f"{self.path} was made with the model {name}, which is not there any more: say where it is (--model)."
            )
        if model is None:
            weights, origin = weights or self.about.weights, origin or self.about.origin
            if weights and weights == self.about.weights and _gone(weights):
                raise ModelFileError(
                    f"{self.path} was made with the weights {weights}, which are not there any more: say where they "
                    "are (--weights)."
                )
        what = name if weights is None else f"{name} with the weights {weights}"
        network = open_model(name, weights=weights, origin=origin).network
        other = ModelFileError(
            f"{self.path} was not made with {what} as it is now: what one model embeds cannot be compared with what "
            f"another does. It was made with {self.about.model}"
            + (f" and the weights {self.about.weights}" if self.about.weights else "")
            + f", layer {self.about.layer}: name that model (--model), or embed the images anew: "
            f"striate embed {name} ... --out {self.path.name}"
        )
        preprocessing = self.about.preprocessing
        if (network.channels, network.size) != (preprocessing.channels, preprocessing.size):
            raise other
        where = device_of(device)
        try:
            extractor = Extractor(network, preprocessing, layer=self.about.layer, device=where)
        except UsageError:  # a network without this layer
            raise other from None
        if extractor.key != self.about.key:
            raise other
        if not asked:
            self._extractor = extractor
        return extractor

    def located(self, root: str | Path | None) -> "Embeddings":
        """The same, with the images looked for in another folder; None leaves them where they were."""
        if root is None:
            return self
        other = copy(self)
        other.__dict__.pop("images", None)
        if self.folder is not None:
            other.folder = os.fspath(root)
        else:
            other.root = os.fspath(root)
        return other

    @cached_property
    def images(self) -> "Images":
        """Where the images lie, by row of the data set.

        Raises:
            StriateError: the data set is not there.
        """
        if self.folder is not None:
            folder = Path(self.folder)
            return ImageFiles([folder / id_ for id_ in self.ids])
        assert self.about.data is not None
        from striate.data.open import open_dataset

        return open_dataset(self.about.data, root=None if self.root is None else Path(self.root)).images

    def pictures(self, rows: Sequence[int] | NDArray[np.int64]) -> list[Pixels | None]:
        """Images by their rows in this file, (H, W, 1 or 3) uint8 each; None for those that are not there any more."""
        return [self._picture(int(row)) for row in rows]

    def _picture(self, row: int) -> Pixels | None:
        try:
            return self.images.read(self.place(row))
        except (StriateError, IndexError):  # IndexError: the data set is shorter now
            return None

    def file(self, row: int) -> str | None:
        """Where the file of an image lies, None where the images are no files."""
        return None if self.folder is None else str(Path(self.folder, self.ids[row]))

    def place(self, row: int) -> int:
        """Row of an image in `images`."""
        return row if self.folder is not None else int(self.rows[row])


def _gone(path: str) -> bool:
    """Whether a text is an absolute path, which the names of networks are not, and nothing is there any more."""
    return os.path.isabs(path) and not os.path.exists(path)  # noqa: PTH110, PTH117


def picture_path(out: Path | None, embeddings: Path, suffix: str) -> Path:
    """Where a picture or page goes: ``out``, or beside the embeddings' name in the working folder.

    Raises:
        UsageError: ``out`` is a folder, or the name of another kind of file.
    """
    path = out or Path(embeddings.stem + suffix)
    kind = Path(suffix).suffix
    if path.is_dir() or path.suffix.lower() != kind:
        raise UsageError(f"--out {path} must name a {kind} file, as in {embeddings.stem}{suffix}.")
    return path


def write_embeddings(
    path: Path,
    about: About,
    *,
    values: Floats,
    labels: NDArray[np.int64],
    rows: NDArray[np.int64],
    ids: Sequence[str],
) -> Embeddings:
    """Write an embeddings file atomically, and open it.

    Args:
        path: the file; its folder is made.
        about: what it says about itself; the version of striate is filled in.
        values: (N, D).
        labels: (N,), -1 for none.
        rows: (N,) rows in the data set.
        ids: N names.

    Raises:
        DataError: a value is not finite, or there is none.
        StriateError: the file cannot be written.
    """
    import torch

    from striate.engine.checkpoint import save_tensors

    if not len(values):
        raise DataError("there is no image to embed.")
    norms = np.sqrt(np.einsum("ij,ij->i", values, values, dtype=np.float64)).astype(np.float32)
    if not np.isfinite(norms).all():
        bad = int(np.flatnonzero(~np.isfinite(norms))[0])
        raise DataError(f"the model gives numbers that are not finite for {ids[bad]}; its weights may be damaged.")
    text = b"\0".join(id_.encode("utf-8", "surrogateescape") for id_ in ids)
    arrays: dict[str, NDArray[Any]] = {
        "embeddings": values,
        "norms": norms,
        "labels": labels,
        "rows": rows,
        "ids": np.frombuffer(bytearray(text), dtype=np.uint8),
    }
    tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
    save_tensors(path, tensors, about.to_json() | {"striate": version("striate")})
    return open_embeddings(path)


def open_embeddings(path: str | os.PathLike[str]) -> Embeddings:
    """Open an embeddings file; the embeddings themselves are mapped into memory, not read.

    Raises:
        DataError: missing, truncated, or not an embeddings file.
    """
    path = Path(path)
    if path.is_dir() or not path.exists():
        near = [str(path.parent / file.name) for file in path.parent.glob("*.embeddings")]
        state = "is a folder, not an embeddings file" if path.is_dir() else "is not there"
        raise DataError(
            f"{path} {state}.{did_you_mean(str(path), near)} 'striate embed MODEL IMAGES --out FILE' writes one."
        )
    try:
        with safe_open(path, framework="np") as file:  # checks that all tensors lie inside of the file
            metadata: dict[str, str] = file.metadata() or {}
        arrays = _mapped(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise DataError(
            f"{path} is truncated or not an embeddings file ({error}). Copy it again, or embed the images again."
        ) from error
    about = _about(path, metadata)
    wrong = [name for name in TENSORS if name not in arrays]
    if wrong:
        raise DataError(f"{path} lacks {', '.join(wrong)}: it is damaged. Embed the images again.")
    ids = tuple(arrays["ids"].tobytes().decode("utf-8", "surrogateescape").split("\0"))
    count = len(arrays["embeddings"])
    fits = (
        count > 0
        and all(len(arrays[name]) == count for name in ("norms", "labels", "rows"))
        and len(ids) == count
        and bool(np.isfinite(arrays["norms"]).all())
        and int(arrays["labels"].min()) >= -1
        and int(arrays["labels"].max()) < len(about.classes)
        and (about.folder is None) != (about.data is None)
    )
    if not fits:
        raise DataError(f"{path} is damaged: its parts do not belong together. Embed the images again.")
    return Embeddings(path, about, arrays, ids)


def _mapped(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays of a safetensors file that are of the expected type, mapped read-only; small ones are read."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = json.loads(file.read(length))
    arrays: dict[str, NDArray[Any]] = {}
    for name, (kind, dimensions) in TENSORS.items():
        entry = header.get(name)
        if entry is None or entry["dtype"] != kind or len(entry["shape"]) != dimensions or 0 in entry["shape"]:
            continue
        place = 8 + length + entry["data_offsets"][0]
        array = np.memmap(path, dtype=TYPES[kind], mode="r", offset=place, shape=tuple(entry["shape"]))
        # A plain array, not a memmap, whose operations would each make a memmap again.
        arrays[name] = np.asarray(array) if name == "embeddings" else np.array(array)
    return arrays


def _about(path: Path, metadata: dict[str, str]) -> About:
    try:
        document: dict[str, Any] = json.loads(metadata.get(METADATA, "{}"))
        schema, _, number = str(document.pop("schema", "")).rpartition("/")
        if schema != SCHEMA:
            said = f"holds {schema}" if schema else "holds tensors of another kind"
            raise DataError(
                f"{path} is no embeddings file: it {said}. 'striate embed MODEL IMAGES --out FILE' writes one."
            )
        if int(number) > VERSION:
            raise DataError(
                f"{path} has the schema {SCHEMA}/{number}; this version reads up to {SCHEMA}/{VERSION}: update it."
            )
        document["preprocessing"] = Preprocessing.from_json(document["preprocessing"])
        document["classes"] = tuple(document["classes"])
        document["skipped"] = tuple((str(source), str(reason)) for source, reason in document["skipped"])
        return About(**document)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} has a description that cannot be read: {error!r}.") from error
