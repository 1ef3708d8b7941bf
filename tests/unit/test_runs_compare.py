"""The list of runs goes on behind a damaged one."""

import json
from pathlib import Path

import pytest
import yaml

from striate.cli.main import main
from striate.runs.compare import overviews
from striate.runs.folder import SCHEMA, find_runs

RUN = {"schema": SCHEMA, "started": "2026-01-01", "data": {"name": "d"}, "settings": {"model": "m"}, "sources": {}}


def write(folder: Path, text: str, metrics: str = "") -> None:
    folder.mkdir()
    (folder / "run.yaml").write_text(text)
    (folder / "metrics.jsonl").write_text(metrics)


def test_a_damaged_run_is_listed_as_unreadable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "whole", yaml.safe_dump(RUN))
    write(tmp_path / "torn", "schema: [")
    write(tmp_path / "binary", "\0")
    write(tmp_path / "bare", yaml.safe_dump({"schema": SCHEMA}))
    write(tmp_path / "other", yaml.safe_dump({**RUN, "data": "d"}))
    write(tmp_path / "scribbled", yaml.safe_dump(RUN), "no JSON\n")
    (tmp_path / "latin").mkdir()
    (tmp_path / "latin" / "run.yaml").write_bytes(b"schema: \xff")
    states = {Path(row["run"]).name: row["state"] for row in overviews(find_runs(tmp_path))}
    assert states.pop("whole").startswith("stopped")
    assert len(states) == 6
    assert all(state.startswith("unreadable: ") for state in states.values())
    with pytest.raises(SystemExit) as stopped:
        main(["runs", "list", str(tmp_path), "--json"])
    assert not stopped.value.code
    assert len(json.loads(capsys.readouterr().out)["runs"]) == 7
