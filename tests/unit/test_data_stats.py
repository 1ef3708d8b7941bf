"""The figures of a data set, against NumPy over all pixels."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from striate.cli.data import _facts  # pyright: ignore[reportPrivateUsage]
from striate.data.open import open_dataset
from striate.data.stats import measure


def write(path: Path, pixels: np.ndarray) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def test_figures_of_a_folder(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    grey = write(tmp_path / "train/cat/1.png", random.integers(0, 256, (10, 20), dtype=np.uint8))
    first = write(tmp_path / "train/dog/1.png", random.integers(0, 256, (30, 30, 3), dtype=np.uint8))
    second = write(tmp_path / "test/dog/2.bmp", random.integers(0, 100, (30, 30, 3), dtype=np.uint8))
    (tmp_path / "test/dog/3.png").write_bytes(b"broken")
    found = measure(open_dataset(tmp_path))
    assert found.counts == {"train": [1, 1], "test": [0, 2]}
    assert found.unreadable == 1
    assert (found.smallest, found.median, found.largest) == ((10, 20), (30, 30), (30, 30))
    assert (found.sizes, list(found.frequent)) == (2, [((30, 30), 2), ((10, 20), 1)])
    assert found.aspect == (1, 1, 2)
    assert found.modes == {"RGB": 2, "L": 1}
    assert found.formats == {"PNG": 2, "BMP": 1}
    assert found.bytes == sum(file.stat().st_size for file in tmp_path.rglob("*.*"))
    images = [np.repeat(grey[:, :, None], 3, axis=2), first, second]  # each counts alike, whatever its size
    mean = np.mean([(image / 255).mean((0, 1)) for image in images], axis=0)
    square = np.mean([((image / 255) ** 2).mean((0, 1)) for image in images], axis=0)
    assert found.mean == pytest.approx(mean.tolist(), abs=1e-12)
    assert found.std == pytest.approx(np.sqrt(square - mean**2).tolist(), abs=1e-12)
    document = found.to_json()
    assert document["schema"] == "striate.data_stats/1"
    assert document["splits"]["test"] == {"images": 2, "classes": {"cat": 0, "dog": 2}}
    assert document["licence"] is None


def test_figures_of_the_sample() -> None:
    found = measure(open_dataset("digits"))
    assert found.counts == {"train": [600] * 10, "test": [100] * 10}
    assert (found.smallest, found.largest, found.modes, found.formats) == ((28, 28), (28, 28), {"L": 7000}, {})
    assert found.bytes == 7000 * 28 * 28
    assert "CC BY-SA" in found.to_json()["licence"]


def test_data_of_which_nothing_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat/1.png").write_bytes(b"broken")
    found = measure(open_dataset(tmp_path))
    assert (found.unreadable, found.sizes, found.median) == (1, 0, (0, 0))
    assert found.to_json()["sizes"]["frequent"] == []


def test_mnist_has_the_mean_and_deviation_that_everybody_knows(striate_data: Path) -> None:
    dataset = open_dataset("mnist", root=striate_data / "mnist")
    found = measure(dataset)
    assert sum(found.counts["train"]) == 60_000
    pixels = dataset.images.pixels / np.float32(255)
    assert found.mean == pytest.approx([float(pixels.mean(dtype=np.float64))], abs=1e-6)
    assert found.std == pytest.approx([float(pixels.std(dtype=np.float64))], abs=1e-6)
    assert found.mean[0] == pytest.approx(0.1307, abs=5e-4)
    assert found.std[0] == pytest.approx(0.3081, abs=1e-3)


def test_images_that_are_drawn_have_no_bytes() -> None:
    whole = open_dataset("scenes")
    few = replace(
        whole,
        ids=whole.ids[:3],
        images=replace(whole.images, rows=whole.images.rows[:3]),  # pyright: ignore
        truths=whole.truths.select(slice(3)),
        splits={},
    )
    found = measure(few)
    assert found.bytes is None
    assert found.to_json()["bytes"] is None
    assert ("bytes", "none: drawn when they are read") in _facts(found)
