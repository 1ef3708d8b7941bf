"""A model file says what is wrong with it, whatever its card holds."""

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from striate.data.preprocess import Preprocessing
from striate.engine.checkpoint import METADATA
from striate.errors import ModelFileError
from striate.models.catalog import create
from striate.runs.model_file import Card, read_model, write_model
from striate.tasks.classification import Classification


@pytest.fixture
def file(tmp_path: Path) -> Path:
    task = Classification(create("linear", classes=2, channels=1, size=(8, 8)), ("a", "b"))
    preprocessing = Preprocessing(size=(8, 8), channels=1, mean=(0.0,), std=(1.0,))
    card = Card(model="linear", channels=1, size=(8, 8), task=task.to_json(), preprocessing=preprocessing)
    write_model(tmp_path / "m.safetensors", task, card)
    return tmp_path / "m.safetensors"


def with_card(file: Path, **fields: Any) -> Path:
    """Replace fields of the card; None takes one away."""
    with safe_open(file, framework="pt") as opened:
        card = json.loads(opened.metadata()[METADATA])
    card = {name: value for name, value in (card | fields).items() if value is not None}
    save_file(load_file(file), file, metadata={METADATA: json.dumps(card)})
    return file


def test_a_card_is_read_back(file: Path) -> None:
    task, card = read_model(with_card(file, data={"name": "d", "root": None}))
    assert (card.classes, card.size, task.name) == (("a", "b"), (8, 8), "classification")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"task": {"task": "classification"}}, "its classes"),
        ({"task": {"task": "classification", "classes": "ab"}}, "its classes"),
        ({"task": {"task": "classification", "classes": [1, 2]}}, "its classes"),
        ({"task": {"task": "classification", "classes": ["a"]}}, "its classes"),
        ({"task": {"classes": ["a", "b"]}}, "task must be"),
        ({"task": ["a", "b"]}, "task must be"),
        ({"task": None}, "task"),
        ({"task": {"task": "detection", "classes": ["a", "b"]}}, "unknown task"),
        ({"model": None}, "model"),
        ({"model": 5}, "model must be text"),
        ({"channels": "1"}, "channels must be"),
        ({"channels": True, "size": [True, 8]}, "size must be"),
        ({"size": [8]}, "size must be"),
        ({"size": 8}, "cannot be read"),
        ({"size": ["8", "8"]}, "size must be"),
        ({"size": [9, 9]}, "preprocessing must make"),
        ({"preprocessing": {"size": [8, 8]}}, "preprocessing"),
        ({"preprocessing": [1]}, "cannot be read"),
        ({"metrics": "good"}, "metrics must be"),
        ({"data": []}, "data must be"),
        ({"data": {"fingerprints": "abc"}}, "its fingerprints"),
        ({"data": {"source": 5}}, "source and root"),
        ({"licence": 5}, "licence"),
        ({"schema": None}, "cannot be read"),
        ({"schema": "striate.model/one"}, "cannot be read"),
        ({"more": 1}, "cannot be read"),
    ],
)
def test_a_card_with_missing_or_odd_fields_is_answered(fields: dict[str, Any], words: str, file: Path) -> None:
    with pytest.raises(ModelFileError, match=r"m\.safetensors") as caught:
        read_model(with_card(file, **fields))
    assert words in str(caught.value)


@pytest.mark.parametrize("text", ["[]", "3", "null", "{", ""])
def test_a_card_that_is_no_mapping_is_answered(text: str, file: Path) -> None:
    save_file(load_file(file), file, metadata={METADATA: text})
    with pytest.raises(ModelFileError, match="cannot be read"):
        read_model(file)
