"""Every detector on `scenes`, each for about the same processor time: AP, parameters, time to train and to find.

    OMP_NUM_THREADS=1 python benchmarks/scenes.py                      # all rows: two to three hours of one core
    OMP_NUM_THREADS=1 python benchmarks/scenes.py fcos ssd --out scenes.jsonl
    python benchmarks/scenes.py --table --out scenes.jsonl             # the rows of the file as Markdown

All train from scratch with the defaults of `striate train scenes --model NAME --backbone resnet18 --epochs N` (seed
0), and differ in the epochs: about as many as six minutes of a quiet core of an AMD EPYC with AVX-512 and bfloat16
hold, but one at least. Left out is what runs thousands of regions of an image through full layers or a network of
their own (R-CNN, Fast R-CNN) or conv5 on every region (`faster_rcnn_c4`): an epoch takes them longer. The metrics are
of the 250 images of the test split, which is looked at once. Training time is processor time, evaluation after each
epoch included; beside other work on the same core it is up to twice as long. One image is the median of single ones.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import striate
from striate.data.samples import scenes

EPOCHS = {
    "strider_s": 4,
    "strider_n": 5,
    "yolo": 8,
    "ssd": 8,
    "retinanet": 2,
    "fcos": 2,
    "efficientdet_d0": 7,
    "centernet": 6,
    "cornernet": 4,
    "faster_rcnn": 2,
    "faster_rcnn_dcn": 1,
    "cascade_rcnn": 1,
    "rfcn": 4,
    "light_head_rcnn": 3,
    "detr": 2,
}
BACKBONE = "resnet18"
SINGLE = 50  # images that are found in one by one


def measure(name: str) -> dict[str, float | str]:
    """Train and measure one detector."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        run = striate.train(
            "scenes",
            model=name,
            backbone=BACKBONE,
            epochs=EPOCHS[name],
            workers=1,
            out=Path(folder, "run"),
            quiet=True,
        )
        training = time.process_time() - started
        model = striate.load(Path(folder, "run"))
    data = scenes.load("scenes")
    single: list[float] = []
    for row in data.splits["test"][:SINGLE]:
        image = data.images.read(int(row))
        started = time.process_time()
        model.predict(image)
        single.append(time.process_time() - started)
    parameters = sum(parameter.numel() for parameter in model.task.parameters())
    return {
        "detector": name,
        "epochs": EPOCHS[name],
        "parameters": parameters,
        "AP": run.metrics["AP"],
        "AP50": run.metrics["AP50"],
        "training": training,
        "single": statistics.median(single),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("detectors", nargs="*", default=list(EPOCHS), metavar="DETECTOR")
    parser.add_argument("--out", type=Path, default=Path("scenes.jsonl"))
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    if arguments.table:
        rows = [json.loads(line) for line in arguments.out.read_text().splitlines()]
        for row in sorted(rows, key=lambda row: -row["AP"]):
            print(
                f"| `{row['detector']}` | {row['parameters'] / 1e6:.1f}M | {row['epochs']} | {row['AP']:.3f} | "
                f"{row['AP50']:.3f} | {row['training']:.0f} s | {1000 * row['single']:.0f} ms |"
            )
        return
    for name in arguments.detectors:
        row = measure(name)
        print(json.dumps(row), flush=True)
        with arguments.out.open("a") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
