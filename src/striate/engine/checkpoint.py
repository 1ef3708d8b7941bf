"""Exact resume: all that training holds, as tensors and one JSON document, in one safetensors file.

Letters: a state is captured between two steps. Whatever is not in it must follow from it.
"""

import json
import shlex
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from striate.errors import ModelFileError, StriateError
from striate.files import replacing

SCHEMA = "striate.state/1"
EPOCH, LAST = "epoch.safetensors", "last.safetensors"
METADATA = "striate"  # key of the document in a file's metadata


@dataclass(frozen=True, kw_only=True)
class State:
    """Training at one moment: tensors on the CPU, and plain values."""

    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any]  # as JSON


def save_tensors(path: Path, tensors: Mapping[str, Tensor], document: Mapping[str, Any]) -> None:
    """Write a safetensors file with a JSON document atomically; equal content gives equal bytes.

    The document is one entry of the file's metadata, because the order of several is left to chance.

    Raises:
        StriateError: it cannot be written; what was there before is intact.
    """
    try:
        with replacing(path) as temporary:
            save_file(dict(tensors), temporary, metadata={METADATA: json.dumps(document)})
    except (OSError, SafetensorError) as error:
        raise StriateError(f"cannot write {path}: {error}") from error


def copied(tensor: Tensor) -> Tensor:
    """A contiguous copy on the CPU, as a file holds it."""
    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's buffers, named ``optimizer.<parameter's number>.<buffer>``."""
    return {
        f"optimizer.{number}.{key}": copied(value)
        for number, buffers in optimizer.state_dict()["state"].items()
        for key, value in buffers.items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put the optimizer's buffers back, in the memory format of their parameters."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    buffers: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, number, key = name.split(".", 2)
            like = parameters[int(number)]
            value = torch.empty_like(like).copy_(tensor) if tensor.shape == like.shape else tensor.clone()
            buffers.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict({"state": buffers, "param_groups": optimizer.state_dict()["param_groups"]})


class Store:
    """Keeps two states of a run on disk, written in the background of the loop: an epoch's start and the last one.

    Args:
        folder: ``state`` of a run folder.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    @property
    def busy(self) -> bool:
        """Whether a state is still being written."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def empty(self) -> bool:
        """Whether no state was written yet."""
        return not any((self.folder / name).exists() for name in (EPOCH, LAST))

    def save(self, state: State) -> None:
        """Begin to write a state, an epoch's start to a file of its own; waits for the one before.

        Raises:
            StriateError: the one before could not be written.
        """
        self.wait()
        self._thread = threading.Thread(target=self._write, args=(state,), name="striate-checkpoint")
        self._thread.start()

    def _write(self, state: State) -> None:
        try:
            name = EPOCH if state.values["step"] == 0 else LAST
            save_tensors(self.folder / name, state.tensors, {"schema": SCHEMA, "values": dict(state.values)})
        except BaseException as error:
            self._error = error

    def wait(self) -> None:
        """Wait until everything is on disk.

        Raises:
            StriateError: it could not be written; the file holds the last state that could.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is None:
            return
        kept = "No checkpoint was written before" if self.empty else "The last good checkpoint is intact"
        run = shlex.quote(str(self.folder.parent))
        raise StriateError(f"{error}. {kept}; make room and go on with 'striate train --resume {run}'.") from error

    def load(self) -> tuple[State | None, State | None]:
        """The last state and that of its epoch's start; None where none was written yet.

        What a killed process left half written is swept away.

        Raises:
            ModelFileError: a file is not a state of this version.
        """
        for leftover in self.folder.glob(".*.tmp"):
            leftover.unlink()
        states = [_read(self.folder / name) for name in (EPOCH, LAST) if (self.folder / name).exists()]
        if not states:
            return None, None
        newest = max(states, key=lambda state: (state.values["rollbacks"], state.values["steps"]))
        starts = [one for one in states if one.values["step"] == 0 and one.values["epoch"] == newest.values["epoch"]]
        return newest, starts[0] if starts else None


def _read(path: Path) -> State:
    try:
        with safe_open(path, framework="pt") as file:
            document: dict[str, Any] = json.loads((file.metadata() or {}).get(METADATA, "{}"))
            if document.get("schema") != SCHEMA:
                raise ModelFileError(
                    f"{path} holds {document.get('schema', 'no schema')}, not {SCHEMA}: "
                    "resume it with the version of striate that wrote it."
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"{path} cannot be read: {error}") from error
    return State(tensors=tensors, values=document["values"])
