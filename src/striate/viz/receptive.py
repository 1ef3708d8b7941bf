"""Receptive fields drawn over an image: what a unit could see as a rectangle, what moves it as heat."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from striate.viz.canvas import INK, MUTED, PAPER, STRONG, Pixels, fit_image, write

PANEL = 320  # pixels of a panel's longer side, at least; larger images keep their size up to LARGEST
LARGEST = 480
ROW = 1600  # width of the picture at most, while a panel fits
GAP = 20
SIZE = 14
LINE = 19
COLD, HOT = (213, 94, 0), (255, 240, 90)  # of weak and of strong influence
OPAQUE = 0.9  # of the strongest heat


@dataclass(frozen=True, kw_only=True)
class SeenField:
    """The receptive field of one unit, theoretical and effective."""

    stage: str
    influence: NDArray[np.float32]  # (H, W), 0 to 1, of the image's size
    effective: float  # size in pixels
    theoretical: tuple[int, int] | None  # height, width in pixels; None where it is not known
    box: tuple[int, int, int, int] | None  # of the theoretical field: left, top, right, bottom; may leave the image
    weights: str  # what the network was measured with, as in "fresh weights, seed 0"


def draw_fields(image: Pixels, fields: Sequence[SeenField]) -> Image.Image:
    """The fields of one or more stages, each over ``image`` in grey, side by side.

    The rectangle is the theoretical field, cut off at the image's edge; the heat is the square root of the influence,
    so that the weak outskirts are seen too. Each panel's caption states both sizes and the weights.

    Args:
        image: (H, W, 1) or (H, W, 3) uint8, as the network sees it: resized and cropped, but not normalised.
        fields: of units of a network for images of this size.

    Returns:
        An RGB picture.

    Raises:
        ValueError: when an influence is not of the image's size.
    """
    panels = [_panel(image, field) for field in fields]
    width, height = panels[0].size
    columns = max(1, min(len(panels), (ROW - GAP) // (width + GAP)))
    rows = -(-len(panels) // columns)
    tall = height + GAP // 2 + LINE * max(len(caption(field)) for field in fields)
    picture = Image.new("RGB", (GAP + columns * (width + GAP), GAP + rows * (tall + GAP)), PAPER)
    draw = ImageDraw.Draw(picture)
    for index, (panel, field) in enumerate(zip(panels, fields, strict=True)):
        x, y = GAP + index % columns * (width + GAP), GAP + index // columns * (tall + GAP)
        picture.paste(panel, (x, y))
        for line, words in enumerate(caption(field)):
            place = (x, y + height + GAP // 2 + LINE * line)
            write(draw, place, words, width=width, size=SIZE, colour=MUTED if line else INK)
    return picture


def caption(field: SeenField) -> tuple[str, ...]:
    """The lines under a panel."""
    effective = f"effective {field.effective:.0f}x{field.effective:.0f}"
    if field.theoretical is None or field.box is None:
        return field.stage, "theoretical field not known", effective, field.weights
    height, width = field.theoretical
    left, top, right, bottom = field.box
    inside = left >= 0 and top >= 0 and right <= field.influence.shape[1] and bottom <= field.influence.shape[0]
    beyond = "" if inside else ", clipped"
    return field.stage, f"theoretical {height}x{width}{beyond}", effective, field.weights


def _panel(image: Pixels, field: SeenField) -> Image.Image:
    if field.influence.shape != image.shape[:2]:
        raise ValueError(f"the influence is {field.influence.shape}, but the image is {image.shape[:2]}")
    base = fit_image(image, min(max(PANEL, *image.shape[:2]), LARGEST))
    colours = np.asarray(base, dtype=np.float32)
    faded = colours.mean(2, keepdims=True)  # grey, so that heat is seen on any image
    smooth = Image.Resampling.NEAREST if max(image.shape[:2]) * 4 <= LARGEST else Image.Resampling.BILINEAR
    influence = np.asarray(Image.fromarray(field.influence).resize(base.size, smooth))[:, :, None]
    heat = np.sqrt(influence.clip(0, 1))
    colour = np.asarray(COLD) + heat * (np.asarray(HOT, dtype=np.float32) - np.asarray(COLD))
    mixed = faded + OPAQUE * heat * (colour - faded)
    panel = Image.fromarray(mixed.round().clip(0, 255).astype(np.uint8))
    if field.box is not None:
        scale_x, scale_y = base.width / image.shape[1], base.height / image.shape[0]
        left, right = (min(max(edge, 0), image.shape[1]) * scale_x for edge in (field.box[0], field.box[2]))
        top, bottom = (min(max(edge, 0), image.shape[0]) * scale_y for edge in (field.box[1], field.box[3]))
        if right > left and bottom > top:
            draw = ImageDraw.Draw(panel)
            frame = (round(left), round(top), max(round(right) - 1, round(left)), max(round(bottom) - 1, round(top)))
            draw.rectangle(frame, outline=PAPER, width=4)
            draw.rectangle(frame, outline=STRONG, width=2)
    return panel
