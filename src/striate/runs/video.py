"""Video files: their frames, what a detector finds in them, and annotated copies. Read and written through PyAV."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from striate.core.instances import Instances, Skeleton
from striate.errors import DataError, UsageError
from striate.files import replacing
from striate.ops.tracking import Tracker
from striate.runs.tiling import Detect
from striate.viz.instances import draw_instances

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"})
ENCODERS = ("libx264", "libopenh264", "mpeg4")  # the first that PyAV was built with
RATE = Fraction(25)  # frames per second of a file that does not say


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What a file says of itself."""

    rate: Fraction  # frames per second, on average
    frames: int | None  # None where it does not say


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """One picture of a video."""

    number: int  # from 0
    time: float  # seconds from the beginning
    image: NDArray[np.uint8]  # (H, W, 3), upright


@dataclass(frozen=True, kw_only=True, eq=False)
class SeenFrame:
    """A frame with what was found in it."""

    frame: Frame
    objects: Instances  # in its pixels; with a tracker, those that are followed
    ids: Tensor | None  # (N,) int64 of the objects that are followed; None without a tracker


def is_video(path: str | os.PathLike[str]) -> bool:
    """Whether a file is called like a video."""
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


def video_info(path: str | os.PathLike[str]) -> VideoInfo:
    """What a file says of itself; raises as `video_frames`."""
    with _opened(Path(path)) as container:
        stream = container.streams.video[0]
        return VideoInfo(rate=Fraction(stream.average_rate or RATE), frames=stream.frames or None)


def video_frames(path: str | os.PathLike[str], *, every: int = 1) -> Iterator[Frame]:
    """The frames of a video in order, turned upright where the file says how it was held.

    Args:
        path: of the file.
        every: only each so many-th frame.

    Raises:
        UsageError: PyAV is not installed.
        DataError: there is no such file, it holds no video, or it is damaged; what could be read has been given then.
    """
    where = Path(path)
    number = 0
    with _opened(where) as container:
        try:
            for frame in container.decode(video=0):
                if number % every == 0:
                    image = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
                    yield Frame(number=number, time=float(frame.time or 0.0), image=np.ascontiguousarray(image))
                number += 1
        except _av().error.FFmpegError as error:
            raise DataError(
                f"{where} is damaged after {number} frames ({error.strerror}): convert it anew, or cut it off there."
            ) from error
    if not number:
        raise DataError(f"{where} holds no frame that can be read.")


def detect_video(
    detect: Detect,
    path: str | os.PathLike[str],
    *,
    tracker: Tracker | None = None,
    batch: int = 8,
    every: int = 1,
) -> Iterator[SeenFrame]:
    """Detect in the frames of a video; no more than a batch of them is held at a time.

    Args:
        detect: the detector.
        path: of the file.
        tracker: follows the objects; a new one for each video.
        batch: frames that are handed to the detector at once.
        every: only each so many-th frame.

    Raises:
        UsageError, DataError: as `video_frames`.
    """
    frames = video_frames(path, every=every)
    while chunk := list(islice(frames, batch)):
        for frame, objects in zip(chunk, detect([frame.image for frame in chunk]), strict=True):
            if tracker is None:
                yield SeenFrame(frame=frame, objects=objects, ids=None)
            else:
                tracked = tracker.update(objects)
                yield SeenFrame(frame=frame, objects=tracked.objects, ids=tracked.ids)


def save_annotated_video(
    seen: Iterable[SeenFrame], classes: tuple[str, ...], file: Path, *, rate: Fraction, skeleton: Skeleton | None = None
) -> int:
    """Write the frames with what was found in them as MP4, without sound.

    Frames stand equally long, whatever the video's own times were. A side that is odd loses a pixel, since the
    format takes only even ones.

    Args:
        seen: as from `detect_video`.
        classes: class names.
        file: with the suffix ``.mp4``.
        rate: frames per second: that of the video (`video_info`), over ``every``.
        skeleton: the keypoints' lines.

    Returns:
        How many frames were written.

    Raises:
        UsageError: PyAV is not installed, or ``file`` is there already.
        DataError: there is no frame.
    """
    pictures = (
        np.asarray(
            draw_instances(
                one.frame.image,
                one.objects,
                classes,
                skeleton=skeleton,
                ids=None if one.ids is None else one.ids.tolist(),
            )
        )
        for one in seen
    )
    return write_video(pictures, file, rate=rate)


def check_new(file: Path) -> None:
    """Raise `UsageError` where there is such a file already."""
    if file.exists():
        raise UsageError(f"{file} is there already, and nothing is written over: name another file, or remove it.")


def write_video(pictures: Iterable[NDArray[np.uint8]], file: Path, *, rate: Fraction) -> int:
    """Write (H, W, 3) pictures of one size as MP4; see `save_annotated_video`."""
    av = _av()
    check_new(file)
    rest = iter(pictures)
    first = next(rest, None)
    if first is None:
        raise DataError(f"there is no frame to write to {file}.")
    height, width = (max(2, side // 2 * 2) for side in first.shape[:2])
    count = 0
    with replacing(file) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        encoder = next(name for name in ENCODERS if name in av.codecs_available)
        stream = container.add_stream(encoder, rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for picture in chain([first], rest):
            even = np.zeros((height, width, 3), dtype=np.uint8)
            part = picture[:height, :width]
            even[: part.shape[0], : part.shape[1]] = part
            container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
            count += 1
        container.mux(stream.encode(None))
    return count


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise UsageError("video files need PyAV, which is not installed: pip install 'striate[video]'.") from error
    return av


def _opened(path: Path) -> Any:
    av = _av()
    if not path.is_file():
        raise DataError(f"{path} is not there.")
    try:
        container = av.open(str(path))
    except av.error.FFmpegError as error:
        raise DataError(f"{path} cannot be read as a video: {error.strerror}.") from error
    if not container.streams.video:
        container.close()
        raise DataError(f"{path} holds no video.")
    return container
