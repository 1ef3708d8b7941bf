"""The binary version of CIFAR-10 and CIFAR-100 (Krizhevsky 2009; https://www.cs.toronto.edu/~kriz/cifar.html).

A record is one byte of label (CIFAR-100: a coarse one, then a fine one) and 3,072 bytes of pixels: the red, the green
and the blue plane of 32 rows of 32. Class names lie beside, one per line. Of CIFAR-100 the fine labels are the classes;
the coarse ones are a column to group by. The pickled "python version" is not read: pickles run code.
"""

import re
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from striate.core.annotations import Classifications
from striate.data.dataset import Dataset, ImageArrays, Indices
from striate.data.formats import CLASSES, Part, new_folder, parts
from striate.errors import DataError

NAME = "CIFAR binary"
EXPECTS = "a folder with data_batch_1.bin ... and test_batch.bin (CIFAR-10), or train.bin and test.bin (CIFAR-100)"
TASKS = CLASSES
HOLDS: frozenset[Part] = frozenset({"class names", "empty classes"})

_PIXELS = 3 * 32 * 32
_TEN = re.compile(r"(data_batch_[0-9]+|test_batch)\.bin")
_HUNDRED = re.compile(r"(train|test)\.bin")
_TEN_NAMES = "batches.meta.txt"
_FINE_NAMES, _COARSE_NAMES = "fine_label_names.txt", "coarse_label_names.txt"


def recognise(path: Path) -> bool:
    """A folder with files of that name."""
    return path.is_dir() and bool(_files(path)[0])


def load(path: Path) -> Dataset:
    """See `Format.load`."""
    return load_binary(path, name=path.resolve().name)


def load_binary(path: Path, *, name: str, classes: tuple[str, ...] | None = None) -> Dataset:
    """Read a folder of binary batches.

    Args:
        path: the folder.
        name: what to call the data.
        classes: class names; None: from the file of names, else the label numbers.
    """
    files, hundred = _files(path)
    batches: dict[str, list[NDArray[np.uint8]]] = {"train": [], "test": []}
    for file in files:
        batches["test" if file.name.startswith("test") else "train"].append(_records(file, 2 if hundred else 1))
    records = np.concatenate([*batches["train"], *batches["test"]])
    if not len(records):
        raise DataError(f"{path}: the files hold no images.")
    labels = records[:, 1 if hundred else 0].astype(np.int64)
    names = classes or _names(path / (_FINE_NAMES if hundred else _TEN_NAMES), int(labels.max()) + 1)
    if labels.max() >= len(names):
        raise DataError(
            f"{path}: image {int(labels.argmax())} has label {labels.max()}, but there are only {len(names)} class "
            f"names. {'It may be CIFAR-10 under the names of CIFAR-100.' if hundred else 'The file may be damaged.'}"
        )
    pixels = np.ascontiguousarray(records[:, -_PIXELS:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    groups: dict[str, list[str]] = {}
    if hundred:
        coarse = records[:, 0].tolist()
        coarse_names = _names(path / _COARSE_NAMES, max(coarse) + 1)
        if max(coarse) >= len(coarse_names):
            raise DataError(f"{path}: coarse label {max(coarse)}, but there are only {len(coarse_names)} coarse names.")
        groups["coarse"] = [coarse_names[k] for k in coarse]
    counts = {split: sum(map(len, arrays)) for split, arrays in batches.items()}
    splits: dict[str, Indices] = {}
    if counts["train"]:
        splits["train"] = np.arange(counts["train"], dtype=np.int64)
    if counts["test"]:
        splits["test"] = np.arange(counts["train"], len(records), dtype=np.int64)
    return Dataset(
        name=name,
        format=NAME,
        path=path,
        task="classification",
        classes=names,
        ids=[f"{split}[{i}]" for split, count in counts.items() for i in range(count)],
        images=ImageArrays(pixels),
        truths=Classifications(labels=torch.from_numpy(labels)),
        splits=splits,
        groups=groups,
    )


def save(dataset: Dataset, folder: Path) -> None:
    """See `Format.save`; images must be 32x32 RGB. With a group column "coarse" it is CIFAR-100's layout."""
    if len(dataset.classes) > 256:
        raise DataError(f"{dataset.name}: {NAME} holds 256 classes at most, not {len(dataset.classes)}.")
    folder = new_folder(folder)
    hundred = "coarse" in dataset.groups
    coarse_names = sorted(set(dataset.groups["coarse"])) if hundred else []
    for split, rows in parts(dataset, "train"):
        if split not in ("train", "test"):
            raise DataError(f"{dataset.name}: {NAME} has no place for a split {split!r}.")
        records: list[bytes] = []
        for row in map(int, rows):
            pixels = dataset.images.read(row)
            if pixels.shape != (32, 32, 3):
                raise DataError(f"{dataset.ids[row]}: is {pixels.shape}; CIFAR holds 32x32 RGB. Save it otherwise.")
            coarse = [coarse_names.index(dataset.groups["coarse"][row])] if hundred else []
            label = int(dataset.labels[row])
            records.append(bytes([*coarse, label]) + pixels.transpose(2, 0, 1).tobytes())
        name = split if hundred else {"train": "data_batch_1", "test": "test_batch"}[split]
        (folder / f"{name}.bin").write_bytes(b"".join(records))
    if hundred:
        (folder / _COARSE_NAMES).write_text("\n".join(coarse_names) + "\n", encoding="utf-8")
    (folder / (_FINE_NAMES if hundred else _TEN_NAMES)).write_text("\n".join(dataset.classes) + "\n", encoding="utf-8")


def _files(path: Path) -> tuple[list[Path], bool]:
    """The batches in order, and whether they are of CIFAR-100."""
    names = [entry.name for entry in path.iterdir()]
    ten = [name for name in names if _TEN.fullmatch(name)]
    hundred = [name for name in names if _HUNDRED.fullmatch(name)]
    chosen = ten or hundred
    by_number = sorted(chosen, key=lambda name: (name.startswith("test"), len(name), name))
    return [path / name for name in by_number], not ten and bool(hundred)


def _records(file: Path, label_bytes: int) -> NDArray[np.uint8]:
    try:
        data = np.frombuffer(file.read_bytes(), dtype=np.uint8)
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}). Check its permissions.") from error
    size = label_bytes + _PIXELS
    if len(data) % size:
        raise DataError(
            f"{file}: {len(data):,} bytes are no whole number of records of {size:,} bytes; it is truncated or another "
            "kind of file. Copy it again from its source."
        )
    return data.reshape(-1, size)


def _names(file: Path, count: int) -> tuple[str, ...]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return tuple(str(k) for k in range(count))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read ({error}). Expected one class name per line.") from error
    return tuple(line.strip() for line in text.splitlines() if line.strip())
