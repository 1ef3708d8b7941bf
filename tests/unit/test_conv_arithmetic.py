import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image, ImageChops
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from striate.analysis.conv_arithmetic import EXAMPLE, EXAMPLE_KERNEL, conv_arithmetic, example, read_matrix, slide
from striate.cli.inspect_conv import command
from striate.errors import UsageError
from striate.viz.conv_animation import Slide, draw_step, save_animation, too_large

GOLDEN = [[12, 12, 17], [10, 17, 19], [9, 6, 14]]  # Dumoulin and Visin 2016, figure 1.1


def square(**settings: Any):
    """A layer whose settings are the same along both axes."""
    pairs = ("kernel", "stride", "dilation")
    return conv_arithmetic(**{key: (value, value) if key in pairs else value for key, value in settings.items()})


@pytest.mark.parametrize("padding", [0, 1, 2, 3])
def test_sizes_are_those_of_torch(padding: int):
    checked = 0
    for size, kernel, stride, dilation in itertools.product((5, 6, 9), (1, 2, 3, 5), (1, 2, 3), (1, 2)):
        images = torch.empty(1, 4, size, size + 2, device="meta")
        settings: Any = {"kernel": kernel, "stride": stride, "dilation": dilation, "padding": (padding, padding)}
        weight = torch.empty(6, 2, kernel, kernel, device="meta")
        reach = dilation * (kernel - 1) + 1
        if size + 2 * padding >= reach:
            ours = square(images=(4, size, size + 2), filters=6, groups=2, **settings)
            theirs = F.conv2d(images, weight, None, stride, padding, dilation, 2)
            assert ours.output == tuple(theirs.shape[1:])
            checked += 1
            if padding <= kernel // 2:
                pooled = F.max_pool2d(images, kernel, stride, padding, dilation)
                assert square(images=(4, size, size + 2), pool=True, **settings).output == tuple(pooled.shape[1:])
        if (size - 1) * stride + reach - 2 * padding >= 1:
            ours = square(images=(4, size, size + 2), filters=3, transposed=True, **settings)
            weight = torch.empty(4, 3, kernel, kernel, device="meta")
            theirs = F.conv_transpose2d(images, weight, None, stride, padding, 0, 1, dilation)
            assert ours.output == tuple(theirs.shape[1:])
    assert checked > 40


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
def test_parameters_and_macs_are_those_of_torch(transposed: bool, groups: int):
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    layer = kind(4, 6, (3, 5), stride=(2, 1), padding=(1, 2), groups=groups, device="meta")
    with FlopCounterMode(display=False) as counter:
        layer(torch.empty(1, 4, 9, 8, device="meta"))
    ours = conv_arithmetic(
        images=(4, 9, 8), kernel=(3, 5), filters=6, stride=(2, 1), padding=(1, 2), groups=groups, transposed=transposed
    )
    assert ours.parameters == sum(parameter.numel() for parameter in layer.parameters())
    assert ours.macs == counter.get_total_flops() // 2


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize(("kernel", "dilation"), [(1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (3, 2)])
@pytest.mark.parametrize("size", [4, 7, 8])
def test_same_padding_with_stride_one_is_that_of_torch(size: int, kernel: int, dilation: int):
    images, weight = torch.rand(1, 1, size, size), torch.rand(1, 1, kernel, kernel)
    layer = square(images=(1, size, size), kernel=kernel, dilation=dilation, padding="same")
    theirs = F.conv2d(images, weight, padding="same", dilation=dilation)
    ours = slide(layer, images[0, 0].double().numpy(), weight[0, 0].double().numpy()).output
    np.testing.assert_allclose(ours, theirs[0, 0], rtol=1e-5)


@pytest.mark.parametrize(("size", "kernel", "stride"), [*itertools.product((5, 28, 30), (1, 2, 3, 5), (1, 2, 3))])
def test_same_padding_with_a_stride_is_tensorflows(size: int, kernel: int, stride: int):
    # tf.nn's notes on padding: out = ceil(in / stride), total = max((out - 1) * stride + kernel - in, 0), half before.
    layer = square(images=(1, size, size), kernel=kernel, stride=stride, padding="same")
    out = -(-size // stride)
    total = max((out - 1) * stride + kernel - size, 0)
    assert layer.output == (1, out, out)
    assert layer.padding[0] == (total // 2, total - total // 2)
    assert square(images=(1, size, size), kernel=kernel, stride=stride, padding="same", transposed=True).output == (
        *(1, size * stride, size * stride),
    )


def test_full_padding_grows_by_the_kernel():
    assert square(images=(1, 5, 5), kernel=3, padding="full").output == (1, 7, 7)
    assert square(images=(1, 5, 5), kernel=3, dilation=2, padding="full").output == (1, 9, 9)


@pytest.mark.parametrize("transposed", [False, True])
def test_reads_are_the_gradient_of_the_sum(transposed: bool):
    for size, kernel, stride, padding, dilation in itertools.product((6, 9), (2, 3), (1, 2, 4), (0, 1), (1, 2)):
        images = torch.zeros(1, 1, size, size, dtype=torch.float64, requires_grad=True)
        weight = torch.ones(1, 1, kernel, kernel, dtype=torch.float64)
        run = F.conv_transpose2d if transposed else F.conv2d
        run(images, weight, stride=stride, padding=padding, dilation=dilation).sum().backward()
        layer = square(
            images=(1, size, size),
            kernel=kernel,
            stride=stride,
            padding=(padding, padding),
            dilation=dilation,
            transposed=transposed,
        )
        assert images.grad is not None
        np.testing.assert_array_equal(np.outer(*layer.reads), images.grad[0, 0])


def test_the_golden_example():
    layer = square(images=(1, 5, 5), kernel=3)
    assert slide(layer, EXAMPLE, EXAMPLE_KERNEL).output.tolist() == GOLDEN


@pytest.mark.parametrize("kind", ["convolution", "transposed", "pool"])
def test_windows_over_numbers_give_what_torch_gives(kind: str):
    generator = torch.Generator().manual_seed(0)
    for kernel, stride, padding, dilation in itertools.product((2, 3), (1, 2, 3), (0, 1), (1, 2)):
        images = torch.randn(1, 1, 7, 8, dtype=torch.float64, generator=generator)
        weight = torch.randn(1, 1, kernel, kernel, dtype=torch.float64, generator=generator)
        options = {"stride": stride, "padding": padding, "dilation": dilation}
        if kind == "pool":
            theirs = F.max_pool2d(images, kernel, **options)
        else:
            theirs = (F.conv_transpose2d if kind == "transposed" else F.conv2d)(images, weight, **options)
        layer = square(
            images=(1, 7, 8),
            kernel=kernel,
            stride=stride,
            dilation=dilation,
            padding=(padding, padding),
            transposed=kind == "transposed",
            pool=kind == "pool",
        )
        ours = slide(layer, images[0, 0].numpy(), None if kind == "pool" else weight[0, 0].numpy())
        np.testing.assert_allclose(ours.output, theirs[0, 0], atol=1e-12)


def test_figures_that_lectures_give():
    assert square(images=(3, 640, 480), kernel=3, filters=1000).dense_units_parameters == 921_601_000  # "922 million"
    # Conv1 of AlexNet as a dense layer, "43.7 billion": it holds for the 224 pixels that the paper prints ...
    printed = square(images=(3, 224, 224), kernel=11, stride=4, padding=(2, 2), filters=96)
    assert printed.output == (96, 55, 55)
    assert printed.dense_parameters == 150_528 * 290_400 + 290_400 == 43_713_621_600
    # ... and not for the 227 that give 55 without padding.
    real = square(images=(3, 227, 227), kernel=11, stride=4, filters=96)
    assert real.output == (96, 55, 55)
    assert real.parameters == 34_944
    assert real.dense_parameters == 154_587 * 290_400 + 290_400 == 44_892_355_200


def test_the_formula_has_the_numbers_filled_in():
    layer = square(images=(1, 7, 8), kernel=3, stride=2, padding=(1, 1))
    assert layer.formulas == (
        "(H - F + 2P)/S + 1 = (7 - 3 + 2*1)/2 + 1 = 4",
        "(W - F + 2P)/S + 1 = (8 - 3 + 2*1)/2 + 1 = 4.5, rounded down to 4",
    )
    assert square(images=(1, 4, 4), kernel=3, stride=2, transposed=True).formulas[1] == (
        "(W - 1)*S + F - 2P = (4 - 1)*2 + 3 - 2*0 = 9"
    )


def test_pixels_that_are_lost_are_said():
    notes = square(images=(1, 8, 7), kernel=3, stride=2).notes
    assert len(notes) == 1
    assert notes[0].startswith("height: the last 1 row of the input is never seen")
    assert (
        "padding at the end, 1 row is never seen"
        in square(images=(1, 8, 7), kernel=3, stride=2, padding=(1, 1)).notes[0]
    )
    assert "4 rows inside the input are never read" in square(images=(1, 7, 7), kernel=1, stride=3).notes[0]
    assert square(images=(1, 7, 7), kernel=3, stride=2).notes == ()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kernel": 7}, r"does not fit: its height is 7, the input's 5\. Use a kernel of at most 5"),
        ({"kernel": 4, "dilation": 2}, r"with its dilation of 2 is 7.*at most 3"),
        ({"kernel": 9, "padding": (1, 1)}, r"5 \+ 2 of padding = 7"),
        ({"kernel": 3, "stride": 0}, r"stride 0x0: every number must be at least 1"),
        ({"kernel": 3, "groups": 2, "filters": 4}, r"2 groups do not divide 3 channels.*1, 3"),
        ({"kernel": 3, "groups": 3, "filters": 4}, r"3 groups do not divide 4 filters.*1, 2, 4"),
        ({"kernel": 3, "padding": "smae"}, r"Did you mean 'same'"),
        ({"kernel": 3, "padding": (-1, -1)}, r"0 or more"),
        ({"kernel": 3, "padding": (9, 9), "transposed": True}, r"cuts the height of the output away"),
        ({"kernel": 3, "pool": True, "transposed": True}, r"neither transposed nor grouped"),
    ],
)
def test_layers_that_cannot_be_get_one_message(settings: dict[str, Any], message: str):
    with pytest.raises(UsageError, match=message):
        square(images=(3, 5, 5), **settings)


@pytest.mark.parametrize(
    ("text", "message"),
    [("1,2;3", r"row 2: it has 1 numbers, row 1 has 2"), ("1,x", r"row 1: 'x' is not"), ("", r"row 1"), ("nan", "nan")],
)
def test_numbers_that_cannot_be_read_are_named(text: str, message: str):
    with pytest.raises(UsageError, match=message):
        read_matrix(text, "--numbers")


def picture(**settings: Any) -> Slide:
    layer = square(**{"images": (1, 5, 5), "kernel": 3} | settings)
    window = slide(layer, example(EXAMPLE, layer.input[1:]), example(EXAMPLE_KERNEL, layer.kernel))
    return Slide(
        grid=window.grid,
        given=window.given,
        weights=window.weights,
        kernel=window.kernel,
        stride=window.stride,
        dilation=window.dilation,
        output=window.output,
        title="a title",
    )


def test_an_animation_has_a_frame_per_output_and_each_differs(tmp_path: Path):
    save_animation(picture(), tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as animation:
        frames: list[Image.Image] = []
        for frame in range(animation.n_frames):
            animation.seek(frame)
            frames.append(animation.convert("RGB"))
    assert len(frames) == 9
    for before, after in itertools.pairwise(frames):
        assert ImageChops.difference(before, after).getbbox() is not None
    expected = draw_step(picture(), 8)
    difference = np.abs(np.asarray(expected, np.int16) - np.asarray(frames[-1], np.int16))
    assert difference.mean() < 1  # of 255: the palette is close, and nothing of earlier frames is left


def test_the_window_stands_where_its_output_came_from():
    slides = picture(stride=2, padding=(1, 1))
    first, second = (np.asarray(draw_step(slides, step), np.int16) for step in (0, 1))
    changed = np.nonzero(np.abs(first - second).sum(axis=2))
    assert changed[0].min() > 40  # not the title
    assert first.shape == second.shape


def test_pictures_that_cannot_be_read_are_refused():
    assert too_large(picture(), animated=True) is None
    assert "50 cells" in str(too_large(picture(images=(1, 50, 50)), animated=False))
    many = picture(images=(1, 30, 30))
    assert "784 frames" in str(too_large(many, animated=True))
    assert too_large(many, animated=False) is None
    layer = square(images=(1, 2, 2), kernel=1)
    window = slide(layer, np.full((2, 2), 12345678.0), np.ones((1, 1)))
    long = Slide(
        grid=window.grid,
        given=window.given,
        weights=window.weights,
        kernel=window.kernel,
        stride=window.stride,
        dilation=window.dilation,
        output=window.output,
        title="",
    )
    assert "12345678 is too long" in str(too_large(long, animated=True))


def run(arguments: str):
    return CliRunner().invoke(command, arguments)


def test_the_command_of_the_issue():
    outcome = run("--input 28x28x3 --kernel 5 --stride 2 --padding same --filters 8")
    assert outcome.exit_code == 0, outcome.output
    for words in ("14 x 14 x 8", "(5*5*3 + 1)*8 = 608", "117,600", "ceil(28/2) = 14", f"{2352 * 1568 + 1568:,}"):
        assert words in outcome.output


def test_the_command_gives_one_document():
    outcome = run("--input 9x8x4 --kernel 3x5 --stride 2 --groups 2 --filters 6 --json")
    document = json.loads(outcome.stdout)
    assert document["schema"] == "striate.conv_arithmetic/1"
    assert document["output"] == [6, 4, 2]
    assert document["parameters"] == 3 * 5 * 2 * 6 + 6
    assert document["reads"] == {
        "rows": [1, 1, 2, 1, 2, 1, 2, 1, 1],
        "columns": [1, 1, 2, 2, 2, 1, 1, 0],
        "least": 0,
        "most": 4,
    }


@pytest.mark.parametrize("suffix", ["gif", "png"])
def test_the_command_draws(tmp_path: Path, suffix: str):
    path = tmp_path / f"window.{suffix}"
    outcome = run(f"--image {path} --numbers '1,2,3;4,5,6;7,8,9' --weights '1,0;0,1'")
    assert outcome.exit_code == 0, outcome.output
    with Image.open(path) as image:
        assert image.format == suffix.upper()
        assert getattr(image, "n_frames", 1) == (4 if suffix == "gif" else 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--input 28x28x3 --stride 0", "stride 0x0"),
        ("--input 28by28", "28x28x3"),
        ("--kernel 3x", "3 or 3x5"),
        ("--padding 1.5", "same, valid, full, 2 or 2x3"),
        ("--pool --filters 3", "--pool has no filters"),
        ("--image a.jpg", ".gif"),
        ("--numbers 1,2", "add --image"),
        ("--input 300x300 --image a.gif", "too large to read"),
        ("--input 4x4 --numbers '1,2;3,4' --kernel 2 --image a.gif", "numbers are 2x2, but the layer's input is 4x4"),
    ],
)
def test_bad_input_gets_one_message(arguments: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    outcome = run(arguments)
    assert isinstance(outcome.exception, UsageError)
    assert message in str(outcome.exception)
    assert list(tmp_path.iterdir()) == []
