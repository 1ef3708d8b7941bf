"""What a study works with: trainings and measurements that are kept, so that the same command goes on where it was."""

import json
import math
import re
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import striate
from striate.config import Layer, resolve
from striate.data.dataset import Dataset, ImageArrays
from striate.data.known import NAMES, SAMPLES
from striate.data.open import open_dataset
from striate.data.preprocess import Preprocessing
from striate.data.split import Splits, fewer, split
from striate.engine.log import Display
from striate.errors import DivergedError, UsageError
from striate.files import write_text
from striate.runs.folder import RunFolder, is_run
from striate.runs.prepare import from_anywhere
from striate.runs.train import Run, finished_run
from striate.studies.study import Effort

# Settings that decide where and how fast a training runs, but not what it computes.
ELSEWHERE = ("root", "download", "workers", "checkpoint_every", "tensorboard")


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Some images of a split."""

    pixels: Tensor  # (N, C, H, W) uint8
    labels: Tensor  # (N,) int64
    classes: tuple[str, ...]


class Lab:
    """Trains, measures and remembers for one study.

    Attributes:
        data: what the study is measured on, a known name or a path; empty where it needs none.
        root: the folder that holds the known data sets, or None.
        seeds: the seeds to measure over.
        effort: "quick" or "full".
        weights: the file that --weights names, or None.
        out: the study's folder.
    """

    def __init__(
        self,
        *,
        out: Path,
        data: str,
        root: Path | None,
        seeds: range,
        effort: Effort,
        weights: str | None,
        display: Display,
        name: str,
    ):
        self.out, self.data, self.root, self.seeds, self.effort, self.weights = out, data, root, seeds, effort, weights
        self._display, self._name = display, name
        self._done, self._steps = 0, 0
        self._drawn: dict[int, Splits] = {}

    def plan(self, steps: int) -> None:
        """Say how many calls of `train` and `once` there will be, for the progress bar."""
        self._steps = steps

    def say(self, text: str) -> None:
        """A message for the person who watches."""
        self._display.say(text)

    def train(self, label: str, *, seed: int, **settings: Any) -> Run:
        """Train with `striate.train`, or give back the same training where it was done before.

        Args:
            label: names the training within the study, together with the seed.
            seed: of everything random, the split that is drawn included.
            settings: any of `striate.config.TrainSettings`. ``data`` and ``root`` are the study's unless given;
                ``precision="float32"`` and ``channels_last=False`` unless given, because timing the alternatives takes
                longer than a small training.

        Raises:
            DivergedError: the loss stopped being finite, now or when it was trained before.
            UsageError: the folder holds that training with other settings.
        """
        data = settings.get("data", self.data)
        rooted = {"root": self.root} if self.root is not None and data in NAMES and data not in SAMPLES else {}
        wanted: dict[str, Any] = {"data": data, "precision": "float32", "channels_last": False, "seed": seed}
        wanted |= {**rooted, **settings}
        folder = self.out / "runs" / f"{_file_name(label)}-seed{seed}"
        diverged = folder / "diverged.txt"
        with self._step(f"{label}, seed {seed}") as timed:
            if is_run(folder):
                run = RunFolder(folder)
                _check_same(run, wanted)
                if diverged.exists():
                    raise DivergedError(diverged.read_text(encoding="utf-8"))
                if (finished := finished_run(run)) is not None:
                    return finished
            try:
                with timed():
                    if is_run(folder):
                        return striate.resume(folder, quiet=True)
                    return striate.train(out=folder, quiet=True, **wanted)
            except DivergedError as error:
                write_text(diverged, str(error))
                raise

    def once(self, label: str, compute: Callable[..., Any], *arguments: Any) -> Any:
        """Measure something else, or give back what was measured before.

        Args:
            label: names the measurement within the study; what it depends on (a seed, a size) belongs to it.
            compute: gives anything that JSON holds, and is called at most once.
            arguments: what it is called with.

        Returns:
            The result as JSON gives it back: tuples are lists, keys are text, NaN and infinities are None.
        """
        file = self.out / "measurements" / f"{_file_name(label)}.json"
        with self._step(label) as timed:
            if file.exists():
                document = json.loads(file.read_text(encoding="utf-8"))
                if document["label"] != label:
                    raise ValueError(f"{label!r} and {document['label']!r} would share the file {file.name}")
                return document["result"]
            with timed():
                result = _finite(compute(*arguments))
            write_text(file, json.dumps({"label": label, "result": result}, indent=1, allow_nan=False))
            return json.loads(json.dumps(result))

    def images(self, split: str, *, per_class: int, seed: int = 0, size: int | None = None) -> Labelled:
        """Images of a split as arrays, for studies that look at networks without training runs.

        Args:
            split: "train", "val" or "test", drawn by the seed as a training run draws it.
            per_class: at most so many of each class; of two numbers the smaller one's images are among the larger's.
            seed: of the split and the images.
            size: height and width that images are resized to; left out, images of one size keep it, others get 64.
        """
        splits, dataset = self._splits(seed), self._dataset
        chosen = fewer(replace(splits, indices={"train": splits.of(split)}), dataset, per_class).indices["train"]
        images = dataset.images
        if isinstance(images, ImageArrays) and size is None:
            pixels = images.pixels[chosen]
        else:
            grey = isinstance(images, ImageArrays) and images.pixels.shape[3] == 1
            channels, side = 1 if grey else 3, size or 64
            fit = Preprocessing(size=(side, side), channels=channels, mean=(0.0,) * channels, std=(1.0,) * channels)
            pixels = np.stack([fit.pixels(images.read(int(row))) for row in chosen])
        return Labelled(
            pixels=torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))),
            labels=torch.from_numpy(dataset.labels[chosen]),
            classes=dataset.classes,
        )

    @property
    def seconds(self) -> float:
        """Time that all trainings and measurements took, those of earlier sessions included."""
        file = self.out / "steps.jsonl"
        if not file.exists():
            return 0.0
        lines = file.read_text(encoding="utf-8").splitlines()
        return sum(json.loads(line)["seconds"] for line in lines if line.endswith("}"))

    @cached_property
    def _dataset(self) -> Dataset:
        return open_dataset(self.data, root=self.root if self.data in NAMES and self.data not in SAMPLES else None)

    def _splits(self, seed: int) -> Splits:
        if seed not in self._drawn:
            self._drawn[seed] = split(self._dataset, seed=seed)
        return self._drawn[seed]

    @contextmanager
    def _step(self, label: str) -> Generator[Callable[[], Any]]:
        """One step of the progress bar; gives what has to surround the part that costs time."""

        @contextmanager
        def timed() -> Generator[None]:
            begun = time.perf_counter()
            try:
                yield
            finally:
                line = {"step": label, "seconds": round(time.perf_counter() - begun, 3)}
                with (self.out / "steps.jsonl").open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")

        self._steps = max(self._steps, self._done + 1)
        self._display.progress(self._name, self._done, self._steps, label)
        yield timed
        self._done += 1
        self._display.progress(self._name, self._done, self._steps, label)


def _check_same(run: RunFolder, wanted: dict[str, Any]) -> None:
    """Raise `UsageError` where a run was trained with other settings than those wanted now."""
    then = run.resolved
    now = from_anywhere(resolve(Layer(source="argument", values=wanted))).settings
    names = [name for name in then.sources if name in wanted or then.sources[name] == "argument"]
    other = [
        f"{name} {getattr(then.settings, name)} then, {getattr(now, name)} now"
        for name in names
        if name not in ELSEWHERE
        and getattr(now, name) != getattr(then.settings, name)
        and not (name in wanted and getattr(now, name) == "auto")  # it was decided then
    ]
    if other:
        raise UsageError(
            f"{run.path} was trained with other settings ({'; '.join(other)}). Choose another --out, or remove it."
        )


def _file_name(label: str) -> str:
    return re.sub(r"[^A-Za-z0-9._=+-]+", "-", label).strip("-.")


def _finite(value: Any) -> Any:
    """The same with None for what JSON has no number for."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
