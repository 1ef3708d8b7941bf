"""Whether a network learns faster from inputs of mean 0 and variance 1, at the learning rate that suits each best.

If all inputs are positive, all weights of a unit in the first layer go up together or down together: to turn, they have
to zigzag. If inputs are large, the first layer needs a small learning rate where the others could do with a larger one.
Both go away when the mean of the training images is subtracted and their deviation divided out.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import cross_entropy

from striate.studies.lab import Lab, Labelled
from striate.studies.loop import logits, training
from striate.studies.study import Chart, Findings, Interval, Part, Study, Table, judge, summary
from striate.viz.charts import Series, line_chart

NETWORK = "CONV 8 5x5 -> {0} -> POOL -> CONV 16 5x5 -> {0} -> POOL -> FC 64 -> {0} -> FC"
ACTIVATIONS = ("TANH", "RELU")

RAW, UNIT, CENTRED, NORMALISED = "0 to 255", "0 to 1", "centred", "normalised"
INPUTS: dict[str, Callable[[Tensor, float, float], Tensor]] = {  # of pixels, their mean and their deviation
    RAW: lambda pixels, mean, deviation: pixels,
    UNIT: lambda pixels, mean, deviation: pixels / 255,
    CENTRED: lambda pixels, mean, deviation: (pixels - mean) / 255,
    NORMALISED: lambda pixels, mean, deviation: (pixels - mean) / deviation,
}

FASTER = 1.2  # so many times fewer steps are faster


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is learnt, and how often."""

    per_class: int  # training images
    held_out: int  # test images of each class on which the loss is measured
    steps: int  # of 64 images
    every: int  # steps between two looks at the loss
    rates: tuple[float, ...]  # learning rates
    seeds: int


def curve(
    train: Labelled, test: Labelled, inputs: str, activation: str, rate: float, sizes: Sizes, seed: int
) -> list[float]:
    """The loss on the test images while a network learns, at every look."""
    pixels = train.pixels.float()
    mean, deviation = float(pixels.mean()), float(pixels.std())
    shown = INPUTS[inputs](test.pixels.float(), mean, deviation)
    looks = training(
        INPUTS[inputs](pixels, mean, deviation),
        train.labels,
        model=NETWORK.format(activation),
        classes=len(train.classes),
        seed=seed,
        batch=64,
        lr=rate,
        marks=range(sizes.every, sizes.steps + 1, sizes.every),
    )
    return [float(cross_entropy(logits(network, shown), test.labels)) for _, network in looks]


def speedup(slow: Sequence[float], fast: Sequence[float]) -> float:
    """How many times fewer looks ``fast`` needs to come to where ``slow`` ends; where it never does, the inverse."""
    ahead = _looks_until(fast, min(slow))
    if ahead is not None:
        return len(slow) / ahead
    behind = _looks_until(slow, min(fast))
    return (behind or 0) / len(slow)


def _looks_until(losses: Sequence[float], goal: float) -> float | None:
    """The first look at which the loss is ``goal`` or less, to fractions of a look."""
    before = math.inf
    for look, loss in enumerate(losses, start=1):
        if loss <= goal:
            return look - 1 + (before - goal) / (before - loss) if math.isfinite(before) and before > loss else look
        before = loss
    return None


def measure(lab: Lab, sizes: Sizes) -> Findings:
    """Train on each kind of inputs with each learning rate; compare each kind at its best one."""
    lab.plan(len(ACTIVATIONS) * len(INPUTS) * len(sizes.rates) * len(lab.seeds))
    curves: dict[tuple[str, str, float], list[list[float]]] = {}  # losses by activation, inputs and rate; one per seed
    for seed in lab.seeds:
        train = lab.images("train", per_class=sizes.per_class, seed=seed)
        test = lab.images("test", per_class=sizes.held_out, seed=seed)
        for activation in ACTIVATIONS:
            for inputs in INPUTS:
                for rate in sizes.rates:
                    label = f"{activation.lower()}, {inputs}, rate {rate:g}, seed {seed}"
                    losses = lab.once(label, curve, train, test, inputs, activation, rate, sizes, seed)
                    finite = [math.inf if loss is None else loss for loss in losses]
                    curves.setdefault((activation, inputs, rate), []).append(finite)

    def end(activation: str, inputs: str, rate: float) -> float:
        return sum(losses[-1] for losses in curves[activation, inputs, rate]) / len(lab.seeds)

    best = {
        (activation, inputs): min(sizes.rates, key=lambda rate: end(activation, inputs, rate))
        for activation in ACTIVATIONS
        for inputs in INPUTS
    }

    def at_best(activation: str, inputs: str) -> list[list[float]]:
        return curves[activation, inputs, best[activation, inputs]]

    def faster(activation: str, slow: str, fast: str) -> Interval:
        pairs = zip(at_best(activation, slow), at_best(activation, fast), strict=True)
        return summary([speedup(*pair) for pair in pairs])

    speedups = {
        (activation, slow, fast): faster(activation, slow, fast)
        for activation in ACTIVATIONS
        for slow, fast in ((RAW, NORMALISED), (UNIT, NORMALISED), (UNIT, CENTRED))
    }
    claims = {
        (RAW, NORMALISED): "normalised inputs learn faster than 0 to 255",
        (UNIT, NORMALISED): "normalised inputs learn faster than 0 to 1",
        (UNIT, CENTRED): "centring alone makes 0 to 1 learn faster",
    }
    parts = [
        Part(
            claim=f"With {activation.lower()}, {claims[slow, fast]}",
            measured=f"{found:.2f} times as fast, learning rates {best[activation, slow]:g} and "
            f"{best[activation, fast]:g}",
            holds=found.mean >= FASTER and (found.low is None or found.low > 1),
        )
        for (activation, slow, fast), found in speedups.items()
    ]
    why = (
        f"{sum(part.holds for part in parts)} of {len(parts)} parts hold. Each at its best learning rate, normalised "
        + "; ".join(
            f"with {activation.lower()} needs {speedups[activation, RAW, NORMALISED].mean:.1f} times fewer steps than "
            f"0 to 255 and {speedups[activation, UNIT, NORMALISED].mean:.1f} times fewer than 0 to 1"
            for activation in ACTIVATIONS
        )
        + "."
    )
    looks = list(range(sizes.every, sizes.steps + 1, sizes.every))
    charts: list[Chart] = []
    for activation in ACTIVATIONS:
        title = f"Learning, {activation.lower()}"
        lines = [
            _series(
                f"{inputs}, rate {best[activation, inputs]:g}",
                looks,
                list(zip(*at_best(activation, inputs), strict=True)),
            )
            for inputs in INPUTS
        ]
        svg = line_chart(title, lines, x_label="step", unit="loss on test images", y_limits=(0.0, 2.4))
        charts.append(Chart(title=title, svg=svg, caption="Each at its best learning rate."))
        title = f"Learning rates, {activation.lower()}"
        lines = [
            _series(
                inputs,
                sizes.rates,
                [[losses[-1] for losses in curves[activation, inputs, rate]] for rate in sizes.rates],
            )
            for inputs in INPUTS
        ]
        svg = line_chart(title, lines, x_label="learning rate", unit="loss at the end", x_log=True, y_limits=(0.0, 2.4))
        charts.append(Chart(title=title, svg=svg, caption="Above 2.3 nothing was learnt."))
    return Findings(
        verdict=judge(parts),
        why=why,
        parts=parts,
        charts=charts,
        tables=[
            Table(
                title="Each kind of input at its best learning rate",
                columns=("activation, inputs", "learning rate", "loss at the end", "times as fast as 0 to 1"),
                rows=[
                    (
                        f"{activation.lower()}, {inputs}",
                        f"{best[activation, inputs]:g}",
                        f"{summary([losses[-1] for losses in at_best(activation, inputs)]):.3f}",
                        f"{faster(activation, UNIT, inputs):.2f}",
                    )
                    for activation in ACTIVATIONS
                    for inputs in INPUTS
                ],
                caption="Loss on test images. Speed: steps that 0 to 1 takes for all that it learns, over the steps "
                "that the others take to come as far; below 1 the inverse.",
            )
        ],
        numbers={
            "speedups": [
                {"activation": activation.lower(), "of": fast, "over": slow, **found.to_json()}
                for (activation, slow, fast), found in speedups.items()
            ],
            "rates": {f"{activation.lower()}, {inputs}": rate for (activation, inputs), rate in best.items()},
        },
    )


def _series(name: str, x: Sequence[float], of_seeds: Sequence[Sequence[float]]) -> Series:
    """Means with their intervals; what is not finite leaves a gap."""
    values = [summary(each) if all(map(math.isfinite, each)) else None for each in of_seeds]
    alone = any(value and value.low is None for value in values)
    return Series(
        name=name,
        x=x,
        y=[value.mean if value else math.nan for value in values],
        low=None if alone else [value.mean - value.margin if value else math.nan for value in values],
        high=None if alone else [value.mean + value.margin if value else math.nan for value in values],
    )


STUDY = Study(
    name="normalise-input",
    title="Inputs of mean 0 and variance 1 learn faster",
    claim=(
        "Convergence is usually faster if the mean of the inputs over the training set is close to zero, and if they "
        "are scaled to about the same variance."
    ),
    citation="LeCun, Bottou, Orr, Müller: Efficient BackProp (1998), section 4.3.",
    rule=(
        "Speed is the number of steps that the one kind of input takes for all that it learns, over those that the "
        "other takes to come to the same loss on test images, each at the best learning rate of the grid. A part holds "
        f"if that is {FASTER} or more and its interval over seeds lies above 1. The claim holds if all parts do, and "
        "in part if some do."
    ),
    data=("mnist", "fashion-mnist", "digits"),
    quick=Sizes(per_class=500, held_out=50, steps=200, every=20, rates=(3e-4, 3e-3, 3e-2, 1e-1), seeds=2),
    full=Sizes(
        per_class=2000, held_out=100, steps=400, every=20, rates=(1e-5, 1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1), seeds=3
    ),
    measure=measure,
)
