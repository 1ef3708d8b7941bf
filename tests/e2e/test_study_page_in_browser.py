"""A study's page in a browser: nothing fails, nothing is fetched, nothing sticks out."""

import re
from pathlib import Path

import pytest
from PIL import Image
from test_report_in_browser import browser, visit, with_script  # noqa: F401 (browser is a fixture)

from striate.engine.log import Display
from striate.studies.run import run_study
from striate.studies.study import Chart, Findings, Part, Picture, Study, Table, Verdict
from striate.studies.vanishing_gradients import Sizes
from striate.viz.charts import Bars, Series, bar_groups, line_chart

HOSTILE = "<script>document.title='taken'</script>"


def findings(*_: object) -> Findings:
    line = line_chart("Lines", [Series(name=HOSTILE, x=[1, 2], y=[1, 2], low=[0, 1], high=[2, 3])], x_label="step")
    bars = bar_groups("Bars", ["one", "two"], [Bars(name=name, values=[1, 2]) for name in ("a", HOSTILE)])
    return Findings(
        verdict=Verdict.IN_PART,
        why=f"because {HOSTILE}",
        parts=[Part(claim="a long claim " * 8, measured="as much " * 8, holds=holds) for holds in (True, False)],
        tables=[Table(title="Wide", columns=[f"column {i}" for i in range(12)], rows=[["a long name"] * 12] * 3)],
        charts=[Chart(title="Lines", svg=line, caption="said"), Chart(title="Bars", svg=bars)],
        pictures=[Picture(title="Wide too", image=Image.new("RGB", (1500, 40)), caption="said")],
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    sizes = Sizes(width=1, depths=(1, 2), per_class=1, steps=1, rates=(1.0,), seeds=1)
    study = Study(
        name="trial", title=f"A trial {HOSTILE}", claim="a claim", citation="Nobody 2000", rule="a rule", quick=sizes,
        full=sizes, measure=findings,
    )  # fmt: skip
    out = tmp_path_factory.mktemp("study") / "trial"
    return run_study(study, out=out, display=Display(quiet=True)).page.read_text(encoding="utf-8")


def test_it_renders_without_errors_and_without_the_network(browser: str, page: str, tmp_path: Path):  # noqa: F811
    checks = """
      const flat = [...document.querySelectorAll("svg.chart")].filter(each => each.getBoundingClientRect().height < 50);
      const broken = [...document.images].filter(image => !image.naturalWidth);
      document.body.dataset.seen = `${document.images.length} ${broken.length} ${flat.length}`;
    """
    allowed = page.replace("style-src 'unsafe-inline'", "style-src 'unsafe-inline'; script-src 'unsafe-inline'")
    document, console, asked = visit(browser, with_script(allowed, checks), tmp_path)
    assert console == []
    assert asked == []
    assert 'data-seen="1 0 0"' in document
    assert "taken</title>" not in document


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_sticks_out_at_any_width(browser: str, page: str, tmp_path: Path, width: int):  # noqa: F811
    inner = page.replace("&", "&amp;").replace('"', "&quot;")
    outer = f"""<!DOCTYPE html><iframe srcdoc="{inner}" style="width:{width}px;height:900px;border:0"></iframe><script>
      onload = () => {{ const root = document.querySelector("iframe").contentDocument.documentElement;
        document.body.dataset.widths = `${{root.clientWidth}} ${{root.scrollWidth}}`; }};</script>"""
    document, _, _ = visit(browser, outer, tmp_path, "--window-size=1400,1000")
    found = re.search(r'data-widths="(\d+) (\d+)"', document)
    assert found
    client, scroll = int(found[1]), int(found[2])
    assert width - 20 <= client <= width
    assert scroll <= client
