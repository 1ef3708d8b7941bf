"""``striate inspect conv``."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from striate.cli.output import print_json
from striate.errors import UsageError

if TYPE_CHECKING:
    from striate.analysis.conv_arithmetic import ConvArithmetic, Numbers

PICTURES = (".gif", ".png")


@click.command("conv")
@click.option("--input", "images", metavar="HxWxC", help="height, width and channels  [5x5x1, or those of --numbers]")
@click.option("--kernel", metavar="N|HxW", help="size of the window  [3, or that of --weights]")
@click.option("--stride", metavar="N|HxW", help="step of the window  [1; with --pool the kernel's size]")
@click.option("--padding", metavar="same|valid|full|N", default="valid", show_default=True, help="around the input")
@click.option("--filters", type=int, help="output channels  [1; with --pool the input's]")
@click.option("--dilation", metavar="N|HxW", default="1", show_default=True, help="distance between the kernel's taps")
@click.option("--groups", type=int, default=1, show_default=True, help="parts that the channels are split into")
@click.option("--transposed", is_flag=True, help="a transposed convolution; its padding is cut off the output")
@click.option("--pool", is_flag=True, help="max-pooling instead of a convolution")
@click.option("--numbers", metavar='"3,3,2;0,0,1"', help="the input of the picture  [an example]")
@click.option("--weights", metavar='"0,1;2,2"', help="the kernel of the picture  [an example]")
@click.option("--image", type=click.Path(path_type=Path), metavar="OUT.gif|OUT.png", help="draw the sliding window")
@click.option("--json", "as_json", is_flag=True, help="one JSON document on standard output")
def command(
    images: str | None,
    kernel: str | None,
    stride: str | None,
    padding: str,
    filters: int | None,
    dilation: str,
    groups: int,
    transposed: bool,
    pool: bool,
    numbers: str | None,
    weights: str | None,
    image: Path | None,
    as_json: bool,
) -> None:
    """Say what a convolution gives: output size, parameters, compute, and the dense layer it stands for.

    Sizes are height x width x channels. With --image, a window slides over the numbers of one channel.
    """
    from striate.analysis.conv_arithmetic import EXAMPLE, EXAMPLE_KERNEL, conv_arithmetic, read_matrix

    if image is not None and image.suffix.lower() not in PICTURES:
        raise UsageError(f"--image {image}: an animation is a .gif, its last frame a .png.")
    if (numbers is not None or weights is not None) and image is None:
        raise UsageError("--numbers and --weights are for the picture: add --image OUT.gif.")
    if pool and (filters is not None or weights is not None):
        raise UsageError(f"--pool has no {'filters' if filters is not None else 'weights'}: it works on each channel.")
    given = None if numbers is None else read_matrix(numbers, "--numbers")
    taps = None if weights is None else read_matrix(weights, "--weights")
    window = _pair(kernel, "--kernel") if kernel else (EXAMPLE_KERNEL if taps is None else taps).shape
    size = _sizes(images) if images else (1, *(EXAMPLE if given is None else given).shape)
    layer = conv_arithmetic(
        images=size,
        kernel=window,
        filters=1 if filters is None else filters,
        stride=_pair(stride, "--stride") if stride else window if pool else (1, 1),
        padding=padding if padding.isalpha() else _pair(padding, "--padding"),
        dilation=_pair(dilation, "--dilation"),
        groups=groups,
        transposed=transposed,
        pool=pool,
    )
    if image is not None:
        _draw(layer, given, taps, image)
    if as_json:
        print_json(layer.to_json())
    else:
        for name, value in _lines(layer):
            click.echo(f"{name:<12}{value}")
    if image is not None:
        click.echo(f"Drawn: {image}", err=True)


def _pair(text: str, flag: str) -> tuple[int, int]:
    found = re.fullmatch(r"(-?\d{1,6})(?:x(-?\d{1,6}))?", text.strip().lower())
    if not found:
        example = "same, valid, full, 2 or 2x3" if flag == "--padding" else "3 or 3x5 (height x width)"
        raise UsageError(f"{flag} {text}: write {example}.")
    return int(found[1]), int(found[2] or found[1])


def _sizes(text: str) -> tuple[int, int, int]:
    found = re.fullmatch(r"(\d{1,6})x(\d{1,6})(?:x(\d{1,6}))?", text.strip().lower())
    if not found:
        raise UsageError(f"--input {text}: write height x width x channels, as in 28x28x3.")
    return int(found[3] or 1), int(found[1]), int(found[2])


def _lines(layer: "ConvArithmetic") -> list[tuple[str, str]]:
    """Heading and text of every line for people."""
    channels, height, width = layer.output
    rows, columns = layer.reads
    least, most = min(rows) * min(columns), max(rows) * max(columns)
    lines = [
        ("layer", f"{layer.kind} of {_described(layer)}"),
        ("output", f"{height} x {width} x {channels} (height x width x channels), {layer.units:,} units"),
        ("height", layer.formulas[0]),
        ("width", layer.formulas[1]),
        *(("note", note) for note in layer.notes),
        (
            "reads",
            f"each filter reads a pixel {most if least == most else f'{least} to {most}'} time{'s' * (most != 1)}",
        ),
    ]
    if layer.kind == "pooling":
        return [*lines, ("parameters", "0"), ("compares", f"{layer.comparisons:,} numbers")]
    depth = layer.input[0] // layer.groups
    in_units = layer.input[0] * layer.input[1] * layer.input[2]
    taps = f"{layer.kernel[0]}*{layer.kernel[1]}*{depth}"
    positions = layer.input[1:] if layer.kind.startswith("transposed") else layer.output[1:]
    return [
        *lines,
        ("parameters", f"({taps} + 1)*{channels} = {layer.parameters:,}"),
        ("MACs", f"{taps}*{channels} weights at {positions[0]}*{positions[1]} places = {layer.macs:,}"),
        (
            "dense",
            f"the same map from a dense layer: {in_units:,} inputs * {layer.units:,} units + {layer.units:,} biases = "
            f"{layer.dense_parameters:,} parameters",
        ),
        (
            "",
            f"a dense layer of as many units as filters: ({in_units:,} + 1)*{channels} = "
            f"{layer.dense_units_parameters:,} parameters",
        ),
    ]


def _described(layer: "ConvArithmetic") -> str:
    def pair(numbers: tuple[int, int]) -> str:
        return str(numbers[0]) if numbers[0] == numbers[1] else f"{numbers[0]}x{numbers[1]}"

    (top, bottom), (left, right) = layer.padding
    padding = pair((top, left)) if (top, left) == (bottom, right) else f"{top}, {bottom} high and {left}, {right} wide"
    words = [
        f"{layer.input[1]} x {layer.input[2]} x {layer.input[0]}",
        f"kernel {pair(layer.kernel)}",
        f"stride {pair(layer.stride)}",
        f"padding {padding}",
    ]
    if layer.dilation != (1, 1):
        words.append(f"dilation {pair(layer.dilation)}")
    if layer.groups > 1:
        words.append(f"{layer.groups} groups")
    return ", ".join(words)


def _draw(layer: "ConvArithmetic", numbers: "Numbers | None", weights: "Numbers | None", path: Path) -> None:
    from striate.analysis.conv_arithmetic import EXAMPLE, EXAMPLE_KERNEL, example, slide
    from striate.files import replacing
    from striate.viz.conv_animation import Slide, draw_step, save_animation, too_large

    if max(layer.input[1:]) > 10_000:  # not even the grid should be made
        raise UsageError(f"--image: an input of {layer.input[1]}x{layer.input[2]} numbers is too large to read.")
    numbers = example(EXAMPLE, layer.input[1:]) if numbers is None else numbers
    if layer.kind != "pooling" and weights is None:
        weights = example(EXAMPLE_KERNEL, layer.kernel)
    window = slide(layer, numbers, weights)
    title = f"{layer.kind} of {_described(layer)} gives {layer.output[1]} x {layer.output[2]}"
    if layer.input[0] > 1 or layer.output[0] > 1:
        title += "; one channel of it, one filter"
    picture = Slide(
        grid=window.grid,
        given=window.given,
        weights=window.weights,
        kernel=window.kernel,
        stride=window.stride,
        dilation=window.dilation,
        output=window.output,
        title=title,
    )
    animated = path.suffix.lower() == ".gif"
    if complaint := too_large(picture, animated=animated):
        raise UsageError(f"--image {path}: {complaint}")
    with replacing(path) as temporary:
        if animated:
            save_animation(picture, temporary)
        else:
            draw_step(picture, picture.output.size - 1).save(temporary, format="PNG")
