"""The effective receptive field: how much each pixel of the image in fact moves a unit, measured by gradient.

Luo, Li, Urtasun, Zemel: "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks", NIPS 2016.
The gradient that enters at the centre of a map is random normal, one number per channel, and is zero elsewhere; what
arrives at the image is averaged, in magnitude, over several draws (and over the images, where there are several). The
field's size is theirs too (section 4): the square root of the number of pixels above 1 - 95.45% of the greatest.

What differs: the paper compares with the pixel at the centre, we with the strongest pixel, for pooling and what a
trained network has learnt may move the peak. Networks are measured as in evaluation. Gates (squeeze and excitation)
let a little gradient out of the theoretical field, which leaves them out (see `receptive_field`).

Letters: B images, C channels, H height, W width.
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from striate.analysis.inspection import InspectedStage, Inspection
from striate.analysis.receptive_field import ReceptiveField
from striate.errors import UsageError, did_you_mean
from striate.models.contract import Classifier

THRESHOLD = 1 - 0.9545  # section 4: two standard deviations of a normal distribution hold 95.45% of it
DRAWS = 20


@dataclass(frozen=True, kw_only=True)
class EffectiveField:
    """What the centre unit of one stage's map sees of the image, as it is measured and as it could be."""

    stage: str
    unit: tuple[int, int]  # row, column of the unit on the map
    influence: NDArray[np.float32]  # (H, W) mean magnitude of the gradient, 1 at its greatest; zeros where none arrives
    size: float  # pixels: square root of the area above the threshold
    theoretical: ReceptiveField | None  # None where it is not known
    box: tuple[int, int, int, int] | None  # of the theoretical field: left, top, right, bottom, may lie over the edge

    @property
    def share(self) -> float | None:
        """The effective size over the theoretical one, of what lies on the image."""
        if self.box is None:
            return None
        left, top, right, bottom = self.box
        height, width = self.influence.shape
        seen = max(min(right, width) - max(left, 0), 0) * max(min(bottom, height) - max(top, 0), 0)
        return self.size / seen**0.5 if seen else None


def effective_field(
    network: Classifier,
    inspection: Inspection,
    stage: str,
    images: Tensor,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> EffectiveField:
    """Measure the effective receptive field of the centre unit of a stage.

    Args:
        network: with weights; left as it is.
        inspection: of ``network`` for images of this size, from which the theoretical field is taken.
        stage: name of one of the backbone's.
        images: (C, H, W) or (B, C, H, W) float32, preprocessed; a person's own, or `noise`.
        draws: of the random gradient, for every batch of images.
        seed: of the draws.

    Raises:
        UsageError: for a stage that the backbone does not have, for images of another size than
            those of ``inspection``, for no draws, and for a network on the meta device.
    """
    batch = images.unsqueeze(0) if images.dim() == 3 else images
    names = [found.name for found in inspection.stages]
    if stage not in names:
        raise UsageError(
            f"{inspection.model} has no stage {stage!r}.{did_you_mean(stage, names)} Its stages: {', '.join(names)}."
        )
    if tuple(batch.shape[1:]) != inspection.input:
        raise UsageError(
            f"the images are {tuple(batch.shape[1:])} (channels, height, width), but {inspection.model} was inspected "
            f"for {inspection.input}; inspect it for the images' size, or resize them."
        )
    if draws < 1:
        raise UsageError(f"the number of draws is {draws}; it must be 1 or more.")
    device = next((parameter.device for parameter in network.parameters()), batch.device)
    if device.type == "meta":
        raise UsageError(f"{inspection.model} was built without numbers (meta device); a gradient needs its weights.")
    index = names.index(stage)
    found = inspection.stages[index]
    with _evaluating(network), torch.enable_grad():
        pixels = batch.detach().to(device, copy=True).requires_grad_()
        features = network.backbone(pixels)[index]
        influence, unit = _influence(features, pixels, draws, seed)
    peak = float(influence.max())
    if peak > 0:
        influence = influence / peak
    return EffectiveField(
        stage=stage,
        unit=unit,
        influence=influence.numpy().astype(np.float32),
        size=float((influence > THRESHOLD).sum()) ** 0.5,
        theoretical=found.receptive_field,
        box=_box(found, unit),
    )


def noise(images: tuple[int, int, int], *, count: int = 4, seed: int = 0) -> Tensor:
    """Random normal images, as the paper uses beside real ones.

    Args:
        images: C, H, W.
        count: B.
        seed: of the numbers.

    Returns:
        (B, C, H, W) float32 of mean 0 and variance 1.
    """
    return torch.randn((count, *images), generator=torch.Generator().manual_seed(seed))


def _influence(features: Tensor, pixels: Tensor, draws: int, seed: int) -> tuple[Tensor, tuple[int, int]]:
    """(H, W) float64 mean magnitude over images, draws and the images' channels; and the unit."""
    maps = features if features.dim() == 4 else features.reshape(*features.shape[:2], 1, -1)
    row, column = maps.shape[2] // 2, maps.shape[3] // 2
    centre = maps[:, :, row, column]
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(pixels.shape[2:], dtype=torch.float64)
    for draw in range(draws):
        incoming = torch.randn(centre.shape, generator=generator).to(centre)
        (gradient,) = torch.autograd.grad(centre, pixels, incoming, retain_graph=draw + 1 < draws)
        total += gradient.abs().sum((0, 1)).double().cpu()
    return total, (row, column)


def _box(stage: InspectedStage, unit: tuple[int, int]) -> tuple[int, int, int, int] | None:
    field = stage.receptive_field
    if field is None:
        return None
    low = [field.offset[axis] + field.jump[axis] * unit[axis] - (field.size[axis] - 1) / 2 for axis in (0, 1)]
    top, left = (round(edge) for edge in low)
    return (left, top, left + field.size[1], top + field.size[0])


@contextmanager
def _evaluating(network: Classifier) -> Generator[None]:
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


# ---- against sizes ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SizesComparison:
    """A stage's field beside the sizes of what it has to see."""

    stage: str
    count: int
    effective: float  # size in pixels
    effective_fits: float  # share whose height and width both fit into the effective field, 0 to 1
    effective_ratio: float  # median of object size over field size, sizes being square roots of areas
    theoretical: tuple[int, int] | None  # height, width; None, like the two below, where it is not known
    theoretical_fits: float | None
    theoretical_ratio: float | None

    @property
    def sentence(self) -> str:
        """For people."""
        side = f"{self.effective:.0f}"
        told = (
            f"{self.stage}: {self.effective_fits:.0%} of {self.count:,} sizes fit into the effective field of "
            f"{side}x{side} pixels, and their median is {self.effective_ratio:.2f} of its side"
        )
        if self.theoretical is None or self.theoretical_fits is None or self.theoretical_ratio is None:
            return told + "."
        height, width = self.theoretical
        return (
            f"{told}; into the theoretical field of {height}x{width} fit {self.theoretical_fits:.0%}, "
            f"and their median is {self.theoretical_ratio:.2f} of its side."
        )


def field_against_sizes(field: EffectiveField, sizes: NDArray[np.floating] | NDArray[np.integer]) -> SizesComparison:
    """Whether images or objects fit into a stage's field.

    Args:
        field: as measured.
        sizes: (N, 2) heights and widths in pixels of the image as the network gets it, after resizing.

    Raises:
        UsageError: for an array of another shape, an empty one, or sizes that are not positive numbers.
    """
    if sizes.ndim != 2 or sizes.shape[1] != 2 or not len(sizes):
        raise UsageError(f"sizes have the shape {sizes.shape}; expected (N, 2), a height and a width for each.")
    if not (np.isfinite(sizes) & (sizes > 0)).all():
        raise UsageError("every size must be a positive number of pixels.")
    roots = np.sqrt(sizes.astype(np.float64).prod(1))
    seen = None if field.theoretical is None else field.theoretical.size
    known = seen is not None and min(seen) > 0
    return SizesComparison(
        stage=field.stage,
        count=len(sizes),
        effective=field.size,
        effective_fits=float((sizes <= field.size).all(1).mean()),
        effective_ratio=float(np.median(roots)) / field.size if field.size else float("inf"),
        theoretical=seen if known else None,
        theoretical_fits=float((sizes <= np.asarray(seen)).all(1).mean()) if known else None,
        theoretical_ratio=float(np.median(roots)) / float(np.prod(np.asarray(seen))) ** 0.5 if known else None,
    )
