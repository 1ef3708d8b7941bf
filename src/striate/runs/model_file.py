"""The model file: one ``.safetensors`` that holds weights and everything that prediction needs.

The metadata's key ``striate`` holds one JSON document, the card. No pickle is ever read.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from striate.data.preprocess import Preprocessing
from striate.engine.checkpoint import METADATA, copied, save_tensors
from striate.errors import ModelFileError, UsageError
from striate.models.contract import Classifier
from striate.models.heads import Head, replace_head
from striate.models.weights import fit
from striate.tasks.catalog import build_network, build_task
from striate.tasks.task import Task

SCHEMA, VERSION = "striate.model", 1


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a model file says about itself."""

    model: str  # catalog name or layer pattern
    backbone: str | None = None  # of a detector
    channels: int
    size: tuple[int, int]  # height, width
    task: dict[str, Any]  # as `Task.to_json`
    preprocessing: Preprocessing
    metrics: dict[str, Any] = field(default_factory=dict[str, Any])  # {split, epoch, values}
    data: dict[str, Any] = field(default_factory=dict[str, Any])  # {name, source, root, split, licence, fingerprints}
    head: dict[str, Any] | None = None  # as `striate.models.heads.Head`; None: the model's own
    frozen: list[str] = field(default_factory=list[str])  # stages that training left as they were
    licence: str = "not stated"  # of the weights
    striate: str = ""  # version that wrote the file

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the labels."""
        return tuple(self.task["classes"])


def write_model(path: Path, task: Task, card: Card) -> None:
    """Write weights and card atomically."""
    document = {"schema": f"{SCHEMA}/{VERSION}"} | asdict(card) | {"preprocessing": card.preprocessing.to_json()}
    tensors = {name: copied(tensor) for name, tensor in task.network.state_dict().items()}
    save_tensors(path, tensors, document)


def read_model(path: Path) -> tuple[Task, Card]:
    """Read a model file and build its task, on the CPU, in evaluation mode.

    Raises:
        ModelFileError: missing, truncated, a pickle, another schema, or tensors that do not fit.
    """
    card, tensors = read_tensors(path)
    try:
        network = build_network(card.task, card.model, backbone=card.backbone, channels=card.channels, size=card.size)
        if card.head is not None and isinstance(network, Classifier):
            replace_head(network, Head.from_json(card.head))
        task = build_task(network, card.task)
    except (UsageError, KeyError, TypeError) as error:
        raise ModelFileError(f"{path} describes a model that this version cannot build: {error}") from error
    fit(network, tensors, str(path))
    return task.eval(), card


def read_card(path: Path) -> Card:
    """What a model file says about itself, without reading its weights.

    Raises:
        ModelFileError: see `read_model`.
    """
    return _read(path, weights=False)[0]


def read_tensors(path: Path) -> tuple[Card, dict[str, Tensor]]:
    """The card and the weights of a model file, without building the model.

    Raises:
        ModelFileError: see `read_model`.
    """
    return _read(path, weights=True)


def _read(path: Path, *, weights: bool) -> tuple[Card, dict[str, Tensor]]:
    if not path.is_file():
        raise ModelFileError(f"there is no model file {path}.")
    with path.open("rb") as file:
        head = file.read(9)
    # A safetensors file begins with eight bytes of length, which may look like anything, and a JSON object.
    if head[8:] != b"{" and (head[:2] == b"PK" or head[:1] == b"\x80"):
        raise ModelFileError(
            f"{path} is a pickle (a .pth or .pt file): reading it could run code. A model file of striate is a "
            ".safetensors, as 'striate train' writes it into the run folder."
        )
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            names = file.keys() if weights else ()
            tensors = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise ModelFileError(
            f"{path} is truncated or not a safetensors file ({error}). Copy it again, or train again."
        ) from error
    return _card(path, metadata), tensors


def _card(path: Path, metadata: dict[str, str]) -> Card:
    if METADATA not in metadata:
        raise ModelFileError(
            f"{path} holds weights but no striate card, so nothing says which model and classes they belong to."
        )
    try:
        document: dict[str, Any] = json.loads(metadata[METADATA])
        schema, _, version = str(document.pop("schema")).rpartition("/")
        if schema != SCHEMA:
            raise ModelFileError(f"{path} has the schema {schema!r}; a model file has {SCHEMA!r}.")
        if int(version) > VERSION:
            raise ModelFileError(
                f"{path} has the schema {SCHEMA}/{version}; this version reads up to {SCHEMA}/{VERSION}: update it."
            )
        document["preprocessing"] = Preprocessing.from_json(document["preprocessing"])
        document["size"] = tuple(document["size"])
        card = Card(**document)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelFileError(f"{path} has a card that cannot be read: {error!r}.") from error
    wrong = _misfits(vars(card))
    if wrong:
        raise ModelFileError(f"{path} has a card that cannot be read: {'; '.join(wrong)}.")
    return card


def _misfits(fields: dict[str, Any]) -> list[str]:
    """Fields of a card that do not hold what they must, in words."""
    task, data, size, preprocessing = (fields[name] for name in ("task", "data", "size", "preprocessing"))
    fits = {
        "model must be text, backbone too": isinstance(fields["model"], str)
        and isinstance(fields["backbone"], str | None),
        "channels must be a whole number above 0": _is_count(fields["channels"]),
        "size must be two whole numbers above 0": len(size) == 2 and all(map(_is_count, size)),
        "task must be a mapping with the task's name and its classes, texts": isinstance(task, dict)
        and isinstance(task.get("task"), str)
        and isinstance(task.get("classes"), list)
        and len(task["classes"]) >= (2 if task["task"] == "classification" else 1)
        and all(isinstance(name, str) for name in task["classes"]),
        "preprocessing must make what the model takes": preprocessing.size == size
        and preprocessing.channels == fields["channels"],
        "metrics must be a mapping": isinstance(fields["metrics"], dict),
        "data must be a mapping, its fingerprints and its split too": isinstance(data, dict)
        and all(isinstance(data.get(name) or {}, dict) for name in ("fingerprints", "split")),
        "data's source and root must be text": isinstance(data, dict)
        and all(isinstance(data.get(name) or "", str) for name in ("source", "root")),
        "head must be a mapping": isinstance(fields["head"], dict | None),
        "frozen must be a list of stages' names": isinstance(fields["frozen"], list)
        and all(isinstance(name, str) for name in fields["frozen"]),
        "licence and striate must be text": all(isinstance(fields[name], str) for name in ("licence", "striate")),
    }
    return [words for words, fit in fits.items() if not fit]


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
