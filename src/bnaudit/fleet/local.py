"""Processes of this machine: each has one model at a time, and is ended with it where that is needed.

They are forked from a server that has torch imported and runs nothing, so that one starts in milliseconds
and nothing of an earlier model is in it. A process is used again for some models, unless it ran code of the
user's, grew, or died: that a process is new costs a tenth of a second of caches for each.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import time
from collections import deque
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import wait
from types import ModuleType
from typing import TYPE_CHECKING, Any

from bnaudit.fleet.engine import Ended, Result, limits_of
from bnaudit.fleet.machine import name_of, processors, resident
from bnaudit.fleet.serving import serve

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from multiprocessing.context import ForkServerProcess

    from bnaudit.fleet.engine import Job, Plan, Task

_LOOK = 0.05
"""Seconds between two looks at the memory of a model that has a limit."""
_IDLE = 0.5
"""Seconds after which deadlines are looked at again."""
_TAIL = 4096
"""Bytes of what a model printed that are kept for the reason of its end."""
_FAIRLY = "OMP_NUM_THREADS"
_TORCH = "bnaudit.preloaded"
_RAISE = "raise it, or ask for less: --batches, --batch-size, --metrics, --layers"


def results(tasks: Iterable[Task], job: Job, plan: Plan) -> Iterator[Result]:
    """See `bnaudit.fleet.engine.Engine`."""
    jobs = plan.jobs or processors()
    waiting, again = iter(tasks), deque["Task"]()
    seats = [Seat(job, plan, fair_threads(plan, jobs)) for _ in range(jobs)]
    try:
        while True:
            for seat in seats:
                if seat.task is None:
                    task = again.popleft() if again else next(waiting, None)
                    if task is not None:
                        seat.begin(task)
            busy = [seat for seat in seats if seat.task is not None]
            if not busy:
                return
            for seat in attended(busy):
                task, payload = seat.take()
                if further := next_try(task, payload, plan):
                    again.append(further)
                else:
                    yield Result(task, payload)
    finally:
        for seat in seats:
            seat.end()


def fair_threads(plan: Plan, jobs: int) -> int:
    """Of each model: what was said, or the processors divided by the models at a time."""
    said = os.environ.get(_FAIRLY, "")
    if plan.threads is not None:
        return plan.threads
    return int(said) if said.isdecimal() and int(said) else max(1, processors() // jobs)


def next_try(task: Task, payload: Any, plan: Plan) -> Task | None:
    """The task once more, where nothing of its own ended it and it was not tried often enough."""
    killed = isinstance(payload, Ended) and payload.outcome == "killed"
    return replace(task, attempt=task.attempt + 1) if killed and task.attempt < plan.tries else None


def attended(busy: list[Seat]) -> list[Seat]:
    """Waits until something happens at some seats, or a limit has to be looked at; those that are done."""
    deadlines = [seat.due for seat in busy]
    pause = min([_IDLE, *(max(0.0, due - time.monotonic()) for due in deadlines)])
    if any(seat.most is not None for seat in busy):
        pause = min(pause, _LOOK)
    ready = wait([handle for seat in busy for handle in seat.handles()], pause)
    return [seat for seat in busy if seat.look(ready)]


class Seat:
    """A place for one model at a time, with a process where one is needed.

    Attributes:
        task: what is running, None where nothing is.
        due: when its time is over (monotonic), for ever without a limit.
        most: bytes that it may take, None without a limit.
    """

    def __init__(self, job: Job, plan: Plan, threads: int) -> None:
        self.job, self.plan, self.threads = job, plan, threads
        self.task: Task | None = None
        self.due = float("inf")
        self.most: int | None = None
        self._limit: int | None = None
        self._process: ForkServerProcess | None = None
        self._served, self._began, self._printed = 0, 0.0, b""
        self._found: Any = None
        self._last = False

    def begin(self, task: Task) -> None:
        """Has a process run a task."""
        if self._process is None or not self._process.is_alive():
            self.end()
            self._start()
        self.task, self._found, self._printed = task, None, b""
        self._limit, self.most = limits_of(self.job, task)
        self.due, self._began = float("inf"), time.monotonic()
        with suppress(OSError):  # it died while it waited: seen at the next look
            self._tasks.send(task)

    def handles(self) -> list[Any]:
        """What to wait for."""
        assert self._process is not None  # noqa: S101  # for the type checker
        tail = [] if self._tail.closed else [self._tail]
        return [self._tasks, self._process.sentinel, *tail]

    def look(self, ready: list[Any]) -> bool:
        """Takes in what came; whether the task is done with."""
        assert self._process is not None  # noqa: S101
        if self._tail in ready:
            self._drain()
        if self._tasks in ready:
            self._receive()
        elif self._process.sentinel in ready:
            self._found = self._dead()
        if self._found is None and self.most is not None:
            size = resident(self._process.pid or 0)
            if size is not None and size > self.most:
                self._found = self._ended(
                    "memory", "more memory was in use than --max-memory", _RAISE
                )
        if self._found is None and time.monotonic() >= self.due:
            self._found = self._ended(
                "timeout", f"not done within --timeout {self._limit} (seconds)", _RAISE
            )
        return self._found is not None

    def take(self) -> tuple[Task, Any]:
        """The task that is done with, and its payload; the seat is free again."""
        task, found = self.task, self._found
        assert task is not None  # noqa: S101
        self.task = None
        if isinstance(found, Ended) or self._last or self._served >= self.plan.reuse:
            self.end()
        return task, found

    def end(self) -> None:
        """Ends the process, whatever it does."""
        if self._process is None:
            return
        with suppress(OSError, ProcessLookupError):
            self._process.kill()
        self._process.join()
        for handle in (self._tasks, self._tail):
            handle.close()
        self._process = None

    def _start(self) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([_TORCH])
        self._tasks, theirs = context.Pipe()
        self._tail, printed = context.Pipe(duplex=False)
        os.set_blocking(self._tail.fileno(), False)
        process = context.Process(
            target=serve, args=(self.job, self.threads, theirs, printed), daemon=True
        )
        with _one_thread(), _no_main():
            process.start()
        self._process, self._served, self._last = process, 0, False
        theirs.close()
        printed.close()

    def _receive(self) -> None:
        try:
            message = self._tasks.recv_bytes()
        except (EOFError, OSError):
            self._found = self._dead()
            return
        if not message:  # it begins now: what a new process imports is not the model's time
            self._began = time.monotonic()
            self.due = self._began + (float("inf") if self._limit is None else self._limit)
            return
        self._found, self._last = pickle.loads(message)  # noqa: S301  # from our own process
        self._served += 1

    def _drain(self) -> None:
        try:
            read = os.read(self._tail.fileno(), 1 << 16)
        except BlockingIOError:
            return
        self._printed = (self._printed + read)[-_TAIL:]
        if not read:
            self._tail.close()

    def _dead(self) -> Ended:
        assert self._process is not None  # noqa: S101
        self._process.join()
        if not self._tail.closed:
            self._drain()
        code = self._process.exitcode or 0
        lines = self._printed.decode("utf-8", "replace").split("\n")
        said = next((line.strip() for line in reversed(lines) if line.strip()), "")
        told = f": {said[:240]}" if said else ""
        if code in (-signal.SIGKILL, -signal.SIGTERM, 255):  # 255: the server that knew is gone too
            return self._ended(
                "killed",
                "its process was ended from outside",
                "was the machine out of memory? fewer --jobs, or a limit (--max-memory), keep it running",
            )
        how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        return self._ended(
            "crashed",
            f"its process ended by itself ({how}){told}",
            "`bnaudit check` of it alone shows what it does",
        )

    def _ended(self, outcome: str, reason: str, hint: str) -> Ended:
        assert self._process is not None  # noqa: S101
        where, spent = name_of(self._process.pid), time.monotonic() - self._began
        return Ended(outcome, reason, hint, spent, where)


@contextmanager
def _one_thread() -> Iterator[None]:
    """The server has one thread of computation: others would not survive a fork."""
    before = os.environ.get(_FAIRLY)
    os.environ[_FAIRLY] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_FAIRLY]
        else:
            os.environ[_FAIRLY] = before


@contextmanager
def _no_main() -> Iterator[None]:
    """Processes do not run the script again that this one was started with, as multiprocessing has it."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
