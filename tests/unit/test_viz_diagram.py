import re
from itertools import combinations, pairwise
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import ImageColor

from striate.viz.diagram import TIMES, Block, diagram_png, diagram_svg, shape_words

ALEXNET = [
    Block(label="input", kind="input", shape=(3, 227, 227)),
    Block(label="conv1", kind="conv", shape=(96, 55, 55), note=f"conv 11{TIMES}11 /4"),
    Block(label="pool1", kind="pool", shape=(96, 27, 27), note=f"max pool 3{TIMES}3 /2"),
    Block(label="conv2", kind="conv", shape=(256, 27, 27), note=f"conv 5{TIMES}5"),
    Block(label="fc6", kind="full", shape=(4096,), note="full"),
    Block(label="fc8", kind="full", shape=(10,), note="full"),
]
LONG = [
    ALEXNET[0],
    *(
        Block(
            label=f"a stage of long name {i}",
            kind="block",
            shape=(16 << i // 4, 224 >> i // 3, 224 >> i // 3),
            note=f"inverted residual with a gate 5{TIMES}5 /2",
            repeats=i,
        )
        for i in range(1, 17)
    ),
    ALEXNET[-1],
]
TOKENS = [
    ALEXNET[0],
    Block(label="patches", kind="conv", shape=(768, 14, 14), note=f"conv 16{TIMES}16 /16"),
    Block(label="encoder", kind="block", shape=(197, 768), note="encoder block", repeats=12),
    Block(label="head", kind="full", shape=(1000,), note="full"),
]
WIDE = [
    Block(label="input", kind="input", shape=(1, 32, 512)),
    Block(label="conv", kind="conv", shape=(2048, 1, 256), note="conv"),
    Block(label="conv", kind="conv", shape=(4, 1, 1), note="conv"),
]
VECTORS = [
    Block(label="input", kind="input", shape=(1, 28, 28)),
    Block(label="hidden", kind="full", shape=(300,), note="full"),
    Block(label="head", kind="full", shape=(1,), note="full"),
]
PICTURES = pytest.mark.parametrize("blocks", [ALEXNET, LONG, TOKENS, WIDE, VECTORS, ALEXNET[:1]])
SVG = "{http://www.w3.org/2000/svg}"
Box = tuple[float, float, float, float]


def drawn(blocks: list[Block], title: str = "a network") -> ET.Element:
    return ET.fromstring(diagram_svg(title, blocks))


def words(root: ET.Element, kind: str) -> list[str]:
    return [text.text or "" for text in root.iter(f"{SVG}text") if text.get("class") == kind]


def box_of(element: ET.Element) -> Box:
    """What an element covers. A character is taken to be 0.56 of the letters' size wide, as in a wide sans-serif."""
    if element.tag == f"{SVG}text":
        size = 18 if element.get("class") == "title" else 13
        x, y, width = float(element.get("x", 0)), float(element.get("y", 0)), 0.56 * size * len(element.text or "")
        left = x if element.get("text-anchor") == "start" else x - width / 2
        return left, y - 0.75 * size, left + width, y + 0.2 * size
    points = [[float(n) for n in point.split(",")] for point in element.get("points", "").split()]
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


@PICTURES
def test_nothing_is_cut_and_the_picture_fits_a_page(blocks: list[Block]):
    root = drawn(blocks)
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    assert width <= 1600
    for element in root.iter():
        if element.tag in {f"{SVG}text", f"{SVG}polygon", f"{SVG}polyline"}:
            left, top, right, bottom = box_of(element)
            assert left >= 0
            assert top >= 0
            assert right <= width
            assert bottom <= height


@PICTURES
def test_no_words_cover_words_solids_or_arrows(blocks: list[Block]):
    root = drawn(blocks)
    texts = [box_of(text) for text in root.iter(f"{SVG}text")]
    assert not any(overlap(one, other) for one, other in combinations(texts, 2))
    for polygon in root.iter(f"{SVG}polygon"):
        assert not any(overlap(box_of(polygon), text) for text in texts)
    for line in root.iter(f"{SVG}polyline"):
        points = [[float(n) for n in point.split(",")] for point in line.get("points", "").split()]
        for (x1, y1), (x2, y2) in pairwise(points):
            piece = (min(x1, x2), min(y1, y2) - 0.1, max(x1, x2) + 0.1, max(y1, y2) + 0.1)
            assert not any(overlap(piece, text) for text in texts)


def test_every_block_is_named_with_its_shape_and_its_step():
    root = drawn(ALEXNET, "AlexNet")
    assert words(root, "title") == ["AlexNet"]
    assert words(root, "label") == ["input", "conv1", "pool1", "conv2", "fc6", "fc8"]
    shapes = [text.replace(TIMES, "x") for text in words(root, "shape")]
    assert shapes == ["3 @ 227x227", "96 @ 55x55", "96 @ 27x27", "256 @ 27x27", "4096", "10"]
    notes = " ".join(words(root, "note")).replace(TIMES, "x")
    assert "conv 11x11 /4 max pool 3x3 /2 conv 5x5 full full" in notes
    described = root.find(f"{SVG}desc")
    assert described is not None
    assert "conv1 96 @ 55x55 (conv 11x11 /4)" in (described.text or "").replace(TIMES, "x")
    assert len(list(root.iter(f"{SVG}polyline"))) == 5


def test_only_the_kinds_that_are_there_are_explained():
    legend = words(drawn(VECTORS), "note")[-2:]
    assert legend == ["input", "full layer"]


def solids(root: ET.Element, kind: str) -> list[Box]:
    """The front faces, without the squares of the legend."""
    fronts = [box_of(p) for p in root.iter(f"{SVG}polygon") if p.get("class") == f"{kind} front"]
    return fronts[:-1]


def test_height_follows_the_side_and_width_the_channels():
    root = drawn(ALEXNET)
    (conv1, conv2), (pool1,) = solids(root, "conv"), solids(root, "pool")

    def size(box: Box) -> tuple[float, float]:
        return box[2] - box[0], box[3] - box[1]

    assert size(pool1)[1] == pytest.approx(size(conv2)[1])
    assert size(pool1)[0] == pytest.approx(size(conv1)[0], abs=0.2)
    assert size(conv1)[1] / size(pool1)[1] == pytest.approx((55 / 27) ** 0.5, rel=0.01)
    assert size(conv2)[0] / size(conv1)[0] == pytest.approx((256 / 96) ** 0.5, rel=0.01)
    fc6, fc8 = solids(root, "full")
    assert size(fc6)[1] > size(fc8)[1] > 5 * size(fc8)[0]


def test_repeats_are_said_and_drawn_as_sheets():
    root = drawn(TOKENS)
    assert f"{TIMES}12" in words(root, "note")
    assert len(solids(root, "block")) == 6
    assert not any(note == f"{TIMES}1" for note in words(root, "note"))


def test_long_chains_break_into_rows_of_one_direction():
    root = drawn(LONG)
    labels = [text for text in root.iter(f"{SVG}text") if text.get("class") == "shape"]
    places = [float(text.get("x", 0)) for text in labels]
    rows = 1 + sum(after < before for before, after in pairwise(places))
    assert 2 <= rows <= 4
    turns = [line for line in root.iter(f"{SVG}polyline") if len(line.get("points", "").split()) > 2]
    assert len(turns) == rows - 1


def test_the_file_stands_alone_and_knows_the_dark():
    svg = diagram_svg('a <b> & "c"', [Block(label="<i>", kind="input", shape=(1, 2, 3))])
    root = ET.fromstring(svg)
    assert words(root, "title") == ['a <b> & "c"']
    assert words(root, "label") == ["<i>"]
    assert not re.search(r"href|url\(|@import|<script", svg)
    style = root.find(f"{SVG}style")
    assert style is not None
    light, dark = (style.text or "").split("@media (prefers-color-scheme: dark) {")

    def colours(rules: str) -> dict[str, str]:
        found = re.findall(r"([^{}]+){[^}]*fill: (#\w{6})", rules)
        return {name.split()[-1]: colour for names, colour in found for name in names.split(",")}

    for rules, paper in ((colours(light), "#ffffff"), (colours(dark), "#171b21")):
        assert rules[".paper"] == paper
        assert contrast(rules[".shape"], paper) > 7
        assert contrast(rules[".tip"], paper) > 4.5


def contrast(one: str, other: str) -> float:
    """Of WCAG 2.1."""

    def light(colour: str) -> float:
        parts = [part / 255 for part in ImageColor.getrgb(colour)[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((light(one), light(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@PICTURES
def test_the_png_is_the_same_picture(blocks: list[Block]):
    svg = diagram_svg("a network", blocks)
    root = ET.fromstring(svg)
    picture = diagram_png("a network", blocks)
    assert picture.mode == "RGB"
    assert picture.size == (int(root.get("width", 0)), int(root.get("height", 0)))
    pixels = np.asarray(picture)
    fills = dict(re.findall(r"\.diagram \.(\w+\.\w+) { fill: (#\w+); }", svg.split("@media")[0]))
    for polygon in root.iter(f"{SVG}polygon"):
        left, top, right, bottom = box_of(polygon)
        if "top" not in polygon.get("class", "") and min(right - left, bottom - top) > 8:  # its middle has its colour
            found = pixels[round((top + bottom) / 2), round((left + right) / 2)]
            expected = ImageColor.getrgb(fills[polygon.get("class", "").replace(" ", ".")])
            np.testing.assert_allclose(found.astype(int), expected, atol=2)
    for text in root.iter(f"{SVG}text"):
        left, top, right, bottom = (round(edge) for edge in box_of(text))
        assert (pixels[top:bottom, left:right].min(2) < 160).any(), text.text
    edges = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    assert (edges == 255).all()


def test_shapes_in_words():
    assert shape_words((6, 28, 28)) == f"6 @ 28{TIMES}28"
    assert shape_words((197, 768)) == f"197 {TIMES} 768"
    assert shape_words((4096,)) == "4096"
