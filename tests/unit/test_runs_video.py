import builtins
import struct
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from striate.core.instances import Instances
from striate.errors import DataError, UsageError
from striate.ops.tracking import Tracker
from striate.runs.tiling import Pixels
from striate.runs.video import (
    detect_video,
    is_video,
    save_annotated_video,
    video_frames,
    video_info,
    write_video,
)

HEIGHT, WIDTH, FRAMES = 96, 160, 20


def picture(number: int) -> Pixels:
    """A bright square on its way from left to right, and one from right to left below it."""
    image = np.full((HEIGHT, WIDTH, 3), 30, dtype=np.uint8)
    x = 4 + 4 * number
    image[10:34, x : x + 24] = 240
    image[56:80, WIDTH - x - 24 : WIDTH - x] = 240
    return image


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    file = tmp_path / "clip.mp4"
    assert write_video((picture(number) for number in range(FRAMES)), file, rate=Fraction(10)) == FRAMES
    return file


def bright(images: Sequence[Pixels]) -> list[Instances]:
    found: list[Instances] = []
    for image in images:
        boxes: list[list[float]] = []
        for first, last in ((0, 45), (45, HEIGHT)):
            rows, columns = np.nonzero(image[first:last, :, 0] > 128)
            boxes.append([columns.min(), first + rows.min(), columns.max() + 1, first + rows.max() + 1])
        found.append(
            Instances(boxes=torch.tensor(boxes, dtype=torch.float32), labels=torch.tensor([0, 0]), scores=torch.ones(2))
        )
    return found


def test_frames_come_back_in_order(clip: Path):
    frames = list(video_frames(clip))
    assert [frame.number for frame in frames] == list(range(FRAMES))
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(FRAMES) / 10, atol=1e-6)
    for frame in frames:
        assert np.abs(frame.image.astype(int) - picture(frame.number)).mean() < 6  # the encoder loses a little
    assert [frame.number for frame in video_frames(clip, every=7)] == [0, 7, 14]
    info = video_info(clip)
    assert (info.rate, info.frames) == (10, FRAMES)
    assert [path.name for path in clip.parent.iterdir()] == ["clip.mp4"]  # nothing temporary is left


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_video_that_was_held_otherwise_is_turned_upright(clip: Path, turn: int):
    # ISO/IEC 14496-12, 8.3.2: the track header holds a matrix by which the picture is turned clockwise for display.
    data = bytearray(clip.read_bytes())
    place = data.index(b"tkhd") + 4 + 40  # version and flags, times, number, layer, volume: 40 bytes before it
    one = 0x10000
    matrix = {
        90: (0, one, 0, -one, 0, 0, HEIGHT * one, 0),
        180: (-one, 0, 0, 0, -one, 0, WIDTH * one, HEIGHT * one),
        270: (0, -one, 0, one, 0, 0, 0, WIDTH * one),
    }[turn]
    data[place : place + 36] = struct.pack(">9i", *matrix, 0x40000000)
    clip.write_bytes(data)
    first = next(iter(video_frames(clip))).image
    upright = np.rot90(picture(0), -turn // 90)
    assert first.shape == upright.shape
    assert np.abs(first.astype(int) - upright).mean() < 6


def test_objects_are_found_and_followed(clip: Path):
    handed: list[int] = []

    def counting(images: Sequence[Pixels]) -> list[Instances]:
        handed.append(len(images))
        return bright(images)

    seen = list(detect_video(counting, clip, tracker=Tracker(), batch=8))
    assert handed == [8, 8, 4]
    assert [one.ids.tolist() for one in seen if one.ids is not None] == [[1, 2]] * FRAMES
    for one in seen:
        x = 4 + 4 * one.frame.number
        expected = [[x, 10, x + 24, 34], [WIDTH - x - 24, 56, WIDTH - x, 80]]
        np.testing.assert_allclose(one.objects.boxes, expected, atol=1)
    assert all(one.ids is None for one in detect_video(bright, clip))


def test_an_annotated_copy_is_written(clip: Path, tmp_path: Path):
    out = tmp_path / "new" / "out.mp4"
    seen = detect_video(bright, clip, tracker=Tracker())
    assert save_annotated_video(seen, ("thing",), out, rate=video_info(clip).rate) == FRAMES
    frames = list(video_frames(out))
    assert len(frames) == FRAMES
    assert frames[0].image.shape == (3 * HEIGHT, 3 * WIDTH, 3)  # small frames are magnified, as pictures are
    with pytest.raises(UsageError, match="is there already"):
        save_annotated_video([], ("thing",), out, rate=Fraction(10))
    with pytest.raises(DataError, match="no frame"):
        save_annotated_video([], ("thing",), tmp_path / "none.mp4", rate=Fraction(10))


def test_odd_sides_lose_a_pixel(tmp_path: Path):
    write_video([np.full((33, 47, 3), 99, dtype=np.uint8)] * 2, tmp_path / "odd.mp4", rate=Fraction(5))
    assert next(iter(video_frames(tmp_path / "odd.mp4"))).image.shape == (32, 46, 3)


def test_what_is_no_video_is_refused(clip: Path, tmp_path: Path):
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    for path, message in ((tmp_path / "none.mp4", "is not there"), (text, "cannot be read as a video")):
        with pytest.raises(DataError, match=message):
            list(video_frames(path))
    clip.write_bytes(clip.read_bytes()[:1500])
    with pytest.raises(DataError, match=r"clip\.mp4"):
        list(video_frames(clip))


def test_without_pyav_it_is_said_how_to_get_it(clip: Path, monkeypatch: pytest.MonkeyPatch):
    original = builtins.__import__

    def without(name: str, *rest: object, **named: object):
        if name == "av":
            raise ImportError
        return original(name, *rest, **named)  # pyright: ignore[reportArgumentType]

    monkeypatch.delitem(sys.modules, "av", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=r"pip install 'striate\[video\]'"):
        list(video_frames(clip))


def test_videos_are_known_by_their_names():
    assert is_video("a/B.MP4")
    assert not is_video("a.jpg")
