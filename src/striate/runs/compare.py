"""Runs beside each other."""

from collections.abc import Sequence
from typing import Any

from striate.errors import StriateError, UsageError
from striate.runs.folder import RunFolder

COMPARE_SCHEMA = "striate.comparison/1"


def overview(run: RunFolder) -> dict[str, Any]:
    """One row of the list of runs: name, data, model, how far it came and how good it is."""
    document, result = run.document, run.result
    settings = document["settings"]
    epochs = [event for event in run.events() if event["event"] == "epoch"]
    row: dict[str, Any] = {
        "run": str(run.path),
        "data": document["data"]["name"],
        "model": settings["model"],
        "started": document["started"],
        "epochs": epochs[-1]["epoch"] if epochs else 0,
        "state": "done" if result else f"stopped; resume with {run.resume}",
    }
    if result:
        row |= {"split": result["split"], "seconds": result["seconds"], "best_epoch": result["best"]["epoch"]}
        row |= result["metrics"]
    return row


def overviews(runs: Sequence[RunFolder]) -> list[dict[str, Any]]:
    """One row per run; that of a damaged one says so as its state."""
    rows: list[dict[str, Any]] = []
    for run in runs:
        try:
            rows.append(overview(run))
        except (StriateError, LookupError, TypeError, ValueError, AttributeError, OSError) as error:
            reason = " ".join(str(error).split()) if isinstance(error, StriateError) else repr(error)
            rows.append({"run": str(run.path), "state": f"unreadable: {reason}"})
    return rows


def compare(runs: Sequence[RunFolder]) -> dict[str, Any]:
    """Where runs differ.

    Returns:
        ``{schema, runs, settings: {name: [value per run]}, results: {name: [value per run]}}``; of the settings only
        those that differ.

    Raises:
        UsageError: fewer than two runs.
    """
    if len(runs) < 2:
        raise UsageError("compare needs two runs or more, as in 'striate runs compare runs/A runs/B'.")
    settings = [run.document["settings"] for run in runs]
    names = list(dict.fromkeys(name for one in settings for name in one))
    differing = {
        name: [one.get(name) for one in settings] for name in names if len({str(one.get(name)) for one in settings}) > 1
    }
    rows = [overview(run) for run in runs]
    keys = [key for key in dict.fromkeys(key for row in rows for key in row) if key not in ("run", "data", "model")]
    return {
        "schema": COMPARE_SCHEMA,
        "runs": [str(run.path) for run in runs],
        "settings": differing,
        "results": {key: [row.get(key) for row in rows] for key in keys},
    }
