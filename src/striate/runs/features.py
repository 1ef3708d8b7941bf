"""Features of a data set's images at one layer of a network, computed once and kept on disk by content.

The store is a folder per network, layer and preprocessing, named by a hash over them. Each process that computes adds
one file ``*.rows`` of records: the BLAKE2b digest of an image's content (16 bytes), the D features (little-endian
float32) and their CRC-32. A record that a killed process left half written does not fit its CRC and is passed over, so
that whoever asks next goes on where it stopped.
"""

import hashlib
import json
import os
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from striate.data.dataset import Dataset, Indices, Skipped
from striate.data.loader import Loader
from striate.data.preprocess import Preprocessing
from striate.engine.log import Display
from striate.errors import InterruptedRunError, StriateError, UsageError
from striate.models.contract import Classifier
from striate.models.features import FeatureExtractor, fold_batch_norm, last_layer
from striate.runs.prepare import evaluation_batch

VERSION = 1  # of what a key stands for: another one where decoding, resizing or folding gives other features
SYNC_EVERY = 20.0  # seconds of computing that a crash may cost
TRIED = 8  # images that the memory format is chosen on


@dataclass(frozen=True, kw_only=True)
class Features:
    """What a network makes of some images of a data set."""

    rows: Indices  # (M,) int64, rows of the data set that could be read, in the order asked for
    values: NDArray[np.float32]  # (M, D)
    skipped: tuple[Skipped, ...]  # images that could not be read
    computed: int  # images of them that were not in the cache


def embedding(network: nn.Module, name: str) -> Classifier:
    """The network, if features are taken of such; raises `UsageError` for a detector and its kin.

    Args:
        network: any.
        name: that a person gave it.
    """
    if not isinstance(network, Classifier):
        raise UsageError(
            f"{name} says where things are: images are embedded by networks that classify. Name a run of "
            "classification, or a network with weights, such as resnet50 with --weights FILE."
        )
    return network


class Extractor:
    """A network's features at one layer, as fast as this machine computes them in float32.

    Batch normalisation is folded into the convolutions. The faster memory format is found on the first batch that is
    large enough to be worth it; one image, as of a search, pays for no timing.

    Args:
        network: stays as it is.
        preprocessing: what makes its input of an image.
        layer: as of `striate.models.features.FeatureExtractor`.
        device: where it computes.

    Attributes:
        layer: where the features are taken.
        dimension: D.
        key: hash over weights, layer and preprocessing; equal keys give equal features.

    Raises:
        UsageError: there is no such layer.
    """

    def __init__(
        self, network: Classifier, preprocessing: Preprocessing, *, layer: str | None = None, device: torch.device
    ):
        self.preprocessing = preprocessing
        self.device = device
        size = (2, preprocessing.channels, *preprocessing.size)
        images = torch.randn(size, generator=torch.Generator().manual_seed(0)).to(device)
        training = network.training
        network = network.to(device).eval()
        plain = FeatureExtractor(network, layer)
        self.layer = plain.layer
        self.key = _key(network, plain.layer, preprocessing)
        folded = fold_batch_norm(network, images, keep=plain.layer)
        network.train(training)
        self._features = FeatureExtractor(folded.eval(), layer)
        with torch.inference_mode():
            self.dimension = self._features(images[:1]).shape[1]
        self._format: torch.memory_format | None = None  # None until it was timed

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """(B, D) float32 features of (B, C, H, W) preprocessed images, on the device."""
        images = images.to(self.device)
        if self._format is None and len(images) >= TRIED:
            forms = (torch.contiguous_format, torch.channels_last)
            self._format = min(forms, key=lambda form: self._seconds(images[:TRIED], form))
            self._features.to(memory_format=self._format)
        return self._features(images.contiguous(memory_format=self._format or torch.contiguous_format))

    def _seconds(self, images: Tensor, form: torch.memory_format) -> float:
        self._features.to(memory_format=form)
        images = images.contiguous(memory_format=form)
        best = float("inf")
        for _ in range(3):  # the first warms up
            started = time.perf_counter()
            self._features(images).cpu()
            best = min(best, time.perf_counter() - started)
        return best


def extract(
    extractor: Extractor,
    dataset: Dataset,
    rows: Indices,
    *,
    cache: Path | None,
    display: Display,
    what: str = "features",
    workers: int | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Features:
    """The features of some images, of which those that were computed before are read from the cache.

    Args:
        extractor: of the network and layer.
        dataset: whose images.
        rows: (N,) of them.
        cache: folder of all stores; None keeps nothing.
        display: shows the progress.
        what: is computed, for the progress.
        workers: threads that read images; one per core when left out.
        stop: asked before every batch.

    Raises:
        StriateError: the cache cannot be written.
        InterruptedRunError: `stop` said so; what was computed is in the cache.
    """
    store = None if cache is None else _Store(cache / "features" / extractor.key, extractor.dimension)
    read = dataset.images.content
    digests = [hashlib.blake2b(read(int(row)), digest_size=16).digest() for row in rows] if store is not None else []
    values = np.zeros((len(rows), extractor.dimension), dtype=np.float32)
    known = np.zeros(len(rows), dtype=np.bool_) if store is None else store.read(digests, values)
    positions = {int(rows[place]): place for place in np.flatnonzero(~known)}
    missing: Indices = np.array(list(positions), dtype=np.int64)
    size = extractor.preprocessing.size
    batches = Loader(
        dataset,
        missing,
        extractor.preprocessing,
        batch=evaluation_batch(size),
        seed=0,
        shuffle=False,
        keep=False,
        device=extractor.device,
        workers=workers,
    )
    done, started = 0, time.perf_counter()
    with ExitStack() as stack:
        add = stack.enter_context(store.adding()) if store is not None and len(missing) else None
        for batch in batches.epoch(0) if len(missing) else ():
            if stop():
                raise InterruptedRunError("interrupted")
            found = extractor(batch.images).cpu().numpy()
            places = [positions[row] for row in batch.indices.tolist()]
            values[places], known[places] = found, True
            if add is not None:
                add([digests[place] for place in places], found)
            done += len(places)
            rate = done / (time.perf_counter() - started)
            display.progress(what, done, len(missing), f"{rate:,.1f} images/s")
    display.close()
    return Features(rows=rows[known], values=values[known], skipped=tuple(batches.skipped), computed=done)


def cache_folder(setting: str) -> Path | None:
    """The folder of a setting: ``none``, a path, or ``auto``, which is the system's place for caches."""
    if setting == "none":
        return None
    if setting != "auto":
        return Path(setting).expanduser()
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "striate"


def _key(network: Classifier, layer: str, preprocessing: Preprocessing) -> str:
    """A hash over everything that decides the features: the layers, their weights, and what they are given.

    A head that comes after the layer is left out, so that another one for other classes has the same features.
    """
    stages = [stage.name for stage in network.backbone.stages]
    behind = ("auxiliary.", "head." if layer in stages else f"{last_layer(network)}.")
    total = hashlib.sha256(json.dumps([VERSION, layer, asdict(preprocessing)]).encode())
    for path, module in network.named_modules():
        if path and not f"{path}.".startswith(behind):
            leaf = repr(module) if not list(module.children()) else ""
            total.update(f"{path} {type(module).__name__} {leaf}".encode())
    for name, tensor in network.state_dict().items():
        if not name.startswith(behind):
            total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            total.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()[:32]


class _Store:
    """The features of one network and layer on disk."""

    def __init__(self, folder: Path, dimension: int):
        self.folder = folder
        self.record = np.dtype([("digest", "V16"), ("values", "<f4", (dimension,)), ("check", "<u4")])

    def read(self, digests: Sequence[bytes], values: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Fill ``values`` (N, D) where a digest is known, and say where."""
        known = np.zeros(len(digests), dtype=np.bool_)
        wanted: dict[bytes, list[int]] = {}
        for place, digest in enumerate(digests):
            wanted.setdefault(digest, []).append(place)
        for file in sorted(self.folder.glob("*.rows")):
            whole = file.stat().st_size // self.record.itemsize
            if not whole:
                continue
            records = np.memmap(file, dtype=self.record, mode="r", shape=(whole,))
            for number, digest in enumerate(records["digest"].tolist()):
                places = wanted.get(digest)
                if places and zlib.crc32(digest + records["values"][number].tobytes()) == records["check"][number]:
                    values[places], known[places] = records["values"][number], True
        return known

    def adding(self) -> "_Adding":
        """A new file of records."""
        return _Adding(self.folder, self.record)


class _Adding:
    """Writes records to a file of its own, on disk every now and then."""

    def __init__(self, folder: Path, record: "np.dtype[Any]"):
        self.folder = folder
        self.record = record
        self._file: BinaryIO | None = None
        self._synced = time.monotonic()

    def __enter__(self) -> "_Adding":
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file = (self.folder / f"{time.time_ns():x}-{os.getpid()}.rows").open("xb")
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        return self

    def __call__(self, digests: Sequence[bytes], values: NDArray[np.float32]) -> None:
        """Add records."""
        assert self._file is not None
        records = np.zeros(len(digests), dtype=self.record)
        records["values"] = values
        for number, digest in enumerate(digests):
            records["digest"][number] = np.void(digest)
            records["check"][number] = zlib.crc32(digest + records["values"][number].tobytes())
        try:
            self._file.write(records.tobytes())
            if time.monotonic() - self._synced > SYNC_EVERY:
                self._sync()
        except OSError as error:
            raise _unwritable(self.folder, error) from error

    def _sync(self) -> None:
        assert self._file is not None
        self._file.flush()
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()

    def __exit__(self, *_: object) -> None:
        assert self._file is not None
        try:
            self._sync()
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        finally:
            self._file.close()


def _unwritable(folder: Path, error: OSError) -> StriateError:
    return StriateError(
        f"the features cannot be kept in {folder} ({error.strerror}): make room, name another folder with --cache, or "
        "keep none with --cache none."
    )
