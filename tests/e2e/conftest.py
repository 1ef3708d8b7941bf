"""The command line as a person uses it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from striate.cli.main import main


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.out)


Cli = Callable[..., Outcome]


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


def striate(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    """Start a command as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "striate", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )


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
