"""What the studies of overfitting share: fewer and fewer training images, with a remedy and without.

A network overfits where it knows its training images better than the others: the gap between the two errors. With few
images it can learn them by heart. Each study trains the same small network on 60,000 images and on fewer, always for
the same number of steps: with as many epochs instead, the network with few images would be trained less, and that
alone would look like a remedy. One pass over 60,000 images is a hundred passes over 600.

All numbers are of the last step. Nothing is chosen by its error on validation or test images.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import striate
from striate.studies.lab import Lab
from striate.studies.study import Chart, Interval, Table, summary
from striate.viz.charts import Series, line_chart

BATCH = 100
WORTH = 0.03  # of the errors: a remedy that saves less is not worth the words

RULE = (
    "Trained on the same images from the same weights, with and without, a remedy helps where it saves at least "
    f"{WORTH:.0%} of the test errors on average and the 95% interval over the seeds is above zero, and harms where it "
    "adds as many."
)


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is trained."""

    per_class: tuple[int, ...]  # training images of each class, ascending
    steps: int  # of every training, as nearly as whole epochs allow
    seeds: int


@dataclass(frozen=True, kw_only=True)
class Errors:
    """The shares of images that a network gets wrong after its last step."""

    train: float
    test: float


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to train, and what came of it."""

    name: str
    images: Sequence[int]  # the sizes of the training data, ascending
    errors: Sequence[Sequence[Errors]]  # for each of them, for each seed

    @property
    def train(self) -> list[Interval]:
        """Training error for each number of images."""
        return [summary([each.train for each in seeds]) for seeds in self.errors]

    @property
    def test(self) -> list[Interval]:
        """Test error for each number of images."""
        return [summary([each.test for each in seeds]) for seeds in self.errors]

    @property
    def gap(self) -> list[Interval]:
        """Test error less training error for each number of images."""
        return [summary([each.test - each.train for each in seeds]) for seeds in self.errors]


def network(width: float = 1, dropout: str = "") -> str:
    """The layer pattern of the network: two convolutions and a hidden layer, 206,954 parameters for ten
    classes of 28x28 grey images.

    Args:
        width: factor on all its maps and units.
        dropout: stands before each of the two full layers, as in ``"DROPOUT 0.5 -> "``.
    """
    first, second, hidden = (round(count * width) for count in (8, 16, 256))
    return f"CONV {first} 5x5 /2 -> RELU -> CONV {second} 5x5 /2 -> RELU -> {dropout}FC {hidden} -> RELU -> {dropout}FC"


# With these settings there is nothing against overfitting. Without validation images the last weights are kept.
PLAIN: Mapping[str, Any] = {
    "model": network(),
    "optimizer": "sgd",
    "lr": 0.05,
    "schedule": "cosine",
    "batch": BATCH,
    "weight_decay": 0.0,
    "augment": "none",
    "validation": 0.0,
}


def train_all(lab: Lab, sizes: Sizes, ways: Mapping[str, Mapping[str, Any]]) -> list[Way]:
    """Train in every way on every number of images.

    Args:
        lab: of the study.
        sizes: how much.
        ways: a name, and in which settings it differs from `PLAIN`.
    """
    lab.plan(2 * len(ways) * len(sizes.per_class) * len(lab.seeds))
    classes = len(lab.images("test", per_class=1).classes)
    errors: dict[str, list[list[Errors]]] = {name: [] for name in ways}
    for per_class in sizes.per_class:
        for name, settings in ways.items():
            label = f"{name}, {per_class} per class"
            epochs = max(1, round(sizes.steps / math.ceil(per_class * classes / BATCH)))
            measured: list[Errors] = []
            for seed in lab.seeds:
                changed = {**PLAIN, **settings, "per_class": per_class, "epochs": epochs}
                run = lab.train(label, seed=seed, **changed)
                train = lab.once(f"train error of {label}, seed {seed}", training_error, run.path)
                measured.append(Errors(train=train, test=1 - run.metrics["top1"]))
            errors[name].append(measured)
    images = [per_class * classes for per_class in sizes.per_class]
    return [Way(name=name, images=images, errors=errors[name]) for name in ways]


def training_error(run: Path) -> float:
    """The share of its own training images that a run gets wrong, without augmentation or dropout."""
    return 1 - striate.evaluate(run, split="train", quiet=True).metrics["top1"]


def saved(plain: Way, remedy: Way) -> list[Interval]:
    """The share of the test errors that a remedy saves, for each number of images; below zero where it adds some."""
    return [
        summary([1 - b.test / a.test if a.test else 0.0 for a, b in zip(without, with_it, strict=True)])
        for without, with_it in zip(plain.errors, remedy.errors, strict=True)
    ]


def helps(share: Interval) -> bool:
    """Whether so many errors saved are a help; see `RULE`."""
    return share.mean >= WORTH and (share.low is None or share.low > 0)


def harms(share: Interval) -> bool:
    """Whether so many errors added are a harm; see `RULE`."""
    return share.mean <= -WORTH and (share.high is None or share.high < 0)


def effect(share: Interval) -> str:
    """The same in words."""
    return "helps" if helps(share) else "harms" if harms(share) else "makes no clear difference"


def signed(share: Interval) -> str:
    """A share with its sign, as in ``"+8% ± 3%"``."""
    return f"{share.mean:+.0%}" + ("" if share.high is None else f" ± {share.margin:.0%}")


def saves(share: Interval) -> str:
    """A share of errors in words, as in ``"saves 8% ± 3%"`` or ``"adds 8% ± 3%"``."""
    margin = "" if share.high is None else f" ± {share.margin:.0%}"
    return f"{'saves' if share.mean >= 0 else 'adds'} {abs(share.mean):.0%}{margin}"


def room(plain: Way) -> str:
    """How much there is for a remedy to do, as a sentence."""
    return (
        f"Without it the gap between test and training error is {plain.gap[0]:.2%} with {plain.images[0]:,} images and "
        f"{plain.gap[-1]:.2%} with {plain.images[-1]:,}: where there is no gap, a remedy has nothing to close."
    )


def table(plain: Way, remedies: Sequence[Way], steps: int) -> Table:
    """Both errors in all ways, and what each remedy saves."""
    rows: list[list[str]] = []
    for at, images in enumerate(plain.images):
        for way in (plain, *remedies):
            share = saved(plain, way)[at]
            rows.append(
                [
                    f"{images:,}",
                    way.name,
                    f"{way.train[at]:.2%}",
                    f"{way.test[at]:.2%}",
                    f"{way.gap[at]:.2%}",
                    "" if way is plain else f"{share:.0%}",
                    "" if way is plain else effect(share),
                ]
            )
    return Table(
        title="Errors after the last step",
        columns=(
            "training images",
            "trained",
            "training error",
            "test error",
            "gap",
            "test errors saved",
            "the remedy",
        ),
        rows=rows,
        caption=f"Every training takes about {steps:,} steps of {BATCH} images: {passes(plain.images, steps)}. "
        "Where a remedy raises the training error it has also slowed learning, and would cost less in more steps. "
        "Intervals are 95% over the seeds, each with images and first weights of its own.",
    )


def passes(images: Sequence[int], steps: int) -> str:
    """How often each image is seen: ``"100 passes over 600 images, 1 pass over 60,000"``."""
    times = [max(1, round(steps / math.ceil(count / BATCH))) for count in images]
    said = [f"{n} pass{'es' if n > 1 else ''} over {count:,}" for n, count in zip(times, images, strict=True)]
    return ", ".join([f"{said[0]} images", *said[1:]])


def charts(plain: Way, remedies: Sequence[Way]) -> list[Chart]:
    """Errors as the training data shrinks, and what is saved of them."""
    both = [
        series(f"{which} error, {way.name}", plain.images, values, least=0)
        for way in (plain, *remedies)
        for which, values in (("test", way.test), ("training", way.train))
    ]
    gains = [series(way.name, plain.images, saved(plain, way)) for way in remedies]
    errors, gained = "Errors as the training data shrinks", "Test errors saved"
    return [
        Chart(
            title=errors,
            svg=line_chart(errors, both, x_label="training images", unit="%", x_log=True),
            caption="Bands: 95% over the seeds. To the left there are fewer images, and each is seen more often.",
        ),
        Chart(
            title=gained,
            svg=line_chart(gained, gains, x_label="training images", unit="% of those without", x_log=True),
            caption=f"Bands: 95% over the seeds. Below zero the remedy harms; up to {WORTH:.0%} is not counted.",
        ),
    ]


def series(name: str, images: Sequence[int], values: Sequence[Interval], least: float = -math.inf) -> Series:
    """Intervals in percent as a line with its band, where there is one, as far as it is not below ``least``."""
    banded = values[0].low is not None
    return Series(
        name=name,
        x=images,
        y=[100 * value.mean for value in values],
        low=[max(least, 100 * (value.mean - value.margin)) for value in values] if banded else None,
        high=[100 * (value.mean + value.margin) for value in values] if banded else None,
    )


def numbers(plain: Way, remedies: Sequence[Way]) -> dict[str, Any]:
    """The same for programs, in one form for all of these studies, so that they can stand in one table."""
    return {
        "images": list(plain.images),
        "train_error": {way.name: [each.to_json() for each in way.train] for way in (plain, *remedies)},
        "test_error": {way.name: [each.to_json() for each in way.test] for way in (plain, *remedies)},
        "errors_saved": {way.name: [each.to_json() for each in saved(plain, way)] for way in remedies},
    }
