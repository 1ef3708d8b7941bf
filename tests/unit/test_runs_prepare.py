"""What training is prepared with."""

from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from striate.config import Layer, resolve
from striate.data.transforms.instances import InstanceAugmentation
from striate.engine import distributed
from striate.engine.log import Display
from striate.runs.prepare import evaluation_batch, loader, prepare
from striate.runs.train import introduce


@pytest.mark.parametrize(("side", "images"), [(28, 256), (128, 64), (640, 2), (2000, 1)])
def test_every_process_evaluates_as_many_images_at_once_as_one_alone(
    side: int, images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert evaluation_batch((side, side)) == images
    monkeypatch.setattr(distributed, "world", lambda: 3)
    assert evaluation_batch((side, side)) == 3 * images  # which the loader deals out to three


@pytest.mark.parametrize(
    ("count", "augment", "mirrored", "said"),
    [
        (5, "auto", False, True),
        (5, "standard(flip=yes)", True, False),
        (5, "geometric", False, False),
        (68, "auto", True, False),  # whose mirror images are known
    ],
)
def test_points_without_known_mirror_images_are_mirrored_only_where_asked(
    tmp_path: Path, count: int, augment: str, mirrored: bool, said: bool
) -> None:
    rng = np.random.default_rng(0)
    for name in range(10):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(tmp_path / f"{name}.png")
        lines = [f"{x} {y}" for x, y in rng.uniform(1, 32, (count, 2))]
        (tmp_path / f"{name}.pts").write_text("\n".join((f"n_points: {count}", "{", *lines, "}")))
    values = {"data": str(tmp_path), "task": "keypoints", "model": "mobilenet_v1_025", "augment": augment, "size": 32}
    prepared = prepare(resolve(Layer(source="argument", values={**values, "batch": 2, "device": "cpu"})))
    augmentation = loader(prepared, "train", batch=2, training=True).augmentation
    assert isinstance(augmentation, InstanceAugmentation)
    assert augmentation.motion.flip is mirrored
    told = StringIO()
    introduce(prepared, Display(console=Console(file=told)))
    assert told.getvalue().count("no image is mirrored") == said
