"""Steps to a training error: how they are measured, how the best learning rate is found, and what they say."""

from pathlib import Path

import pytest
import torch

from striate.engine.log import Display
from striate.errors import UsageError
from striate.studies.activations import (
    CLAIMED,
    LAYERS,
    STUDY,
    TRAINED,
    Best,
    Reached,
    Sizes,
    crossing,
    findings,
    growing,
    train,
)
from striate.studies.run import run_study

HARDER = 0.1


def reached(early: list[float | None], late: list[float | None], given_up: float = 2_000) -> Reached:
    return Reached(
        steps={CLAIMED: early, HARDER: late},
        rates={CLAIMED: [0.1] * len(early), HARDER: [0.1] * len(late)},
        given_up=[given_up] * len(early),
        curve=[(1, 0.9), (10, 0.2), (200, 0.1)],
    )


def judged(tanh: Reached, sigmoid: Reached, data: str = "cifar10"):
    relu = reached([100, 120], [300, 320])
    return findings(
        {"ReLU": relu, "leaky ReLU": relu, "ELU": relu, "tanh": tanh, "sigmoid": sigmoid}, data=data, epoch=400
    )


def test_six_times_holds():
    found = judged(reached([600, 800], [1_900, 2_000]), reached([1_000, None], [None, None]))
    assert found.verdict == "holds"
    assert "factor of six holds" in found.why
    assert "here it is" not in found.why
    # 600 / 100 and 800 / 120; a sigmoid that was given up counts with the steps after which it was
    assert found.parts[0].measured.startswith("6.3 ±")
    assert found.parts[-1].measured == f"more than {(10 + 2_000 / 120) / 2:.1f} times"


def test_faster_but_not_six_times_holds_in_part():
    found = judged(reached([300, 360], [450, 480]), reached([300, 300], [900, 900]), data="fashion-mnist")
    assert [part.holds for part in found.parts] == [False, False, True, False, True, True, True]
    assert found.verdict == "holds in part"
    assert "factor of six, which lectures repeat, does not hold here" in found.why
    assert "CIFAR-10, here it is fashion-mnist" in found.why


def test_slower_does_not_hold():
    found = judged(reached([90, 100], [300, 300]), reached([150, 150], [400, 400]))
    assert not any(part.holds for part in found.parts)
    assert "does not hold here: tanh is not slower at all." in found.why
    assert found.verdict == "does not hold here"


def test_the_table_says_what_was_given_up():
    found = judged(reached([300, 360], [450, 480]), reached([None, 900], [None, None], given_up=1_234))
    (row,) = [row for row in found.tables[0].rows if row[0] == "sigmoid"]
    assert row[1] == row[4] == "not in 1,234"
    assert row[2].startswith("more than ")


@pytest.mark.parametrize(
    ("curve", "goal", "expected"),
    [
        ([(10, 0.4), (20, 0.2)], 0.25, 17.5),  # three quarters of the way
        ([(10, 0.25), (20, 0.2)], 0.25, 20),  # had been there before: the caller asks too late
        ([(1, 0.2)], 0.25, 1),  # with the first step
    ],
)
def test_crossing_is_between_two_measurements(curve: list[tuple[float, float]], goal: float, expected: float):
    assert crossing(curve, goal) == expected


def test_the_best_rate_of_each_error_is_kept():
    goals = (CLAIMED, HARDER)
    best = Best(limit=1_000, steps={}, rates={})
    best.learn(0.1, {"steps": [50, None], "curve": [(0, 0.9), (50, 0.25)]}, goals)
    assert (best.until(goals), best.rate) == (1_000, 0.1)
    best.learn(0.3, {"steps": [80, 400], "curve": [(0, 0.9), (400, 0.1)]}, goals)
    assert (best.until(goals), best.rate) == (400, 0.3)
    best.learn(1.0, {"steps": [40, None], "curve": [(0, 0.9), (400, 0.12)]}, goals)
    assert best.steps == {CLAIMED: 40, HARDER: 400}
    assert best.rates == {CLAIMED: 1.0, HARDER: 0.3}
    assert best.rate == 0.3


def spots() -> tuple[torch.Tensor, torch.Tensor]:
    """Two classes that anything can tell apart: bright on the left, or on the right."""
    torch.manual_seed(0)
    labels = torch.arange(256) % 2
    pixels = 0.1 * torch.randn(256, 1, 8, 8)
    pixels[labels == 0, :, :, :4] += 1
    pixels[labels == 1, :, :, 4:] += 1
    return pixels, labels


def test_training_stops_when_it_is_there():
    pixels, labels = spots()
    layers = LAYERS.format(2, 2, 2, "TANH")
    run = train(layers, pixels, labels, 0.1, 0, (0.25, 0.05), 200)
    early, late = run["steps"]
    assert 1 <= early <= late <= run["curve"][-1][0] < 200
    assert run["curve"][-1][1] <= 0.05
    assert run == train(layers, pixels, labels, 0.1, 0, (0.25, 0.05), 200)
    hopeless = train(layers, pixels, labels, 1e-6, 0, (0.25, 0.0), 5)
    assert hopeless["steps"][1] is None
    assert [step for step, _ in hopeless["curve"]] == growing(5) == [1, 2, 3, 4, 5]


def test_a_run_that_diverges_ends():
    pixels, labels = spots()
    run = train(LAYERS.format(2, 2, 2, "RELU"), 1e20 * pixels, labels, 1e20, 0, (0.25, 0.0), 10_000)
    assert run["steps"][1] is None
    assert len(run["curve"]) < 5


def test_it_runs_on_the_digits_of_the_package(tmp_path: Path):
    sizes = Sizes(per_class=20, maps=4, rates=(0.1,), harder=0.2, patience=2, seeds=2)
    result = run_study(STUDY, data="digits", plan=sizes, out=tmp_path / "out", display=Display(quiet=True))
    numbers = result.findings.numbers
    assert set(numbers) == set(TRAINED)
    assert all(steps > 0 for steps in numbers["ReLU"]["20%"]["steps"])
    assert numbers["tanh"]["20%"]["given up"] == [2 * steps for steps in numbers["ReLU"]["20%"]["steps"]]
    assert [chart.title for chart in result.findings.charts[2:4]] == ["Logistic sigmoid", "Hyperbolic tangent"]
    with pytest.raises(UsageError, match="did not reach 0% training error on digits"):
        run_study(
            STUDY,
            data="digits",
            plan=Sizes(per_class=5, maps=1, rates=(0.001,), harder=0.0, patience=2, seeds=1, most_steps=3),
            out=tmp_path / "never",
            display=Display(quiet=True),
        )
