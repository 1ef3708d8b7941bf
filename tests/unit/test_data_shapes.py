"""Masks drawn where images lie in an input, beside pycocotools and by hand."""

import numpy as np
import pytest
from pycocotools import mask as coco

from striate.core.instances import Polygons, Shape
from striate.data.shapes import draw_masks, mask_of, run_lengths

PLAIN = (1.0, 1.0, 0.0, 0.0)


def one(shape: Shape, placement: tuple[float, float, float, float], size: tuple[int, int]) -> np.ndarray:
    return draw_masks([shape], np.array([placement], dtype=np.float32), size)[0]


def test_a_pixel_is_inside_where_its_centre_is():
    triangle = Polygons(rings=((0.0, 0.0, 4.0, 0.0, 0.0, 4.0),))
    x, y = np.meshgrid(np.arange(6) + 0.5, np.arange(5) + 0.5)
    np.testing.assert_array_equal(one(triangle, PLAIN, (5, 6)), x + y < 4)
    # Twice as large, and moved over the left border.
    np.testing.assert_array_equal(one(triangle, (2, 2, -3, 1), (5, 6)), ((x + 3) + (y - 1) < 8) & (y > 1))
    beyond = one(triangle, (1, 1, 7, 0), (5, 6))
    assert not beyond.any()


def test_rings_add_up_and_nothing_has_no_pixel():
    parts = Polygons(rings=((0.0, 0.0, 2.0, 0.0, 2.0, 2.0, 0.0, 2.0), (1.0, 1.0, 4.0, 1.0, 4.0, 3.0, 1.0, 3.0)))
    expected = np.zeros((4, 5), dtype=np.bool_)
    expected[:2, :2] = expected[1:3, 1:4] = True
    np.testing.assert_array_equal(one(parts, PLAIN, (4, 5)), expected)
    assert not one(Polygons(rings=()), PLAIN, (4, 5)).any()
    assert draw_masks([], np.zeros((0, 4), dtype=np.float32), (4, 5)).shape == (0, 4, 5)


def test_runs_are_sampled_at_the_centres_of_pixels():
    mask = np.random.default_rng(0).random((7, 9)) < 0.5
    runs = run_lengths(mask)
    np.testing.assert_array_equal(one(runs, PLAIN, (7, 9)), mask)
    larger = np.zeros((20, 30), dtype=np.bool_)
    larger[3:17, 4:22] = mask.repeat(2, 0).repeat(2, 1)
    np.testing.assert_array_equal(one(runs, (2, 2, 4, 3), (20, 30)), larger)
    np.testing.assert_array_equal(one(runs, (1, 1, -2, -3), (3, 5)), mask[3:6, 2:7])
    np.testing.assert_array_equal(one(runs, (1 / 3, 1 / 3, 0, 0), (2, 3)), mask[1:6:3, 1::3])


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
@pytest.mark.parametrize("seed", range(3))
def test_polygons_are_those_of_pycocotools_but_for_their_rims(seed: int):
    rng = np.random.default_rng(seed)
    turn = np.sort(rng.random(12)) * 2 * np.pi
    far = 20 + 30 * rng.random(12)
    ring = np.stack((60 + far * np.cos(turn), 50 + far * np.sin(turn)), axis=1).ravel()
    runs = coco.frPyObjects([ring.tolist()], 100, 120)  # pyright: ignore[reportCallIssue, reportArgumentType]
    theirs = coco.decode(coco.merge(runs)).astype(np.bool_)
    ours = one(Polygons(rings=(tuple(ring.tolist()),)), PLAIN, (100, 120))
    inner = theirs[1:-1, 1:-1] & theirs[2:, 1:-1] & theirs[:-2, 1:-1] & theirs[1:-1, 2:] & theirs[1:-1, :-2]
    assert ours[1:-1, 1:-1][inner].all()
    assert (ours & theirs).sum() / (ours | theirs).sum() > 0.97
    assert mask_of(run_lengths(ours)).sum() == ours.sum()
