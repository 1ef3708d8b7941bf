"""The training loop on a network and data small enough to run hundreds of times."""

import dataclasses
import json
import math
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from striate.config import TrainSettings
from striate.core.annotations import Classifications
from striate.core.batch import Batch
from striate.engine.checkpoint import Store
from striate.engine.fit import Fitted, fit
from striate.engine.log import Display, Log
from striate.engine.optimizers import LearningGroup
from striate.engine.precision import Precision
from striate.errors import DivergedError, InterruptedRunError, OutOfMemoryError, StriateError
from striate.tasks.classification import Classification

IMAGES, SIDE, CLASSES, BATCH = 50, 4, 3, 8
EVERYTHING = TrainSettings(
    epochs=3, batch=BATCH, lr=0.05, optimizer="sgd", schedule="cosine", warmup=0.5, ema=0.9, l1=1e-4, clip=1.0
)


class Patterns:
    """Batches of noisy patterns, one per class; batch k of epoch e is a function of (e, k)."""

    wait = 0.0

    def __init__(self, images: int = IMAGES) -> None:
        generator = torch.Generator().manual_seed(0)
        self.labels = torch.randint(CLASSES, (images,), generator=generator)
        noise = 0.3 * torch.randn(images, 1, SIDE, SIDE, generator=generator)
        self.images = torch.randn(CLASSES, 1, SIDE, SIDE, generator=generator)[self.labels] + noise
        self.steps = math.ceil(images / BATCH)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        order = torch.randperm(len(self.labels), generator=torch.Generator().manual_seed(epoch))
        for rows in list(order.split(BATCH))[start:]:
            yield Batch(
                images=self.images[rows],
                sizes=torch.full((len(rows), 2), SIDE),
                truths=Classifications(labels=self.labels[rows]),
                indices=rows,
            )


def make_task(dropout: float = 0.2, norm: bool = True) -> Classification:
    torch.manual_seed(0)
    middle: list[nn.Module] = [nn.BatchNorm2d(4)] if norm else []
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3), *middle, nn.ReLU(), nn.Flatten(), nn.Dropout(dropout), nn.Linear(16, CLASSES)
    )
    return Classification(network, ["a", "b", "c"])


def run(
    task: Classification,
    settings: TrainSettings,
    folder: Path,
    *,
    stop: Callable[[], bool] = lambda: False,
    resume: bool = False,
    train: Patterns | None = None,
    groups: Sequence[LearningGroup] = (),
) -> Fitted:
    store = Store(folder / "state")
    state, epoch_start = store.load() if resume else (None, None)
    position = int(state.values["log"]) if state else 0
    log = Log(folder / "metrics.jsonl", Display(quiet=True), position=position)
    torch.manual_seed(1 if state is None else 99)  # a resumed process starts with another random state
    try:
        return fit(
            task,
            train or Patterns(),
            Patterns(),
            settings,
            log,
            precision=Precision(),
            device=torch.device("cpu"),
            batch=BATCH,
            store=store,
            resume=state,
            epoch_start=epoch_start,
            stop=stop,
            groups=groups,
        )
    finally:
        log.close()


def events(folder: Path, kind: str) -> list[dict[str, object]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def weights(task: Classification) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in task.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def after(steps: int) -> Callable[[], bool]:
    """Ask to stop before step ``steps``, counted from 0."""
    count = iter(range(10**6))
    return lambda: next(count) >= steps


def test_learns(tmp_path: Path) -> None:
    task = make_task()
    fitted = run(task, TrainSettings(epochs=15, batch=BATCH, lr=0.02), tmp_path)
    assert fitted.best is not None
    assert fitted.best.value > 0.9
    assert fitted.epochs == 15
    assert fitted.steps == 15 * 7
    losses = [float(str(event["train_loss"])) for event in events(tmp_path, "epoch")]
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize(
    "settings",
    [
        EVERYTHING,
        TrainSettings(epochs=3, batch=BATCH, lr=0.01),  # AdamW, one-cycle
        TrainSettings(epochs=3, batch=BATCH, lr=0.01, optimizer="adam", schedule="plateau", accumulate=3),
    ],
    ids=["sgd", "adamw", "adam"],
)
def test_resumes_from_any_step_to_the_same_bits(settings: TrainSettings, tmp_path: Path) -> None:
    whole = make_task()
    fitted = run(whole, settings, tmp_path / "whole")
    steps = 3 * Patterns().steps
    for stopped_at in random.Random(0).sample(range(1, steps), 6):
        folder = tmp_path / str(stopped_at)
        with pytest.raises(InterruptedRunError):
            run(make_task(), settings, folder, stop=after(stopped_at))
        resumed = make_task()
        again = run(resumed, settings, folder, resume=True)
        assert same(weights(resumed), weights(whole)), stopped_at
        assert again.best == fitted.best
        for kind in ("epoch", "step"):
            assert events(folder, kind) == events(tmp_path / "whole", kind)


def test_another_seed_gives_other_weights(tmp_path: Path) -> None:
    """The comparison of bits above can fail."""
    one, other = make_task(), make_task()
    run(one, EVERYTHING, tmp_path / "one")
    run(other, dataclasses.replace(EVERYTHING, lr=0.0500001), tmp_path / "other")
    assert not same(weights(one), weights(other))


def test_micro_batches_add_up(tmp_path: Path) -> None:
    settings = TrainSettings(epochs=2, batch=BATCH, lr=0.05, optimizer="sgd")
    for pieces in (1, 3):
        task = make_task(dropout=0, norm=False)
        run(task, dataclasses.replace(settings, accumulate=pieces), tmp_path / str(pieces))
    one, three = ([float(str(event["loss"])) for event in events(tmp_path / str(pieces), "step")] for pieces in (1, 3))
    assert one == pytest.approx(three, abs=1e-6)


class Faulty(Classification):
    """Gives a loss that is not finite at some calls."""

    def __init__(self, base: Classification, at: set[int], error: Callable[[Batch], RuntimeError | None] | None = None):
        super().__init__(base.network, base.classes)
        self.at, self.calls, self.error = at, 0, error

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        self.calls += 1
        if self.error is not None and (problem := self.error(batch)):
            raise problem
        losses = super().forward(batch)
        return {name: loss * (math.inf if self.calls in self.at else 1) for name, loss in losses.items()}


def test_goes_back_once_with_half_the_learning_rate(tmp_path: Path) -> None:
    settings = TrainSettings(epochs=3, batch=BATCH, lr=0.02, optimizer="sgd", schedule="constant")
    fitted = run(Faulty(make_task(), {10}), settings, tmp_path)  # the third step of the second epoch
    assert fitted.epochs == 3
    messages = [str(event["text"]) for event in events(tmp_path, "message")]
    assert any("loss is not finite (epoch 2, step 3): back to epoch 2, step 1, with half" in text for text in messages)
    rates = {event["step"]: event["lr"] for event in events(tmp_path, "step")}
    assert rates[1] == 0.02
    assert rates[20] == 0.01


def test_gives_up_the_second_time_and_names_the_images(tmp_path: Path) -> None:
    settings = TrainSettings(epochs=3, batch=BATCH, lr=0.02, optimizer="sgd")
    task = Faulty(make_task(), set(range(10, 100)))
    with pytest.raises(DivergedError, match=r"epoch 2, step 1\).*Images of the batch: \d+, \d+"):
        run(task, settings, tmp_path)


def test_names_the_layer_that_overflows(tmp_path: Path) -> None:
    task = make_task(norm=False)
    linear = task.network[-1]
    assert isinstance(linear, nn.Linear)
    with torch.no_grad():
        linear.weight.fill_(math.inf)
    with pytest.raises(DivergedError, match=r"layer that is not finite: 4 \(its weight\)"):
        run(task, TrainSettings(epochs=1, batch=BATCH, lr=0.1), tmp_path)


def test_halves_the_micro_batch_when_memory_runs_out(tmp_path: Path) -> None:
    def too_large(batch: Batch) -> RuntimeError | None:
        return torch.OutOfMemoryError("CUDA out of memory") if len(batch) > 2 and torch.is_grad_enabled() else None

    settings = TrainSettings(epochs=1, batch=BATCH, lr=0.05, optimizer="sgd")
    fitted = run(Faulty(make_task(0, norm=False), set(), too_large), settings, tmp_path / "small")
    assert fitted.micro_batches == 4
    run(make_task(0, norm=False), settings, tmp_path / "whole")
    small, whole = ([float(str(e["loss"])) for e in events(tmp_path / n, "step")] for n in ("small", "whole"))
    assert small == pytest.approx(whole, abs=1e-6)
    messages = [str(event["text"]) for event in events(tmp_path / "small", "message")]
    assert any("a step of 8 images is now made in 4 pieces" in text for text in messages)


@pytest.mark.parametrize(
    "message", ["DefaultCPUAllocator: can't allocate memory: you tried", "DefaultCPUAllocator: not enough memory: you"]
)
def test_says_when_not_even_one_image_fits(message: str, tmp_path: Path) -> None:
    task = Faulty(make_task(), set(), lambda batch: RuntimeError(message))
    with pytest.raises(OutOfMemoryError, match=r"2 image\(s\) of \(1, 4, 4\)"):
        run(task, TrainSettings(epochs=1, batch=BATCH, lr=0.05), tmp_path)


def test_other_errors_pass_through(tmp_path: Path) -> None:
    task = Faulty(make_task(), set(), lambda batch: RuntimeError("shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes"):
        run(task, TrainSettings(epochs=1, batch=BATCH, lr=0.05), tmp_path)


def test_stops_early_when_nothing_gets_better(tmp_path: Path) -> None:
    settings = TrainSettings(epochs=50, batch=BATCH, lr=1e-12, optimizer="sgd", schedule="constant", patience=2)
    fitted = run(make_task(0, norm=False), settings, tmp_path)
    assert fitted.epochs == 3
    assert fitted.best is not None
    assert fitted.best.epoch == 1


def in_turn(epochs: int) -> tuple[LearningGroup, ...]:
    """The convolution and its normalisation for some epochs, then the last layer on what they have become."""
    return (
        LearningGroup(name="body", parameters=("0.weight", "0.bias", "1.weight", "1.bias"), stop=epochs),
        LearningGroup(name="last", parameters=("5.weight", "5.bias"), start=epochs),
    )


def test_one_part_after_the_other_with_a_course_of_the_rate_for_each(tmp_path: Path) -> None:
    settings = TrainSettings(epochs=4, batch=BATCH, lr=0.05, schedule="cosine", weight_decay=0.1)
    start, task = weights(make_task()), make_task()
    run(task, dataclasses.replace(settings, epochs=2), tmp_path / "half", groups=in_turn(2))
    half = weights(task)
    assert {name for name in start if not torch.equal(start[name], half[name])} == {
        *("network.0.weight", "network.0.bias", "network.1.weight", "network.1.bias"),
        *("network.1.running_mean", "network.1.running_var", "network.1.num_batches_tracked"),
    }
    task = make_task()
    run(task, settings, tmp_path / "whole", groups=in_turn(2))
    whole = weights(task)
    assert {name for name in half if not torch.equal(half[name], whole[name])} == {"network.5.weight", "network.5.bias"}
    rates = [event["lr"] for event in events(tmp_path / "whole", "step")]
    middle = len(rates) // 2
    assert rates[:middle] == rates[middle:]
    assert rates[0] == 0.05


@pytest.mark.parametrize("steps", [9, 14, 15, 24])  # before, on and after the change
def test_resumes_to_the_same_bits_across_the_change_of_parts(steps: int, tmp_path: Path) -> None:
    settings = TrainSettings(epochs=4, batch=BATCH, lr=0.05, ema=0.9)
    assert Patterns().steps == 7
    whole, cut = make_task(), make_task()
    run(whole, settings, tmp_path / "whole", groups=in_turn(2))
    with pytest.raises(InterruptedRunError):
        run(cut, settings, tmp_path / "cut", groups=in_turn(2), stop=after(steps))
    again = make_task()
    run(again, settings, tmp_path / "cut", groups=in_turn(2), resume=True)
    assert same(weights(whole), weights(again))


def test_patience_counts_from_when_everything_learns(tmp_path: Path) -> None:
    settings = TrainSettings(epochs=50, batch=BATCH, lr=1e-12, optimizer="sgd", schedule="constant", patience=2)
    fitted = run(make_task(0), settings, tmp_path, groups=in_turn(5))
    assert fitted.epochs >= 7


def test_plateau_divides_by_ten(tmp_path: Path) -> None:
    settings = TrainSettings(epochs=7, batch=BATCH, lr=1e-12, optimizer="sgd", schedule="plateau")
    run(make_task(0, norm=False), settings, tmp_path)
    rates = [event["lr"] for event in events(tmp_path, "step")]
    assert rates[0] == 1e-12
    assert rates[-1] == pytest.approx(1e-13)


def test_first_loss_far_from_what_is_expected_is_said(tmp_path: Path) -> None:
    task = make_task(norm=False)
    linear = task.network[-1]
    assert isinstance(linear, nn.Linear)
    with torch.no_grad():
        linear.weight.mul_(100)
    run(task, TrainSettings(epochs=1, batch=BATCH, lr=1e-3), tmp_path)
    assert any("first loss" in str(event["text"]) for event in events(tmp_path, "message"))


def test_a_full_disk_keeps_the_last_good_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import striate.engine.checkpoint as checkpoint

    settings = TrainSettings(epochs=4, batch=BATCH, lr=0.05)
    real, saved = checkpoint.save_file, iter(range(100))

    def full(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
        if next(saved) >= 2:
            path.write_bytes(b"half a file")
            raise OSError(28, "No space left on device")
        real(tensors, path, metadata=metadata)

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(StriateError, match=r"No space left on device.*last good checkpoint is intact.*--resume"):
        run(make_task(), settings, tmp_path / "full")
    monkeypatch.undo()
    assert sorted(path.name for path in (tmp_path / "full" / "state").iterdir()) == ["epoch.safetensors"]
    resumed, whole = make_task(), make_task()
    run(resumed, settings, tmp_path / "full", resume=True)
    run(whole, settings, tmp_path / "whole")
    assert same(weights(resumed), weights(whole))


def test_a_resume_that_saves_before_it_records_keeps_the_record_whole(tmp_path: Path) -> None:
    with pytest.raises(InterruptedRunError):
        run(make_task(), EVERYTHING, tmp_path, stop=after(5))
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"event": "step", "written": "after the last checkpoint"}\n' * 9)
    for _ in range(2):
        with pytest.raises(InterruptedRunError):
            run(make_task(), EVERYTHING, tmp_path, resume=True, stop=lambda: True)
    run(make_task(), EVERYTHING, tmp_path, resume=True)
    assert b"\0" not in (tmp_path / "metrics.jsonl").read_bytes()
    assert len(events(tmp_path, "epoch")) == 3


def test_a_run_that_stopped_early_stays_stopped(tmp_path: Path) -> None:
    settings = TrainSettings(epochs=50, batch=BATCH, lr=1e-12, optimizer="sgd", schedule="constant", patience=2)
    task, again = make_task(0, norm=False), make_task(0, norm=False)
    run(task, settings, tmp_path)
    assert run(again, settings, tmp_path, resume=True).epochs == 3
    assert same(weights(task), weights(again))


@pytest.mark.parametrize("stopped_at", [9, 12, 16])
def test_the_guard_does_not_depend_on_when_it_was_saved(stopped_at: int, tmp_path: Path) -> None:
    """Whether checkpoints are many or few, and whether the run was killed before, during or after the fault."""

    class AtStep(Classification):
        """The loss of some images is not finite while the learning rate is whole."""

        rate = 1.0

        def forward(self, batch: Batch) -> dict[str, Tensor]:
            bad = 10 in batch.indices.tolist() and self.training and type(self).spoilt < 1
            losses = super().forward(batch)
            if bad:
                type(self).spoilt += 1
                return {name: loss * math.inf for name, loss in losses.items()}
            return losses

        spoilt = 0

    found: list[dict[str, Tensor]] = []
    for name, often in (("few", 30.0), ("many", 1e-9)):
        AtStep.spoilt = 0
        base = make_task()
        task = AtStep(base.network, base.classes)
        settings = dataclasses.replace(EVERYTHING, checkpoint_every=often)
        if name == "many":
            with pytest.raises(InterruptedRunError):
                run(task, settings, tmp_path / name, stop=after(stopped_at))
            base = make_task()
            task = AtStep(base.network, base.classes)
            run(task, settings, tmp_path / name, resume=True)
        else:
            run(task, settings, tmp_path / name)
        found.append(weights(task))
    assert same(*found)


def test_a_validation_that_is_not_finite_goes_back_too(tmp_path: Path) -> None:
    class Explodes(Classification):
        calls = 0

        def predict(self, batch: Batch) -> Classifications:
            type(self).calls += 1
            found = super().predict(batch)
            assert found.scores is not None
            return dataclasses.replace(found, scores=found.scores * (math.nan if type(self).calls == 10 else 1))

    base = make_task()
    fitted = run(Explodes(base.network, base.classes), TrainSettings(epochs=3, batch=BATCH, lr=0.01), tmp_path)
    assert fitted.epochs == 3
    messages = [str(event["text"]) for event in events(tmp_path, "message")]
    assert any("validation score is not finite" in text and "half the learning rate" in text for text in messages)


def test_losses_are_looked_at_before_a_state_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU the loop looks at the loss now and then only; a state must not be ahead of its losses."""
    import striate.engine.fit as loop

    settings = dataclasses.replace(EVERYTHING, checkpoint_every=1e-9)
    whole, stopped = make_task(), make_task()
    run(whole, settings, tmp_path / "whole")
    monkeypatch.setattr(loop, "looks_at_every_step", lambda device: False)
    with pytest.raises(InterruptedRunError):
        run(stopped, settings, tmp_path / "stopped", stop=after(11))
    resumed = make_task()
    run(resumed, settings, tmp_path / "stopped", resume=True)
    losses = [[event["train_loss"] for event in events(tmp_path / name, "epoch")] for name in ("whole", "stopped")]
    assert losses[0] == losses[1]
    assert same(weights(whole), weights(resumed))


@pytest.mark.parametrize("images", range(1, 20))
@pytest.mark.parametrize("pieces", [1, 2, 3, 7, 64])
def test_micro_batches_cover_a_batch_and_none_is_alone(images: int, pieces: int) -> None:
    from striate.engine.fit import micro_batches

    cut = micro_batches(images, pieces)
    rows = [row for piece in cut for row in range(*piece.indices(images))]
    assert rows == list(range(images))
    assert len(cut) <= pieces
    assert images == 1 or all(piece.stop - piece.start >= 2 for piece in cut)
