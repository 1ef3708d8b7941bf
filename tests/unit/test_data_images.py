"""Reading image files: every mode, every orientation, and every way to be broken."""

import pickle
import random
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from striate.data import images
from striate.data.images import Header, ImageError, ImageFiles, decode, probe, quiet, read_image
from striate.errors import DataError

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
GREY = RGB[:, :, 0]
DEEP = np.random.default_rng(1).integers(0, 65536, (6, 9), dtype=np.uint16)
DEEP[0, :2] = 0, 65535
EIGHT = np.rint(DEEP / 257).astype(np.uint8)[..., None]


def encode(picture: Image.Image, kind: str, **options: Any) -> bytes:
    file = BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def palette(alpha: bytes | None = None) -> bytes:
    picture = Image.new("P", (9, 6))
    picture.putdata((GREY % 4).ravel().tolist())
    picture.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    return encode(picture, "PNG", **({} if alpha is None else {"transparency": alpha}))


COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]], dtype=np.uint8)

EXACT = [
    # what it is, the file, the pixels that must come out
    ("RGB PNG", encode(Image.fromarray(RGB), "PNG"), RGB),
    ("RGB BMP", encode(Image.fromarray(RGB), "BMP"), RGB),
    ("RGB TIFF", encode(Image.fromarray(RGB), "TIFF"), RGB),
    ("RGB TIFF, LZW", encode(Image.fromarray(RGB), "TIFF", compression="tiff_lzw"), RGB),
    ("RGB WebP without loss", encode(Image.fromarray(RGB), "WEBP", lossless=True), RGB),
    ("PPM", encode(Image.fromarray(RGB), "PPM"), RGB),
    ("grey PNG", encode(Image.fromarray(GREY), "PNG"), GREY[..., None]),
    ("grey BMP", encode(Image.fromarray(GREY), "BMP"), GREY[..., None]),
    ("PGM", encode(Image.fromarray(GREY), "PPM"), GREY[..., None]),
    ("plain-text PGM of 4 levels", b"P2\n2 1\n3\n0 3\n", np.array([[[0], [255]]], dtype=np.uint8)),
    ("grey GIF", encode(Image.fromarray(GREY), "GIF"), GREY[..., None]),
    ("1 bit PNG", encode(Image.fromarray(GREY > 99), "PNG"), (GREY > 99)[..., None] * np.uint8(255)),
    ("1 bit TIFF", encode(Image.fromarray(GREY > 99), "TIFF"), (GREY > 99)[..., None] * np.uint8(255)),
    ("palette", palette(), COLOURS[GREY % 4]),
    # the second colour is half transparent, the third wholly: 127 -> halfway to white
    (
        "palette with alpha",
        palette(bytes([255, 127, 0])),
        np.array([[255, 0, 0], [128, 255, 128], [255, 255, 255], [9, 9, 9]], dtype=np.uint8)[GREY % 4],
    ),
    (
        "grey with alpha",
        encode(Image.merge("LA", [Image.fromarray(GREY), Image.new("L", (9, 6), 0)]), "PNG"),
        np.full((6, 9, 1), 255, dtype=np.uint8),
    ),
    ("RGBA, opaque", encode(Image.fromarray(RGB).convert("RGBA"), "PNG"), RGB),
    (
        "RGB with one transparent colour",
        encode(Image.new("RGB", (3, 2), (1, 2, 3)), "PNG", transparency=(1, 2, 3)),
        np.full((2, 3, 3), 255, np.uint8),
    ),
    # 16 bits: white stays white and black stays black
    ("16-bit PNG", encode(Image.fromarray(DEEP), "PNG"), EIGHT),
    ("16-bit TIFF", encode(Image.fromarray(DEEP), "TIFF"), EIGHT),
    (
        "16-bit TIFF, big-endian",
        encode(Image.frombytes("I;16B", (9, 6), DEEP.astype(">u2").tobytes()), "TIFF"),
        EIGHT,
    ),
    ("16-bit PGM", b"P5\n9 6\n65535\n" + DEEP.astype(">u2").tobytes(), EIGHT),
    (
        "32-bit TIFF in the range of 16",
        encode(Image.fromarray(DEEP.astype(np.int32)), "TIFF"),
        EIGHT,
    ),
    ("float TIFF of 0 to 1", encode(Image.fromarray((GREY / 255).astype(np.float32)), "TIFF"), GREY[..., None]),
    ("float TIFF of 0 to 255", encode(Image.fromarray(GREY.astype(np.float32)), "TIFF"), GREY[..., None]),
]


@pytest.mark.parametrize(("file", "expected"), [row[1:] for row in EXACT], ids=[row[0] for row in EXACT])
def test_reads_the_exact_pixels(file: bytes, expected: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "image.dat"  # the content counts, not the suffix
    path.write_bytes(file)
    pixels = read_image(path)
    np.testing.assert_array_equal(pixels, expected)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    assert probe(path).size == pixels.shape[:2]


LOSSY = [
    # what it is, the file, channels, what Pillow alone makes of it
    ("JPEG", encode(Image.fromarray(RGB), "JPEG"), 3),
    ("progressive JPEG", encode(Image.fromarray(RGB), "JPEG", progressive=True), 3),
    ("grey JPEG", encode(Image.fromarray(GREY), "JPEG"), 1),
    ("CMYK JPEG", encode(Image.fromarray(RGB).convert("CMYK"), "JPEG"), 3),
    ("CMYK TIFF", encode(Image.fromarray(RGB).convert("CMYK"), "TIFF"), 3),
    ("LAB TIFF", encode(Image.frombytes("LAB", (9, 6), RGB.tobytes()), "TIFF"), 3),
    ("WebP", encode(Image.fromarray(RGB), "WEBP"), 3),
]


@pytest.mark.parametrize(("file", "channels"), [row[1:] for row in LOSSY], ids=[row[0] for row in LOSSY])
def test_agrees_with_pillow(file: bytes, channels: int) -> None:
    pixels = decode(file, "image")
    reference = Image.open(BytesIO(file)).convert("L" if channels == 1 else "RGB")
    np.testing.assert_array_equal(pixels, np.asarray(reference).reshape(6, 9, channels))


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode(Image.fromarray(RGB), "JPEG", exif=exif)


SAME = [("JPEG, rotated", rotated()), *((row[0], row[1]) for row in EXACT + LOSSY)]


@pytest.mark.parametrize("file", [row[1] for row in SAME], ids=[row[0] for row in SAME])
def test_a_file_its_bytes_and_its_picture_have_the_same_pixels(file: bytes, tmp_path: Path) -> None:
    path = tmp_path / "image.dat"
    path.write_bytes(file)
    with quiet:
        held = read_image(str(path))
    with Image.open(path) as picture:
        as_picture = images.from_picture(picture, "a")
    for pixels in (held, decode(file, "a"), read_image(path)):
        np.testing.assert_array_equal(pixels, as_picture)


def test_half_transparent_pixels_are_mixed_with_white() -> None:
    picture = Image.fromarray(RGB).convert("RGBA")
    picture.putalpha(Image.fromarray(GREY))
    white = Image.new("RGBA", picture.size, "white")
    reference = np.asarray(Image.alpha_composite(white, picture).convert("RGB")).astype(int)
    for kind in ("PNG", "TIFF", "WEBP"):
        pixels = decode(encode(picture, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {})), kind)
        assert np.abs(pixels - reference).max() <= 1, kind  # Pillow rounds otherwise


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("deep", [False, True])
def test_applies_the_orientation(kind: str, orientation: int, deep: bool, tmp_path: Path) -> None:
    if deep and kind not in ("PNG", "TIFF"):
        return
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = encode(Image.fromarray(DEEP if deep else RGB), kind, exif=exif)
    with Image.open(BytesIO(file)) as picture:
        reference = np.asarray(ImageOps.exif_transpose(picture))
    if deep:
        reference = np.rint(reference / 257)[..., None]
    (tmp_path / "a").write_bytes(file)
    np.testing.assert_array_equal(read_image(tmp_path / "a"), reference)
    header = probe(tmp_path / "a")
    assert header.orientation == orientation
    assert header.size == reference.shape[:2]


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_upright(value: Any) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    np.testing.assert_array_equal(decode(encode(Image.fromarray(RGB), "PNG", exif=exif), "a"), RGB)


def test_the_first_frame_is_read(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "green", "blue")]
    for kind in ("GIF", "WEBP", "TIFF", "PNG"):
        options = {"lossless": True} if kind == "WEBP" else {}
        (tmp_path / kind).write_bytes(encode(frames[0], kind, save_all=True, append_images=frames[1:], **options))
        assert (read_image(tmp_path / kind) == (255, 0, 0)).all(), kind
        assert probe(tmp_path / kind).frames == 3, kind


def test_probe_says_what_the_header_says(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encode(Image.fromarray(RGB).convert("CMYK"), "JPEG"))
    assert probe(path) == Header(format="JPEG", size=(6, 9), mode="CMYK", orientation=1, frames=1)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nothing."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


WHOLE = encode(Image.fromarray(np.kron(RGB, np.ones((8, 8, 1), np.uint8))), "JPEG")

BROKEN = [
    # what it is, the file, the kind of failure
    ("zero bytes", b"", "empty"),
    ("text", b"hello, I am no image at all", "not an image"),
    ("one byte", b"\xff", "not an image"),
    ("a PDF, which Pillow could only write", b"%PDF-1.4\n", "not an image"),
    ("PostScript, which would start a program", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    ("an icon, which is not on the list", encode(Image.fromarray(RGB), "ICO", sizes=[(6, 6)]), "not an image"),
    ("half a JPEG", WHOLE[: len(WHOLE) // 2], "damaged"),
    ("a JPEG without its last bytes", WHOLE[:-40], "damaged"),
    ("a PNG without pixels", png_header(5, 5), "damaged"),
    ("a PNG of no width", png_header(0, 5), "not an image"),
    ("a decompression bomb", png_header(100_000, 100_000), "too large"),
    ("a bomb just over the limit", png_header(images.MAX_PIXELS + 1, 1), "too large"),
    ("a PGM that claims too much", b"P5\n60000 60000\n255\n", "too large"),
    ("floats beyond 255", encode(Image.fromarray(np.full((2, 2), 1e4, np.float32)), "TIFF"), "unsupported"),
    ("floats that are no numbers", encode(Image.fromarray(np.full((2, 2), np.nan, np.float32)), "TIFF"), "unsupported"),
    ("negative 32-bit pixels", encode(Image.fromarray(np.full((2, 2), -7, np.int32)), "TIFF"), "unsupported"),
]


@pytest.mark.parametrize(("file", "kind"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_names_what_is_wrong(file: bytes, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(file)
    with pytest.raises(ImageError) as raised:
        read_image(path)
    assert raised.value.kind == kind
    assert str(path) in str(raised.value)
    assert str(raised.value).endswith(".")
    assert isinstance(raised.value, DataError)


@pytest.mark.parametrize("name", ["missing.jpg", "."])  # a file that is not there, and a folder
def test_what_cannot_be_opened_is_missing(name: str, tmp_path: Path) -> None:
    for read in (read_image, probe):
        with pytest.raises(ImageError) as raised:
            read(tmp_path / name)
        assert raised.value.kind == "missing"
    assert ImageFiles([tmp_path / name]).content(0) == b""  # one bad file stops no fingerprint


def test_an_absurd_size_is_for_the_reader_of_a_header_to_judge(tmp_path: Path) -> None:
    (tmp_path / "large.png").write_bytes(png_header(12_000, 12_000))  # Pillow warns, and here a warning is an error
    assert probe(tmp_path / "large.png").size == (12_000, 12_000)


def test_an_error_survives_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(ImageError(Path("a.jpg"), "empty", "the file has zero bytes")))
    assert (error.source, error.kind, error.reason) == (Path("a.jpg"), "empty", "the file has zero bytes")


SEEDS = [row for row in EXACT if row[0] != "plain-text PGM of 4 levels"] + LOSSY


@pytest.mark.parametrize("file", [row[1] for row in SEEDS], ids=[row[0] for row in SEEDS])
def test_damage_gives_an_image_or_a_data_error(
    file: bytes, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut and flipped in a hundred places: nothing else is raised, warned or printed.

    What libtiff itself writes to the file descriptor cannot be held back without holding back everybody else.
    """
    monkeypatch.setattr(images, "MAX_PIXELS", 1_000_000)  # for speed: a flipped size is often a large one
    chance = random.Random(0)
    damaged = [file[: chance.randrange(len(file))] for _ in range(25)]
    for _ in range(75):
        bad = bytearray(file)
        for _ in range(chance.choice([1, 1, 2, 8])):
            bad[chance.randrange(len(bad))] = chance.randrange(256)
        damaged.append(bytes(bad))
    for bad in damaged:
        try:
            pixels = decode(bad, "damaged")
        except ImageError:
            continue
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 3
        assert pixels.shape[2] in (1, 3)
        assert pixels.size
    assert capsys.readouterr() == ("", "")


def test_the_warning_filters_are_left_as_they_were() -> None:
    before = list(warnings.filters)
    threads = [
        threading.Thread(target=lambda: [decode(row[1], "a") for row in EXACT for _ in range(5)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == before


def test_the_fingerprint_follows_size_head_and_tail(tmp_path: Path) -> None:
    content = random.Random(0).randbytes(40_000)
    (tmp_path / "a").write_bytes(content)
    files = ImageFiles([tmp_path / "a"])
    first = files.content(0)
    for place, seen in ((5, True), (39_990, True), (20_000, False)):  # the middle is not read
        changed = bytearray(content)
        changed[place] ^= 1
        (tmp_path / "a").write_bytes(changed)
        assert (files.content(0) != first) == seen, place
    (tmp_path / "a").write_bytes(content[:20_000] + content[20_001:])
    assert files.content(0) != first


def test_a_small_file_is_fingerprinted_whole(tmp_path: Path) -> None:
    seen: set[bytes] = set()
    for place in range(0, 16_000, 1_000):
        content = bytearray(16_000)
        content[place] = 1
        (tmp_path / "a").write_bytes(content)
        seen.add(ImageFiles([tmp_path / "a"]).content(0))
    assert len(seen) == 16


def test_reading_imports_only_the_plugins_it_needs(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("no image")
    code = (
        "import sys; from pathlib import Path; from striate.data.images import read_image\n"
        f"try: read_image(Path({str(tmp_path / 'a.txt')!r}))\n"
        "except Exception: pass\n"
        "assert 'PIL.EpsImagePlugin' not in sys.modules, 'all plugins were loaded'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
