"""The study of normalised inputs."""

import math

import pytest
import torch

from striate.engine.log import Display
from striate.studies.normalise_input import CENTRED, INPUTS, NORMALISED, RAW, STUDY, UNIT, Sizes, steps_to
from striate.studies.run import run_study


def test_the_whole_path(tmp_path):
    sizes = Sizes(per_class=3, held_out=2, steps=2, every=1, rates=(0.01, 1e20), same=0.01, seeds=2)
    result = run_study(STUDY, plan=sizes, data="digits", out=tmp_path / "study", display=Display(quiet=True))
    assert len(result.findings.parts) == 8
    assert set(result.findings.numbers["rates"].values()) == {0.01}  # the other one diverges
    assert result.page.read_text().count('class="chart"') == 4
    assert [row[1] for row in result.findings.tables[0].rows] == ["2 ± 0"] * 8  # nobody gets there in two steps


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
    ("losses", "step"),
    [
        ([4.0, 3.0, 2.0, 1.0], 40),
        ([2.0, 0.0], 15),  # half of the way from the first look to the second
        ([0.5, 2.0], 10),  # a first look cannot be looked behind
        ([math.inf, 0.5], 20),
        ([4.0, 1.5, 3.0, 0.5, 2.0], 38),  # the first time counts
        ([4.0, 3.0, 2.0], math.inf),
        ([], math.inf),
    ],
)
def test_steps_to_a_loss(losses: list[float], step: float):
    assert steps_to(1.0, losses, 10) == pytest.approx(step)
