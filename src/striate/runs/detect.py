"""Predicting with a detector in other ways than image by image: tiles, views, other choices of boxes, videos."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from striate.core.instances import Instances, InstanceSets
from striate.data.preprocess import Pixels
from striate.errors import UsageError
from striate.ops.tracking import Tracker
from striate.runs.model import Model, Predictions, Source, predict_each
from striate.runs.tiling import Detect, detect_augmented, detect_tiled
from striate.runs.video import detect_video, save_annotated_video, video_info
from striate.tasks.detection import Detection

VIDEO_SCHEMA = "striate.video/1"
FRAMES = 8  # of a video at once
VIEWS = (0.83, 1.0, 1.2)  # scales of test-time augmentation
STEP = 32  # their sizes are multiples of this
SUSPECTED = 300  # objects that a window or view may name


@dataclass(frozen=True, kw_only=True)
class Choice:
    """How a detector's answers are chosen where not as its model file says; None: as that says."""

    score: float | None = None  # the least that is shown, for all classes
    nms: float | None = None  # IoU above which the weaker of two boxes goes, whatever kind of suppression the file says
    soft: bool = False  # soft-NMS: the weaker of two loses score instead; not together with `nms`
    across: bool = False  # boxes of different classes compete too
    limit: int | None = None  # objects per image


def choosing(model: Model, choice: Choice) -> None:
    """Let a model choose its answers in another way from now on.

    Raises:
        UsageError: the model is no detector, or one that suppresses nothing, or the choice contradicts itself.
    """
    if choice == Choice():
        return
    task = detection_of(model, "a choice of boxes")
    found = task.detector.suppression
    if found.kind == "none" and (choice.nms is not None or choice.across or choice.soft):
        raise UsageError(
            f"{model.card.model} names each object once by itself, and suppresses nothing: leave --nms, --soft-nms and "
            "--across-classes out."
        )
    if choice.soft and choice.nms is not None:
        raise UsageError(
            f"--nms {choice.nms:g} says from which overlap on a box goes, and with --soft-nms none goes for its "
            "overlap: give one of the two."
        )
    changes: dict[str, Any] = {}
    if choice.nms is not None:
        changes |= {"kind": "hard", "iou": choice.nms}  # soft suppression would not read the IoU
    if choice.soft:
        changes["kind"] = "soft"
    if choice.across:
        changes["per_class"] = False
    if choice.limit is not None:
        changes["limit"] = choice.limit
    if choice.score is not None:
        changes["score"] = min(found.score, choice.score)
        task.thresholds = (choice.score,) * len(task.classes)
    task.detector.suppression = replace(found, **changes)


def detection_of(model: Model, what: str) -> Detection:
    """The task of a detector; raises `UsageError` where the model is none, naming what is only for detectors."""
    if not isinstance(model.task, Detection):
        raise UsageError(f"{what} is for detectors, and {model.path} is a model for {model.task.name}.")
    return model.task


def detector(model: Model, *, batch: int | None = None) -> Detect:
    """The model as a function of images, of which it sees ``batch`` at once, or as many as suit their size."""

    def detect(images: Sequence[Pixels]) -> list[Instances]:
        found = model.predict(list(images), batch=batch).annotations
        assert isinstance(found, InstanceSets)
        return list(found)

    return detect


def predict_large(
    model: Model, sources: Sequence[Source], *, tile: int | None = None, overlap: float = 0.2, views: bool = False
) -> Predictions:
    """Predict images window by window, or from several views, or both.

    Args:
        model: a detector.
        sources: as of `Model.predict`.
        tile: side of the windows in pixels; None: the image as a whole.
        overlap: what neighbouring windows share, as a part of their side.
        views: look at each image, or window, mirrored too, and at three scales where windows are larger than the
            network's input; the answers are fused.

    Raises:
        UsageError: the model is no detector, or windows that make no sense.
    """
    task = detection_of(model, "--tile" if tile is not None else "--views")
    # Every window and view says all that it suspects; what is shown is chosen from their common answer.
    shown = DetectionAnswer(thresholds=task.thresholds, limit=task.detector.suppression.limit)
    task.thresholds = None
    task.detector.suppression = replace(task.detector.suppression, limit=max(shown.limit, SUSPECTED))
    plain = detector(model)
    scales = VIEWS if views and _takes_other_sizes(model) else (1.0,)

    def seen(images: Sequence[Pixels]) -> list[Instances]:
        if not views:
            return plain(images)
        return detect_augmented(lambda scale: _at_scale(model, scale), images, scales=scales)

    def answer(image: Pixels) -> Instances:
        (found,) = seen([image]) if tile is None else detect_tiled(seen, [image], tile=tile, overlap=overlap)
        return shown(found)

    try:
        return predict_each(model, sources, answer)
    finally:
        task.thresholds = shown.thresholds
        task.detector.suppression = replace(task.detector.suppression, limit=shown.limit)


@dataclass(frozen=True, kw_only=True)
class DetectionAnswer:
    """What of many suspected objects is shown."""

    thresholds: tuple[float, ...] | None  # per class
    limit: int

    def __call__(self, objects: Instances) -> Instances:
        """The most confident objects, down to their class' threshold."""
        assert objects.scores is not None
        if self.thresholds is not None:
            objects = objects.select(objects.scores >= torch.tensor(self.thresholds)[objects.labels])
        return objects.select(slice(0, self.limit))


def _takes_other_sizes(model: Model) -> bool:
    """Whether a detector takes images of another size than it was built for."""
    height, width = model.card.preprocessing.size
    image = torch.zeros(1, model.card.channels, height + STEP, width + STEP, device=model.device)
    try:
        with torch.inference_mode():
            model.task.network(image)
    except (UsageError, RuntimeError):
        return False
    return True


def _at_scale(model: Model, scale: float) -> Detect:
    """The detector with images shown smaller or larger than it learnt them: smaller ones on a larger canvas."""
    plain = detector(model)
    if scale == 1:
        return plain
    height, width = (max(STEP, round(side * scale / STEP) * STEP) for side in model.card.preprocessing.size)
    other = Model(
        model.task,
        replace(model.card, preprocessing=replace(model.card.preprocessing, size=(height, width))),
        model.path,
        model.device,
    )
    return detector(other)


def copy_of(path: Path, out: Path) -> Path:
    """Where the annotated copy of a video lies in a folder."""
    return out / f"{path.stem}.mp4"


def predict_video(
    model: Model, path: Path, out: Path, *, track: bool = False, every: int = 1, batch: int | None = None
) -> dict[str, Any]:
    """Predict the frames of a video and write an annotated copy.

    Args:
        model: a detector.
        path: of the video.
        out: folder of the copy, which is called like the video and ends with ``.mp4``.
        track: follow the objects from frame to frame.
        every: only each so many-th frame.
        batch: frames at once; None: as many as suit their size.

    Returns:
        The ``striate.video/1`` document: every frame's time and objects, and ``id`` of those that are followed.
    """
    detection_of(model, "a video")
    info = video_info(path)
    frames: list[dict[str, Any]] = []

    def told() -> Any:
        tracker = Tracker() if track else None
        for seen in detect_video(
            detector(model, batch=batch), path, tracker=tracker, batch=batch or FRAMES, every=every
        ):
            objects = InstanceSets.of([seen.objects])
            size = seen.frame.image.shape[:2]
            row = Predictions(
                model=str(model.path), classes=model.classes, sources=(str(path),), sizes=(size,), annotations=objects
            )[0].to_json()["annotations"]
            if seen.ids is not None:
                row = [{**one, "id": number} for one, number in zip(row, seen.ids.tolist(), strict=True)]
            frames.append({"frame": seen.frame.number, "time": round(seen.frame.time, 4), "annotations": row})
            yield seen

    file = copy_of(path, out)
    written = save_annotated_video(told(), model.classes, file, rate=Fraction(info.rate) / every)
    return {
        "schema": VIDEO_SCHEMA,
        "model": str(model.path),
        "source": str(path),
        "video": str(file),
        "written": written,
        "frames": frames,
    }
