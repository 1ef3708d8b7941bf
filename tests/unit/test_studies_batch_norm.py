"""The study of batch normalisation."""

import pytest

import striate
from striate.engine.log import Display
from striate.studies.batch_norm import (
    KINDS,
    NORMED,
    PLAIN,
    SIGMOID,
    SIGMOID_NORMED,
    STUDY,
    Sizes,
    conclude,
    pattern,
    settled,
    steps_to,
)
from striate.studies.run import run_study

RATES = (0.1, 1.0)
LOOKS = 40
SIZES = Sizes(
    per_class=1, test_per_class=1, steps=10 * LOOKS, seeds=2, rates=RATES, sigmoid_rates=RATES, every=10, batch=2
)


def rising(looks: int, top: float) -> list[float]:
    """An accuracy that reaches its top after so many looks."""
    return [top * min(1.0, look / looks) for look in range(1, LOOKS + 1)]


FAILED = [0.1] * LOOKS
AS_CLAIMED = {
    (PLAIN, 0.1): rising(30, 0.7),
    (PLAIN, 1.0): [0.1] * 3,  # diverged
    (NORMED, 0.1): rising(10, 0.8),
    (NORMED, 1.0): rising(2, 0.8),
    (SIGMOID, 0.1): FAILED,
    (SIGMOID, 1.0): FAILED,
    (SIGMOID_NORMED, 0.1): rising(10, 0.5),
    (SIGMOID_NORMED, 1.0): FAILED,
}


def held(curves) -> list[bool]:
    twice = {which: [curve, curve] for which, curve in curves.items()}
    ends = {which: [settled(curve, LOOKS, 0.1) for curve in both] for which, both in twice.items()}
    found = conclude(twice, ends, dict.fromkeys(KINDS, RATES), SIZES, 0.1)
    return [part.holds for part in found.parts]


def test_the_rule():
    assert held(AS_CLAIMED) == [True] * 5
    assert held(AS_CLAIMED | {(NORMED, 0.1): rising(20, 0.8)})[0] is False  # only 1.7 times as fast
    assert held(AS_CLAIMED | {(NORMED, 1.0): rising(5, 0.8)})[1] is False  # only 6 times as fast
    assert held(AS_CLAIMED | {(PLAIN, 1.0): rising(32, 0.7)})[2] is False  # the high rate works without it too
    assert held(AS_CLAIMED | {(NORMED, 0.1): rising(9, 0.6), (NORMED, 1.0): rising(9, 0.6)})[3] is False
    assert held(AS_CLAIMED | {(SIGMOID, 1.0): rising(9, 0.4)})[4] is False
    assert held(AS_CLAIMED | {(SIGMOID_NORMED, 0.1): FAILED})[4] is False
    assert not any(held(dict.fromkeys(AS_CLAIMED, FAILED)))


def test_what_diverged_is_worth_a_guess_and_luck_does_not_count():
    assert settled([0.9, 0.9], 8, 0.1) == 0.1
    assert settled([0.9] * 6 + [0.5, 0.7], 8, 0.1) == pytest.approx(0.6)


def test_steps_are_counted_to_the_first_look_that_shows_the_target():
    assert steps_to(0.5, [0.1, 0.5, 0.4, 0.6], 10, 4) == 20
    assert steps_to(0.7, [0.1, 0.5, 0.4, 0.6], 10, 4) == 50
    assert steps_to(0.7, [0.1], 10, 4) == 50  # diverged, which is not soon


def test_normalisation_stands_before_each_activation_and_nowhere_else():
    kinds = {
        kind: [layer.type for layer in striate.inspect(pattern(kind), size=14, batch=None).layers] for kind in KINDS
    }
    assert [kinds[kind].count("BatchNorm2d") for kind in KINDS] == [0, 6, 0, 6]
    assert [kinds[kind].count("BatchNorm1d") for kind in KINDS] == [0, 1, 0, 1]
    assert [kinds[kind].count("ReLU") for kind in KINDS] == [7, 7, 0, 0]
    for kind in (NORMED, SIGMOID_NORMED):
        norms = [place for place, name in enumerate(kinds[kind]) if name.startswith("BatchNorm")]
        assert {kinds[kind][place + 1] for place in norms} <= {"ReLU", "Sigmoid", "Logistic"}


def test_the_whole_path(tmp_path):
    sizes = Sizes(
        per_class=2, test_per_class=1, steps=4, seeds=2, rates=(0.1, 1e20), sigmoid_rates=(0.1,), every=2, batch=8
    )
    result = run_study(STUDY, plan=sizes, data="digits", out=tmp_path / "study", display=Display(quiet=True))
    assert len(result.findings.parts) == 5
    assert result.findings.numbers["best_rate"][PLAIN] == 0.1  # the other one diverges
    assert len(result.findings.tables[0].rows) == 6
    assert result.page.read_text().count('class="chart"') == 2
