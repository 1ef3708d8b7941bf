"""How far choosing the epoch on the test set flatters the number.

The number of an epoch is a measurement with noise in it: another test set of the same kind would give another one. The
greatest of several noisy numbers is great partly by its noise. So whoever keeps the epoch that is best on the test set
and reports that very number shows more than the network will do on new images.

To see how much more, the test images are cut in two at random. One part, A, plays the test set on which somebody
chooses. The other part, B, plays the images of the future. What the choice gains over the last epoch on A is what is
shown; what the same choice gains on B is real; the difference is flattery. Averaged over many such cuts it cannot be
below zero by more than chance. The question is how large it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.studies.lab import Lab
from striate.studies.loop import logits, scaled, training
from striate.studies.shrinking import BATCH, PLAIN
from striate.studies.study import Chart, Findings, Interval, Part, Study, Table, judge, summary
from striate.viz.charts import Series, line_chart

CUTS = 200  # of the test images, for each seed and size


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is trained and measured."""

    per_class: int  # training images of each class
    epochs: int  # to choose from
    choose_on: tuple[int, ...]  # sizes of the test set on which somebody chooses, ascending; at most half of all
    seeds: int


@dataclass(frozen=True, kw_only=True)
class Flattery:
    """Gains over the last epoch by choosing an epoch on so many test images, a value for each seed."""

    images: int
    shown: Sequence[float]  # on the images that it was chosen on
    real: Sequence[float]  # of the same choice on other images
    validated: Sequence[float]  # of choosing on validation images, on those other images
    deviation: float  # standard error of an accuracy measured on so many images

    @property
    def flattery(self) -> Interval:
        """What is shown less what is real."""
        return summary([shown - real for shown, real in zip(self.shown, self.real, strict=True)])

    @property
    def advantage(self) -> Interval:
        """What choosing on the test set really gains over choosing on validation images."""
        return summary([real - val for real, val in zip(self.real, self.validated, strict=True)])


def measure(lab: Lab, sizes: Sizes) -> Findings:
    """Train, note after each epoch which images are right, and choose afterwards."""
    lab.plan(len(lab.seeds))
    seen = [lab.once(f"epochs, seed {seed}", epochs, lab, sizes, seed) for seed in lab.seeds]
    test = [unpacked(each["test"], each["test_images"]) for each in seen]
    val = [unpacked(each["val"], each["val_images"]) for each in seen]
    count = test[0].shape[1]
    flatteries = [flattery(test, val, min(images, count // 2)) for images in sizes.choose_on]
    parts = judged(flatteries)
    least, most = flatteries[0], flatteries[-1]
    return Findings(
        verdict=judge(parts),
        why=f"Choosing among {sizes.epochs} epochs on {most.images:,} test images makes the number "
        f"{points(most.flattery)} points too good; on {least.images:,}, {points(least.flattery)} points. The standard "
        f"error of such numbers is {100 * most.deviation:.2f} and {100 * least.deviation:.2f} points"
        + (HIDDEN if all(each.flattery.mean <= each.deviation for each in flatteries) else "."),
        parts=parts,
        tables=[sizes_table(flatteries), choices_table(test, val)],
        charts=[over_images(flatteries), over_epochs(test[0], val[0])],
        numbers={
            "choose_on": [each.images for each in flatteries],
            "flattery": [each.flattery.to_json() for each in flatteries],
            "shown": [summary(each.shown).to_json() for each in flatteries],
            "real": [summary(each.real).to_json() for each in flatteries],
            "advantage_over_validation": [each.advantage.to_json() for each in flatteries],
            "standard_error": [each.deviation for each in flatteries],
        },
    )


HIDDEN = (
    ": chance alone moves one number further than flattery does. But chance goes either way, and flattery one way "
    "only, so that the mean of many numbers chosen like that is too good."
)


def epochs(lab: Lab, sizes: Sizes, seed: int) -> dict[str, Any]:
    """Train once; after each epoch, which test and validation images are right."""
    train = lab.images("train", per_class=sizes.per_class, seed=seed)
    held = {name: lab.images(name, per_class=1_000_000, seed=seed) for name in ("test", "val")}
    pixels = {name: scaled(images, train) for name, images in held.items()}
    steps = max(1, round(len(train.labels) / BATCH))
    right: dict[str, list[str]] = {name: [] for name in held}
    for _, network in training(
        scaled(train, train),
        train.labels,
        model=str(PLAIN["model"]),
        classes=len(train.classes),
        seed=seed,
        batch=BATCH,
        lr=PLAIN["lr"],
        marks=[steps * epoch for epoch in range(1, sizes.epochs + 1)],
    ):
        for name, images in held.items():
            correct = logits(network, pixels[name]).argmax(1) == images.labels
            right[name].append(np.packbits(correct.numpy()).tobytes().hex())
    return {**right, **{f"{name}_images": len(images.labels) for name, images in held.items()}}


def unpacked(right: Sequence[str], images: int) -> NDArray[np.bool_]:
    """(E, N) bool, which of N images were right after each of E epochs, from the text that it is kept as."""
    rows = [np.frombuffer(bytes.fromhex(text), dtype=np.uint8) for text in right]
    return np.unpackbits(np.stack(rows), axis=1, count=images).astype(bool)


def flattery(test: Sequence[NDArray[np.bool_]], val: Sequence[NDArray[np.bool_]], images: int) -> Flattery:
    """Choose on ``images`` test images and look at all the others, for many cuts.

    Args:
        test: for each seed (E, N) bool, which test images were right after each epoch.
        val: the same of the validation images; a person would choose on as many of these.
        images: how many test images are chosen on.
    """
    shown, real, validated = [], [], []
    for seed, (on_test, on_val) in enumerate(zip(test, val, strict=True)):
        rng = np.random.default_rng(seed)
        gains = np.zeros((CUTS, 3))
        for cut in range(CUTS):
            order = rng.permutation(on_test.shape[1])
            a, b = on_test[:, order[:images]].mean(1), on_test[:, order[images:]].mean(1)
            by_val = on_val[:, rng.permutation(on_val.shape[1])[:images]].mean(1).argmax()
            gains[cut] = a.max() - a[-1], b[a.argmax()] - b[-1], b[by_val] - b[-1]
        means = gains.mean(0).tolist()
        shown.append(means[0])
        real.append(means[1])
        validated.append(means[2])
    accuracy = float(np.mean([each[-1].mean() for each in test]))
    deviation = (accuracy * (1 - accuracy) / images) ** 0.5
    return Flattery(images=images, shown=shown, real=real, validated=validated, deviation=deviation)


def judged(flatteries: Sequence[Flattery]) -> Sequence[Part]:
    """The number is too good, more so on few images, by enough to matter, and nothing is won for it."""
    least, most = flatteries[0], flatteries[-1]
    more = summary(
        [(a - b) - (c - d) for a, b, c, d in zip(least.shown, least.real, most.shown, most.real, strict=True)]
    )
    return [
        Part(
            claim="The number on the test images that the epoch was chosen on is too good",
            measured=f"chosen on {most.images:,} images, {points(most.flattery)} points more than on other images",
            holds=above(most.flattery),
        ),
        Part(
            claim="The fewer test images there are, the more so",
            measured=f"chosen on {least.images:,} images, {points(least.flattery)} points",
            holds=above(more),
        ),
        Part(
            claim="By more than the number is uncertain by anyway, for any size of test set",
            measured="; ".join(
                f"{each.images:,} images: {100 * each.flattery.mean:.2f} points, standard error "
                f"{100 * each.deviation:.2f}"
                for each in flatteries
            ),
            holds=all(each.flattery.mean > each.deviation for each in flatteries),
        ),
        Part(
            claim="And the network is no better for it than one that as many validation images choose",
            measured=f"on other images it is {points(most.advantage)} points better, chosen on {most.images:,} each",
            holds=not above(most.advantage),
        ),
    ]


def above(value: Interval) -> bool:
    """Whether a value is above zero with its interval."""
    return value.mean > 0 and (value.low is None or value.low > 0)


def points(value: Interval) -> str:
    """An interval of accuracies in percentage points."""
    margin = "" if value.high is None else f" ± {100 * value.margin:.2f}"
    return f"{round(100 * value.mean, 2) + 0:.2f}{margin}"  # + 0 makes -0.0 a zero


def sizes_table(flatteries: Sequence[Flattery]) -> Table:
    """What is shown and what is real for each size of the test set."""
    rows = [
        [
            f"{each.images:,}",
            points(summary(each.shown)),
            points(summary(each.real)),
            points(each.flattery),
            f"{100 * each.deviation:.2f}",
            points(summary(each.validated)),
        ]
        for each in flatteries
    ]
    return Table(
        title="Gain over the last epoch, in points of accuracy",
        columns=(
            "test images to choose on",
            "shown on them",
            "real, on the others",
            "flattery",
            "standard error",
            "real, chosen on as many validation images",
        ),
        rows=rows,
        caption=f"Means over {CUTS} random cuts of the test images, with 95% intervals over the seeds. The standard "
        "error is that of one accuracy measured on so many images.",
    )


def choices_table(test: Sequence[NDArray[np.bool_]], val: Sequence[NDArray[np.bool_]]) -> Table:
    """What a person would have reported, on all test images."""
    accuracy = [each.mean(1) for each in test]
    by_val = [each[seen.mean(1).argmax()] for each, seen in zip(accuracy, val, strict=True)]
    ways = {
        "at the last epoch": [float(each[-1]) for each in accuracy],
        "at the epoch that is best on validation": [float(each) for each in by_val],
        "at the epoch that is best on test": [float(each.max()) for each in accuracy],
    }
    rows = [
        [name, f"{summary(values):.2%}", points(summary([a - b for a, b in zip(values, by_val, strict=True)]))]
        for name, values in ways.items()
    ]
    return Table(
        title=f"What one would report on all {test[0].shape[1]:,} test images",
        columns=("", "test accuracy", "points more than by validation"),
        rows=rows,
        caption=f"Validation has {val[0].shape[1]:,} images. Intervals are 95% over the seeds.",
    )


def over_images(flatteries: Sequence[Flattery]) -> Chart:
    """Flattery over the size of the test set, beside the noise that it comes from."""
    title = "Flattery by choosing on the test set"
    images = [each.images for each in flatteries]
    values = [each.flattery for each in flatteries]
    banded = values[0].low is not None
    lines = [
        Series(
            name="flattery",
            x=images,
            y=[100 * value.mean for value in values],
            low=[100 * (value.mean - value.margin) for value in values] if banded else None,
            high=[100 * (value.mean + value.margin) for value in values] if banded else None,
        ),
        Series(name="standard error of the number", x=images, y=[100 * each.deviation for each in flatteries]),
    ]
    return Chart(
        title=title,
        svg=line_chart(title, lines, x_label="test images to choose on", unit="points of accuracy", x_log=True),
        caption="Band: 95% over the seeds. The flattery is a part of the noise, so it falls as the noise does.",
    )


def over_epochs(test: NDArray[np.bool_], val: NDArray[np.bool_]) -> Chart:
    """Accuracy over the epochs of the first seed, on two halves of the test images and on the validation images."""
    title = "Accuracy over the epochs, seed 0"
    half = test.shape[1] // 2
    order = np.random.default_rng(0).permutation(test.shape[1])
    parts = {
        "test, one half": test[:, order[:half]],
        "test, other half": test[:, order[half:]],
        "validation": val,
    }
    lines = [
        Series(name=name, x=range(1, len(test) + 1), y=(100 * right.mean(1)).tolist()) for name, right in parts.items()
    ]
    return Chart(
        title=title,
        svg=line_chart(title, lines, x_label="epoch", unit="%"),
        caption="Peaks that the lines do not share are noise, and the greatest of them is what choosing takes.",
    )


STUDY = Study(
    name="test-set",
    title="Choosing the epoch on the test set flatters the number",
    claim="Never choose anything on the test set: the number becomes too good, and says nothing of new images.",
    citation="Ng: Preventing Overfitting of Cross-Validation Data, ICML 1997. In context: Recht, Roelofs, Schmidt, "
    "Shankar: Do ImageNet Classifiers Generalize to ImageNet?, ICML 2019, who find that years of choosing on "
    "ImageNet's and CIFAR-10's test sets explain little of why accuracy drops on new ones.",
    rule="The claim holds if the number is too good with its interval over the seeds above zero, by more on the "
    "smallest test set than on the largest, by more than its standard error for all sizes, and if choosing on test "
    "images makes the network no better on others than choosing on as many validation images does.",
    data=("fashion-mnist", "mnist", "digits"),
    quick=Sizes(per_class=600, epochs=15, choose_on=(100, 300, 1000, 5000), seeds=4),
    full=Sizes(per_class=2000, epochs=30, choose_on=(100, 300, 1000, 5000), seeds=10),
    measure=measure,
)
