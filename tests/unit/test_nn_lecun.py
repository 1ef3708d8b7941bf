"""LeCun's layers against what the paper's formulas give by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from striate.models.backbones.lenet import C3_TABLE, H3_TABLE, codes
from striate.nn import lecun
from striate.nn.lecun import RadialBasis, Subsampling, TableConv2d, plus_minus_codes


@pytest.mark.parametrize(("table", "maps"), [(C3_TABLE, 6), (H3_TABLE, 4)])
def test_table_convolution_is_a_sum_over_the_maps_of_the_table(table, maps):
    layer = TableConv2d(maps, table, 5).double()
    images = torch.randn(2, maps, 9, 11, dtype=torch.float64)
    expected, kernel = [], 0
    for to, sources in enumerate(table):
        total = layer.bias[to].expand(2, 5, 7)
        for source in sources:
            total = total + F.conv2d(images[:, source : source + 1], layer.kernels[kernel][None, None])[:, 0]
            kernel += 1
        expected.append(total)
    torch.testing.assert_close(layer(images), torch.stack(expected, 1))


def test_table_convolution_is_a_masked_dense_one_in_its_gradients_too():
    layer = TableConv2d(6, C3_TABLE, 5).double()
    mask = torch.zeros(16, 6, 1, 1, dtype=torch.float64)
    for to, sources in enumerate(C3_TABLE):
        mask[to, list(sources)] = 1
    dense = layer.weight().detach().clone().requires_grad_()
    images = torch.randn(2, 6, 14, 14, dtype=torch.float64)
    weights = torch.randn(2, 16, 10, 10, dtype=torch.float64)
    (layer(images) * weights).sum().backward()
    (F.conv2d(images, dense * mask, layer.bias.detach()) * weights).sum().backward()
    connected = mask[:, :, 0, 0].bool()
    torch.testing.assert_close(layer.kernels.grad, dense.grad[connected])
    assert (layer.weight()[~connected] == 0).all()


def test_c3_table_reads_as_the_paper_describes_it():
    assert [len(sources) for sources in C3_TABLE] == [3] * 6 + [4] * 9 + [6]
    assert len(set(C3_TABLE)) == 16
    rows = [{to for to, sources in enumerate(C3_TABLE) if source in sources} for source in range(6)]
    assert [len(row) for row in rows] == [10] * 6
    contiguous = {tuple(sorted((start + i) % 6 for i in range(length))) for length in (3, 4) for start in range(6)}
    assert set(C3_TABLE[:12]) == contiguous
    assert not set(C3_TABLE[12:15]) & contiguous


def test_h3_table_is_two_halves_that_do_not_meet():
    assert sum(len(sources) for sources in H3_TABLE) == 20
    assert all(set(sources) <= {0, 1} for sources in H3_TABLE[:6])
    assert all(set(sources) <= {2, 3} for sources in H3_TABLE[6:])


@pytest.mark.parametrize("size", [(8, 8), (7, 5)])
def test_subsampling_is_four_times_the_mean_times_coefficient_plus_bias(size):
    layer = Subsampling(3)
    images = torch.randn(2, 3, *size)
    expected = 4 * F.avg_pool2d(images, 2) * layer.coefficient.view(3, 1, 1) + layer.bias.view(3, 1, 1)
    torch.testing.assert_close(layer(images), expected)


def test_radial_basis_is_minus_the_squared_distance():
    layer = RadialBasis(codes(10))
    x = torch.randn(4, 84)
    expected = -((x[:, None] - codes(10)[None]) ** 2).sum(2)
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(layer(codes(10)).diagonal(), torch.zeros(10), rtol=0, atol=1e-4)
    assert not list(layer.parameters())


def test_initialisation_stays_within_the_papers_bounds_and_fills_them():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 40, 5), nn.Linear(200, 30), Subsampling(300), TableConv2d(6, C3_TABLE, 5))
    lecun.initialise(model)
    conv, full, subsampling, table = model
    for weight, fan_in in ((conv.weight, 75), (full.weight, 200), (subsampling.coefficient, 4)):
        assert 0.95 * 2.4 / fan_in < weight.abs().max() <= 2.4 / fan_in
    assert 0.8 * 2.4 / 75 < table.kernels[:3].abs().max() <= 2.4 / 75  # the first map reads three
    assert 0.8 * 2.4 / 150 < table.kernels[-6:].abs().max() <= 2.4 / 150  # the last reads six


@pytest.mark.parametrize("classes", [2, 3, 10, 26, 1000])
def test_codes_are_plus_or_minus_one_apart_and_the_same_every_time(classes):
    torch.manual_seed(classes)
    first = codes(classes)
    torch.rand(3)
    assert first.shape == (classes, 84)
    assert (first.abs() == 1).all()
    assert len(first.unique(dim=0)) == classes
    assert torch.equal(first, codes(classes))


def test_codes_leave_the_callers_random_numbers_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    codes(7)
    assert torch.equal(torch.rand(3), expected)


def test_digit_codes_are_a_7_by_12_bitmap():
    bitmap = codes(10).view(10, 12, 7)
    assert (bitmap[:, 10:] == -1).all()  # the rows of descenders
    one = bitmap[1, :10]
    assert (one[1:9, 3:5] == 1).all()  # its stem
    eight = bitmap[8, :10]
    assert torch.equal(eight, eight.flip(1))  # left and right alike


def test_too_few_bits_are_refused():
    with pytest.raises(ValueError, match="cannot tell 5 classes"):
        plus_minus_codes(5, 2)
    assert len(plus_minus_codes(4, 2).unique(dim=0)) == 4


def test_radial_basis_stays_exact_under_autocast() -> None:
    """Scores are small differences of large squares; bfloat16 would round them by whole units."""
    codes = plus_minus_codes(10, 84)
    layer, x = RadialBasis(codes), codes[:4] + 0.1 * torch.randn(4, 84, generator=torch.Generator().manual_seed(0))
    exact = layer(x.bfloat16().float())
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(x.bfloat16())
    torch.testing.assert_close(found, exact)
