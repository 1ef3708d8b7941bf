"""The open training loop: what it shows, when, and that it is a function of its seed."""

import torch
from torch import Tensor

from striate.studies.lab import Labelled
from striate.studies.loop import logits, scaled, training

PIXELS = torch.randint(256, (12, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
IMAGES = Labelled(pixels=PIXELS, labels=torch.arange(12).remainder(3), classes=("a", "b", "c"))


def trained(seed: int, marks: list[int]) -> list[tuple[int, bool, Tensor]]:
    pixels = scaled(IMAGES, IMAGES)
    shown = training(pixels, IMAGES.labels, model="linear", classes=3, seed=seed, batch=5, lr=0.1, marks=marks)
    return [(step, network.training, logits(network, pixels)) for step, network in shown]


def test_it_shows_the_network_at_the_marks_in_evaluation_mode():
    assert [(step, mode) for step, mode, _ in trained(0, [2, 5])] == [(2, False), (5, False)]


def test_looking_changes_nothing_and_the_seed_decides():
    alone, looked = trained(0, [6])[-1][2], trained(0, [1, 2, 3, 6])[-1][2]
    assert torch.equal(alone, looked)
    assert not torch.equal(alone, trained(1, [6])[-1][2])


def test_it_learns():
    assert (trained(0, [100])[-1][2].argmax(1) == IMAGES.labels).all()


def test_images_are_scaled_by_the_training_images():
    own = scaled(IMAGES, IMAGES)
    assert (abs(own.mean()) < 1e-5, abs(own.std() - 1) < 1e-5) == (True, True)
    lighter = Labelled(pixels=PIXELS // 2, labels=IMAGES.labels, classes=IMAGES.classes)
    assert scaled(lighter, IMAGES).mean() < -0.5
