"""The study of 1x1 convolutions."""

import pytest

import striate
from striate.engine.log import Display
from striate.studies.one_by_one import STUDY, Sizes, bottleneck, branches, naive_modules, network_in_network
from striate.studies.run import run_study


def test_the_lectures_example_is_googlenets_first_5x5_branch():
    branch = next(branch for branch in branches() if branch.name == "3a 5x5")
    assert branch.direct_macs == 28 * 28 * 32 * 5 * 5 * 192 == 120_422_400  # "120 million"
    assert branch.macs == 28 * 28 * 16 * 192 + 28 * 28 * 32 * 5 * 5 * 16 == 12_443_648  # "12.4 million"
    assert branch.direct_parameters == 5 * 5 * 192 * 32 + 32
    assert branch.parameters == 192 * 16 + 16 + 5 * 5 * 16 * 32 + 32


def test_all_branches_are_there_and_every_reduction_saves():
    found = branches()
    assert len(found) == 18
    assert all(branch.direct_macs > branch.macs and branch.direct_parameters > branch.parameters for branch in found)


def test_naive_modules_pass_on_all_channels():
    macs = naive_modules()
    first = 64 + 9 * 128 + 25 * 32
    second = 128 + 9 * 192 + 25 * 96
    assert macs[:2] == [28 * 28 * 192 * first, 28 * 28 * (192 + 64 + 128 + 32) * second]
    assert len(macs) == 9


def test_a_bottleneck_makes_the_layers_behind_it_cheaper():
    direct, reduced = (
        striate.inspect(bottleneck(width), size=14, channels=1, classes=10, batch=None) for width in (None, 4)
    )
    stem, full, pixels = 14 * 14 * 9 * 32, 48 * 10, 7 * 7
    assert direct.macs == stem + pixels * 25 * (32 * 48 + 2 * 48 * 48) + full
    assert reduced.macs == stem + pixels * (4 * (32 + 2 * 48) + 3 * 25 * 4 * 48) + full


@pytest.mark.parametrize("layers", [0, 2])
def test_network_in_network_adds_layers_behind_each_convolution(layers: int):
    kernels = [
        layer.kernel
        for layer in striate.inspect(network_in_network(layers), size=14, channels=1, batch=None).layers
        if layer.type == "Conv2d"
    ]
    assert kernels == [(5, 5), *[(1, 1)] * layers] * 2


def test_the_whole_path(tmp_path):
    sizes = Sizes(per_class=2, epochs=1, seeds=1, reduced=(4,), batch=10)
    result = run_study(STUDY, plan=sizes, data="digits", out=tmp_path / "study", display=Display(quiet=True))
    parts = result.findings.parts
    assert [part.holds for part in parts[:3]] == [True, False, True]  # counted
    assert parts[0].measured.startswith("120.4 against 12.4 million, 9.7 times fewer")
    assert len(result.findings.tables[0].rows) == 4
    assert result.page.read_text().count('class="chart"') == 2
