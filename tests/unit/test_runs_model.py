"""A trained model takes images of every kind, and lists what it cannot take."""

import warnings
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from striate.core.instances import HIDDEN, VISIBLE, InstanceSets, Skeleton
from striate.data.images import read_image
from striate.data.preprocess import Preprocessing
from striate.errors import DataError
from striate.models.catalog import create
from striate.runs.model import Model, Predictions, pixels_of
from striate.runs.model_file import Card
from striate.tasks.classification import Classification

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def model() -> Model:
    task = Classification(create("linear", classes=2, channels=1, size=(8, 8)), ("a", "b"))
    preprocessing = Preprocessing(size=(8, 8), channels=1, mean=(0.0,), std=(1.0,))
    card = Card(model="linear", channels=1, size=(8, 8), task=task.to_json(), preprocessing=preprocessing)
    return Model(task, card, Path("m"), torch.device("cpu"))


def test_predictions_are_rows_by_index_by_slice_and_in_turn() -> None:
    pictures = np.random.default_rng(1).integers(0, 256, (5, 8, 8), dtype=np.uint8)
    found = model().predict(list(pictures), batch=2)
    rows = list(found)
    assert [row.source for row in rows] == [f"image {number}" for number in range(5)]
    assert [row.to_json() for row in rows] == found.to_json()["predictions"]
    assert [found[index].to_json() for index in range(-5, 0)] == found.to_json()["predictions"]
    assert [row.to_json() for row in found[1:4:2]] == found.to_json()["predictions"][1:4:2]
    with pytest.raises(IndexError):
        found[5]


def test_nothing_is_predicted_of_nothing() -> None:
    found = model().predict([])
    assert (len(found), list(found), found[:]) == (0, [], ())


def test_warnings_of_pillow_do_not_leak_and_those_of_others_do(tmp_path: Path) -> None:
    before = list(warnings.filters)
    (tmp_path / "a.tif").write_bytes(b"II*\0" + bytes(60))  # Pillow remarks on it
    with pytest.warns(UserWarning, match="1 inputs could not be read") as seen:
        model().predict([tmp_path / "a.tif"])
    assert len(seen) == 1
    assert warnings.filters == before


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_pillow_image_is_turned_like_the_file_that_it_came_from(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.png"
    Image.fromarray(RGB).save(path, exif=exif)
    with Image.open(path) as picture:
        found = pixels_of(picture, "image 0")
        assert np.array_equal(found, read_image(path))
        assert np.array_equal(found, np.asarray(ImageOps.exif_transpose(picture)))


@pytest.mark.parametrize(
    "mode",
    ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "I", "I;16", "F"],
)
def test_a_pillow_image_may_be_of_any_mode(mode: str) -> None:
    source = Image.new("F", (9, 6), 0.5) if mode == "F" else Image.new(mode, (9, 6))
    found = pixels_of(source, "image 0")
    assert found.dtype == np.uint8
    assert found.shape in ((6, 9, 1), (6, 9, 3))


def test_ycbcr_is_converted() -> None:
    picture = Image.fromarray(RGB).convert("YCbCr")
    assert np.array_equal(pixels_of(picture, "image 0"), np.asarray(picture.convert("RGB")))


def closed() -> Image.Image:
    file = BytesIO()
    Image.fromarray(RGB).save(file, "PNG")
    picture = Image.open(BytesIO(file.getvalue()))
    picture.close()
    return picture


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (Image.new("RGB", (0, 5)), "0x5 pixels"),
        (Image.fromarray(np.full((4, 4), -3, np.int32)), "outside of every known range"),
        (closed(), "image 0"),
        (np.zeros((0, 5, 3), np.uint8), "shape (0, 5, 3)"),
        (np.zeros((0,), np.uint8), "shape (0,)"),
        (np.full((4, 4), None), "object"),
        (torch.zeros(1, 0, 5), "shape (1, 0, 5)"),
        (torch.zeros(0), "shape (0,)"),
        (torch.full((1, 4, 4), float("nan")), "outside 0 to 1"),
        (torch.zeros(1, 4, 4, dtype=torch.int32), "int32"),
        (torch.zeros(1, 4, 4, dtype=torch.complex64), "complex64"),
        (b"", "image 0"),
        ("a\0b.png", "cannot be opened"),
        (3, "of the type int"),
    ],
)
@pytest.mark.filterwarnings("ignore:1 inputs could not be read")
def test_what_it_cannot_take_is_listed(source: Any, words: str) -> None:
    with pytest.raises(DataError):
        pixels_of(source, "image 0")
    found = model().predict([source, RGB])
    assert len(found) == 1
    assert words in found.failed[0].error


def test_a_person_reads_the_points_by_their_names() -> None:
    points = torch.tensor([[[1.0, 2, VISIBLE], [30.25, 4, HIDDEN]]])
    found = Predictions(
        model="m",
        classes=("face",),
        sources=("a.png",),
        sizes=((8, 8),),
        annotations=InstanceSets(
            offsets=torch.tensor([0, 1]),
            boxes=torch.tensor([[1.0, 2, 30.25, 4]]),
            labels=torch.tensor([0]),
            scores=torch.tensor([0.5]),
            keypoints=points,
        ),
        skeleton=Skeleton(names=("left eye", "nose"), flips=(0, 1)),
    )
    line = "face 0.5000\t1.0 2.0 30.2 4.0\tleft eye 1.0 2.0\tnose 30.2 4.0 hidden"
    assert [row.lines() for row in found] == [[line]]
    assert found[0].lines() == [line]
    unnamed = replace(found, skeleton=None)
    assert unnamed[0].lines() == [line.replace("left eye", "1").replace("nose", "2")]
