"""Model files whose first bytes look like something else."""

from pathlib import Path

import torch

from striate.data.preprocess import Preprocessing
from striate.models.catalog import create
from striate.runs.model_file import Card, read_model, write_model
from striate.tasks.classification import Classification


def test_a_model_file_is_never_taken_for_a_pickle(tmp_path: Path) -> None:
    """A safetensors file begins with its header's length, whose lowest byte takes every multiple of eight."""
    path = tmp_path / "model.safetensors"
    task = Classification(create("linear", classes=2, channels=1, size=(2, 2)), ["a", "b"])
    first: set[int] = set()
    for padding in range(0, 264, 8):
        card = Card(
            model="linear",
            channels=1,
            size=(2, 2),
            task=task.to_json(),
            preprocessing=Preprocessing(size=(2, 2), channels=1, mean=(0.0,), std=(1.0,)),
            licence="x" * padding,
        )
        write_model(path, task, card)
        again, read = read_model(path)
        assert read == card
        assert all(torch.equal(a, b) for a, b in zip(again.parameters(), task.parameters(), strict=True))
        first.add(path.read_bytes()[0])
    assert {0x80, 0x50} <= first  # a pickle's and a zip archive's first bytes were among them
