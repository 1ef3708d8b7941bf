"""Recipes load, fit their models, and say what they reached."""

from importlib.resources import files

import pytest

from striate.config import resolve
from striate.errors import UsageError
from striate.models.catalog import create, native_size
from striate.models.detectors.catalog import create_detector
from striate.recipes import read_config, recipes


@pytest.mark.parametrize("name", recipes())
def test_recipe(name: str) -> None:
    resolved = resolve(read_config(name))
    model = resolved.settings.model
    assert resolved.sources["model"] == f"recipe {name}"
    if resolved.settings.task == "detection":
        score = "AP"
        create_detector(model, backbone=resolved.settings.backbone, classes=10, channels=3, size=(128, 128))
    else:
        score = "error"
        create(model, classes=10, channels=1, size=native_size(model) or (28, 28))
    header = files("striate.recipes").joinpath(f"{name}.yaml").read_text().split("model:")[0]
    for word in ("# striate train", score, "seed", "cores"):
        assert word in header, f"the header of {name} must state command, score, seeds and hardware"


def test_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="Did you mean 'mnist-lenet5'"):
        read_config("mnist-lenet")


def test_an_unknown_recipe_is_answered_with_all_of_them() -> None:
    with pytest.raises(UsageError) as caught:
        read_config("nope")
    assert all(name in str(caught.value) for name in recipes())
