"""Settings: later over earlier, each with its source, and every mistake answered."""

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from striate.config import NAMES, Layer, TrainSettings, expected, read_settings, resolve
from striate.errors import UsageError


def line(**values: object) -> Layer:
    return Layer(source="command line", values=values)


def test_later_layers_win_and_sources_are_kept() -> None:
    resolved = resolve(Layer(source="recipe r", values={"epochs": 3, "lr": 0.1}), line(epochs=5))
    assert (resolved.settings.epochs, resolved.sources["epochs"]) == (5, "command line")
    assert (resolved.settings.lr, resolved.sources["lr"]) == (0.1, "recipe r")
    assert (resolved.settings.seed, resolved.sources["seed"]) == (0, "default")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("epochs", "7", 7),
        ("batch", "128", 128),
        ("batch", "auto", "auto"),
        ("lr", "1e-3", 0.001),
        ("nesterov", "false", False),
        ("channels_last", "true", True),
        ("weight-decay", "0.5", 0.5),  # flags' spelling
    ],
)
def test_text_becomes_the_settings_type(name: str, text: str, value: object) -> None:
    found = getattr(resolve(Layer(source="s", values={name: text})).settings, name.replace("-", "_"))
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epoch": 3}, "unknown setting 'epoch' (command line). Did you mean 'epochs'"),
        ({"epochs": 0}, "epochs = 0 (command line) does not fit: it takes a whole number, at least 1"),
        ({"epochs": 2.5}, "epochs = 2.5"),
        ({"lr": "fast"}, "it takes a number, above 0 or auto"),
        ({"lr": 0}, "lr = 0.0"),
        ({"optimizer": "sdg"}, "it takes sgd, adam, adamw"),
        ({"momentum": float("nan")}, "momentum = nan"),
        ({"nesterov": "perhaps"}, "it takes true or false"),
        ({"model": ["lenet5"]}, "it takes text"),
        ({"size": True}, "it takes text"),
        ({"channels": 2}, "it takes auto, 1, 3"),
    ],
)
def test_mistakes_name_the_setting_its_source_and_what_fits(values: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(Layer(source="command line", values=values))
    assert message in str(caught.value)


def test_what_is_measured_never_replaces_what_was_given() -> None:
    assert resolve(line()).because("measured", batch=32).sources["batch"] == "measured"
    with pytest.raises(ValueError, match="batch given explicitly"):
        resolve(line(batch=64)).because("measured", batch=32)


def test_what_is_found_out_keeps_the_source_of_what_was_given() -> None:
    resolved = resolve(line(task="classification", model="lenet5", size="auto"))
    resolved = resolved.because("data", task="classification", model="lenet5", size="28x28", channels="1")
    assert {name: resolved.sources[name] for name in ("task", "model", "size", "channels")} == {
        "task": "command line", "model": "command line", "size": "data", "channels": "data",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("size", 64, "64"),
        ("channels", 3, "3"),
        ("root", Path("a") / "b", str(Path("a") / "b")),
        ("data", Path("d"), "d"),
    ],
)
def test_numbers_and_paths_become_text_where_the_setting_is_text(name: str, value: object, text: str) -> None:
    assert getattr(resolve(line(**{name: value})).settings, name) == text


def test_yaml_takes_bare_numbers() -> None:
    settings = resolve(read_settings("size: 64\nchannels: 3\n", "f")).settings
    assert (settings.size, settings.channels) == ("64", "3")


def test_every_setting_says_what_it_takes() -> None:
    for field in fields(TrainSettings):
        assert field.metadata["help"]
        assert expected(field.type, field.metadata)
    assert len(NAMES) == len(set(NAMES))


def test_reads_settings_and_run_documents() -> None:
    assert read_settings("epochs: 3\nlr: 0.1\n", "f").values == {"epochs": 3, "lr": 0.1}
    assert read_settings("schema: x\nsettings: {epochs: 4}\n", "f").values == {"epochs": 4}


@pytest.mark.parametrize("text", ["- a\n- b\n", "epochs: [1", "just text"])
def test_refuses_what_is_not_settings(text: str) -> None:
    with pytest.raises(UsageError, match="file f"):
        read_settings(text, "file f")


def test_importing_striate_and_its_settings_loads_nothing_heavy() -> None:
    code = "import striate, striate.config, striate.cli.main, striate.cli.train, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"torch", "numpy", "PIL", "pydantic", "torchvision", "yaml", "rich"} & set(loaded)
