"""What a run says: lines of ``metrics.jsonl`` for programs, a progress bar or now and then a line for people."""

import json
import os
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from striate.errors import StriateError

LINE_EVERY = 15.0  # seconds between two lines where there is no terminal
REFRESH_EVERY = 0.1  # seconds between two updates of the bar


class Sink(Protocol):
    """Takes every event too, such as TensorBoard's writer."""

    def record(self, event: Mapping[str, Any]) -> None:
        """Take in one event."""
        ...

    def close(self) -> None:
        """Write out what is left."""
        ...


class Display:
    """Progress for a person, on standard error. A quiet one shows nothing.

    Args:
        quiet: show nothing at all.
        console: where to show it; standard error when left out.
    """

    def __init__(self, *, quiet: bool = False, console: Console | None = None):
        self.console = console or Console(stderr=True, quiet=quiet, highlight=False)
        self._bar: Progress | None = None
        self._row: TaskID | None = None
        self._last = time.monotonic()

    def say(self, text: str) -> None:
        """One message, above the bar."""
        self.console.print(escape(text), soft_wrap=True)

    def progress(self, label: str, done: int, total: int, detail: str = "") -> None:
        """Where the work stands; may be called as often as one likes."""
        now = time.monotonic()
        if not self.console.is_terminal:
            if now - self._last >= LINE_EVERY:
                self.console.print(escape(f"{label}  {done}/{total}  {detail}"), soft_wrap=True)
                self._last = now
            return
        if done < total and now - self._last < REFRESH_EVERY:
            return
        self._last = now
        if self._bar is None:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[detail]}"),
                TimeRemainingColumn(compact=True),
                console=self.console,
                transient=True,
            )
            self._bar.start()
            self._row = self._bar.add_task(label, total=total, detail=detail)
        assert self._row is not None
        self._bar.update(self._row, description=escape(label), completed=done, total=total, detail=escape(detail))

    def close(self) -> None:
        """Take the bar away; the next progress begins a new one."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = self._row = None


class Log:
    """The record of a run and its display.

    Args:
        path: ``metrics.jsonl``; None keeps no record (another process of a distributed run does).
        position: bytes of the record to keep; what a killed run wrote after its last checkpoint is cut off.
        display: for people.
        sinks: take every event too.
    """

    def __init__(
        self, path: Path | None, display: Display, *, position: int | None = None, sinks: tuple[Sink, ...] = ()
    ):
        self.display = display
        self._sinks = sinks
        self._file = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab")
            if position is not None:
                self._file.truncate(min(position, path.stat().st_size))
                self._file.seek(0, os.SEEK_END)  # where `tell` would otherwise still see the old end

    def record(self, event: str, **values: Any) -> None:
        """One event: a line of the record."""
        line = {"event": event} | values
        if self._file is not None:
            with _writing(self._file.name):
                self._file.write(json.dumps(line).encode() + b"\n")
        for sink in self._sinks:
            sink.record(line)

    def say(self, text: str, **values: Any) -> None:
        """A message for people, kept in the record too."""
        self.display.say(text)
        self.record("message", text=text, **values)

    def position(self) -> int:
        """Bytes of the record so far, all of them on disk."""
        if self._file is None:
            return 0
        with _writing(self._file.name):
            self._file.flush()
            os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Write out what is left."""
        self.display.close()
        if self._file is not None:
            with suppress(OSError):  # a full disk was met, and said, before
                self._file.close()
        for sink in self._sinks:
            sink.close()


@contextmanager
def _writing(name: str) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise StriateError(f"cannot write {name}: {error}. Make room, then go on with --resume.") from error
