import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from striate.viz.charts import (
    Bar,
    Bars,
    Mark,
    Series,
    bar_groups,
    bar_list,
    heat_map,
    line_chart,
    precision_recall_chart,
    reliability_diagram,
    standalone,
)
from striate.viz.text import escape, shorten

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "<script>alert('x')</script> & \"quoted\" \x00 \ud800 猫"


def drawn(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def texts(root: ElementTree.Element) -> dict[str, tuple[float, float]]:
    """Every text with its place."""
    return {"".join(e.itertext()): (float(e.get("x", 0)), float(e.get("y", 0))) for e in root.iter(f"{SVG}text")}


def points(element: ElementTree.Element) -> list[tuple[float, float]]:
    return [tuple(float(v) for v in pair.split(",")) for pair in element.get("points", "").split()]  # type: ignore[misc]


def lines(root: ElementTree.Element) -> list[list[tuple[float, float]]]:
    return [points(e) for e in root.iter(f"{SVG}polyline")]


def charts(name: str) -> list[str]:
    counts, half = np.array([[3, 1], [0, 4]]), np.full(15, 0.5)
    return [
        line_chart(name, [Series(name=name, x=[1], y=[1])] * 2, x_label=name, unit=name, marks=[Mark(x=1, label=name)]),
        line_chart(name, [], x_label="epoch"),
        bar_list(name, [Bar(name=name, value=1, text=name)], unit=name),
        bar_list(name, []),
        bar_groups(name, [name], [Bars(name=name, values=[1], texts=[name])] * 2, unit=name),
        bar_groups(name, [], []),
        heat_map(name, counts, [name, "b"]),
        precision_recall_chart(name, [Series(name=name, x=[0, 1], y=[1, 0])] * 2, Series(name=name, x=[0], y=[1])),
        precision_recall_chart(name, [], Series(name=name, x=[], y=[])),
        reliability_diagram(name, np.arange(15), half, half),
    ]


@pytest.mark.parametrize("svg", charts(HOSTILE))
def test_hostile_names_stay_text_and_files_are_valid_alone(svg: str):
    document = standalone(svg)
    root = ElementTree.fromstring(document.encode())
    assert not list(root.iter(f"{SVG}script"))
    assert "alert('x')" in "".join(root.itertext())
    assert root.find(f"{SVG}title") is not None
    assert root.find(f"{SVG}desc") is not None
    assert not re.search(r"(href|src|url\()", document)
    assert root.find(f"{SVG}style") is not None


def test_values_stand_at_their_ticks():
    root = drawn(line_chart("Loss", [Series(name="train", x=[0, 5, 10], y=[0.0, 0.5, 1.0])], x_label="epoch"))
    (line,) = lines(root)
    labels = texts(root)
    for (x, y), across, up in ((line[0], "0", "0.0"), (line[2], "10", "1.0")):
        assert x == pytest.approx(labels[across][0], abs=0.2)
        assert y == pytest.approx(labels[up][1] - 4, abs=0.2)  # the baseline of the label is 4 under its line
    assert line[1][0] - line[0][0] == pytest.approx(line[2][0] - line[1][0], abs=0.2)
    assert line[0][1] > line[1][1] > line[2][1]  # up is more


def test_equal_ratios_are_equal_distances_on_a_log_axis():
    rates = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]
    loss = Series(name="loss", x=[0.0, *rates], y=[9, 5, 4, 3, 2, 1])
    svg = line_chart("LR range test", [loss], x_label="learning rate", x_log=True)
    (line,) = lines(drawn(svg))
    assert len(line) == 5  # zero has no place on a log axis
    assert np.ptp(np.diff([x for x, _ in line])) < 0.3
    assert {"10⁻⁵", "0.001", "0.1"} <= set(texts(drawn(svg)))


@pytest.mark.parametrize(
    ("low", "high"),
    [(0, 1), (0.981, 0.9931), (-3, 7), (1e-5, 3e-5), (0, 123456), (2.3, 2.3), (0, 0), (1e7, 3e7), (-1e-9, 1e-9)],
)
def test_ticks_are_few_distinct_and_hold_all_values(low: float, high: float):
    root = drawn(line_chart("t", [Series(name="s", x=[1, 2], y=[low, high])], x_label="x"))
    ticks = [e.text for e in root.iter(f"{SVG}text") if e.get("text-anchor") == "end"]
    assert 3 <= len(ticks) <= 8
    assert len(set(ticks)) == len(ticks)
    values = [float(str(tick).replace("\N{MINUS SIGN}", "-")) for tick in ticks]
    assert np.ptp(np.diff(values)) < 0.02 * abs(values[1] - values[0])
    assert min(values) <= low + 1e-12
    assert max(values) >= high - 1e-12


def test_whole_numbers_such_as_epochs_get_no_fractions():
    for epochs in ([1], [1, 2], [1, 2, 3], list(range(1, 14))):
        root = drawn(line_chart("t", [Series(name="s", x=epochs, y=epochs)], x_label="epoch"))
        below = [e.text for e in root.iter(f"{SVG}text") if e.get("text-anchor") == "middle" and e.text != "epoch"]
        assert below
        assert not [text for text in below if "." in str(text)]


def test_what_is_not_finite_leaves_a_gap():
    nan = math.nan
    root = drawn(line_chart("t", [Series(name="s", x=range(7), y=[1, 2, nan, 3, math.inf, 4, 5])], x_label="x"))
    assert [len(line) for line in lines(root)] == [2, 2]
    visible = [e for e in root.iter() if e.get("class") == "dot"]
    assert visible  # the value between two gaps is a dot
    assert "no values" in texts(drawn(line_chart("t", [Series(name="s", x=[1], y=[nan])], x_label="x")))


def test_bands_legend_and_marks():
    train = Series(name="train", x=[1, 2, 3], y=[1, 2, 3])
    val = Series(name="val", x=[1, 2, 3], y=[2, 3, 4], low=[1, 2, 3], high=[3, 4, 6])
    marks = [Mark(x=2, label="best epoch"), Mark(x=99, label="outside")]
    svg = line_chart("t", [train, val], x_label="epoch", marks=marks)
    root = drawn(svg)
    (band,) = root.iter(f"{SVG}polygon")
    assert len(points(band)) == 6
    labels = texts(root)
    assert {"train", "val", "best epoch"} <= set(labels)
    assert "outside" not in labels
    (mark,) = [e for e in root.iter() if e.get("class") == "mark"]
    assert float(mark.get("x1", 0)) == pytest.approx(lines(root)[0][1][0], abs=0.2)


def test_the_pointer_is_told_all_values_of_a_position():
    series = [Series(name="train", x=[1, 2], y=[0.25, 0.125]), Series(name="val", x=[2], y=[0.5])]
    hovers = [e for e in drawn(line_chart("t", series, x_label="epoch")).iter() if e.get("class") == "hover"]
    assert [e.findtext(f"{SVG}title") for e in hovers] == ["epoch 1\ntrain: 0.25", "epoch 2\ntrain: 0.125\nval: 0.5"]


def test_long_runs_stay_small_and_keep_their_peaks():
    steps = np.arange(100_000)
    values = np.sin(steps / 9999)
    values[77_777], values[33_333] = 5, -5
    svg = line_chart("t", [Series(name="s", x=steps, y=values)], x_label="step")
    assert len(svg) < 100_000
    (line,) = lines(drawn(svg))
    heights = np.array([y for _, y in line])
    spikes = [line[i][0] for i in (heights.argmax(), heights.argmin())]
    left, right = line[0][0], line[-1][0]
    assert (np.array(spikes) - left) / (right - left) == pytest.approx([0.33333, 0.77777], abs=0.001)


def test_y_limits_hold():
    series = [Series(name="s", x=[1, 2, 3], y=[1, 1e6, 2])]
    assert {"0", "4"} <= set(texts(drawn(line_chart("t", series, x_label="x", y_limits=(0, 4)))))


def test_bars_are_as_long_as_their_values():
    root = drawn(bar_list("t", [Bar(name="a", value=4), Bar(name="b", value=1), Bar(name="c", value=0)]))
    wide = [float(e.get("width", 0)) for e in root.iter(f"{SVG}rect")]
    assert wide[0] == pytest.approx(4 * wide[1], rel=0.01)
    assert wide[2] <= 1
    assert {"a", "4", "b", "1"} <= set(texts(root))


def test_grouped_bars_and_their_intervals_share_one_scale():
    bars = [
        Bars(name="one", values=[2, math.nan], low=[1, math.nan], high=[4, math.nan]),
        Bars(name="two", values=[1, 3], texts=["a bit", "more"]),
    ]
    root = drawn(bar_groups("t", ["left", "right"], bars))
    groups = {str(e.findtext(f"{SVG}title")): e for e in root.iter(f"{SVG}g")}
    assert set(groups) == {"left, one: 2", "left, two: a bit", "right, two: more"}  # what is missing has no bar
    rects = {name: e.find(f"{SVG}rect") for name, e in groups.items()}
    begin, wide = {}, {}
    for name, rect in rects.items():
        assert rect is not None
        begin[name], wide[name] = float(rect.get("x", 0)), float(rect.get("width", 0))
    assert len(set(begin.values())) == 1
    assert wide["left, one: 2"] == pytest.approx(2 * wide["left, two: a bit"], rel=0.01)
    assert wide["right, two: more"] == pytest.approx(3 * wide["left, two: a bit"], rel=0.01)
    whisker = groups["left, one: 2"].find(f"{SVG}path")
    assert whisker is not None
    start, stop = (float(v) for v in re.findall(r"M([\d.]+) [\d.]+H([\d.]+)", whisker.get("d", ""))[0])
    left, step = begin["left, one: 2"], wide["left, two: a bit"]
    assert (start - left, stop - left) == pytest.approx((step, 4 * step), rel=0.01)
    assert {"one", "two", "left", "right", "a bit"} <= set(texts(root))


def test_heat_map_shows_every_count():
    counts = np.array([[50, 2, 0], [0, 40, 0], [1, 0, 9]])
    root = drawn(heat_map("Confusion", counts, ["cat", "dog", "a class with a very long name"]))
    cells = {e.findtext(f"{SVG}title"): e for e in root.iter(f"{SVG}rect") if e.findtext(f"{SVG}title")}
    assert len(cells) == 5  # zeros are left empty
    wrong = cells["cat → dog: 2 of 52 (3.8%)"]
    assert "wrong" in wrong.get("class", "")
    right = cells["dog → dog: 40 of 40 (100.0%)"]
    assert "right" in right.get("class", "")
    assert float(wrong.get("x", 0)) == pytest.approx(float(right.get("x", 0)))  # the same column
    assert float(wrong.get("y", 0)) < float(right.get("y", 0))
    assert {"50", "2", "40", "1", "9", "cat", "dog"} <= set(texts(root))


@pytest.mark.parametrize("classes", [30, 100, 1000])
def test_heat_map_of_many_classes_stays_readable(classes: int):
    counts = np.diag(np.full(classes, 50))
    counts[7, 3] = counts[classes - 1, 0] = 20
    svg = heat_map("Confusion", counts, [f"class {i}" for i in range(classes)])
    assert len(svg) < 100_000
    titles = {e.text for e in drawn(svg).iter(f"{SVG}title")}
    assert "class 7 → class 3: 20 of 70 (28.6%)" in titles
    assert f"class {classes - 1} → class 0: 20 of 70 (28.6%)" in titles
    assert ("the 100 of 1000 classes with most mistakes" in svg) == (classes == 1000)


def test_reliability_bars_reach_the_accuracy():
    counts, accuracy = np.zeros(15, dtype=np.int64), np.zeros(15)
    counts[[4, 14]], accuracy[[4, 14]] = [10, 30], [0.5, 1.0]
    root = drawn(reliability_diagram("t", counts, accuracy, accuracy))
    groups = list(root.iter(f"{SVG}g"))
    assert len(groups) == 2  # empty bins have no bar
    low, high = (float(group[0].get("height", 0)) for group in groups)
    assert high == pytest.approx(2 * low, abs=0.2)
    assert "10 images (25.0%)" in str(groups[0].findtext(f"{SVG}title"))


@pytest.mark.parametrize("classes", [1, 6, 80])
def test_precision_recall_has_a_line_per_class_under_the_mean(classes: int):
    recall = np.linspace(0, 1, 101)
    curves = [
        Series(name=f"class {i}", x=recall, y=np.where(recall < 0.8, 1 - recall, math.nan)) for i in range(classes)
    ]
    root = drawn(precision_recall_chart("IoU 0.5", curves, Series(name="mean", x=recall, y=1 - recall)))
    traced = list(root.iter(f"{SVG}polyline"))
    assert [e.findtext(f"{SVG}title") for e in traced] == [*(f"class {i}" for i in range(classes)), "mean"]
    assert traced[-1].get("stroke") == "var(--ink)"
    assert len({e.get("stroke") for e in traced}) == (classes + 1 if classes <= 6 else 2)
    labels = texts(root)
    ends = points(traced[-1])
    assert ends[0][0] < points(traced[0])[-1][0] < ends[-1][0]  # the class's line ends where it has no more values
    left, top = labels["0.0"][0], ends[0][1]
    assert (ends[-1][1] - top) > 200  # from precision 1 down to 0
    assert left == pytest.approx(ends[0][0], abs=60)
    hovers = [e for e in root.iter() if e.get("class") == "hover"]
    assert len(hovers) == (101 if classes <= 6 else 0)
    assert ("each of 80 classes" in labels) == (classes == 80)
    assert ("class 0" in labels) == (classes <= 6)


def test_heat_map_counts_objects_with_a_background():
    counts = np.array([[5, 0, 2], [1, 7, 0], [3, 0, 0]])
    svg = heat_map("Confusion", counts, ["cat", "dog", "background"], what="objects")
    assert "12 of 18 objects are on the diagonal." in svg
    titles = {e.text for e in drawn(svg).iter(f"{SVG}title")}
    assert {"cat → background: 2 of 7 (28.6%)", "background → cat: 3 of 3 (100.0%)"} <= titles


def test_text():
    assert escape("<a href='x'>&\x01\ud800") == "&lt;a href=&#x27;x&#x27;&gt;&amp;\ufffd\ufffd"
    assert shorten("abcdef", 6) == "abcdef"
    assert shorten("abcdefg", 6) == "abcde…"
