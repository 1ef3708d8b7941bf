"""Our networks against torchvision's own with the same weights, and the whole catalog inspected.

    python benchmarks/architectures.py throughput     # images/s of ours over torchvision's, forward and training
    python benchmarks/architectures.py inspect        # wall time of one command over every model of the catalog

The networks take turns in one process, in float32 and in the order of channels in which torchvision's are built. A
second copy of torchvision's network runs too: its ratio to the first says what the machine's noise is worth. Above 1
ours, or the copy, is faster.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import nn

NETWORKS = {"resnet50": 8, "vgg16": 4, "mobilenet_v3_large": 16}  # images per batch
TRIALS = 12


def networks(name: str) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Ours, theirs, and theirs again, with the same random weights."""
    from torchvision.models import get_model

    from striate.models.catalog import load

    theirs, again = get_model(name, weights=None), get_model(name, weights=None)
    again.load_state_dict(theirs.state_dict())
    return load(name, theirs.state_dict(), where="memory", origin="torchvision"), theirs, again


def seconds(run: Callable[[nn.Module], object], network: nn.Module) -> float:
    started = time.perf_counter()
    run(network)
    return time.perf_counter() - started


def throughput() -> None:
    for name, batch in NETWORKS.items():
        sides = networks(name)
        images = torch.randn(batch, 3, 224, 224)
        labels = torch.arange(batch)

        @torch.inference_mode()
        def forward(network: nn.Module, images: torch.Tensor = images) -> None:
            network.eval()(images)

        def training(network: nn.Module, images: torch.Tensor = images, labels: torch.Tensor = labels) -> None:
            network.zero_grad()
            F.cross_entropy(network.train()(images), labels).backward()

        compare(f"{name} forward", batch, forward, sides)
        compare(f"{name} training", batch, training, sides)


def compare(name: str, batch: int, run: Callable[[nn.Module], object], sides: Sequence[nn.Module]) -> None:
    for network in sides:
        run(network)
    took: list[dict[int, float]] = []
    for trial in range(TRIALS):
        order = [(trial + place) % len(sides) for place in range(len(sides))]
        took.append({side: seconds(run, sides[side]) for side in order})
    ours, theirs, again = (statistics.median(trial[side] for trial in took) for side in range(3))
    each = [trial[1] / trial[0] for trial in took]
    print(
        f"{name:<28} ours {batch / ours:7.1f} images/s, torchvision {batch / theirs:7.1f}: ratio {theirs / ours:.2f} "
        f"(trials {min(each):.2f} to {max(each):.2f}); torchvision's copy {theirs / again:.2f} ({TRIALS} trials)",
        flush=True,
    )


def inspect() -> None:
    from striate.models.catalog import CATALOG

    for _ in range(3):
        command = [sys.executable, "-m", "striate", "inspect", "*"]
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        took = time.perf_counter() - started
        print(f"striate inspect '*': {len(CATALOG)} models in {took:.1f} s, start-up included", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("throughput", "inspect"))
    {"throughput": throughput, "inspect": inspect}[parser.parse_args().what]()
