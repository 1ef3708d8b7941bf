"""Policies as text, draws that belong to their place, mixing, and augmentation inside the loader."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from striate.core.annotations import Classifications
from striate.core.batch import Batch
from striate.core.instances import Skeleton
from striate.data.dataset import Dataset, ImageArrays
from striate.data.images import ImageFiles
from striate.data.loader import Loader
from striate.data.preprocess import Preprocessing
from striate.data.transforms.draws import Draws
from striate.data.transforms.mixing import Mixing, cutmix_boxes
from striate.data.transforms.policy import (
    POLICIES,
    Augmentation,
    augmentation,
    mirror_images_known,
    mirror_makes_sense,
    parse,
)
from striate.errors import UsageError

COLOUR = Preprocessing(size=(16, 16), channels=3, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
GREY = Preprocessing(size=(16, 16), channels=1, mean=(0.1307,), std=(0.3081,))
PLAIN = Preprocessing(size=(16, 16), channels=1, mean=(0.0,), std=(1 / 255,))  # pixels as they are


def dataset_of(images: ImageArrays | ImageFiles, name: str = "made", classes: tuple[str, ...] = ("cat", "dog", "eel")):
    return Dataset(
        name=name,
        format="arrays",
        path=None,
        task="classification",
        classes=classes,
        ids=[f"image[{i}]" for i in range(len(images))],
        images=images,
        truths=Classifications(labels=torch.arange(len(images)) % len(classes)),
    )


def arrays(count: int = 23, channels: int = 3) -> Dataset:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 16, 16, channels), dtype=np.uint8)
    return dataset_of(ImageArrays(pixels))


@pytest.fixture
def files(tmp_path: Path) -> Dataset:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{i}.jpg" for i in range(11)]
    for i, path in enumerate(paths):
        small = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
        small.resize((60 + 7 * i, 90 - 5 * i), Image.Resampling.BICUBIC).save(path)
    return dataset_of(ImageFiles(paths))


def assert_same(a: Batch, b: Batch) -> None:
    assert torch.equal(a.indices, b.indices)
    assert torch.equal(a.images, b.images)
    assert torch.equal(a.sizes, b.sizes)
    assert torch.equal(a.truths.labels, b.truths.labels)
    assert (a.truths.scores is None) == (b.truths.scores is None)
    if a.truths.scores is not None and b.truths.scores is not None:
        assert torch.equal(a.truths.scores, b.truths.scores)


def joined(parts: list[Batch]) -> Batch:
    return Batch(
        images=torch.cat([part.images for part in parts]),
        sizes=torch.cat([part.sizes for part in parts]),
        truths=Classifications.concatenate([part.truths for part in parts]),
        indices=torch.cat([part.indices for part in parts]),
    )


EVERY = [
    "none",
    "light",
    "standard",
    "strong",
    "strong(auto=rand)",
    "geometric",
    "geometric(elastic=34, flip=yes, flip_vertical=yes, fill=wrap)",
    "light(hue=0.2, channel_shift=20, crop=0.3, fill=constant, value=9)",
]


@pytest.mark.parametrize("mix", [{}, {"mixup": 0.2}, {"cutmix": 1.0}, {"mixup": 0.8, "cutmix": 1.0}])
@pytest.mark.parametrize("text", EVERY)
def test_resumed_and_shared_batches_are_the_same_bit_for_bit(text: str, mix: dict[str, float]):
    policy = augmentation(text, classes=3, **mix)

    def batches(start: int = 0, rank: int = 0, world: int = 1) -> list[Batch]:
        loader = Loader(arrays(), np.arange(23), COLOUR, batch=9, seed=5, augmentation=policy, rank=rank, world=world)
        return list(loader.epoch(1, start))

    alone = batches()
    assert [len(batch) for batch in alone] == [9, 9, 5]
    for ours, resumed in zip(alone[1:], batches(start=1), strict=True):
        assert_same(ours, resumed)
    for whole, *parts in zip(alone, batches(rank=0, world=2), batches(rank=1, world=2), strict=True):
        assert_same(joined(parts), whole)


@pytest.mark.parametrize("text", EVERY)
def test_files_give_the_same_in_every_rank_too(files: Dataset, text: str):
    policy = augmentation(text, classes=3, cutmix=1)

    def batches(rank: int = 0, world: int = 1) -> list[Batch]:
        loader = Loader(
            files, np.arange(11), COLOUR, batch=6, seed=5, augmentation=policy, rank=rank, world=world, workers=2
        )
        first = list(loader.epoch(1))
        for again, batch in zip(loader.epoch(1), first, strict=True):  # now perhaps from memory
            assert_same(again, batch)
        return first

    for whole, *parts in zip(batches(), batches(0, 2), batches(1, 2), strict=True):
        assert_same(joined(parts), whole)


@pytest.mark.parametrize("text", EVERY[1:])
def test_augmentation_changes_images_each_epoch_anew(text: str):
    loader = Loader(
        arrays(), np.arange(23), COLOUR, batch=23, seed=5, augmentation=augmentation(text, classes=3), shuffle=False
    )
    plain = next(Loader(arrays(), np.arange(23), COLOUR, batch=23, seed=5, shuffle=False).epoch(0))
    first, second = next(loader.epoch(0)), next(loader.epoch(1))
    assert first.images.dtype == torch.float32
    assert first.images.isfinite().all()
    assert first.images.shape == plain.images.shape
    assert (first.images != plain.images).flatten(1).any(1).float().mean() > 0.7
    assert (first.images != second.images).flatten(1).any(1).float().mean() > 0.7
    assert torch.equal(first.truths.labels, plain.truths.labels)


@pytest.mark.parametrize("channels", [1, 3])
def test_no_augmentation_is_exactly_the_preprocessing(channels: int):
    data, preprocessing = arrays(channels=channels), GREY if channels == 1 else COLOUR
    loader = Loader(
        data,
        np.arange(23),
        preprocessing,
        batch=23,
        seed=0,
        augmentation=augmentation("none", classes=3),
        shuffle=False,
    )
    expected = np.stack([preprocessing(data.images.read(i)) for i in range(23)])
    np.testing.assert_array_equal(next(loader.epoch(0)).images.numpy(), expected)


@pytest.mark.parametrize("text", EVERY)
def test_grey_images_and_empty_shares(text: str):
    policy = augmentation(text, classes=3, mixup=0.2, cutmix=1)
    loader = Loader(arrays(3, channels=1), np.arange(3), GREY, batch=3, seed=0, augmentation=policy, rank=2, world=3)
    (batch,) = loader.epoch(0)
    assert batch.images.shape == (0, 1, 16, 16)
    assert batch.truths.scores is not None
    assert batch.truths.scores.shape == (0, 3)
    loader = Loader(arrays(4, channels=1), np.arange(4), GREY, batch=4, seed=0, augmentation=policy)
    assert next(loader.epoch(0)).images.shape == (4, 1, 16, 16)


def test_a_damaged_file_moves_no_random_number(files: Dataset):
    policy = augmentation("standard", classes=3, mixup=0.5)

    def batch() -> Batch:
        loader = Loader(files, np.arange(11), COLOUR, batch=11, seed=0, augmentation=policy, shuffle=False)
        (only,) = loader.epoch(0)
        return only

    whole = batch()
    assert isinstance(files.images, ImageFiles)
    files.images.paths[4].write_bytes(b"\xff\xd8\xff")
    damaged = batch()
    assert damaged.indices.tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 9, 10]
    others = torch.tensor([0, 1, 2, 3, 6, 7, 8, 9, 10])
    assert torch.equal(damaged.images[torch.tensor([0, 1, 2, 3, 5, 6, 7, 8, 9])], whole.images[others])
    assert damaged.truths.scores is not None
    assert damaged.truths.scores[4].tolist() == [0, 0, 1]  # its partner is missing: it stays alone


def test_draws_are_a_function_of_their_place():
    def numbers(**place: int) -> torch.Tensor:
        return Draws(**{"seed": 0, "epoch": 0, "step": 0, "total": 6, **place}).uniform(0, 1)

    assert torch.equal(numbers(), numbers())
    for other in ({"seed": 1}, {"epoch": 1}, {"step": 1}):
        assert not torch.equal(numbers(), numbers(**other))
    whole, part = (
        Draws(seed=0, epoch=0, step=0, total=6),
        Draws(seed=0, epoch=0, step=0, total=6, rows=torch.tensor([1, 4])),
    )
    for ours, theirs in (
        (whole.uniform(-2, 3, 4), part.uniform(-2, 3, 4)),
        (whole.integers(0, 9), part.integers(0, 9)),
        (whole.choose(0.5), part.choose(0.5)),
        (whole.beta(0.4), part.beta(0.4)),
    ):
        assert torch.equal(ours[[1, 4]], theirs)


def test_draws_have_their_distribution():
    draws = Draws(seed=0, epoch=0, step=0, total=20000)
    uniform = draws.uniform(-2, 3)
    assert uniform.min() >= -2
    assert uniform.max() < 3
    assert uniform.mean() == pytest.approx(0.5, abs=0.05)
    assert draws.choose(0.2).float().mean() == pytest.approx(0.2, abs=0.02)
    assert set(draws.integers(3, 6).tolist()) == {3, 4, 5}
    beta = draws.beta(0.4)
    assert beta.var() == pytest.approx(1 / (4 * (2 * 0.4 + 1)), abs=0.01)


def test_partners_are_neighbours_in_the_global_batch():
    rows = torch.tensor([2, 3, 4, 6, 7, 8])
    draws = Draws(seed=0, epoch=0, step=0, total=9, rows=rows)
    assert draws.partners().tolist() == [1, 0, 2, 4, 3, 5]


def test_mixup_mixes_images_and_truths_alike():
    images = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 1, 5, 5).clone()
    truths = Classifications(labels=torch.arange(4))
    mixed, soft = Mixing(classes=4, mixup=1)(images, truths, Draws(seed=0, epoch=0, step=0, total=4))
    assert soft.scores is not None
    assert torch.equal(soft.labels, truths.labels)
    torch.testing.assert_close(mixed[:, 0, 0, 0], soft.scores @ torch.arange(4.0))
    assert (soft.scores > 0).sum(1).tolist() == [2, 2, 2, 2]
    torch.testing.assert_close(soft.scores.sum(1), torch.ones(4))


def test_cutmix_weighs_truths_by_the_area_that_is_seen():
    images = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 1, 10, 14).clone()
    truths = Classifications(labels=torch.arange(8))
    mixed, soft = Mixing(classes=8, cutmix=1)(images, truths, Draws(seed=3, epoch=0, step=0, total=8))
    assert soft.scores is not None
    for i in range(8):
        assert set(mixed[i].unique().tolist()) <= {float(i), float(i ^ 1)}
        own = (mixed[i] == i).float().mean()
        torch.testing.assert_close(soft.scores[i, i], own)
        torch.testing.assert_close(soft.scores[i, i ^ 1], 1 - own)
    assert (soft.scores.amax(1) < 1).any()


def test_cutmix_boxes_are_those_of_the_authors():
    """`rand_bbox` of the paper's repository: cut_w = int(W * sqrt(1 - lambda)); centre +- cut_w // 2, clipped."""
    share, centre = torch.tensor([0.75, 0.0, 1.0, 0.5]), torch.tensor([[0.5, 0.5], [0.0, 0.99], [0.3, 0.3], [0.9, 0.1]])
    boxes = cutmix_boxes(share, centre, 20, 40)
    for i in range(4):
        cut_height, cut_width = int(20 * math.sqrt(1 - share[i])), int(40 * math.sqrt(1 - share[i]))
        y, x = int(20 * centre[i, 0]), int(40 * centre[i, 1])
        expected = [
            max(0, y - cut_height // 2),
            max(0, x - cut_width // 2),
            min(20, y + cut_height // 2),
            min(40, x + cut_width // 2),
        ]
        assert boxes[i].tolist() == expected


def test_light_moves_by_at_most_an_eighth_and_reflects():
    row = np.arange(16, dtype=np.uint8)
    pixels = np.broadcast_to(row[None, None, :, None], (200, 16, 16, 1)).copy()
    data = dataset_of(ImageArrays(pixels))
    policy = augmentation("light", classes=3, flip=False)
    batch = next(Loader(data, np.arange(200), PLAIN, batch=200, seed=0, augmentation=policy).epoch(0))
    middle = batch.images[:, 0, 8, 8].round().int()
    assert set(middle.tolist()) == {6, 7, 8, 9, 10}
    assert torch.equal(batch.images[:, 0, 0].round(), batch.images[:, 0, 9].round())
    shifted = batch.images[middle == 6][0, 0, 0]
    assert shifted.round().int().tolist() == [1, 0, *range(14)]


def test_flips_half_of_the_images_only_where_asked():
    pixels = np.zeros((400, 16, 16, 1), dtype=np.uint8)
    pixels[:, :, 0] = 255
    data = dataset_of(ImageArrays(pixels))

    def flipped(text: str, flip: bool) -> float:
        policy = augmentation(text, classes=3, flip=flip)
        batch = next(Loader(data, np.arange(400), PLAIN, batch=400, seed=0, augmentation=policy).epoch(0))
        return float((batch.images[:, 0, 8, 15] > 200).float().mean())

    assert flipped("light(shift=0)", flip=True) == pytest.approx(0.5, abs=0.1)
    assert flipped("light(shift=0)", flip=False) == 0
    assert flipped("light(shift=0, flip=yes)", flip=False) == pytest.approx(0.5, abs=0.1)
    assert flipped("light(shift=0, flip=no)", flip=True) == 0


@pytest.mark.parametrize(
    ("name", "classes", "expected"),
    [
        ("cifar10", ("airplane", "cat"), True),
        ("fashion-mnist", ("T-shirt/top", "Trouser"), True),
        ("digits", ("zero", "one"), False),
        ("mnist", ("0", "1"), False),
        ("scans", ("0", "1", "10"), False),
        ("letters", ("A", "b"), False),
        ("MNIST", ("0 - zero", "1 - one"), False),
        ("hands", ("left_hand", "right_hand"), False),
        ("birds", ("leftover", "brightness"), True),
    ],
)
def test_where_mirrors_make_sense(name: str, classes: tuple[str, ...], expected: bool):
    data = dataset_of(ImageArrays(np.zeros((2, 4, 4, 1), dtype=np.uint8)), name=name, classes=classes)
    assert mirror_makes_sense(data) is expected


@pytest.mark.parametrize(
    ("names", "flips", "known"),
    [
        (("top_left", "top_right"), (1, 0), True),
        (("0", "1"), (1, 0), True),
        (("0", "1"), (0, 1), False),
        (("eye 1", "eye 2"), (0, 1), False),
        (("left_eye", "nose"), (0, 1), False),
        (("LEye", "REye", "nose"), (0, 1, 2), False),
        (("nose", "Chin", "mouth_centre"), (0, 1, 2), True),
        (("0",), (0,), True),
    ],
)
def test_where_mirror_images_of_points_are_known(names: tuple[str, ...], flips: tuple[int, ...], known: bool):
    assert mirror_images_known(Skeleton(names=names, flips=flips)) is known


def test_options_are_read_from_text():
    assert parse("light") == ("light", {})
    assert parse(" geometric ( rotation = 15, zoom=0.2, fill=wrap,flip=yes ) ") == (
        "geometric",
        {"rotation": 15, "zoom": (0.8, 1.2), "fill": "wrap", "flip": True},
    )
    assert parse("standard(brightness=0.5..2, crop=0.35)")[1] == {"brightness": (0.5, 2), "crop": 0.35}
    assert parse("strong(auto=rand, auto_operations=3)")[1] == {"auto": "rand", "auto_operations": 3}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("geometrc", r"'geometrc' does not exist. Did you mean 'geometric'\?.*none, light"),
        ("geometric(rotaton=3)", r"option 'rotaton' does not exist. Did you mean 'rotation'.*There are crop"),
        ("geometric(rotation)", "needs a value, as in rotation=1"),
        ("geometric(zoom)", "needs a value, as in zoom=0.2"),
        ("geometric(rotation=much)", "rotation is a number of 0 or more, not 'much'"),
        ("geometric(rotation=-3)", "rotation is a number of 0 or more"),
        ("geometric(zoom=1..0.5)", "range of factors"),
        ("geometric(zoom=0..1)", "range of factors"),
        ("geometric(fill=black)", "fill is one of nearest, constant, reflect, wrap, not 'black'"),
        ("light(flip=maybe)", "flip is yes or no"),
        ("strong(erase=2)", "erase is a number from 0 to 1"),
        ("strong(auto=rand, auto_level=2.5)", "auto_level is a whole number from 0 to 30"),
        ("strong(auto=random)", "auto is one of none, trivial, rand"),
        ("light shift", "not of the form"),
    ],
)
def test_mistyped_text_names_what_there_is(text: str, message: str):
    with pytest.raises(UsageError, match=message):
        augmentation(text, classes=3)


def test_mixing_needs_sensible_numbers():
    with pytest.raises(UsageError, match="0 or more"):
        augmentation("none", classes=3, mixup=-1)


def test_every_policy_describes_itself():
    for name in POLICIES:
        lines = augmentation(name, classes=3).describe()
        assert all(lines), name
        assert (name == "none") == (not lines)
    lines = augmentation("standard", classes=3, mixup=0.2, cutmix=1).describe()
    assert lines == [
        "random resized crop: 8% to 100% of the area, width / height 0.75 to 1.33",
        "mirrored left to right, half of the images",
        "brightness x 0.6 to 1.4; contrast x 0.6 to 1.4; saturation x 0.6 to 1.4",
        "mixup, alpha 0.2 or cutmix, alpha 1",
    ]
    assert augmentation("geometric(shift_x=3, shift_y=0)", classes=3).describe() == [
        "rotated by up to 10 degrees; shifted by up to 0 of the size up or down and 3 pixels to the sides; "
        "sheared by up to 10 degrees; zoomed by 0.9 to 1.1, height and width apart; beyond the border nearest"
    ]


def test_an_augmentation_can_be_empty():
    images = torch.randint(0, 256, (2, 1, 4, 4), dtype=torch.uint8)
    truths = Classifications(labels=torch.tensor([0, 1]))
    one, zero = torch.ones(1, 1, 1), torch.zeros(1, 1, 1)
    draws = Draws(seed=0, epoch=0, step=0, total=2)
    same, kept = Augmentation(name="none")(images, truths, draws, crops=None, scale=one, offset=zero)
    assert torch.equal(same, images.float())
    assert kept is truths
