"""Weights from files that other libraries wrote, and from our own model files."""

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from urllib.request import urlopen

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from striate.data.preprocess import Preprocessing
from striate.engine.checkpoint import METADATA
from striate.errors import ModelFileError, UsageError, did_you_mean
from striate.files import replacing
from striate.models import catalog
from striate.models.contract import Classifier, Detector
from striate.models.detectors.catalog import DETECTORS, DetectorArchitecture, create_detector, find_detector
from striate.models.features import last_layer
from striate.models.heads import Head
from striate.models.official import CHECKPOINTS, Checkpoint, checkpoints, imagenet_input
from striate.models.timm_provider import is_timm
from striate.models.timm_provider import normalisation as timm_normalisation
from striate.models.weights import from_ours, matching, to_ours
from striate.runs.folder import RunFolder, is_run
from striate.runs.model_file import Card, read_card, read_tensors

WRAPPERS = ("state_dict", "model", "model_state_dict", "model_state")  # keys under which training scripts put weights
PREFIXES = ("module.", "_orig_mod.")  # what data parallelism and compilation put before every name


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors``, ``.pth``, ``.pt`` or ``.bin`` file, on the CPU.

    A pickle is read with ``weights_only=True``, which builds tensors and plain containers and runs no code of the
    file; one that asks for more is refused.

    Raises:
        ModelFileError: missing, truncated, a pickle that asks for more than tensors, or no tensors in it.
    """
    if not path.is_file():
        raise ModelFileError(f"there is no checkpoint {path}.")
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        except (SafetensorError, OSError) as error:
            raise ModelFileError(f"{path} is truncated or not a safetensors file ({error}). Copy it again.") from error
    with path.open("rb") as file:
        magic = file.read(4)
    if not magic.startswith((b"PK", b"\x80")):  # a zip archive, or a pickle as torch wrote it before 1.6
        raise ModelFileError(
            f"{path} is {'empty' if not magic else 'no checkpoint of torch: it does not begin as one'}. Copy it again."
        )
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise ModelFileError(
            f"{path} holds more than tensors, and reading that could run code of the file: it is not read. Save the "
            "weights alone, as in safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')."
        ) from error
    except Exception as error:  # torch's reader of pickles raises almost anything on bytes that are none
        raise ModelFileError(f"{path} is cut off or damaged: torch cannot read it. Copy it again.") from error
    for wrapper in WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(wrapper), Mapping):
            found = found[wrapper]
    tensors = (
        {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
        if isinstance(found, Mapping)
        else {}
    )
    if not tensors:
        raise ModelFileError(f"{path} holds no tensors by name: expected a state dict, or one under 'state_dict'.")
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def is_official(weights: str) -> bool:
    """Whether a text is the name of an official checkpoint rather than a path."""
    origin, colon, _ = weights.partition(":")
    return bool(colon) and origin in {checkpoint.origin for checkpoint in CHECKPOINTS}


def is_ours(path: Path) -> bool:
    """Whether a file is a model file of striate, which says itself what it holds."""
    try:
        with safe_open(path, framework="pt") as file:
            return METADATA in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def licence_of(model: str, weights: str) -> str:
    """The licence of weights, as far as they say and are still there."""
    if is_official(weights):
        return official(model, weights).licence
    file = RunFolder(Path(weights)).model if is_run(Path(weights)) else Path(weights)
    return read_card(file).licence if is_ours(file) else "not stated"


def weights_file(weights: str) -> Path:
    """The file that a text names which is no official checkpoint: of a run folder, the run's model file.

    Raises:
        ModelFileError: there is nothing, a folder that is no run, or a run without a model.
    """
    path = Path(weights)
    if is_run(path):
        if not RunFolder(path).model.is_file():
            raise ModelFileError(f"the run {weights} has written no model yet: let it finish an epoch first.")
        return RunFolder(path).model
    if path.is_dir():
        raise ModelFileError(f"the folder {weights} is no run: name a run's folder, a model file or a checkpoint.")
    if not path.is_file():
        raise ModelFileError(f"there is no checkpoint {weights}.")
    return path


def expected_input(model: str, weights: str) -> Preprocessing | None:
    """The preprocessing that weights were trained with; None where nothing says so.

    A model file of striate and an official checkpoint say it themselves. Another library's weights of a network of
    ImageNet's thousand classes are taken for ImageNet's.

    Args:
        model: the network's name.
        weights: as of `create_with_weights`.
    """
    if is_official(weights):
        trained = official(model, weights)
        size, mean, std = (trained.crop, trained.crop), trained.mean, trained.std
        fraction, interpolation = trained.crop / trained.resize, trained.interpolation
    else:
        file = weights_file(weights)
        if is_ours(file):
            return read_card(file).preprocessing
        (channels, *sides), classes = catalog.published_for(model)
        size = (sides[0], sides[1])
        if classes != 1000 or channels != 3:
            return None
        if is_timm(model):
            mean, std, interpolation, fraction = timm_normalisation(model)
        else:
            usual = imagenet_input(model, size)
            mean, std, fraction, interpolation = usual.mean, usual.std, usual.crop_fraction, usual.interpolation
    return Preprocessing(
        size=size,
        channels=3,
        mean=mean,
        std=std,
        crop_fraction=fraction,
        interpolation="bicubic" if interpolation == "bicubic" else "bilinear",
    )


def official(model: str, name: str) -> Checkpoint:
    """The official checkpoint of a network, by its name, as in ``torchvision:IMAGENET1K_V1``.

    Raises:
        UsageError: naming those that there are.
    """
    known = {checkpoint.name: checkpoint for checkpoint in checkpoints(model)}
    if name not in known:
        there = f"has {', '.join(known)}.{did_you_mean(name, known)}" if known else "has none."
        raise UsageError(f"{model} has no official checkpoint {name!r}: it {there}")
    return known[name]


def fetch(checkpoint: Checkpoint, *, download: bool) -> Path:
    """The file of an official checkpoint: from torch's cache, or downloaded when asked, and checked either way.

    The cache is torch's own (`torch.hub.get_dir`), so that what torchvision has fetched is found.

    Raises:
        UsageError: it is not in the cache, and no download was asked for.
        ModelFileError: the download failed, or the file is not the published one.
    """
    path = Path(torch.hub.get_dir(), "checkpoints", checkpoint.url.rpartition("/")[2])
    if path.is_file():
        _check(
            path, checkpoint, what=str(path), mend="It is damaged or another file: take it away, and fetch it again."
        )
        return path
    if not download:
        raise UsageError(
            f"{checkpoint.name} of {checkpoint.model} is not on this machine: let --download fetch "
            f"{checkpoint.megabytes:,} MB from {checkpoint.url} (licence: {checkpoint.licence}), or put the file at "
            f"{path}."
        )
    with replacing(path) as temporary:
        try:
            with urlopen(checkpoint.url, timeout=30) as source, temporary.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
        except OSError as error:
            raise ModelFileError(
                f"the download of {checkpoint.url} failed ({error}). Fetch it by hand and put it at {path}."
            ) from error
        _check(temporary, checkpoint, what=f"what {checkpoint.url} gave", mend="Nothing was kept; try again.")
    return path


def _check(path: Path, checkpoint: Checkpoint, *, what: str, mend: str) -> None:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(checkpoint.sha256):
        raise ModelFileError(
            f"{what} is not {checkpoint.name}: its SHA-256 begins with {digest[: len(checkpoint.sha256)]}, not with "
            f"{checkpoint.sha256}. {mend}"
        )


def create_with_weights(
    name: str,
    weights: str,
    *,
    download: bool = False,
    origin: str | None,
    classes: int | None = None,
    channels: int | None = None,
    size: tuple[int, int] | None = None,
    new_head: bool = False,
    names: Sequence[str] = (),
) -> tuple[Classifier, tuple[str, ...]]:
    """Build a network, give it the weights of a file, and say what was not taken as it is.

    Args:
        name: catalog name, ``timm:NAME`` or layer pattern.
        weights: a model file of striate, a checkpoint of another library, or the name of an official checkpoint.
        download: fetch an official checkpoint that is not on this machine.
        origin: the library whose names the checkpoint has; not needed for a model file of striate.
        classes: K; the checkpoint's number when left out.
        channels: of the images; the published network's when left out.
        size: height and width of the images; the published network's when left out.
        new_head: keep fresh weights in the last layer where its number of classes differs.
        names: of the classes; of a model file of striate, the classes that it knows by these names keep their weights.

    Returns:
        The network, and a sentence for everything that was adapted or made anew.

    Raises:
        UsageError: an unknown name or origin, or an origin that is not stated and does not follow from the names.
        ModelFileError: a file that cannot be read, or weights that do not fit, in words.
    """
    made_for: tuple[int, int] | None = None
    known: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    if is_official(weights):
        checkpoint = official(name, weights)
        file, origin = fetch(checkpoint, download=download), origin or checkpoint.origin
    else:
        file = weights_file(weights)
    if is_ours(file):
        if origin not in (None, "striate"):
            raise UsageError(f"{weights} is a model file of striate, not {origin}'s: leave the origin out.")
        card, tensors = read_tensors(file)
        made_for, known = card.size, card.classes
        if card.head is not None and new_head:
            tensors, known = _with_own_head(card, tensors), ()
            left = ("the classifier fitted on its features stays behind: the network's own is made anew",)
        classes, channels, size = classes or len(card.classes), channels or card.channels, size or card.size
        origin = "striate"
    else:
        tensors = read_checkpoint(file)
        origin = origin or _origin(name, tensors, weights)
    network, notes = catalog.load_noting(
        name,
        tensors,
        where=weights,
        origin=origin,
        classes=classes,
        channels=channels,
        size=size,
        new_head=new_head,
        made_for=made_for,
    )
    if names and known and tuple(names) != known:
        notes = (*notes, _carry(network, tensors, known, names))
    return network, (*left, *notes)


def _with_own_head(card: Card, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a model file with fresh ones of the network's own head, or last layer, in place of another."""
    head = Head.from_json(card.head or {})
    fresh = catalog.create(card.model, classes=len(card.classes), channels=card.channels, size=card.size)
    place = "head." if head.stage is not None else f"{last_layer(fresh)}."
    own = {name: tensor for name, tensor in fresh.state_dict().items() if name.startswith(place)}
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(place)} | own


@torch.no_grad()
def _carry(network: Classifier, tensors: Mapping[str, Tensor], known: Sequence[str], names: Sequence[str]) -> str:
    """Give every class the weights that its name had, and fresh ones to a class without; says how many had some."""
    shared = [name for name in names if name in known]
    new = [row for row, name in enumerate(names) if name not in known]
    here, there = ([list(order).index(name) for name in shared] for order in (names, known))
    last = f"{last_layer(network)}."
    for key, tensor in network.state_dict().items():
        if key.startswith(last) and tensor.dim() and tensor.shape[0] == len(names):
            before = tensors[key]
            if len(names) == len(known) and new:  # they hold another class's
                tensor[new] = torch.randn_like(tensor[new]) * before.std()
            tensor[here] = before[there]
    return f"{len(shared)} of {len(names)} classes keep the weights that they had by their names"


def _origin(name: str, tensors: Mapping[str, Tensor], weights: str) -> str:
    """The library whose names a checkpoint has, where only one can be meant.

    Raises:
        UsageError: none or several, which would read the file in different ways.
    """
    known = catalog.find(name).origins
    fitting = matching(tensors, known)
    with torch.device("meta"):
        (channels, height, width), classes = catalog.published_for(name)
        network = catalog.create(name, classes=classes, channels=channels, size=(height, width))
    if set(tensors) <= set(network.state_dict()):
        return "striate"
    readings = {tuple(to_ours(tensors, network, known[origin])) for origin in fitting}
    if len(readings) == 1:
        return fitting[0]
    if fitting:
        raise UsageError(
            f"{weights} does not say whose names its weights have, and {' and '.join(fitting)} would read it in "
            "different ways: state the origin (--origin)."
        )
    raise ModelFileError(
        f"the names in {weights} are no {name}'s, neither striate's nor those of {' or '.join(known) or 'others'}; the "
        f"first is {next(iter(tensors))}. Is it another network's?"
    )


def save_weights(network: Classifier | Detector, path: Path, *, name: str, origin: str) -> None:
    """Write the weights of a network under the names and in the shapes of another library.

    A detector keeps its classes, K of them. Where torchvision counts background as one more (SSD, Faster R-CNN), its
    ``num_classes`` is K + 1, else K.

    Args:
        network: of the catalog; a detector around its published backbone.
        path: a ``.safetensors`` file, or a ``.pth`` as torch writes it.
        name: the network's in the catalog, or ``timm:NAME``.
        origin: ``torchvision``, ``timm``, ...: the library that shall read the file.

    Raises:
        UsageError: an unknown name or origin, a file of another kind, or a network of another name or backbone.
    """
    architecture = find_detector(name) if isinstance(network, Detector) else catalog.find(name)
    known = architecture.origins
    if origin not in known:
        there = f"one of {', '.join(known)}" if known else "none, for no other library has it"
        if isinstance(architecture, DetectorArchitecture) and not known:
            there = f"none; {', '.join(each for each in DETECTORS if DETECTORS[each].origins)} have some"
        raise UsageError(f"{name} has no names of {origin!r}: the origin is {there}.")
    if path.suffix not in (".safetensors", ".pth"):
        raise UsageError(f"{path}: weights are written as .safetensors or .pth.")
    what, create = name, catalog.create
    if isinstance(architecture, DetectorArchitecture):
        what, create = f"{name} around {architecture.backbone}, as {origin} has it", create_detector
    with torch.device("meta"):
        other = create(name, classes=network.classes, channels=network.channels, size=network.size)
    if _form(network) != _form(other):
        raise UsageError(f"the network is no {what}: its weights have other names or shapes, or it has other strides.")
    tensors = from_ours(network.state_dict(), known[origin])
    with replacing(path) as temporary:
        if path.suffix == ".safetensors":
            save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, temporary)
        else:
            torch.save(tensors, temporary)


def _form(network: nn.Module) -> dict[str, tuple[object, ...]]:
    """Shapes of the weights, and strides and dilations of the convolutions, in which two networks may differ alone."""
    convolutions = {key: layer for key, layer in network.named_modules() if isinstance(layer, nn.Conv2d)}
    shapes = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    return {**shapes, **{key: (layer.stride, layer.dilation) for key, layer in convolutions.items()}}
