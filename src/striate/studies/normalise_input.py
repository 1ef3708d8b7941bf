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

NETWORKS = {  # one as in 1998, and one as today
    "tanh perceptron": "FC 100 -> TANH -> FC",
    "ReLU convnet": "CONV 8 5x5 /2 -> RELU -> CONV 16 5x5 /2 -> RELU -> FC 64 -> RELU -> FC",
}

RAW, UNIT, CENTRED, NORMALISED = "0 to 255", "0 to 1", "centred", "normalised"
INPUTS: dict[str, Callable[[Tensor, float, float], Tensor]] = {  # of pixels, their mean and their deviation
    RAW: lambda pixels, mean, deviation: pixels,
    UNIT: lambda pixels, mean, deviation: pixels / 255,
    CENTRED: lambda pixels, mean, deviation: (pixels - mean) / 255,
    NORMALISED: lambda pixels, mean, deviation: (pixels - mean) / deviation,
}

CLAIMS = {  # slow and fast
    (RAW, NORMALISED): "normalised inputs learn faster than 0 to 255",
    (UNIT, NORMALISED): "normalised inputs learn faster than 0 to 1",
    (UNIT, CENTRED): "centring alone makes 0 to 1 learn faster",
}

GOAL = 0.5  # loss on test images of MNIST, at which about 85% are right
FASTER = 1.2  # so many times fewer steps are faster


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is learnt, and how often."""

    per_class: int  # training images
    held_out: int  # test images of each class on which the loss is measured
    steps: int  # of 64 images
    every: int  # steps between two looks at the loss
    rates: tuple[float, ...]  # learning rates
    same: float  # the one of them at which kinds are compared too
    seeds: int


def curve(
    train: Labelled, test: Labelled, inputs: str, network: str, rate: float, sizes: Sizes, seed: int
) -> list[float]:
    """The loss on the test images while a network learns, at every look."""
    pixels = train.pixels.float()
    mean, deviation = float(pixels.mean()), float(pixels.std())
    shown = INPUTS[inputs](test.pixels.float(), mean, deviation)
    looks = training(
        INPUTS[inputs](pixels, mean, deviation),
        train.labels,
        model=NETWORKS[network],
        classes=len(train.classes),
        seed=seed,
        batch=64,
        lr=rate,
        marks=range(sizes.every, sizes.steps + 1, sizes.every),
    )
    return [float(cross_entropy(logits(trained, shown), test.labels)) for _, trained in looks]


def steps_to(goal: float, losses: Sequence[float], every: int) -> float:
    """The step at which the loss comes down to the goal, on a line between two looks; inf where it does not."""
    before = math.inf
    for look, loss in enumerate(losses, start=1):
        if loss <= goal:
            return every * (look - 1 + (before - goal) / (before - loss) if math.isfinite(before) else look)
        before = loss
    return math.inf


def clearly(ratio: Interval) -> bool:
    """Whether something is faster, and by more than chance."""
    return ratio.mean >= FASTER and (ratio.low is None or ratio.low > 1)


def measure(lab: Lab, sizes: Sizes) -> Findings:
    """Train on each kind of inputs with each learning rate; compare each kind at its best one."""
    lab.plan(len(NETWORKS) * len(INPUTS) * len(sizes.rates) * len(lab.seeds))
    curves: dict[tuple[str, str, float], list[list[float]]] = {}  # by network, inputs and rate: losses, one per seed
    for seed in lab.seeds:
        train = lab.images("train", per_class=sizes.per_class, seed=seed)
        test = lab.images("test", per_class=sizes.held_out, seed=seed)
        for network in NETWORKS:
            for inputs in INPUTS:
                for rate in sizes.rates:
                    label = f"{network}, {inputs}, rate {rate:g}, seed {seed}"
                    losses = lab.once(label, curve, train, test, inputs, network, rate, sizes, seed)
                    finite = [math.inf if loss is None else loss for loss in losses]
                    curves.setdefault((network, inputs, rate), []).append(finite)

    steps = {key: [steps_to(GOAL, losses, sizes.every) for losses in each] for key, each in curves.items()}

    def taken(network: str, inputs: str, rate: float) -> list[float]:
        """Steps to the goal, one number per seed; all that there are where it is not reached."""
        return [min(count, sizes.steps) for count in steps[network, inputs, rate]]

    def cost(network: str, inputs: str, rate: float) -> tuple[float, float]:
        return sum(taken(network, inputs, rate)), sum(losses[-1] for losses in curves[network, inputs, rate])

    best = {
        (network, inputs): min(sizes.rates, key=lambda rate: cost(network, inputs, rate))
        for network in NETWORKS
        for inputs in INPUTS
    }

    def fewest(network: str, inputs: str) -> list[float]:
        return taken(network, inputs, best[network, inputs])

    def times(slow: Sequence[float], fast: Sequence[float]) -> Interval:
        return summary([slow_steps / fast_steps for slow_steps, fast_steps in zip(slow, fast, strict=True)])

    def least(slow: Sequence[float]) -> str:
        return "at least " if max(slow) >= sizes.steps else ""  # who never gets there could be slower still

    found = {
        (network, slow, fast): times(fewest(network, slow), fewest(network, fast))
        for network in NETWORKS
        for slow, fast in CLAIMS
    }
    at_same = {
        network: times(taken(network, UNIT, sizes.same), taken(network, NORMALISED, sizes.same)) for network in NETWORKS
    }
    parts = [
        Part(
            claim=f"With the {network}, {CLAIMS[slow, fast]}",
            measured=f"{least(fewest(network, slow))}{ratio:.2f} times as fast, at learning rates of "
            f"{best[network, fast]:g} against {best[network, slow]:g}",
            holds=clearly(ratio),
        )
        for (network, slow, fast), ratio in found.items()
    ]
    parts += [
        Part(
            claim=f"With the {network}, normalised inputs learn faster than 0 to 1 at the same learning rate",
            measured=f"{least(taken(network, UNIT, sizes.same))}{ratio:.2f} times as fast, both at {sizes.same:g}",
            holds=clearly(ratio),
        )
        for network, ratio in at_same.items()
    ]
    why = (
        f"{sum(part.holds for part in parts)} of {len(parts)} parts hold. Each at its best learning rate, "
        + "; ".join(
            f"the {network} learns from normalised inputs {found[network, RAW, NORMALISED].mean:.1f} times as fast as "
            f"from 0 to 255 and {found[network, UNIT, NORMALISED].mean:.1f} times as fast as from 0 to 1 (at the same "
            f"rate of {sizes.same:g} {at_same[network].mean:.1f} times), and from centred ones "
            f"{found[network, UNIT, CENTRED].mean:.1f} times as fast as from 0 to 1"
            for network in NETWORKS
        )
    )
    looks = list(range(sizes.every, sizes.steps + 1, sizes.every))
    charts: list[Chart] = []
    for network in NETWORKS:
        title = f"Learning rates, {network}"
        lines = [
            _series(inputs, sizes.rates, [steps[network, inputs, rate] for rate in sizes.rates]) for inputs in INPUTS
        ]
        limits = (0.0, float(sizes.steps))
        unit = f"steps to a loss of {GOAL}"
        drawn = line_chart(title, lines, x_label="learning rate", unit=unit, x_log=True, y_limits=limits)
        charts.append(Chart(title=title, svg=drawn, caption="Where a line ends, not all seeds come to that loss."))
        title = f"Learning, {network}"
        at_best = {inputs: curves[network, inputs, best[network, inputs]] for inputs in INPUTS}
        lines = [
            _series(f"{inputs}, {best[network, inputs]:g}", looks, list(zip(*of_seeds, strict=True)))
            for inputs, of_seeds in at_best.items()
        ]
        drawn = line_chart(title, lines, x_label="step", unit="loss on test images", y_limits=(0.0, 2.4))
        charts.append(Chart(title=title, svg=drawn, caption="Each at its best learning rate."))
    return Findings(
        verdict=judge(parts),
        why=f"{why}.",
        parts=parts,
        charts=charts,
        tables=[
            Table(
                title=f"Steps to a loss of {GOAL} on test images",
                columns=(
                    "network, inputs",
                    "steps",
                    "at a learning rate of",
                    f"rates that work, of {len(sizes.rates)}",
                ),
                rows=[
                    (
                        f"{network}, {inputs}",
                        f"{summary(fewest(network, inputs)):.0f}",
                        f"{best[network, inputs]:g}",
                        f"{sum(math.isfinite(max(steps[network, inputs, rate])) for rate in sizes.rates)}",
                    )
                    for network in NETWORKS
                    for inputs in INPUTS
                ],
                caption=f"{sizes.steps} where the goal is not reached in as many steps. A rate works if all seeds come "
                "to that loss.",
            )
        ],
        numbers={
            "speedups": [
                {"network": network, "of": fast, "over": slow, **ratio.to_json()}
                for (network, slow, fast), ratio in found.items()
            ],
            "speedups_at_the_same_rate": {network: ratio.to_json() for network, ratio in at_same.items()},
            "steps": {f"{network}, {inputs}": fewest(network, inputs) for network, inputs in best},
            "rates": {f"{network}, {inputs}": rate for (network, inputs), rate in best.items()},
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
        f"Measured are the steps of stochastic gradient descent to a loss of {GOAL} on test images, each kind of input "
        "at the learning rate of the grid that suits it best, and two kinds also at the same rate. A part holds if the "
        f"one is {FASTER} times as fast as the other or faster, and the interval over seeds lies above 1. The claim "
        "holds if all parts do, and in part if some do."
    ),
    data=("mnist", "digits"),
    quick=Sizes(
        per_class=500, held_out=50, steps=150, every=5, rates=(1e-4, 1e-3, 1e-2, 3e-2, 1e-1, 3e-1), same=1e-2, seeds=3
    ),
    full=Sizes(
        per_class=2000,
        held_out=100,
        steps=300,
        every=5,
        rates=(1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1),
        same=1e-2,
        seeds=5,
    ),
    measure=measure,
)
