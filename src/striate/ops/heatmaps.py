"""Objects as points on heat maps, as CornerNet and CenterNet learn and read them.

Law, Deng: "CornerNet: Detecting Objects as Paired Keypoints", ECCV 2018, arXiv 1808.01244, section 3.2. Zhou, Wang,
Kraehenbuehl: "Objects as Points", 2019, arXiv 1904.07850, section 3.

Letters: B images, K classes, N objects, h and w height and width of the map.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

ALPHA, BETA = 2, 4  # of the focal loss: Law and Deng, section 3.2


def radius(sizes: Tensor, overlap: float) -> Tensor:
    """How far the corners of a box may be off, each on its own, before its IoU with the box falls below ``overlap``.

    Law and Deng, section 3.2, say what it is; it is the least of three: both corners are moved in the same direction,
    the box grows, or it shrinks, each by r in height and in width at either end. (Their published code takes other
    roots of the same equations.)

    Args:
        sizes: (N, 2) float32, height and width.
        overlap: IoU, above 0 and below 1.

    Returns:
        (N,) float32, in the unit of ``sizes``, not rounded.
    """
    around, inside = sizes.sum(-1), sizes.prod(-1)
    # (H - r)(W - r) = 2 t / (1 + t) H W
    moved = (around - (around**2 - 4 * inside * (1 - overlap) / (1 + overlap)).sqrt()) / 2
    # (H - 2r)(W - 2r) = t H W
    shrunk = (around - (around**2 - 4 * inside * (1 - overlap)).sqrt()) / 4
    # (H + 2r)(W + 2r) = H W / t
    grown = ((around**2 + 4 * inside * (1 - overlap) / overlap).sqrt() - around) / 4
    return torch.minimum(torch.minimum(moved, shrunk), grown)


def draw(cells: Tensor, radii: Tensor, labels: Tensor, size: tuple[int, int], classes: int) -> Tensor:
    """The heat maps that objects ask for: a Gaussian around each, the larger of two that overlap.

    As in the authors' code its standard deviation is a third of r + 1/2, and it ends at r, in a square.

    Args:
        cells: (N, 2) int64, row and column.
        radii: (N,) int64, r, in cells.
        labels: (N,) int64.
        size: h and w.
        classes: K.

    Returns:
        (K, h, w) float32, 1 in the cells.
    """
    device = cells.device
    down = torch.arange(size[0], device=device) - cells[:, :1]  # (N, h)
    along = torch.arange(size[1], device=device) - cells[:, 1:]
    sigma = (2 * radii + 1)[:, None, None] / 6
    bumps = torch.exp(-(down[:, :, None] ** 2 + along[:, None] ** 2) / (2 * sigma**2))
    within = (down.abs() <= radii[:, None])[:, :, None] & (along.abs() <= radii[:, None])[:, None]
    heat = torch.zeros(classes, *size, device=device)
    for label, bump in zip(labels.tolist(), bumps * within, strict=True):
        heat[label] = torch.maximum(heat[label], bump)
    return heat


def penalty_reduced_focal(logits: Tensor, heat: Tensor) -> Tensor:
    """Focal loss of points, which forgives what is near one (Law and Deng, equation 1); of the shape of ``logits``.

    Args:
        logits: any shape.
        heat: of the same shape, 0 to 1; exactly 1 where there is a point.
    """
    probability = logits.sigmoid()
    there = -((1 - probability) ** ALPHA) * F.logsigmoid(logits)
    elsewhere = -((1 - heat) ** BETA) * probability**ALPHA * F.logsigmoid(-logits)
    return torch.where(heat == 1, there, elsewhere)


def peaks(heat: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The hottest cells among those that are no cooler than their eight neighbours (Zhou et al., section 4).

    Args:
        heat: (B, K, h, w), 0 or above.
        count: how many, of all classes; fewer where the map has fewer cells.

    Returns:
        (B, n) scores, falling, (B, n) labels and (B, n, 2) cells, row and column; the last two int64.
    """
    kept = torch.where(F.max_pool2d(heat, 3, 1, padding=1) == heat, heat, 0)
    height, width = heat.shape[2:]
    scores, places = kept.flatten(1).topk(min(count, kept[0].numel()))
    cells = torch.stack((places // width % height, places % width), dim=-1)
    return scores, places // (height * width), cells


def cell_boxes(size: tuple[int, int], stride: int, device: torch.device) -> Tensor:
    """(h w, 4) boxes of the cells of a map in the image's pixels, row by row."""
    rows, columns = (torch.arange(side, device=device) * float(stride) for side in size)
    corners = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1).reshape(-1, 2)
    return torch.cat((corners, corners + stride), dim=1)
