"""The study of capacity: its verdict on made-up numbers, and one small run."""

from pathlib import Path

import pytest

from striate.engine.log import Display
from striate.studies.capacity import STUDY, Widths, judged
from striate.studies.run import run_study
from striate.studies.shrinking import Errors, Way


def way(name: str, *tests: float) -> Way:
    return Way(name=name, images=[600], errors=[[Errors(train=0.0, test=test) for test in tests]])


@pytest.mark.parametrize(
    ("widest", "holds"),
    [
        ((0.12, 0.121, 0.122), True),  # a U
        ((0.09, 0.091, 0.092), False),  # it goes on falling
        ((0.101, 0.101, 0.102), False),  # it rises by less than counts
        ((0.09, 0.1, 0.18), False),  # it rises in the mean, but not beyond chance
    ],
)
def test_the_claim_needs_a_rise_beyond_chance(widest: tuple[float, ...], holds: bool):
    ways = [way("width 0.5", 0.2, 0.2, 0.2), way("width 1", 0.1, 0.1, 0.1), way("width 2", *widest)]
    (part,) = judged(ways)
    assert part.holds == holds
    assert "with width 1" in part.measured


def test_it_trains_every_width(tmp_path: Path):
    plan = Widths(per_class=(1,), steps=1, seeds=1, widths=(0.25, 1))
    result = run_study(STUDY, data="digits", plan=plan, out=tmp_path / "study", display=Display(quiet=True))
    assert result.findings.numbers["parameters"] == {"width 0.25": 13_514, "width 1": 206_954}
    assert set(result.findings.numbers["errors_saved"]) == {"width 0.25"}
    assert len(list((tmp_path / "study" / "runs").iterdir())) == 2
