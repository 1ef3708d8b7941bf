"""Why convolution: the same units, connected in three ways.

Two hidden layers of 12x12x8 and 4x4x16 units look at a 28x28 image. They are connected

- densely: every unit with everything below it;
- locally: every unit with a 5x5 window below it, by weights of its own;
- as a convolution: the same, and all units of a map share their weights.

Each step takes away weights, and with them what the network would have to learn from images: that near pixels belong
together, and that what a pattern means does not depend on where it is. Two more networks spend what was saved: one has
four times the maps and still fewer weights than local windows; the other has no more weights, but looks at every pixel
(stride 1) and keeps the maximum of each 2x2 outputs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import striate
from striate.studies.lab import Lab, Labelled
from striate.studies.study import Chart, Findings, Interval, Part, Picture, Study, Table, band, judge, summary
from striate.viz.charts import line_chart

DENSE, LOCAL, CONVOLUTION, WIDE, POOLED = KINDS = ("dense", "local", "convolution", "four times the maps", "pooled")
SHARED = (CONVOLUTION, WIDE, POOLED)
SIDE = 28
DIRECTIONS = ((0, 1), (1, 0), (0, -1), (-1, 0))  # down and right, as in (rows, columns)
EXACT, FAR = 1e-3, 0.1  # relative error of moved maps: no more than rounding, and plainly another map
SMALL_LOSS = 0.01  # of accuracy: what "invariant" may cost


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is measured."""

    per_class: tuple[int, ...]  # training images of each class
    test_per_class: int
    steps: int
    seeds: int
    shifts: tuple[int, ...] = (0, 1, 2, 3, 4)  # pixels; digits of MNIST have a margin of 4, so that nothing is cut off
    batch: int = 32
    lr: float = 0.004

    @property
    def near(self) -> int:
        """Pixels that count as a few."""
        return self.shifts[len(self.shifts) // 2]


class LocallyConnected(nn.Module):
    """A convolution that shares nothing: every position has kernels of its own."""

    def __init__(self, channels: int, maps: int, *, kernel: int, stride: int, side: int):
        super().__init__()
        self.kernel, self.stride, self.side = kernel, stride, (side - kernel) // stride + 1
        positions, inputs = self.side**2, channels * kernel**2
        self.weight = nn.Parameter(torch.randn(positions, maps, inputs) * (2 / inputs) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(maps, positions))

    def forward(self, x: Tensor) -> Tensor:
        """From (B, channels, side, side) to (B, maps, self.side, self.side)."""
        windows = F.unfold(x, self.kernel, stride=self.stride)  # (B, inputs, positions)
        return (torch.einsum("bip,pmi->bmp", windows, self.weight) + self.bias).unflatten(2, (self.side, self.side))


def layer(kind: str, channels: int, maps: int, side: int) -> nn.Sequential:
    """5x5 windows, every second pixel: from (B, channels, side, side) to (B, maps, side // 2 - 2, side // 2 - 2)."""
    after = side // 2 - 2
    match kind:
        case "dense":
            full = nn.Linear(channels * side**2, maps * after**2)
            parts = [nn.Flatten(), full, nn.Unflatten(1, (maps, after, after)), nn.ReLU()]
        case "local":
            parts = [LocallyConnected(channels, maps, kernel=5, stride=2, side=side), nn.ReLU()]
        case "pooled":
            parts = [nn.Conv2d(channels, maps, 5), nn.ReLU(), nn.MaxPool2d(2)]
        case _:
            parts = [nn.Conv2d(channels, maps, 5, stride=2), nn.ReLU()]
    for part in parts:
        if isinstance(part, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
            nn.init.zeros_(part.bias if part.bias is not None else part.weight)
    return nn.Sequential(*parts)


def build(kind: str, channels: int = 1, classes: int = 10) -> nn.Sequential:
    """The two layers, and a full one for the classes."""
    first, second = (32, 64) if kind == WIDE else (8, 16)
    last = nn.Sequential(nn.Flatten(), nn.Linear(second * 4 * 4, classes))
    return nn.Sequential(layer(kind, channels, first, SIDE), layer(kind, first, second, 12), last)


def moved(x: Tensor, rows: int, columns: int) -> Tensor:
    """Images or maps (..., H, W) with everything moved down and right; what comes in is zero."""
    height, width = x.shape[-2:]
    padded = F.pad(x, (max(columns, 0), max(-columns, 0), max(rows, 0), max(-rows, 0)))
    top, left = max(-rows, 0), max(-columns, 0)
    return padded[..., top : top + height, left : left + width]


def train(kind: str, images: Tensor, labels: Tensor, sizes: Sizes, seed: int) -> nn.Sequential:
    """A network trained on (N, C, 28, 28) images as they are, never moved."""
    torch.manual_seed(seed)
    network = build(kind, images.shape[1], int(labels.max()) + 1)
    optimizer = torch.optim.Adam(network.parameters(), sizes.lr)
    for _ in range(sizes.steps):
        rows = torch.randperm(len(images))[: sizes.batch]
        loss = F.cross_entropy(network(images[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


@torch.no_grad()
def equivariance_error(front: nn.Module, images: Tensor, *, pixels: int) -> float:
    """How far the maps of moved images are from the moved maps: 0 if layers and moving can be exchanged.

    Args:
        front: layers whose maps have one position for each ``pixels`` of the image.
        images: (N, C, H, W).
        pixels: by which the images are moved right, and so their maps by one position.

    Returns:
        The norm of the difference over the norm of the maps, without the column that comes in.
    """
    after, expected = front(moved(images, 0, pixels))[..., 1:], moved(front(images), 0, 1)[..., 1:]
    return float((after - expected).norm() / expected.norm())


@torch.no_grad()
def look(network: nn.Sequential, images: Tensor, labels: Tensor, shifts: Sequence[int]) -> dict[str, Any]:
    """Accuracy on images moved by so many pixels in each of four directions, and the errors of equivariance."""

    def accuracy(shift: int) -> float:
        right = [
            (network(moved(images, shift * down, shift * across)).argmax(1) == labels).float().mean().item()
            for down, across in DIRECTIONS
        ]
        return sum(right) / len(right)

    first, both, some = network[:1], network[:2], images[:200]
    maps, others = first(images[:1])[0], first(moved(images[:1], 0, 4))[0]
    strongest = int(maps.sum((1, 2)).argmax())
    return {
        "accuracy": [accuracy(shift) for shift in shifts],
        "equivariance": [
            equivariance_error(first, some, pixels=2),
            equivariance_error(both, some, pixels=4),
        ],
        "maps": [maps[strongest].tolist(), others[strongest].tolist()],
    }


def measure(lab: Lab, sizes: Sizes) -> Findings:
    """Count, train and look."""
    lab.plan(len(KINDS) * len(lab.seeds) * len(sizes.per_class))
    test = lab.images("test", per_class=sizes.test_per_class, size=SIDE)
    channels, classes = test.pixels.shape[1], len(test.classes)
    counted = {
        kind: striate.inspect(build(kind, channels, classes), size=SIDE, channels=channels, batch=None)
        for kind in KINDS
    }
    found: dict[tuple[str, int, int], dict[str, Any]] = {}  # by kind, images of each class and seed
    for seed in lab.seeds:
        for count in sizes.per_class:
            learnt = lab.images("train", per_class=count, seed=seed, size=SIDE)
            for kind in KINDS:
                label = f"{kind}, {count} of each class, seed {seed}"
                found[kind, count, seed] = lab.once(label, train_and_look, kind, learnt, test, sizes, seed)

    most, seeds = sizes.per_class[-1], lab.seeds

    def of(kind: str, shift: int = 0, count: int = most) -> list[float]:
        """Accuracy for every seed."""
        return [found[kind, count, seed]["accuracy"][sizes.shifts.index(shift)] for seed in seeds]

    def ahead(one: str, other: str) -> Interval:
        """By how much a network is better on the same images, over the seeds."""
        return summary([a - b for a, b in zip(of(one), of(other), strict=True)])

    def loss(kind: str, shift: int) -> Interval:
        """The accuracy that moving the images costs."""
        return summary([a - b for a, b in zip(of(kind), of(kind, shift), strict=True)])

    parameters = {kind: counted[kind].parameters for kind in KINDS}
    errors = {kind: max(max(found[kind, most, seed]["equivariance"]) for seed in seeds) for kind in KINDS}
    near, far = sizes.near, sizes.shifts[-1]
    local, shared, wide = ahead(LOCAL, DENSE), ahead(CONVOLUTION, LOCAL), ahead(WIDE, LOCAL)
    losses = {kind: loss(kind, near) for kind in KINDS}
    far_loss = loss(POOLED, far)
    parts = [
        Part(
            claim="Local windows take away most parameters, and sharing them most of the rest: 10 times fewer each",
            measured=f"{parameters[DENSE]:,} dense, {parameters[LOCAL]:,} local, {parameters[CONVOLUTION]:,} shared",
            holds=parameters[DENSE] >= 10 * parameters[LOCAL] and parameters[LOCAL] >= 10 * parameters[CONVOLUTION],
        ),
        Part(
            claim="Local windows are more accurate than dense connections",
            measured=f"by {local.points} points with {most} images of each class",
            holds=local.above_zero,
        ),
        Part(
            claim="Shared weights are more accurate than weights of their own, with as many units",
            measured=f"by {shared.points} points",
            holds=shared.above_zero,
        ),
        Part(
            claim="and with four times the maps, which still takes fewer parameters",
            measured=f"by {wide.points} points, with {parameters[WIDE]:,} parameters",
            holds=wide.above_zero and parameters[WIDE] < parameters[LOCAL],
        ),
        Part(
            claim="A convolution is equivariant: its maps move with the image; those of the others do not",
            measured=f"off by {max(errors[kind] for kind in SHARED):.0%} of their norm; dense {errors[DENSE]:.0%}, "
            f"local {errors[LOCAL]:.0%}",
            holds=max(errors[kind] for kind in SHARED) <= EXACT and min(errors[DENSE], errors[LOCAL]) >= FAR,
        ),
        Part(
            claim=f"Images that moved by {near} pixels cost a convolutional network less accuracy than a dense one",
            measured=", ".join(f"{kind} {losses[kind].points}" for kind in KINDS) + " points",
            holds=all(losses[kind].mean < losses[DENSE].mean for kind in SHARED),
        ),
        Part(
            claim=f"With pooling it does not matter where the object is, up to {far} pixels",
            measured=f"{far_loss.points} points are lost",
            holds=far_loss.mean <= SMALL_LOSS,
        ),
    ]
    return Findings(
        verdict=judge(parts),
        why=_why(parts, parameters, losses, far_loss, sizes),
        parts=parts,
        tables=[_table(counted, sizes, of)],
        charts=[
            _chart(
                "Accuracy where images are as in training",
                "training images of each class",
                sizes.per_class,
                lambda kind, count: summary(of(kind, 0, count)),
                log=True,
            ),
            _chart(
                f"Accuracy on moved images, {most} of each class",
                "pixels moved",
                sizes.shifts,
                lambda kind, shift: summary(of(kind, shift)),
                log=False,
            ),
        ],
        pictures=[_maps(test.pixels[0] / 255, {kind: found[kind, most, 0]["maps"] for kind in KINDS})],
        numbers={
            "parameters": parameters,
            "macs": {kind: counted[kind].macs for kind in KINDS},
            "accuracy": {
                kind: {
                    str(count): [summary(of(kind, shift, count)).to_json() for shift in sizes.shifts]
                    for count in sizes.per_class
                }
                for kind in KINDS
            },
            "equivariance_error": errors,
        },
    )


def train_and_look(kind: str, learnt: Labelled, test: Labelled, sizes: Sizes, seed: int) -> dict[str, Any]:
    """One network: trained, then looked at on test images."""
    network = train(kind, learnt.pixels / 255, learnt.labels, sizes, seed)
    return look(network, test.pixels / 255, test.labels, sizes.shifts)


def _why(
    parts: Sequence[Part], parameters: dict[str, int], losses: dict[str, Interval], far: Interval, sizes: Sizes
) -> str:
    held = sum(part.holds for part in parts)
    return (
        f"{held} of {len(parts)} parts hold. The same units need {parameters[DENSE] / parameters[LOCAL]:.0f} times "
        f"fewer weights with local windows, and {parameters[LOCAL] / parameters[CONVOLUTION]:.0f} times fewer again "
        f"when maps share them. Images moved by {sizes.near} pixels cost the dense network {losses[DENSE].points} "
        f"points of accuracy, the convolution {losses[CONVOLUTION].points}, and with pooling "
        f"{losses[POOLED].points}. "
        "Equivariant is not invariant: the maps move with the image, and the full layer above them has learnt where "
        f"they should be, so that {sizes.shifts[-1]} pixels cost even the pooled network {far.points} points."
    )


def _table(counted: dict[str, Any], sizes: Sizes, of: Callable[..., list[float]]) -> Table:
    rows = [
        (
            kind,
            f"{counted[kind].parameters:,}",
            f"{counted[kind].macs:,}",
            *(f"{summary(of(kind, 0, count)):.1%}" for count in sizes.per_class),
            f"{summary(of(kind, sizes.near)):.1%}",
            f"{summary(of(kind, sizes.shifts[-1])):.1%}",
        )
        for kind in KINDS
    ]
    return Table(
        title="The same units, connected in different ways",
        columns=(
            "layers",
            "parameters",
            "multiply-accumulates",
            *(f"{count} of each class" for count in sizes.per_class),
            f"moved by {sizes.near}",
            f"moved by {sizes.shifts[-1]}",
        ),
        rows=rows,
        caption="Accuracy on test images, trained on so many images of each class; the last columns are of the "
        "networks that saw most. No network was trained on moved images.",
    )


def _chart(title: str, x_label: str, xs: Sequence[int], at: Callable[[str, int], Interval], *, log: bool) -> Chart:
    series = [band(kind, xs, [at(kind, x) for x in xs], times=100) for kind in KINDS]
    return Chart(title=title, svg=line_chart(title, series, x_label=x_label, unit="% of test images", x_log=log))


def _maps(image: Tensor, maps: dict[str, Any]) -> Picture:
    """An image and the same moved, and under each the strongest map of every network's first layer.

    Args:
        image: (C, 28, 28) from 0 to 1.
        maps: by kind, two (12, 12) lists of lists: the map of the image and that of the moved one.
    """
    far, gap = 4, 8
    pairs = [[image.mean(0).tolist(), moved(image, 0, far).mean(0).tolist()], *(maps[kind] for kind in KINDS)]
    cell = 10 * SIDE // 2
    sheet = Image.new("L", (len(pairs) * (cell + gap) - gap, 2 * cell + gap), 128)
    for column, pair in enumerate(pairs):
        values = np.array(pair)
        for row, grey in enumerate((255 * values / max(values.max(), 1e-9)).clip(0, 255).astype(np.uint8)):
            tile = Image.fromarray(grey).resize((cell, cell), Image.Resampling.NEAREST)
            sheet.paste(tile, (column * (cell + gap), row * (cell + gap)))
    return Picture(
        title=f"What the first layer makes of an image, and of the same moved {far} pixels to the right",
        image=sheet,
        caption=f"From left to right: the image, and one map of the networks {', '.join(KINDS)}. A convolution's map "
        "moves with the image; the others are another map.",
    )


STUDY = Study(
    name="why-convolution",
    title="Local windows and shared weights beat dense layers",
    claim=(
        "On the same images layers with local windows are better than dense ones, and layers that share their weights "
        "better still, with a fraction of the parameters. What they compute moves with the image, so that they are "
        "robust to objects that are not where they were in training."
    ),
    citation=(
        "LeCun, Generalization and network design strategies (1989), where test accuracy rose from 87.0% (dense) over "
        "88.5% (local) to 94.0 and 98.4% (shared) as weights became fewer; LeCun, Bottou, Bengio & Haffner, "
        "Gradient-based learning applied to document recognition (1998), section II.A; Goodfellow, Bengio & Courville, "
        "Deep learning (2016), sections 9.2 and 9.3; CS231n, notes on convolutional networks (Stanford)"
    ),
    rule=(
        "Counts: at least ten times fewer parameters in each step. Accuracy: the difference on the same images is "
        "above zero, with its whole 95% interval where there are several seeds. Equivariance: the moved image's maps "
        f"are the moved maps within {EXACT:g} of their norm, and other layers are off by {FAR:g} or more. Robustness: "
        f"less accuracy is lost than with dense layers. Invariance: at most {SMALL_LOSS:.0%} of accuracy is lost. The "
        "claim holds if all parts do, and in part if some do."
    ),
    data=("mnist", "digits"),
    quick=Sizes(per_class=(10, 100), test_per_class=100, steps=500, seeds=5),
    full=Sizes(per_class=(10, 50, 200, 1000), test_per_class=800, steps=2000, seeds=3),
    measure=measure,
)
