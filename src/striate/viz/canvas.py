"""What contact sheets and drawings share: images at a size that can be seen, and text that fits."""

from functools import cache
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFont

from striate.viz.text import printable

Pixels = NDArray[np.uint8]
Font = ImageFont.FreeTypeFont

# The light colours of the charts.
PAPER, INK, MUTED, LINE, STRONG = (255, 255, 255), (31, 38, 48), (102, 112, 126), (227, 230, 234), (0, 114, 178)


@cache
def font(size: int) -> Font:
    """Pillow's own font, which is there on every machine.

    It knows Latin letters; others are shown as boxes.
    """
    return cast("Font", ImageFont.load_default(size))


def fit_text(text: str, width: float, letters: Font) -> str:
    """``text`` on one line, cut with an ellipsis so that it is at most ``width`` pixels wide."""
    text = " ".join(printable(text).split())
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
