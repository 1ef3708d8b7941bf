"""Points on heat maps, against brute force and the papers' formulas, cell by cell."""

import math

import pytest
import torch
import torch.nn.functional as F

from striate.ops.heatmaps import cell_boxes, draw, peaks, penalty_reduced_focal, radius


@pytest.mark.parametrize("overlap", [0.3, 0.7])
@pytest.mark.parametrize("size", [(10.0, 10.0), (4.0, 30.0), (25.0, 3.0)])
def test_corners_within_the_radius_keep_the_overlap(size, overlap):
    """By torchvision's IoU over all ways to move the corners by r or not at all."""
    from torchvision.ops import box_iou

    found = float(radius(torch.tensor([size]), overlap))
    height, width = size
    box = torch.tensor([[0, 0, width, height]])
    moves = torch.cartesian_prod(*[torch.tensor([-found, 0.0, found])] * 4)
    moved = (box + moves)[((box + moves)[:, 2:] > (box + moves)[:, :2]).all(1)]
    assert float(box_iou(box, moved).min()) == pytest.approx(overlap, abs=1e-4)


def test_heat_is_the_larger_gaussian_cell_by_cell():
    cells = torch.tensor([[2, 3], [4, 4], [0, 8], [5, 0]])
    radii, labels = torch.tensor([2, 1, 3, 0]), torch.tensor([0, 0, 1, 1])
    found = draw(cells, radii, labels, (7, 9), 3)
    expected = torch.zeros(3, 7, 9)
    for (row, column), reach, label in zip(cells.tolist(), radii.tolist(), labels.tolist(), strict=True):
        sigma = (2 * reach + 1) / 6
        for y in range(max(0, row - reach), min(7, row + reach + 1)):
            for x in range(max(0, column - reach), min(9, column + reach + 1)):
                value = math.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * sigma**2))
                expected[label, y, x] = max(float(expected[label, y, x]), value)
    torch.testing.assert_close(found, expected)
    assert (found == 1).sum() == 4
    none = torch.zeros(0, dtype=torch.int64)
    assert not draw(none.reshape(0, 2), none, none, (7, 9), 3).any()


def test_the_loss_is_equation_1():
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 4, dtype=torch.float64) * 3
    heat = torch.rand(2, 3, 4, dtype=torch.float64)
    heat[0, 1, 2] = heat[1, 0, 0] = 1
    found = penalty_reduced_focal(logits, heat)
    for place, value in enumerate(found.flatten().tolist()):
        p = 1 / (1 + math.exp(-float(logits.flatten()[place])))
        y = float(heat.flatten()[place])
        expected = -((1 - p) ** 2) * math.log(p) if y == 1 else -((1 - y) ** 4) * p**2 * math.log(1 - p)
        assert value == pytest.approx(expected, rel=1e-9)
    far = penalty_reduced_focal(torch.tensor([200.0, -200.0]), torch.tensor([0.0, 1.0]))
    assert far.tolist() == [200.0, 200.0]


def test_peaks_are_cells_no_cooler_than_their_neighbours():
    torch.manual_seed(0)
    heat = torch.rand(2, 3, 6, 5)
    scores, labels, cells = peaks(heat, 7)
    for image in range(2):
        padded = F.pad(heat[image], (1, 1, 1, 1), value=-1)
        tops = sorted(
            (
                (float(heat[image, k, y, x]), k, y, x)
                for k in range(3)
                for y in range(6)
                for x in range(5)
                if heat[image, k, y, x] == padded[k, y : y + 3, x : x + 3].max()
            ),
            reverse=True,
        )[:7]
        found = zip(scores[image].tolist(), labels[image].tolist(), cells[image].tolist(), strict=True)
        assert [(score, label, *cell) for score, label, cell in found][: len(tops)] == tops
    assert peaks(heat, 1000)[0].shape == (2, 90)


def test_cells_cover_the_image_row_by_row():
    boxes = cell_boxes((2, 3), 4, torch.device("cpu"))
    assert boxes[1].tolist() == [4, 0, 8, 4]
    assert boxes[3].tolist() == [0, 4, 4, 8]
    assert boxes[-1].tolist() == [8, 4, 12, 8]
