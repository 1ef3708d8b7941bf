"""The report in a real browser: it renders, runs without errors, asks the network for nothing, and sorts its tables."""

import contextlib
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from striate.core.annotations import Classifications
from striate.metrics.classification import ClassificationMetric
from striate.runs.report import Curve, Headline, Mistake, Report, Setting, render
from striate.viz.charts import Series

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
NAMES = ("zebra", "ant", "<script>document.title='taken'</script>")


@pytest.fixture(scope="module")
def browser() -> str:
    for name in BROWSERS:
        if path := shutil.which(name):
            return path
    pytest.skip(f"no browser on this machine: looked for {', '.join(BROWSERS)}")


@contextlib.contextmanager
def recording_proxy() -> Iterator[tuple[int, list[str]]]:
    """A proxy that lets nothing through and remembers who was asked for."""
    asked: list[str] = []
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(5)
                asked.append(connection.recv(4096).decode("latin-1").split("\r\n", 1)[0])
                connection.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1], asked
    finally:
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(timeout=5)


def visit(browser: str, page: str, folder: Path, *options: str) -> tuple[str, list[str], list[str]]:
    """Opens a page; gives the document as it ends up, the lines of its console, and what it asked the network for."""
    file = folder / "page.html"
    file.write_text(page, encoding="utf-8")
    with recording_proxy() as (port, asked):
        result = subprocess.run(
            [
                browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                "--disable-default-apps", "--disable-extensions", "--disable-features=OptimizationHints,MediaRouter",
                f"--user-data-dir={folder / 'profile'}", f"--proxy-server=http://127.0.0.1:{port}",
                "--proxy-bypass-list=<-loopback>", "--enable-logging=stderr", "--virtual-time-budget=2000", *options,
                "--dump-dom", file.as_uri(),
            ],
            capture_output=True, text=True, encoding="utf-8", errors="replace", timeout=120, check=False,
        )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    console = [line for line in result.stderr.splitlines() if "CONSOLE" in line]
    # The browser's own errands (its maker's servers) are no doing of the page.
    own = re.compile(r"(google(apis|usercontent)?|gstatic|gvt1|chromium)\.(com|org)[:/]")
    return result.stdout, console, [line for line in asked if line and not own.search(line)]


@pytest.fixture(scope="module")
def page() -> str:
    scores = torch.rand(90, 3, generator=torch.Generator().manual_seed(0)).softmax(1)
    truths = torch.arange(90) % 3
    metric = ClassificationMetric(3)
    metric.update(Classifications(labels=scores.argmax(1), scores=scores), Classifications(labels=truths))
    images = [np.full((28, 28, 1), 40, np.uint8), np.full((300, 400, 3), 200, np.uint8)]
    return render(
        Report(
            name="2026-01-01-zoo-lenet5",
            task="classification",
            model="lenet5",
            data="zoo",
            headline=Headline(metric="top1", value=0.9132, interval=(0.9, 0.93), split="test", images=90),
            metrics=metric.compute(),
            facts=[("parameters", "61,706")],
            curves=[Curve(title="Loss", series=[Series(name=n, x=[1, 2, 3], y=[3, 2, 1]) for n in ("train", "val")])],
            classes=NAMES,
            confusion=metric.confusion,
            per_class=metric.per_class(NAMES),
            reliability=metric.reliability(),
            mistakes=[
                Mistake(image=image, truth=NAMES[0], prediction=NAMES[2], score=0.9, truth_score=0.05, id="a.png")
                for image in images
            ],
            skipped=[("broken.jpg", "truncated")],
            settings=[Setting(name="epochs", value="3", source="command line")],
            warnings=["one file was skipped"],
        )
    )


def with_script(page: str, script: str) -> str:
    return page.replace("</body>", f"<script>{script}</script></body>")


def test_it_renders_without_errors_and_without_the_network(browser: str, page: str, tmp_path: Path):
    checks = """
      const broken = [...document.images].filter(image => !image.naturalWidth).length;
      const charts = [...document.querySelectorAll("svg.chart")];
      const flat = charts.filter(chart => chart.getBoundingClientRect().height < 50).length;
      const counts = [document.images.length, broken, charts.length, flat];
      document.body.dataset.seen = counts.join(" ");
    """
    document, console, asked = visit(browser, with_script(page, checks), tmp_path)
    assert console == []
    assert asked == []
    assert 'data-seen="2 0 4 0"' in document  # two pictures, none broken; four charts, none flat
    assert "<title>2026-01-01-zoo-lenet5: top1 0.9132 on test</title>" in document  # no class name ran as a script
    assert 'class="cell wrong"' in document


def test_this_test_would_see_a_request_and_an_error(browser: str, tmp_path: Path):
    page = '<!DOCTYPE html><img src="http://striate.invalid/a.png"><script>nothing.here()</script>'
    _, console, asked = visit(browser, page, tmp_path)
    assert any("nothing is not defined" in line for line in console)
    assert any("striate.invalid/a.png" in line for line in asked)


def test_the_page_forbids_what_a_hostile_text_might_ask_for(browser: str, page: str, tmp_path: Path):
    _, console, asked = visit(browser, page.replace("<h1>", '<img src="http://striate.invalid/a.png"><h1>'), tmp_path)
    assert asked == []
    assert any("Content Security Policy" in line for line in console)


@pytest.mark.parametrize(
    ("clicks", "column", "order"),
    [(1, 0, ["<script", "ant", "zebra"]), (2, 0, ["zebra", "ant", "<script"]), (1, 4, None), (2, 4, None)],
)
def test_tables_sort_on_a_click(
    browser: str, page: str, tmp_path: Path, clicks: int, column: int, order: list[str] | None
):
    script = f"""
      const table = document.querySelector("#classes table");
      for (let i = 0; i < {clicks}; i++) table.querySelectorAll("th button")[{column}].click();
      document.body.dataset.order = [...table.tBodies[0].rows].map(row => row.cells[{column}].textContent).join("|");
    """
    document, console, _ = visit(browser, with_script(page, script), tmp_path)
    assert console == []
    found = re.search(r'data-order="([^"]*)"', document)
    assert found
    cells = found[1].replace("&lt;", "<").split("|")
    if order:
        assert [cell[: len(want)] for cell, want in zip(cells, order, strict=True)] == order
    else:
        assert [float(cell) for cell in cells] == sorted((float(cell) for cell in cells), reverse=clicks == 2)


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_sticks_out_at_any_width(browser: str, page: str, tmp_path: Path, width: int):
    # A window cannot be as narrow as a phone, a frame can.
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
