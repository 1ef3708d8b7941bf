"""A training loop in the open, for studies that look at a network while it is trained, image by image."""

from collections.abc import Generator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import striate
from striate.studies.lab import Labelled

AT_ONCE = 500  # images of a prediction
MOMENTUM = 0.9


def training(
    pixels: Tensor, labels: Tensor, *, model: str, classes: int, seed: int, batch: int, lr: float, marks: Sequence[int]
) -> Generator[tuple[int, nn.Module]]:
    """Train with SGD at a constant rate, and show the network now and then.

    Args:
        pixels: (N, C, H, W) float32, scaled.
        labels: (N,) int64.
        model: layer pattern or catalog name.
        classes: how many.
        seed: of the first weights and the order of the images.
        batch: images of a step.
        lr: learning rate.
        marks: numbers of steps after which the network is shown, ascending; the last one ends the training.

    Yields:
        The number of steps so far, and the network in evaluation mode.
    """
    torch.manual_seed(seed)
    network = striate.create(model, classes=classes, channels=pixels.shape[1], size=tuple[int, int](pixels.shape[2:]))
    optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=MOMENTUM, nesterov=True)
    order = torch.Generator().manual_seed(seed)
    waiting = torch.empty(0, dtype=torch.int64)  # rows that are still to come, epoch after epoch
    for step in range(1, marks[-1] + 1):
        while len(waiting) < batch:
            waiting = torch.cat([waiting, torch.randperm(len(labels), generator=order)])
        rows, waiting = waiting[:batch], waiting[batch:]
        optimizer.zero_grad()
        loss: Tensor = cross_entropy(network(pixels[rows]), labels[rows])
        loss.backward()
        optimizer.step()
        if step in marks:
            network.eval()
            yield step, network
            network.train()


def scaled(images: Labelled, by: Labelled) -> Tensor:
    """Pixels with mean 0 and deviation 1 over ``by``, the training images, whichever images they are.

    Returns:
        (N, C, H, W) float32.
    """
    spread, mean = torch.std_mean(by.pixels.float(), dim=(0, 2, 3), keepdim=True)
    return (images.pixels.float() - mean) / spread


@torch.inference_mode()
def logits(network: nn.Module, pixels: Tensor) -> Tensor:
    """(N, K) float32, the network's outputs for (N, C, H, W) images."""
    return torch.cat([network(part) for part in pixels.split(AT_ONCE)])
