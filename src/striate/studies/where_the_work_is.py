"""Where the parameters are, and where the work: two different places, counted and timed.

A full layer uses each of its weights once per image. A convolution uses each of its weights at every position. So a
network may keep nearly all its parameters in its full layers, and do nearly all its work in its convolutions. Counting
says so; whether time says the same depends on the batch, because the weights of a full layer have to be fetched from
memory once per batch, however few images are in it.
"""

import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import striate
from striate.studies.lab import Lab
from striate.studies.study import Chart, Findings, Part, Study, Table, judge
from striate.viz.charts import Bars, bar_groups

CONVOLUTION, FULL = "convolutions", "full layers"
KINDS = {"Conv2d": CONVOLUTION, "Linear": FULL, "BatchNorm2d": "normalisation", "LocalResponseNorm": "normalisation"}
OTHER = "the rest"  # activations, pooling, additions, and what runs between the layers
GROUPS = (CONVOLUTION, FULL, "normalisation", OTHER)


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is timed."""

    batch: int  # images of a training step of AlexNet
    deep_batch: int  # of one of VGG-16 and ResNet-50, which take more of everything
    repetitions: int
    alexnet: str = "alexnet"  # the one that Krizhevsky 2014 counts, on one device and without normalisation
    taught: str = "alexnet_one_tower"  # the one of 2012 as lectures draw it
    vgg: str = "vgg16"
    resnet: str = "resnet50_v1"  # as published


def measure(lab: Lab, sizes: Sizes) -> Findings:
    """Count, time, and compare with what is claimed."""
    alexnet, taught, vgg, resnet = names = (sizes.alexnet, sizes.taught, sizes.vgg, sizes.resnet)
    counted = {name: striate.inspect(name, batch=None) for name in names}
    lab.plan(2 * len(names))
    single: dict[str, dict[str, Any]] = {}  # one image, forwards
    trained: dict[str, dict[str, Any]] = {}  # a batch, forwards and backwards
    for name in names:
        batch = sizes.batch if name in (alexnet, taught) else sizes.deep_batch
        single[name] = lab.once(f"{name}, one image", time_layers, name, 1, False, sizes.repetitions)
        trained[name] = lab.once(f"{name}, training on {batch}", time_layers, name, batch, True, sizes.repetitions)

    def share(name: str, kind: str, amount: str) -> float:
        total = sum(getattr(layer, amount) for layer in counted[name].layers)
        return (
            sum(getattr(layer, amount) for layer in counted[name].layers if KINDS.get(layer.type, OTHER) == kind)
            / total
        )

    shares = {
        name: {
            "parameters": {kind: share(name, kind, "parameters") for kind in GROUPS},
            "multiply-accumulates": {kind: share(name, kind, "macs") for kind in GROUPS},
            "time in training": trained[name]["shares"],
            "time on one image": single[name]["shares"],
        }
        for name in names
    }

    def both(what: str) -> str:
        return " and ".join(f"{shares[name][what][CONVOLUTION]:.1%} in {name}" for name in (alexnet, taught))

    def within(what: str, low: float, high: float) -> bool:
        """Whether the convolutions' share of Krizhevsky's own network rounds to what is claimed."""
        return low <= round(100 * shares[alexnet][what][CONVOLUTION]) <= high

    def early(amount: str) -> float:
        """What the convolutions of VGG's first two stages have of what all its convolutions have."""
        layers = [layer for layer in counted[vgg].layers if layer.type == "Conv2d"]
        first = sum(getattr(layer, amount) for layer in layers if early_stage(layer.name))
        return first / sum(getattr(layer, amount) for layer in layers)

    vgg_full = sum(layer.parameters for layer in counted[vgg].layers if layer.type == "Linear")
    macs = {name: sum(layer.macs for layer in counted[name].layers) for name in names}
    early_macs, early_maps = early("macs"), early("activations")
    early_time = single[vgg]["early_seconds"] / single[vgg]["conv_seconds"]
    by_count, by_time = macs[resnet] / macs[vgg], single[resnet]["seconds"] / single[vgg]["seconds"]
    parts = [
        Part(
            claim="AlexNet's convolutions have about 5% of its parameters (Krizhevsky 2014), or 6% (lectures)",
            measured=f"{both('parameters')}, counted",
            holds=within("parameters", 4, 6),
        ),
        Part(
            claim="and 90 to 95% of its computation",
            measured=f"{both('multiply-accumulates')}, counted in multiply-accumulates",
            holds=within("multiply-accumulates", 90, 95),
        ),
        Part(
            claim="and take 90 to 95% of its time when it is trained on batches",
            measured=f"{both('time in training')}, a step on {sizes.batch} images, timed",
            holds=within("time in training", 90, 95),
        ),
        Part(
            claim="and take 90 to 95% of its time when it looks at one image",
            measured=f"{both('time on one image')}, timed",
            holds=within("time on one image", 90, 95),
        ),
        Part(
            claim="Three full layers have 120 to 124 of VGG-16's 138 million parameters",
            measured=f"{vgg_full / 1e6:.1f} of {counted[vgg].parameters / 1e6:.1f} million, counted",
            holds=120 <= round(vgg_full / 1e6) <= 124 and round(counted[vgg].parameters / 1e6) == 138,
        ),
        Part(
            claim="Most of VGG-16's memory for maps is used in its early convolutions, stages 1 and 2 of 5 (CS231n)",
            measured=f"{early_maps:.1%} of what its convolutions put out, counted",
            holds=early_maps > 0.5,
        ),
        Part(
            claim="and so is most of its compute time",
            measured=f"{early_macs:.1%} of its convolutions' multiply-accumulates, counted, and {early_time:.1%} of "
            "their time on one image",
            holds=early_macs > 0.5 and early_time > 0.5,
        ),
        Part(
            claim="ResNet-50 needs a quarter of VGG-16's computation, 3.8 against 15.3 billion (He et al. 2016)",
            measured=f"{by_count:.1%}, {macs[resnet] / 1e9:.2f} against {macs[vgg] / 1e9:.2f} billion, counted",
            holds=0.225 <= by_count <= 0.275,
        ),
        Part(
            claim="and time follows the count",
            measured=f"{by_time:.1%} of VGG-16's time on one image, timed",
            holds=abs(by_time / by_count - 1) <= 0.2,
        ),
    ]
    fetched = sum(layer.parameters for layer in counted[alexnet].layers if layer.type == "Linear")
    why = (
        f"{sum(part.holds for part in parts)} of {len(parts)} parts hold. Counting agrees with the papers; it does not "
        f"with the lecture on VGG-16's compute, of which the early convolutions do {early_macs:.0%}. Timed, AlexNet's "
        f"convolutions take {shares[alexnet]['time in training'][CONVOLUTION]:.0%} of training on {sizes.batch} images "
        f"and {shares[alexnet]['time on one image'][CONVOLUTION]:.0%} of one image, for which {fetched / 1e6:.0f} "
        "million weights of full layers are fetched from memory to be used once each. Per multiply-accumulate "
        f"ResNet-50 takes {by_time / by_count:.1f} times as long as VGG-16."
    )
    return Findings(
        verdict=judge(parts),
        why=why,
        parts=parts,
        tables=[_networks(names, counted, single, trained), _spread(names, single, trained)],
        charts=[_by_layer(alexnet, counted[alexnet].layers, single[alexnet], trained[alexnet])]
        + [_by_kind(name, shares[name]) for name in (taught, vgg, resnet)],
        numbers={"shares": shares, "single": single, "trained": trained, "macs": macs, "vgg_full_parameters": vgg_full},
    )


def time_layers(name: str, batch: int, train: bool, repetitions: int) -> dict[str, Any]:
    """Seconds of each layer in place, that is, with the memory as the layers before have left it: medians.

    Forwards a hook before and one after each layer look at the clock. Backwards the same is done for every node of the
    graph that the layer has left behind.
    """
    torch.manual_seed(0)
    network = striate.create(name).train(train)
    images = torch.randn(batch, network.channels, *network.size)
    labels = torch.zeros(batch, dtype=torch.int64)
    spent: dict[str, float] = defaultdict(float)
    begun: dict[str, float] = {}
    before: dict[str, Any] = {}  # the graph's node that each layer's input came from
    kinds: dict[str, str] = {}

    def start(label: str) -> None:
        begun[label] = time.perf_counter()

    def stop(label: str) -> None:
        spent[label] += time.perf_counter() - begun[label]

    def watch(label: str, layer: nn.Module) -> None:
        kinds[label] = KINDS.get(type(layer).__name__, OTHER)

        def entering(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            before[label] = inputs[0].grad_fn
            start(label)

        def leaving(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            stop(label)
            for node in _nodes(output.grad_fn, before[label]):
                node.register_prehook(lambda *_: start(label))
                node.register_hook(lambda *_: stop(label))

        layer.register_forward_pre_hook(entering)
        layer.register_forward_hook(leaving)

    for label, layer in network.named_modules():
        if not list(layer.children()):
            watch(label, layer)

    rounds: list[dict[str, float]] = []
    for repetition in range(repetitions + 1):  # the first one warms up
        spent.clear()
        network.zero_grad()
        whole = time.perf_counter()
        with torch.set_grad_enabled(train):
            scores = network(images)
            if train:
                nn.functional.cross_entropy(scores, labels).backward()
        spent["whole"] = time.perf_counter() - whole
        if repetition:
            rounds.append(dict(spent))
    median = {label: statistics.median(each.get(label, 0.0) for each in rounds) for label in rounds[0]}
    whole = median.pop("whole")

    def part(seconds: dict[str, float], kind: str) -> float:
        """The share of a kind of layers; the rest is all the time that no other kind took."""
        if kind == OTHER:
            return 1 - sum(part(seconds, each) for each in GROUPS if each != OTHER)
        return sum(seconds[label] for label in seconds if kinds.get(label) == kind) / seconds["whole"]

    convolutions = {label: seconds for label, seconds in median.items() if kinds[label] == CONVOLUTION}
    ranged = sorted(part(each, CONVOLUTION) for each in rounds)
    return {
        "seconds": whole,
        "batch": batch,
        "layers": median,
        "shares": {kind: statistics.median(part(each, kind) for each in rounds) for kind in GROUPS},
        "convolutions_from_to": [ranged[0], ranged[-1]],
        "conv_seconds": sum(convolutions.values()),
        "early_seconds": sum(seconds for label, seconds in convolutions.items() if early_stage(label)),
    }


def early_stage(layer: str) -> bool:
    """Whether a layer belongs to the first two stages."""
    return layer.startswith(("backbone.stage1.", "backbone.stage2."))


def _nodes(node: Any, end: Any) -> list[Any]:
    """The nodes of the backward graph between a layer's output and its input."""
    found: list[Any] = []
    waiting = [node]
    while waiting:
        each = waiting.pop()
        if each is None or each is end or each in found or type(each).__name__ == "AccumulateGrad":
            continue
        found.append(each)
        waiting += [before for before, _ in each.next_functions]
    return found


def _by_layer(name: str, layers: Sequence[Any], single: dict[str, Any], trained: dict[str, Any]) -> Chart:
    """Shares of parameters, work and time for each layer with weights."""
    weighted = [layer for layer in layers if layer.type in ("Conv2d", "Linear")]
    columns = {
        "parameters": [layer.parameters / sum(each.parameters for each in layers) for layer in weighted],
        "multiply-accumulates": [layer.macs / sum(each.macs for each in layers) for layer in weighted],
        "time in training": [trained["layers"][layer.name] / trained["seconds"] for layer in weighted],
        "time on one image": [single["layers"][layer.name] / single["seconds"] for layer in weighted],
    }
    groups = [layer.name.rsplit(".", 1)[-1] for layer in weighted]
    return Chart(
        title=f"{name}, layer by layer",
        svg=bar_groups(f"{name}, layer by layer", groups, _percent(columns), unit="% of the network"),
        caption="Counted: parameters sit at the bottom of the list, work at the top. Timed: the same layers in place, "
        "training on a batch and looking at one image.",
    )


def _by_kind(name: str, shares: dict[str, dict[str, float]]) -> Chart:
    columns = {what: [by_kind[kind] for kind in GROUPS] for what, by_kind in shares.items()}
    return Chart(
        title=f"{name}, by kind of layer",
        svg=bar_groups(f"{name}, by kind of layer", GROUPS, _percent(columns), unit="% of the network", limit=100),
    )


def _percent(columns: dict[str, list[float]]) -> list[Bars]:
    return [
        Bars(name=name, values=[100 * value for value in values], texts=[f"{100 * value:.1f}" for value in values])
        for name, values in columns.items()
    ]


def _networks(names: Sequence[str], counted: dict[str, Any], single: dict[str, Any], trained: dict[str, Any]) -> Table:
    rows = [
        (
            name,
            f"{counted[name].parameters / 1e6:.1f} M",
            f"{sum(layer.macs for layer in counted[name].layers) / 1e9:.2f} G",
            f"{1000 * single[name]['seconds']:.0f} ms",
            f"{1000 * trained[name]['seconds']:.0f} ms ({trained[name]['batch']} images)",
            f"{1000 * trained[name]['seconds'] / trained[name]['batch']:.0f} ms",
        )
        for name in names
    ]
    return Table(
        title="The networks on this machine's CPU",
        columns=("network", "parameters", "multiply-accumulates", "one image", "training step", "per image"),
        rows=rows,
        caption="Medians. A training step is forwards and backwards, without the optimizer.",
    )


def _spread(names: Sequence[str], single: dict[str, Any], trained: dict[str, Any]) -> Table:
    def cell(timed: dict[str, Any]) -> str:
        low, high = timed["convolutions_from_to"]
        return f"{timed['shares'][CONVOLUTION]:.1%} ({low:.1%} to {high:.1%})"

    return Table(
        title="The convolutions' share of the time",
        columns=("network", "one image", "training"),
        rows=[(name, cell(single[name]), cell(trained[name])) for name in names],
        caption="Medians, and the least and greatest of all repetitions. What runs between the layers is in the whole.",
    )


STUDY = Study(
    name="where-the-work-is",
    title="Parameters sit in full layers, work in convolutions",
    claim=(
        "The convolutions of AlexNet have 5 or 6% of its parameters and take 90 to 95% of its time; 120 to 124 of "
        "VGG-16's 138 million parameters are in its three full layers, and most of its memory and compute time is used "
        "in its early convolutions; ResNet-50 needs a quarter of VGG-16's computation."
    ),
    citation=(
        "Krizhevsky, One weird trick for parallelizing convolutional neural networks (2014), section 2; Simonyan & "
        "Zisserman, Very deep convolutional networks (2015), table 2; CS231n (Stanford), notes on convolutional "
        "networks, 'VGGNet in detail'; He et al., Deep residual learning (2016), table 1 and section 4.1."
    ),
    rule=(
        "Each part holds if what is counted or timed rounds to what is claimed: 4 to 6%, 90 to 95%, 120 to 124 of 138 "
        "million, more than half, a quarter (22.5 to 27.5%), and for time within a fifth of the count. Of the two "
        "AlexNets the one of 2014 decides. The claim holds if all parts do, and in part if some do."
    ),
    quick=Sizes(batch=32, deep_batch=2, repetitions=5),
    full=Sizes(batch=128, deep_batch=8, repetitions=7),
    measure=measure,
)
