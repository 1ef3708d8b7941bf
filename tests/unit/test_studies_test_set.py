"""The study of the test set: its estimate against the theory of greatest values, its verdict, and one small run."""

from pathlib import Path

import numpy as np
import pytest

from striate.engine.log import Display
from striate.studies.run import run_study
from striate.studies.test_set import STUDY, Flattery, Sizes, flattery, judged, unpacked

GREATEST_OF_20 = 1.8675  # expected value of the greatest of 20 standard normal numbers (Harter 1961, table 1)


def test_pure_noise_flatters_by_the_expected_maximum():
    rng = np.random.default_rng(0)
    right = [rng.random((20, 2000)) < 0.8 for _ in range(12)]  # twenty epochs, none better than the others
    found = flattery(right, right, 400)
    assert found.deviation == pytest.approx((0.8 * 0.2 / 400) ** 0.5, rel=0.02)
    assert found.flattery.mean == pytest.approx(GREATEST_OF_20 * found.deviation, rel=0.1)
    assert abs(np.mean(found.real)) < 0.2 * found.deviation


def test_a_real_gain_is_no_flattery():
    rng = np.random.default_rng(0)
    right = [rng.random((2, 2000)) < np.array([[0.9], [0.5]]) for _ in range(3)]
    found = flattery(right, right, 500)
    assert np.mean(found.real) == pytest.approx(0.4, abs=0.03)
    assert abs(found.flattery.mean) < 0.01
    assert abs(found.advantage.mean) < 1e-9  # validation sees the difference too


def made_up(images: int, shown: float, real: float, deviation: float, validated: float = 0.0) -> Flattery:
    seeds = np.array([0.9999, 1.0, 1.0001])
    return Flattery(
        images=images,
        shown=(shown * seeds).tolist(),
        real=(real * seeds).tolist(),
        validated=(validated * seeds).tolist(),
        deviation=deviation,
    )


@pytest.mark.parametrize(
    ("few", "many", "holds"),
    [
        (made_up(100, 0.05, 0.0, 0.03), made_up(5000, 0.01, 0.0, 0.005), [True, True, True, True]),
        (made_up(100, 0.02, 0.0, 0.03), made_up(5000, 0.01, 0.0, 0.005), [True, True, False, True]),
        (made_up(100, 0.05, 0.0, 0.03), made_up(5000, 0.01, 0.02, 0.005), [False, True, False, False]),
        (made_up(100, 0.01, 0.0, 0.03), made_up(5000, 0.02, 0.0, 0.005), [True, False, False, True]),
    ],
)
def test_the_verdict_follows_from_the_numbers(few: Flattery, many: Flattery, holds: list[bool]):
    assert [part.holds for part in judged([few, many])] == holds


def test_what_was_right_is_kept_bit_by_bit():
    right = np.random.default_rng(0).random((3, 13)) < 0.5
    text = [np.packbits(row).tobytes().hex() for row in right]
    assert (unpacked(text, 13) == right).all()


def test_it_chooses_among_the_epochs(tmp_path: Path):
    plan = Sizes(per_class=5, epochs=3, choose_on=(20, 100_000), seeds=2)
    result = run_study(STUDY, data="digits", plan=plan, out=tmp_path / "study", display=Display(quiet=True))
    assert result.findings.numbers["choose_on"] == [20, 500]  # at most half of digits' 1,000 test images
    assert len(result.findings.numbers["flattery"]) == 2
