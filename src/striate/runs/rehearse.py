"""What a run would do, measured without doing it: ``--dry-run`` and ``--find-lr``."""

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from striate.config import Resolved
from striate.engine.batch_size import peak_memory
from striate.engine.fit import fit
from striate.engine.log import Display, Log
from striate.engine.lr_range import LrRange, lr_range
from striate.errors import UsageError
from striate.files import write_text
from striate.runs.finetune import with_all_open
from striate.runs.prepare import loader, prepare
from striate.runs.train import introduce, settle_machine
from striate.viz.charts import Mark, Series, line_chart, standalone

STEPS = 12  # real steps that the time per epoch is measured on
SCHEMA, LR_SCHEMA = "striate.dry_run/1", "striate.lr_range/1"


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """The settings as they would be used, and what a few real steps took."""

    resolved: Resolved
    parameters: int
    images: dict[str, int]  # by split
    steps_per_epoch: int
    seconds_per_epoch: float  # training only
    images_per_second: float
    memory_bytes: int  # peak of the process, or of the device

    def facts(self) -> list[tuple[str, str]]:
        """The measurements in words."""
        epochs = self.resolved.settings.epochs
        return [
            ("images", ", ".join(f"{count:,} {name}" for name, count in self.images.items())),
            ("parameters", f"{self.parameters:,}"),
            ("steps per epoch", f"{self.steps_per_epoch:,}"),
            ("time per epoch", f"{self.seconds_per_epoch:.1f} s, {self.images_per_second:,.0f} images/s"),
            ("time for all", f"{epochs * self.seconds_per_epoch / 60:.1f} min for {epochs} epochs, without validation"),
            ("peak memory", f"{self.memory_bytes / 2**20:,.0f} MiB"),
        ]

    def to_json(self) -> dict[str, Any]:
        """The ``striate.dry_run/1`` document."""
        measured = {key: value for key, value in asdict(self).items() if key != "resolved"}
        settings = {
            name: {"value": value, "source": self.resolved.sources[name]}
            for name, value in asdict(self.resolved.settings).items()
        }
        return {"schema": SCHEMA, "settings": settings} | measured


def rehearse(resolved: Resolved, *, display: Display | None = None) -> Rehearsal:
    """Prepare a run and take a few real steps; nothing is written.

    Raises:
        StriateError: whatever would stop the run from starting.
    """
    display = display or Display()
    _needs_steps(resolved, "--dry-run")
    prepared = prepare(resolved)
    introduce(prepared, display)
    prepared, batch, chosen = settle_machine(prepared, display)
    settings = prepared.resolved.settings
    whole = loader(prepared, "train", batch=batch, training=True)
    few = replace(
        prepared,
        splits=replace(
            prepared.splits,
            indices={**prepared.splits.indices, "train": prepared.splits.indices["train"][: STEPS * batch]},
        ),
    )
    train = loader(few, "train", batch=batch, training=True)
    once = replace(settings, epochs=1, ema=0.0, compile=False)
    seconds = float("inf")
    for _ in range(2):  # the first warms up: files are cached, kernels chosen
        started = time.perf_counter()
        log = Log(None, Display(quiet=True))
        fit(
            prepared.task,
            train,
            None,
            once,
            log,
            precision=chosen,
            device=prepared.device,
            batch=batch,
            groups=with_all_open(prepared.groups),
        )
        seconds = min(seconds, time.perf_counter() - started)
    images = len(few.splits.indices["train"])
    return Rehearsal(
        resolved=prepared.resolved,
        parameters=prepared.parameters,
        images={name: len(indices) for name, indices in prepared.splits.indices.items()},
        steps_per_epoch=whole.steps,
        seconds_per_epoch=seconds * len(prepared.splits.indices["train"]) / images,
        images_per_second=images / seconds,
        memory_bytes=peak_memory(prepared.device),
    )


def _needs_steps(resolved: Resolved, flag: str) -> None:
    way = resolved.settings.transfer
    if way in ("features", "auto"):
        raise UsageError(
            f"{flag} times steps of training, and --transfer {way} "
            f"{'takes none' if way == 'features' else 'first measures whether it takes any'}: leave one of them out."
        )


@dataclass(frozen=True, kw_only=True)
class FoundLr:
    """The range test and where its plot is."""

    range: LrRange
    plot: Path

    @property
    def suggestion(self) -> float:
        """The learning rate to begin with."""
        return self.range.suggestion

    def to_json(self) -> dict[str, Any]:
        """The ``striate.lr_range/1`` document."""
        return {
            "schema": LR_SCHEMA,
            "suggestion": self.suggestion,
            "plot": str(self.plot),
            "rates": list(self.range.rates),
            "losses": list(self.range.losses),
        }


def find_lr(resolved: Resolved, plot: Path, *, display: Display | None = None) -> FoundLr:
    """The learning-rate range test on the real data, with its plot as SVG.

    Args:
        resolved: the settings.
        plot: the SVG file, or a folder that gets ``lr-range.svg``.
        display: for people.
    """
    display = display or Display()
    _needs_steps(resolved, "--find-lr")
    prepared = prepare(resolved)
    introduce(prepared, display)
    prepared, batch, chosen = settle_machine(prepared, display)
    torch.manual_seed(prepared.resolved.settings.seed)
    train = loader(prepared, "train", batch=batch, training=True)
    found = lr_range(prepared.task, train, prepared.resolved.settings, chosen, prepared.groups)
    chart = line_chart(
        "Learning-rate range test",
        [Series(name="smoothed loss", x=found.rates, y=found.losses)],
        x_label="learning rate",
        x_log=True,
        marks=[Mark(x=found.suggestion, label="suggested")],
    )
    file = plot if plot.suffix == ".svg" else plot / "lr-range.svg"
    write_text(file, standalone(chart))
    return FoundLr(range=found, plot=file)
