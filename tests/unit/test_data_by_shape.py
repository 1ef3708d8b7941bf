"""Images batched by shape: every image once, on a canvas no larger than its batch needs, and found where it was."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from striate.config import TrainSettings
from striate.core.batch import Batch
from striate.core.instances import Instances, InstanceSets
from striate.data import objects
from striate.data.dataset import Dataset
from striate.data.images import ImageFiles
from striate.data.loader import Loader
from striate.data.preprocess import Preprocessing
from striate.data.transforms.instances import instance_augmentation
from striate.engine.evaluate import evaluate
from striate.errors import UsageError
from striate.models.contract import Detector
from striate.models.detectors.catalog import DETECTORS
from striate.runs.building import canvas_step
from striate.runs.model import Model
from striate.runs.model_file import Card
from striate.tasks.detection import Detection

SHAPES = [(60, 80), (80, 60), (64, 64), (30, 96), (45, 60)]  # 4:3 twice, 3:4, square, wide
FITTED = {(60, 80): (96, 128), (80, 60): (128, 96), (64, 64): (128, 128), (30, 96): (40, 128), (45, 60): (96, 128)}


def preprocessing(multiple: int | None = 32) -> Preprocessing:
    return Preprocessing(
        size=(128, 128), channels=3, mean=(0.5,) * 3, std=(0.5,) * 3, resize="fit", fill=114, multiple=multiple
    )


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """46 pictures of five shapes, each with one white square."""
    paths: list[Path] = []
    truths: list[Instances] = []
    for i in range(46):
        height, width = SHAPES[i * 7 % 5]
        pixels = np.full((height, width, 3), 20, dtype=np.uint8)
        x, y = 5 + i % 9, 3 + i % 7
        pixels[y : y + 20, x : x + 20] = 250
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(pixels).save(paths[-1])
        box = torch.tensor([[x, y, x + 20, y + 20]], dtype=torch.float32)
        truths.append(Instances(boxes=box, labels=torch.zeros(1, dtype=torch.int64)))
    return Dataset(
        name="made",
        format="files",
        path=tmp_path,
        task="detection",
        classes=("square",),
        ids=[path.name for path in paths],
        images=ImageFiles(paths),
        truths=InstanceSets.of(truths),
    )


def loader(dataset: Dataset, *, training: bool, multiple: int | None = 32, count: int = 46, **more: Any) -> Loader:
    augmentation = instance_augmentation("standard(mosaic=0.5)", fill=114) if training else None
    rows = np.arange(count)
    return Loader(
        dataset,
        rows,
        preprocessing(multiple),
        batch=4,
        seed=3,
        shuffle=training,
        augmentation=augmentation,
        **more,
    )


def needed(batch: Batch) -> list[int]:
    """The smallest canvas in steps of 32 that holds the images."""
    inner = torch.tensor([FITTED[(height, width)] for height, width in batch.sizes.tolist()])
    return ((inner.amax(0) + 31) // 32 * 32).tolist()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("count", [46, 45, 3])
def test_every_image_once_on_the_smallest_canvas(dataset: Dataset, training: bool, count: int):
    batches = loader(dataset, training=training, count=count)
    for epoch in range(2):  # the first reads files, the second has them in memory
        seen = list(batches.epoch(epoch))
        assert len(seen) == batches.steps
        assert sorted(torch.cat([batch.indices for batch in seen]).tolist()) == list(range(count))
        for batch in seen:
            assert list(batch.images.shape[2:]) == needed(batch)
            assert (batch.instances.boxes[:, 2:] <= torch.tensor(batch.images.shape[3:1:-1])).all()
            if not training:
                assert len({FITTED[(height, width)] for height, width in batch.sizes.tolist()}) == 1
        if training and count > 4:
            assert {len(batch) for batch in seen[:-1]} == {4}
            assert len(seen[-1]) == count - 4 * (len(seen) - 1) > 1


def test_orders_are_drawn_anew_in_each_epoch(dataset: Dataset):
    batches = loader(dataset, training=True)
    orders = [[tuple(batch.indices.tolist()) for batch in batches.epoch(epoch)] for epoch in (0, 1, 2, 0)]
    assert orders[0] == orders[3]
    assert orders[0] != orders[1]
    firsts = [list(batch.images.shape[2:]) for epoch in range(8) for batch in [next(batches.epoch(epoch))]]
    assert len({tuple(canvas) for canvas in firsts}) > 1  # batches are shuffled, too
    lasts = [tuple(list(batches.epoch(epoch))[-1].images.shape[2:]) for epoch in range(8)]
    assert len(set(lasts)) > 1


def test_an_epoch_goes_on_where_it_was_left_and_two_processes_see_what_one_does(dataset: Dataset):
    whole = list(loader(dataset, training=True).epoch(1))
    rest = list(loader(dataset, training=True).epoch(1, start=5))
    parts = [list(loader(dataset, training=True, rank=rank, world=2).epoch(1)) for rank in range(2)]
    for step, batch in enumerate(whole):
        again = [part[step] for part in parts]
        for images in (torch.cat([part.images for part in again]), *([rest[step - 5].images] if step >= 5 else [])):
            assert torch.equal(images, batch.images)
        assert torch.equal(torch.cat([part.indices for part in again]), batch.indices)


class Squares(Detector):
    """Finds the box around what is bright, of images of any size; every pixel for itself."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.classes, self.channels, self.size = 1, 3, (128, 128)
        self.canvases: set[tuple[int, ...]] = set()

    def detect(self, images: Tensor, sizes: Tensor) -> list[Instances]:
        self.canvases.add(tuple(images.shape[2:]))
        found: list[Instances] = []
        for image in images:
            rows, columns = (image[0] * self.weight > 0.5).nonzero().unbind(1)
            box = torch.stack((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)).float()
            found.append(Instances(boxes=box[None], labels=torch.zeros(1).long(), scores=torch.ones(1)))
        return found


@torch.inference_mode()
def test_boxes_come_back_in_the_original_pixels_and_are_those_of_the_one_canvas(dataset: Dataset):
    answers: list[Tensor] = []
    for multiple in (None, 32):
        detector = Squares()
        task = Detection(detector, ("square",))
        card = Card(
            model="squares",
            channels=3,
            size=(128, 128),
            task={"classes": ["square"]},
            preprocessing=preprocessing(multiple),
        )
        model = Model(task, card, Path("squares"), torch.device("cpu"))
        assert isinstance(dataset.images, ImageFiles)
        found = model.predict(list(dataset.images.paths), batch=10)
        assert isinstance(found.annotations, InstanceSets)
        assert found.sources == tuple(str(path) for path in dataset.images.paths)
        assert found.annotations.counts.tolist() == [1] * 46
        torch.testing.assert_close(found.annotations.boxes, dataset.instances.boxes, atol=1.5, rtol=0)
        answers.append(found.annotations.boxes)
        assert detector.canvases == (
            {(128, 128)} if multiple is None else {(96, 128), (128, 96), (128, 128), (64, 128)}
        )

        measured = evaluate(task, loader(dataset, training=False, multiple=multiple), keep=True)
        assert measured.indices is not None
        assert isinstance(measured.predictions, InstanceSets)
        boxes = measured.predictions.boxes[measured.indices.argsort()]
        torch.testing.assert_close(boxes, answers[-1])
    assert torch.equal(answers[0], answers[1])


def test_what_takes_one_size_refuses():
    for name in ("ssd300", "ssd512", "ssd", "yolov1", "yolo"):
        with pytest.raises(UsageError, match=rf"--by-shape gives batches of several sizes, and {name} takes one only"):
            canvas_step(name, TrainSettings(by_shape=True, resize="fit"))
    with pytest.raises(UsageError, match=r"--by-shape is for images that keep their shape .*not for stretch"):
        canvas_step("fcos", TrainSettings(by_shape=True, resize="stretch"))
    with pytest.raises(UsageError, match="by 'fit' only"):
        Preprocessing(size=(8, 8), channels=1, mean=(0.0,), std=(1.0,), resize="crop", multiple=8)
    assert canvas_step("fcos", TrainSettings(resize="fit")) is None
    assert canvas_step("detr", TrainSettings(by_shape=True, resize="fit")) == 32
    assert canvas_step("retinanet", TrainSettings(by_shape=True, resize="fit")) == 128
    assert all(architecture.stride % 32 == 0 for architecture in DETECTORS.values())


def test_a_model_file_of_before_has_one_canvas():
    document = preprocessing().to_json()
    assert Preprocessing.from_json(document) == preprocessing()
    del document["multiple"]
    assert Preprocessing.from_json(document).multiple is None


def test_headers_are_read_once_for_all_loaders(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []
    plain = objects.probe
    monkeypatch.setattr(objects, "probe", lambda file: (asked.append(file), plain(file))[1])
    loader(dataset, training=False, count=30)
    loader(dataset, training=True)
    assert sorted(path.name for path in asked) == sorted(dataset.ids)
