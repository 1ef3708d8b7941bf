"""Test error of the recipes on MNIST and Fashion-MNIST, against the published rows.

    STRIATE_DATA=folder python benchmarks/accuracy.py mnist-linear mnist-lenet5 --seeds 3

Each recipe trains through `striate.train` on all 60,000 training images for a fixed number of epochs; the test set is
looked at once, after the last one. The published rows are LeCun et al. 1998, figure 9.
"""

import argparse
import os
import statistics
import tempfile
from pathlib import Path

import striate

PUBLISHED = {  # test error in percent
    "mnist-linear": 12.0,
    "mnist-lenet300": 4.7,
    "mnist-lenet300-distorted": 3.6,
    "mnist-lenet300-100": 3.05,
    "mnist-lenet300-100-distorted": 2.45,
    "mnist-lenet1": 1.7,
    "mnist-lenet5": 0.95,
    "mnist-lenet5-distorted": 0.8,
    "mnist-fast": 1.0,  # ours to reach, within 60 s
    "mnist-best": 0.4,  # ours to reach
    "fashion-94": 6.0,  # ours to reach
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipes", nargs="*", default=list(PUBLISHED), metavar="RECIPE")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    for recipe in arguments.recipes:
        data = "fashion-mnist" if recipe.startswith("fashion") else "mnist"
        root = Path(os.environ["STRIATE_DATA"], data)
        errors: list[float] = []
        seconds: list[float] = []
        for seed in range(arguments.seeds):
            with tempfile.TemporaryDirectory() as folder:
                run = striate.train(data, root=str(root), config=recipe, seed=seed, out=Path(folder, "run"), quiet=True)
            errors.append(100 * (1 - run.metrics["top1"]))
            seconds.append(run.seconds)
        each = " ".join(f"{error:.2f}" for error in errors)
        mean, target = statistics.mean(errors), PUBLISHED[recipe]
        verdict = "reached" if mean <= target else "MISSED"
        took = statistics.median(seconds)
        print(f"{recipe:<30} {mean:5.2f}% ({each})  to reach {target:5.2f}%  {verdict}  {took:.0f} s", flush=True)


if __name__ == "__main__":
    main()
