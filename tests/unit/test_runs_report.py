import base64
import io
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from striate.core.annotations import Classifications
from striate.metrics.classification import ClassificationMetric
from striate.runs.report import Curve, Headline, Mistake, Report, Setting, render, write_report
from striate.viz.charts import Mark, Series

HOSTILE = "<script>document.title='taken'</script>\"'&</style>"


def sample(names: tuple[str, ...] = ("cat", "dog", HOSTILE), text: str = "plain") -> Report:
    """A run with a little of everything; `text` stands wherever text from outside can stand."""
    scores = torch.rand(60, len(names), generator=torch.Generator().manual_seed(0)).softmax(1)
    truths = torch.arange(60) % len(names)
    metric = ClassificationMetric(len(names))
    metric.update(Classifications(labels=scores.argmax(1), scores=scores), Classifications(labels=truths))
    metrics = metric.compute()
    mistake = Mistake(
        image=np.arange(28 * 28, dtype=np.uint8).reshape(28, 28, 1),
        truth=names[0],
        prediction=names[2],
        score=0.987,
        truth_score=0.004,
        id=f"test[12] {text}",
    )
    photo = replace(mistake, image=np.zeros((600, 900, 3), dtype=np.uint8), id="b.jpg")
    return Report(
        name=f"run {text}",
        task="classification",
        model=f"model {text}",
        data=f"data {text}",
        headline=Headline(
            metric="top1",
            value=metrics["top1"],
            interval=metric.interval(0),
            split="test",
            images=60,
            note=f"note {text}",
        ),
        metrics=metrics,
        facts=[("parameters", "61,706"), (f"fact {text}", f"value {text}")],
        curves=[
            Curve(
                title=f"Loss {text}",
                series=[
                    Series(name=f"train {text}", x=[1, 2, 3], y=[3, 2, 1]),
                    Series(name="val", x=[1, 2, 3], y=[3, 2, 2]),
                ],
                marks=[Mark(x=3, label=f"best {text}")],
            )
        ],
        classes=names,
        confusion=metric.confusion,
        per_class=metric.per_class(names),
        reliability=metric.reliability(),
        mistakes=[mistake, photo],
        skipped=[(f"broken {text}.jpg", f"truncated {text}")],
        settings=[
            Setting(name="epochs", value=f"3 {text}", source="command line"),
            Setting(name="momentum", value="0.9", source="default"),
        ],
        warnings=[f"beware {text}"],
    )


class Page(HTMLParser):
    """What a reader of the page meets: its elements and its text; fails on elements that are not closed in order."""

    VOID = frozenset({"meta", "link", "img", "br"})

    def __init__(self, page: str):
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str):
        assert self.open.pop() == tag

    def handle_data(self, data: str):
        if self.open[-1:] not in (["script"], ["style"]):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(render(sample()))


def test_the_page_is_well_formed_and_fetches_nothing(page: Page):
    assert page.open == []
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            if name in ("src", "srcset", "href", "xlink:href", "action", "poster", "data"):
                assert value is not None
                assert value.startswith(("data:", "#")), f"<{tag} {name}={value[:60]}>"
    assert not any("@import" in part or "url(" in part for part in render(sample()).split("<style>")[1:])
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert str(policy).startswith("default-src 'none'")


def test_the_headline_says_its_interval_its_split_and_its_images(page: Page):
    report = sample()
    low, high = report.headline.interval or (0, 0)
    assert f"{100 * report.headline.value:.2f}%" in page.text
    assert f"95% interval {low:.2%} to {high:.2%}" in page.text
    assert "top1 on test, 60 images" in page.text
    assert "note plain" in page.text


def test_everything_is_told(page: Page):
    for told in (
        "run plain", "model plain", "data plain", "parameters", "61,706", "value plain", "Loss plain", "train plain",
        "best plain", "98.7%", "0.4%", "test[12] plain", "broken plain.jpg", "truncated plain", "epochs", "3 plain",
        "command line", "At their defaults: 1", "momentum", "beware plain", "cat", "dog", "F1", "support",
    ):  # fmt: skip
        assert told in page.text, told
    for row in sample().per_class:
        assert f"{row['precision']:.4f}" in page.text
    ids = {attributes.get("id") for _, attributes in page.elements}
    for link in page.all("a"):
        assert str(link["href"])[1:] in ids


def test_pictures_are_inside_and_small_ones_are_exact(page: Page):
    small, large = page.all("img")
    assert small["alt"] == f"test[12] plain: cat, predicted as {HOSTILE}"
    kind, data = str(small["src"]).split(",", 1)
    assert kind == "data:image/png;base64"
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("L"))
    np.testing.assert_array_equal(pixels, sample().mistakes[0].image[:, :, 0])
    assert len(str(large["src"])) < 20_000


def test_text_from_outside_stays_text():
    plain, hostile = Page(render(sample())), Page(render(sample(text=HOSTILE)))
    assert [tag for tag, _ in plain.elements] == [tag for tag, _ in hostile.elements]
    assert len(hostile.all("script")) == 1
    assert hostile.text.count(HOSTILE) > 15
    unreadable = Page(render(sample(text="\x00\ud800")))
    assert [tag for tag, _ in plain.elements] == [tag for tag, _ in unreadable.elements]


def test_what_is_empty_is_left_out():
    bare = Report(
        name="r", task="classification", model="m", data="d", metrics={}, facts=[],
        headline=Headline(metric="top1", value=1.0, interval=None, split="val", images=1),
    )  # fmt: skip
    page = Page(render(bare))
    assert page.all("section") == [{"class": "headline"}]
    assert "interval" not in page.text


def test_a_perfect_model_has_no_mistakes():
    names = ("a", "b")
    report = replace(sample(), classes=names, confusion=np.diag([30, 30]), mistakes=())
    assert "None: every image is classified right." in Page(render(report)).text


def test_long_lists_are_cut_and_counted():
    report = replace(sample(), skipped=[(f"{i}.jpg", "truncated") for i in range(5000)])
    page = Page(render(report))
    assert "5,000 could not be read" in page.text
    assert "199.jpg" in page.text
    assert "200.jpg" not in page.text
    assert "and 4,800 more" in page.text


def test_a_thousand_classes_and_two_dozen_photographs_fit_into_two_megabytes():
    names = tuple(f"class {i}" for i in range(1000))
    report = sample(names)
    noise = np.random.default_rng(0).integers(0, 256, (500, 500, 3), dtype=np.uint8)
    report = replace(report, mistakes=[replace(report.mistakes[0], image=noise)] * 24)
    assert len(render(report).encode()) < 2_000_000


def test_writing_replaces_the_old_report_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "report.html"
    write_report(path, sample())
    before = path.read_text(encoding="utf-8")
    assert before == render(sample())

    def full_disk(*_: object, **__: object):
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(OSError, match="no space"):
        write_report(path, sample(text="other"))
    assert path.read_text(encoding="utf-8") == before
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
