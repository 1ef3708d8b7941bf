"""Distillation: the paper's loss, the teacher's own view of the images, and nothing of it in the student's files."""

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import striate
from striate.core.annotations import Classifications
from striate.core.batch import Batch
from striate.data.preprocess import Preprocessing
from striate.errors import UsageError
from striate.tasks.distillation import Distillation, Teacher

CLASSES = ["a", "b", "c"]


class Answers(nn.Module):
    """Says the same of every image, and keeps what it was shown."""

    def __init__(self, logits: list[float]):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))
        self.seen: Tensor | None = None

    def forward(self, images: Tensor) -> Tensor:
        self.seen = images
        return self.logits.expand(len(images), -1)


def teacher(network: nn.Module, **given: object) -> Teacher:
    one = torch.ones(1)
    plain = {"knows": CLASSES, "asked": CLASSES, "size": (4, 4), "scale": one, "offset": 0 * one}
    return Teacher(network, **(plain | {"student_scale": one, "student_offset": 0 * one} | given))


def batch(images: Tensor) -> Batch:
    count = len(images)
    truths = Classifications(labels=torch.zeros(count, dtype=torch.int64))
    return Batch(images=images, sizes=torch.ones(count, 2), truths=truths, indices=torch.arange(count))


def test_the_loss_is_the_papers() -> None:
    ours, theirs = [1.0, 0.0, -1.0], [3.0, 2.0, 0.0]
    task = Distillation(Answers(ours), CLASSES, teacher=teacher(Answers(theirs)), temperature=2.0, share=0.75)
    found = task(batch(torch.zeros(5, 1, 4, 4)))

    def softmax(logits: list[float], temperature: float) -> list[float]:
        powers = [math.exp(logit / temperature) for logit in logits]
        return [power / sum(powers) for power in powers]

    p, q = softmax(theirs, 2.0), softmax(ours, 2.0)
    divergence = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert found["distillation"].item() == pytest.approx(0.75 * 4 * divergence, rel=1e-5)
    assert found["cross_entropy"].item() == pytest.approx(-0.25 * math.log(softmax(ours, 1.0)[0]), rel=1e-5)


def test_the_gradient_does_not_shrink_with_the_temperature() -> None:
    """Section 2.1: in the high-temperature limit it matches logits, whatever the temperature."""
    norms = []
    for temperature in (50.0, 100.0):
        student = Answers([1.0, 0.0, -1.0])
        task = Distillation(
            student, CLASSES, teacher=teacher(Answers([3.0, 2.0, 0.0])), temperature=temperature, share=1.0
        )
        sum(task(batch(torch.zeros(5, 1, 4, 4))).values()).backward()
        assert student.logits.grad is not None
        norms.append(float(student.logits.grad.norm()))
    assert norms[0] == pytest.approx(norms[1], rel=0.05)


def test_the_teacher_sees_images_as_it_was_trained_to() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    ours = Preprocessing(size=(8, 8), channels=3, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))
    theirs = Preprocessing(size=(8, 8), channels=1, mean=(0.13,), std=(0.31,))
    (scale, offset), (own_scale, own_offset) = (map(torch.from_numpy, each.affine()) for each in (theirs, ours))
    network = Answers([0.0, 0.0, 0.0])
    asked = teacher(
        network, size=(8, 8), scale=scale, offset=offset, student_scale=own_scale, student_offset=own_offset
    )
    asked(torch.from_numpy(ours(image))[None])
    assert network.seen is not None
    torch.testing.assert_close(network.seen[0], torch.from_numpy(theirs(image)), atol=0.02, rtol=0)


def test_classes_are_matched_by_name_and_an_unknown_one_is_refused() -> None:
    found = teacher(Answers([1.0, 2.0, 3.0]), asked=["c", "a"])(torch.zeros(1, 1, 4, 4))
    assert found.tolist() == [[3.0, 1.0]]
    with pytest.raises(UsageError, match="does not know 1 of the classes, as 'z'"):
        teacher(Answers([0.0, 0.0, 0.0]), asked=["a", "z"])


def test_nothing_of_the_teacher_is_the_students() -> None:
    task = Distillation(
        Answers([0.0, 0.0, 0.0]), CLASSES, teacher=teacher(Answers([1.0, 0.0, 0.0])), temperature=1, share=1
    )
    assert list(task.state_dict()) == ["network.logits"]
    assert copy.deepcopy(task).teacher is task.teacher


def test_a_student_learns_from_a_teacher_through_the_command(tmp_path: Path) -> None:
    fast = {"precision": "float32", "channels_last": False, "augment": "none", "quiet": True}
    first = striate.train("digits", model="lenet5_modern", per_class=100, epochs=3, out=tmp_path / "teacher", **fast)
    run = striate.train(
        "digits", model="lenet300", per_class=30, epochs=3, teacher=str(first.path), out=tmp_path / "run", **fast
    )
    assert run.metrics["top1"] > 0.5
    names = load_file(run.model)
    assert set(names) == set(striate.create("lenet300").state_dict())
