"""Our networks against torchvision's own with the same weights, and the whole catalog inspected.

    python benchmarks/architectures.py throughput     # images/s of ours over torchvision's, forward and training
    python benchmarks/architectures.py inspect        # wall time of one command over every model of the catalog

Both networks take turns in one process, in float32 and in the order of channels in which torchvision's are built. One
trial is a pair; the ratio is ours over theirs, so above 1 ours is faster.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

NETWORKS = {"resnet50": 8, "vgg16": 4, "mobilenet_v3_large": 16}  # images per batch
TRIALS = 9


def pair(name: str) -> tuple[nn.Module, nn.Module]:
    """Ours and theirs with the same random weights."""
    from torchvision.models import get_model

    from striate.models.catalog import load

    theirs = get_model(name, weights=None)
    ours = load(name, theirs.state_dict(), where="memory", origin="torchvision")
    return ours, theirs


def seconds(run: Callable[[nn.Module], object], network: nn.Module) -> float:
    started = time.perf_counter()
    run(network)
    return time.perf_counter() - started


def throughput() -> None:
    for name, batch in NETWORKS.items():
        ours, theirs = pair(name)
        images = torch.randn(batch, 3, 224, 224)
        labels = torch.arange(batch)

        @torch.inference_mode()
        def forward(network: nn.Module, images: torch.Tensor = images) -> None:
            network.eval()(images)

        def training(network: nn.Module, images: torch.Tensor = images, labels: torch.Tensor = labels) -> None:
            network.zero_grad()
            F.cross_entropy(network.train()(images), labels).backward()

        compare(f"{name} forward", batch, lambda network, run=forward: run(network), ours, theirs)
        compare(f"{name} training", batch, lambda network, run=training: run(network), ours, theirs)


def compare(name: str, batch: int, run: Callable[[nn.Module], object], ours: nn.Module, theirs: nn.Module) -> None:
    run(ours), run(theirs)
    took: list[tuple[float, float]] = []
    for trial in range(TRIALS):
        if trial % 2:
            mine, other = seconds(run, ours), seconds(run, theirs)
        else:
            other, mine = seconds(run, theirs), seconds(run, ours)
        took.append((mine, other))
    ratios = [other / mine for mine, other in took]
    mine, other = (batch / statistics.median(side) for side in zip(*took, strict=True))
    print(
        f"{name:<28} ours {mine:7.1f} images/s, torchvision {other:7.1f}, ratio min {min(ratios):.2f}  "
        f"median {statistics.median(ratios):.2f}  max {max(ratios):.2f} ({TRIALS} trials)",
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
