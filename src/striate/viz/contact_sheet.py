"""Contact sheets: many images with their captions on one picture."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from striate.viz.canvas import INK, LINE, MUTED, PAPER, STRONG, Pixels, fit_image, write

SMALL, LARGE = 112, 176  # side of a cell in pixels for small images (at most 64 pixels) and others
GAP = 12
FONT_SIZE = 13
LINE_HEIGHT = 17
WIDTH = 1280  # a sheet is about this wide at most
SEARCH_WIDTH = 1380  # six hits beside a query
ABSENT = (244, 245, 247)  # ground of a tile without an image


def contact_sheet(
    images: Sequence[Pixels], captions: Sequence[str] = (), *, columns: int | None = None, cell: int | None = None
) -> Image.Image:
    """A grid of images, row by row, each over its caption.

    Args:
        images: (H, W, 1) or (H, W, 3) uint8 each, of any sizes.
        captions: one per image, or none at all; a caption may have lines, and a line that is too long is cut.
        columns: of the grid; about a third more than rows when left out.
        cell: side of a cell in pixels; None: as the images need.

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
    cell = cell or _cell(images)
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
    originals: Sequence[Pixels],
    samples: Sequence[Sequence[Pixels]],
    captions: Sequence[str],
    *,
    heading: str,
    cell: int | None = None,
) -> Image.Image:
    """One row per image: the original, and beside it what became of it.

    Args:
        originals: (H, W, 1) or (H, W, 3) uint8 each, of any sizes.
        samples: for each original, any number of versions of it.
        captions: one per row, under the original.
        heading: over the samples, as in "augment=strong, seed 0".
        cell: side of a cell in pixels; None: as the images need.

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
    cell = cell or _cell([*originals, *(image for row in samples for image in row)])
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


def search_sheet(
    queries: Sequence[Pixels],
    hits: Sequence[Sequence[Pixels]],
    captions: Sequence[str],
    hit_captions: Sequence[Sequence[str]],
) -> Image.Image:
    """One row per query: the image, and beside it what was found for it, on as many lines as it takes.

    Args:
        queries: (H, W, 1) or (H, W, 3) uint8 each, of any sizes.
        hits: for each query, any number of images, the nearest first.
        captions: one per query.
        hit_captions: one per hit; a caption may have lines.

    Returns:
        An RGB picture.

    Raises:
        ValueError: there is no query, or another number of captions than of images.
    """
    fits = len(queries) == len(hits) == len(captions) == len(hit_captions) and all(
        len(row) == len(texts) for row, texts in zip(hits, hit_captions, strict=False)
    )
    if not queries or not fits:
        raise ValueError("a search sheet takes one or more queries, and a caption for each of them and of their hits.")
    cell = _cell([*queries, *(image for row in hits for image in row)])
    lines = max((caption.count("\n") + 1 for row in hit_captions for caption in row), default=1)
    aside = 2 * GAP  # the hits stand a little apart
    fitting = max(1, (SEARCH_WIDTH - 2 * GAP - aside - cell) // (cell + GAP))
    most = max((len(row) for row in hits), default=0)
    # On two lines as evenly as can be, rather than one full line and a rest.
    columns = max(1, math.ceil(most / math.ceil(most / fitting))) if most else 1
    pitch = cell + 6 + LINE_HEIGHT * lines + GAP
    heights = [max(1, math.ceil(len(row) / columns)) * pitch for row in hits]
    between = 2 * GAP
    size = (2 * GAP + cell + aside + columns * (cell + GAP), GAP + sum(heights) + between * (len(queries) - 1))
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    top = GAP
    for query, row, caption, texts, height in zip(queries, hits, captions, hit_captions, heights, strict=True):
        if top > GAP:
            draw.line((GAP, top - between // 2 - GAP // 2, size[0] - GAP, top - between // 2 - GAP // 2), fill=LINE)
        _paste(sheet, draw, query, GAP, top, cell)
        draw.rectangle((GAP - 3, top - 3, GAP + cell + 2, top + cell + 2), outline=STRONG, width=2)
        write(draw, (GAP, top + cell + 5), caption, width=cell, size=FONT_SIZE, colour=STRONG)
        for index, (image, text) in enumerate(zip(row, texts, strict=True)):
            x = 2 * GAP + cell + aside + index % columns * (cell + GAP)
            y = top + index // columns * pitch
            _paste(sheet, draw, image, x, y, cell)
            for number, line in enumerate(text.split("\n")):
                place = (x, y + cell + 5 + number * LINE_HEIGHT)
                write(draw, place, line, width=cell, size=FONT_SIZE, colour=MUTED if number else INK)
        top += height + between
    return sheet


def absent() -> Pixels:
    """What stands for an image that is not there any more: (H, W, 3) uint8."""
    tile = Image.new("RGB", (LARGE, LARGE), ABSENT)
    draw = ImageDraw.Draw(tile)
    draw.line((0, 0, LARGE, LARGE), fill=LINE, width=2)
    draw.line((0, LARGE, LARGE, 0), fill=LINE, width=2)
    middle = LARGE // 2
    draw.rectangle((30, middle - 14, LARGE - 30, middle + 14), fill=ABSENT)
    write(draw, (middle, middle), "not there", width=LARGE, size=FONT_SIZE, colour=MUTED, anchor="mm")
    return np.asarray(tile)


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
