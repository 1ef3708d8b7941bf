"""Localization with a window that slides over an image at several scales (Sermanet et al. 2014, "OverFeat").

The network was trained on images with one object each. Its heads are convolutions, so that a larger image gives an
answer for every window at once (section 3.5); the answers of all windows and scales are merged (section 4.3).
"""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from striate.core.instances import Instances
from striate.data.preprocess import Pixels
from striate.errors import UsageError
from striate.models.regressor import Regressor
from striate.ops.accumulating import accumulate
from striate.ops.boxes import clip
from striate.runs.model import Model, Predictions, Source, predict_each
from striate.tasks.localization import Localization

TOP = 3  # windows are kept whose class is among the best of their scale (the paper's k, section 4.3, is 1 or 5)


def predict_sliding(model: Model, sources: Sequence[Source], *, scales: Sequence[float]) -> Predictions:
    """Predict images with a sliding window.

    Args:
        model: for localization of one object.
        sources: as of `Model.predict`.
        scales: how many windows the shorter side of the image is long; 1: the window just covers it.

    Returns:
        The objects found in each image, most confident first; the score is a share of all windows' confidence.

    Raises:
        UsageError: another kind of model, or a scale below 1.
    """
    task = model.task
    if not isinstance(task, Localization) or task.objects != 1:
        raise UsageError(f"--slide is for localization of one object, and {model.path} is a model for {task.name}.")
    if not scales or min(scales) < 1:
        raise UsageError(f"--slide takes scales of 1 or more, as in 1,1.5,2; got {','.join(map(str, scales))}.")
    return predict_each(model, sources, lambda image: _located(model, task, image, scales))


@torch.inference_mode()
def _located(model: Model, task: Localization, image: Pixels, scales: Sequence[float]) -> Instances:
    boxes: list[torch.Tensor] = []
    scores: list[torch.Tensor] = []
    labels: list[torch.Tensor] = []
    for scale in scales:
        pixels, factors = _resized(model, image, scale)
        normal = torch.from_numpy(model.card.preprocessing.normalise(pixels[None])).to(model.device)
        where, probability = task.windows(normal)  # (h w, 4) in pixels of the input, (h w, K)
        best = probability.amax(0).topk(min(TOP, probability.shape[1])).indices
        confidence, label = probability[:, best].max(1)
        boxes.append(where.cpu() / torch.tensor(factors).repeat(2))
        scores.append(confidence.cpu())
        labels.append(best[label].cpu())
    merged = accumulate(torch.cat(boxes), torch.cat(scores), torch.cat(labels))
    size = (image.shape[0], image.shape[1])
    return Instances(boxes=clip(merged.boxes, size), scores=merged.scores, labels=merged.labels)


def _resized(model: Model, image: Pixels, scale: float) -> tuple[Pixels, tuple[float, float]]:
    """The image so large that its shorter side is ``scale`` windows long, and by what x and y were multiplied."""
    preprocessing, network = model.card.preprocessing, model.task.network
    assert isinstance(network, Regressor)
    height, width = image.shape[:2]
    factor = scale * max(network.window[0] / height, network.window[1] / width)
    size = (max(network.window[0], round(height * factor)), max(network.window[1], round(width * factor)))
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    picture = picture.convert("L" if preprocessing.channels == 1 else "RGB")
    array = np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BILINEAR))
    return (array[:, :, None] if array.ndim == 2 else array), (size[1] / width, size[0] / height)
