"""Predictions drawn onto their images."""

from collections.abc import Sequence

from PIL import Image, ImageDraw

from striate.core.annotations import Classification
from striate.viz.canvas import INK, LINE, MUTED, PAPER, STRONG, Pixels, fit_image, font, write

BARS = 3
SMALL = 256  # images whose longer side is at most half of this are magnified up to it


def draw_classification(image: Pixels, prediction: Classification, names: Sequence[str]) -> Image.Image:
    """The image over a panel with the predicted class, its score and the three best scores as bars.

    The panel stands under the image and hides nothing of it. Its letters grow with the image.

    Args:
        image: (H, W, 1) or (H, W, 3) uint8.
        prediction: of this image; without ``scores`` there are no bars.
        names: K class names.

    Returns:
        An RGB picture of the image's own size, or magnified by a whole factor where it is small, plus the panel.
    """
    picture = fit_image(image, max(SMALL, *image.shape[:2]))
    width = max(SMALL, picture.width)
    size = max(13, round(min(width, 3 * picture.height) / 28))
    pad, row = size, round(size * 1.5)
    large = round(size * 1.4)

    best: list[tuple[str, float]] = []
    if prediction.scores is not None:
        order: list[int] = prediction.scores.sort(descending=True, stable=True).indices[:BARS].tolist()
        best = [(names[label], float(prediction.scores[label])) for label in order]
    headline = round(size * 2)
    panel = pad + headline + (len(best) * row + pad // 2 if best else 0) + pad // 2
    drawn = Image.new("RGB", (width, picture.height + panel), PAPER)
    drawn.paste(picture, ((width - picture.width) // 2, 0))
    draw = ImageDraw.Draw(drawn)

    y = picture.height + pad
    score = "" if prediction.score is None else f"{prediction.score:.1%}"
    room = width - 3 * pad - font(large).getlength(score)
    write(draw, (pad, y), names[prediction.label], width=room, size=large, colour=INK)
    write(draw, (width - pad, y), score, width=width, size=large, colour=INK, anchor="ra")
    y += headline + pad // 2
    left = pad + 0.4 * (width - 2 * pad)
    room = width - 2 * pad - font(size).getlength("100.0%") - left
    for name, share in best:
        middle = y + row / 2
        top, bottom = middle - size * 0.35, middle + size * 0.35
        write(draw, (pad, middle), name, width=left - 2 * pad, size=size, colour=MUTED, anchor="lm")
        draw.rectangle((left, top, left + room, bottom), fill=LINE)
        if round(room * share) > 0:
            draw.rectangle((left, top, left + room * share, bottom), fill=STRONG)
        write(draw, (width - pad, middle), f"{share:.1%}", width=width, size=size, colour=MUTED, anchor="rm")
        y += row
    return drawn
