"""What the first convolution learns on photos: edges, colours and blobs, told apart by measurement.

A network learns to say which photo a small crop comes from, a task that nobody has to label. Before training its first
filters are noise. What they have become is measured for each filter by itself:

- Its spatial pattern is the first principal component of its three colour planes, and its spectrum the power of the
  Fourier transform of that. Noise spreads over all frequencies, a pattern gathers at a few: `spread` is the part of
  the frequency plane that the power fills (the participation ratio). A filter has structure if its spread is below
  that of 99 in 100 fresh ones.
- `orientation` is the length of the mean of exp(2i angle) over the spectrum: 1 for a grating, whose power lies on one
  line through the origin; 0 for a round spot. `crossing`, the same with 4i, is large for a checkerboard.
- `colour` is the share of its energy that is not equal in the three channels: 0 for a grey filter, 2/3 for noise.

An edge is a filter with structure and orientation, a blob one with structure and neither orientation nor crossing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import striate
from striate.errors import ModelFileError
from striate.runs.checkpoints import read_checkpoint
from striate.studies.lab import Lab
from striate.studies.photos import photos
from striate.studies.study import Chart, Findings, Interval, Part, Picture, Study, Table, judge, summary
from striate.viz.charts import Bars, Series, bar_groups, line_chart
from striate.viz.contact_sheet import contact_sheet

FILTERS, KERNEL = 32, 7
NETWORK = (
    f"CONV {FILTERS} {KERNEL}x{KERNEL} /2 -> BN -> RELU -> POOL -> CONV 64 3x3 -> BN -> RELU -> POOL "
    "-> CONV 128 3x3 -> BN -> RELU -> GAP -> FC"
)
CROP = 32  # side of a crop in pixels
CROPS = {"train": 400, "test": 100}  # of each photo
CAST = 0.3  # how far the light on a crop is tinted, each channel by itself
KINDS = ("grey edge", "colour edge", "grey blob", "colour blob", "other", "noise")
ORIENTED, CROSSED, COLOURED = 0.3, 0.5, 0.5  # from these values on
FRESH = 1_000  # untrained filters that say how much spread noise has
SMALLEST = 5  # kernel whose spectrum tells a pattern from noise
PADDED = 32  # side of the Fourier transform


# ---- the photos ------------------------------------------------------------------------------------------------------


def write_crops(folder: Path) -> str:
    """Crops of twelve photos that two libraries ship: the left halves to train on, the right halves to test on."""
    if folder.exists():
        return str(folder)
    rng = np.random.default_rng(0)
    unfinished = folder.with_name(f"{folder.name}-unfinished")
    for name, photo in photos().items():
        middle = photo.shape[1] // 2
        for split, half in (("train", photo[:, :middle]), ("test", photo[:, middle:])):
            place = unfinished / split / name
            place.mkdir(parents=True, exist_ok=True)
            for number in range(CROPS[split]):
                side = round(CROP * 2 ** rng.uniform(0, 1))  # near and far
                top, left = (int(rng.integers(0, length - side + 1)) for length in half.shape[:2])
                cast = rng.uniform(1 - CAST, 1 + CAST, 3)  # else the mean colour would tell the photo
                pixels = (half[top : top + side, left : left + side] * cast).clip(0, 255).astype(np.uint8)
                crop = Image.fromarray(pixels).resize((CROP, CROP), Image.Resampling.LANCZOS)
                crop.save(place / f"{number}.png")
    unfinished.rename(folder)
    return str(folder)


# ---- the filters -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What is measured of F filters, each (F,)."""

    spread: Tensor
    orientation: Tensor
    crossing: Tensor
    colour: Tensor

    def kinds(self, noise: float) -> list[str]:
        """The kind of each, of `KINDS`; from a spread of ``noise`` on a filter is noise."""
        found: list[str] = []
        for spread, orientation, crossing, colour in zip(
            *(values.tolist() for values in (self.spread, self.orientation, self.crossing, self.colour)), strict=True
        ):
            tint = "colour" if colour >= COLOURED else "grey"
            if spread >= noise:
                found.append("noise")
            elif orientation >= ORIENTED:
                found.append(f"{tint} edge")
            else:
                found.append("other" if crossing >= CROSSED else f"{tint} blob")
        return found


def measured(filters: Tensor) -> Measured:
    """Measure filters (F, 3, K, K)."""
    filters = filters.to(torch.float64)
    energy = filters.square().sum((1, 2, 3))
    grey = filters.mean(1, keepdim=True)
    colour = (filters - grey).square().sum((1, 2, 3)) / energy
    planes = torch.linalg.svd(filters.flatten(2), full_matrices=False).Vh[:, 0]  # (F, K K), the spatial pattern
    spectrum = torch.fft.fft2(planes.reshape(grey[:, 0].shape), s=(PADDED, PADDED)).abs().square()
    spectrum = spectrum / spectrum.sum((1, 2), keepdim=True)
    frequency = torch.fft.fftfreq(PADDED, dtype=torch.float64)
    angle = torch.atan2(frequency[:, None], frequency[None, :])

    def resultant(times: int) -> Tensor:
        return (spectrum * torch.exp(1j * times * angle)).sum((1, 2)).abs()

    return Measured(
        spread=1 / (PADDED**2 * spectrum.square().sum((1, 2))),
        orientation=resultant(2),
        crossing=resultant(4),
        colour=colour,
    )


@cache
def noise_spread(kernel: int) -> float:
    """The spread that one in a hundred filters of independent normal values is below.

    Infinite for kernels under 5x5, whose few values do not tell a pattern from noise: all are taken for patterns.
    """
    if kernel < SMALLEST:
        return math.inf
    torch.manual_seed(0)
    return float(measured(torch.randn(FRESH, 3, kernel, kernel)).spread.quantile(0.01))


def first_layer(network: nn.Module) -> Tensor:
    """The weights of the first convolution, (F, 3, K, K)."""
    return next(layer for layer in network.modules() if isinstance(layer, nn.Conv2d)).weight.detach()


def first_layer_of_file(path: str) -> Tensor:
    """The same from a checkpoint of any library: its first weights that take three channels."""
    for weight in read_checkpoint(Path(path)).values():
        if weight.ndim == 4 and weight.shape[1] == 3 and weight.shape[2] == weight.shape[3] > 1:
            return weight
    raise ModelFileError(f"{path} holds no convolution of colour images: no tensor (F, 3, K, K) with K above 1.")


# ---- the study -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How long is trained."""

    epochs: int
    seeds: int


def measure(lab: Lab, sizes: Sizes) -> Findings:
    """Train, and measure the first filters before and after."""
    lab.plan(len(lab.seeds))
    before: list[Tensor] = []
    after: list[Tensor] = []
    accuracies: list[float] = []
    for seed in lab.seeds:
        torch.manual_seed(seed)
        before.append(first_layer(striate.create(NETWORK, classes=2, channels=3, size=CROP)))
        run = lab.train(
            "photos",
            seed=seed,
            model=NETWORK,
            size=CROP,
            augment="light(brightness=0.5, contrast=0.5, saturation=0..1.5)",
            epochs=sizes.epochs,
            batch=128,
            optimizer="sgd",
            schedule="onecycle",
            lr=0.1,
            weight_decay=0.01,  # large, so that what was there before training fades
        )
        after.append(first_layer(striate.load(run.path).task.network))
        accuracies.append(run.metrics["top1"])
    pretrained = first_layer_of_file(lab.weights) if lab.weights else None
    return findings(before, after, pretrained, top1=summary(accuracies))


def findings(
    before: Sequence[Tensor], after: Sequence[Tensor], pretrained: Tensor | None, *, top1: Interval
) -> Findings:
    """The verdict from the filters.

    Args:
        before: of each seed, (F, 3, K, K), untrained.
        after: the same, trained.
        pretrained: (F, 3, K, K) of another network, or None.
        top1: accuracy on crops that were not trained on.
    """
    noise = noise_spread(before[0].shape[2])
    kinds = {
        "before": [measured(filters).kinds(noise) for filters in before],
        "after": [measured(filters).kinds(noise) for filters in after],
    }
    if pretrained is not None:
        kinds["pretrained"] = [measured(pretrained).kinds(noise_spread(pretrained.shape[2]))]
    shares = {name: {kind: _share(each, kind) for kind in KINDS} for name, each in kinds.items()}
    pattern = {name: _share(each, "edge", "blob") for name, each in kinds.items()}
    edges, colours = _share(kinds["after"], "edge"), _share(kinds["after"], "colour")
    blobs = _share(kinds["after"], "blob")
    colour_edges = _within(kinds["after"], "colour edge", "colour")
    grey_edges = _within(kinds["after"], "grey edge", "grey")
    parts = [
        Part(
            claim="After training most first filters are edges or blobs; before, hardly any are",
            measured=f"{pattern['after']:.0%} of them, {pattern['before']:.0%} before",
            holds=pattern["after"].mean > 0.5 and pattern["before"].mean < 0.1,
        ),
        Part(
            claim="Edges, blobs and filters for colour are all among them, each at least one in ten",
            measured=f"edges {edges:.0%}, blobs {blobs:.0%}, for colour {colours:.0%}",
            holds=min(edges.mean, blobs.mean, colours.mean) >= 0.1,
        ),
        Part(
            claim="Filters without colour are mostly edges, and more often so than those for colour, which are blobs "
            "(Krizhevsky et al. 2012, section 6.1: the two GPUs' kernels)",
            measured=f"edges are {grey_edges:.0%} of the grey ones and {colour_edges:.0%} of those for colour",
            holds=grey_edges > 0.5 and grey_edges > colour_edges,
        ),
    ]
    why = (
        f"Before training {pattern['before']:.0%} of the first filters have a pattern, after it {pattern['after']:.0%} "
        f"({edges:.0%} edges, {blobs:.0%} blobs; {colours:.0%} of all for colour). No one asked for either: the task "
        f"was to say which photo a crop is from, {top1:.0%} right on the photos' other halves."
    )
    names = {"before": "before training", "after": "after training", "pretrained": "pretrained"}
    tables = [
        Table(
            title="Kinds of first filters",
            columns=("kind", *(names[name] for name in kinds)),
            rows=[(kind, *(f"{shares[name][kind]:.0%}" for name in kinds)) for kind in KINDS],
            caption=f"Of {len(after[0])} filters {_by(after[0])}"
            + ("" if pretrained is None else f"; pretrained: {len(pretrained)} filters {_by(pretrained)}")
            + "; ± is the 95% interval over seeds. One fresh filter in a hundred passes as a pattern by the rule."
            + _too_small(pretrained),
        )
    ]
    layers = {"before training": torch.cat(list(before)), "after training": torch.cat(list(after))}
    pictures = [
        Picture(
            title="Before training",
            image=_sheet(before[0], kinds["before"][0]),
            caption="The first seed's filters: noise, the control.",
        ),
        Picture(
            title="After training",
            image=_sheet(after[0], kinds["after"][0]),
            caption="The same layer; each filter is scaled to its own greatest value, grey is zero.",
        ),
    ]
    if pretrained is not None:
        layers["pretrained"] = pretrained
        pictures.append(
            Picture(
                title="Pretrained",
                image=_sheet(pretrained, kinds["pretrained"][0]),
                caption=f"The first layer of the file that --weights names, {_by(pretrained)} pixels. The verdict does "
                "not count it.",
            )
        )
    return Findings(
        verdict=judge(parts),
        why=why,
        parts=parts,
        tables=tables,
        charts=_charts(shares, layers),
        pictures=pictures,
        numbers={
            "top1": top1.to_json(),
            "noise spread": noise,
            "kinds": {name: {kind: share.to_json() for kind, share in each.items()} for name, each in shares.items()},
        },
    )


def _share(kinds: Sequence[Sequence[str]], *words: str) -> Interval:
    """The share of filters in whose kind one of the words stands, over seeds."""
    return summary([np.mean([any(word in kind for word in words) for kind in each]).item() for each in kinds])


def _within(kinds: Sequence[Sequence[str]], kind: str, word: str) -> float:
    """The share of ``kind`` among those in which ``word`` stands, all seeds together; 0 where there are none."""
    of = [each for every in kinds for each in every if word in each]
    return of.count(kind) / len(of) if of else 0.0


def _too_small(pretrained: Tensor | None) -> str:
    if pretrained is None or pretrained.shape[2] >= SMALLEST:
        return ""
    return f" Kernels under {SMALLEST}x{SMALLEST} are too small to tell a pattern from noise, so none counts as noise."


def _by(filters: Tensor) -> str:
    return f"of {filters.shape[2]}x{filters.shape[3]}"


def _sheet(filters: Tensor, kinds: Sequence[str]) -> Image.Image:
    """All filters with their kinds, sorted by them."""
    order = sorted(range(len(kinds)), key=lambda index: KINDS.index(kinds[index]))
    scaled = filters / filters.abs().amax((1, 2, 3), keepdim=True)
    pixels = ((scaled * 0.5 + 0.5) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return contact_sheet([pixels[index] for index in order], [kinds[index] for index in order], columns=8)


def _charts(shares: Mapping[str, Mapping[str, Interval]], layers: Mapping[str, Tensor]) -> list[Chart]:
    def ends(values: Sequence[float | None]) -> list[float]:
        return [math.nan if value is None else max(0.0, 100 * value) for value in values]

    charts = [
        Chart(
            title="Kinds of first filters",
            svg=bar_groups(
                "Kinds of first filters",
                KINDS,
                [
                    Bars(
                        name="pretrained" if name == "pretrained" else f"{name} training",
                        values=[100 * share.mean for share in each.values()],
                        low=ends([share.low for share in each.values()]),
                        high=ends([share.high for share in each.values()]),
                        texts=[f"{share.mean:.0%}" for share in each.values()],
                    )
                    for name, each in shares.items()
                ],
                unit="percent",
                limit=100,
            ),
        )
    ]
    for title, attribute, mark in (
        ("Spread of the spectrum", "spread", "low: a pattern, high: noise"),
        ("Orientation", "orientation", "0: none, 1: a grating"),
        ("Colour", "colour", "0: grey, 1: only differences of channels"),
    ):
        series: list[Series] = []
        for name, filters in layers.items():
            values = getattr(measured(filters), attribute).sort().values.tolist()
            rank = [100 * (place + 0.5) / len(values) for place in range(len(values))]
            series.append(Series(name=name, x=rank, y=values))
        charts.append(
            Chart(
                title=title,
                svg=line_chart(title, series, x_label="percent of filters, sorted", unit=mark),
            )
        )
    return charts


STUDY = Study(
    name="first-filters",
    title="The first layer learns edges, colours and blobs",
    claim="Trained on natural images, the first convolution of a network learns frequency- and orientation-selective "
    "filters (edges, like Gabor functions) and coloured blobs, whatever the network and its task.",
    citation="Krizhevsky, Sutskever, Hinton 2012, section 6.1 and figure 3; Zeiler & Fergus 2014, figure 2; Yosinski, "
    'Clune, Bengio, Lipson 2014, "How transferable are features in deep neural networks?", section 1',
    rule="A filter has a pattern if its spectrum is more concentrated than that of 99 in 100 fresh filters; with "
    f"orientation from {ORIENTED:g} on it is an edge, without it a blob; with more than {COLOURED:.0%} of its energy "
    "in differences between channels it is for colour. The three parts follow: over half have a pattern, and under a "
    "tenth before training; edges, blobs and colour are each a tenth or more; over half of the grey filters are "
    "edges, and more than of those for colour. The claim holds if all do, and in part if one does.",
    own_data=write_crops,
    weights="a checkpoint (.pth, .safetensors) whose first layer is looked at too",
    quick=Sizes(epochs=24, seeds=1),
    full=Sizes(epochs=60, seeds=3),
    measure=measure,
)
