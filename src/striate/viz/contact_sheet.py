"""Contact sheets: many images with their captions on one picture."""

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw

from striate.viz.canvas import INK, LINE, MUTED, PAPER, Pixels, fit_image, write

SMALL, LARGE = 112, 176  # side of a cell in pixels for small images (at most 64 pixels) and others
GAP = 12
FONT_SIZE = 13
LINE_HEIGHT = 17
WIDTH = 1280  # a sheet is about this wide at most


def contact_sheet(images: Sequence[Pixels], captions: Sequence[str] = (), *, columns: int | None = None) -> Image.Image:
    """A grid of images, row by row, each over its caption.

    Args:
        images: (H, W, 1) or (H, W, 3) uint8 each, of any sizes.
        captions: one per image, or none at all; a caption may have lines, and a line that is too long is cut.
        columns: of the grid; about a third more than rows when left out.

    Returns:
        An RGB picture.

    Raises:
        ValueError: there is no image, or another number of captions than of images.
    """
    if not images or (captions and len(captions) != len(images)):
        raise ValueError(
            f"a contact sheet takes one or more images and as many captions or none; got {len(images)} images and "
            f"{len(captions)} captions."
        )
    cell = _cell(images)
    fitting = max(1, (WIDTH - GAP) // (cell + GAP))
    columns = columns or min(len(images), fitting, math.ceil(math.sqrt(len(images) * 4 / 3)))
    rows = math.ceil(len(images) / columns)
    lines = max((caption.count("\n") + 1 for caption in captions), default=0)
    pitch = cell + (6 + LINE_HEIGHT * lines if lines else 0) + GAP
    sheet = Image.new("RGB", (GAP + columns * (cell + GAP), GAP + rows * pitch), PAPER)
    draw = ImageDraw.Draw(sheet)
    for index, image in enumerate(images):
        x, y = GAP + index % columns * (cell + GAP), GAP + index // columns * pitch
        _paste(sheet, draw, image, x, y, cell)
        for row, line in enumerate(captions[index].split("\n") if captions else ()):
            place = (x, y + cell + 5 + row * LINE_HEIGHT)
            write(draw, place, line, width=cell, size=FONT_SIZE, colour=MUTED if row else INK)
    return sheet


def comparison_sheet(
    originals: Sequence[Pixels], samples: Sequence[Sequence[Pixels]], captions: Sequence[str], *, heading: str
) -> Image.Image:
    """One row per image: the original, and beside it what became of it.

    Args:
        originals: (H, W, 1) or (H, W, 3) uint8 each, of any sizes.
        samples: for each original, any number of versions of it.
        captions: one per row, under the original.
        heading: over the samples, as in "augment=strong, seed 0".

    Returns:
        An RGB picture.

    Raises:
        ValueError: the three do not have the same number of rows, or none.
    """
    if not originals or not len(originals) == len(samples) == len(captions):
        raise ValueError(
            f"originals, samples and captions must be as many, at least one; got {len(originals)}, {len(samples)} and "
            f"{len(captions)}."
        )
    cell = _cell([*originals, *(image for row in samples for image in row)])
    head, aside = LINE_HEIGHT + 8, 2 * GAP  # the samples stand a little apart
    pitch = cell + 6 + LINE_HEIGHT + GAP
    columns = max(len(row) for row in samples)
    size = (GAP + (cell + GAP) * (columns + 1) + aside, GAP + head + pitch * len(originals))
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    start = GAP + cell + GAP + aside
    write(draw, (GAP, GAP), "original", width=cell + GAP, size=FONT_SIZE, colour=MUTED)
    write(draw, (start, GAP), heading, width=size[0] - start, size=FONT_SIZE, colour=MUTED)
    for row, (original, versions, caption) in enumerate(zip(originals, samples, captions, strict=True)):
        y = GAP + head + row * pitch
        _paste(sheet, draw, original, GAP, y, cell)
        write(draw, (GAP, y + cell + 5), caption, width=cell, size=FONT_SIZE, colour=INK)
        for column, version in enumerate(versions):
            _paste(sheet, draw, version, start + column * (cell + GAP), y, cell)
    return sheet


def _cell(images: Sequence[Pixels]) -> int:
    longest = max(max(image.shape[:2]) for image in images)
    if longest > 64:
        return LARGE
    return SMALL // longest * longest  # a whole multiple, so that a grid of small images has no margins


def _paste(sheet: Image.Image, draw: ImageDraw.ImageDraw, image: Pixels, x: int, y: int, cell: int) -> None:
    """The image in the middle of its cell, with a hairline that a white image needs on white paper."""
    picture = fit_image(image, cell)
    left, top = x + (cell - picture.width) // 2, y + (cell - picture.height) // 2
    sheet.paste(picture, (left, top))
    draw.rectangle((left - 1, top - 1, left + picture.width, top + picture.height), outline=LINE)
