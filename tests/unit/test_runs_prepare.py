"""What training is prepared with."""

import pytest

from striate.engine import distributed
from striate.runs.prepare import evaluation_batch


@pytest.mark.parametrize(("side", "images"), [(28, 256), (128, 64), (640, 2), (2000, 1)])
def test_every_process_evaluates_as_many_images_at_once_as_one_alone(
    side: int, images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert evaluation_batch((side, side)) == images
    monkeypatch.setattr(distributed, "world", lambda: 3)
    assert evaluation_batch((side, side)) == 3 * images  # which the loader deals out to three
