"""Class-aware suppression against one plain `torchvision.ops.nms` over the same boxes, and against torchvision's own.

    python benchmarks/nms.py

8,400 boxes of 80 classes, as a detector with strides 8, 16 and 32 gives them at 640x640, uniformly scattered, with
scores that differ and with many that are equal. A plain `nms` compares boxes of all classes, so it has more to
do and keeps fewer; what class-aware suppression keeps is checked against a plain `nms` of each class in stable order.
The sides take turns in one process.
"""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.ops import batched_nms
from torchvision.ops import nms as plain

from striate.ops.suppression import nms

COUNT, CLASSES, SIDE, THRESHOLD, TRIALS = 8400, 80, 640, 0.5, 11


def scattered(*, ties: bool) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    centres = torch.rand(COUNT, 2, generator=generator) * SIDE
    halves = torch.rand(COUNT, 2, generator=generator) * 50 + 4
    scores = torch.rand(COUNT, generator=generator)
    scores = (scores * 100).round() / 100 if ties else scores
    return (
        torch.cat((centres - halves, centres + halves), 1),
        scores,
        torch.randint(CLASSES, (COUNT,), generator=generator),
    )


def class_by_class(boxes: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
    """What must be kept, in rows' order."""
    kept = torch.zeros(len(boxes), dtype=torch.bool)
    for label in range(CLASSES):
        rows = (labels == label).nonzero()[:, 0]
        order = rows[scores[rows].argsort(descending=True, stable=True)]
        ranks = torch.arange(len(order), 0, -1, dtype=torch.float32)
        kept[order[plain(boxes[order], ranks, THRESHOLD)]] = True
    return kept.nonzero()[:, 0]


def main() -> None:
    for ties in (False, True):
        boxes, scores, labels = scattered(ties=ties)
        sides: dict[str, Callable[[], Tensor]] = {
            "ours": lambda b=boxes, s=scores, c=labels: nms(b, s, c, THRESHOLD),
            "torchvision batched_nms": lambda b=boxes, s=scores, c=labels: batched_nms(b, s, c, THRESHOLD),
            "one plain nms": lambda b=boxes, s=scores: plain(b, s, THRESHOLD),
        }
        times: dict[str, list[float]] = {name: [] for name in sides}
        for trial in range(TRIALS + 1):
            for name, run in sides.items():
                started = time.perf_counter()
                run()
                if trial:  # the first warms up
                    times[name].append(time.perf_counter() - started)
        same = torch.equal(sides["ours"]().sort().values, class_by_class(boxes, scores, labels))
        print(f"{'equal scores among them' if ties else 'scores that differ'}: kept as class by class: {same}")
        for name, seconds in times.items():
            ratios = [other / own for own, other in zip(times["ours"], seconds, strict=True)]
            print(
                f"    {name:<24} {1000 * statistics.median(seconds):8.1f} ms; over ours "
                f"{statistics.median(ratios):5.1f} ({min(ratios):.1f} to {max(ratios):.1f})"
            )


if __name__ == "__main__":
    main()
