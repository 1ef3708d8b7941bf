"""What contact sheets and drawings share: images at a size that can be seen, and text that fits."""

from contextlib import suppress
from functools import cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from striate.viz.text import printable

Pixels = NDArray[np.uint8]
Font = ImageFont.FreeTypeFont

# The light colours of the charts.
PAPER, INK, MUTED, LINE, STRONG = (255, 255, 255), (31, 38, 48), (102, 112, 126), (227, 230, 234), (0, 114, 178)


# Pillow's own font is there on every machine but knows little more than ASCII. For other letters, one of the fonts that
# systems come with is looked for, widest coverage last.
SYSTEM_FONTS = (
    "DejaVuSans.ttf",
    "LiberationSans-Regular.ttf",
    "NotoSans-Regular.ttf",
    "Arial.ttf",
    "NotoSansCJK-Regular.ttc",
    "Arial Unicode.ttf",
    "msyh.ttc",
)


def font(size: int, text: str = "") -> Font:
    """A font that has every letter of ``text``, or as many as can be had; the missing are shown as boxes."""
    if text.isascii():
        return _own(size)
    letters = frozenset(text)
    best, most = _own(size), -1
    for candidate in (_own(size), *_system(size)):
        known = sum(_knows(candidate, letter) for letter in letters)
        if known > most:
            best, most = candidate, known
        if known == len(letters):
            break
    return best


@cache
def _own(size: int) -> Font:
    return cast("Font", ImageFont.load_default(size))


@cache
def _system(size: int) -> tuple[Font, ...]:
    found: list[Font] = []
    for name in SYSTEM_FONTS:
        with suppress(OSError):
            found.append(ImageFont.truetype(name, size))
    return tuple(found)


@cache
def _knows(letters: Font, letter: str) -> bool:
    """Whether a font draws a letter as anything but its sign for a missing one."""
    missing: Any = letters.getmask("\U0010fffe")
    mask: Any = letters.getmask(letter)
    return (mask.size, bytes(mask)) != (missing.size, bytes(missing))


def one_line(text: str) -> str:
    """``text`` without line breaks and characters that cannot be shown."""
    return " ".join(printable(text).split())


def fit_text(text: str, width: float, size: int) -> str:
    """``text`` on one line, cut with an ellipsis so that it is at most ``width`` pixels wide."""
    text = one_line(text)
    letters = font(size, text)
    if letters.getlength(text) <= width:
        return text
    low, high = 0, len(text)  # the greatest number of characters that fit, by bisection
    while low < high:
        middle = (low + high + 1) // 2
        if letters.getlength(text[:middle].rstrip() + "…") <= width:
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip() + "…"


def write(
    draw: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    *,
    width: float,
    size: int,
    colour: tuple[int, int, int],
    anchor: str = "la",
) -> None:
    """Write one line of ``text``, cut to ``width`` pixels, at ``place``; ``anchor`` as Pillow has it."""
    draw.text(place, fit_text(text, width, size), fill=colour, font=font(size, one_line(text)), anchor=anchor)


def fit_image(image: Pixels, side: int) -> Image.Image:
    """``image`` in RGB with its longer side at most ``side`` pixels.

    Larger ones are scaled down with antialiasing. Small ones are magnified by the greatest whole factor that fits,
    without smoothing, so that every pixel stays a visible square.

    Args:
        image: (H, W, 1) or (H, W, 3) uint8.
        side: pixels.
    """
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).convert("RGB")
    longer = max(picture.size)
    if longer > side:
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
        return picture
    factor = side // longer
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
