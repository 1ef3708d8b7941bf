"""Annotated pictures of predictions."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from striate.core.annotations import Classification
from striate.core.instances import Skeleton
from striate.data.preprocess import Pixels
from striate.files import replacing
from striate.runs.model import Prediction, Predictions, Source, pixels_of
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
    readable = iter(found)
    failed = {item.source for item in found.failed}
    taken: set[str] = set()
    files: list[Path] = []
    for number, source in enumerate(inputs):
        name = str(source) if isinstance(source, str | Path) else f"image {number}"
        if name in failed:
            continue
        prediction = next(readable)
        file = out / f"{_free(Path(name).stem, taken)}.png"
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


def _free(stem: str, taken: set[str]) -> str:
    name, number = stem, 2
    while name in taken:
        name, number = f"{stem}-{number}", number + 1
    taken.add(name)
    return name
