"""Why deep networks did not learn, and what cured them: the gradient that reaches each layer, measured.

Going back through a layer multiplies the gradient by the activation's slope and by the weights. Thirty layers multiply
thirty times: what is a little below one vanishes, what is a little above explodes. A sigmoid's slope is at most 1/4.
Weights can be scaled so that the factor is one; batch normalisation sets the scale anew in each layer; a shortcut adds
a way back whose factor is one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from striate.studies.lab import Lab
from striate.studies.study import Chart, Findings, Interval, Part, Study, Table, judge, summary
from striate.viz.charts import Series, line_chart

ACTIVATIONS = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu}
PLAIN, NORM, SHORTCUT, BOTH = "plain", "batch norm", "shortcuts", "both"
SCALES = (0.5, 1.0, 2.0)
GLOROT_OF_HE = 1 / math.sqrt(2)  # with as many inputs as outputs: variance 1/n against 2/n

KINDS = (PLAIN, NORM, SHORTCUT, BOTH)
ILL = (("sigmoid", 1.0), ("relu", 0.5))  # activation and scale of the networks that the cures are tried on
TRAINED = (  # activation, scale and kind of the networks that are trained
    *((activation, scale, kind) for activation, scale in ILL for kind in KINDS),
    ("relu", 1.0, PLAIN),
    ("relu", GLOROT_OF_HE, PLAIN),
)

VANISHED, EXPLODED = 1e-3, 1e3  # the gradient at the first layer over that at the last
KEPT = 10.0  # at most so many times smaller or larger
TINY = 1e-45  # the least float32 above zero
LEARNS, STALLS = 0.5, 0.2  # accuracy on the training images, of ten classes


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The networks, and how long they are trained."""

    width: int  # units of each layer
    depths: tuple[int, int]  # hidden layers, shallow and deep
    per_class: int  # training images
    steps: int  # of training, 128 images each
    rates: tuple[float, ...]  # learning rates; the best one counts
    seeds: int


@dataclass(frozen=True, kw_only=True)
class Net:
    """One network: hidden layers of equal width, each ``activation(norm(weights @ below))``, plus ``below``."""

    activation: str
    scale: float  # of the weights: 1 is Glorot's for sigmoid and tanh, and He's for ReLU
    kind: str
    depth: int

    @property
    def label(self) -> str:
        """A name for people and for files."""
        weights = "glorot" if self.scale == GLOROT_OF_HE else f"x{self.scale:g}"
        return f"{self.activation} {weights} {self.kind} {self.depth}"


class Deep(nn.Module):
    """The network of a `Net`; forward gives the scores and what each hidden layer puts out."""

    def __init__(self, net: Net, inputs: int, width: int, classes: int):
        super().__init__()
        self.net = net
        self.first = nn.Linear(inputs, width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(net.depth))
        self.last = nn.Linear(width, classes)
        normalised = net.kind in (NORM, BOTH)
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) if normalised else nn.Identity() for _ in range(net.depth))
        for layer in (self.first, *self.hidden, self.last):
            assert isinstance(layer, nn.Linear)
            # Glorot & Bengio 2010, equation 12, as a normal distribution; He et al. 2015, equation 10.
            variance = 2 / layer.in_features if net.activation == "relu" else 2 / sum(layer.weight.shape)
            scale = net.scale if layer not in (self.first, self.last) else 1.0
            nn.init.normal_(layer.weight, std=scale * math.sqrt(variance))
            nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """From (B, D) images to (B, K) scores and a (B, width) map per hidden layer."""
        activation = ACTIVATIONS[self.net.activation]
        hidden = activation(self.first(images))
        outputs: list[Tensor] = []
        for layer, norm in zip(self.hidden, self.norms, strict=True):
            above = activation(norm(layer(hidden)))
            hidden = hidden + above if self.net.kind in (SHORTCUT, BOTH) else above
            outputs.append(hidden)
        return self.last(hidden), outputs


@dataclass(frozen=True)
class Images:
    """Training images as vectors of mean 0 and variance 1."""

    values: Tensor  # (N, D) float32
    labels: Tensor  # (N,) int64
    classes: int


def gradients(net: Net, images: Images, width: int, seed: int) -> dict[str, list[float]]:
    """Norms of the gradient before any training, from the first hidden layer to the last: on outputs and on weights."""
    torch.manual_seed(seed)
    network = Deep(net, images.values.shape[1], width, images.classes)
    rows = torch.randperm(len(images.labels))[:256]
    scores, outputs = network(images.values[rows])
    for output in outputs:
        output.retain_grad()
    nn.functional.cross_entropy(scores, images.labels[rows]).backward()
    on_outputs = [float(output.grad.double().norm()) for output in outputs if output.grad is not None]
    on_weights = [float(layer.weight.grad.double().norm()) for layer in network.hidden]  # pyright: ignore
    return {"outputs": on_outputs, "weights": on_weights}


def train(net: Net, images: Images, sizes: Sizes, seed: int) -> dict[str, Any]:
    """Train with each learning rate (SGD, momentum 0.9); the best one's loss by step and accuracy at the end."""
    best: dict[str, Any] = {"accuracy": -1.0}
    for rate in sizes.rates:
        torch.manual_seed(seed)
        network = Deep(net, images.values.shape[1], sizes.width, images.classes)
        velocities = [torch.zeros_like(parameter) for parameter in network.parameters()]
        losses: list[float] = []
        for _ in range(sizes.steps):
            rows = torch.randint(len(images.labels), (128,))
            loss = nn.functional.cross_entropy(network(images.values[rows])[0], images.labels[rows])
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                break
            slopes = torch.autograd.grad(loss, list(network.parameters()))
            with torch.no_grad():
                for parameter, velocity, slope in zip(network.parameters(), velocities, slopes, strict=True):
                    velocity.mul_(0.9).add_(slope)
                    parameter.sub_(rate * velocity)
        with torch.no_grad():  # in training mode, so that young averages of batch normalisation play no part
            right = network(images.values)[0].argmax(1) == images.labels
        accuracy = float(right.float().mean()) if math.isfinite(losses[-1]) else 0.0
        if accuracy > best["accuracy"]:
            best = {"accuracy": accuracy, "rate": rate, "losses": losses}
    return best


def all_gradients(nets: Sequence[Net], images: Images, width: int, seed: int) -> dict[str, dict[str, list[float]]]:
    """`gradients` of many networks, by label."""
    return {net.label: gradients(net, images, width, seed) for net in nets}


def measure(lab: Lab, sizes: Sizes) -> Findings:
    """Look at the gradients of all networks before training, then train some of the deepest."""
    deep = max(sizes.depths)
    nets = [
        Net(activation=activation, scale=scale, kind=kind, depth=depth)
        for activation in ACTIVATIONS
        for scale in (*SCALES, GLOROT_OF_HE)
        for kind in KINDS
        for depth in sizes.depths
        if scale in SCALES or (activation == "relu" and kind == PLAIN)
    ]
    to_train = [Net(activation=activation, scale=scale, kind=kind, depth=deep) for activation, scale, kind in TRAINED]
    lab.plan(len(lab.seeds) * (1 + len(to_train)))
    found: dict[str, list[dict[str, list[float]]]] = {net.label: [] for net in nets}
    runs: dict[str, list[dict[str, Any]]] = {net.label: [] for net in to_train}
    for seed in lab.seeds:
        images = _images(lab, sizes, seed)
        for label, norms in lab.once(f"gradients, seed {seed}", all_gradients, nets, images, sizes.width, seed).items():
            found[label].append(norms)
        for net in to_train:
            runs[net.label].append(lab.once(f"train {net.label}, seed {seed}", train, net, images, sizes, seed))

    def reach(activation: str, scale: float, kind: str, depth: int = deep) -> float:
        """What of the last layer's gradient reaches the first: the geometric mean over seeds."""
        label = Net(activation=activation, scale=scale, kind=kind, depth=depth).label
        return 10 ** summary([math.log10(_reach(norms)) for norms in found[label]]).mean

    def accuracy(activation: str, scale: float, kind: str) -> Interval:
        label = Net(activation=activation, scale=scale, kind=kind, depth=deep).label
        return summary([run["accuracy"] for run in runs[label]])

    def every(kind: str) -> list[float]:
        return [reach(activation, scale, kind) for activation in ACTIVATIONS for scale in SCALES]

    def span(reaches: Sequence[float]) -> str:
        return f"{_times(min(reaches))} to {_times(max(reaches))}"

    shallow = min(sizes.depths)
    halved, doubled = ([reach(activation, scale, PLAIN) for activation in ("tanh", "relu")] for scale in (0.5, 2.0))
    scaled = [reach(activation, 1.0, PLAIN) for activation in ("tanh", "relu")]
    he, glorot = accuracy("relu", 1.0, PLAIN), accuracy("relu", GLOROT_OF_HE, PLAIN)
    parts = [
        Part(
            claim=f"Sigmoids: the gradient vanishes, in {shallow} layers already (Glorot & Bengio 2010)",
            measured=f"{_times(reach('sigmoid', 1.0, PLAIN, shallow))} of the last layer's gradient reaches the first; "
            f"of {deep} layers {_times(reach('sigmoid', 1.0, PLAIN))}",
            holds=reach("sigmoid", 1.0, PLAIN, shallow) <= VANISHED,
        ),
        Part(
            claim=f"Weights of the right scale keep it through {deep} layers: Glorot's with tanh, He's with ReLU",
            measured=f"{_times(scaled[0])} with tanh, {_times(scaled[1])} with ReLU",
            holds=all(1 / KEPT <= each <= KEPT for each in scaled),
        ),
        Part(
            claim="Weights half as large make it vanish",
            measured=f"{_times(halved[0])} with tanh, {_times(halved[1])} with ReLU",
            holds=all(each <= VANISHED for each in halved),
        ),
        Part(
            claim="Weights twice as large make it explode",
            measured=f"{_times(doubled[0])} with tanh, {_times(doubled[1])} with ReLU",
            holds=all(each >= EXPLODED for each in doubled),
        ),
        Part(
            claim="Glorot's weights are too small for ReLU, by the square root of 2 per layer (He et al. 2015)",
            measured=f"{_times(reach('relu', GLOROT_OF_HE, PLAIN))}, where that factor gives "
            f"{_times(GLOROT_OF_HE ** (deep - 1))}",
            holds=abs(math.log10(reach("relu", GLOROT_OF_HE, PLAIN)) + (deep - 1) * math.log10(2) / 2) <= 1,
        ),
        Part(
            claim=f"{deep} layers with ReLU learn from He's weights and stall from Glorot's (He et al. 2015, figure 3)",
            measured=f"{he:.1%} of the training images right against {glorot:.1%}",
            holds=he.mean >= LEARNS and glorot.mean <= STALLS,
        ),
        Part(
            claim="With batch normalisation it does not vanish, whatever the scale and the activation (Ioffe & Szegedy "
            "2015)",
            measured=span(every(NORM)),
            holds=min(every(NORM)) >= 1 / KEPT,
        ),
        Part(
            claim="nor does it explode (the same expect singular values near 1)",
            measured=span(every(NORM)),
            holds=max(every(NORM)) <= KEPT,
        ),
        Part(
            claim="With shortcuts it does not vanish, whatever the scale and the activation (He et al. 2016)",
            measured=span(every(SHORTCUT)),
            holds=min(every(SHORTCUT)) >= 1 / KEPT,
        ),
        Part(
            claim="What does not learn for depth learns with either of the two",
            measured="; ".join(
                f"{activation}, {_weights(activation, scale)}: {accuracy(activation, scale, PLAIN).mean:.0%} of the "
                f"training images right, with batch norm {accuracy(activation, scale, NORM).mean:.0%}, with shortcuts "
                f"{accuracy(activation, scale, SHORTCUT).mean:.0%}"
                for activation, scale in ILL
            ),
            holds=all(
                accuracy(activation, scale, PLAIN).mean <= STALLS
                and accuracy(activation, scale, NORM).mean >= LEARNS
                and accuracy(activation, scale, SHORTCUT).mean >= LEARNS
                for activation, scale in ILL
            ),
        ),
    ]
    why = (
        f"{sum(part.holds for part in parts)} of {len(parts)} parts hold. In {deep} layers "
        f"{_times(reach('sigmoid', 1.0, PLAIN))} of the gradient gets through sigmoids, {_times(scaled[1])} through "
        f"ReLU with He's weights and {_times(halved[1])} with weights half as large. Batch normalisation and shortcuts "
        f"do away with vanishing in {sum(each >= 1 / KEPT for each in every(NORM) + every(SHORTCUT))} of "
        f"{len(every(NORM) + every(SHORTCUT))} networks, but not with growing: batch normalisation makes it up to "
        f"{_times(max(every(NORM)))} larger on the way back (Yang et al. 2019 derive that), shortcuts without it up to "
        f"{_times(max(every(SHORTCUT)))}, both together up to {_times(max(every(BOTH)))}."
    )

    def chart(title: str, of: Sequence[tuple[str, str, float, str]], caption: str = "") -> Chart:
        lines = [
            _by_layer(name, found[Net(activation=activation, scale=scale, kind=kind, depth=deep).label])
            for name, activation, scale, kind in of
        ]
        svg = line_chart(title, lines, x_label="hidden layer", unit="gradient over the last layer's", y_log=True)
        return Chart(title=title, svg=svg, caption=caption)

    def losses(activation: str) -> Chart:
        title = f"Training {deep} layers, {activation}"
        lines = [_losses(net, runs[net.label]) for net in to_train if net.activation == activation]
        svg = line_chart(title, lines, x_label="step", unit="loss, mean of 20 steps", y_limits=(0.0, 2.6))
        return Chart(title=title, svg=svg, caption="Each at its best learning rate.")

    scales = (("half of He's", 0.5), ("He's", 1.0), ("Glorot's", GLOROT_OF_HE), ("twice He's", 2.0))
    return Findings(
        verdict=judge(parts),
        why=why,
        parts=parts,
        charts=[
            chart(
                "Plain networks",
                [(f"{name}, {_weights(name, 1.0)}", name, 1.0, PLAIN) for name in ACTIVATIONS],
                caption="Read from right to left, the way the gradient goes. Bands are 95% intervals over seeds.",
            ),
            chart("ReLU: the scale of the weights", [(name, "relu", scale, PLAIN) for name, scale in scales]),
            chart("Sigmoid: what keeps the gradient", [(kind, "sigmoid", 1.0, kind) for kind in KINDS]),
            chart("ReLU: what keeps the gradient", [(kind, "relu", 1.0, kind) for kind in KINDS]),
            losses("sigmoid"),
            losses("relu"),
        ],
        tables=[
            Table(
                title="What of the last layer's gradient reaches the first",
                columns=("activation, weights", *(f"{kind}, {depth}" for kind in KINDS for depth in sizes.depths)),
                rows=[
                    (
                        f"{activation}, {_weights(activation, scale)}",
                        *(_times(reach(activation, scale, kind, depth)) for kind in KINDS for depth in sizes.depths),
                    )
                    for activation in ACTIVATIONS
                    for scale in SCALES
                ],
                caption=f"Geometric means over seeds, before training, for {shallow} and {deep} hidden layers.",
            ),
            Table(
                title=f"Does it learn? {deep} hidden layers after {sizes.steps} steps",
                columns=("network", "training images right", "learning rates"),
                rows=[
                    (
                        f"{net.activation}, {_weights(net.activation, net.scale)}, {net.kind}",
                        f"{summary([run['accuracy'] for run in runs[net.label]]):.1%}",
                        ", ".join(f"{run['rate']:g}" for run in runs[net.label]),
                    )
                    for net in to_train
                ],
                caption=f"The best of the learning rates, on at most {sizes.per_class:,} images of each class. 0%: it "
                "diverged with each of them.",
            ),
        ],
        numbers={
            "reach": {label: [_reach(norms) for norms in each] for label, each in found.items()},
            "reach_of_weights": {label: [_reach(norms, "weights") for norms in each] for label, each in found.items()},
            "accuracy": {label: [run["accuracy"] for run in each] for label, each in runs.items()},
        },
    )


def _images(lab: Lab, sizes: Sizes, seed: int) -> Images:
    found = lab.images("train", per_class=sizes.per_class, seed=seed)
    values = found.pixels.flatten(1).float()
    return Images((values - values.mean()) / values.std(), found.labels, len(found.classes))


def _reach(norms: dict[str, list[float]], what: str = "outputs") -> float:
    return max(norms[what][0], TINY) / max(norms[what][-1], TINY)


def _by_layer(name: str, of_seeds: Sequence[dict[str, list[float]]]) -> Series:
    """The gradient's norm by layer, over that of the last; the band is the 95% interval over seeds."""
    depth = len(of_seeds[0]["outputs"])
    logs = [
        summary(
            [math.log10(max(norms["outputs"][layer], TINY) / max(norms["outputs"][-1], TINY)) for norms in of_seeds]
        )
        for layer in range(depth)
    ]
    return Series(
        name=name,
        x=list(range(1, depth + 1)),
        y=[10**each.mean for each in logs],
        low=None if len(of_seeds) == 1 else [10 ** (each.mean - each.margin) for each in logs],
        high=None if len(of_seeds) == 1 else [10 ** (each.mean + each.margin) for each in logs],
    )


def _losses(net: Net, runs: Sequence[dict[str, Any]]) -> Series:
    """The loss by step, smoothed, as mean and interval over seeds; what diverged ends early."""
    window = 20
    length = min(len(run["losses"]) for run in runs)
    places = range(0, length, max(1, window // 2))
    each = [
        summary([sum(run["losses"][max(0, i - window + 1) : i + 1]) / min(i + 1, window) for run in runs])
        for i in places
    ]
    return Series(
        name=f"{_weights(net.activation, net.scale)}, {net.kind}",
        x=[i + 1 for i in places],
        y=[value.mean for value in each],
        low=None if len(runs) == 1 else [value.mean - value.margin for value in each],
        high=None if len(runs) == 1 else [value.mean + value.margin for value in each],
    )


def _weights(activation: str, scale: float) -> str:
    own = "He's" if activation == "relu" else "Glorot's"
    return {1.0: own, 0.5: f"half {own}", 2.0: f"twice {own}", GLOROT_OF_HE: "Glorot's"}[scale]


def _times(value: float) -> str:
    """A factor: 0.31, 237, 4.3e-18."""
    if value >= 1e4 or value < 1e-3:
        digits, power = f"{value:.1e}".split("e")
        return f"{digits}e{int(power)}".replace("-", "\N{MINUS SIGN}")
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}"


STUDY = Study(
    name="vanishing-gradients",
    title="Gradients vanish with depth; scaled weights, normalisation and shortcuts keep them",
    claim=(
        "In deep networks with sigmoids the gradient vanishes on its way back. Weights scaled to the activation keep "
        "it (Glorot's for tanh, He's for ReLU); half as large they make it vanish, twice as large explode. Batch "
        "normalisation and shortcuts cure it, whatever the scale."
    ),
    citation=(
        "Glorot & Bengio, Understanding the difficulty of training deep feedforward neural networks (2010), section "
        "4.2; He et al., Delving deep into rectifiers (2015), section 2.2 and figure 3; Ioffe & Szegedy, Batch "
        "normalization (2015), section 3.3; He et al., Identity mappings in deep residual networks (2016), section 2; "
        "CS231n (Stanford), notes on neural networks, part 2. Against it: Yang et al., A mean field theory of batch "
        "normalization (2019)."
    ),
    rule=(
        "Measured is the norm of the gradient on the outputs of the first hidden layer over that of the last, before "
        "training, as geometric mean over seeds. Vanished is 1/1000 or less, exploded 1000 or more, kept within a "
        "factor of 10. After training, a network learns that has half of its training images right, and stalls with a "
        "fifth or less. The claim holds if all parts do, and in part if some do."
    ),
    data=("cifar10", "fashion-mnist", "mnist", "digits"),
    quick=Sizes(width=128, depths=(10, 30), per_class=300, steps=200, rates=(0.001, 0.01), seeds=2),
    full=Sizes(width=256, depths=(10, 30), per_class=1000, steps=400, rates=(0.0001, 0.001, 0.01), seeds=3),
    measure=measure,
)
