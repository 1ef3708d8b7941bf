"""The loop of `striate train` against a bare one, and what `--precision auto` is worth.

    python benchmarks/training.py loop              # lenet5 and resnet20, ours over bare
    python benchmarks/training.py detection         # strider_n and retinanet around resnet18 on scenes, ours over bare
    python benchmarks/training.py precision         # ResNet-18 at 224 px, chosen over eager float32

Both sides take the same model, data, optimizer and settings, in turn in one process, after a warm-up. The bare loop is
what a person would write by hand: images as one uint8 tensor, a permutation, normalise, forward, backward, step. In
detection it calls the same detector's losses on objects that are drawn beforehand.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from striate.config import TrainSettings
from striate.core.batch import Batch
from striate.core.instances import Instances, InstanceSets
from striate.data.loader import Loader
from striate.data.open import open_dataset
from striate.data.preprocess import Preprocessing
from striate.data.split import split
from striate.engine.fit import fit
from striate.engine.log import Display, Log
from striate.engine.precision import Precision
from striate.models.catalog import create, native_size
from striate.models.contract import Detector
from striate.models.detectors.catalog import create_detector
from striate.tasks.classification import Classification
from striate.tasks.detection import Detection

BATCH = 64
SCENES = 16  # images in a batch of detection
CPU = torch.device("cpu")


def compare(name: str, ours: Callable[[], float], bare: Callable[[], float], trials: int) -> None:
    """Run both in turn, the order turned round each time, and print the ratio of their rates."""
    ours(), bare()
    ratios: list[float] = []
    rates: list[tuple[float, float]] = []
    for trial in range(trials):
        pair = (ours(), bare()) if trial % 2 else (bare(), ours())[::-1]
        rates.append(pair)
        ratios.append(pair[0] / pair[1])
    ours_rate, bare_rate = (statistics.median(side) for side in zip(*rates, strict=True))
    print(
        f"{name:<12} ours {ours_rate:9,.0f} images/s  bare {bare_rate:9,.0f} images/s  "
        f"ratio min {min(ratios):.3f}  median {statistics.median(ratios):.3f}  max {max(ratios):.3f}"
    )


def loop(trials: int) -> None:
    dataset = open_dataset("digits")
    for name, images in (("lenet5", 5000), ("resnet20", 640)):
        size = native_size(name) or (28, 28)
        preprocessing = Preprocessing(size=size, channels=1, mean=(0.13,), std=(0.31,), resize="pad")
        indices = split(dataset).indices["train"][:images]
        train = Loader(dataset, indices, preprocessing, batch=BATCH, seed=0, shuffle=True)
        torch.manual_seed(0)
        task = Classification(create(name, classes=10, channels=1, size=size), dataset.classes)
        settings = TrainSettings(epochs=1, batch=BATCH, lr=0.002, schedule="constant", weight_decay=0.0)

        untrained = copy.deepcopy(task.network.state_dict())

        def ours(
            task: Classification = task,
            train: Loader = train,
            settings: TrainSettings = settings,
            untrained: dict[str, torch.Tensor] = untrained,
        ) -> float:
            task.network.load_state_dict(untrained)  # or the sides would drift apart, and time with them
            started = time.perf_counter()
            log = Log(None, Display(quiet=True))
            fit(task, train, None, settings, log, precision=Precision(), device=CPU, batch=BATCH)
            return len(train.indices) / (time.perf_counter() - started)

        pixels = torch.stack([torch.tensor(preprocessing.pixels(dataset.images.read(i))) for i in indices])
        # With one channel, `contiguous` would keep strides that torch takes for channels-last: not the same settings.
        pixels = pixels.permute(0, 3, 1, 2).clone(memory_format=torch.contiguous_format)
        assert pixels.stride(1) == pixels.stride(0)
        labels = dataset.truths.labels[torch.from_numpy(indices)]
        network = create(name, classes=10, channels=1, size=size)

        def bare(
            network: torch.nn.Module = network,
            pixels: torch.Tensor = pixels,
            labels: torch.Tensor = labels,
            untrained: dict[str, torch.Tensor] = untrained,
        ) -> float:
            network.load_state_dict(untrained)
            started = time.perf_counter()
            optimizer = torch.optim.AdamW(network.parameters(), lr=0.002, weight_decay=0.0, fused=True)
            network.train()
            for rows in torch.randperm(len(labels)).split(BATCH):
                batch = (pixels[rows].float() / 255 - 0.13) / 0.31
                optimizer.zero_grad(set_to_none=True)
                loss = F.cross_entropy(network(batch), labels[rows])
                loss.backward()
                optimizer.step()
            return len(labels) / (time.perf_counter() - started)

        compare(name, ours, bare, trials)


def detection(trials: int, names: Sequence[str] = ("strider_n", "retinanet"), images: int = 192) -> None:
    """Both sides without augmentation, which is no part of the loop."""
    dataset = open_dataset("scenes")
    for name in names:
        size = (128, 128)
        mean, std = (0.45,) * 3, (0.25,) * 3
        preprocessing = Preprocessing(size=size, channels=3, mean=mean, std=std, resize="fit")
        indices = dataset.splits["train"][:images]
        train = Loader(dataset, indices, preprocessing, batch=SCENES, seed=0, shuffle=True)
        torch.manual_seed(0)
        network = create_detector(name, backbone="resnet18", classes=10, channels=3, size=size)
        untrained = copy.deepcopy(network.state_dict())
        task = Detection(network, dataset.classes)
        settings = TrainSettings(epochs=1, batch=SCENES, lr=1e-4, schedule="constant", weight_decay=0.0)

        def ours(
            task: Detection = task,
            train: Loader = train,
            settings: TrainSettings = settings,
            untrained: dict[str, torch.Tensor] = untrained,
        ) -> float:
            task.network.load_state_dict(untrained)
            started = time.perf_counter()
            log = Log(None, Display(quiet=True))
            fit(task, train, None, settings, log, precision=Precision(), device=CPU, batch=SCENES)
            return len(train.indices) / (time.perf_counter() - started)

        pixels = torch.stack([torch.tensor(preprocessing.pixels(dataset.images.read(i))) for i in indices])
        pixels = pixels.permute(0, 3, 1, 2).contiguous()
        again = copy.deepcopy(network)
        objects = list(dataset.instances.select(torch.from_numpy(indices)))

        def bare(
            network: Detector = again,
            pixels: torch.Tensor = pixels,
            objects: list[Instances] = objects,
            untrained: dict[str, torch.Tensor] = untrained,
            size: tuple[int, int] = size,
        ) -> float:
            network.load_state_dict(untrained)
            started = time.perf_counter()
            optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, weight_decay=0.0, fused=True)
            network.train()
            for rows in torch.randperm(len(pixels)).split(SCENES):
                batch = Batch(
                    images=(pixels[rows].float() / 255 - 0.45) / 0.25,
                    sizes=torch.tensor([size] * len(rows)),
                    truths=InstanceSets.of([objects[row] for row in rows.tolist()]),
                    indices=rows,
                )
                optimizer.zero_grad(set_to_none=True)
                loss = torch.stack(list(network.losses(batch).values())).sum()
                loss.backward()
                optimizer.step()
            return len(pixels) / (time.perf_counter() - started)

        compare(name, ours, bare, trials)


def precision(trials: int) -> None:
    from torchvision.models import resnet18

    from striate.core.annotations import Classifications
    from striate.engine.precision import choose

    batch = Batch(
        images=torch.randn(32, 3, 224, 224),
        sizes=torch.full((32, 2), 224),
        truths=Classifications(labels=torch.randint(10, (32,))),
        indices=torch.arange(32),
    )
    task = Classification(resnet18(num_classes=10), [str(label) for label in range(10)])
    for _ in range(trials):
        chosen, rates = choose(task, batch, TrainSettings())
        print(
            f"resnet18 224 px, batch 32: chose {chosen}; {rates[str(chosen)]:.1f} over {rates['float32']:.1f} "
            f"images/s, ratio {rates[str(chosen)] / rates['float32']:.2f}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["loop", "detection", "precision"])
    parser.add_argument("--trials", type=int, default=7)
    arguments = parser.parse_args()
    {"loop": loop, "detection": detection, "precision": precision}[arguments.what](arguments.trials)
