"""The scaled decode of JPEGs against a full decode with Pillow, and what it must leave to Pillow."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from striate.data import reading
from striate.data.dataset import ImageArrays
from striate.data.images import ImageFiles, read_image
from striate.data.preprocess import Pixels, Preprocessing
from striate.data.reading import read_crop, read_pixels
from striate.data.transforms.crop import RandomResizedCrop
from striate.data.transforms.draws import Draws
from striate.errors import DataError

CROP = RandomResizedCrop()
COLOUR = Preprocessing(size=(48, 64), channels=3, mean=(0.5,) * 3, std=(0.5,) * 3)
GREY = Preprocessing(size=(48, 64), channels=1, mean=(0.5,), std=(0.5,))


def drawn_crops(count: int) -> list[list[float]]:
    return CROP.draw(Draws(seed=0, epoch=0, step=0, total=count)).tolist()


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return Image.fromarray(load_sample_image("flower.jpg"))  # 427 x 640


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., ImageFiles]:
    def write(picture: Image.Image, name: str = "a.jpg", **options: object) -> ImageFiles:
        picture.save(tmp_path / name, **options)  # pyright: ignore[reportArgumentType]
        return ImageFiles([tmp_path / name])

    return write


def slow_crop(images: ImageFiles, preprocessing: Preprocessing, drawn: list[float]) -> Pixels:
    """Everything decoded, then cropped and resized by Pillow; the crop at whole pixels of what would be decoded."""
    pixels = read_image(images.paths[0])
    full = pixels.shape[:2]
    top, left, height, width = CROP.box(drawn, *full)
    target_height, target_width = preprocessing.size
    with Image.open(images.paths[0]) as picture:
        fast = picture.mode != "CMYK"
    scale = min(height / target_height, width / target_width) / 1.5
    divisor = max(d for d in (1, 2, 4, 8) if d == 1 or (fast and scale >= d))
    steps = [side / math.ceil(side / divisor) for side in full]
    corners = (
        (left, steps[1], full[1]),
        (top, steps[0], full[0]),
        (left + width, steps[1], full[1]),
        (top + height, steps[0], full[0]),
    )
    box = tuple(min(round(place / step) * step, most) for place, step, most in corners)
    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    picture = picture.convert("L" if preprocessing.channels == 1 else "RGB")
    return np.atleast_3d(np.asarray(picture.resize(preprocessing.size[::-1], Image.Resampling.BILINEAR, box=box)))


def distance(a: Pixels, b: Pixels) -> float:
    """Mean absolute difference in grey levels."""
    assert a.shape == b.shape
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


@pytest.mark.parametrize("preprocessing", [COLOUR, GREY])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 30}])
def test_crops_are_near_those_of_a_full_decode(
    photo: Image.Image,
    save: Callable[..., ImageFiles],
    mode: str,
    preprocessing: Preprocessing,
    options: dict[str, object],
):
    images = save(photo.convert(mode), **options)
    distances: list[float] = []
    for drawn in drawn_crops(12):
        ours, size = read_crop(images, 0, preprocessing, CROP, drawn)
        assert size == (427, 640)
        assert ours.dtype == np.uint8
        distances.append(distance(ours, slow_crop(images, preprocessing, drawn)))
    assert max(distances) < 3
    assert sum(distances) / 12 < 1.5


def test_less_is_decoded_where_less_is_needed(
    photo: Image.Image, save: Callable[..., ImageFiles], monkeypatch: pytest.MonkeyPatch
):
    images = save(photo)
    shapes: list[tuple[int, ...]] = []
    decode = reading.simplejpeg.decode_jpeg

    def spy(*args: object, **options: object) -> Pixels:
        shapes.append((pixels := decode(*args, **options)).shape)
        return pixels

    monkeypatch.setattr(reading.simplejpeg, "decode_jpeg", spy)
    whole = [1.0] * 10 + [640 / 427] * 10 + [0.0, 0.0]
    for side in (400, 213, 142, 71, 60, 20):
        preprocessing = Preprocessing(size=(side, side), channels=3, mean=(0.5,) * 3, std=(0.5,) * 3)
        ours, _ = read_crop(images, 0, preprocessing, CROP, whole)
        assert distance(ours, slow_crop(images, preprocessing, whole)) < 2
    assert [shape[0] for shape in shapes] == [427, 427, 214, 107, 107, 54]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("big_endian", [True, False])
def test_exif_orientation_is_applied(
    photo: Image.Image, save: Callable[..., ImageFiles], orientation: int, big_endian: bool
):
    exif = Image.Exif()
    exif.endian = ">" if big_endian else "<"
    exif[0x010F] = "a maker"
    exif[0x0112] = orientation
    images = save(photo, exif=exif)
    assert reading._orientation(images.paths[0].read_bytes()) == orientation  # pyright: ignore[reportPrivateUsage]
    upright = read_image(images.paths[0])
    for drawn in drawn_crops(4):
        ours, size = read_crop(images, 0, COLOUR, CROP, drawn)
        assert size == upright.shape[:2]
        assert distance(ours, slow_crop(images, COLOUR, drawn)) < 3
    ours, size = read_pixels(images, 0, COLOUR)
    assert size == upright.shape[:2]
    assert distance(ours, COLOUR.pixels(upright)) < 2


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_nonsense_in_exif_is_left_to_pillow(photo: Image.Image, save: Callable[..., ImageFiles], orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    images = save(photo, exif=exif)
    assert reading._orientation(images.paths[0].read_bytes()) is None  # pyright: ignore[reportPrivateUsage]
    assert read_pixels(images, 0, COLOUR)[1] == (427, 640)


def test_an_orientation_in_xmp_is_left_to_pillow(photo: Image.Image, save: Callable[..., ImageFiles]):
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    images = save(photo, xmp=xmp)
    assert reading._orientation(images.paths[0].read_bytes()) is None  # pyright: ignore[reportPrivateUsage]
    assert read_pixels(images, 0, COLOUR)[1] == read_image(images.paths[0]).shape[:2]


@pytest.mark.parametrize("resize", ["crop", "stretch", "pad"])
@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_preprocessed_pixels_are_near_those_of_a_full_decode(
    photo: Image.Image, save: Callable[..., ImageFiles], resize: str, name: str
):
    images = save(photo, name)
    for size in ((60, 60), (48, 64), (100, 30), (600, 600)):
        preprocessing = Preprocessing(
            size=size,
            channels=3,
            mean=(0.5,) * 3,
            std=(0.5,) * 3,
            resize=resize,  # pyright: ignore[reportArgumentType]
            crop_fraction=0.875,
        )
        ours, original = read_pixels(images, 0, preprocessing)
        assert original == (427, 640)
        assert distance(ours, preprocessing.pixels(read_image(images.paths[0]))) < 3


def test_a_crop_can_be_larger_than_its_image(save: Callable[..., ImageFiles]):
    images = save(Image.new("RGB", (3, 2), (10, 200, 30)))
    for drawn in drawn_crops(20):
        ours, size = read_crop(images, 0, COLOUR, CROP, drawn)
        assert size == (2, 3)
        assert ours.shape == (48, 64, 3)
        assert distance(ours, slow_crop(images, COLOUR, drawn)) < 3


def test_arrays_are_cropped_too():
    pixels = np.random.default_rng(0).integers(0, 256, (1, 90, 70, 1), dtype=np.uint8)
    ours, size = read_crop(ImageArrays(pixels), 0, COLOUR, CROP, drawn_crops(1)[0])
    assert ours.shape == (48, 64, 3)
    assert size == (90, 70)


def test_cut_files_are_refused_as_in_a_full_decode(photo: Image.Image, save: Callable[..., ImageFiles]):
    images = save(photo)
    data = images.paths[0].read_bytes()
    for part in (0, 1, 2, 3, 20, 200, 400, 700, len(data) // 10, len(data) // 2, len(data) - 1000):
        images.paths[0].write_bytes(data[:part])
        with pytest.raises(DataError) as slow:
            read_image(images.paths[0])
        for read in (
            lambda: read_crop(images, 0, COLOUR, CROP, drawn_crops(1)[0]),
            lambda: read_pixels(images, 0, COLOUR),
        ):
            with pytest.raises(DataError) as fast:
                read()
            assert str(fast.value) == str(slow.value)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"gone\.jpg"):
        read_crop(ImageFiles([tmp_path / "gone.jpg"]), 0, COLOUR, CROP, drawn_crops(1)[0])


def test_damage_anywhere_gives_pixels_or_a_data_error(
    photo: Image.Image, save: Callable[..., ImageFiles], capfd: pytest.CaptureFixture[str]
):
    images = save(photo.resize((100, 80)), exif=Image.Exif())
    data = images.paths[0].read_bytes()
    rng = np.random.default_rng(0)
    drawn = drawn_crops(1)[0]
    for trial in range(300):
        damaged = bytearray(data)
        places = rng.integers(0, 700 if trial % 2 else len(data), 1 + trial % 4)
        for place in places:
            damaged[place] = rng.integers(0, 256)
        images.paths[0].write_bytes(damaged)
        try:
            pixels, _ = read_crop(images, 0, COLOUR, CROP, drawn)
        except DataError:
            continue
        assert pixels.shape == (48, 64, 3)
    assert capfd.readouterr() == ("", "")


def test_no_size_makes_the_preprocessing_look_outside_of_the_image():
    for height in range(400, 460):  # 427 / (427 / 64) is more than 64 in the last bit
        image = np.zeros((640, height, 3), dtype=np.uint8)
        assert COLOUR.pixels(image).shape == (48, 64, 3)
