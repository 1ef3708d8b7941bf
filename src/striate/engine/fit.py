"""The training loop, one for every task.

What happens in a step depends only on the state before it and on the batch, and a batch only on the seed, the epoch
and its number. A run that is killed and resumed from a state therefore reaches the very weights of one that was not.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from striate.config import TrainSettings
from striate.core.batch import Batch
from striate.engine import distributed
from striate.engine.checkpoint import State, Store, copied, optimizer_tensors, restore_optimizer
from striate.engine.evaluate import Batches, evaluate
from striate.engine.log import Log
from striate.engine.optimizers import (
    LearningGroup,
    Plateau,
    add_l1,
    beginnings,
    decayed,
    grouped,
    learners,
    optimizer,
    peak_lr,
    schedule,
)
from striate.engine.precision import Precision
from striate.errors import DivergedError, InterruptedRunError, OutOfMemoryError, UsageError
from striate.metrics.metric import Metric
from striate.tasks.task import Task

CHECK_EVERY = 25  # steps between looks at the loss on a GPU, where each look waits for the device
RECORDS_PER_EPOCH = 20
FIRST_LOSS_TOLERANCE = 0.5  # relative


@dataclass(frozen=True, kw_only=True)
class Best:
    """The epoch with the best headline metric."""

    epoch: int  # 1-based, as people count
    value: float
    metrics: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What training came to."""

    best: Best | None  # None without validation
    epochs: int  # completed
    seconds: float  # over all resumed parts
    steps: int
    micro_batches: int  # that a step was made in, in the end


@dataclass
class Position:
    """Where training stands; with the tensors it is the whole state."""

    epoch: int = 0
    step: int = 0  # within the epoch
    steps: int = 0  # over all epochs
    loss_sum: float = 0.0  # over the images of this epoch
    images: int = 0  # of this epoch
    seconds: float = 0.0
    waited: int = 0  # epochs since the best one
    lr_scale: float = 1.0  # halved by the guard
    rollbacks: int = 0
    accumulate: int = 1
    best: Best | None = None
    plateau: dict[str, float] = field(default_factory=dict[str, float])
    scaler: dict[str, Any] = field(default_factory=dict[str, Any])
    log: int = 0  # bytes of the record


class _NotFiniteError(Exception):
    """A loss or gradient is not finite; carries the number of the step and its batch."""

    def __init__(self, what: str, batch: Batch):
        super().__init__(what)
        self.what = what
        self.batch = batch


class _Training:
    """What the loop holds while it runs, and how it is captured and put back."""

    def __init__(
        self,
        task: Task,
        settings: TrainSettings,
        steps: int,
        precision: Precision,
        device: torch.device,
        groups: Sequence[LearningGroup],
    ):
        self.task = task
        self.settings = settings
        self.groups = groups
        self.learning: frozenset[str] | None = None  # of the network's parameters; None before the first epoch
        self.precision = precision
        self.device = device
        precision.place(task.network)
        if settings.compile:
            task.network.compile()
        if groups:
            task.learn(learners(groups))
        self.optimizer = optimizer(task, settings, grouped(task.network, groups))
        self.peak = peak_lr(settings)
        self.course = schedule(settings, steps, beginnings(groups, settings.epochs))
        self.plateau = Plateau()
        self.ema = AveragedModel(task, multi_avg_fn=get_ema_multi_avg_fn(settings.ema)) if settings.ema else None
        self.wrapped = distributed.wrap(task, device)
        self.scaler = torch.GradScaler(device.type, enabled=precision.dtype == "float16")
        self.parameters = [parameter for parameter in task.parameters() if parameter.requires_grad]
        self.penalised = decayed(task.parameters(), settings.decay_all)[0] if settings.l1 else []
        self.position = Position(accumulate=settings.accumulate)
        self.last_batch: Batch | None = None

    @property
    def averaged(self) -> Task:
        """The task that is evaluated and kept: the moving average where there is one."""
        if self.ema is None:
            return self.task
        module = self.ema.module
        assert isinstance(module, Task)
        return module

    def capture(self, log: Log) -> State:
        """Everything, copied, so that it can be written while training goes on."""
        tensors = {f"task.{name}": copied(tensor) for name, tensor in self.task.state_dict().items()}
        tensors |= optimizer_tensors(self.optimizer)
        if self.ema is not None:
            tensors |= {f"ema.{name}": copied(tensor) for name, tensor in self.ema.state_dict().items()}
        self.position.plateau = {
            "factor": self.plateau.factor,
            "best": self.plateau.best,
            "waited": self.plateau.waited,
        }
        self.position.scaler = self.scaler.state_dict()
        self.position.log = log.position()
        return State(tensors=tensors, values=asdict(self.position))

    def restore(self, state: State) -> None:
        """Put everything back."""
        groups = {
            kind: {name.partition(".")[2]: t for name, t in state.tensors.items() if name.startswith(f"{kind}.")}
            for kind in ("task", "ema")
        }
        self.task.load_state_dict(groups["task"])
        if self.ema is not None:
            self.ema.load_state_dict(groups["ema"])
        restore_optimizer(self.optimizer, state.tensors)
        values = dict(state.values)
        best = values.pop("best")
        self.position = Position(**values, best=None if best is None else Best(**best))
        self.plateau.factor = self.position.plateau["factor"]
        self.plateau.best = self.position.plateau["best"]
        self.plateau.waited = int(self.position.plateau["waited"])
        if self.position.scaler:
            self.scaler.load_state_dict(self.position.scaler)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or patience is at its end."""
        settings, position = self.settings, self.position
        return position.epoch >= settings.epochs or 0 < settings.patience <= position.waited

    def set_lr(self) -> float:
        """Set and give the learning rate of the step to come."""
        lr = self.peak * self.course(self.position.steps) * self.plateau.factor * self.position.lr_scale
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["scale"]
        return lr

    @property
    def all_begun(self) -> bool:
        """Whether everything that is to learn has begun to, so that the metric says how far training has come."""
        return all(group.start is None or group.start <= self.position.epoch for group in self.groups)

    def enter_epoch(self) -> None:
        """Let those parameters learn whose time has come."""
        if not self.groups:
            return
        now = [group for group in self.groups if group.learns(self.position.epoch)]
        learning = frozenset(name for group in now for name in group.parameters)
        if learning != self.learning:
            self.learning = learning
            self.task.learn(learning)
            self.wrapped = distributed.wrap(self.task, self.device)  # which exchanges the gradients of what learns

    def step(self, batch: Batch, share: float) -> tuple[Tensor, Tensor]:
        """One step on images that are ``share`` of the batch over all processes.

        Returns:
            The batch's mean loss over all processes, and the gradient's norm before clipping; both scalars.
        """
        # Dropout depends on the place in the run, like everything random: a resumed run draws the same.
        place = (self.settings.seed * 2**32 + self.position.steps) * distributed.world() + distributed.rank()
        torch.default_generator.manual_seed(place)  # `torch.manual_seed` would queue work for GPUs not yet in use
        if self.device.type == "cuda":
            torch.cuda.manual_seed(place)
        self.optimizer.zero_grad(set_to_none=True)
        pieces = micro_batches(len(batch), self.position.accumulate)
        loss = torch.zeros((), device=self.device)
        for rows in pieces:
            part = batch if len(pieces) == 1 else batch.select(rows)
            with self._synchronised(rows == pieces[-1]), self.precision.autocast(self.device):
                losses = self.wrapped(self.precision.images(part))
                scaled = torch.stack(list(losses.values())).sum() * (share * len(part) / len(batch))
                # Processes average their gradients; the batch's mean is their sum.
                self.scaler.scale(scaled * distributed.world() if distributed.world() > 1 else scaled).backward()
            loss += scaled.detach()
        distributed.total(loss)
        self.scaler.unscale_(self.optimizer)
        if self.penalised:
            add_l1(self.penalised, self.settings.l1)
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        norm = get_total_norm(gradients)
        if looks_at_every_step(self.device) and not self.scaler.is_enabled():
            self.check(loss, norm, batch)
        if self.settings.clip:
            nn.utils.clip_grads_with_norm_(self.parameters, self.settings.clip, norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.ema is not None:
            self.ema.update_parameters(self.task)
        return loss, norm

    def _synchronised(self, last: bool) -> Any:
        if isinstance(self.wrapped, nn.parallel.DistributedDataParallel) and not last:
            return self.wrapped.no_sync()
        return torch.enable_grad()

    def check(self, loss: Tensor, norm: Tensor, batch: Batch) -> None:
        """Raise `_NotFiniteError` when the loss or the gradient is not finite."""
        if not math.isfinite(float(loss)):
            raise _NotFiniteError("the loss", batch)
        # Half precision's scaler meets infinite gradients on purpose and skips their step.
        if not self.scaler.is_enabled() and not math.isfinite(float(norm)):
            raise _NotFiniteError("the gradient", batch)


def fit(
    task: Task,
    train: Batches,
    val: Batches | None,
    settings: TrainSettings,
    log: Log,
    *,
    precision: Precision,
    device: torch.device,
    batch: int,
    store: Store | None = None,
    resume: State | None = None,
    epoch_start: State | None = None,
    on_best: Callable[[Task, Best, Metric], None] | None = None,
    watched: Mapping[str, Batches] = MappingProxyType({}),
    groups: Sequence[LearningGroup] = (),
    stop: Callable[[], bool] = lambda: False,
    name_of: Callable[[Tensor], list[str]] = lambda indices: [str(int(index)) for index in indices],
) -> Fitted:
    """Train a task.

    Args:
        task: on its device. Holds the last weights afterwards (their moving average where one is kept).
        train: shuffled, augmented batches.
        val: what each epoch is measured on; None trains without looking.
        settings: of which only those of the groups "training" and "machine" are read.
        log: takes every event.
        precision: arithmetic and memory format of the steps.
        device: where the task is.
        batch: images per step over all processes.
        store: where states are kept; None keeps none.
        resume: the state to go on from.
        epoch_start: the state at the start of its epoch, which the guard goes back to.
        on_best: called after each epoch that is the best so far with the task, its metrics, and the metric that they
            were computed by, which may have more to say.
        groups: which parameters learn, in which epochs and how fast; without, all do throughout. Where some stop for
            others, the course of the learning rate begins again; patience counts once all have begun.
        watched: more splits to measure after each epoch, for the record only.
        stop: asked before every step; True saves the state and raises `InterruptedRunError`.
        name_of: names of images by their rows in the data set, for messages.

    Raises:
        DivergedError: a loss or gradient was not finite for the second time.
        OutOfMemoryError: not even one image fits.
        InterruptedRunError: `stop` said so; the state is on disk.
        StriateError: a state could not be written.
    """
    if batch < distributed.world():
        raise UsageError(f"--batch {batch} is less than an image for each of {distributed.world()} processes.")
    run = _Training(task, settings, train.steps, precision, device, groups)
    if resume is not None:
        run.restore(resume)
    task.train()
    started = time.perf_counter() - run.position.seconds
    last_saved = time.perf_counter()

    def due() -> bool:
        return time.perf_counter() - last_saved > settings.checkpoint_every and not (store and store.busy)

    def save() -> State:
        nonlocal last_saved
        run.position.seconds = time.perf_counter() - started
        state, last_saved = run.capture(log), time.perf_counter()
        if store is not None and distributed.rank() == 0:
            store.save(state)
        return state

    # The guard goes back to the start of the epoch: the last checkpoint would depend on the clock.
    good = epoch_start or (resume if resume is not None else save())
    while not run.finished:
        run.enter_epoch()
        try:
            for settled in _epoch(run, train, log, stop, due):
                if settled and due():
                    save()
            _finish_epoch(run, val, watched, log, on_best)
        except _NotFiniteError as error:
            _roll_back(run, good, error, log, name_of)
            continue
        except InterruptedRunError:
            save()
            if store is not None:
                store.wait()
            raise
        good = save()
    if store is not None:
        store.wait()
    if run.ema is not None:
        task.load_state_dict(run.averaged.state_dict())
    position = run.position
    return Fitted(
        best=position.best,
        epochs=position.epoch,
        seconds=position.seconds,
        steps=position.steps,
        micro_batches=len(micro_batches(batch // distributed.world(), position.accumulate)),
    )


def _epoch(
    run: _Training, train: Batches, log: Log, stop: Callable[[], bool], due: Callable[[], bool]
) -> Iterator[bool]:
    """The steps of one epoch from the position on; after each, whether all losses so far were looked at."""
    position, total = run.position, train.steps
    record_every = max(1, total // RECORDS_PER_EPOCH)
    pending: list[tuple[Tensor, Tensor, Batch, int]] = []
    shown_from, shown_images, waited = time.perf_counter(), 0, train.wait
    previous: Batch | None = None

    def settle() -> None:
        for loss, norm, batch, images in pending:
            run.check(loss, norm, batch)
            position.loss_sum += float(loss) * images
        pending.clear()

    for own in train.epoch(position.epoch, position.step):
        counts = torch.tensor([len(own), float(stop())], dtype=torch.float64)
        if distributed.world() > 1:
            counts = distributed.total(counts.to(run.device)).cpu()
        images = int(counts[0])
        if counts[1]:
            settle()
            raise InterruptedRunError("interrupted")
        # A process without a share still takes part in the exchange of gradients, with a loss that weighs nothing.
        current = own
        if not len(own):
            current = previous = previous or next(train.epoch(position.epoch))
        elif distributed.world() > 1:
            previous = own
        lr = run.set_lr()
        if images:
            run.last_batch = current
            loss, norm = _step_that_fits(run, current, len(own) / images, log)
            pending.append((loss, norm, current, images))
            position.images += images
            if position.steps == 0:
                _check_first_loss(run.task, float(loss), log)
            if position.step % record_every == 0:
                log.record(
                    "step",
                    epoch=position.epoch + 1,
                    step=position.steps + 1,
                    loss=float(loss),
                    gradient_norm=float(norm),
                    lr=lr,
                )
        if looks_at_every_step(run.device) or len(pending) >= CHECK_EVERY or position.step + 1 == total or due():
            settle()
        position.step += 1
        position.steps += 1
        shown_images += images
        seconds = time.perf_counter() - shown_from
        log.display.progress(
            f"epoch {position.epoch + 1}/{run.settings.epochs}",
            position.step,
            total,
            _detail(position, shown_images / max(seconds, 1e-9), (train.wait - waited) / max(seconds, 1e-9)),
        )
        yield not pending
    log.record(
        "train",
        epoch=position.epoch + 1,
        loss=position.loss_sum / max(1, position.images),
        images_per_second=shown_images / max(1e-9, time.perf_counter() - shown_from),
        waiting=(train.wait - waited) / max(1e-9, time.perf_counter() - shown_from),
    )


def _detail(position: Position, rate: float, waiting: float) -> str:
    loss = position.loss_sum / max(1, position.images)
    best = "" if position.best is None else f"  best {position.best.value:.4f}"
    wait = f"  waiting for data {waiting:.0%}" if waiting >= 0.01 else ""
    return f"loss {loss:.4f}{best}  {rate:,.0f} images/s{wait}"


def _check_first_loss(task: Task, loss: float, log: Log) -> None:
    expected = task.first_loss()
    if math.isfinite(loss) and abs(loss - expected) > FIRST_LOSS_TOLERANCE * expected:
        log.say(
            f"The first loss is {loss:.3g}; a network that knows nothing yet should pay about {expected:.3g}. Far "
            "above: inputs not normalised, or weights too large. Far below: trained weights to start from, or a class "
            "that is nearly all of the data."
        )


def _step_that_fits(run: _Training, batch: Batch, share: float, log: Log) -> tuple[Tensor, Tensor]:
    """A step; halves the micro-batch as often as memory demands and keeps the effective batch."""
    while True:
        try:
            return run.step(batch, share)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
        micro = len(range(*micro_batches(len(batch), run.position.accumulate)[0].indices(len(batch))))
        if micro <= 2 or distributed.world() > 1:
            raise OutOfMemoryError(
                f"out of memory with {micro} image(s) of {tuple(batch.images.shape[1:])} at once. Use a smaller "
                "--size, a smaller model, or --accumulate with several processes."
            )
        run.position.accumulate *= 2
        run.optimizer.zero_grad(set_to_none=True)
        if run.device.type == "cuda":
            torch.cuda.empty_cache()
        pieces = len(micro_batches(len(batch), run.position.accumulate))
        log.say(f"Out of memory: a step of {len(batch)} images is now made in {pieces} pieces.")


def out_of_memory(error: RuntimeError) -> bool:
    """Whether the device, or the CPU's allocator, ran out of memory."""
    said = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or "not enough memory" in said or "can't allocate memory" in said


def looks_at_every_step(device: torch.device) -> bool:
    """Whether a loss can be read without waiting for the device."""
    return device.type == "cpu"


def micro_batches(images: int, pieces: int) -> list[slice]:
    """Cut a batch into pieces of equal size, give or take one; of at least two images, for batch normalisation."""
    pieces = max(1, min(pieces, images // 2))
    return [slice(images * piece // pieces, images * (piece + 1) // pieces) for piece in range(pieces)]


def _finish_epoch(
    run: _Training,
    val: Batches | None,
    watched: Mapping[str, Batches],
    log: Log,
    on_best: Callable[[Task, Best, Metric], None] | None,
) -> None:
    """Measure the epoch, keep it if it is the best, move on."""
    position = run.position
    mean_loss = position.loss_sum / max(1, position.images)
    number = position.epoch + 1
    text = f"epoch {number:>3}/{run.settings.epochs}  loss {mean_loss:.4f}"
    splits = {**({} if val is None else {"val": val}), **watched}
    gauges: dict[str, Metric] = {}
    measured: dict[str, dict[str, float]] = {}
    if splits:
        distributed.share_buffers(run.averaged)
        try:
            gauges = {name: evaluate(run.averaged, batches).metric for name, batches in splits.items()}
            measured = {name: metric.compute() for name, metric in gauges.items()}
        except DivergedError as error:
            if run.last_batch is None:
                raise
            raise _NotFiniteError("a validation score", run.last_batch) from error
    seen = {name: measured[name] for name in watched}
    extra = {"watched": seen} if seen else {}
    if val is not None:
        metrics = measured["val"]
        value = metrics[run.task.headline]
        better = position.best is None or value > position.best.value
        if better:
            position.best = Best(epoch=number, value=value, metrics=metrics)
            position.waited = 0
            if on_best is not None:
                on_best(run.averaged, position.best, gauges["val"])
        elif run.all_begun:
            position.waited += 1
        text += f"  val loss {metrics['loss']:.4f}" if "loss" in metrics else ""
        text += f"  {run.task.headline} {value:.4f}{'  best' if better else ''}"
        log.record("epoch", epoch=number, train_loss=mean_loss, val=metrics, **extra)
        if run.settings.schedule == "plateau" and run.all_begun and run.plateau.update(value):
            log.say(f"Validation has settled: the learning rate is now {run.plateau.factor * run.peak:.3g}.")
    else:
        log.record("epoch", epoch=number, train_loss=mean_loss, **extra)
    text += "".join(f"  {name} {run.task.headline} {found[run.task.headline]:.4f}" for name, found in seen.items())
    log.display.say(text)
    position.epoch, position.step, position.loss_sum, position.images = number, 0, 0.0, 0
    if run.finished and number < run.settings.epochs:
        log.say(f"No better {run.task.headline} for {position.waited} epochs: stopped after epoch {number}.")


def _roll_back(
    run: _Training, good: State, error: _NotFiniteError, log: Log, name_of: Callable[[Tensor], list[str]]
) -> None:
    """Go back to the last good state with half the learning rate, or give up and name what happened."""
    position = run.position
    where = f"epoch {position.epoch + 1}, step {position.step + 1}"
    if position.rollbacks:
        names = name_of(error.batch.indices)
        shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        raise DivergedError(
            f"{error.what} is not finite again ({where}), after going back once with half the learning rate. "
            f"First layer that is not finite: {first_not_finite(run.task, error.batch)}. Images of the batch: {shown}. "
            f"Try a smaller --lr (it was {run.peak * position.lr_scale:.3g} at its peak), --clip 1, a --warmup, or "
            "--precision float32."
        ) from None
    scale, rollbacks = position.lr_scale / 2, position.rollbacks + 1
    run.restore(good)
    run.position = replace(run.position, lr_scale=scale, rollbacks=rollbacks)
    log.say(
        f"{error.what[0].upper()}{error.what[1:]} is not finite ({where}): back to epoch {run.position.epoch + 1}, "
        f"step {run.position.step + 1}, with half the learning rate.",
        guard="rollback",
    )


def first_not_finite(task: Task, batch: Batch) -> str:
    """The first module, in order of execution, whose weights or output are not finite; for a message."""
    found: list[str] = []

    def look(name: str, module: nn.Module) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            if found or not isinstance(output, Tensor):
                return
            bad = [key for key, weight in module.named_parameters(recurse=False) if not bool(weight.isfinite().all())]
            if bad:
                found.append(f"{name} (its {bad[0]})")
            elif not bool(output.isfinite().all()):
                found.append(f"{name} (its output)")

        return hook

    leaves = [(name, module) for name, module in task.network.named_modules() if not any(module.children())]
    handles = [module.register_forward_hook(look(name or "network", module)) for name, module in leaves]
    try:
        with torch.no_grad():
            task(batch)
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else "none in the forward pass; the gradient overflowed"
