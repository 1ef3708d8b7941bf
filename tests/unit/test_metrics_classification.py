import itertools

import pytest
import torch

from striate.core.annotations import Classifications
from striate.errors import DataError, DivergedError
from striate.metrics.classification import ClassificationMetric


def some(images: int, classes: int, seed: int = 0) -> tuple[Classifications, Classifications]:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(images, classes, generator=generator).mul(3).softmax(1)
    truths = torch.randint(classes, (images,), generator=generator)
    return Classifications(labels=scores.argmax(1), scores=scores), Classifications(labels=truths)


def measured(predictions: Classifications, truths: Classifications, classes: int, *cuts: int) -> ClassificationMetric:
    metric = ClassificationMetric(classes)
    for start, stop in itertools.pairwise((0, *cuts, len(truths))):
        metric.update(predictions.select(slice(start, stop)), truths.select(slice(start, stop)))
    return metric


def test_the_cut_into_batches_and_processes_changes_no_bit():
    predictions, truths = some(500, 10)
    whole = measured(predictions, truths, 10)
    order = torch.randperm(500, generator=torch.Generator().manual_seed(1))
    shuffled = measured(predictions.select(order), truths.select(order), 10, 1, 33, 400)
    first = measured(predictions.select(slice(0, 77)), truths.select(slice(0, 77)), 10)
    first.merge(measured(predictions.select(slice(77, 500)), truths.select(slice(77, 500)), 10, 200))
    assert whole.compute() == shuffled.compute() == first.compute()
    assert (whole.confusion == first.confusion).all()
    assert whole.interval(seed=1) == first.interval(seed=1)


def test_merging_leaves_the_other_alone():
    first, second = measured(*some(20, 3), 3), measured(*some(30, 3, seed=1), 3)
    before = second.compute()
    first.merge(second)
    first.update(*some(5, 3))
    assert second.compute() == before
    assert (first.count, second.count) == (55, 30)


def test_states_of_processes_add_up_tensor_by_tensor():
    first, second = measured(*some(64, 7), 7), measured(*some(65, 7, seed=1), 7)
    total = {name: tensor + second.state()[name] for name, tensor in first.state().items()}
    first.merge(second)
    assert all(torch.equal(total[name], tensor) for name, tensor in first.state().items())


def test_small_example_by_hand():
    scores = torch.tensor([[0.7, 0.3], [0.6, 0.4], [0.2, 0.8]])
    metric = measured(
        Classifications(labels=scores.argmax(1), scores=scores), Classifications(labels=torch.tensor([0, 1, 1])), 2
    )
    metrics = metric.compute()
    assert metrics["top1"] == pytest.approx(2 / 3)
    assert metrics["loss"] == pytest.approx(-(torch.tensor([0.7, 0.4, 0.8]).log().mean()).item())
    assert metric.confusion.tolist() == [[1, 0], [1, 1]]
    # class 0: precision 1/2, recall 1; class 1: precision 1, recall 1/2
    assert (metrics["precision"], metrics["recall"]) == (0.75, 0.75)
    assert metrics["f1"] == pytest.approx(2 / 3)
    # one image in each of three bins: |1 - 0.7|, |0 - 0.6|, |1 - 0.8|
    assert metrics["ece"] == pytest.approx((0.3 + 0.6 + 0.2) / 3, abs=1e-7)
    assert metric.per_class(["cat", "dog"])[1] == {
        "name": "dog", "precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "support": 2
    }  # fmt: skip


def test_ties_in_the_top_five_go_to_the_lower_label():
    scores = torch.full((7, 7), 1 / 7)
    metric = measured(
        Classifications(labels=scores.argmax(1), scores=scores), Classifications(labels=torch.arange(7)), 7
    )
    assert metric.compute()["top5"] == pytest.approx(5 / 7)


def test_a_probability_of_zero_has_a_finite_loss():
    scores = torch.tensor([[1.0, 0.0]])
    metric = measured(
        Classifications(labels=torch.tensor([0]), scores=scores), Classifications(labels=torch.tensor([1])), 2
    )
    assert metric.compute()["loss"] == pytest.approx(87.3365, abs=1e-3)


def test_interval_is_repeatable_and_has_no_width_when_all_is_right():
    metric = measured(*some(200, 10), 10)
    low, high = metric.interval(seed=5)
    assert metric.interval(seed=5) == (low, high)
    assert low < metric.compute()["top1"] < high
    scores = torch.eye(4)
    perfect = measured(
        Classifications(labels=torch.arange(4), scores=scores), Classifications(labels=torch.arange(4)), 4
    )
    assert perfect.interval(seed=0) == (1.0, 1.0)


def test_soft_targets_and_half_precision_are_taken():
    predictions, truths = some(50, 6)
    assert predictions.scores is not None
    half = Classifications(labels=predictions.labels, scores=predictions.scores.bfloat16())
    soft = Classifications(labels=truths.labels, scores=torch.full((50, 6), 1 / 6))
    assert measured(half, soft, 6).compute()["top1"] == measured(predictions, truths, 6).compute()["top1"]


def test_an_empty_batch_is_taken_and_an_empty_split_is_refused():
    metric = measured(*some(0, 6), 6)
    with pytest.raises(DataError, match="empty"):
        metric.compute()
    with pytest.raises(DataError, match="empty"):
        metric.interval()


@pytest.mark.parametrize(
    ("predictions", "truths", "message"),
    [
        (Classifications(labels=torch.tensor([0])), torch.tensor([0]), "no scores"),
        (Classifications(labels=torch.tensor([0]), scores=torch.ones(1, 4)), torch.tensor([0]), r"\(1, 4\)"),
        (Classifications(labels=torch.tensor([0]), scores=torch.ones(1, 3)), torch.tensor([3]), "true label 3"),
        (Classifications(labels=torch.tensor([0]), scores=torch.ones(1, 3)), torch.tensor([-1]), "true label -1"),
        (Classifications(labels=torch.tensor([7]), scores=torch.ones(1, 3)), torch.tensor([0]), "predicted label 7"),
    ],
)
def test_what_does_not_fit_is_refused(predictions: Classifications, truths: torch.Tensor, message: str):
    with pytest.raises(ValueError, match=message):
        ClassificationMetric(3).update(predictions, Classifications(labels=truths))


def test_scores_that_are_not_numbers_stop_the_evaluation():
    scores = torch.tensor([[0.5, 0.5], [float("nan"), float("nan")]])
    with pytest.raises(DivergedError, match="1 of 2 images"):
        ClassificationMetric(2).update(
            Classifications(labels=torch.tensor([0, 0]), scores=scores), Classifications(labels=torch.tensor([0, 1]))
        )
