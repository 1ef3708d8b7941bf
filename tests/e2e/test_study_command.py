"""`striate study`: the list, a run with its page, what it refuses, and what Ctrl-C leaves behind."""

import json
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
from commands import Cli, striate

import striate as package
from striate.studies import catalog, vanishing_gradients
from striate.viz.text import escape

TINY = vanishing_gradients.Sizes(width=16, depths=(2, 4), per_class=10, steps=3, rates=(0.01,), seeds=1)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder to work in, where the study of gradients has sizes of a second."""
    monkeypatch.setattr(vanishing_gradients, "STUDY", replace(vanishing_gradients.STUDY, quick=TINY))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_a_name_it_lists_all_studies(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    outcome = cli("study")
    assert outcome.code == 0
    for name in catalog.NAMES:
        assert name in outcome.out
        assert catalog.find(name).title in outcome.out
    rows = cli("study", "--json").json
    assert rows["schema"] == "striate.studies/1"
    assert [row["study"] for row in rows["studies"]] == list(catalog.NAMES)
    assert all(row["pages"] == [] for row in rows["studies"])


def test_a_study_leaves_a_page_that_the_list_shows(cli: Cli, small: Path):
    outcome = cli("study", "vanishing-gradients", "--data", "digits", "--seeds", 2, "--json")
    assert outcome.code == 0, outcome.err
    document = outcome.json
    assert document["schema"] == "striate.study/1"
    assert (document["seeds"], document["effort"], document["data"]) == (2, "quick", "digits")
    assert document["verdict"] in ("holds", "holds in part", "does not hold here")
    page = small / "studies" / "vanishing-gradients-quick" / "study.html"
    assert Path(document["page"]) == page.relative_to(small)
    assert json.loads((page.parent / "study.json").read_text()) == document
    assert escape(document["why"]) in page.read_text()
    assert document["command"] == "striate study vanishing-gradients --quick --data digits --seeds 2"
    assert document["command"] in page.read_text()
    assert "Page: " in outcome.err
    listed = {row["study"]: row["pages"] for row in cli("study", "--json").json["studies"]}
    assert listed["vanishing-gradients"] == [str(page.relative_to(small))]
    assert str(page.relative_to(small)) in cli("study").out

    measured = sorted((page.parent / "measurements").iterdir())
    before = [file.stat().st_mtime_ns for file in measured]
    assert cli("study", "vanishing-gradients", "--data", "digits", "--seeds", 2).code == 0
    assert [file.stat().st_mtime_ns for file in measured] == before

    refused = cli("study", "vanishing-gradients", "--data", "digits", "--seeds", 3)
    assert refused.code == 2
    assert "seeds 2 then, 3 now" in refused.err


def test_the_same_from_python(small: Path):
    result = package.study("vanishing_gradients", data="digits", out=small / "here", quiet=True)
    assert result.page == small / "here" / "study.html"
    assert result.findings.numbers["accuracy"]
    assert result.seconds > 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("activatons",), 2, "there is no study 'activatons'"),
        (("vanishing-gradient",), 2, "Did you mean 'vanishing-gradients'"),
        (("vanishing-gradients", "--quick", "--full"), 2, "choose one"),
        (("--full",), 2, "which study?"),
        (("where-the-work-is", "--data", "digits"), 2, "needs no data"),
        (("where-the-work-is", "--seeds", "3"), 2, "depends on a seed"),
        (("vanishing-gradients", "--weights", "a.pth"), 2, "takes no weights"),
        (("normalise-input", "--data", "nowhere/"), 2, "nowhere"),
    ],
)
def test_bad_input_gets_one_message(cli: Cli, small: Path, arguments: tuple[str, ...], code: int, words: str):
    outcome = cli("study", *arguments)
    assert outcome.code == code
    assert words in outcome.err
    assert "Traceback" not in outcome.err


def test_data_that_is_nowhere(cli: Cli, small: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(vanishing_gradients, "STUDY", replace(vanishing_gradients.STUDY, data=("cifar10",)))
    outcome = cli("study", "vanishing-gradients", "--root", small)
    assert outcome.code == 3
    assert "needs one of cifar10" in outcome.err
    assert "--root" in outcome.err


def test_a_stopped_study_says_how_to_go_on(tmp_path: Path):
    out = tmp_path / "study"
    process = striate("study", "vanishing-gradients", "--data", "digits", "--out", out)
    patience = time.monotonic() + 120
    while not list(out.glob("measurements/*.json")) and time.monotonic() < patience:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 7, err
    assert f"striate study vanishing-gradients --quick --data digits --out {out}" in err
    assert not (out / "study.html").exists()
