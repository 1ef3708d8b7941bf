"""Whether the test error rises again when training goes on, and what stopping early saves.

While a network is trained, its training error falls and falls. Its error on other images falls at first, but then,
lectures say, rises again, while the network learns what is particular to its training images. Early stopping keeps the
weights of the step at which images held out for validation were recognised best.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from striate.studies.lab import Lab
from striate.studies.loop import logits, scaled, training
from striate.studies.shrinking import BATCH, PLAIN, RULE, effect, helps, series, signed
from striate.studies.study import Chart, Findings, Interval, Part, Study, Table, judge, summary
from striate.viz.charts import Series, line_chart


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is trained and looked at."""

    per_class: tuple[int, ...]  # training images of each class, ascending
    steps: int
    looks: int  # at the network during a training, closer together at its beginning
    test_per_class: int
    seeds: int
    validation: float = 0.2  # images held out, as a share of the number of training images


@dataclass(frozen=True, kw_only=True)
class Course:
    """One training: for each look, losses and shares of errors."""

    images: int
    steps: Sequence[int]
    errors: dict[str, list[float]]  # of "train", "val", "test"
    losses: dict[str, list[float]]

    def stop(self, by: str) -> int:
        """Which look is kept: the first with the least validation loss, or error."""
        return int(np.argmin((self.losses if by == "loss" else self.errors)["val"]))


def measure(lab: Lab, sizes: Sizes) -> Findings:
    """Train without an end in sight, on fewer and fewer images, and look where one should have stopped."""
    lab.plan(len(sizes.per_class) * len(lab.seeds))
    courses = [
        [
            Course(**lab.once(f"{per_class} per class, seed {seed}", watch, lab, sizes, per_class, seed))
            for seed in lab.seeds
        ]
        for per_class in sizes.per_class
    ]
    parts = judged(courses)
    few = courses[0]
    return Findings(
        verdict=judge(parts),
        why=f"With {few[0].images:,} images the test loss changes by {signed(rise(few))} from the step at which the "
        f"validation loss is least to the end. Stopping there saves {saved(few, 'loss'):.0%} of the test errors, and "
        f"stopping where the validation error is least {saved(few, 'error'):.0%}.",
        parts=parts,
        tables=[table(courses, sizes)],
        charts=[
            chart(courses[0], "losses"),
            chart(courses[0], "errors"),
            over_images(courses),
        ],
        numbers={
            "images": [each[0].images for each in courses],
            "loss_rise": [rise(each).to_json() for each in courses],
            "errors_saved": {
                f"stopped by the {by}": [saved(each, by).to_json() for each in courses] for by in ("loss", "error")
            },
        },
    )


def watch(lab: Lab, sizes: Sizes, per_class: int, seed: int) -> dict[str, Any]:
    """Train once, and measure on all three splits at steps that lie ever further apart."""
    train = lab.images("train", per_class=per_class, seed=seed)
    held_out = max(1, round(sizes.validation * per_class))
    others = {
        "val": lab.images("val", per_class=held_out, seed=seed),
        "test": lab.images("test", per_class=sizes.test_per_class),
    }
    at_most = torch.arange(len(train.labels))[:: max(1, len(train.labels) // 5000)]  # of many images some will do
    sets = {name: (scaled(images, train), images.labels) for name, images in others.items()}
    pixels = scaled(train, train)
    sets["train"] = pixels[at_most], train.labels[at_most]
    marks = sorted({round(step) for step in np.geomspace(10, sizes.steps, sizes.looks).tolist()})
    measured: dict[str, dict[str, list[float]]] = {what: {name: [] for name in sets} for what in ("errors", "losses")}
    for _, network in training(
        pixels,
        train.labels,
        model=str(PLAIN["model"]),
        classes=len(train.classes),
        seed=seed,
        batch=BATCH,
        lr=PLAIN["lr"],
        marks=marks,
    ):
        for name, (images, labels) in sets.items():
            found = logits(network, images)
            measured["errors"][name].append(float((found.argmax(1) != labels).float().mean()))
            measured["losses"][name].append(float(cross_entropy(found, labels)))
    return {"images": len(train.labels), "steps": marks, **measured}


def rise(courses: Sequence[Course]) -> Interval:
    """How much the test loss has risen at the end, as a share of what it was where the validation loss was least."""
    tests = [(course.losses["test"], course.stop("loss")) for course in courses]
    return summary([losses[-1] / losses[stop] - 1 for losses, stop in tests])


def saved(courses: Sequence[Course], by: str) -> Interval:
    """The share of the last step's test errors that stopping saves."""
    tests = [(course.errors["test"], course.stop(by)) for course in courses]
    return summary([1 - errors[stop] / errors[-1] if errors[-1] else 0.0 for errors, stop in tests])


def judged(courses: Sequence[Sequence[Course]]) -> Sequence[Part]:
    """Loss and error apart: they need not tell the same."""
    few, many = courses[0], courses[-1]
    images = f"{few[0].images:,} images"
    stops = {by: saved(few, by) for by in ("loss", "error")}
    return [
        Part(
            claim=f"With {images} the test loss rises again when training goes on",
            measured=f"it changes by {signed(rise(few))} from where the validation loss is least to the end",
            holds=helps(rise(few)),
        ),
        *(
            Part(
                claim=f"and stopping where the validation {by} is least saves test errors",
                measured=f"it saves {stops[by]:.0%} of those at the end",
                holds=helps(stops[by]),
            )
            for by in ("loss", "error")
        ),
        Part(
            claim="The fewer images there are, the more the test loss rises",
            measured=f"{signed(rise(few))} with {images}, {signed(rise(many))} with {many[0].images:,}",
            holds=helps(rise(few)) and rise(few).mean > rise(many).mean,
        ),
    ]


def table(courses: Sequence[Sequence[Course]], sizes: Sizes) -> Table:
    """What was kept and what would have been."""
    rows: list[list[str]] = []
    for each in courses:
        for by in ("loss", "error"):
            kept = [(course, course.stop(by)) for course in each]
            rows.append(
                [
                    f"{each[0].images:,}",
                    by,
                    f"{summary([float(course.steps[stop]) for course, stop in kept]).mean:,.0f}",
                    f"{summary([course.losses['test'][stop] for course, stop in kept]):.3f}",
                    f"{summary([course.losses['test'][-1] for course, _ in kept]):.3f}",
                    f"{summary([course.errors['test'][stop] for course, stop in kept]):.2%}",
                    f"{summary([course.errors['test'][-1] for course, _ in kept]):.2%}",
                    f"{saved(each, by):.0%}",
                    effect(saved(each, by)),
                ]
            )
    return Table(
        title="Stopped early and trained to the end",
        columns=(
            *("training images", "validation", "stops at step", "test loss there", "at the end"),
            *("test error there", "at the end", "test errors saved", ""),
        ),
        rows=rows,
        caption=f"The end is step {sizes.steps:,}, of {BATCH} images each, at a constant learning rate of "
        f"{PLAIN['lr']:g}. Images held out for validation are {sizes.validation:.0%} of the number of training images, "
        "in addition to them. Intervals are 95% over the seeds.",
    )


def chart(courses: Sequence[Course], what: str) -> Chart:
    """The three splits over the steps of the training, with the fewest images."""
    steps = courses[0].steps
    lines: list[Series] = []
    for split, name in (("test", "test"), ("val", "validation"), ("train", "training")):
        kinds = [getattr(course, what)[split] for course in courses]
        values = [summary(column) for column in zip(*kinds, strict=True)]
        banded = split == "test" and values[0].low is not None  # more bands would hide each other
        lines.append(
            Series(
                name=name,
                x=steps,
                y=[value.mean for value in values],
                low=[value.mean - value.margin for value in values] if banded else None,
                high=[value.mean + value.margin for value in values] if banded else None,
            )
        )
    kind = {"losses": "Loss", "errors": "Error"}[what]
    title = f"{kind} with {courses[0].images:,} images"
    return Chart(
        title=title,
        svg=line_chart(title, lines, x_label="steps", x_log=True),
        caption="Means over the seeds; the band is the test's 95%.",
    )


def over_images(courses: Sequence[Sequence[Course]]) -> Chart:
    """What stopping saves, as the training data shrinks."""
    images = [each[0].images for each in courses]
    title = "Test errors that stopping saves"
    lines = [series(f"stopped by the {by}", images, [saved(each, by) for each in courses]) for by in ("loss", "error")]
    return Chart(
        title=title,
        svg=line_chart(title, lines, x_label="training images", unit="% of those at the end", x_log=True),
        caption="Bands: 95% over the seeds.",
    )


STUDY = Study(
    name="early-stopping",
    title="Training on and on makes the test error rise again",
    claim="When training goes on, the training error keeps falling, but the error on other images falls and then rises "
    "again. Stopping where it is least on validation images is a remedy against overfitting.",
    citation="Prechelt: Early Stopping - But When?, in: Neural Networks: Tricks of the Trade, LNCS 1524, 1998. "
    "Goodfellow, Bengio, Courville: Deep Learning, MIT Press 2016, section 7.8.",
    rule=f"{RULE} The same goes for the rise of the test loss: at least 3%, with its interval above zero. The claim "
    "holds if with the fewest images the test loss rises, stopping saves test errors whether by loss or by error, and "
    "the loss rises more than with the most images.",
    data=("mnist", "fashion-mnist", "digits"),
    quick=Sizes(per_class=(60, 600, 5000), steps=1200, looks=25, test_per_class=500, seeds=3),
    full=Sizes(per_class=(60, 200, 600, 2000, 5000), steps=6000, looks=40, test_per_class=1200, seeds=3),
    measure=measure,
)
