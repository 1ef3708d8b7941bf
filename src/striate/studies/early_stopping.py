"""Whether the test error rises again when training goes on, and what stopping early saves.

While a network is trained, its training error falls and falls. Its error on other images falls at first, but then,
lectures say, rises again, while the network learns what is particular to its training images. Early stopping keeps the
weights of the step at which images held out for validation were recognised best.

Two things are told apart here. Loss and error: the loss also counts how sure a network is of its mistakes. And what
there is to learn by heart: images that are labelled right, or some that are labelled wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from striate.studies.lab import Lab
from striate.studies.loop import logits, scaled, training
from striate.studies.shrinking import BATCH, PLAIN, effect, helps, saves, series, signed
from striate.studies.study import Chart, Findings, Interval, Part, Study, Table, judge, summary
from striate.viz.charts import Series, line_chart

LR = 0.01  # constant; small enough that the course of a training can be seen
LOOKED_AT = 2000  # training and validation images, at most, in each look


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is trained and looked at."""

    per_class: tuple[int, ...]  # training images of each class, ascending
    steps: int
    looks: int  # at the network during a training, closer together at its beginning
    test_per_class: int
    seeds: int
    wrong: float = 0.2  # share of labels, in training and validation, that are replaced by chance, for comparison
    validation: float = 0.2  # images held out, as a share of the number of training images


@dataclass(frozen=True, kw_only=True)
class Course:
    """One training: for each look, losses and shares of errors."""

    images: int
    steps: Sequence[int]
    errors: dict[str, list[float]]  # of "train", "val", "test"
    losses: dict[str, list[float]]

    def stop(self, by: str) -> int:
        """Which look is kept: the first with the least validation "loss" or "error"."""
        return int(np.argmin((self.losses if by == "loss" else self.errors)["val"]))


Courses = Sequence[Sequence[Course]]  # for each number of images, for each seed


def measure(lab: Lab, sizes: Sizes) -> Findings:
    """Train without an end in sight, on fewer and fewer images, and look where one should have stopped."""
    lab.plan(2 * len(sizes.per_class) * len(lab.seeds))

    def courses(wrong: float) -> Courses:
        return [
            [
                Course(**lab.once(f"{n} per class, {wrong:.0%} wrong, seed {seed}", watch, lab, sizes, n, wrong, seed))
                for seed in lab.seeds
            ]
            for n in sizes.per_class
        ]

    right, wrong = courses(0.0), courses(sizes.wrong)
    parts = judged(right, wrong)
    few = right[0]
    return Findings(
        verdict=judge(parts),
        why=f"With {few[0].images:,} images the test loss changes by {signed(rise(few))} from the step at which the "
        f"validation loss is least to the end. Of the errors at the end stopping there {saves(saved(few, 'loss'))}, "
        f"and stopping where the validation error is least {saves(saved(few, 'error'))}"
        + (SURER if helps(rise(few)) and not helps(saved(few, "error")) else ".")
        + f" With {sizes.wrong:.0%} of the labels wrong, stopping by the error {saves(saved(wrong[0], 'error'))} with "
        f"{few[0].images:,} images and {saves(saved(wrong[-1], 'error'))} with {right[-1][0].images:,}.",
        parts=parts,
        tables=[table(right, wrong, sizes)],
        charts=[
            course_chart(right[0], "losses", "labels right"),
            course_chart(right[0], "errors", "labels right"),
            course_chart(wrong[0], "errors", f"{sizes.wrong:.0%} of the labels wrong"),
            saved_chart(right, wrong, sizes),
        ],
        numbers={
            "images": [each[0].images for each in right],
            "loss_rise": [rise(each).to_json() for each in right],
            "errors_saved": {
                f"stopped by the {by}{labels}": [saved(each, by).to_json() for each in many]
                for labels, many in (("", right), (", wrong labels", wrong))
                for by in ("loss", "error")
            },
        },
    )


SURER = ": what grows is how sure the network is of its mistakes, and not their number."


def watch(lab: Lab, sizes: Sizes, per_class: int, wrong: float, seed: int) -> dict[str, Any]:
    """Train once, and measure on all three splits at steps that lie ever further apart."""
    train = lab.images("train", per_class=per_class, seed=seed)
    held_out = max(1, min(round(sizes.validation * per_class), LOOKED_AT // len(train.classes)))
    val = lab.images("val", per_class=held_out, seed=seed)
    test = lab.images("test", per_class=sizes.test_per_class)
    chance = torch.Generator().manual_seed(seed)
    pixels, labels = scaled(train, train), mislabelled(train.labels, len(train.classes), wrong, chance)
    some = slice(None, None, max(1, len(labels) // LOOKED_AT))
    sets = {
        "train": (pixels[some], labels[some]),
        "val": (scaled(val, train), mislabelled(val.labels, len(train.classes), wrong, chance)),
        "test": (scaled(test, train), test.labels),  # always right
    }
    marks = sorted({max(1, round(step)) for step in np.geomspace(sizes.steps / 60, sizes.steps, sizes.looks).tolist()})
    errors: dict[str, list[float]] = {name: [] for name in sets}
    losses: dict[str, list[float]] = {name: [] for name in sets}
    for _, network in training(
        pixels,
        labels,
        model=str(PLAIN["model"]),
        classes=len(train.classes),
        seed=seed,
        batch=BATCH,
        lr=LR,
        marks=marks,
    ):
        for name, (images, truth) in sets.items():
            found = logits(network, images)
            errors[name].append(float((found.argmax(1) != truth).float().mean()))
            losses[name].append(float(cross_entropy(found, truth)))
    return {"images": len(labels), "steps": marks, "errors": errors, "losses": losses}


def mislabelled(labels: Tensor, classes: int, wrong: float, chance: torch.Generator) -> Tensor:
    """The labels with a share of them moved to another class each."""
    moved = torch.randint(1, classes, labels.shape, generator=chance)
    return torch.where(torch.rand(len(labels), generator=chance) < wrong, (labels + moved) % classes, labels)


def rise(courses: Sequence[Course]) -> Interval:
    """How much the test loss has risen at the end, as a share of what it was where the validation loss was least."""
    tests = [(course.losses["test"], course.stop("loss")) for course in courses]
    return summary([losses[-1] / losses[stop] - 1 for losses, stop in tests])


def saved(courses: Sequence[Course], by: str) -> Interval:
    """The share of the last step's test errors that stopping saves."""
    tests = [(course.errors["test"], course.stop(by)) for course in courses]
    return summary([1 - errors[stop] / errors[-1] if errors[-1] else 0.0 for errors, stop in tests])


def judged(right: Courses, wrong: Courses) -> Sequence[Part]:
    """Loss and error apart, and right labels and wrong ones: they need not tell the same."""
    few, many = right[0], right[-1]
    images = f"{few[0].images:,} images"
    return [
        Part(
            claim=f"With {images} the test loss rises again when training goes on",
            measured=f"it changes by {signed(rise(few))} from where the validation loss is least to the end",
            holds=helps(rise(few)),
        ),
        Part(
            claim="The fewer images there are, the more the test loss rises",
            measured=f"{signed(rise(few))} with {images}, {signed(rise(many))} with {many[0].images:,}",
            holds=helps(rise(few)) and rise(few).mean > rise(many).mean,
        ),
        *(
            Part(
                claim=f"With {images}{labels} stopping where the validation {by} is least saves test errors",
                measured=f"it {saves(saved(courses, by))} of those at the end",
                holds=helps(saved(courses, by)),
            )
            for labels, courses in ((", all labels right,", few), (", some labels wrong,", wrong[0]))
            for by in ("loss", "error")
        ),
    ]


def table(right: Courses, wrong: Courses, sizes: Sizes) -> Table:
    """What was kept and what would have been."""
    rows: list[list[str]] = []
    for labels, courses in (("0%", right), (f"{sizes.wrong:.0%}", wrong)):
        for each in courses:
            for by in ("loss", "error"):
                kept = [(course, course.stop(by)) for course in each]
                rows.append(
                    [
                        f"{each[0].images:,}",
                        labels,
                        by,
                        f"{np.mean([course.steps[stop] for course, stop in kept]):,.0f}",
                        f"{summary([course.losses['test'][stop] for course, stop in kept]):.2f}",
                        f"{summary([course.losses['test'][-1] for course, _ in kept]):.2f}",
                        f"{summary([course.errors['test'][stop] for course, stop in kept]):.1%}",
                        f"{summary([course.errors['test'][-1] for course, _ in kept]):.1%}",
                        f"{saved(each, by):.0%}",
                        effect(saved(each, by)),
                    ]
                )
    return Table(
        title="Stopped early and trained to the end",
        columns=(
            *("training images", "labels wrong", "validation", "stops at step", "test loss there", "at the end"),
            *("test error there", "at the end", "errors saved", "stopping"),
        ),
        rows=rows,
        caption=f"The end is step {sizes.steps:,}, of {BATCH} images each, at a constant learning rate of {LR:g}. "
        f"Images held out for validation are {sizes.validation:.0%} of the number of training images, in addition to "
        f"them, at most {LOOKED_AT:,}. Intervals are 95% over the seeds.",
    )


def course_chart(courses: Sequence[Course], what: str, labels: str) -> Chart:
    """The three splits over the steps of the training."""
    lines: list[Series] = []
    for split, name in (("test", "test"), ("val", "validation"), ("train", "training")):
        values = [summary(look) for look in zip(*(getattr(course, what)[split] for course in courses), strict=True)]
        banded = split == "test" and values[0].low is not None  # more bands would hide each other
        lines.append(
            Series(
                name=name,
                x=courses[0].steps,
                y=[value.mean for value in values],
                low=[max(0.0, value.mean - value.margin) for value in values] if banded else None,
                high=[value.mean + value.margin for value in values] if banded else None,
            )
        )
    kind = {"losses": "Loss", "errors": "Error"}[what]
    title = f"{kind} with {courses[0].images:,} images, {labels}"
    return Chart(
        title=title,
        svg=line_chart(title, lines, x_label="steps", x_log=True),
        caption="Means over the seeds; the band is the 95% interval of the test's.",
    )


def saved_chart(right: Courses, wrong: Courses, sizes: Sizes) -> Chart:
    """What stopping saves, as the training data shrinks."""
    images = [each[0].images for each in right]
    title = "Test errors that stopping saves"
    lines = [
        series("by the loss", images, [saved(each, "loss") for each in right]),
        series("by the error", images, [saved(each, "error") for each in right]),
        series(f"by the error, {sizes.wrong:.0%} wrong", images, [saved(each, "error") for each in wrong]),
    ]
    return Chart(
        title=title,
        svg=line_chart(title, lines, x_label="training images", unit="% of those at the end", x_log=True),
        caption="Bands: 95% over the seeds. Below zero, stopping harms.",
    )


STUDY = Study(
    name="early-stopping",
    title="Training on and on makes the test error rise again",
    claim="When training goes on, the training error keeps falling, but the error on other images falls and then rises "
    "again. Stopping where it is least on validation images is a remedy against overfitting.",
    citation="Prechelt: Early Stopping - But When?, in: Neural Networks: Tricks of the Trade, LNCS 1524, 1998. "
    "Goodfellow, Bengio, Courville: Deep Learning, MIT Press 2016, section 7.8, whose curves are of the loss.",
    rule="Stopping helps where it saves at least 3% of the last step's test errors on average and the 95% interval "
    "over the seeds is above zero; the test loss rises by the same measure. The claim holds if with the fewest images "
    "the loss rises, more than with the most, and stopping helps, whether by loss or by error, with all labels right "
    "and with some wrong.",
    data=("mnist", "fashion-mnist", "digits"),
    quick=Sizes(per_class=(60, 600), steps=1200, looks=25, test_per_class=300, seeds=3),
    full=Sizes(per_class=(60, 600, 5000), steps=4800, looks=40, test_per_class=1200, seeds=3),
    measure=measure,
)
