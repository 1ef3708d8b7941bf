"""`Model.predict` over 1,000 small image files against a bare PyTorch loop over the same files.

    python benchmarks/predicting.py

The bare loop opens each file with Pillow, stacks batches of 64, normalises, and runs the same network. Both sides give
the same labels, take turns in one process, and include reading the files; start-up and loading are left out.
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

COUNT, BATCH, TRIALS = 1000, 64, 41


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        dataset = open_dataset("digits")
        files: list[Path] = []
        for row in dataset.splits["test"][:COUNT]:
            files.append(Path(folder, f"{row}.png"))
            Image.fromarray(dataset.images.read(int(row))[:, :, 0]).save(files[-1])
        run = striate.train("digits", model="lenet5_modern", epochs=1, out=Path(folder, "run"), quiet=True)
        model = striate.load(run.path)
        network, preprocessing = model.task.network, model.card.preprocessing
        mean, std = preprocessing.mean[0], preprocessing.std[0]

        def ours() -> tuple[float, list[int]]:
            started = time.perf_counter()
            labels = [prediction.annotation.label for prediction in model.predict(files)]
            return COUNT / (time.perf_counter() - started), labels

        @torch.inference_mode()
        def bare() -> tuple[float, list[int]]:
            started = time.perf_counter()
            labels: list[int] = []
            for start in range(0, COUNT, BATCH):
                arrays = [np.asarray(Image.open(file).convert("L")) for file in files[start : start + BATCH]]
                batch = torch.from_numpy(np.stack(arrays)).unsqueeze(1).float() / 255
                labels += network((batch - mean) / std).softmax(1).argmax(1).tolist()
            return COUNT / (time.perf_counter() - started), labels

        assert ours()[1] == bare()[1]
        rates: list[tuple[float, float]] = []
        for trial in range(TRIALS):
            first, second = (ours, bare) if trial % 2 else (bare, ours)
            pair = {first: first()[0], second: second()[0]}
            rates.append((pair[ours], pair[bare]))
        ratios = [mine / other for mine, other in rates]
        mine, other = (statistics.median(side) for side in zip(*rates, strict=True))
        print(
            f"predict {mine:,.0f} images/s, bare loop {other:,.0f} images/s, ratio min {min(ratios):.2f}  "
            f"median {statistics.median(ratios):.2f}  max {max(ratios):.2f} ({TRIALS} trials)"
        )


if __name__ == "__main__":
    main()
