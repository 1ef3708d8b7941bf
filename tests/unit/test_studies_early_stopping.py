"""The study of early stopping: its verdict on made-up courses of training, and one small run."""

from pathlib import Path

import pytest
import torch

from striate.engine.log import Display
from striate.studies.early_stopping import STUDY, Course, Sizes, judged, mislabelled
from striate.studies.run import run_study


def course(images: int, losses: list[float], errors: list[float]) -> Course:
    """The same on all splits."""
    splits = ("train", "val", "test")
    return Course(
        images=images, steps=[1, 2, 3], errors=dict.fromkeys(splits, errors), losses=dict.fromkeys(splits, losses)
    )


FLAT = course(6000, [1.0, 0.5, 0.5], [0.5, 0.2, 0.2])


@pytest.mark.parametrize(
    ("losses", "errors", "holds"),
    [
        ([1.0, 0.5, 0.9], [0.5, 0.2, 0.3], [True] * 6),
        (
            [1.0, 0.5, 0.9],
            [0.5, 0.2, 0.1],
            [True, True, False, False, True, True],
        ),  # the loss rises, the error does not
        (
            [1.0, 0.5, 0.9],
            [0.2, 0.5, 0.3],
            [True, True, False, True, True, True],
        ),  # loss and error stop at different places
        ([1.0, 0.5, 0.4], [0.5, 0.2, 0.1], [False, False, False, False, True, True]),
    ],
)
def test_the_verdict_follows_from_the_courses(losses: list[float], errors: list[float], holds: list[bool]):
    overfitted = course(600, [1.0, 0.5, 0.9], [0.5, 0.2, 0.3])
    parts = judged([[course(600, losses, errors)] * 2, [FLAT] * 2], [[overfitted] * 2, [FLAT] * 2])
    assert [part.holds for part in parts] == holds


def test_wrong_labels_have_to_make_a_difference():
    overfitted = course(600, [1.0, 0.5, 0.9], [0.5, 0.2, 0.3])
    parts = judged([[overfitted] * 2, [FLAT] * 2], [[FLAT] * 2, [FLAT] * 2])
    assert [part.holds for part in parts] == [True, True, True, True, False, False]


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_a_share_of_the_labels_is_wrong(share: float):
    labels = torch.arange(5000).remainder(10)
    moved = mislabelled(labels, 10, share, torch.Generator().manual_seed(0))
    assert float((moved != labels).float().mean()) == pytest.approx(share, abs=0.02)
    assert set(moved.tolist()) == set(range(10))


def test_stopping_takes_the_first_of_the_best():
    each = course(600, [3.0, 1.0, 1.0], [0.1, 0.1, 0.2])
    assert (each.stop("loss"), each.stop("error")) == (1, 0)


def test_it_looks_at_all_splits(tmp_path: Path):
    plan = Sizes(per_class=(5, 10), steps=30, looks=4, test_per_class=5, seeds=2)
    result = run_study(STUDY, data="digits", plan=plan, out=tmp_path / "study", display=Display(quiet=True))
    assert result.findings.numbers["images"] == [50, 100]
    assert {"stopped by the loss", "stopped by the error, wrong labels"} < set(result.findings.numbers["errors_saved"])
    assert len(list((tmp_path / "study" / "measurements").iterdir())) == 8
