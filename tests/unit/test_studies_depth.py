"""The study of depth."""

import pytest

from striate.engine.log import Display
from striate.models.catalog import CATALOG
from striate.studies.depth import KINDS, PLAIN, RESIDUAL, STUDY, Sizes, judge_family, name_of
from striate.studies.run import run_study


def errors(plain: tuple[list[float], list[float]], residual: tuple[list[float], list[float]]) -> dict:
    return {
        (kind, depth): values
        for kind, both in ((PLAIN, plain), (RESIDUAL, residual))
        for depth, values in zip((20, 56), both, strict=True)
    }


@pytest.mark.parametrize(
    ("plain", "residual", "held"),
    [
        (([0.1], [0.3]), ([0.05], [0.04]), [True, True, True]),  # as in the paper
        (([0.3], [0.1]), ([0.05], [0.04]), [False, True, True]),  # no degradation
        (([0.1], [0.3]), ([0.05], [0.4]), [True, False, False]),  # no cure
        (([0.1], [0.3]), ([0.05], [0.06]), [True, True, False]),  # no gain
        # with several seeds a difference has to be larger than chance
        (([0.10, 0.11, 0.12], [0.30, 0.31, 0.35]), ([0.05, 0.06, 0.05], [0.04, 0.07, 0.05]), [True, True, False]),
        (([0.1, 0.3, 0.2], [0.3, 0.2, 0.3]), ([0.05, 0.06, 0.05], [0.04, 0.05, 0.04]), [False, True, True]),
    ],
)
def test_the_rule(plain, residual, held):
    parts = judge_family("layers", errors(plain, residual), (20, 56))
    assert [part.holds for part in parts] == held


def test_every_network_of_the_plans_is_in_the_catalog():
    for plan in (STUDY.quick, STUDY.full):
        for depth in (*plan.depths, *plan.large_depths):
            for kind in KINDS:
                assert name_of(kind, depth) in CATALOG


def test_the_whole_path(tmp_path):
    sizes = Sizes(
        depths=(20, 32), per_class=2, epochs=2, seeds=1, size=6, large_depths=(18, 34), large_epochs=1, batch=5
    )
    result = run_study(STUDY, plan=sizes, data="digits", out=tmp_path / "study", display=Display(quiet=True))
    assert len(result.findings.parts) == 6
    rows = {row[0]: row for row in result.findings.tables[0].rows}
    assert set(rows) == {"plain20", "plain32", "resnet20", "resnet32", "plain18", "plain34", "resnet18_a", "resnet34_a"}
    assert rows["plain20"][2] == rows["resnet20"][2] == "269,722"  # He et al. 2016, table 6: 0.27M
    assert result.findings.numbers["resnet32"]["curves"][0]["error"][1] <= 1
    assert result.page.read_text().count('class="chart"') == 5
