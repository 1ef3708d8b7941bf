"""Annotated pictures of predictions."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from striate.core.annotations import Classification
from striate.core.instances import Skeleton
from striate.data.preprocess import Pixels
from striate.files import replacing
from striate.runs.model import Prediction, Predictions, Source, name_of, pixels_of
from striate.runs.writing import stems
from striate.viz.draw import draw_classification
from striate.viz.instances import draw_instances


def save_annotated(found: Predictions, inputs: Sequence[Source], out: Path) -> list[Path]:
    """Draw every prediction onto its image.

    Args:
        found: predictions of ``inputs``.
        inputs: what was predicted, in the same order.
        out: folder for the PNG files; ``a.jpg`` becomes ``a.png``, with a number where that is taken.

    Returns:
        The files, in the order of the predictions.
    """
    failed = {item.source for item in found.failed}
    named = [(name_of(number, source), source) for number, source in enumerate(inputs)]
    readable = [(name, source) for name, source in named if name not in failed]
    files: list[Path] = []
    for (name, source), stem, prediction in zip(readable, stems(found.sources), found, strict=True):
        file = out / f"{stem}.png"
        picture = _drawn(pixels_of(source, name), prediction, found.skeleton)
        with replacing(file) as temporary:
            picture.save(temporary, "PNG")
        files.append(file)
    return files


def _drawn(image: Pixels, prediction: Prediction, skeleton: Skeleton | None) -> Image.Image:
    annotation = prediction.annotation
    if isinstance(annotation, Classification):
        return draw_classification(image, annotation, prediction.classes)
    return draw_instances(image, annotation, prediction.classes, skeleton=skeleton)
