"""Fixtures of the tests that drive the command line."""

from pathlib import Path

import pytest
from commands import Cli, Outcome, striate
from PIL import Image

from striate.cli.main import main
from striate.data.open import open_dataset


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Cli:
    """Run a command in this process."""

    def call(*arguments: object) -> Outcome:
        capfd.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        found = capfd.readouterr()
        return Outcome(int(stopped.value.code or 0), found.out, found.err)

    return call


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs on the sample, and with it the test that the main command works as a process."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    process = striate("train", "digits", "--epochs", 2, "--precision", "float32", "--out", folder, "--json")
    out, err = process.communicate()
    assert process.returncode == 0, err
    (folder.parent / "out.json").write_text(out)
    (folder.parent / "err.txt").write_text(err)
    return folder


@pytest.fixture(scope="session")
def digits_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four hundred digits as a folder of classes."""
    folder = tmp_path_factory.mktemp("digits")
    dataset = open_dataset("digits")
    for row in dataset.splits["test"][:400]:
        target = folder / dataset.classes[int(dataset.truths.labels[row])]
        target.mkdir(exist_ok=True)
        Image.fromarray(dataset.images.read(int(row))[:, :, 0]).save(target / f"{row}.png")
    return folder
