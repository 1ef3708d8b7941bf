"""Whether a larger network overfits more.

Bias and variance say so: a network with more freedom follows its few training images more closely, noise included, so
that past some size its test error has to rise, and lectures draw the curve as a U. Networks that can learn their
training images by heart many times over are good on new images nevertheless. Here one network is made narrower and
wider, and trained on few images and on many.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import striate
from striate.studies.lab import Lab
from striate.studies.shrinking import WORTH, Sizes, Way, network, numbers, passes, series, signed, train_all
from striate.studies.study import Chart, Findings, Interval, Part, Study, Table, judge, summary
from striate.viz.charts import line_chart


@dataclass(frozen=True, kw_only=True)
class Widths(Sizes):
    """How much is trained, and in which widths."""

    widths: tuple[float, ...] = (0.125, 0.25, 0.5, 1, 2)  # factors on all maps and units, ascending


def measure(lab: Lab, sizes: Widths) -> Findings:
    """Train narrower and wider networks, on fewer and fewer images."""
    ways = train_all(lab, sizes, {f"width {width:g}": {"model": network(width)} for width in sizes.widths})
    example = lab.images("test", per_class=1)
    _, channels, height, side = example.pixels.shape
    parameters = [
        striate.inspect(
            network(width), size=(height, side), channels=channels, classes=len(example.classes), batch=None
        ).parameters
        for width in sizes.widths
    ]
    parts = judged(ways)
    narrow, wide = ways[0], ways[-1]
    few = f"{wide.images[0]:,} images"
    usual = ways[sizes.widths.index(1)]
    return Findings(
        verdict=judge(parts),
        why=f"With {few}, from {parameters[0]:,} to {parameters[-1]:,} parameters, the training error goes from "
        f"{narrow.train[0]:.2%} to {wide.train[0]:.2%} and the test error from {narrow.test[0]:.2%} to "
        f"{wide.test[0]:.2%}. " + (RISES if any(part.holds for part in parts) else STAYS),
        parts=parts,
        tables=[table(ways, parameters, sizes.steps)],
        charts=[chart(ways, parameters, at) for at in range(len(wide.images))],
        numbers={"parameters": dict(zip((way.name for way in ways), parameters, strict=True))}
        | numbers(usual, [way for way in ways if way is not usual]),
    )


RISES = "Past some width a larger network errs more."
STAYS = "That it has room to learn its training images by heart many times over does not make the widest network worse."


def rise(ways: Sequence[Way], at: int) -> tuple[Way, Interval]:
    """The narrower network with the least test error, and how much more the widest errs, as a share of that."""
    best = min(ways[:-1], key=lambda way: way.test[at].mean)
    pairs = zip(best.errors[at], ways[-1].errors[at], strict=True)
    return best, summary([wide.test / narrow.test - 1 if narrow.test else 0.0 for narrow, wide in pairs])


def judged(ways: Sequence[Way]) -> Sequence[Part]:
    """For each number of images, whether the test error has its least value inside and rises to the widest."""
    parts: list[Part] = []
    for at, images in enumerate(ways[0].images):
        best, more = rise(ways, at)
        parts.append(
            Part(
                claim=f"With {images:,} images the widest network errs more than a narrower one",
                measured=f"{ways[-1].test[at]:.2%} against {best.test[at]:.2%} with {best.name}: {signed(more)}",
                holds=more.mean >= WORTH and (more.low is None or more.low > 0),
            )
        )
    return parts


def table(ways: Sequence[Way], parameters: Sequence[int], steps: int) -> Table:
    """Errors and gap of each width."""
    rows = [
        [
            f"{images:,}",
            way.name.removeprefix("width "),
            f"{count:,}",
            f"{way.train[at]:.2%}",
            f"{way.test[at]:.2%}",
            f"{way.gap[at]:.2%}",
        ]
        for at, images in enumerate(ways[0].images)
        for way, count in zip(ways, parameters, strict=True)
    ]
    return Table(
        title="Errors after the last step",
        columns=("training images", "width", "parameters", "training error", "test error", "gap"),
        rows=rows,
        caption=f"Every training takes about {steps:,} steps: {passes(ways[0].images, steps)}. Intervals are 95% over "
        "the seeds, each with images and first weights of its own.",
    )


def chart(ways: Sequence[Way], parameters: Sequence[int], at: int) -> Chart:
    """Both errors over the number of parameters."""
    title = f"Errors with {ways[0].images[at]:,} images"
    lines = [
        series("test error", parameters, [way.test[at] for way in ways], least=0),
        series("training error", parameters, [way.train[at] for way in ways], least=0),
    ]
    return Chart(
        title=title,
        svg=line_chart(title, lines, x_label="parameters", unit="%", x_log=True),
        caption="Bands: 95% over the seeds. Lectures draw the test error as a U.",
    )


STUDY = Study(
    name="capacity",
    title="A larger network overfits more",
    claim="As a network grows its test error falls and then rises again, because it learns its training images by "
    "heart: a network can be too large for its data.",
    citation="Geman, Bienenstock, Doursat: Neural Networks and the Bias/Variance Dilemma, Neural Computation 4(1), "
    "1992. Against it: Zhang et al.: Understanding Deep Learning Requires Rethinking Generalization, ICLR 2017; "
    "Belkin et al.: Reconciling Modern Machine-Learning Practice and the Classical Bias-Variance Trade-Off, PNAS "
    "116(32), 2019; Nakkiran et al.: Deep Double Descent, ICLR 2020.",
    rule="For each number of images, the claim holds if the widest network makes more test errors than the best of the "
    f"narrower ones: at least {WORTH:.0%} more on average, with the 95% interval over the seeds above zero.",
    data=("mnist", "fashion-mnist", "digits"),
    quick=Widths(per_class=(60, 600), steps=600, seeds=3),
    full=Widths(per_class=(60, 600, 6000), steps=1200, seeds=3, widths=(0.125, 0.25, 0.5, 1, 2)),
    measure=measure,
)
