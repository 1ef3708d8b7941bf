"""Data sets that are known by name: where their files lie, what their classes are called, what their licence is.

Files are read from a local root by our own formats. Only when asked are they downloaded, by torchvision, which knows
the addresses and checks the sums; its pickled form of CIFAR is never used.
"""

import csv
import importlib
import json
import string
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from striate.core.annotations import Classifications
from striate.data.dataset import Dataset, ImageArrays, Indices
from striate.data.formats import cifar, folder, idx
from striate.data.images import ImageFiles
from striate.data.samples import digits, scenes
from striate.errors import DataError, UsageError

Rows = list[tuple[Path, int, str]]  # file, label, split

DEFAULT_ROOT = Path("data")


@dataclass(frozen=True, kw_only=True)
class Known:
    """A published data set."""

    licence: str
    source: str  # the authors' page
    megabytes: int  # to download
    places: tuple[str, ...]  # folders below the root, the root itself is ""; ours first, then torchvision's
    marker: str  # a glob that finds something in the folder in which the files lie
    read: Callable[[Path], Dataset]
    fetch: Callable[[Path], object]  # downloads into one of the places below a root


def load(name: str, *, root: Path | None = None, download: bool = False) -> Dataset:
    """Open a data set by its name.

    Args:
        name: one of `NAMES`.
        root: the folder with the raw files, or one above it, as torchvision lays them out; None: ``data``.
        download: fetch the files into the root if they are not there.

    Raises:
        UsageError: what ships with the package was given a root or a download.
        DataError: the files are not there, are damaged, or could not be fetched.
    """
    if name in SAMPLES:
        if root is not None or download:
            raise UsageError(f"{name} ships with the package and takes neither --root nor --download.")
        return SAMPLES[name]()
    known, root = _KNOWN[name], DEFAULT_ROOT if root is None else root
    other = root.resolve().name
    if other != name and other in _KNOWN:
        raise DataError(f"{root}: by its name the folder is {other}, not {name}. Give {name} its own folder as --root.")
    place = _find(known, root)
    if place is None and download:
        try:
            root.mkdir(parents=True, exist_ok=True)
            known.fetch(root)
        except Exception as error:  # the network, the disk, a wrong sum, an archive
            raise DataError(
                f"{name}: the download into {root} failed ({error}). Fetch it from {known.source} by hand and name its "
                "folder with --root."
            ) from error
        place = _find(known, root)
    if place is None:
        looked = ", ".join(str(root / place) for place in known.places)
        raise DataError(
            f"{name}: its files ({known.marker}) are not there; looked in {looked}. Name their folder with --root, or "
            f"let --download fetch {known.megabytes:,} MB ({known.source}; licence: {known.licence})."
            f"{_pickled(name, root)}"
        )
    return replace(known.read(place), name=name, licence=known.licence)


def is_there(name: str, root: Path | None = None) -> bool:
    """Whether a known data set can be loaded without a download: its files lie below the root, or with striate."""
    return name in SAMPLES or _find(_KNOWN[name], root or DEFAULT_ROOT) is not None


def _find(known: Known, root: Path) -> Path | None:
    for place in known.places:
        if (root / place).is_dir() and next((root / place).glob(known.marker), None) is not None:
            return root / place
    return None


def _pickled(name: str, root: Path) -> str:
    for part in ("cifar-10-batches-py", "cifar-100-python"):
        if name in ("cifar10", "cifar100") and ((root / part).is_dir() or root.name == part):
            return f" {part} is the pickled version, and pickles run code: the binary version is needed."
    return ""


def _torchvision(name: str) -> Any:
    """One of torchvision's data set classes; the import takes seconds."""
    return getattr(importlib.import_module("torchvision.datasets"), name)


def _mnist_like(
    *, torchvision: str, classes: tuple[str, ...], licence: str, source: str, megabytes: int, name: str
) -> Known:
    return Known(
        licence=licence,
        source=source,
        megabytes=megabytes,
        places=("", name, f"{torchvision}/raw"),
        marker="train-images[-.]idx3-ubyte*",
        read=lambda path: idx.load_family(path, name=name, stem="", classes=classes),
        fetch=lambda root: _torchvision(torchvision)(str(root), download=True),
    )


def _emnist(part: str, classes: tuple[str, ...]) -> Known:
    def read(path: Path) -> Dataset:
        first = 1 if part == "letters" else 0  # EMNIST counts letters from 1
        dataset = idx.load_family(path, name=part, stem=f"emnist-{part}-", classes=("",) * first + classes)
        pixels = dataset.images
        assert isinstance(pixels, ImageArrays)
        return replace(
            dataset,
            classes=classes,
            # The files hold columns where MNIST holds rows (Cohen et al. 2017, from MATLAB).
            images=ImageArrays(np.ascontiguousarray(pixels.pixels.swapaxes(1, 2))),
            truths=Classifications(labels=dataset.truths.labels - first),
        )

    return Known(
        licence="none stated by its authors; derived from NIST Special Database 19",
        source="https://www.nist.gov/itl/products-and-services/emnist-dataset",
        megabytes=562,
        places=("", f"emnist-{part}", "emnist", "EMNIST/raw"),
        marker=f"emnist-{part}-train-images[-.]idx3-ubyte*",
        read=read,
        fetch=lambda root: _torchvision("EMNIST")(str(root), split=part, download=True),
    )


def _cifar(name: str, *, archive: str, md5: str, folder_name: str, marker: str, classes: tuple[str, ...]) -> Known:
    def fetch(root: Path) -> None:
        utils = importlib.import_module("torchvision.datasets.utils")
        utils.download_and_extract_archive(f"https://www.cs.toronto.edu/~kriz/{archive}", str(root), md5=md5)

    return Known(
        licence="none stated by its authors",
        source="https://www.cs.toronto.edu/~kriz/cifar.html",
        megabytes=170,
        places=("", name, folder_name),
        marker=marker,
        read=lambda path: cifar.load_binary(path, name=name, classes=classes),
        fetch=fetch,
    )


def _arrays(path: Path, classes: tuple[str, ...], parts: dict[str, tuple[NDArray[np.uint8], NDArray[Any]]]) -> Dataset:
    """A data set of arrays, split -> ((N, H, W, 3) pixels, (N,) labels)."""
    counts = {split: len(labels) for split, (_, labels) in parts.items()}
    bounds = np.cumsum([0, *counts.values()])
    labels = np.concatenate([labels for _, labels in parts.values()]).astype(np.int64)
    if labels.min() < 0 or labels.max() >= len(classes):
        raise DataError(f"{path}: labels run from {labels.min()} to {labels.max()}, expected {len(classes)} classes.")
    splits: dict[str, Indices] = {
        split: np.arange(bounds[k], bounds[k + 1], dtype=np.int64) for k, split in enumerate(counts)
    }
    return Dataset(
        name=path.name,
        format="arrays",
        path=path,
        task="classification",
        classes=classes,
        ids=[f"{split}[{i}]" for split, count in counts.items() for i in range(count)],
        images=ImageArrays(np.concatenate([pixels for pixels, _ in parts.values()])),
        truths=Classifications(labels=torch.from_numpy(labels)),
        splits=splits,
    )


def _svhn(path: Path) -> Dataset:
    parts: dict[str, tuple[NDArray[np.uint8], NDArray[Any]]] = {}
    for split in ("train", "test"):
        matrices = _matlab(path / f"{split}_32x32.mat", ("X", "y"))
        # (32, 32, 3, N); the digit 0 has the label 10
        parts[split] = np.ascontiguousarray(matrices["X"].transpose(3, 0, 1, 2)), matrices["y"].ravel() % 10
    return _arrays(path, tuple(string.digits), parts)


def _matlab(file: Path, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Matrices of a MATLAB 5 file (data only, no code)."""
    try:
        scipy_io = importlib.import_module("scipy.io")
    except ImportError as error:
        raise DataError(f"{file}: reading MATLAB files needs SciPy: pip install scipy") from error
    try:
        matrices = scipy_io.loadmat(file, variable_names=names)
        return {name: matrices[name] for name in names}
    except Exception as error:  # the parser raises what it likes on a damaged file
        raise DataError(f"{file}: cannot be read ({error}). Copy it again from its source.") from error


def _stl10(path: Path) -> Dataset:
    parts: dict[str, tuple[NDArray[np.uint8], NDArray[Any]]] = {}
    for split in ("train", "test"):
        try:
            pixels = np.fromfile(path / f"{split}_X.bin", dtype=np.uint8)
            labels = np.fromfile(path / f"{split}_y.bin", dtype=np.uint8)
        except OSError as error:
            raise DataError(f"{error.filename}: cannot be read ({error.strerror}).") from error
        if len(pixels) != len(labels) * 3 * 96 * 96:
            raise DataError(f"{path / f'{split}_X.bin'}: {len(pixels):,} bytes do not fit {len(labels):,} labels.")
        # planes of columns; labels count from 1
        parts[split] = np.ascontiguousarray(pixels.reshape(-1, 3, 96, 96).transpose(0, 3, 2, 1)), labels - 1
    return _arrays(path, _STL10, parts)


def _files(path: Path, form: str, classes: Iterable[str], rows: Rows) -> Dataset:
    rows = sorted(rows)
    splits: dict[str, Indices] = {}
    for split in ("train", "val", "test"):
        members = [i for i, row in enumerate(rows) if row[2] == split]
        if members:
            splits[split] = np.array(members, dtype=np.int64)
    return Dataset(
        name=path.name,
        format=form,
        path=path,
        task="classification",
        classes=tuple(classes),
        ids=[file.relative_to(path).as_posix() for file, _, _ in rows],
        images=ImageFiles([file for file, _, _ in rows]),
        truths=Classifications(labels=torch.tensor([label for _, label, _ in rows], dtype=torch.int64)),
        splits=splits,
    )


def _annotated(read: Callable[[Path], Dataset]) -> Callable[[Path], Dataset]:
    """Name the folder when one of its annotation files is missing or not what it should be."""

    def guarded(path: Path) -> Dataset:
        try:
            return read(path)
        except (OSError, ValueError, KeyError, IndexError) as error:
            raise DataError(
                f"{path}: its annotations cannot be read ({error}). Copy it again from its source."
            ) from error

    return guarded


def _flowers102(path: Path) -> Dataset:
    sets = _matlab(path / "setid.mat", ("trnid", "valid", "tstid"))
    labels = _matlab(path / "imagelabels.mat", ("labels",))["labels"].ravel()
    rows: Rows = []
    for split, key in (("train", "trnid"), ("val", "valid"), ("test", "tstid")):
        for number in sets[key].ravel().tolist():
            rows.append((path / "jpg" / f"image_{number:05d}.jpg", int(labels[number - 1]) - 1, split))
    return _files(path, "Flowers-102", _torchvision("Flowers102").classes, rows)


def _food101(path: Path) -> Dataset:
    rows: Rows = []
    meta = {split: json.loads((path / "meta" / f"{split}.json").read_text()) for split in ("train", "test")}
    classes = sorted(meta["train"])
    for split, members in meta.items():
        for label, names in members.items():
            rows += [(path / "images" / f"{name}.jpg", classes.index(label), split) for name in names]
    return _files(path, "Food-101", classes, rows)


def _oxford_pets(path: Path) -> Dataset:
    rows: Rows = []
    names: dict[int, str] = {}
    for split, file in (("train", "trainval.txt"), ("test", "test.txt")):
        for line in (path / "annotations" / file).read_text().splitlines():
            image, label = line.split()[:2]
            names[int(label) - 1] = image.rsplit("_", 1)[0]
            rows.append((path / "images" / f"{image}.jpg", int(label) - 1, split))
    return _files(path, "Oxford-IIIT Pet", (names[k] for k in range(len(names))), rows)


def _gtsrb(path: Path) -> Dataset:
    rows: Rows = [(file, int(file.parent.name), "train") for file in (path / "GTSRB" / "Training").glob("*/*.ppm")]
    with (path / "GT-final_test.csv").open(newline="") as file:
        for line in csv.DictReader(file, delimiter=";", skipinitialspace=True):
            rows.append((path / "GTSRB" / "Final_Test" / "Images" / line["Filename"], int(line["ClassId"]), "test"))
    classes = sorted({label for _, label, _ in rows})
    if classes != list(range(len(classes))):
        raise DataError(f"{path}: the classes {classes} are not 0 to {len(classes) - 1}; some folders are missing.")
    return _files(path, "GTSRB", map(str, classes), rows)


def _dtd(path: Path) -> Dataset:
    lines = {
        split: (path / "dtd" / "labels" / f"{split}1.txt").read_text().split() for split in ("train", "val", "test")
    }
    classes = sorted({name.split("/")[0] for names in lines.values() for name in names})
    rows = [
        (path / "dtd" / "images" / name, classes.index(name.split("/")[0]), split)
        for split, names in lines.items()
        for name in names
    ]
    return _files(path, "DTD, partition 1 of 10", classes, rows)


def _tree(
    torchvision: str,
    *,
    licence: str,
    source: str,
    megabytes: int,
    places: tuple[str, ...],
    marker: str,
    read: Callable[[Path], Dataset],
    splits: tuple[str, ...] = ("train",),
) -> Known:
    """A data set of image files in the layout that torchvision makes; ``splits``: those it downloads one by one."""

    def fetch(root: Path) -> None:
        for split in splits:
            _torchvision(torchvision)(str(root), split=split, download=True)
        if not splits:
            _torchvision(torchvision)(str(root), download=True)

    return Known(
        licence=licence,
        source=source,
        megabytes=megabytes,
        places=places,
        marker=marker,
        read=_annotated(read),
        fetch=fetch,
    )


_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_STL10 = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
_FASHION = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
# Transcribed, as in the data set's paper (Clanuwat et al. 2018).
_KMNIST = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
# fine_label_names.txt
_CIFAR100_NAMES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man
    maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree
    plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail
    snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout
    tulip turtle wardrobe whale willow_tree wolf woman worm
"""
_CIFAR100 = tuple(_CIFAR100_NAMES.split())
# The letters whose capital looks the same are merged (Cohen et al. 2017, section II).
_MERGED = tuple(sorted(string.digits + string.ascii_uppercase + "abdefghnqrt"))

_KNOWN: dict[str, Known] = {
    "mnist": _mnist_like(
        name="mnist",
        torchvision="MNIST",
        classes=tuple(string.digits),
        licence="CC BY-SA 3.0",
        source="http://yann.lecun.com/exdb/mnist/",
        megabytes=12,
    ),
    "fashion-mnist": _mnist_like(
        name="fashion-mnist",
        torchvision="FashionMNIST",
        classes=_FASHION,
        licence="MIT",
        source="https://github.com/zalandoresearch/fashion-mnist",
        megabytes=31,
    ),
    "kmnist": _mnist_like(
        name="kmnist",
        torchvision="KMNIST",
        classes=_KMNIST,
        licence="CC BY-SA 4.0",
        source="http://codh.rois.ac.jp/kmnist/",
        megabytes=21,
    ),
    "emnist-balanced": _emnist("balanced", _MERGED),
    "emnist-bymerge": _emnist("bymerge", _MERGED),
    "emnist-byclass": _emnist("byclass", tuple(sorted(string.digits + string.ascii_letters))),
    "emnist-letters": _emnist("letters", tuple(string.ascii_lowercase)),
    "emnist-digits": _emnist("digits", tuple(string.digits)),
    "cifar10": _cifar(
        "cifar10",
        archive="cifar-10-binary.tar.gz",
        md5="c32a1d4ab5d03f1284b67883e8d87530",
        folder_name="cifar-10-batches-bin",
        marker="data_batch_1.bin",
        classes=_CIFAR10,
    ),
    "cifar100": _cifar(
        "cifar100",
        archive="cifar-100-binary.tar.gz",
        md5="03b5dce01913d631647c71ecec9e9cb8",
        folder_name="cifar-100-binary",
        marker="train.bin",
        classes=_CIFAR100,
    ),
    "svhn": _tree(
        "SVHN",
        licence="for non-commercial use only",
        source="http://ufldl.stanford.edu/housenumbers/",
        megabytes=246,
        places=("", "svhn"),
        marker="train_32x32.mat",
        read=_svhn,
        splits=("train", "test"),
    ),
    "stl10": _tree(
        "STL10",
        licence="none stated by its authors; images of ImageNet",
        source="https://cs.stanford.edu/~acoates/stl10/",
        megabytes=2640,
        places=("", "stl10", "stl10_binary"),
        marker="train_X.bin",
        read=_stl10,
    ),
    "flowers102": _tree(
        "Flowers102",
        licence="none stated by its authors",
        source="https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
        megabytes=345,
        places=("", "flowers102", "flowers-102"),
        marker="setid.mat",
        read=_flowers102,
    ),
    "food101": _tree(
        "Food101",
        licence="none: photos of Foodspotting's users, for research only",
        source="https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/",
        megabytes=5000,
        places=("", "food101", "food-101"),
        marker="meta/train.json",
        read=_food101,
    ),
    "oxford-pets": _tree(
        "OxfordIIITPet",
        licence="CC BY-SA 4.0",
        source="https://www.robots.ox.ac.uk/~vgg/data/pets/",
        megabytes=811,
        places=("", "oxford-pets", "oxford-iiit-pet"),
        marker="annotations/trainval.txt",
        read=_oxford_pets,
        splits=("trainval",),
    ),
    "eurosat": _tree(
        "EuroSAT",
        licence="MIT",
        source="https://github.com/phelber/EuroSAT",
        megabytes=94,
        places=("", "eurosat"),
        marker="2750",
        read=lambda path: folder.load(path / "2750"),
        splits=(),
    ),
    "gtsrb": _tree(
        "GTSRB",
        licence="none stated by its authors",
        source="https://benchmark.ini.rub.de/gtsrb_dataset.html",
        megabytes=276,
        places=("", "gtsrb"),
        marker="GTSRB/Training",
        read=_gtsrb,
        splits=("train", "test"),
    ),
    "dtd": _tree(
        "DTD",
        licence="for research only",
        source="https://www.robots.ox.ac.uk/~vgg/data/dtd/",
        megabytes=625,
        places=("", "dtd"),
        marker="dtd/labels/train1.txt",
        read=_dtd,
    ),
}

SAMPLES: dict[str, Callable[[], Dataset]] = {  # what ships with the package
    "digits": digits.load,
    "scenes": scenes.load,
    "scenes-one": partial(scenes.load, "scenes-one"),
    "scenes-card": partial(scenes.load, "scenes-card"),
}

NAMES = MappingProxyType(
    dict.fromkeys(SAMPLES, digits.LICENCE) | {name: known.licence for name, known in _KNOWN.items()}
)
