"""Depth: plain networks get worse as they get deeper, even on the images they learn from; shortcuts cure it.

A deeper network can compute all that a shallower one can: its further layers need only hand on what they get. So if
its *training* error is higher, the fault lies in finding the weights and not in their number, and not in overfitting.
A residual block starts from there: it adds to what it gets, and handing it on means to add nothing.

Plain and residual networks here have the same layers, the same parameters (shortcuts of option A have none) and the
same images in the same order.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

import striate
from striate.studies.lab import Lab, Labelled
from striate.studies.study import Chart, Findings, Interval, Part, Study, Table, band, judge, summary
from striate.viz.charts import line_chart

PLAIN, RESIDUAL = KINDS = ("plain", "residual")
MOMENTUM, DECAY = 0.9, 1e-4  # He et al. 2016, section 4.2


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is measured."""

    depths: tuple[int, ...]  # of the networks for small images, section 4.2
    per_class: int  # training images of each class
    epochs: int
    seeds: int
    size: int = 14  # pixels; half of Fashion-MNIST's
    large_depths: tuple[int, ...] = ()  # of the networks for ImageNet, section 4.1
    large_epochs: int = 0
    large_size: int = 32
    batch: int = 50
    # Section 4.2 starts with 0.1 (and with 0.01 for 110 layers), over a hundred times as many steps as here.
    lr: float = 0.03


def train(name: str, learnt: Labelled, size: int, epochs: int, sizes: Sizes, seed: int) -> dict[str, list[float]]:
    """Train a network of the catalog by SGD, its rate falling to zero, and give its error and loss on each epoch.

    Both are taken while it learns, over all batches of an epoch, as in the paper's figures.
    """
    torch.manual_seed(seed)
    images = learnt.pixels / 255
    images = (images - images.mean()) / images.std()
    network = striate.create(name, classes=len(learnt.classes), channels=images.shape[1], size=size).train()
    optimizer = torch.optim.SGD(network.parameters(), sizes.lr, momentum=MOMENTUM, weight_decay=DECAY)
    per_epoch = len(images) // sizes.batch
    falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=epochs * per_epoch)
    order = torch.Generator().manual_seed(seed)  # of its own, so that all networks meet the images in the same order
    error: list[float] = []
    loss: list[float] = []
    for _ in range(epochs):
        wrong = total = 0.0
        for rows in torch.randperm(len(images), generator=order)[: per_epoch * sizes.batch].split(sizes.batch):
            scores = network(images[rows])
            batch_loss = F.cross_entropy(scores, learnt.labels[rows])
            optimizer.zero_grad()
            batch_loss.backward()
            optimizer.step()
            falling.step()
            wrong += (scores.argmax(1) != learnt.labels[rows]).sum().item()
            total += batch_loss.item()
        error.append(wrong / (per_epoch * sizes.batch))
        loss.append(total / per_epoch)
    return {"error": error, "loss": loss}


def name_of(kind: str, depth: int) -> str:
    """As the catalog has it; those for ImageNet with shortcuts of option A too."""
    return f"plain{depth}" if kind == PLAIN else f"resnet{depth}{'_a' if depth in (18, 34) else ''}"


def measure(lab: Lab, sizes: Sizes) -> Findings:
    """Train networks of every depth, plain and residual."""
    runs = [(depth, sizes.size, sizes.epochs) for depth in sizes.depths]
    runs += [(depth, sizes.large_size, sizes.large_epochs) for depth in sizes.large_depths]
    lab.plan(len(runs) * len(KINDS) * len(lab.seeds))
    found: dict[tuple[str, int], list[dict[str, list[float]]]] = {}  # by kind and depth, one for each seed
    images = 0
    for seed in lab.seeds:
        for depth, size, epochs in runs:
            learnt = lab.images("train", per_class=sizes.per_class, seed=seed, size=size)
            images = len(learnt.labels)
            for kind in KINDS:
                name = name_of(kind, depth)
                curves = lab.once(f"{name}, seed {seed}", train, name, learnt, size, epochs, sizes, seed)
                found.setdefault((kind, depth), []).append(curves)
    errors = {which: [curves["error"][-1] for curves in by_seed] for which, by_seed in found.items()}
    parts = judge_family("layers", errors, sizes.depths)
    if sizes.large_depths:
        parts += judge_family("layers, ImageNet's networks", errors, sizes.large_depths)
    return Findings(
        verdict=judge(parts),
        why=_why(errors, sizes, images),
        parts=parts,
        tables=[_table(found, sizes)],
        charts=[
            *(_curves(kind, found, sizes.depths) for kind in KINDS),
            *(_curves(kind, found, sizes.large_depths) for kind in KINDS if sizes.large_depths),
            _by_depth(errors, sizes.depths),
        ],
        numbers={
            name_of(*which): {"training_error": summary(values).to_json(), "curves": found[which]}
            for which, values in errors.items()
        },
    )


def judge_family(what: str, errors: dict[tuple[str, int], list[float]], depths: Sequence[int]) -> list[Part]:
    """The three parts of the claim for one family of networks: degradation, its cure, and a gain from depth.

    Args:
        what: what the depths count.
        errors: training error by kind and depth, one for each seed.
        depths: from the shallowest to the deepest.
    """
    low, high = depths[0], depths[-1]

    def difference(one: tuple[str, int], other: tuple[str, int]) -> Interval:
        return summary([a - b for a, b in zip(errors[one], errors[other], strict=True)])

    degradation = difference((PLAIN, high), (PLAIN, low))
    cure = difference((PLAIN, high), (RESIDUAL, high))
    gain = difference((RESIDUAL, low), (RESIDUAL, high))
    return [
        Part(
            claim=f"Plain networks learn worse with {high} than with {low} {what}",
            measured=f"training error {_percent(errors[PLAIN, low])} with {low}, {_percent(errors[PLAIN, high])} with "
            f"{high}: {degradation.points} points more",
            holds=degradation.above_zero,
        ),
        Part(
            claim=f"Shortcuts cure it: {high} {what} learn better with them than without",
            measured=f"training error {_percent(errors[PLAIN, high])} without, {_percent(errors[RESIDUAL, high])} "
            f"with: {cure.points} points less",
            holds=cure.above_zero,
        ),
        Part(
            claim=f"With shortcuts depth is a gain: {high} {what} learn better than {low}",
            measured=f"training error {_percent(errors[RESIDUAL, low])} with {low}, "
            f"{_percent(errors[RESIDUAL, high])} with {high}: {gain.points} points less",
            holds=gain.above_zero,
        ),
    ]


def _percent(values: Sequence[float]) -> str:
    return f"{summary(values):.1%}"


def _why(errors: dict[tuple[str, int], list[float]], sizes: Sizes, images: int) -> str:
    low, high = sizes.depths[0], sizes.depths[-1]
    steps = sizes.epochs * (images // sizes.batch)
    return (
        f"From {low} to {high} layers the training error went from {_percent(errors[PLAIN, low])} to "
        f"{_percent(errors[PLAIN, high])} in plain networks, and from {_percent(errors[RESIDUAL, low])} to "
        f"{_percent(errors[RESIDUAL, high])} in residual ones, which have the same layers and parameters. This shows "
        f"how well networks learn in {steps:,} steps on {images:,} small images. It does not show what "
        "they come to in the paper's 64,000 steps, nor how well they do on images that they have not seen."
    )


def _table(found: dict[tuple[str, int], list[dict[str, list[float]]]], sizes: Sizes) -> Table:
    rows = [
        (
            name_of(kind, depth),
            str(depth),
            f"{striate.inspect(name_of(kind, depth), batch=None, classes=10).parameters:,}",
            _percent([curves["error"][0] for curves in by_seed]),
            _percent([curves["error"][-1] for curves in by_seed]),
            f"{summary([curves['loss'][-1] for curves in by_seed]):.3f}",
        )
        for (kind, depth), by_seed in sorted(
            found.items(), key=lambda item: (item[0][1] in sizes.large_depths, item[0])
        )
    ]
    return Table(
        title="Errors on the images that are learnt from",
        columns=("network", "layers", "parameters", "first epoch", "last epoch", "last loss"),
        rows=rows,
        caption="Taken while the networks learn, over all batches of an epoch. Parameters for colour images and ten "
        "classes.",
    )


def _curves(kind: str, found: dict[tuple[str, int], list[dict[str, list[float]]]], depths: Sequence[int]) -> Chart:
    """Training error over epochs, a line for each depth: the paper's figure 6, left or middle."""
    series = [
        band(
            name_of(kind, depth),
            range(1, len(found[kind, depth][0]["error"]) + 1),
            [summary(values) for values in zip(*(curves["error"] for curves in found[kind, depth]), strict=True)],
            times=100,
        )
        for depth in depths
    ]
    title = f"{kind.capitalize()} networks, {depths[0]} to {depths[-1]} layers"
    return Chart(
        title=title, svg=line_chart(title, series, x_label="epoch", unit="training error, %", y_limits=(0, 100))
    )


def _by_depth(errors: dict[tuple[str, int], list[float]], depths: Sequence[int]) -> Chart:
    series = [band(kind, depths, [summary(errors[kind, depth]) for depth in depths], times=100) for kind in KINDS]
    title = "The same layers, with and without shortcuts"
    return Chart(
        title=title,
        svg=line_chart(title, series, x_label="layers", unit="last training error, %", y_limits=(0, 100)),
    )


STUDY = Study(
    name="depth",
    title="Deeper plain networks learn worse, residual ones do not",
    claim=(
        "As plain networks get deeper (20 to 56 layers, 18 against 34), their training error rises: they are harder to "
        "optimise, not overfitted. Residual networks of the same layers and parameters are free of this degradation, "
        "and the deeper ones are better."
    ),
    citation=(
        "He, Zhang, Ren & Sun, Deep residual learning for image recognition (2016): section 4.2 and figure 6 "
        "(CIFAR-10, 20 to 56 layers, 64,000 steps), section 4.1 and figure 4 (ImageNet, 18 and 34 layers)"
    ),
    rule=(
        "All three compare training errors of the last epoch at the least and the greatest depth. Degradation: the "
        "deepest plain network's is higher than the shallowest's. Cure: the deepest residual network's is lower than "
        "the deepest plain one's. Gain: it is lower than that of the shallowest residual one. A difference counts if "
        "it is above zero, with its whole 95% interval where there are several seeds. The claim holds if all parts do, "
        "and in part if some do."
    ),
    data=("cifar10", "fashion-mnist", "digits"),
    quick=Sizes(depths=(20, 56), per_class=100, epochs=8, seeds=3),
    full=Sizes(depths=(20, 32, 44, 56), per_class=100, epochs=12, seeds=3, large_depths=(18, 34), large_epochs=6),
    measure=measure,
)
