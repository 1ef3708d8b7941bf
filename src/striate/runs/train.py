"""Training, from settings to a finished run folder; and the same again from where a run was stopped."""

import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from striate.config import Resolved, TrainSettings
from striate.core.batch import Batch
from striate.data.dataset import Skipped
from striate.data.preprocess import Preprocessing
from striate.engine import distributed, precision
from striate.engine.batch_size import largest_batch
from striate.engine.checkpoint import Store
from striate.engine.fit import Best, Fitted, fit, out_of_memory
from striate.engine.log import Display, Log, Sink
from striate.errors import InterruptedRunError, UsageError
from striate.metrics.coco import DetectionMetric
from striate.metrics.metric import Metric
from striate.models.stages import CLASSIFIER, parameter_stages
from striate.runs.checkpoints import licence_of
from striate.runs.detecting import thresholds_by
from striate.runs.evaluate import evaluate_run, headline_split
from striate.runs.finetune import frozen_stages, schedule_table
from striate.runs.folder import RunFolder, new_run, refuse_taken, versions, write_settings
from striate.runs.model_file import Card, read_card, write_model
from striate.runs.page import write_page
from striate.runs.prepare import (
    Prepared,
    changes,
    device_of,
    evaluation_batch,
    from_anywhere,
    loader,
    prepare,
    unmirrored_points,
    watched,
)
from striate.runs.tensorboard import TensorBoard, require_tensorboard
from striate.runs.transfer import decide, fit_on_features, refuse_processes, settle_features
from striate.tasks.task import Task

RESULT_SCHEMA = "striate.run/1"


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished run."""

    path: Path
    model: Path  # the model file
    metrics: dict[str, float]  # on the test split; without one, on validation
    split: str  # where the metrics were measured
    best: dict[str, Any]  # {epoch, split, metrics} of the epoch that was kept
    epochs: int
    seconds: float
    report: Path

    @property
    def history(self) -> list[dict[str, Any]]:
        """One entry per epoch: ``epoch`` (from 1), ``train_loss``, the metrics of ``val``, and those of ``watched``."""
        epochs = {  # after a roll-back an epoch is written again
            event["epoch"]: {name: value for name, value in event.items() if name != "event"}
            for event in RunFolder(self.path).events()
            if event["event"] == "epoch"
        }
        return [epochs[number] for number in sorted(epochs)]

    def to_json(self) -> dict[str, Any]:
        """The ``striate.run/1`` document."""
        return {
            "schema": RESULT_SCHEMA,
            "run": str(self.path),
            "model": str(self.model),
            "best": self.best,
            "split": self.split,
            "metrics": self.metrics,
            "epochs": self.epochs,
            "seconds": round(self.seconds, 3),
            "report": str(self.report),
        }


def train_run(resolved: Resolved, *, out: Path | None = None, display: Display | None = None) -> Run:
    """Train as the settings say, into a new run folder.

    Raises:
        StriateError: of the kind that went wrong; what was trained so far is kept and can be resumed.
    """
    display = display or Display()
    if distributed.rank() != 0:
        display = Display(quiet=True)
    if out is not None and distributed.rank() == 0:
        refuse_taken(out)
    if resolved.settings.tensorboard:
        require_tensorboard()
    with distributed.processes(device_of(resolved.settings.device)) as (rank, _):
        prepared = prepare(from_anywhere(resolved))
        introduce(prepared, display)
        with at_most_threads(prepared.resolved.settings):
            if prepared.resolved.settings.transfer == "auto":
                prepared = decide(prepared, display)
                say_groups(prepared, display)
            features = prepared.resolved.settings.transfer == "features"
            batch, chosen = 0, precision.Precision()
            if features:
                prepared = settle_features(prepared)
            else:
                prepared, batch, chosen = settle_machine(prepared, display)
            named: dict[str, Any] = {}
            if rank == 0:
                named["path"] = str(new_run(out, resolved.settings.data, prepared.resolved.settings.model).path)
            run = RunFolder(Path(distributed.same_for_all(named)["path"]))
            if rank == 0:
                prepared.splits.save(run.split, prepared.dataset)
                write_settings(run, prepared.resolved, _about(prepared))
            if features:
                return _extract(run, prepared, display)
            return _fit(run, prepared, batch, chosen, display, resuming=False)


def resume_run(run: RunFolder, *, display: Display | None = None) -> Run:
    """Go on with a run that was stopped, from its last checkpoint, to the very weights that it would have reached.

    A run that has ended is only evaluated and reported again.
    """
    display = display or Display()
    if distributed.rank() != 0:
        display = Display(quiet=True)
    resolved = run.resolved
    settings = resolved.settings
    _warn_of_other_versions(run, display)
    with distributed.processes(device_of(settings.device)), at_most_threads(settings):
        preprocessing = Preprocessing.from_json(run.document["preprocessing"])
        start = settings.transfer == "features" or Store(run.state).empty
        prepared = prepare(resolved, splits_file=run.split, preprocessing=preprocessing, start=start)
        for note in (*prepared.splits.notes, *changes(prepared, run.document)):
            display.say(f"Note: {note}.")
        if settings.transfer == "features":
            return _extract(run, prepared, display)
        assert isinstance(settings.batch, int)
        assert isinstance(settings.channels_last, bool)
        chosen = precision.Precision(settings.precision, settings.channels_last)
        return _fit(run, prepared, settings.batch, chosen, display, resuming=True)


def finished_run(run: RunFolder) -> Run | None:
    """A run that has ended, from its record, or None for one that has not."""
    result = run.result
    if result is None:
        return None
    values = {name: result[name] for name in ("metrics", "split", "best", "epochs", "seconds")}
    return Run(path=run.path, model=run.model, report=run.report, **values)


def settle_machine(prepared: Prepared, display: Display) -> tuple[Prepared, int, precision.Precision]:
    """Measure what the settings leave to the machine: the batch that fits, arithmetic and memory format."""
    settings, device = prepared.resolved.settings, prepared.device
    prepared.task.to(device)
    resolved = prepared.resolved
    decided: dict[str, Any] = {}
    if settings.batch == "auto":
        decided["batch"] = largest_batch(prepared.task, _sample(prepared, 1), len(prepared.splits.indices["train"]))
    batch = int(decided.get("batch", settings.batch))
    chosen, timed = _timed(prepared, max(2, batch // settings.accumulate // distributed.world()))
    decided |= {"precision": chosen.dtype, "channels_last": chosen.channels_last}
    decided = distributed.same_for_all(decided)
    chosen = precision.Precision(str(decided["precision"]), bool(decided["channels_last"]))
    if settings.batch == "auto":
        resolved = resolved.because("measured", batch=decided["batch"])
        display.say(f"Batch: {decided['batch']} images, the most that fits or that still makes it faster.")
    left_open = {name: decided[name] for name in ("precision", "channels_last") if getattr(settings, name) == "auto"}
    resolved = resolved.because("measured" if timed else "deterministic", **left_open)
    if timed:
        rates = ", ".join(f"{name} {rate:,.0f}" for name, rate in timed.items())
        display.say(f"Precision: {chosen} (images/s of a training step: {rates}).")
    return replace(prepared, resolved=resolved), int(decided.get("batch", batch)), chosen


def _timed(prepared: Prepared, size: int) -> tuple[precision.Precision, dict[str, float]]:
    """The choice of precision on the largest batch, of ``size`` images or fewer, that fits."""
    while True:
        try:
            return precision.choose(prepared.task, _sample(prepared, size), prepared.resolved.settings)
        except RuntimeError as error:
            if not out_of_memory(error) or size <= 2:
                raise
        size //= 2


def _sample(prepared: Prepared, size: int) -> Batch:
    """A real training batch on the largest canvas; drawing it changes nothing."""
    whole = replace(prepared, preprocessing=replace(prepared.preprocessing, multiple=None))
    source = loader(whole, "train", batch=size * distributed.world(), training=True)
    return next(source.epoch(0)).to(prepared.device)


def introduce(prepared: Prepared, display: Display) -> None:
    """Say what was found and what is about to happen."""
    dataset, settings = prepared.dataset, prepared.resolved.settings
    counts = ", ".join(f"{len(indices):,} {name}" for name, indices in prepared.splits.indices.items())
    where = f" at {dataset.path}" if dataset.path else ""
    display.say(f"Data: {dataset.name}, {dataset.format}{where}; {len(dataset.classes)} classes; {counts}.")
    display.say(f"Split: {prepared.splits.origin}.")
    for note in prepared.splits.notes:
        display.say(f"Note: {note}.")
    if prepared.skipped:
        display.say(f"Skipped {len(prepared.skipped)} bad files, the first: {prepared.skipped[0].source}.")
    shape = "x".join(map(str, (*prepared.preprocessing.size, prepared.preprocessing.channels)))
    shape += " at most, by shape" * settings.by_shape
    around = f" around {settings.backbone}" if settings.backbone != "auto" else ""
    network = f"Model: {settings.model}{around}, {prepared.parameters:,} parameters, input {shape}"
    if settings.transfer == "auto":
        display.say(f"{network}, on {prepared.device}.")
    elif settings.transfer == "features":
        display.say(f"{network}, all of it frozen; a {settings.classifier} classifier, on {prepared.device}.")
    else:
        display.say(
            f"{network}; {settings.optimizer}, {settings.schedule} to lr {settings.lr:g}, batch {settings.batch}, "
            f"{settings.epochs} epochs, augment {settings.augment}, on {prepared.device}."
        )
    if unmirrored_points(prepared):
        display.say(
            "Note: no image is mirrored, for nothing says which points change places in a mirror. Names of left and "
            "right say it, and so do flip_idx in YOLO's yaml and flips in COCO's categories. Where none has to, give "
            "flip=yes, as in --augment 'standard(flip=yes)'."
        )
    if settings.weights not in (None, "none"):
        display.say(f"Weights: {'; '.join((settings.weights, *prepared.weights))}.")
    if settings.teacher is not None:
        display.say(
            f"Teacher: {settings.teacher}; {settings.teacher_share:g} of the loss at temperature "
            f"{settings.temperature:g}."
        )
    say_groups(prepared, display)


def say_groups(prepared: Prepared, display: Display) -> None:
    """Say which parts learn, when and how fast, where they do not all learn alike."""
    if prepared.groups:
        fine = prepared.resolved.settings.transfer == "finetune"
        title = f"Fine-tuning, {len(prepared.groups)} stages" if fine else "Head by head"
        display.say(f"{title} (learning rates at their peak):")
        for line in schedule_table(prepared.task.network, prepared.groups, prepared.resolved.settings):
            display.say(line)


def _fit(
    run: RunFolder, prepared: Prepared, batch: int, chosen: precision.Precision, display: Display, *, resuming: bool
) -> Run:
    settings = prepared.resolved.settings
    prepared.task.to(prepared.device)
    rank = distributed.rank()
    store = Store(run.state)
    state, epoch_start = store.load() if resuming else (None, None)
    train = loader(prepared, "train", batch=batch, training=True)
    has_val = len(prepared.splits.indices.get("val", ())) > 0
    val = (
        loader(prepared, "val", batch=evaluation_batch(prepared.preprocessing.size), training=False)
        if has_val
        else None
    )
    watching = {
        name: loader(prepared, name, batch=evaluation_batch(prepared.preprocessing.size), training=False)
        for name in watched(prepared)
    }
    log = Log(
        run.metrics if rank == 0 else None,
        display,
        position=0 if state is None else int(state.values["log"]),
        sinks=_sinks(run, settings) if rank == 0 else (),
    )
    if resuming and state is None:
        display.say("Resuming from the start: nothing was saved yet.")
    elif state is not None:
        epoch, step = state.values["epoch"], state.values["step"]
        over = epoch >= settings.epochs
        display.say("All epochs are done." if over else f"Resuming at epoch {epoch + 1}, step {step + 1}.")
    card = _card(prepared)

    def keep(task: Task, best: Best, metric: Metric) -> None:
        if rank == 0:
            metrics = {"split": "val", "epoch": best.epoch, "values": best.metrics}
            document = card.task
            if isinstance(metric, DetectionMetric):
                document = document | {"thresholds": list(thresholds_by(metric, card.classes))}
            write_model(run.model, task, replace(card, metrics=metrics, task=document))

    try:
        with _locked(run.path), _strict(settings.deterministic), _stop_signals() as stop:
            fitted = fit(
                prepared.task,
                train,
                val,
                settings,
                log,
                precision=chosen,
                device=prepared.device,
                batch=batch,
                store=store,
                resume=state,
                epoch_start=epoch_start,
                on_best=keep,
                watched=watching,
                groups=prepared.groups,
                stop=stop,
                name_of=lambda indices: [prepared.dataset.ids[int(index)] for index in indices],
            )
            display.close()
            if rank == 0 and fitted.best is None:
                write_model(run.model, prepared.task, replace(card, metrics={"split": "none", "epoch": fitted.epochs}))
            distributed.barrier()
            return _finish(run, prepared, train.skipped, fitted, log, display)
    except InterruptedRunError:
        raise InterruptedRunError(f"interrupted; everything so far is saved. Go on with {run.resume}.") from None
    finally:
        log.close()


def _extract(run: RunFolder, prepared: Prepared, display: Display) -> Run:
    """Fit a classifier on the features of a frozen network."""
    refuse_processes()
    log = Log(run.metrics, display, position=0, sinks=_sinks(run, prepared.resolved.settings))
    try:
        with _locked(run.path), _stop_signals() as stop:
            found = fit_on_features(prepared, log, display, stop=stop)
            best = found.fitted.best
            metrics = {"split": "none"} if best is None else {"split": "val", "epoch": 1, "values": best.metrics}
            head = None if found.head is None else found.head.to_json()
            frozen = [name for name in parameter_stages(prepared.network) if name != CLASSIFIER]
            card = replace(_card(prepared), metrics=metrics, head=head, frozen=frozen)
            write_model(run.model, prepared.task, card)
            return _finish(run, prepared, list(found.skipped), found.fitted, log, display)
    except InterruptedRunError:
        raise InterruptedRunError(f"interrupted; computed features are kept. Go on with {run.resume}.") from None
    finally:
        log.close()


def _card(prepared: Prepared) -> Card:
    settings = prepared.resolved.settings
    trained = settings.model if settings.backbone == "auto" else settings.backbone
    weights = None if settings.weights == "none" else settings.weights
    return Card(
        model=settings.model,
        backbone=None if settings.backbone == "auto" else settings.backbone,
        channels=prepared.preprocessing.channels,
        size=prepared.preprocessing.size,
        task=prepared.task.to_json(),
        preprocessing=prepared.preprocessing,
        data=_data_card(prepared),
        frozen=frozen_stages(prepared.groups),
        licence=f"follows from the data's: {prepared.dataset.licence or 'not stated'}"
        + (f"; and from that of {weights}: {licence_of(trained, weights)}" if weights else ""),
        striate=versions()["striate"],
    )


def _finish(
    run: RunFolder, prepared: Prepared, unread: list[Skipped], fitted: Fitted, log: Log, display: Display
) -> Run:
    """Measure the kept weights, write the report, and say how it went."""
    split = headline_split(prepared.splits)
    thresholds: list[float] | None = read_card(run.model).task.get("thresholds")
    if thresholds is not None:
        low, high = min(thresholds), max(thresholds)
        display.say(f"Shown from a score of {low:.2f} to {high:.2f} on, by class: the best F1 on val.")
    evaluation = evaluate_run(run, prepared, split=split, display=display)
    best: dict[str, Any] = {"epoch": fitted.epochs, "split": "none", "metrics": {}}
    if fitted.best is not None:
        best = {"epoch": fitted.best.epoch, "split": "val", "metrics": fitted.best.metrics}
    finished = Run(
        path=run.path,
        model=run.model,
        metrics=evaluation.metrics,
        split=split,
        best=best,
        epochs=fitted.epochs,
        seconds=fitted.seconds,
        report=run.report,
    )
    unread = distributed.gathered(unread)
    by_source = {
        item.source: item for item in (*prepared.skipped, *unread, *evaluation.skipped)
    }  # each process names what it met
    skipped = [asdict(item) for item in by_source.values()]
    if distributed.rank() == 0:
        log.record("skipped", files=skipped)
        log.record("end", result=finished.to_json())
        log.position()
        write_page(run, evaluation, finished.to_json(), skipped)
    if unread:
        display.say(f"{len(unread)} files could not be read during training; the report names them.")
    kept = f"Kept epoch {best['epoch']} of {fitted.epochs}. " if fitted.steps else ""
    interval = ""
    if evaluation.interval is not None:
        interval = "95% interval {:.4f} to {:.4f}, ".format(*evaluation.interval)
    display.say(
        f"{kept}{split} {evaluation.headline} {evaluation.metrics[evaluation.headline]:.4f} "
        f"({interval}{evaluation.samples:,} images), trained in {fitted.seconds:.1f} s."
    )
    display.say(f"Run: {run.path}  report: {run.report}")
    return finished


def _data_card(prepared: Prepared) -> dict[str, Any]:
    dataset, settings = prepared.dataset, prepared.resolved.settings
    return {
        "name": dataset.name,
        "source": settings.data,
        "root": settings.root,
        "split": {name: getattr(settings, name) for name in ("seed", "group_by", "validation", "per_class")},
        "licence": dataset.licence,
        "fingerprints": dict(prepared.splits.fingerprints),
    }


def _about(prepared: Prepared) -> dict[str, Any]:
    return {
        "command": _command(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        **({"transfer": prepared.reason} if prepared.reason else {}),
        "parameters": prepared.parameters,
        "data": _data_card(prepared)
        | {"format": prepared.dataset.format, "classes": list(prepared.dataset.classes)}
        | {"images": {name: len(indices) for name, indices in prepared.splits.indices.items()}},
        "preprocessing": {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in prepared.preprocessing.to_json().items()
        },
    }


def _command() -> str:
    program = Path(sys.argv[0])
    ours = program.name == "striate" or program.parts[-2:] == ("striate", "__main__.py")
    return shlex.join(["striate", *sys.argv[1:]]) if ours else "Python"


def _warn_of_other_versions(run: RunFolder, display: Display) -> None:
    then, now = run.document["versions"], versions()
    changed = [f"{name} {then[name]} then, {now.get(name)} now" for name in then if then[name] != now.get(name)]
    if changed:
        display.say(f"Other versions than the run began with ({'; '.join(changed)}): numbers may differ in last bits.")


def _sinks(run: RunFolder, settings: TrainSettings) -> tuple[Sink, ...]:
    if not settings.tensorboard:
        return ()
    return (TensorBoard(run.path / "tensorboard"),)


@contextmanager
def at_most_threads(settings: TrainSettings) -> Generator[None]:
    """Leave the number of threads as it is; with several processes on one machine, give each its share."""
    if distributed.world() == 1 or settings.device.startswith("cuda"):
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before // distributed.world()))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _strict(deterministic: bool) -> Generator[None]:
    """Refuse operations that may differ between two runs, where that was asked for."""
    if not deterministic:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs to be deterministic
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def _locked(folder: Path) -> Generator[None]:
    """Keep a second process from training the same run, where the system has locks that end with their process."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    if distributed.rank() != 0:
        yield
        return
    (folder / "state").mkdir(exist_ok=True)
    with (folder / "state" / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(f"another process is training the run {folder}; wait for it, or stop it.") from None
        yield


@contextmanager
def _stop_signals() -> Generator[Callable[[], bool]]:
    """Turn SIGTERM and the first SIGINT into a question that the loop asks; the second SIGINT stops at once."""
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked = True

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
