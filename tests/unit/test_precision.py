"""The choice of arithmetic, memory format and batch: by what was timed, and without a trace."""

import dataclasses

import pytest
import torch
from torch import nn

import striate.engine.batch_size as batch_size
import striate.engine.precision as precision
from striate.config import TrainSettings
from striate.core.annotations import Classifications
from striate.core.batch import Batch
from striate.engine.precision import Precision, candidates, choose
from striate.tasks.classification import Classification

RATES = {"float32": 1.0, "float32, channels last": 0.9, "bfloat16": 0.8, "bfloat16, channels last": 0.5}


@pytest.fixture
def task() -> Classification:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Dropout(), nn.Linear(16, 2))
    return Classification(network, ["a", "b"])


@pytest.fixture
def batch() -> Batch:
    return Batch(
        images=torch.randn(6, 1, 4, 4),
        sizes=torch.full((6, 2), 4),
        truths=Classifications(labels=torch.tensor([0, 1] * 3)),
        indices=torch.arange(6),
    )


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        (RATES, Precision("bfloat16", True)),
        (RATES | {"bfloat16, channels last": 2.0, "bfloat16": 0.5}, Precision("bfloat16", False)),
        (dict.fromkeys(RATES, 1.0), Precision()),
        (dict.fromkeys(RATES, 0.65) | {"float32": 1.0}, Precision()),  # a gain that noise could have made
        (dict.fromkeys(RATES, 3.0) | {"float32": 1.0}, Precision()),  # never slower than eager float32
    ],
)
def test_takes_the_fastest_and_float32_when_in_doubt(
    seconds: dict[str, float], chosen: Precision, task: Classification, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "_seconds", lambda task, batch, choice: seconds[str(choice)])
    found, rates = choose(task, batch, TrainSettings())
    assert found == chosen
    assert rates["float32"] == pytest.approx(6.0)


def test_really_times_and_leaves_no_trace(task: Classification, batch: Batch) -> None:
    before, random = {name: t.clone() for name, t in task.state_dict().items()}, torch.get_rng_state()
    _, rates = choose(task, batch, TrainSettings())
    assert set(rates) == set(RATES)
    assert all(rate > 0 for rate in rates.values())
    assert all(torch.equal(before[name], tensor) for name, tensor in task.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in task.parameters())


def test_what_is_given_is_not_tried(task: Classification, batch: Batch) -> None:
    settings = TrainSettings(precision="float32", channels_last=False)
    assert choose(task, batch, settings) == (Precision(), {})
    assert candidates(TrainSettings(precision="bfloat16")) == [Precision("bfloat16"), Precision("bfloat16", True)]


def test_batch_stops_where_memory_ends(task: Classification, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    real = batch_size._rate

    def rate(task: Classification, tried: Batch) -> float:
        if len(tried) > 16:
            raise torch.OutOfMemoryError("CUDA out of memory")
        real(task, tried)
        return float(len(tried))

    monkeypatch.setattr(batch_size, "_rate", rate)
    assert batch_size.largest_batch(task, batch, 10_000) == 16


def test_batch_stops_where_it_no_longer_pays(
    task: Classification, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_size, "_rate", lambda task, tried: min(len(tried), 64))
    assert batch_size.largest_batch(task, batch, 10_000) == 64
    assert batch_size.largest_batch(task, batch, 100) == 8  # an epoch keeps at least eight steps


def test_batch_passes_other_errors_on(task: Classification, batch: Batch) -> None:
    wrong = dataclasses.replace(batch, images=torch.randn(6, 3, 4, 4))
    with pytest.raises(RuntimeError, match="channels"):
        batch_size.largest_batch(task, wrong, 1000)


def test_a_tried_batch_has_all_columns_of_the_sample_as_often(task: Classification, batch: Batch) -> None:
    padded = dataclasses.replace(batch, inner=torch.tensor([[3, 4]] * len(batch)))
    tried = batch_size._repeated(padded.select(slice(0, 1)), 5)
    assert tried.content.tolist() == [[3, 4]] * 5
    assert len(tried.sizes) == len(tried.indices) == len(tried.labels.labels) == 5
