"""The run folder: what a training run leaves behind, and where each part of it lies."""

import json
import os
import platform
import re
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from striate.config import Layer, Resolved, resolve
from striate.errors import ModelFileError, UsageError, did_you_mean
from striate.files import write_text

SCHEMA = "striate.run_settings/1"
VERSIONS_OF = ("striate", "torch", "torchvision", "numpy", "pillow", "simplejpeg", "safetensors")


@dataclass(frozen=True)
class RunFolder:
    """One run on disk."""

    path: Path

    @property
    def settings(self) -> Path:
        """Resolved settings, sources, versions, data fingerprint."""
        return self.path / "run.yaml"

    @property
    def model(self) -> Path:
        """The best weights, with everything that prediction needs."""
        return self.path / "model.safetensors"

    @property
    def state(self) -> Path:
        """What an exact resume needs: the last state, and the one at the start of its epoch."""
        return self.path / "state"

    @property
    def metrics(self) -> Path:
        """One JSON document per line, one line per event."""
        return self.path / "metrics.jsonl"

    @property
    def split(self) -> Path:
        """Which image was held out for what."""
        return self.path / "split.json"

    @property
    def report(self) -> Path:
        """The page for people."""
        return self.path / "report.html"

    @property
    def resume(self) -> str:
        """The command that goes on with the run, quoted for a shell and a sentence."""
        return f"'striate train --resume {shlex.quote(str(self.path))}'"

    @cached_property
    def document(self) -> dict[str, Any]:
        """What ``run.yaml`` holds.

        Raises:
            ModelFileError: it is missing, or not a run's.
        """
        try:
            document = yaml.safe_load(self.settings.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ModelFileError(f"{self.settings} cannot be read: {error}") from error
        if not isinstance(document, dict) or document.get("schema") != SCHEMA:
            raise ModelFileError(f"{self.settings} is not the settings file of a run (schema {SCHEMA}).")
        return document

    @cached_property
    def resolved(self) -> Resolved:
        """The settings that the run was started with, everything measured included."""
        by_source: dict[str, dict[str, Any]] = {}
        for name, value in self.document["settings"].items():
            by_source.setdefault(self.document["sources"].get(name, "default"), {})[name] = value
        return resolve(*(Layer(source=source, values=values) for source, values in by_source.items()))

    def events(self) -> list[dict[str, Any]]:
        """The record so far; a last line that is still being written is left out."""
        if not self.metrics.exists():
            return []
        lines = self.metrics.read_bytes().split(b"\n")[:-1]
        return [json.loads(line) for line in lines]

    @property
    def result(self) -> dict[str, Any] | None:
        """The ``striate.run/1`` document of a run that has ended, or None."""
        ends = [event["result"] for event in self.events() if event["event"] == "end"]
        return ends[-1] if ends else None


def is_run(path: Path) -> bool:
    """Whether a folder holds a run."""
    return (path / "run.yaml").is_file()


def open_run(path: Path) -> RunFolder:
    """The run in a folder.

    Raises:
        UsageError: there is none; names the nearest one.
    """
    if is_run(path):
        return RunFolder(path)
    siblings = [str(run.path) for run in find_runs(path.parent if path.parent.is_dir() else Path("runs"))]
    state = "holds no run (no run.yaml)" if path.exists() else "does not exist"
    raise UsageError(f"the run folder {path} {state}.{did_you_mean(str(path), siblings)}")


def find_runs(folder: Path) -> list[RunFolder]:
    """All runs directly inside a folder, oldest first."""
    if not folder.is_dir():
        return []
    runs = [RunFolder(path) for path in folder.iterdir() if is_run(path)]
    return sorted(runs, key=lambda run: (run.settings.stat().st_mtime, run.path.name))


def new_run(out: Path | None, data: str, model: str) -> RunFolder:
    """Make the folder of a new run: ``out``, or ``runs/<date>-<data>-<model>`` with a number where that is taken.

    Raises:
        UsageError: ``out`` already holds a run, or is a file.
    """
    if out is not None:
        refuse_taken(out)
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"--out {out} cannot be made: {error.strerror}.") from None
        return RunFolder(out)
    stem = "-".join([datetime.now().strftime("%Y%m%d-%H%M%S"), _slug(Path(data).name or data), _slug(model)])
    number = 1
    while True:
        path = Path("runs") / (stem if number == 1 else f"{stem}-{number}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return RunFolder(path)


def refuse_taken(out: Path) -> None:
    """Raise `UsageError` where a new run cannot go."""
    if is_run(out):
        raise UsageError(
            f"{out} holds a run, which is never written over. Go on with it by {RunFolder(out).resume}, or choose "
            "another --out."
        )
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file; it names the folder of the run.")


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._]+", "_", text).strip("_")[:32] or "model"


def write_settings(run: RunFolder, resolved: Resolved, about: Mapping[str, Any]) -> None:
    """Write ``run.yaml``: schema, settings with their sources, and what is known about the run."""
    document = {
        "schema": SCHEMA,
        **about,
        "hardware": hardware(),
        "versions": versions(),
        "settings": asdict(resolved.settings),
        "sources": {name: source for name, source in resolved.sources.items() if source != "default"},
    }
    write_text(run.settings, yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110))


def versions() -> dict[str, str]:
    """Versions of Python and of what decides the numbers."""
    found = {"python": platform.python_version()}
    for name in VERSIONS_OF:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    """What this process computes on."""
    import torch

    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = re.findall(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
        cpu = names[0] if names else cpu
    about = {"system": platform.system(), "cpu": cpu, "cores": os.cpu_count(), "threads": torch.get_num_threads()}
    if torch.cuda.is_available():
        about["gpu"] = torch.cuda.get_device_name()
    return about
