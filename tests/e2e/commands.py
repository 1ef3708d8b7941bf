"""The command line as a person uses it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
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
    return subprocess.Popen(
        [sys.executable, "-m", "striate", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
        preexec_fn=_listening,
    )


def _listening() -> None:
    """Hear Ctrl-C, which a shell's background jobs, and all that they start, are told to ignore."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
