"""Recipes: files of settings whose header states the command, the hardware, the time and the score."""

from importlib.resources import files
from pathlib import Path

from striate.config import Layer, read_settings
from striate.errors import UsageError, did_you_mean


def recipes() -> list[str]:
    """Names of the recipes that ship with the package."""
    return sorted(
        entry.name.removesuffix(".yaml") for entry in files(__name__).iterdir() if entry.name.endswith(".yaml")
    )


def read_config(name: str) -> Layer:
    """Settings of a file, of a run folder, or of a recipe by its name.

    Raises:
        UsageError: there is no such file or recipe, or it does not hold settings.
    """
    path = Path(name)
    if path.is_dir():
        path = path / "run.yaml"
    if path.is_file():
        return read_settings(path.read_text(encoding="utf-8"), f"file {name}")
    if name in recipes():
        return read_settings(files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8"), f"recipe {name}")
    raise UsageError(
        f"--config {name}: no such file, and no recipe of that name.{did_you_mean(name, recipes())} "
        f"The recipes are {', '.join(recipes())}."
    )
