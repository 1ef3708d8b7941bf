"""1x1 convolutions: a full layer at every pixel, over its channels, and what it saves.

A k x k convolution from C to D channels takes k^2 C D multiply-accumulates at every pixel. A 1x1 convolution in front
of it that hands on only R of the C channels makes that C R + k^2 R D: nearly C / R times fewer where k is large. That
is the bottleneck of GoogLeNet's inception modules ("reduce"), and of ResNet's blocks after them. How much a network
saves as a whole, and whether it costs accuracy, is counted and measured here. In the paper that brought them 1x1
convolutions had another purpose: more layers between two looks at the neighbourhood.
"""

import math
from dataclasses import dataclass

import torch

import striate
from striate.models.backbones.googlenet import INCEPTION, NaiveInception
from striate.studies.lab import Lab
from striate.studies.study import Chart, Findings, Interval, Part, Study, Table, band, judge, summary
from striate.viz.charts import Bars, bar_groups, line_chart

DIRECT = "5x5"  # no bottleneck
TEN_TIMES = 9.5  # what rounds to ten
SMALL_LOSS = 0.01  # of accuracy
STEM = "CONV 32 -> BN -> RELU -> POOL"
HEAD = "GAP -> FC"


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is measured."""

    per_class: int  # training images of each class
    epochs: int
    seeds: int
    size: int = 14  # pixels
    reduced: tuple[int, ...] = (16, 8, 4, 2)  # channels that a bottleneck hands on, of 32 or 48
    batch: int = 25
    lr: float = 0.005  # of AdamW, at its peak


@dataclass(frozen=True, kw_only=True)
class Branch:
    """A 3x3 or 5x5 branch of an inception module, with its 1x1 reduction and without."""

    name: str  # "3a 5x5"
    macs: int
    direct_macs: int
    parameters: int
    direct_parameters: int


def branches() -> list[Branch]:
    """All of GoogLeNet, from the layers of the catalog's network; without reduction the same input and output."""
    layers = {layer.name: layer for layer in striate.inspect("googlenet", batch=None).layers}
    found: list[Branch] = []
    for module in INCEPTION:
        for kernel in ("3x3", "5x5"):
            reduce = layers[f"backbone.inception{module}.reduce{kernel}.conv"]
            conv = layers[f"backbone.inception{module}.conv{kernel}.conv"]
            assert reduce.input_shape is not None
            assert conv.output_shape is not None
            weights = int(kernel[0]) ** 2 * reduce.input_shape[0] * conv.output_shape[0]
            found.append(
                Branch(
                    name=f"{module} {kernel}",
                    macs=reduce.macs + conv.macs,
                    direct_macs=weights * math.prod(conv.output_shape[1:]),
                    parameters=reduce.parameters + conv.parameters,
                    direct_parameters=weights + conv.output_shape[0],
                )
            )
    return found


def naive_modules() -> list[int]:
    """Multiply-accumulates of each of GoogLeNet's modules as in figure 2a, stacked.

    Their pooling hands on every channel that came in, so that each module gives more channels than it gets.
    """
    channels, macs = 192, []
    for module, (conv1x1, _, conv3x3, _, conv5x5, _) in INCEPTION.items():
        side = {"3": 28, "4": 14, "5": 7}[module[0]]
        with torch.device("meta"):
            naive = NaiveInception(channels, conv1x1, conv3x3, conv5x5)
        macs.append(striate.inspect(naive, size=side, channels=channels, batch=None).macs)
        channels += conv1x1 + conv3x3 + conv5x5
    return macs


def bottleneck(reduced: int | None) -> str:
    """A small network of three 5x5 convolutions, each behind a 1x1 convolution to so many channels."""
    reduce = "" if reduced is None else f"CONV {reduced} 1x1 -> BN -> RELU -> "
    return f"{STEM} -> [{reduce}CONV 48 5x5 -> BN -> RELU]*3 -> {HEAD}"


def network_in_network(layers: int) -> str:
    """Two convolutions with so many 1x1 convolutions behind each: two in Lin et al. 2014, section 3.1."""
    return " -> ".join(
        f"CONV {maps} 5x5 -> BN -> RELU -> [CONV {maps} 1x1 -> BN -> RELU]*{layers} -> {then}"
        for maps, then in ((32, "POOL"), (48, HEAD))
    )


def measure(lab: Lab, sizes: Sizes) -> Findings:
    """Count GoogLeNet, and train small networks with and without 1x1 convolutions."""
    patterns = {DIRECT: bottleneck(None)} | {f"1x1 to {width}": bottleneck(width) for width in sizes.reduced}
    patterns |= {"plain": network_in_network(0), "network in network": network_in_network(2)}
    lab.plan(len(patterns) * len(lab.seeds))
    accuracy: dict[str, list[float]] = {name: [] for name in patterns}
    for seed in lab.seeds:
        for name, pattern in patterns.items():
            run = lab.train(
                name,
                seed=seed,
                model=pattern,
                size=sizes.size,
                per_class=sizes.per_class,
                epochs=sizes.epochs,
                batch=sizes.batch,
                lr=sizes.lr,
                validation=0.0,  # the last weights are kept
                augment="none",
            )
            accuracy[name].append(run.metrics["top1"])
    shown = lab.images("test", per_class=1)
    channels, classes = shown.pixels.shape[1], len(shown.classes)
    counted = {
        name: striate.inspect(pattern, size=sizes.size, channels=channels, classes=classes, batch=None)
        for name, pattern in patterns.items()
    }
    times_fewer = {name: counted[DIRECT].macs / counted[name].macs for name in patterns}

    def lost(name: str, than: str = DIRECT) -> Interval:
        return summary([a - b for a, b in zip(accuracy[than], accuracy[name], strict=True)])

    bottlenecks = [name for name in patterns if name.startswith("1x1")]
    harmless = [name for name in bottlenecks if lost(name).mean <= SMALL_LOSS]
    enough = [name for name in bottlenecks if times_fewer[name] >= TEN_TIMES]
    ten = min(enough, key=times_fewer.__getitem__, default=bottlenecks[-1])  # the mildest that saves ten times
    gain = lost("plain", "network in network")

    inside = branches()
    lecture = next(branch for branch in inside if branch.name == "3a 5x5")
    whole = striate.inspect("googlenet", batch=None)
    with_reduction = sum(layer.macs for layer in whole.layers if "inception" in layer.name)
    without = with_reduction + sum(branch.direct_macs - branch.macs for branch in inside)
    naive = sum(naive_modules())
    parts = [
        Part(
            claim="A 1x1 convolution makes a 5x5 branch ten times cheaper: 28x28x192 to 28x28x32 takes 120 million "
            "multiplications, 12.4 with 16 channels between (Ng; the 5x5 branch of GoogLeNet's 3a)",
            measured=f"{lecture.direct_macs / 1e6:.1f} against {lecture.macs / 1e6:.1f} million, "
            f"{lecture.direct_macs / lecture.macs:.1f} times fewer",
            holds=lecture.direct_macs / lecture.macs >= TEN_TIMES,
        ),
        Part(
            claim="and so all nine modules ten times cheaper",
            measured=f"{without / 1e6:,.0f} against {with_reduction / 1e6:,.0f} million, "
            f"{without / with_reduction:.1f} times fewer",
            holds=without / with_reduction >= TEN_TIMES,
        ),
        Part(
            claim="Modules without any 1x1 reduction blow up when stacked (Szegedy et al. 2015, section 4, figure 2a)",
            measured=f"{naive / 1e6:,.0f} against {with_reduction / 1e6:,.0f} million, "
            f"{naive / with_reduction:.0f} times as many",
            holds=naive / with_reduction >= TEN_TIMES,
        ),
        Part(
            claim="Ten times fewer operations in a small network cost no accuracy (at most one point)",
            measured=f"{ten} channels: {times_fewer[ten]:.1f} times fewer, {lost(ten).points} points lost",
            holds=ten in enough and ten in harmless,
        ),
        Part(
            claim="Two 1x1 convolutions behind each convolution make it more accurate (Lin et al. 2014)",
            measured=f"by {gain.points} points, for {counted['network in network'].macs / counted['plain'].macs:.2f} "
            "times the operations",
            holds=gain.above_zero,
        ),
    ]
    rows = [
        (
            name,
            f"{counted[name].parameters:,}",
            f"{counted[name].macs:,}",
            f"{times_fewer[name]:.1f}" if name in bottlenecks else "",
            f"{summary(accuracy[name]):.1%}",
        )
        for name in patterns
    ]
    return Findings(
        verdict=judge(parts),
        why=(
            "The ten times of the lectures are those of one branch. In all of GoogLeNet's modules together 1x1 "
            f"convolutions save {without / with_reduction:.1f} times: most work is in 3x3 branches, whose reductions "
            "are milder, and some in branches that have none. In small networks "
            + (
                f"bottlenecks saved up to {max(times_fewer[name] for name in harmless):.1f} times at no more than a "
                "point of accuracy"
                if harmless
                else "every bottleneck cost more than a point of accuracy"
            )
            + f"; two 1x1 convolutions behind each convolution changed accuracy by {gain.points} points."
        ),
        parts=parts,
        tables=[
            Table(
                title="Small networks, with and without 1x1 convolutions",
                columns=("network", "parameters", "multiply-accumulates", "times fewer", "test accuracy"),
                rows=rows,
                caption=f"'{DIRECT}' has three 5x5 convolutions of 48 maps on {sizes.size // 2}x{sizes.size // 2} "
                "pixels; the next put a 1x1 convolution to so many channels in front of each. 'plain' has two 5x5 "
                "convolutions, 'network in network' two 1x1 convolutions behind each. Here all passes through the "
                "bottleneck; in an inception module three other branches carry what it drops.",
            ),
            _branch_table(inside),
        ],
        charts=[
            _accuracy_chart({counted[name].macs: summary(accuracy[name]) for name in (*bottlenecks[::-1], DIRECT)}),
            _branch_chart(inside),
        ],
        numbers={
            "accuracy": {name: summary(values).to_json() for name, values in accuracy.items()},
            "macs": {name: counted[name].macs for name in patterns},
            "googlenet_modules": {"reduced": with_reduction, "direct": without, "naive": naive},
        },
    )


def _branch_table(inside: list[Branch]) -> Table:
    return Table(
        title="The 3x3 and 5x5 branches of GoogLeNet, with their 1x1 reductions and without",
        columns=(
            "branch",
            "million multiply-accumulates",
            "without",
            "times fewer",
            "parameters",
            "without",
            "times fewer",
        ),
        rows=[
            (
                branch.name,
                f"{branch.macs / 1e6:.1f}",
                f"{branch.direct_macs / 1e6:.1f}",
                f"{branch.direct_macs / branch.macs:.1f}",
                f"{branch.parameters:,}",
                f"{branch.direct_parameters:,}",
                f"{branch.direct_parameters / branch.parameters:.1f}",
            )
            for branch in inside
        ],
        caption="For one image of 224x224 pixels. Without a reduction a branch takes and gives the same maps.",
    )


def _accuracy_chart(by_macs: dict[int, Interval]) -> Chart:
    """Test accuracy over the multiply-accumulates of one image."""
    line = band("test accuracy", [macs / 1e6 for macs in by_macs], list(by_macs.values()), times=100)
    title = "What a narrower bottleneck costs"
    return Chart(
        title=title,
        svg=line_chart(
            title, [line], x_label="million multiply-accumulates of an image", unit="test accuracy, %", x_log=True
        ),
        caption="From the narrowest bottleneck on the left to none at all on the right.",
    )


def _branch_chart(inside: list[Branch]) -> Chart:
    """The 5x5 branches, module by module."""
    five = [branch for branch in inside if branch.name.endswith("5x5")]
    title = "GoogLeNet's 5x5 branches"
    bars = [
        Bars(name=name, values=values, texts=[f"{value:.1f}" for value in values])
        for name, values in (
            ("without 1x1 reduction", [branch.direct_macs / 1e6 for branch in five]),
            ("with it", [branch.macs / 1e6 for branch in five]),
        )
    ]
    return Chart(
        title=title,
        svg=bar_groups(title, [branch.name for branch in five], bars, unit="million multiply-accumulates"),
    )


STUDY = Study(
    name="one-by-one",
    title="1x1 convolutions make networks ten times cheaper",
    claim=(
        "A 1x1 convolution that hands on fewer channels makes the 3x3 or 5x5 convolution behind it ten times cheaper "
        "and does not hurt accuracy; without it inception modules blow up. Used behind convolutions, 1x1 convolutions "
        "make a network more accurate."
    ),
    citation=(
        "Szegedy et al., Going deeper with convolutions (2015), section 4, figure 2 and table 1; Ng, Convolutional "
        "neural networks (deeplearning.ai), lecture on the motivation of inception networks; Lin, Chen & Yan, Network "
        "in network (2014), section 3.1"
    ),
    rule=(
        f"Ten times is {TEN_TIMES} times or more, counted. Accuracy: the mildest bottleneck with which the whole small "
        f"network takes ten times fewer operations loses at most {SMALL_LOSS:.0%} of the test images, in the mean over "
        "seeds. Network in "
        "network: its gain is above zero, with its whole 95% interval where there are several seeds. The claim holds "
        "if all parts do, and in part if some do."
    ),
    data=("cifar10", "fashion-mnist", "digits"),
    quick=Sizes(per_class=200, epochs=6, seeds=3, reduced=(16, 4)),
    full=Sizes(per_class=1000, epochs=8, seeds=3, batch=50),
    measure=measure,
)
