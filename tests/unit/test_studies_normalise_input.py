"""The study of normalised inputs."""

import math

import pytest
import torch

from striate.engine.log import Display
from striate.studies.normalise_input import CENTRED, INPUTS, NORMALISED, RAW, STUDY, UNIT, Sizes, speedup
from striate.studies.run import run_study


def test_the_whole_path(tmp_path):
    sizes = Sizes(per_class=3, held_out=2, steps=2, every=1, rates=(0.01, 1e20), seeds=2)
    result = run_study(STUDY, plan=sizes, data="digits", out=tmp_path / "study", display=Display(quiet=True))
    assert len(result.findings.parts) == 6
    assert set(result.findings.numbers["rates"].values()) == {0.01}  # the other one diverges
    assert result.page.read_text().count('class="chart"') == 4
    assert len(result.findings.tables[0].rows) == 8


def test_inputs_are_what_they_are_called():
    pixels = torch.randint(0, 256, (50, 1, 8, 8), generator=torch.Generator().manual_seed(0)).float()
    made = {name: make(pixels, float(pixels.mean()), float(pixels.std())) for name, make in INPUTS.items()}
    assert made[RAW].max() > 200
    assert (made[UNIT].min(), made[UNIT].max()) >= (0, 0.9)
    assert made[UNIT].max() <= 1
    assert float(made[CENTRED].mean()) == pytest.approx(0, abs=1e-5)
    assert float(made[CENTRED].std()) == pytest.approx(float(made[UNIT].std()), rel=1e-5)
    assert float(made[NORMALISED].mean()) == pytest.approx(0, abs=1e-5)
    assert float(made[NORMALISED].std()) == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize(
    ("slow", "fast", "times"),
    [
        ([4, 3, 2, 1], [4, 1, 0.5, 0.4], 2),  # two looks for what takes the other four
        ([4, 3, 2, 1], [3, 0, 0, 0], 4 / (1 + 2 / 3)),  # two thirds of the way from the first look to the second
        ([4, 3, 2, 1], [1, 1, 1, 1], 4),
        ([4, 3, 2, 1], [4, 3, 2, 1], 1),
        ([4, 1, 0.5, 0.4], [4, 3, 2, 1], 0.5),  # the other way round
        ([math.inf] * 4, [math.inf, 2, 1, 1], 4),  # what diverges is caught up with at once
        ([2, 1, 1, 1], [math.inf] * 4, 0.25),
    ],
)
def test_speed_is_the_ratio_of_steps_to_the_same_loss(slow, fast, times):
    assert speedup(slow, fast) == pytest.approx(times)
