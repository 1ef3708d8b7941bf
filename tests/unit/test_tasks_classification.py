"""The classification task: losses against scikit-learn and by hand, weights by name."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from striate.core.annotations import Classifications
from striate.core.batch import Batch
from striate.errors import UsageError
from striate.tasks.classification import Classification, class_weights

CLASSES = ["cat", "dog", "owl"]
LABELS = torch.tensor([0, 0, 0, 0, 1, 1, 2, 0])


def batch(labels: torch.Tensor, scores: torch.Tensor | None = None) -> Batch:
    count = len(labels)
    return Batch(
        images=torch.randn(count, 1, 2, 2, generator=torch.Generator().manual_seed(0)),
        sizes=torch.full((count, 2), 2),
        truths=Classifications(labels=labels, scores=scores),
        indices=torch.arange(count),
    )


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 3))


def test_loss_is_the_mean_negative_log_likelihood(network: nn.Module) -> None:
    task, images = Classification(network, CLASSES), batch(LABELS)
    found = task(images)["cross_entropy"].item()
    scores = task.predict(images).scores
    assert scores is not None
    scores = scores.detach().double()
    scores /= scores.sum(1, keepdim=True)  # scikit-learn wants ones to the last bit
    assert found == pytest.approx(log_loss(LABELS, scores, labels=[0, 1, 2]), rel=1e-5)


def test_weighted_and_smoothed_losses_add_up_over_micro_batches(network: nn.Module) -> None:
    task = Classification(network, CLASSES, label_smoothing=0.1, class_weights=[0.5, 1.0, 3.0])
    whole, images = task(batch(LABELS))["cross_entropy"], batch(LABELS)
    parts = [
        task(images.select(rows))["cross_entropy"] * share for rows, share in ((slice(3), 3 / 8), (slice(3, 8), 5 / 8))
    ]
    torch.testing.assert_close(whole, sum(parts))


def test_soft_truths_are_the_mixture_of_the_hard_ones(network: nn.Module) -> None:
    task = Classification(network, CLASSES)
    partner = LABELS.flip(0)
    one_hot = torch.nn.functional.one_hot
    mixed = 0.3 * one_hot(LABELS, 3).float() + 0.7 * one_hot(partner, 3).float()
    expected = 0.3 * task(batch(LABELS))["cross_entropy"] + 0.7 * task(batch(partner))["cross_entropy"]
    torch.testing.assert_close(task(batch(LABELS, mixed))["cross_entropy"], expected)


def test_a_network_that_knows_nothing_pays_ln_k(network: nn.Module) -> None:
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    task = Classification(network, CLASSES)
    assert task(batch(LABELS))["cross_entropy"].item() == pytest.approx(task.first_loss())
    assert task.first_loss() == math.log(3)


def test_automatic_weights_are_scikit_learns_balanced_ones() -> None:
    found = class_weights("auto", CLASSES, LABELS)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=LABELS.numpy())
    assert found == pytest.approx(list(expected))


def test_weights_by_name_have_mean_one_over_the_images() -> None:
    found = class_weights("owl=4", CLASSES, LABELS)
    assert found is not None
    assert found[2] == pytest.approx(4 * found[0])
    assert sum(found[int(label)] for label in LABELS) / len(LABELS) == pytest.approx(1)
    assert class_weights("none", CLASSES, LABELS) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("owls=2", "Did you mean 'owl'"),
        ("owl", "which is not there"),
        ("owl=much", "'much'"),
        ("owl=-1", "at least 0"),
        ("owl=nan", "finite"),
        ("cat=0,dog=0,owl=0", "some above 0"),
    ],
)
def test_wrong_weights_are_answered(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        class_weights(text, CLASSES, LABELS)
