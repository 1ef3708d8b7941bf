"""Fixtures that tests of several rooms share."""

import os
from pathlib import Path

import pytest

# Tests run side by side on few cores, and threads that wait for each other by spinning would take turns at it.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def striate_data() -> Path:
    """The folder with all of MNIST and Fashion-MNIST; tests that need it skip, and say so, where it is absent."""
    folder = os.environ.get("STRIATE_DATA")
    if not folder or not Path(folder, "mnist").is_dir():
        pytest.skip("STRIATE_DATA does not name a folder with mnist/ and fashion-mnist/")
    return Path(folder)
