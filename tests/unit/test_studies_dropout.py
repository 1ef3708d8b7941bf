"""The study of dropout: its verdict on made-up numbers, and one small run."""

from pathlib import Path

import pytest
import yaml

from striate.engine.log import Display
from striate.studies.dropout import STUDY, judged
from striate.studies.run import run_study
from striate.studies.shrinking import Errors, Sizes, Way


def way(name: str, *tests: float) -> Way:
    """The same in two seeds, so that the intervals are narrow."""
    errors = [[Errors(train=0.0, test=test), Errors(train=0.0, test=test * 1.001)] for test in tests]
    return Way(name=name, images=[600, 6000, 60000], errors=errors)


@pytest.mark.parametrize(
    ("with_dropout", "holds"),
    [
        ((0.1, 0.04, 0.01), [True, True, True]),
        ((0.08, 0.03, 0.01), [False, True, True]),  # it helps with few images already
        ((0.06, 0.04, 0.01), [False, False, True]),  # with those most
        ((0.1, 0.05, 0.008), [True, True, False]),  # and goes on helping
        ((0.12, 0.06, 0.012), [True, False, False]),  # it only harms
    ],
)
def test_the_verdict_follows_from_the_numbers(with_dropout: tuple[float, ...], holds: list[bool]):
    parts = judged(way("without", 0.1, 0.05, 0.01), way("dropout", *with_dropout))
    assert [part.holds for part in parts] == holds


def test_it_trains_with_dropout_and_without(tmp_path: Path):
    plan = Sizes(per_class=(1, 2), steps=1, seeds=1)
    result = run_study(STUDY, data="digits", plan=plan, out=tmp_path / "study", display=Display(quiet=True))
    assert set(result.findings.numbers["errors_saved"]) == {"dropout"}
    assert len(result.findings.numbers["test_error"]["without"]) == 2
    models = {
        yaml.safe_load(file.read_text())["settings"]["model"]
        for file in (tmp_path / "study" / "runs").glob("*2-per-class*/run.yaml")
    }
    assert sorted("DROPOUT" in model for model in models) == [False, True]
