"""The command line as a person uses it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.out)


Cli = Callable[..., Outcome]


def striate(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    """Start a command as a process of its own."""
    return _start("-m", "striate", *arguments, **environment)


def torchrun(*arguments: object) -> subprocess.Popen[str]:
    """Start a command as two processes."""
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    return _start(*launch, "-m", "striate", *arguments, OMP_NUM_THREADS="1")


def _start(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
        preexec_fn=_listening,
    )


def _listening() -> None:
    """Hear Ctrl-C, which a shell's background jobs, and all that they start, are told to ignore."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def kill_after(epochs: int, out: Path, *arguments: object) -> None:
    """Train into ``out`` and kill the process in the middle of the epoch that follows so many."""
    process = striate("train", *arguments, "--checkpoint-every", 0.01, "--out", out)

    def far_enough() -> bool:
        return (out / "metrics.jsonl").exists() and len(events(out, "epoch")) >= epochs

    try:
        wait_for(far_enough, process, seconds=600)
    finally:
        process.kill()
        process.communicate()


def events(run: Path, kind: str) -> list[dict[str, object]]:
    """Events of one kind from a run's record."""
    lines = (run / "metrics.jsonl").read_text().split("\n")[:-1]  # the last may be half written
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for a process that should end well; gives what it said."""
    _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return err


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 60) -> None:
    """Wait until something is so, while a process runs."""
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.02)


def same_result(run: Path, whole: Path) -> None:
    """Hold that two runs came to the same bits and wrote the same record."""
    assert (run / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    for kind in ("step", "epoch"):
        assert events(run, kind) == events(whole, kind)
    ends = [events(folder, "end")[0]["result"] for folder in (run, whole)]
    assert ends[0]["metrics"] == ends[1]["metrics"]  # type: ignore[index]
