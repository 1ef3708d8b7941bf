"""Image files: from a path to pixels, with every way in which that can fail named.

Decoding is Pillow's, restricted to the formats of `FORMATS`; a file is read by its content, whatever its suffix says.
What comes out is uint8 with one channel (grey) or three (RGB):

- 1-bit, grey, grey with alpha and a palette of greys stay one channel; any other palette, CMYK, YCbCr and LAB become
  RGB; colour profiles are not applied.
- 16-bit grey is scaled to 8 bits by 1/257, so that white stays white; 16-bit colour loses its low byte.
- Transparent pixels are composited on white, which is what a viewer of the file sees; the alpha is then dropped.
- Floating-point grey between 0 and 1 is scaled by 255; between 0 and 255 it is rounded; beyond that it is refused,
  because nobody but the sender knows what is white.
- The EXIF orientation is applied. Of an animation or a multi-page file the first frame is read.
"""

import hashlib
import logging
import os
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

# TIFF and WebP are named because Pillow otherwise imports all of its fifty plugins to find them.
from PIL import Image, TiffImagePlugin, WebPImagePlugin  # noqa: F401  # pyright: ignore[reportUnusedImport]

from striate.data.preprocess import Pixels
from striate.errors import DataError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "PPM")  # Pillow's names; PPM covers PBM, PGM and PNM

# In lower case.
IMAGE_SUFFIXES = frozenset(
    (
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".webp",
        ".bmp",
        ".dib",
        ".tif",
        ".tiff",
        ".gif",
        ".pbm",
        ".pgm",
        ".ppm",
        ".pnm",
    )
)

MAX_PIXELS = 178_956_970  # half a gigabyte of RGB; the number at which Pillow itself refuses

logging.getLogger("PIL").addHandler(logging.NullHandler())  # or its remarks on damaged files land on standard error

_ORIENTATION = 0x0112  # the EXIF tag

_CONTENT_BYTES = 8192  # of the head and of the tail of a file, for its fingerprint

_READ_BYTES = 1 << 16  # at once

Failure = Literal["missing", "empty", "not an image", "damaged", "too large", "unsupported"]

_MENDS: dict[Failure, str] = {
    "missing": "Check the path and the permissions.",
    "empty": "Copy it again from its source, or remove it.",
    "not an image": "Expected JPEG, PNG, WebP, BMP, TIFF, GIF, PGM or PPM: convert it, or remove it.",
    "damaged": "Copy it again from its source, or remove it.",
    "too large": f"Scale it down below {MAX_PIXELS / 1e6:.0f} megapixels, or remove it.",
    "unsupported": "Save it with 8 or 16 bits per channel.",
}


class ImageError(DataError):
    """An image that cannot be read. The message names the file, the reason and how to mend it.

    Attributes:
        kind: which of the few ways to fail, for programs.
        reason: the same in words, without the file and without the mend.
    """

    def __init__(self, source: Path | str, kind: Failure, reason: str):
        super().__init__(f"{source}: {reason}. {_MENDS[kind]}")
        self.source = source
        self.kind: Failure = kind
        self.reason = reason

    def __reduce__(self) -> tuple[type["ImageError"], tuple[Path | str, Failure, str]]:
        return ImageError, (self.source, self.kind, self.reason)  # it travels between processes


class _Quiet:
    """Silences Pillow's warnings on odd metadata while it is entered, and lets no setting turn them into errors.

    The filters of `warnings` belong to the whole process and images are decoded by many threads at once: the first
    to come in sets the filter and the last to leave takes it away. Whoever reads many small images comes in once for
    all of them, as setting the filter takes a noticeable part of the time of decoding one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._filters = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._users == 0:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._filters.__exit__(None, None, None)


quiet = _Quiet()


@dataclass(frozen=True, kw_only=True)
class Header:
    """What an image file says about itself before it is decoded."""

    format: str  # one of FORMATS
    size: tuple[int, int]  # height, width as `read_image` gives them, after the orientation is applied
    mode: str  # Pillow's word: "L", "RGB", "P", "CMYK", "I;16", ...
    orientation: int  # EXIF, 1 to 8; 1 is upright
    frames: int  # 1 but for animations and multi-page files


def cpus() -> int:
    """CPUs that this process may use: how many threads are worth reading with."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_image(path: Path | str) -> Pixels:
    """Decode a file.

    Returns:
        (H, W, 1) or (H, W, 3) uint8, contiguous and writable.

    Raises:
        ImageError: a `DataError`, whatever goes wrong.
    """
    return decode(read_bytes(path), path)


def read_bytes(path: Path | str) -> bytes:
    """The bytes of an image file; raises `ImageError` where there are none."""
    try:
        # Without the buffer of Path.read_bytes, which costs more than it saves here. Only Windows has O_BINARY.
        file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            data = b"".join(iter(lambda: os.read(file, _READ_BYTES), b""))
        finally:
            os.close(file)
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL in it
        raise ImageError(path, "missing", f"cannot be opened ({_words(error)})") from error
    if not data:
        raise ImageError(path, "empty", "the file has zero bytes")
    return data


def decode(data: bytes, source: Path | str) -> Pixels:
    """Decode the bytes of an image file.

    Args:
        data: as they lie in the file.
        source: what to call it in an error.

    Returns:
        (H, W, 1) or (H, W, 3) uint8, contiguous and writable.

    Raises:
        ImageError: a `DataError`, whatever goes wrong.
    """
    with quiet, _opened(BytesIO(data), source) as picture:
        return from_picture(picture, source)


def from_picture(picture: Image.Image, source: Path | str) -> Pixels:
    """The pixels of a Pillow image of any mode, turned as its EXIF orientation says.

    Args:
        picture: decoded or not.
        source: what to call it in an error.

    Returns:
        (H, W, 1) or (H, W, 3) uint8, contiguous and writable.

    Raises:
        ImageError: a `DataError`, whatever goes wrong.
    """
    _check_size(picture, source)
    with quiet:
        try:
            picture.load()
            orientation = _orientation(picture)  # after load: TIFF is turned by Pillow, PNG may carry it at the end
            pixels = _pixels(picture)
        except MemoryError as error:
            reason = f"the decoder got no memory for {picture.width}x{picture.height} pixels"
            raise ImageError(source, "too large", reason) from error
        except Exception as error:
            kind = picture.format or f"{picture.mode} image"
            raise ImageError(source, "damaged", f"truncated or damaged {kind} ({_words(error)})") from error
    if pixels is None:
        raise ImageError(source, "unsupported", f"its {picture.mode} pixels lie outside of every known range")
    return np.ascontiguousarray(upright(pixels, orientation))


def probe(path: Path) -> Header:
    """Read the header of a file, without decoding it.

    Raises:
        ImageError: it is missing, empty, or no image. Damage further in is found only by `read_image`, and an absurd
            size is for the caller to judge.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise ImageError(path, "missing", f"cannot be opened ({_words(error)})") from error
    with file:
        if not file.read(1):
            raise ImageError(path, "empty", "the file has zero bytes")
        file.seek(0)
        with quiet, _opened(file, path) as picture:
            orientation = _orientation(picture)
            height, width = picture.height, picture.width
            if orientation >= 5 and picture.format != "TIFF":  # Pillow swaps those of TIFF when it opens them
                height, width = width, height
            try:
                frames = int(getattr(picture, "n_frames", 1))
            except Exception:  # a damaged later frame; the first is what is read
                frames = 1
            kind = "JPEG" if picture.format == "MPO" else picture.format or ""  # MPO: a JPEG with a second one behind
            return Header(format=kind, size=(height, width), mode=picture.mode, orientation=orientation, frames=frames)


def has_end(path: Path) -> bool:
    """Whether a JPEG or PNG file holds the mark that ends it; True for other formats, which have none.

    A file that was cut off has none. The reverse does not hold (some writers leave it out), so that a file without it
    must be decoded before it is called damaged.
    """
    with path.open("rb") as file:
        head = file.read(8)
        file.seek(0, 2)
        file.seek(max(0, file.tell() - _CONTENT_BYTES))
        tail = file.read()
    if head.startswith(b"\xff\xd8"):
        return b"\xff\xd9" in tail
    return not head.startswith(b"\x89PNG") or b"IEND" in tail


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Turn pixels as stored into pixels as meant.

    Args:
        pixels: (H, W, ...) array.
        orientation: EXIF orientation (TIFF 6.0, tag 274), 1 to 8.

    Returns:
        A view of ``pixels``; 5 to 8 swap height and width.
    """
    return _TURNS[orientation](pixels)


_TURNS: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a[:, ::-1].swapaxes(0, 1),
}


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Images that lie in files; row i is ``paths[i]``. See `striate.data.dataset.Images`."""

    paths: Sequence[Path]

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: int) -> Pixels:
        """See `read_image`."""
        return read_image(self.paths[index])

    def content(self, index: int) -> bytes:
        """The size of the file and a hash of its first and last 8 KiB.

        Reading every byte of a large data set would cost minutes before each run. Compressed pixels differ in size,
        and at the end of the file, as soon as one pixel differs; only an edit made in place in the middle of a file
        over 16 KiB goes unseen. A file that cannot be opened has no content here; `read` says what is wrong.
        """
        path = self.paths[index]
        try:
            with path.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(0)
                digest = hashlib.sha256(file.read(_CONTENT_BYTES))
                file.seek(max(_CONTENT_BYTES, size - _CONTENT_BYTES))
                digest.update(file.read(_CONTENT_BYTES))
        except OSError:
            return b""
        return size.to_bytes(8, "big") + digest.digest()


def _opened(file: BinaryIO, source: Path | str) -> Image.Image:
    """The picture in a file, its header read."""
    try:
        return Image.open(file, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise ImageError(source, "too large", f"it claims more than {MAX_PIXELS:,} pixels") from error
    except Image.UnidentifiedImageError as error:
        raise ImageError(source, "not an image", "the content is not an image of a known format") from error
    except Exception as error:
        raise ImageError(source, "damaged", f"the header is damaged ({_words(error)})") from error


def _check_size(picture: Image.Image, source: Path | str) -> None:
    if picture.width < 1 or picture.height < 1:
        raise ImageError(source, "damaged", f"it claims {picture.width}x{picture.height} pixels")
    if picture.width * picture.height > MAX_PIXELS:
        reason = f"it claims {picture.width}x{picture.height} pixels, more than {MAX_PIXELS:,}"
        raise ImageError(source, "too large", reason)


def _orientation(picture: Image.Image) -> int:
    try:
        orientation = picture.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF is no reason to refuse whole pixels
        return 1
    return orientation if isinstance(orientation, int) and orientation in _TURNS else 1


def _pixels(picture: Image.Image) -> Pixels | None:
    """Pixels as stored, (H, W, 1) or (H, W, 3); None where their range is unknown."""
    if picture.mode.startswith("I") or picture.mode == "F":
        return _eight_bits(picture)
    grey = picture.mode in ("1", "L", "LA", "La") or _has_grey_palette(picture)
    if not picture.has_transparency_data:
        plain = picture if picture.mode in ("L", "RGB") else picture.convert("L" if grey else "RGB")
        return np.frombuffer(bytearray(plain.tobytes()), np.uint8).reshape(plain.height, plain.width, -1)
    array = np.array(picture.convert("LA" if grey else "RGBA")).astype(np.uint16)
    colour, alpha = array[:, :, :-1], array[:, :, -1:]
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _has_grey_palette(picture: Image.Image) -> bool:
    """Whether a palette holds greys only, as GIF writes them, which has no other way."""
    if picture.mode != "P":
        return False
    palette = picture.getpalette("RGB") or []
    return palette[0::3] == palette[1::3] == palette[2::3]


def _eight_bits(picture: Image.Image) -> Pixels | None:
    array = np.asarray(picture)
    low, high = array.min(), array.max()
    if picture.mode == "F":
        if not (low >= 0 and high <= 255):  # written so that not-a-number is refused too
            return None
        return np.rint(array * (255 if high <= 1 else 1)).astype(np.uint8)[:, :, None]
    if low < 0 or high > 65535:
        return None
    return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)[:, :, None]


def _words(error: Exception) -> str:
    text = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
    return " ".join(text.split())[:200] or type(error).__name__
