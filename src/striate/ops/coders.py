"""Boxes as what a network regresses: deltas from an anchor, or distances from a point. Letters: N boxes."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from striate.ops.boxes import from_form, to_form


@dataclass(frozen=True, kw_only=True)
class DeltaCoder:
    """Centre and size relative to an anchor's (Girshick et al. 2014, appendix C; Ren et al. 2015, equation 2).

    tx = wx (x - xa) / wa, ty likewise, tw = ww log(w / wa), th likewise.
    """

    weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)  # of tx, ty, tw, th; SSD divides by variances
    largest: float = math.log(1000 / 16)  # of tw, th before the exponential, so that it cannot overflow

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """(N, 4) deltas that lead from ``anchors`` to ``boxes``, both (N, 4) and with sides above 0."""
        place, size = to_form(boxes, "cxcywh").split(2, dim=-1)
        anchor_place, anchor_size = to_form(anchors, "cxcywh").split(2, dim=-1)
        deltas = torch.cat(((place - anchor_place) / anchor_size, torch.log(size / anchor_size)), dim=-1)
        return deltas * deltas.new_tensor(self.weights)

    def decode(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """(..., 4) boxes from deltas and anchors, both (..., 4)."""
        move, growth = (deltas / deltas.new_tensor(self.weights)).split(2, dim=-1)
        place, size = to_form(anchors, "cxcywh").split(2, dim=-1)
        grown = torch.exp(growth.clamp(max=self.largest)) * size
        return from_form(torch.cat((move * size + place, grown), dim=-1), "cxcywh")


def to_distances(boxes: Tensor, points: Tensor) -> Tensor:
    """Distances from points to the sides of boxes: left, top, right, bottom (Tian et al. 2019, equation 1).

    Args:
        boxes: (..., 4).
        points: (..., 2), x and y.

    Returns:
        (..., 4), negative where a point lies outside.
    """
    return torch.cat((points - boxes[..., :2], boxes[..., 2:] - points), dim=-1)


def from_distances(distances: Tensor, points: Tensor) -> Tensor:
    """(..., 4) boxes around points, from (..., 4) distances left, top, right, bottom."""
    return torch.cat((points - distances[..., :2], points + distances[..., 2:]), dim=-1)
