"""--timeout and --max-memory: a command that takes more ends with exit code 4 and says so."""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnaudit.cli.streams import say_error
from bnaudit.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Iterator

_GRACE = 5.0
"""Seconds for what ends in order: the report of an audit that stopped."""
_STEP = 0.02
"""Seconds between two looks at the memory: a processor fills some 100 MB in it."""


class ReachedError(BaseException):
    """The limit, on its way up: no handler of errors takes it for one of its own."""

    def __init__(self, error: RunError) -> None:
        super().__init__(error.message)
        self.error = error


@contextmanager
def limited(given: dict[str, Any]) -> Iterator[None]:
    """Holds what is inside to the limits of a command.

    Args:
        given: the command's options.

    Raises:
        RunError: the time is over.
    """
    timeout, most = given.get("timeout"), given.get("max_memory")
    if timeout is None and most is None:
        yield
        return
    from bnaudit.config.options import BY_PARAMETER

    size = None if most is None else BY_PARAMETER["max_memory"].accept(most)
    over = RunError(
        f"not done within --timeout {timeout} (seconds)",
        hint=f"raise it, or ask for less: {', '.join(_less(given))}"
        if _less(given)
        else "raise it",
    )
    done = threading.Event()
    watch = threading.Thread(target=_watch, args=(done, timeout, over, size, most), daemon=True)
    with _alarm(timeout, over):
        watch.start()
        try:
            with reported():
                yield
        finally:
            done.set()
    watch.join()


def _less(given: dict[str, Any]) -> list[str]:
    """The command's options that make it shorter."""
    names = ("batches", "batch_size", "metrics", "layers")
    return [f"--{name.replace('_', '-')}" for name in names if name in given]


@contextmanager
def reported() -> Iterator[None]:
    """Makes the limit an error like others, where somebody waits for one.

    Raises:
        RunError: the time is over.
    """
    try:
        yield
    except ReachedError as reached:
        raise reached.error from None


@contextmanager
def _alarm(timeout: int | None, over: RunError) -> Iterator[None]:
    """The main thread's own end of the time: an exception, except where an import would lose it."""

    def ring(_: int, frame: Any) -> None:
        while frame is not None:
            if frame.f_code.co_filename.startswith("<frozen importlib"):
                _leave(over)
            frame = frame.f_back
        raise ReachedError(over)

    here = threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGALRM")
    if timeout is None or not here:
        yield
        return
    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, timeout)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _watch(
    done: threading.Event, timeout: int | None, over: RunError, size: int | None, most: str | None
) -> None:
    """Ends the process where nothing else can: inside one long operator, or in a growing one."""
    deadline = float("inf") if timeout is None else time.monotonic() + timeout + _GRACE
    while not done.wait(_STEP if size is not None else _GRACE / 10):
        if time.monotonic() > deadline:
            _leave(over)
        if size is not None and resident() > size:
            hint = "raise it, or lower --batch-size, --input-shape or --memory"
            _leave(RunError(f"more memory is in use than --max-memory {most}", hint=hint))


def resident() -> int:
    """Bytes of memory that this process takes now; where the system does not say, at most so far."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return pages * resource.getpagesize()


def _leave(error: RunError) -> None:
    try:
        say_error(error.message, error.hint)
    finally:
        os._exit(error.exit_code)
