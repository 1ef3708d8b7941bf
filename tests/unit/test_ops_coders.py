"""Deltas and distances by hand."""

import math

import torch

from striate.ops.coders import DeltaCoder, from_distances, to_distances

ANCHORS = torch.tensor([[0.0, 0, 10, 20], [5, 5, 15, 9]])


def test_deltas_by_hand():
    # From an anchor of 10 x 20 around (5, 10) to a box of 20 x 10 around (8, 6).
    boxes = torch.tensor([[-2.0, 1, 18, 11]])
    deltas = DeltaCoder().encode(boxes, ANCHORS[:1])
    torch.testing.assert_close(deltas, torch.tensor([[0.3, -0.2, math.log(2), -math.log(2)]]))
    weighted = DeltaCoder(weights=(10, 10, 5, 5)).encode(boxes, ANCHORS[:1])
    torch.testing.assert_close(weighted, torch.tensor([[3.0, -2, 5 * math.log(2), -5 * math.log(2)]]))


def test_decoding_is_encoding_backwards():
    boxes = torch.tensor([[1.0, 2, 30, 40], [4, 4, 5, 50]])
    coder = DeltaCoder(weights=(10, 10, 5, 5))
    torch.testing.assert_close(coder.decode(coder.encode(boxes, ANCHORS), ANCHORS), boxes)


def test_no_deltas_are_the_anchor_and_large_ones_stay_finite():
    torch.testing.assert_close(DeltaCoder().decode(torch.zeros(2, 4), ANCHORS), ANCHORS)
    large = DeltaCoder().decode(torch.tensor([[0.0, 0, 1e4, 1e4]]), ANCHORS[:1])
    torch.testing.assert_close(large[0, 2:] - large[0, :2], torch.tensor([625.0, 1250]))  # 1000 / 16 times


def test_one_set_of_anchors_serves_a_batch():
    assert DeltaCoder().decode(torch.zeros(3, 2, 4), ANCHORS).shape == (3, 2, 4)


def test_distances_by_hand():
    box, point = torch.tensor([10.0, 20, 50, 40]), torch.tensor([15.0, 22])
    assert to_distances(box, point).tolist() == [5, 2, 35, 18]
    assert torch.equal(from_distances(to_distances(box, point), point), box)
    assert to_distances(box, torch.tensor([5.0, 22]))[0] == -5  # outside
