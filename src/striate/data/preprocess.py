"""Preprocessing as data: the one way from a decoded image to what a network sees.

Evaluation, `predict` and a server without torch share this file, so that all of them see the same pixels; it imports
NumPy and Pillow only. Augmentation is another thing and lives in `data/transforms`.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from striate.errors import UsageError

Resize = Literal["crop", "stretch", "pad", "fit"]
Interpolation = Literal["bilinear", "bicubic"]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How an image becomes a network's input; stored in the model file.

    Resizing is antialiased (Pillow). Images that already have the right size are not touched.
    """

    size: tuple[int, int]  # height, width in pixels
    channels: Literal[1, 3]  # 1: grey (ITU-R 601-2 luma), 3: RGB in this order
    mean: tuple[float, ...]  # per channel, of pixels scaled to 0..1
    std: tuple[float, ...]
    # crop: scale the image until it covers `size` / `crop_fraction`, cut out the centre.
    # stretch: scale height and width apart. pad: scale down until it fits (never up), centre it on `fill`.
    # fit: scale until it fits, down or up, and fill up right and below.
    resize: Resize = "crop"
    crop_fraction: float = 1.0
    fill: int = 0  # grey value of the border that `pad` and `fit` add
    # of `fit`: a batch is shown up to the next multiple of this beyond its images, cut out of `size`; None: all of it
    multiple: int | None = None
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        if self.resize not in get_args(Resize):
            raise UsageError(f"resize {self.resize!r} is not one of {', '.join(get_args(Resize))}.")
        if self.interpolation not in get_args(Interpolation):
            kinds = ", ".join(get_args(Interpolation))
            raise UsageError(f"interpolation {self.interpolation!r} is not one of {kinds}.")
        if self.channels not in (1, 3) or not len(self.mean) == len(self.std) == self.channels:
            raise UsageError(
                f"channels must be 1 or 3, with as many means and standard deviations; got {self.channels} channels, "
                f"{len(self.mean)} means, {len(self.std)} standard deviations."
            )
        if min(self.size) < 1 or min(self.std) <= 0 or not 0 < self.crop_fraction <= 1:
            raise UsageError(
                f"size {self.size}, standard deviations {self.std} and crop fraction {self.crop_fraction} must be "
                "above zero, the last at most 1."
            )

        if self.multiple is not None and (self.resize != "fit" or self.multiple < 1):
            raise UsageError(
                f"multiple {self.multiple} with resize {self.resize!r}: images are shown on canvases of their own "
                "shape by 'fit' only, and in steps of a pixel or more."
            )

    def pixels(self, image: Pixels) -> Pixels:
        """Convert channels and size.

        Args:
            image: (H, W, 1) or (H, W, 3) uint8.

        Returns:
            (height, width, channels) uint8.
        """
        height, width = self.size
        if image.shape == (height, width, self.channels):
            return image
        picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
        if (picture.mode == "L") != (self.channels == 1):
            picture = picture.convert("L" if self.channels == 1 else "RGB")
        if picture.size != (width, height):
            picture = self._resized(picture)
        array = np.asarray(picture, dtype=np.uint8)
        return array[:, :, None] if array.ndim == 2 else array

    def _resized(self, picture: Image.Image) -> Image.Image:
        height, width = self.size
        kernel = Image.Resampling.BICUBIC if self.interpolation == "bicubic" else Image.Resampling.BILINEAR
        if self.resize == "stretch":
            return picture.resize((width, height), kernel)
        if self.resize == "crop":
            scale = max(width / picture.width, height / picture.height) / self.crop_fraction
            # min: rounding may make the box larger than the picture by the last bit, which Pillow refuses
            crop_width, crop_height = min(picture.width, width / scale), min(picture.height, height / scale)
            left, top = (picture.width - crop_width) / 2, (picture.height - crop_height) / 2
            return picture.resize((width, height), kernel, box=(left, top, left + crop_width, top + crop_height))
        inner = self._inner(picture.height, picture.width)
        if inner != (picture.height, picture.width):
            picture = picture.resize((inner[1], inner[0]), kernel)
        canvas = Image.new(picture.mode, (width, height), self.fill if self.channels == 1 else (self.fill,) * 3)
        place = (0, 0) if self.resize == "fit" else ((width - picture.width) // 2, (height - picture.height) // 2)
        canvas.paste(picture, place)
        return canvas

    def _inner(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of an image within its border."""
        scale = min(self.size[0] / height, self.size[1] / width)
        if self.resize == "pad":
            scale = min(1.0, scale)
        return max(1, math.floor(height * scale + 1e-9)), max(1, math.floor(width * scale + 1e-9))

    def placement(self, height: int, width: int) -> tuple[float, float, float, float]:
        """Where an image of this size lies in the input: a point (x, y) of it at (x * sx + dx, y * sy + dy).

        Returns:
            sx, sy, dx, dy.
        """
        if (height, width) == self.size:
            return 1.0, 1.0, 0.0, 0.0
        if self.resize == "stretch":
            return self.size[1] / width, self.size[0] / height, 0.0, 0.0
        if self.resize == "crop":
            scale = max(self.size[1] / width, self.size[0] / height) / self.crop_fraction
            return scale, scale, (self.size[1] - width * scale) / 2, (self.size[0] - height * scale) / 2
        inner_height, inner_width = self._inner(height, width)
        left, top = (self.size[1] - inner_width) // 2, (self.size[0] - inner_height) // 2
        place = (0.0, 0.0) if self.resize == "fit" else (float(left), float(top))
        return inner_width / width, inner_height / height, *place

    def normalise(self, pixels: Pixels) -> NDArray[np.float32]:
        """Scale pixels to 0..1, subtract the mean, divide by the standard deviation, channels first.

        Args:
            pixels: (..., height, width, channels) uint8, as `pixels` gives them.

        Returns:
            (..., channels, height, width) float32, contiguous.
        """
        scale, offset = self.affine()
        normalised = pixels.astype(np.float32) * scale + offset
        return np.ascontiguousarray(np.moveaxis(normalised, -1, -3))

    def placements(self, sizes: NDArray[np.int64]) -> NDArray[np.float32]:
        """The `placement` of (B, 2) heights and widths: (B, 4) float32."""
        each = [self.placement(height, width) for height, width in sizes.tolist()]
        return np.array(each, dtype=np.float32).reshape(-1, 4)

    def canvases(self, sizes: NDArray[np.int64]) -> NDArray[np.int64]:
        """How much of the input each image needs: `size`, or with `multiple` what holds the image.

        Args:
            sizes: (B, 2) heights and widths.

        Returns:
            (B, 2) heights and widths. Those of a batch are the largest of its images'; the rest is cut off.
        """
        if self.multiple is None:
            return np.tile(np.array(self.size, dtype=np.int64), (len(sizes), 1))
        step = self.multiple
        inner = np.array([self._inner(height, width) for height, width in sizes.tolist()], dtype=np.int64).reshape(
            -1, 2
        )
        return np.minimum(-(-inner // step) * step, self.size)

    def affine(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The normalisation as ``pixel * scale + offset``; two (channels,) float32 arrays."""
        mean, std = np.asarray(self.mean, dtype=np.float64), np.asarray(self.std, dtype=np.float64)
        return (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)

    def __call__(self, image: Pixels) -> NDArray[np.float32]:
        """From (H, W, 1 or 3) uint8 to (channels, height, width) float32."""
        return self.normalise(self.pixels(image))

    def to_json(self) -> dict[str, Any]:
        """As a JSON object; `from_json` reads it back."""
        return asdict(self)

    @staticmethod
    def from_json(document: dict[str, Any]) -> "Preprocessing":
        """Read what `to_json` wrote; raises `UsageError` on a field that is unknown or does not fit."""
        try:
            tuples: dict[str, Any] = {key: tuple(document[key]) for key in ("size", "mean", "std")}
            return Preprocessing(**(document | tuples))
        except (KeyError, TypeError) as error:
            raise UsageError(f"this is not a preprocessing specification: {error}") from error
