"""Fixtures that tests of several rooms share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def striate_data() -> Path:
    """The folder with all of MNIST and Fashion-MNIST; tests that need it skip, and say so, where it is absent."""
    folder = os.environ.get("STRIATE_DATA")
    if not folder or not Path(folder, "mnist").is_dir():
        pytest.skip("STRIATE_DATA does not name a folder with mnist/ and fashion-mnist/")
    return Path(folder)
