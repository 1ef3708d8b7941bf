"""The harness: what is kept is not measured again, what does not fit is refused, and the page shows what was found."""

import json
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from striate.engine.log import Display
from striate.errors import DataError, DivergedError, InterruptedRunError, UsageError
from striate.studies import lab as lab_module
from striate.studies.lab import Lab
from striate.studies.run import run_study
from striate.studies.study import Chart, Findings, Part, Study, Table, Verdict, judge, summary
from striate.viz.charts import Series, line_chart

HOSTILE = "<script>alert('x')</script>"
calls: list[str] = []


@dataclass(frozen=True, kw_only=True)
class Sizes:
    images: int
    seeds: int
    lr: float = 0.01


def measure(lab: Lab, sizes: Sizes) -> Findings:
    lab.plan(2 * len(lab.seeds))
    tops: list[float] = []
    for seed in lab.seeds:
        run = lab.train("linear", seed=seed, model="linear", per_class=sizes.images, epochs=1, lr=sizes.lr)
        tops.append(run.metrics["top1"])
        lab.once(f"count {seed}", lambda: calls.append("count"))
    found = summary(tops)
    chart = line_chart("Accuracy", [Series(name="a", x=[1, 2], y=[0.1, 0.2])], x_label="epoch")
    return Findings(
        verdict=Verdict.HOLDS,
        why=f"top1 {found:.3f} {HOSTILE}",
        parts=[Part(claim="one", measured="two", holds=False)],
        tables=[Table(title="A table", columns=("model", "top1"), rows=[("linear", f"{found:.3f}")], caption="said")],
        charts=[Chart(title="Accuracy", svg=chart, caption="a caption")],
        numbers={"top1": found.to_json()},
    )


STUDY = Study(
    name="trial",
    title="A trial",
    claim="It can be measured.",
    citation="Nobody 2000, section 1",
    rule="Always holds.",
    data=("digits",),
    quick=Sizes(images=2, seeds=1),
    full=Sizes(images=2, seeds=2),
    measure=measure,
)
QUIET = Display(quiet=True)


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("it was trained again")

    monkeypatch.setattr(lab_module.striate, "train", refuse, raising=False)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("studies") / "trial"
    calls.clear()
    run_study(STUDY, effort="full", out=out, display=QUIET)
    return out


def test_it_writes_a_page_and_a_document(done: Path):
    document = json.loads((done / "study.json").read_text())
    assert document["schema"] == "striate.study/1"
    assert (document["data"], document["seeds"], document["effort"]) == ("digits", 2, "full")
    assert document["plan"] == {"images": 2, "seeds": 2, "lr": 0.01}
    assert document["verdict"] == "holds"
    assert 0 <= document["numbers"]["top1"]["mean"] <= 1
    assert document["machines"][0]["versions"]["striate"]
    assert document["seconds"] > 0
    page = (done / "study.html").read_text()
    for shown in (
        "It can be measured.",
        "Nobody 2000",
        "Always holds.",
        "Holds",
        "A table",
        "a caption",
        "2</b> seeds",
    ):
        assert shown in page
    assert "<script" not in page
    assert "alert(" in page
    assert not any(f"{scheme}://" in page.replace("http://www.w3.org/2000/svg", "") for scheme in ("http", "https"))


def test_what_was_measured_is_used_again(done: Path, no_training: None):
    before, seconds = list(calls), json.loads((done / "study.json").read_text())["seconds"]
    again = run_study(STUDY, effort="full", out=done, display=QUIET)
    assert calls == before == ["count", "count"]
    assert round(again.seconds, 1) == seconds


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seeds": 3}, "seeds 2 then, 3 now"),
        ({"effort": "quick"}, "effort full then, quick now"),
        ({"plan": Sizes(images=3, seeds=2)}, "images 2 then, 3 now"),
    ],
)
def test_a_folder_with_other_parameters_is_refused(done: Path, options: dict[str, Any], words: str):
    with pytest.raises(UsageError, match=words):
        run_study(STUDY, **({"effort": "full", "out": done, "display": QUIET} | options))


def test_a_folder_in_which_nothing_was_measured_is_free(tmp_path: Path):
    def fail(lab: Lab, sizes: Sizes) -> Findings:
        raise DataError("not there")

    broken = replace(STUDY, measure=fail)
    with pytest.raises(DataError):
        run_study(broken, out=tmp_path / "study", display=QUIET)
    run_study(replace(STUDY, measure=found_nothing), seeds=2, out=tmp_path / "study", display=QUIET)


def found_nothing(lab: Lab, sizes: Sizes) -> Findings:
    return Findings(verdict=Verdict.NOT_HERE, why="")


def test_it_says_when_an_older_session_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "study"
    study = replace(STUDY, measure=found_nothing)
    for _ in range(2):
        assert len(run_study(study, out=out).machines) == 1
    assert "Note" not in capsys.readouterr().err
    settings = json.loads((out / "study_settings.json").read_text())
    settings["machines"][0]["versions"]["torch"] = "0.1"
    (out / "study_settings.json").write_text(json.dumps(settings))
    result = run_study(study, out=out)
    assert "was begun on another machine, with other versions" in capsys.readouterr().err
    assert result.machines[0]["versions"]["torch"] == "0.1"
    assert "several sessions" in result.page.read_text()


def test_a_folder_of_something_else_is_refused(done: Path, tmp_path: Path):
    other = replace(STUDY, name="other")
    with pytest.raises(UsageError, match="holds the study trial, not other"):
        run_study(other, effort="full", out=done, display=QUIET)
    with pytest.raises(UsageError, match="holds a training run"):
        run_study(STUDY, out=done / "runs" / "linear-seed0", display=QUIET)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file"):
        run_study(STUDY, out=tmp_path / "file", display=QUIET)


def make_lab(out: Path) -> Lab:
    return Lab(
        out=out, data="digits", root=None, seeds=range(1), effort="quick", weights=None, display=QUIET, name="trial"
    )


def test_a_training_with_other_settings_is_refused(done: Path):
    with pytest.raises(UsageError, match=r"lr 0\.01 then, 0\.5 now"):
        make_lab(done).train("linear", seed=0, model="linear", per_class=2, epochs=1, lr=0.5)
    with pytest.raises(UsageError, match="model linear then, auto now"):
        make_lab(done).train("linear", seed=0, per_class=2, epochs=1, lr=0.01)


def test_a_stopped_training_goes_on_and_a_diverged_one_stays_diverged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    lab = make_lab(tmp_path)
    settings: dict[str, Any] = {"model": "linear", "per_class": 2, "epochs": 1, "seed": 0}
    first = lab.train("a", **settings)
    record = (first.path / "metrics.jsonl").read_text().splitlines(keepends=True)
    (first.path / "metrics.jsonl").write_text("".join(line for line in record if '"event": "end"' not in line))
    assert lab.train("a", **settings).metrics == first.metrics
    assert "resume" not in record[-1]

    def diverge(*_: Any, out: Path, **__: Any) -> None:
        out.mkdir(parents=True)
        (out / "run.yaml").write_text((first.path / "run.yaml").read_text())
        raise DivergedError("no longer finite")

    monkeypatch.setattr(lab_module.striate, "train", diverge, raising=False)
    for _ in range(2):  # the second time nothing is trained: the folder says so
        with pytest.raises(DivergedError, match="no longer finite"):
            lab.train("b", **settings)


def test_an_interrupted_study_says_how_to_go_on(tmp_path: Path):
    def stop(lab: Lab, sizes: Sizes) -> Findings:
        raise KeyboardInterrupt

    stopped = replace(STUDY, measure=stop)
    with pytest.raises(InterruptedRunError, match=r"striate study trial --quick --seeds 1 --out .*stopped"):
        run_study(stopped, seeds=1, out=tmp_path / "stopped", display=QUIET)


def test_options_that_do_not_fit_are_refused(tmp_path: Path):
    def like(**changes: Any) -> Study:
        return replace(STUDY, **changes)

    @dataclass(frozen=True, kw_only=True)
    class Certain:
        sizes: int = 1

    with pytest.raises(UsageError, match="--seeds 0"):
        run_study(STUDY, seeds=0, out=tmp_path, display=QUIET)
    with pytest.raises(UsageError, match="takes no weights"):
        run_study(STUDY, weights="a.pth", out=tmp_path, display=QUIET)
    with pytest.raises(UsageError, match="needs no data"):
        run_study(like(data=()), data="digits", out=tmp_path, display=QUIET)
    with pytest.raises(UsageError, match="depends on a seed"):
        run_study(like(quick=Certain()), seeds=2, out=tmp_path, display=QUIET)
    with pytest.raises(DataError, match=r"needs one of cifar10, mnist.*--root"):
        run_study(like(data=("cifar10", "mnist")), root=tmp_path, out=tmp_path / "none", display=QUIET)
    with pytest.raises(UsageError, match=r"no study 'activation'|there is no study"):
        run_study("activatoins", out=tmp_path, display=QUIET)
    assert not (tmp_path / "none").exists()


def test_the_first_data_that_is_there_is_taken(tmp_path: Path):
    seen: list[str] = []

    def look(lab: Lab, sizes: Sizes) -> Findings:
        seen.append(lab.data)
        return Findings(verdict=Verdict.NOT_HERE, why="")

    def like(**changes: Any) -> Study:
        return Study(
            **{name: getattr(STUDY, name) for name in Study.__dataclass_fields__} | {"measure": look} | changes
        )

    run_study(like(data=("cifar10", "digits")), root=tmp_path, out=tmp_path / "a", display=QUIET)
    run_study(like(data=(), own_data=lambda folder: str(folder)), out=tmp_path / "b", display=QUIET)
    assert seen == ["digits", str(tmp_path / "b" / "data")]


def test_measurements_come_back_as_json_gives_them(tmp_path: Path):
    lab = make_lab(tmp_path)
    value = {1: (2.0, math.nan), "inf": -math.inf}
    assert lab.once("a", lambda: value) == {"1": [2.0, None], "inf": None}
    assert lab.once("a", lambda: 1 / 0) == {"1": [2.0, None], "inf": None}
    with pytest.raises(ValueError, match="would share"):
        lab.once("a ", lambda: 1)


def test_images_are_balanced_nested_and_drawn_by_the_seed(tmp_path: Path):
    lab = make_lab(tmp_path)
    few, more, other = (
        lab.images("test", per_class=2),
        lab.images("test", per_class=5),
        lab.images("train", per_class=2, seed=1, size=16),
    )
    assert few.pixels.shape == (20, 1, 28, 28)
    assert few.labels.bincount().tolist() == [2] * 10
    rows = {image.numpy().tobytes() for image in more.pixels}
    assert all(image.numpy().tobytes() in rows for image in few.pixels)
    assert other.pixels.shape == (20, 1, 16, 16)


@pytest.mark.parametrize("count", [2, 3, 10, 11, 12, 30, 200])
def test_intervals_are_students(count: int):
    values = [math.sin(7 * i) for i in range(count)]
    low, high = stats.t.interval(0.95, count - 1, loc=sum(values) / count, scale=stats.sem(values))
    found = summary(values)
    assert found.low == pytest.approx(low, abs=1e-3 * (high - low))
    assert found.high == pytest.approx(high, abs=1e-3 * (high - low))
    assert f"{found:.2f}" == f"{found.mean:.2f} ± {(high - low) / 2:.2f}"


def test_one_value_has_no_interval():
    assert (summary([0.5]).low, f"{summary([0.5]):.1%}") == (None, "50.0%")


def test_a_claim_holds_as_far_as_its_parts():
    yes, no = (Part(claim="", measured="", holds=holds) for holds in (True, False))
    assert [judge(parts) for parts in ([yes, yes], [yes, no], [no])] == ["holds", "holds in part", "does not hold here"]


def test_the_example_of_the_documentation_runs(tmp_path: Path):
    text = (Path(__file__).parents[2] / "docs" / "studies.md").read_text(encoding="utf-8")
    example: dict[str, Any] = {"__name__": "example"}
    exec(re.findall(r"```python\n(from dataclasses.*?)```", text, re.DOTALL)[0], example)
    study = example["STUDY"]
    small = replace(study, data=("digits",))
    result = run_study(small, plan=replace(study.quick, epochs=1, seeds=1), out=tmp_path / "study", display=QUIET)
    assert set(result.findings.numbers) == {"lenet5", "lenet5_modern"}
