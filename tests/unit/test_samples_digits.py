"""`digits`, the sample that ships with the package."""

from importlib import resources
from pathlib import Path

import numpy as np

from striate.data.samples import digits, draw_digits


def test_it_is_what_it_says() -> None:
    dataset = digits.load()
    assert {name: len(rows) for name, rows in dataset.splits.items()} == {"train": 6000, "test": 1000}
    labels = dataset.truths.labels.numpy()
    for name, each in (("train", 600), ("test", 100)):
        assert np.bincount(labels[dataset.splits[name]]).tolist() == [each] * 10
    assert dataset.classes == tuple("0123456789")
    assert dataset.images.read(0).shape == (28, 28, 1)
    assert dataset.images.read(0).dtype == np.uint8
    assert len(set(dataset.ids)) == 7000
    assert 30 < np.mean([dataset.images.read(i).mean() for i in range(7000)]) < 37  # MNIST: 33.3


def test_no_image_is_on_both_sides() -> None:
    dataset = digits.load()
    sides = [{dataset.images.read(int(i)).tobytes() for i in rows} for rows in dataset.splits.values()]
    assert [len(side) for side in sides] == [6000, 1000]
    assert not sides[0] & sides[1]


def test_it_fits_into_two_megabytes_with_its_licence_beside() -> None:
    folder = resources.files("striate.data.samples")
    assert len(folder.joinpath("digits.npz").read_bytes()) < 2_000_000
    licence = folder.joinpath("LICENSE-digits.md").read_text()
    for words in ("CC BY-SA 3.0", "LeCun", "Cortes", "Burges", "600", "draw_digits.py"):
        assert words in licence


def test_it_is_what_the_script_draws(striate_data: Path) -> None:
    drawn = draw_digits.draw(striate_data / "mnist")
    with np.load(str(resources.files("striate.data.samples").joinpath("digits.npz")), allow_pickle=False) as stored:
        assert set(stored) == set(drawn)
        for name, array in drawn.items():
            np.testing.assert_array_equal(stored[name], array)
