"""The loader: values, order, resumption, ranks, bad files, memory and streaming."""

import gc
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from striate.core.annotations import Classifications
from striate.core.batch import Batch
from striate.data import loader as loader_module
from striate.data.dataset import Dataset, ImageArrays, Skipped
from striate.data.images import ImageFiles
from striate.data.loader import Loader
from striate.data.preprocess import Preprocessing
from striate.errors import UsageError

GREY = Preprocessing(size=(8, 8), channels=1, mean=(0.1307,), std=(0.3081,))
COLOUR = Preprocessing(size=(16, 20), channels=3, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def dataset_of(images: ImageArrays | ImageFiles, classes: int = 5) -> Dataset:
    count = len(images)
    return Dataset(
        name="made",
        format="arrays",
        path=None,
        task="classification",
        classes=tuple(f"class {i}" for i in range(classes)),
        ids=[f"image[{i}]" for i in range(count)],
        images=images,
        truths=Classifications(labels=torch.arange(count) % classes),
    )


def arrays(count: int = 23, size: tuple[int, int] = (8, 8), channels: int = 1) -> Dataset:
    pixels = np.random.default_rng(0).integers(0, 256, (count, *size, channels), dtype=np.uint8)
    return dataset_of(ImageArrays(pixels))


@pytest.fixture
def files(tmp_path: Path) -> Dataset:
    """Twelve smooth pictures of different sizes and kinds."""
    rng = np.random.default_rng(0)
    paths: list[Path] = []
    for i in range(12):
        small = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
        picture = Image.fromarray(small).resize((60 + 7 * i, 90 - 5 * i), Image.Resampling.BICUBIC)
        path = tmp_path / f"{i}.{'png' if i % 4 == 3 else 'jpg'}"
        (picture.convert("L") if i % 4 == 2 else picture).save(path)
        paths.append(path)
    return dataset_of(ImageFiles(paths))


def same(a: Batch, b: Batch) -> bool:
    if (a.truths.scores is None) != (b.truths.scores is None):
        return False
    scores = a.truths.scores is None or b.truths.scores is None or torch.equal(a.truths.scores, b.truths.scores)
    return scores and all(
        torch.equal(x, y)
        for x, y in (
            (a.images, b.images),
            (a.sizes, b.sizes),
            (a.indices, b.indices),
            (a.truths.labels, b.truths.labels),
        )
    )


def joined(parts: list[Batch]) -> Batch:
    return Batch(
        images=torch.cat([part.images for part in parts]),
        sizes=torch.cat([part.sizes for part in parts]),
        truths=Classifications.concatenate([part.truths for part in parts]),
        indices=torch.cat([part.indices for part in parts]),
    )


def streaming(monkeypatch: pytest.MonkeyPatch) -> None:
    """No room for decoded images."""
    monkeypatch.setattr(loader_module, "KEPT_BYTES", 0)


@pytest.mark.parametrize("memory", [True, False])
@pytest.mark.parametrize("preprocessing", [GREY, COLOUR, replace(COLOUR, resize="pad", fill=7)])
def test_evaluation_gives_exactly_the_preprocessing(
    files: Dataset, preprocessing: Preprocessing, memory: bool, monkeypatch: pytest.MonkeyPatch
):
    if not memory:
        streaming(monkeypatch)
    loader = Loader(files, np.arange(12)[::-1], preprocessing, batch=5, seed=0, shuffle=False)
    assert loader.steps == 3
    for epoch in (0, 1):  # the second one comes from memory
        batches = list(loader.epoch(epoch))
        assert [len(batch) for batch in batches] == [5, 5, 2]
        whole = joined(batches)
        assert whole.indices.tolist() == list(range(11, -1, -1))
        assert whole.images.dtype == torch.float32
        assert whole.images.is_contiguous()
        for row, index in enumerate(whole.indices.tolist()):
            image = files.images.read(index)
            np.testing.assert_array_equal(whole.images[row].numpy(), preprocessing(image))
            assert tuple(whole.sizes[row].tolist()) == image.shape[:2]
            assert whole.truths.labels[row] == index % 5


@pytest.mark.parametrize("channels", [1, 3])
def test_arrays_give_exactly_the_preprocessing(channels: int):
    data = arrays(channels=channels)
    for preprocessing in (GREY, COLOUR, replace(COLOUR, size=(8, 8))):
        loader = Loader(data, np.arange(3, 20), preprocessing, batch=4, seed=0, shuffle=False)
        whole = joined(list(loader.epoch(0)))
        assert whole.indices.tolist() == list(range(3, 20))
        assert (whole.sizes == 8).all()
        expected = np.stack([preprocessing(data.images.read(i)) for i in range(3, 20)])
        np.testing.assert_array_equal(whole.images.numpy(), expected)


def test_each_epoch_has_its_own_order_and_every_image_once():
    loader = Loader(arrays(), np.arange(23), GREY, batch=4, seed=3)
    orders = [joined(list(loader.epoch(epoch))).indices.tolist() for epoch in (0, 1, 0)]
    assert orders[0] == orders[2] != orders[1]
    assert all(sorted(order) == list(range(23)) for order in orders)
    other = joined(list(Loader(arrays(), np.arange(23), GREY, batch=4, seed=4).epoch(0))).indices.tolist()
    assert other != orders[0]


def test_global_generators_are_neither_read_nor_moved():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = joined(list(Loader(arrays(), np.arange(23), GREY, batch=4, seed=3).epoch(0)))
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    assert same(first, joined(list(Loader(arrays(), np.arange(23), GREY, batch=4, seed=3).epoch(0))))


@pytest.mark.parametrize("memory", [True, False])
def test_starting_later_is_skipping(files: Dataset, memory: bool, monkeypatch: pytest.MonkeyPatch):
    if not memory:
        streaming(monkeypatch)
    all_batches = list(Loader(files, np.arange(12), COLOUR, batch=5, seed=0).epoch(2))
    resumed = list(Loader(files, np.arange(12), COLOUR, batch=5, seed=0).epoch(2, start=1))
    assert len(resumed) == 2
    assert all(same(a, b) for a, b in zip(all_batches[1:], resumed, strict=True))


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_together_see_what_one_process_sees(world: int):
    alone = list(Loader(arrays(), np.arange(23), GREY, batch=5, seed=1).epoch(0))
    ranks = [
        list(Loader(arrays(), np.arange(23), GREY, batch=5, seed=1, rank=rank, world=world).epoch(0))
        for rank in range(world)
    ]
    assert all(len(batches) == len(alone) for batches in ranks)
    for step, whole in enumerate(alone):
        parts = [batches[step] for batches in ranks]
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        assert same(joined(parts), whole)


def test_more_ranks_than_images_gives_empty_batches():
    batches = list(Loader(arrays(2), np.arange(2), GREY, batch=2, seed=1, rank=2, world=3).epoch(0))
    assert [batch.images.shape for batch in batches] == [(0, 1, 8, 8)]


@pytest.mark.parametrize("memory", [True, False])
def test_unreadable_files_leave_their_batch_and_are_named_once(
    files: Dataset, memory: bool, monkeypatch: pytest.MonkeyPatch
):
    if not memory:
        streaming(monkeypatch)
    assert isinstance(files.images, ImageFiles)
    files.images.paths[4].write_bytes(files.images.paths[4].read_bytes()[:300])
    files.images.paths[7].unlink()
    loader = Loader(files, np.arange(12), COLOUR, batch=6, seed=0, shuffle=False)
    for epoch in (0, 1, 2):
        assert [batch.indices.tolist() for batch in loader.epoch(epoch)] == [[0, 1, 2, 3, 5], [6, 8, 9, 10, 11]]
        assert [skipped.source for skipped in loader.skipped] == ["image[4]", "image[7]"]
    assert all(isinstance(skipped, Skipped) and skipped.reason for skipped in loader.skipped)


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("striate-read")]


def test_threads_end_with_the_generator(files: Dataset, monkeypatch: pytest.MonkeyPatch):
    streaming(monkeypatch)
    loader = Loader(files, np.arange(12), COLOUR, batch=2, seed=0)
    batches = loader.epoch(0)
    next(batches)
    assert workers()
    batches.close()
    assert not workers()

    def fail() -> None:
        for _ in loader.epoch(0):
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    gc.collect()
    assert not workers()


def test_an_unexpected_failure_in_a_worker_reaches_the_consumer(files: Dataset, monkeypatch: pytest.MonkeyPatch):
    def fail(self: ImageFiles, index: int) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(ImageFiles, "read", fail)
    with pytest.raises(ZeroDivisionError):
        list(Loader(files, np.arange(12), COLOUR, batch=2, seed=0).epoch(0))
    assert not workers()


def test_waiting_is_measured(files: Dataset, monkeypatch: pytest.MonkeyPatch):
    streaming(monkeypatch)
    loader = Loader(files, np.arange(12), COLOUR, batch=2, seed=0)
    assert loader.wait == 0
    list(loader.epoch(0))
    assert loader.wait > 0


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"seed": -1}, {"rank": 2, "world": 2}, {"workers": 0}])
def test_numbers_that_make_no_sense(wrong: dict[str, int]):
    with pytest.raises(UsageError, match="a loader needs"):
        Loader(arrays(), np.arange(3), GREY, **{"batch": 4, "seed": 0, **wrong})
