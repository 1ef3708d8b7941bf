from pathlib import Path

from commands import Cli
from PIL import Image


def test_the_arithmetic_and_its_picture(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "window.gif"
    found = cli("inspect", "conv", "--input", "5x5x3", "--kernel", 3, "--filters", 8, "--image", path, "--json")
    assert found.code == 0, found.err
    assert found.json["schema"] == "striate.conv_arithmetic/1"
    assert found.json["parameters"] == (3 * 3 * 3 + 1) * 8
    with Image.open(path) as animation:
        assert getattr(animation, "n_frames", 1) == 9


def test_a_layer_that_cannot_be_gets_one_message(cli: Cli) -> None:
    found = cli("inspect", "conv", "--input", "5x5x3", "--kernel", 7)
    assert found.code == 2
    assert "the kernel does not fit" in found.err
    assert "Traceback" not in found.err
    assert found.out == ""
