"""The study of augmentation: its verdict on made-up numbers, and one small run."""

from pathlib import Path

import pytest
import yaml

from striate.engine.log import Display
from striate.studies.augmentation import POLICY, STUDY, judged
from striate.studies.run import run_study
from striate.studies.shrinking import Errors, Sizes, Way


def way(name: str, *both: tuple[float, float]) -> Way:
    errors = [[Errors(train=train, test=test), Errors(train=train, test=test * 1.001)] for train, test in both]
    return Way(name=name, images=[600, 60000], errors=errors)


@pytest.mark.parametrize(
    ("augmented", "holds"),
    [
        (((0.02, 0.05), (0.005, 0.009)), [True, True, True, True]),
        (((0.02, 0.05), (0.02, 0.025)), [True, False, True, True]),  # with many images it harms
        (((0.02, 0.05), (0.0, 0.004)), [True, True, False, True]),  # with many images it helps more
        (((0.0, 0.12), (0.005, 0.009)), [False, True, False, False]),
    ],
)
def test_the_verdict_follows_from_the_numbers(augmented: tuple[tuple[float, float], ...], holds: list[bool]):
    parts = judged(way("without", (0.0, 0.1), (0.0, 0.01)), way("augmentation", *augmented))
    assert [part.holds for part in parts] == holds


def test_it_trains_with_augmentation_and_without(tmp_path: Path):
    plan = Sizes(per_class=(1,), steps=1, seeds=1)
    result = run_study(STUDY, data="digits", plan=plan, out=tmp_path / "study", display=Display(quiet=True))
    assert set(result.findings.numbers["errors_saved"]) == {"augmentation"}
    files = (tmp_path / "study" / "runs").glob("*/run.yaml")
    assert {yaml.safe_load(file.read_text())["settings"]["augment"] for file in files} == {"none", POLICY}
