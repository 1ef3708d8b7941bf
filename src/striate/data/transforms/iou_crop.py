"""Crops that keep an overlap with the objects: "IoU crop", Liu et al. 2016 (SSD), section 2.2.

Letters: B images, M objects of all.
"""

import torch
from torch import Tensor

from striate.data.transforms.draws import Draws
from striate.ops.boxes import area, overlap

MINIMUM = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 2.0)  # IoU with some object; 0: any crop, 2: none, the image stays whole
SIDES = (0.3, 1.0)  # of the image's, width and height apart: the paper's tenth of the area; torchvision's too
RATIO = 2  # the largest width / height and height / width, in pixels
TRIALS = 40  # torchvision's; the authors take 50
ROUNDS = 4  # torchvision goes on until something fits; after these the image stays whole


def draw_crops(draws: Draws) -> Tensor:
    """(B, ROUNDS, 1 + 4 * TRIALS) float32 from 0 to 1."""
    return draws.uniform(0, 1, ROUNDS, 1 + 4 * TRIALS)


def chosen_crops(drawn: Tensor, boxes: Tensor, images: Tensor, size: tuple[int, int] | Tensor) -> tuple[Tensor, Tensor]:
    """The part of each image that is shown.

    In each round a minimum is drawn, and the first crop that has the centre of an object inside and, among objects with
    their centres inside, one with that IoU, is taken. An image without objects stays whole.

    Args:
        drawn: what `draw_crops` gave.
        boxes: (M, 4) float32, objects that count.
        images: (M,) int64, their images, ascending.
        size: height and width, of all images or (B, 2) of each.

    Returns:
        (B, 4) float32, x1, y1, x2, y2 in pixels, and (B,) bool: where it is not the whole image.
    """
    count, device = len(drawn), boxes.device
    frames = torch.as_tensor(size).expand(count, 2)
    whole = frames.flip(1).to(device, torch.float32)
    across = torch.tensor([width / height for height, width in frames.tolist()], device=device)
    drawn = drawn.to(device)
    minimum = torch.tensor(MINIMUM, device=device)[(drawn[:, :, 0] * len(MINIMUM)).long().clamp(max=len(MINIMUM) - 1)]
    trials = drawn[:, :, 1:].view(count, ROUNDS, TRIALS, 4)
    sides = SIDES[0] + trials[..., :2] * (SIDES[1] - SIDES[0])
    ratio = sides[..., 0] / sides[..., 1] * across[:, None, None]
    corner = trials[..., 2:] * (1 - sides)
    windows = torch.cat((corner, corner + sides), dim=3) * whole.repeat(1, 2)[:, None, None]  # (B, ROUNDS, TRIALS, 4)

    mine, objects = windows[images], boxes[:, None, None]
    centre = (objects[..., :2] + objects[..., 2:]) / 2
    inside = ((centre > mine[..., :2]) & (centre < mine[..., 2:])).all(3)
    common = overlap(objects, mine)
    enough = common >= minimum[images][:, :, None] * (area(objects) + area(mine) - common)
    fits = torch.zeros(trials.shape[:3], device=device).index_add_(0, images, (inside & enough).float()) > 0
    fits &= (ratio < RATIO) & (ratio > 1 / RATIO)

    done = fits.any(2) | (minimum > 1)
    turn = done.to(torch.uint8).argmax(1)
    rows = torch.arange(count, device=device)
    trial = fits[rows, turn].to(torch.uint8).argmax(1)
    cropped = fits[rows, turn].any(1)
    everything = torch.cat((torch.zeros_like(whole), whole), dim=1)
    return torch.where(cropped[:, None], windows[rows, turn, trial], everything), cropped
