"""Feature extraction, loading included, against the bare forward pass of the same network.

    python benchmarks/features.py

Photos of 500 pixels as JPEG files go through `striate.runs.features.extract` without its cache: reading, decoding,
resizing, EfficientNet-Lite0 at 224 pixels, features in memory. The bare forward pass is the network as it is built, in
evaluation mode and inference mode, on a batch that lies in memory; once in torch's default memory format and once in
channels-last. All sides take turns in one process, in float32.
"""

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import striate
from striate.data.open import open_dataset
from striate.data.preprocess import Preprocessing
from striate.engine.log import Display
from striate.runs.features import Extractor, extract
from striate.runs.prepare import evaluation_batch
from striate.studies.photos import photos

COUNT, SIDE, SIZE, TRIALS = 96, 500, 224, 7


def write_photos(folder: Path) -> None:
    """Crops of real photos, brought to 500 pixels, in two classes."""
    rng = np.random.default_rng(0)
    all_of_them = list(photos().values())
    for number in range(COUNT):
        photo = all_of_them[number % len(all_of_them)]
        side = min(SIDE, *photo.shape[:2])
        top, left = (int(rng.integers(0, extent - side + 1)) for extent in photo.shape[:2])
        crop = Image.fromarray(photo[top : top + side, left : left + side]).resize(
            (SIDE, SIDE), Image.Resampling.BICUBIC
        )
        place = folder / str(number % 2)
        place.mkdir(parents=True, exist_ok=True)
        crop.save(place / f"{number}.jpg", quality=90)


def main() -> None:
    torch.manual_seed(0)
    network = striate.create("efficientnet_lite0").eval()
    images = torch.randn(evaluation_batch((SIZE, SIZE)), 3, SIZE, SIZE)
    spec = Preprocessing(size=(SIZE, SIZE), channels=3, mean=(0.5,) * 3, std=(0.5,) * 3, crop_fraction=0.875)
    with tempfile.TemporaryDirectory() as folder:
        write_photos(Path(folder))
        dataset = open_dataset(folder)
        extractor = Extractor(network, spec, device=torch.device("cpu"))
        rows = np.arange(len(dataset), dtype=np.int64)

        def ours() -> float:
            started = time.perf_counter()
            found = extract(extractor, dataset, rows, cache=None, display=Display(quiet=True))
            assert len(found.values) == COUNT
            return COUNT / (time.perf_counter() - started)

        @torch.inference_mode()
        def bare(form: torch.memory_format) -> float:
            network.to(memory_format=form)
            batch = images.contiguous(memory_format=form)
            started = time.perf_counter()
            for _ in range(COUNT // len(images)):
                network(batch)
            return COUNT // len(images) * len(images) / (time.perf_counter() - started)

        rates = [(ours(), bare(torch.contiguous_format), bare(torch.channels_last)) for _ in range(TRIALS + 1)]
        for place, name in ((1, "default memory format"), (2, "channels-last")):
            ratios = [trial[0] / trial[place] for trial in rates[1:]]  # the first warms up
            both = [statistics.median(trial[side] for trial in rates[1:]) for side in (0, place)]
            print(
                f"extract {both[0]:.1f} images/s, bare forward in {name} {both[1]:.1f}, ratio min {min(ratios):.2f}  "
                f"median {statistics.median(ratios):.2f}  max {max(ratios):.2f}"
            )


if __name__ == "__main__":
    main()
