"""Reading one image for training: decode as little as the crop needs.

A JPEG can be decoded at a half, a quarter or an eighth of its size for little more than the cost of its bytes, and the
crop is resized by torch's uint8 kernel. What this path does not know for certain (other formats, CMYK, damaged files,
odd metadata) goes through `striate.data.images.decode`, whose verdict holds. Evaluation never comes here: it decodes in
full and resizes with Pillow, as `Preprocessing` says.
"""

import math
import struct
from collections.abc import Callable, Sequence

import numpy as np
import simplejpeg
import torch
import torch.nn.functional as F

from striate.data.dataset import Images
from striate.data.images import MAX_PIXELS, ImageFiles, decode, read_bytes, upright
from striate.data.preprocess import Pixels, Preprocessing
from striate.data.transforms.crop import RandomResizedCrop

Size = tuple[int, int]  # height, width

# libjpeg-turbo can scale by any eighth, but only for these has it fast code: 7/8 to 5/8 take longer than a full decode.
DIVISORS = (8, 4, 2)

# What is decoded is at least this much larger than what is shown. libjpeg scales by plain means of pixels; with 1.5 the
# result is nearer to that of a full decode than bilinear and bicubic resizing are to each other.
MARGIN = 1.5

SPACES = ("YCbCr", "Gray")  # what is decoded fast; the rest (RGB, CMYK, YCCK) is rare and left to Pillow


def read_pixels(images: Images, index: int, preprocessing: Preprocessing) -> tuple[Pixels, Size]:
    """Image ``index`` as `Preprocessing.pixels` gives it, but a JPEG is decoded no larger than needed.

    Returns:
        (height, width, channels) uint8 of the preprocessing's size, and the original height and width.

    Raises:
        DataError: the image cannot be read.
    """
    # `crop` scales the image until it covers size / crop_fraction; the other ways need no more than that.
    need = math.ceil(max(preprocessing.size) / preprocessing.crop_fraction)
    pixels, size = _read(images, index, preprocessing.channels, lambda height, width: need / min(height, width))
    return preprocessing.pixels(pixels), size


def read_crop(
    images: Images, index: int, preprocessing: Preprocessing, crop: RandomResizedCrop, drawn: Sequence[float]
) -> tuple[Pixels, Size]:
    """A random crop of image ``index``, resized to the preprocessing's size (bilinear, antialiased).

    Where a JPEG is decoded at a fraction of its size, the edges of the crop lie on the pixels of that.

    Args:
        images: where it comes from.
        index: its row.
        preprocessing: size and channels.
        crop: how to crop.
        drawn: one row of ``crop.draw``.

    Returns:
        (height, width, channels) uint8, and the original height and width.

    Raises:
        DataError: the image cannot be read.
    """
    target_height, target_width = preprocessing.size

    def scale(height: int, width: int) -> float:
        _, _, crop_height, crop_width = crop.box(drawn, height, width)
        return max(target_height / crop_height, target_width / crop_width)

    pixels, (height, width) = _read(images, index, preprocessing.channels, scale)
    top, left, crop_height, crop_width = crop.box(drawn, height, width)
    down, across = pixels.shape[0] / height, pixels.shape[1] / width
    rows = slice(round(top * down), max(round(top * down) + 1, round((top + crop_height) * down)))
    columns = slice(round(left * across), max(round(left * across) + 1, round((left + crop_width) * across)))
    part = torch.from_numpy(pixels[rows, columns]).permute(2, 0, 1).unsqueeze(0)
    resized = F.interpolate(part, size=preprocessing.size, mode="bilinear", antialias=True)
    return preprocessing.pixels(resized[0].permute(1, 2, 0).numpy()), (height, width)


def _read(images: Images, index: int, channels: int, scale: Callable[[int, int], float]) -> tuple[Pixels, Size]:
    """Image ``index``, at least at ``scale(height, width)`` of its full size, and the full size."""
    if not isinstance(images, ImageFiles):
        pixels = images.read(index)
        return pixels, pixels.shape[:2]
    path = images.paths[index]
    data = read_bytes(path)
    fast = _decode_scaled(data, channels, scale)
    if fast is not None:
        return fast
    pixels = decode(data, path)
    return pixels, pixels.shape[:2]


def _decode_scaled(data: bytes, channels: int, scale: Callable[[int, int], float]) -> tuple[Pixels, Size] | None:
    """A JPEG at a fraction of its size, upright, and its full size; None where Pillow has to judge."""
    orientation = _orientation(data)
    if orientation is None:
        return None
    try:
        header = simplejpeg.decode_jpeg_header(data)
        height, width, space = int(header[0]), int(header[1]), header[2]
        if space not in SPACES or height * width > MAX_PIXELS:
            return None
        size = (height, width) if orientation < 5 else (width, height)
        wanted = scale(*size)
        divisor = next((divisor for divisor in DIVISORS if MARGIN * wanted * divisor <= 1), 1)
        pixels = simplejpeg.decode_jpeg(
            data,
            colorspace="GRAY" if channels == 1 or space == "Gray" else "RGB",
            min_height=math.ceil(height / divisor),
            min_width=math.ceil(width / divisor),
        )
    except ValueError:  # damaged, or something that libjpeg-turbo does not know
        return None
    return np.ascontiguousarray(upright(pixels, orientation)), size


def _orientation(data: bytes) -> int | None:
    """The EXIF orientation of a JPEG, 1 where it has none; None for what is no JPEG, or where it is not certain."""
    if data[:2] != b"\xff\xd8":
        return None
    orientation = 1
    place = 2
    try:
        while True:
            marker, length = struct.unpack_from(">HH", data, place)
            if marker == 0xFFDA:  # start of scan
                return orientation
            if marker >> 8 != 0xFF or length < 2:
                return None
            if marker == 0xFFE1:  # APP1: EXIF or XMP
                segment = data[place + 4 : place + 2 + length]
                if segment[:6] != b"Exif\0\0":
                    if b"Orientation" in segment:
                        return None
                else:
                    found = _tag_orientation(segment[6:])
                    if found is None:
                        return None
                    orientation = found
            place += 2 + length
    except struct.error:
        return None


def _tag_orientation(tiff: bytes) -> int | None:
    """Tag 274 of the first directory of a TIFF header (TIFF 6.0, section 2), 1 where it is not there."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return None
    (directory,) = struct.unpack_from(order + "L", tiff, 4)
    (entries,) = struct.unpack_from(order + "H", tiff, directory)
    for entry in range(entries):
        tag, kind, count, value = struct.unpack_from(order + "HHLH", tiff, directory + 2 + 12 * entry)
        if tag == 274:
            return value if kind == 3 and count == 1 and 1 <= value <= 8 else None
    return 1
