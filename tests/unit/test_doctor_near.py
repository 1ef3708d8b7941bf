"""Near duplicates: the hash against its definition, the lookup against every pair, and copies of pictures."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from scipy.fft import dctn

from striate.data.doctor import near


def photo(seed: int, size: tuple[int, int] = (240, 320)) -> Image.Image:
    """Noise with the spectrum of photographs (amplitude 1/f), in colour."""
    random = np.random.default_rng(seed)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(size[0]), np.fft.fftfreq(size[1]), indexing="ij"))
    frequency[0, 0] = 1
    planes = [np.fft.ifft2(np.fft.fft2(random.standard_normal(size)) / frequency).real for _ in range(3)]
    pixels = np.stack([planes[0] + 0.3 * plane for plane in planes], axis=2)
    low, high = np.percentile(pixels, (1, 99))
    return Image.fromarray(np.clip((pixels - low) / (high - low) * 255, 0, 255).astype(np.uint8))


def thumbnails(*pictures: Image.Image) -> np.ndarray:
    arrays = [np.asarray(picture) for picture in pictures]
    return np.stack([near.thumbnail(array[:, :, None] if array.ndim == 2 else array) for array in arrays])


def jpeg(picture: Image.Image, quality: int) -> Image.Image:
    file = BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(file)


def test_hash_is_the_sign_of_low_frequencies_about_their_median() -> None:
    small = np.random.default_rng(0).integers(0, 256, (5, 32, 32), dtype=np.uint8)
    for picture, found in zip(small, near.hashes(small), strict=True):
        low = dctn(picture.astype(np.float64), type=2)[1:9, 1:9].ravel()  # scipy's scale does not move the median
        bits = (low > np.median(low)).astype(np.uint8)
        assert found == np.packbits(bits).view(np.uint64)[0]


@pytest.mark.parametrize("distance", [0, 3, 10, 11])
def test_lookup_finds_exactly_the_pairs_that_comparing_all_finds(distance: int) -> None:
    random = np.random.default_rng(distance)
    centres = random.integers(0, 2**63, 60, dtype=np.uint64)
    hashes = list(centres)
    for centre in centres:  # around each some at every distance up to 16
        for count in range(1, 17):
            flips = sum(1 << int(bit) for bit in random.choice(64, count, replace=False))
            hashes.append(centre ^ np.uint64(flips))
    unique = np.unique(np.array(hashes, dtype=np.uint64))
    every = np.bitwise_count(unique[:, None] ^ unique[None, :])
    expected = {(a, b) for a, b in np.argwhere(every <= distance).tolist() if a < b}
    found = [tuple(pair) for part in near.within(unique, distance) for pair in part.tolist()]
    assert set(found) == expected
    assert distance == 0 or expected


def test_lookup_in_parts_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    unique = np.unique(np.random.default_rng(1).integers(0, 5000, 400).astype(np.uint64))
    whole = {tuple(pair) for part in near.within(unique, 6) for pair in part.tolist()}
    monkeypatch.setattr(near, "_CHUNK", 1000)
    assert {tuple(pair) for part in near.within(unique, 6) for pair in part.tolist()} == whole


def test_lookup_refuses_a_distance_that_it_would_miss() -> None:
    with pytest.raises(ValueError, match="up to 11 bits"):
        list(near.within(np.zeros(1, dtype=np.uint64), 12))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda p: p.resize((160, 120)), id="half the size"),
        pytest.param(lambda p: p.resize((224, 224)), id="stretched"),
        pytest.param(lambda p: jpeg(p, 40), id="JPEG"),
        pytest.param(lambda p: jpeg(p.resize((200, 150)), 60), id="smaller JPEG"),
        pytest.param(lambda p: ImageEnhance.Brightness(p).enhance(1.15), id="brighter"),
        pytest.param(lambda p: ImageEnhance.Contrast(p).enhance(0.8), id="flatter"),
        pytest.param(lambda p: p.convert("L"), id="grey"),
    ],
)
def test_changed_copies_are_found_and_other_pictures_are_not(change) -> None:
    originals = [photo(seed) for seed in range(12)]
    found = near.near_pairs(thumbnails(*originals, *(change(picture) for picture in originals)))
    assert found.tolist() == [[k, k + 12] for k in range(12)]


def test_flat_pictures_are_not_alike() -> None:
    pages = [Image.new("RGB", (100, 100 + k), (250, 250, 250 - k)) for k in range(4)]
    assert len(near.near_pairs(thumbnails(*pages))) == 0


def test_pictures_with_one_hash_are_each_compared_with_the_first() -> None:
    picture = thumbnails(photo(0))
    assert near.near_pairs(np.repeat(picture, 4, axis=0)).tolist() == [[0, 1], [0, 2], [0, 3]]
    assert near.near_pairs(picture).shape == (0, 2)
    assert near.near_pairs(picture[:0]).shape == (0, 2)
