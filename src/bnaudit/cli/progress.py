"""Progress on stderr, for whatever takes longer than a second."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bnaudit.progress import Silent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnaudit.progress import Progress

DELAY = 1.0
"""Seconds before a terminal shows anything."""
INTERVAL = 10.0
"""Seconds between two lines in a log."""
LONG = 30.0
"""Seconds from which on a stage says at its start what it will take."""


def _announced(name: str, seconds: float, shorter: str) -> str:
    """A line about a stage that will take long, or nothing."""
    return "" if seconds < LONG else f"{name}: about {_told(seconds)}; {shorter}"


def _told(seconds: float) -> str:
    """A time to wait, in words."""
    if seconds >= 90:
        return f"{seconds / 60:.0f} minutes"
    return f"{round(seconds, -1) if seconds >= 10 else seconds:.0f} seconds"


@contextmanager
def shown(wanted: bool) -> Iterator[Progress]:
    """A bar with the time left on a terminal, a line now and then elsewhere, nothing if not wanted."""
    if not wanted or sys.stderr is None:
        yield Silent()
    elif sys.stderr.isatty():
        with _Bar() as bar:
            yield bar
    else:
        yield _Lines()


class _Lines:
    """Plain lines for logs, one per `INTERVAL` and stage: short stages leave none."""

    def __init__(self) -> None:
        self.stage("")

    def stage(self, name: str, total: int | None = None) -> None:
        """See `Progress.stage`."""
        self._name, self._total, self._done, self._state = name, total, 0.0, ""
        self._start = time.perf_counter()
        self._due = self._start + INTERVAL

    def advance(self, steps: float = 1) -> None:
        """See `Progress.advance`."""
        self._done += steps
        done = int(self._done + 1e-6)
        now = time.perf_counter()
        if now < self._due or done == self._total:
            return
        self._due = now + INTERVAL
        of = ""
        if self._total is not None:
            left = (now - self._start) * (self._total - self._done) / self._done
            of = f" of {self._total}" + (f", about {_told(left)} left" if done else "")
        sys.stderr.write(f"{self._name}: {done}{of}{self._state}\n")

    def say(self, state: str) -> None:
        """See `Progress.say`."""
        self._state = f", {state}"

    def expect(self, seconds: float, shorter: str) -> None:
        """See `Progress.expect`."""
        if line := _announced(self._name, seconds, shorter):
            sys.stderr.write(f"{line}\n")


class _Bar:
    """A rich bar that appears after `DELAY`; rich is imported then, by the timer's thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._state: tuple[str, int | None, float] = ("", None, 0.0)
        self._bar: Any = None
        self._task: Any = None
        self._timer = threading.Timer(DELAY, self._appear)
        self._timer.daemon = True

    def __enter__(self) -> _Bar:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        with self._lock:
            if self._bar is not None:
                self._bar.stop()
            self._state = ("", None, -1)

    def stage(self, name: str, total: int | None = None) -> None:
        """See `Progress.stage`."""
        with self._lock:
            self._state = (name, total, 0)
            if self._bar is not None:
                self._bar.reset(self._task, description=name, total=total)

    def advance(self, steps: float = 1) -> None:
        """See `Progress.advance`."""
        with self._lock:
            name, total, done = self._state
            self._state = (name, total, done + steps)
            if self._bar is not None:
                self._bar.advance(self._task, steps)

    def say(self, state: str) -> None:
        """See `Progress.say`."""
        with self._lock:
            if self._bar is not None:
                self._bar.update(self._task, description=f"{self._state[0]}, {state}")

    def expect(self, seconds: float, shorter: str) -> None:
        """See `Progress.expect`."""
        with self._lock:
            if line := _announced(self._state[0], seconds, shorter):
                if self._bar is None:
                    sys.stderr.write(f"{line}\n")
                else:
                    self._bar.console.print(line, highlight=False, soft_wrap=True)

    def _appear(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        with self._lock:
            name, total, done = self._state
            if done < 0:
                return
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
            self._bar = RichProgress(
                *columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True
            )
            self._task = self._bar.add_task(name, total=total, completed=done)
            self._bar.start()
