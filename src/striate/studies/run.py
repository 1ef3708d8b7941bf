"""Runs a study: finds its data, measures or goes on measuring, and writes the page and the document."""

import hashlib
import json
import shlex
import time
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from striate.data import known
from striate.engine.log import Display
from striate.errors import DataError, InterruptedRunError, UsageError
from striate.files import write_text
from striate.runs.folder import hardware, is_run, versions
from striate.studies.catalog import find
from striate.studies.lab import Lab
from striate.studies.page import render
from striate.studies.study import Effort, Findings, Study

SCHEMA = "striate.study/1"
SETTINGS_SCHEMA = "striate.study_settings/1"


@dataclass(frozen=True, kw_only=True)
class StudyResult:
    """A study that was measured to its end."""

    study: Study
    findings: Findings
    effort: Effort
    plan: dict[str, Any]  # the sizes that were used
    data: str  # empty where none was needed
    seeds: int | None  # None where nothing depends on chance
    seconds: float  # of all trainings and measurements, earlier sessions included
    machines: list[dict[str, Any]]  # {started, hardware, versions, code} of the sessions, equal ones once
    command: str  # that measures the same again
    path: Path
    page: Path

    def to_json(self) -> dict[str, Any]:
        """The ``striate.study/1`` document."""
        study, found = self.study, self.findings
        return {
            "schema": SCHEMA,
            "study": study.name,
            "title": study.title,
            "claim": study.claim,
            "citation": study.citation,
            "rule": study.rule,
            "verdict": str(found.verdict),
            "why": found.why,
            "parts": [asdict(part) for part in found.parts],
            "numbers": found.numbers,
            "tables": [asdict(table) for table in found.tables],
            "charts": [{"title": chart.title, "caption": chart.caption} for chart in found.charts],
            "effort": self.effort,
            "plan": self.plan,
            "data": self.data,
            "seeds": self.seeds,
            "seconds": round(self.seconds, 1),
            "machines": self.machines,
            "command": self.command,
            "path": str(self.path),
            "page": str(self.page),
        }


def run_study(
    study: str | Study,
    *,
    effort: Effort = "quick",
    data: str | None = None,
    root: Path | None = None,
    seeds: int | None = None,
    out: Path | None = None,
    weights: str | None = None,
    plan: Any = None,
    display: Display | None = None,
) -> StudyResult:
    """Run a study, or go on with it where it was stopped: finished trainings and measurements are used again.

    Args:
        study: its name, or a study of one's own.
        effort: "quick", within five minutes on two cores; or "full", as the docs show it.
        data: known name or path; the best that the study names and that is there when left out.
        root: folder that holds the known data sets.
        seeds: how many; the study's own number when left out.
        out: the study's folder; ``studies/NAME-EFFORT`` when left out.
        weights: a file with weights, for studies that take one.
        plan: other sizes than those of the effort, of the study's own dataclass.
        display: progress.

    Raises:
        UsageError: an unknown study, an option that it does not take, or a folder of something else.
        DataError: its data is not there.
        InterruptedRunError: it was stopped; the same call goes on.
    """
    display = display or Display()
    study = find(study) if isinstance(study, str) else study
    plan = _with_seeds(study, plan or getattr(study, effort), seeds)
    if weights is not None and not study.weights:
        raise UsageError(f"the study {study.name} takes no weights: leave --weights out.")
    if data is not None and not study.data and study.own_data is None:
        raise UsageError(f"the study {study.name} needs no data: leave --data out.")
    out = out or Path("studies") / f"{study.name}-{effort}"
    named = data or _known_data(study, root)
    sizes: dict[str, Any] = _plain(asdict(plan))
    wanted = {"study": study.name, "effort": effort, "data": named, "weights": weights, "plan": sizes}
    _refuse_other(out, wanted)
    machines = _settings(out, wanted, {"hardware": hardware(), "versions": versions(), "code": _code(study)}, display)
    found_data = named if study.own_data is None or named else study.own_data(out / "data")
    if found_data:
        display.say(f"Data: {found_data}.")
    count = getattr(plan, "seeds", None)
    lab = Lab(
        out=out,
        data=found_data,
        root=root,
        seeds=range(count or 1),
        effort=effort,
        weights=weights,
        display=display,
        name=study.name,
    )
    given = {"data": data, "seeds": seeds, "weights": weights}
    try:
        findings = study.measure(lab, plan)
    except (InterruptedRunError, KeyboardInterrupt):
        again = _command(study, effort, **given, root=root, out=out)
        raise InterruptedRunError(f"interrupted; everything measured so far is kept. Go on with '{again}'.") from None
    finally:
        display.close()
    result = StudyResult(
        study=study,
        findings=findings,
        effort=effort,
        plan=sizes,
        data=found_data,
        seeds=count,
        seconds=lab.seconds,
        machines=machines,
        command=_command(study, effort, **given),
        path=out,
        page=out / "study.html",
    )
    write_text(out / "study.json", json.dumps(result.to_json(), indent=1, allow_nan=False))
    write_text(result.page, render(result))
    display.say(f"{study.title}: {findings.verdict}. {findings.why}")
    display.say(f"Page: {result.page}  measured in {result.seconds:.0f} s.")
    return result


def _with_seeds(study: Study, plan: Any, seeds: int | None) -> Any:
    if seeds is None:
        return plan
    if not any(entry.name == "seeds" for entry in fields(plan)):
        raise UsageError(f"nothing in the study {study.name} depends on a seed: leave --seeds out.")
    if seeds < 1:
        raise UsageError(f"--seeds {seeds}: a study takes one or more.")
    return replace(plan, seeds=seeds)


def _command(study: Study, effort: Effort, **options: object) -> str:
    given = [str(part) for name, value in options.items() if value is not None for part in (f"--{name}", value)]
    return shlex.join(["striate", "study", study.name, f"--{effort}", *given])


def _known_data(study: Study, root: Path | None) -> str:
    """The best data of those that the study names and that are there; empty where it needs none or writes its own."""
    for name in study.data:
        if known.is_there(name, root):
            return name
    if not study.data or study.own_data is not None:
        return ""
    raise DataError(
        f"the study {study.name} needs one of {', '.join(study.data)}, and none is in {root or known.DEFAULT_ROOT}. "
        "Name their folder with --root, or other images with --data; 'striate train NAME --download' fetches a set."
    )


def _refuse_other(out: Path, wanted: dict[str, Any]) -> None:
    """Raise `UsageError` where ``out`` holds anything but the same study with the same parameters."""
    if is_run(out):
        raise UsageError(f"{out} holds a training run, not a study: choose another --out.")
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file; it names the folder of the study.")
    if not _begun(out):
        return
    then = json.loads((out / "study_settings.json").read_text(encoding="utf-8"))["wanted"]
    if then["study"] != wanted["study"]:
        raise UsageError(f"{out} holds the study {then['study']}, not {wanted['study']}: choose another --out.")
    flat_then, flat_now = then | then["plan"], wanted | wanted["plan"]
    other = [
        f"{name} {flat_then.get(name)} then, {flat_now.get(name)} now"
        for name in {**flat_then, **flat_now}
        if name != "plan" and flat_then.get(name) != flat_now.get(name)
    ]
    if other:
        raise UsageError(
            f"{out} holds the study {wanted['study']} with other parameters ({'; '.join(other)}). Choose another --out."
        )


def _begun(out: Path) -> bool:
    """Whether anything was measured yet."""
    return any((out / part).exists() for part in ("runs", "measurements", "study.json"))


def _settings(out: Path, wanted: dict[str, Any], here: dict[str, Any], display: Display) -> list[dict[str, Any]]:
    """Write down what is measured and on what; the machines of all sessions so far."""
    file = out / "study_settings.json"
    machines: list[dict[str, Any]] = []
    if _begun(out):
        machines = json.loads(file.read_text(encoding="utf-8"))["machines"]
    if not any(here == {name: value for name, value in each.items() if name != "started"} for each in machines):
        if machines:
            display.say(
                f"Note: {out} was begun on another machine, with other versions or another text of the study; what was "
                "measured then is kept. Choose another --out to measure all of it anew."
            )
        machines.append({"started": time.strftime("%Y-%m-%d %H:%M"), **here})
    document = {"schema": SETTINGS_SCHEMA, "wanted": wanted, "machines": machines}
    write_text(file, json.dumps(document, indent=1))
    return machines


def _code(study: Study) -> str:
    """A hash of the study's file."""
    file = Path(study.measure.__code__.co_filename)
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16] if file.exists() else ""


def _plain(value: Any) -> Any:
    """As JSON gives it back, so that it can be compared."""
    return json.loads(json.dumps(value))
