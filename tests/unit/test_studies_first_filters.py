"""The classes of filters, on filters that are made to be of one; and the verdict from them."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from striate.engine.log import Display
from striate.errors import ModelFileError
from striate.studies import first_filters
from striate.studies.first_filters import (
    CROP,
    KINDS,
    STUDY,
    Sizes,
    findings,
    first_layer_of_file,
    measured,
    noise_spread,
    write_crops,
)
from striate.studies.run import run_study
from striate.studies.study import summary

GREY, RED_GREEN, BLUE_YELLOW = (1.0, 1.0, 1.0), (1.0, -1.0, 0.0), (0.5, 0.5, -1.0)


def gabor(degrees: float, *, period: float, phase: float, size: int = 7, sigma: float = 2.0) -> Tensor:
    """A grating under a Gaussian window (Daugman 1985)."""
    place = torch.arange(size) - (size - 1) / 2
    y, x = torch.meshgrid(place, place, indexing="ij")
    along = x * math.cos(math.radians(degrees)) + y * math.sin(math.radians(degrees))
    return torch.exp(-(x**2 + y**2) / (2 * sigma**2)) * torch.cos(2 * math.pi * along / period + phase)


def spot(size: int = 7, sigma: float = 1.5) -> Tensor:
    return gabor(0, period=math.inf, phase=0, size=size, sigma=sigma)


def painted(pattern: Tensor, colour: tuple[float, float, float]) -> Tensor:
    """A filter (1, 3, K, K) with a little noise, as filters have."""
    torch.manual_seed(1)
    filters = pattern[None, None] * torch.tensor(colour)[:, None, None]
    return filters + 0.03 * torch.randn(filters.shape)


def kind(filters: Tensor) -> str:
    (only,) = measured(filters).kinds(noise_spread(filters.shape[2]))
    return only


@pytest.mark.parametrize("degrees", [0, 30, 45, 90, 120])
@pytest.mark.parametrize(("period", "phase"), [(4, 0), (5, math.pi / 2), (8, math.pi / 2)])  # bars and edges
def test_gabors_are_edges_at_any_angle(degrees: float, period: float, phase: float):
    pattern = gabor(degrees, period=period, phase=phase)
    assert kind(painted(pattern, GREY)) == "grey edge"
    assert kind(painted(pattern, RED_GREEN)) == "colour edge"


@pytest.mark.parametrize("size", [7, 11])
def test_spots_are_blobs(size: int):
    assert kind(painted(spot(size), GREY)) == "grey blob"
    assert kind(painted(spot(size), BLUE_YELLOW)) == "colour blob"
    surround = spot(size, sigma=1) - 0.25 * spot(size, sigma=2)  # a difference of Gaussians
    assert kind(painted(surround, GREY)) == "grey blob"
    assert kind(painted(torch.ones(size, size), BLUE_YELLOW)) == "colour blob"


def test_what_is_neither():
    crossed = gabor(0, period=4, phase=0) * gabor(90, period=4, phase=0)
    assert kind(painted(crossed, GREY)) == "other"
    torch.manual_seed(3)
    kinds = measured(torch.randn(1_000, 3, 7, 7)).kinds(noise_spread(7))
    assert kinds.count("noise") >= 970  # 99 in 100, by construction, of others than those that set the limit


def test_scale_changes_nothing():
    filters = painted(gabor(30, period=5, phase=0), RED_GREEN)
    one, other = measured(filters), measured(1_000 * filters)
    assert torch.allclose(one.spread, other.spread)
    assert torch.allclose(one.colour, other.colour)
    assert float(measured(painted(spot(), GREY)).colour) < 0.05


def bank(**counts: int) -> Tensor:
    """Filters of given kinds, (F, 3, 7, 7)."""
    made = {
        "grey_edge": painted(gabor(20, period=5, phase=1), GREY),
        "colour_edge": painted(gabor(20, period=5, phase=1), BLUE_YELLOW),
        "grey_blob": painted(spot(), GREY),
        "colour_blob": painted(spot(), RED_GREEN),
    }
    torch.manual_seed(5)
    noise = torch.randn(counts.pop("noise", 0), 3, 7, 7)
    return torch.cat([*(made[name].repeat(count, 1, 1, 1) for name, count in counts.items()), noise])


@pytest.mark.parametrize(
    ("after", "parts"),
    [
        (bank(grey_edge=8, colour_blob=6, noise=4), [True, True, True]),
        (bank(grey_edge=3, colour_blob=3, noise=14), [False, True, True]),
        (bank(grey_edge=18, colour_edge=1, colour_blob=1), [True, False, True]),
        (bank(grey_blob=8, colour_edge=6, grey_edge=2), [True, True, False]),
        (bank(noise=20), [False, False, False]),
    ],
)
def test_the_verdict_follows_from_the_kinds(after: Tensor, parts: list[bool]):
    found = findings([bank(noise=20)], [after], None, top1=summary([0.9]))
    assert [part.holds for part in found.parts] == parts
    assert found.verdict == {3: "holds", 2: "holds in part", 0: "does not hold here"}[sum(parts)]
    assert sum(found.numbers["kinds"]["after"][kind]["mean"] for kind in KINDS) == pytest.approx(1)


def test_a_file_gives_its_first_layer(tmp_path: Path):
    stem = bank(grey_edge=4)
    torch.save({"net.fc": torch.zeros(3, 3), "net.stem": stem, "net.next": torch.zeros(8, 4, 3, 3)}, tmp_path / "a.pth")
    assert torch.equal(first_layer_of_file(str(tmp_path / "a.pth")), stem)
    found = findings([bank(noise=8)], [bank(grey_edge=8)], stem, top1=summary([0.9]))
    assert found.numbers["kinds"]["pretrained"]["grey edge"]["mean"] == 1
    assert [picture.title for picture in found.pictures] == ["Before training", "After training", "Pretrained"]
    torch.manual_seed(0)
    small = findings([bank(noise=8)], [bank(grey_edge=8)], torch.randn(16, 3, 3, 3), top1=summary([0.9]))
    assert small.numbers["kinds"]["pretrained"]["noise"]["mean"] == 0  # they cannot be told apart, and it says so
    assert "too small to tell a pattern from noise" in small.tables[0].caption
    torch.save({"fc": torch.zeros(3, 3)}, tmp_path / "b.pth")
    with pytest.raises(ModelFileError, match="no convolution of colour images"):
        first_layer_of_file(str(tmp_path / "b.pth"))


def test_it_trains_on_crops_of_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("skimage")
    monkeypatch.setattr(first_filters, "CROPS", {"train": 4, "test": 2})
    result = run_study(STUDY, plan=Sizes(epochs=1, seeds=1), out=tmp_path / "out", display=Display(quiet=True))
    assert result.findings.numbers["kinds"]["before"]["noise"]["mean"] > 0.8
    assert 0 <= result.findings.numbers["top1"]["mean"] <= 1
    crops = sorted((tmp_path / "out" / "data").glob("*/*/*.png"))
    assert len(crops) == 12 * (4 + 2)
    before = [crop.stat().st_mtime_ns for crop in crops]
    write_crops(tmp_path / "out" / "data")
    assert [crop.stat().st_mtime_ns for crop in crops] == before
    assert result.findings.pictures[0].image.width > 8 * CROP
