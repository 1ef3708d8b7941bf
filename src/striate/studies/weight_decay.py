"""Whether weight decay helps, with how many images, and whether it reduces the training error too.

Weight decay pulls every weight towards zero in each step, by lr x decay of itself. What the data does not keep renewing
fades away, which leaves the smaller of the functions that fit. How strong it has to be follows from the length of the
training: with momentum m and a cosine schedule, a weight that no gradient touches is left with
exp(-steps x lr / 2 / (1 - m) x decay) of itself. The decays here leave from nearly all to nearly nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from striate.studies.lab import Lab
from striate.studies.shrinking import (
    PLAIN,
    RULE,
    Sizes,
    Way,
    charts,
    effect,
    helps,
    numbers,
    saved,
    saves,
    table,
    train_all,
)
from striate.studies.study import Chart, Findings, Part, Study, judge, summary
from striate.viz.charts import Series, line_chart

MOMENTUM = 0.9  # the settings' default
SHOWN = (50, 150)  # percent of the error without decay


@dataclass(frozen=True, kw_only=True)
class Decays(Sizes):
    """How much is trained, and with which weight decays."""

    decays: tuple[float, ...] = (5e-4, 5e-3, 5e-2)  # the first is Krizhevsky's; ascending


def measure(lab: Lab, sizes: Decays) -> Findings:
    """Train without and with more and more weight decay, on fewer and fewer images."""
    ways = {"without": {}} | {f"decay {decay:g}": {"weight_decay": decay} for decay in sizes.decays}
    plain, *decayed = train_all(lab, sizes, ways)
    parts = judged(plain, decayed)
    middle = decayed[len(decayed) // 2]
    few = saved(plain, middle)[0]
    return Findings(
        verdict=judge(parts),
        why=f"With {plain.images[0]:,} images {middle.name} {effect(few)}: it {saves(few)} of the test errors. "
        f"The training error with {plain.images[-1]:,} images is {plain.train[-1]:.2%} without decay and "
        f"{decayed[0].train[-1]:.2%} with {decayed[0].name}.",
        parts=parts,
        tables=[table(plain, decayed, sizes.steps)],
        charts=[over_decays(plain, decayed, sizes), charts(plain, [middle])[0]],
        numbers=numbers(plain, decayed)
        | {"remaining": {f"{decay:g}": remaining(decay, sizes.steps) for decay in sizes.decays}},
    )


def remaining(decay: float, steps: int) -> float:
    """What is left of a weight that no gradient touches after all steps."""
    return math.exp(-steps * PLAIN["lr"] / 2 / (1 - MOMENTUM) * decay)


def judged(plain: Way, decayed: Sequence[Way]) -> Sequence[Part]:
    """The middle decay stands for weight decay, before anything is measured; the first is Krizhevsky's."""
    middle, weak = decayed[len(decayed) // 2], decayed[0]
    shares = saved(plain, middle)
    lower = [
        summary([a.train - b.train for a, b in zip(without, with_it, strict=True)])
        for without, with_it in zip(plain.errors, weak.errors, strict=True)
    ][-1]
    most = f"{plain.images[-1]:,} images"
    return [
        Part(
            claim="Weight decay lowers the test error with the fewest images (Krogh and Hertz)",
            measured=f"with {plain.images[0]:,} images {middle.name} {saves(shares[0])} of the errors",
            holds=helps(shares[0]),
        ),
        Part(
            claim="It helps the more, the fewer images there are",
            measured=f"it {saves(shares[0])} of the errors with {plain.images[0]:,} images and "
            f"{saves(shares[-1])} with {most}",
            holds=helps(shares[0]) and shares[0].mean > shares[-1].mean,
        ),
        Part(
            claim="It reduces the training error too (Krizhevsky et al.)",
            measured=f"with {most} {weak.name} lowers it by {100 * lower.mean:.3f} ± {100 * lower.margin:.3f} points",
            holds=lower.mean > 0 and (lower.low is None or lower.low > 0),
        ),
    ]


def over_decays(plain: Way, decayed: Sequence[Way], sizes: Decays) -> Chart:
    """Test error relative to the one without, for each number of images."""
    lines = [
        Series(
            name=f"{images:,} images",
            x=sizes.decays,
            y=[100 * way.test[at].mean / plain.test[at].mean if plain.test[at].mean else 100.0 for way in decayed],
        )
        for at, images in enumerate(plain.images)
    ]
    title = "Test error over weight decay"
    left = ", ".join(f"{decay:g} leaves {remaining(decay, sizes.steps):.0%}" for decay in sizes.decays)
    return Chart(
        title=title,
        svg=line_chart(title, lines, x_label="weight decay", unit="% of the error without", x_log=True, y_limits=SHOWN),
        caption=f"Of a weight that no gradient touches, after {sizes.steps:,} steps, {left}. Errors above {SHOWN[1]}% "
        "are cut off. The best of several looks better than it is: the verdict is on decays that were fixed before.",
    )


STUDY = Study(
    name="weight-decay",
    title="Weight decay lowers the test error, and even the training error",
    claim="Weight decay improves generalization, and the more so the fewer images there are. And it is not merely a "
    "regularizer: it reduces the training error.",
    citation="Krogh, Hertz: A Simple Weight Decay Can Improve Generalization, NIPS 4, 1991. Krizhevsky, Sutskever, "
    "Hinton: ImageNet Classification with Deep Convolutional Neural Networks, NIPS 2012, section 5 (decay 0.0005).",
    rule=f"{RULE} Judged are the middle decay for the test error, and Krizhevsky's 0.0005 for the training error with "
    "the most images, which has to fall by more than its interval.",
    data=("mnist", "fashion-mnist", "digits"),
    quick=Decays(per_class=(60, 6000), steps=600, seeds=3),
    full=Decays(per_class=(60, 600, 6000), steps=2400, seeds=3, decays=(5e-4, 2e-3, 1e-2)),
    measure=measure,
)
