import numpy as np
import pytest
import torch
from PIL import Image, ImageFont

from striate.core.annotations import Classification
from striate.viz.canvas import PAPER, STRONG, fit_image, fit_text, font
from striate.viz.contact_sheet import GAP, comparison_sheet, contact_sheet
from striate.viz.draw import draw_classification


def noise(height: int, width: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def test_small_images_are_magnified_to_whole_squares():
    image = noise(28, 20)
    picture = np.asarray(fit_image(image, 112))
    assert picture.shape == (112, 80, 3)
    np.testing.assert_array_equal(picture[:, :, 0], image[:, :, 0].repeat(4, 0).repeat(4, 1))


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (500, 333), (112, 112), (113, 2)])
def test_any_shape_fits(size: tuple[int, int]):
    picture = fit_image(noise(*size, 3), 112)
    assert 1 <= min(picture.size) <= max(picture.size) <= 112


@pytest.mark.parametrize("text", ["cat", "a name that is much too long for its place", "", "two\nlines\tand a tab"])
@pytest.mark.parametrize("width", [0, 20, 90, 2000])
def test_text_never_exceeds_its_place(text: str, width: int):
    fitted = fit_text(text, width, 13)
    assert "\n" not in fitted
    assert fitted == "…" or font(13).getlength(fitted) <= width
    assert fitted == " ".join(text.split()) or fitted.endswith("…")


def test_letters_beyond_ascii_come_from_a_font_that_has_them():
    try:
        ImageFont.truetype("DejaVuSans.ttf", 13)
    except OSError:
        pytest.skip("no DejaVuSans.ttf on this machine")
    for text in ("Kühe", "кот", "→"):
        drawn = {bytes(font(13, text).getmask(letter)) for letter in text}
        assert len(drawn) == len(set(text))  # boxes would be all alike
        assert font(13, text).getname()[0] != font(13, "cow").getname()[0]


def test_contact_sheet_has_every_image_in_reading_order():
    images = [np.full((28, 28, 1), 10 * i, dtype=np.uint8) for i in range(7)]
    sheet = contact_sheet(images, [str(i) for i in range(7)], columns=3)
    array = np.asarray(sheet)
    pitch_x = 112 + GAP
    pitch_y = (sheet.height - GAP) // 3
    for i in range(7):
        assert array[GAP + 56 + i // 3 * pitch_y, GAP + 56 + i % 3 * pitch_x].tolist() == [10 * i] * 3
    assert array[GAP + 56 + 2 * pitch_y, GAP + 56 + pitch_x].tolist() == list(PAPER)  # the eighth place is empty


def test_captions_are_written_and_only_under_their_image():
    images = [np.zeros((28, 28, 1), dtype=np.uint8)] * 2
    bare, captioned = contact_sheet(images), contact_sheet(images, ["", "a caption that is far too long for it\nseven"])
    assert captioned.height > bare.height
    under = np.asarray(captioned.convert("L"))[GAP + 112 + 2 :]
    middle = GAP + 112 + GAP // 2
    assert (under[:, :middle] == 255).all()
    assert (under[:, middle : middle + GAP // 2 - 1] == 255).all()
    assert (under[:, middle:] < 128).any()
    assert (under[:, -GAP + 1 :] == 255).all()


def test_mixed_sizes_and_any_script_do_not_crash():
    images = [noise(28, 28), noise(400, 600, 3), noise(1, 900, 3), noise(9, 5)]
    sheet = contact_sheet(images, ["猫 และ кот", "😀 \ud800\x00", "", "عربى"])
    assert sheet.mode == "RGB"
    assert sheet.width < 1300


def test_a_hundred_photographs_stay_within_a_page_in_width():
    assert contact_sheet([noise(300, 400, 3)] * 100).width <= 1280


def test_comparison_sheet_has_one_row_per_image():
    originals = [np.full((28, 28, 1), 50 * i, dtype=np.uint8) for i in range(3)]
    samples = [[original + 5] * 4 for original in originals]
    array = np.asarray(comparison_sheet(originals, samples, ["a", "b", "c"], heading="augment=light"))
    values = {tuple(pixel) for pixel in array.reshape(-1, 3)}
    assert {(v, v, v) for v in (0, 50, 100, 5, 55, 105)} <= values
    columns = [(array[:, :, 0] == 55).any(0), (array[:, :, 0] == 50).all(1)]
    assert columns[0].sum() >= 4 * 112


@pytest.mark.parametrize(
    "call",
    [
        lambda: contact_sheet([]),
        lambda: contact_sheet([noise(5, 5)], ["a", "b"]),
        lambda: comparison_sheet([], [], [], heading=""),
        lambda: comparison_sheet([noise(5, 5)], [[]], [], heading=""),
    ],
)
def test_counts_that_do_not_fit_are_refused(call):
    with pytest.raises(ValueError, match="got"):
        call()


NAMES = ["cat", "a dog with a name that is very much too long", "猫", "bird", "fish"]


def predicted(*scores: float) -> Classification:
    tensor = torch.tensor(scores)
    label = int(tensor.argmax())
    return Classification(label=label, score=float(tensor[label]), scores=tensor)


@pytest.mark.parametrize("size", [(480, 640), (300, 300), (1080, 1920)])
def test_the_image_itself_is_untouched(size: tuple[int, int]):
    image = noise(*size, 3)
    drawn = draw_classification(image, predicted(0.1, 0.6, 0.2, 0.1, 0.0), NAMES)
    assert drawn.width == size[1]
    assert drawn.height > size[0]
    np.testing.assert_array_equal(np.asarray(drawn)[: size[0]], image)


def bars(drawn: Image.Image) -> list[int]:
    """Lengths of the coloured bars, top to bottom, in pixels."""
    rows = (np.asarray(drawn) == STRONG).all(2).sum(1)
    return [int(rows[i]) for i in range(1, len(rows)) if rows[i] and not rows[i - 1]]


def test_the_three_best_scores_are_bars_in_proportion():
    drawn = draw_classification(np.zeros((480, 640, 1), np.uint8), predicted(0.1, 0.6, 0.0, 0.05, 0.3), NAMES)
    longest, middle, shortest = bars(drawn)
    assert middle == pytest.approx(longest / 2, abs=2)
    assert shortest == pytest.approx(longest / 6, abs=2)
    assert bars(draw_classification(noise(8, 8), Classification(label=2, score=0.5), NAMES)) == []


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (28, 28), (3, 700), (700, 3)])
def test_small_and_narrow_images_get_a_readable_panel(size: tuple[int, int]):
    drawn = draw_classification(noise(*size), predicted(1.0, 0.0, 0.0, 0.0, 0.0), NAMES)
    assert drawn.width >= 256
    assert len(bars(drawn)) == 1
    # two classes have two bars at most
    assert len(bars(draw_classification(noise(*size), predicted(0.5, 0.5), NAMES))) == 2
