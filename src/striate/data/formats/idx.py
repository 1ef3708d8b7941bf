"""IDX, the format of MNIST and its family: one file of images and one of labels per split, gzipped or not.

A file is a big-endian header (two zero bytes, 0x08 for unsigned bytes, the number of dimensions, each dimension as
uint32) and then the values (http://yann.lecun.com/exdb/mnist/). Splits are told by the file names
(``train-images-idx3-ubyte``, ``t10k-images.idx3-ubyte.gz``). Class names are the label numbers, unless a
``classes.txt`` with one name per line lies beside.
"""

import gzip
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from striate.core.annotations import Classifications
from striate.data.dataset import Dataset, ImageArrays, Indices
from striate.data.formats import CLASSES, Part, new_folder, parts
from striate.errors import DataError

NAME = "IDX"
EXPECTS = "a folder with train-images-idx3-ubyte and train-labels-idx1-ubyte, gzipped or not"
TASKS = CLASSES
HOLDS: frozenset[Part] = frozenset({"class names", "empty classes"})

_IMAGES = re.compile(r"(?P<stem>.*?)(?P<split>train|t10k|test|val)-images[.-]idx3-ubyte(?P<gz>\.gz)?", re.IGNORECASE)
_SPLITS = {"train": "train", "t10k": "test", "test": "test", "val": "val"}
_PREFIXES = {"train": "train", "test": "t10k", "val": "val"}  # what `save` calls them


def recognise(path: Path) -> bool:
    """A folder in which a file of images lies."""
    return path.is_dir() and any(_IMAGES.fullmatch(file.name) for file in path.iterdir())


def load(path: Path) -> Dataset:
    """See `Format.load`."""
    return load_family(path, name=path.resolve().name)


def load_family(path: Path, *, name: str, stem: str | None = None, classes: tuple[str, ...] | None = None) -> Dataset:
    """Read the splits that share one stem.

    Args:
        path: the folder.
        name: what to call the data.
        stem: what the file names begin with, as ``emnist-letters-``; None where only one is there.
        classes: class names; None: from ``classes.txt``, else the label numbers.
    """
    found = [(match, file) for file in sorted(path.iterdir()) if (match := _IMAGES.fullmatch(file.name))]
    stems = sorted({match["stem"] for match, _ in found})
    if stem is None:
        if len(stems) != 1:
            raise DataError(f"{path}: holds {len(stems)} data sets ({', '.join(stems)}). Put each into its own folder.")
        stem = stems[0]
    images: dict[str, NDArray[np.uint8]] = {}
    labels: dict[str, NDArray[np.uint8]] = {}
    for match, file in found:
        split = _SPLITS[match["split"].lower()]
        if match["stem"] != stem or split in images:  # the plain file comes before its gzipped twin
            continue
        images[split] = read_idx(file, dimensions=3)
        labels[split] = read_idx(_labels_file(file), dimensions=1)
        if len(images[split]) != len(labels[split]):
            raise DataError(
                f"{file}: {len(images[split]):,} images, but {len(labels[split]):,} labels in "
                f"{_labels_file(file).name}. One of the two is of another data set or truncated."
            )
    sizes = {split: array.shape[1:] for split, array in images.items()}
    if len(set(sizes.values())) > 1:
        raise DataError(f"{path}: the splits have images of different sizes: {sizes}. They are not of one data set.")
    order = [split for split in ("train", "val", "test") if split in images]
    pixels = np.concatenate([images[split] for split in order])[..., None]
    labels_all = np.concatenate([labels[split] for split in order]).astype(np.int64)
    if not len(labels_all):
        raise DataError(f"{path}: the files hold no images.")
    names = classes or _class_names(path, int(labels_all.max()) + 1)
    if labels_all.max() >= len(names):
        row = int(labels_all.argmax())
        raise DataError(
            f"{path}: image {row} has label {labels_all[row]}, but there are only {len(names)} class names, "
            f"0 to {len(names) - 1}."
        )
    bounds = np.cumsum([0, *(len(images[split]) for split in order)])
    splits: dict[str, Indices] = {
        split: np.arange(bounds[k], bounds[k + 1], dtype=np.int64) for k, split in enumerate(order)
    }
    return Dataset(
        name=name,
        format=NAME,
        path=path,
        task="classification",
        classes=names,
        ids=[f"{split}[{i}]" for split in order for i in range(len(images[split]))],
        images=ImageArrays(pixels),
        truths=Classifications(labels=torch.from_numpy(labels_all)),
        splits=splits,
    )


def save(dataset: Dataset, folder: Path) -> None:
    """See `Format.save`; images must be grey and of one size, class numbers below 256."""
    folder = new_folder(folder)
    labels = dataset.labels
    if len(dataset.classes) > 256:
        raise DataError(f"{dataset.name}: IDX holds at most 256 classes, not {len(dataset.classes)}.")
    shapes = {dataset.images.read(i).shape for i in range(len(dataset))}
    if len(shapes) != 1 or next(iter(shapes))[2] != 1:
        raise DataError(f"{dataset.name}: IDX holds grey images of one size; here are {sorted(shapes)[:3]}.")
    for split, rows in parts(dataset, "train"):
        if split not in _PREFIXES:
            raise DataError(f"{dataset.name}: IDX has no place for a split {split!r}, only {', '.join(_PREFIXES)}.")
        pixels = np.stack([dataset.images.read(int(i))[:, :, 0] for i in rows])
        write_idx(folder / f"{_PREFIXES[split]}-images-idx3-ubyte.gz", pixels)
        write_idx(folder / f"{_PREFIXES[split]}-labels-idx1-ubyte.gz", labels[rows].astype(np.uint8))
    if dataset.classes != tuple(str(k) for k in range(len(dataset.classes))):
        (folder / "classes.txt").write_text("\n".join(dataset.classes) + "\n", encoding="utf-8")


def read_idx(path: Path, *, dimensions: int) -> NDArray[np.uint8]:
    """Read one IDX file of unsigned bytes.

    Args:
        path: gzipped if its name ends so.
        dimensions: how many are expected, 3 for images and 1 for labels.

    Returns:
        The array with the shape that the header gives; read-only.

    Raises:
        DataError: missing, not IDX, of another kind, truncated, or longer than the header says.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix.lower() == ".gz" else path.read_bytes()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: truncated or damaged gzip ({error}). Copy it again from its source.") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). It belongs to the data set.") from error
    expected = bytes((0, 0, 8, dimensions))
    if data[:4] != expected:
        raise DataError(
            f"{path}: starts with {data[:4].hex(' ') or 'nothing'}, but IDX bytes of {dimensions} dimensions start "
            f"with {expected.hex(' ')}. It is another kind of file, or truncated."
        )
    header = 4 + 4 * dimensions
    if len(data) < header:
        raise DataError(f"{path}: truncated in its header. Copy it again from its source.")
    shape = struct.unpack(f">{dimensions}I", data[4:header])
    expected_size = int(np.prod(shape, dtype=object))
    if len(data) - header != expected_size:
        raise DataError(
            f"{path}: the header says {' x '.join(map(str, shape))} = {expected_size:,} bytes, but "
            f"{len(data) - header:,} follow. Copy it again from its source."
        )
    return np.frombuffer(data, dtype=np.uint8, offset=header).reshape(shape)


def write_idx(path: Path, array: NDArray[np.uint8]) -> None:
    """Write an array of unsigned bytes as IDX, gzipped if the name ends so; the same array gives the same bytes."""
    data = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def _labels_file(images: Path) -> Path:
    """The labels that belong to a file of images, gzipped or not as they lie there."""
    name = re.sub(r"-images([.-])idx3", r"-labels\1idx1", images.name, flags=re.IGNORECASE)
    twin = name[:-3] if name.lower().endswith(".gz") else f"{name}.gz"
    return images.with_name(twin if not images.with_name(name).exists() and images.with_name(twin).exists() else name)


def _class_names(path: Path, count: int) -> tuple[str, ...]:
    try:
        text = (path / "classes.txt").read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return tuple(str(k) for k in range(count))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path / 'classes.txt'}: cannot be read ({error}). Expected one class name per line."
        ) from error
    return tuple(line.strip() for line in text.splitlines() if line.strip())
