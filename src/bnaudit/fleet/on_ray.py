"""A Ray cluster: a place for one model at a time on each of its processors, or on each GPU.

A place is an actor with a `Seat` of the local engine in it: limits, crashes and rows are the same there. An
actor that dies (its machine is gone, Ray ended it) is made anew, and its model tried again. Files are read by
their path where the worker has them, of the same size; what it lacks is sent.
"""

from __future__ import annotations

import os
import tempfile
from collections import deque
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import replace
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnaudit.errors import BnauditError, RunError, UsageError
from bnaudit.files import all_read, content, is_file, remembered
from bnaudit.fleet.contents import known_files
from bnaudit.fleet.engine import Ended, Result, limits_of
from bnaudit.fleet.local import Seat, attended, fair_threads, next_try

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from bnaudit.fleet.engine import Job, Plan, Task

_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
_STORE = 256 * 2**20
"""Bytes of the object store of a cluster of our own: rows alone are in it."""
_LOOK = 1.0
"""Seconds after which Ctrl-C is heard."""
_PATHS = ("data", "labels", "weights", "loss", "baseline")

Named = tuple[tuple[str, int], ...]
"""Files that a task names, and their sizes."""


def results(tasks: Iterable[Task], job: Job, plan: Plan) -> Iterator[Result]:
    """See `bnaudit.fleet.engine.Engine`."""
    ray = _connected(plan)
    cluster = _Cluster(ray, job, plan)
    try:
        yield from cluster.results(tasks)
    finally:
        cluster.end()
        ray.shutdown()


def _connected(plan: Plan) -> Any:
    """Ray, connected to a cluster.

    Raises:
        UsageError: it is not installed.
        RunError: there is no such cluster, or none can be started.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        ray: Any = import_module("ray")
    except ImportError as error:
        raise UsageError(
            f"--engine ray needs Ray, which cannot be imported ({error})",
            hint="pip install 'bnaudit[fleet]'",
        ) from error
    own = {"include_dashboard": False, "object_store_memory": _STORE}
    options: dict[str, Any] = {"address": plan.address} if plan.address else own
    if not plan.address:
        from bnaudit.fleet.machine import processors

        options["num_cpus"] = max(processors(), plan.jobs or 1)
    try:
        # A note on its token would stand in front of every report's progress.
        with redirect_stderr(StringIO()), redirect_stdout(StringIO()):
            ray.init(**options, log_to_driver=False, logging_level="ERROR", configure_logging=False)
    except Exception as error:  # of many kinds, by what is wrong with the cluster
        where = plan.address or "this machine"
        raise RunError(
            f"no Ray on {where} ({type(error).__name__}: {str(error).splitlines()[0][:200]})",
            hint="`ray status` says whether the cluster is there; --engine local needs none",
        ) from error
    return ray


class _Cluster:
    """The actors of a run, and what each of them has."""

    def __init__(self, ray: Any, job: Job, plan: Plan) -> None:
        self.ray, self.job, self.plan = ray, job, plan
        has = ray.cluster_resources()
        processors = int(has.get("CPU", 1))
        own = plan.address is None
        self.threads = fair_threads(plan, plan.jobs or processors) if own else plan.threads or 1
        wanted: dict[str, Any] = {"num_cpus": self.threads}
        room = max(1, processors // self.threads)
        if str(job.given.get("device", "cpu")).startswith("cuda"):
            wanted["num_gpus"] = 1
            room = max(1, min(room, int(has.get("GPU", 0))))
        size = limits_of(job, None)[1]
        if size is not None:
            wanted["memory"] = size
            room = max(1, min(room, int(has.get("memory", size) // size)))
        self.jobs = min(plan.jobs or room, room) if plan.address else (plan.jobs or room)
        self.kind = ray.remote(**wanted)(Place)
        self.running: dict[Any, tuple[Any, Task]] = {}
        self.idle: list[Any] = []
        self.sent: dict[str, Any] = {}

    def results(self, tasks: Iterable[Task]) -> Iterator[Result]:
        """Runs the tasks; see `bnaudit.fleet.engine.Engine`."""
        waiting, again = iter(tasks), deque["Task"]()
        while True:
            while len(self.running) < self.jobs:
                task = again.popleft() if again else next(waiting, None)
                if task is None:
                    break
                actor = self.idle.pop() if self.idle else self._place()
                self.running[actor.run.remote(task, self._named(task))] = actor, task
            if not self.running:
                return
            done, _ = self.ray.wait(list(self.running), num_returns=1, timeout=_LOOK)
            for reference in done:
                actor, task = self.running.pop(reference)
                payload = self._payload(reference, actor, task)
                if payload is None:
                    continue  # it runs again, with its files
                if further := next_try(task, payload, self.plan):
                    again.append(further)
                else:
                    yield Result(task, payload)

    def end(self) -> None:
        """Ends everything that runs."""
        for actor in [*self.idle, *(actor for actor, _ in self.running.values())]:
            with suppress(Exception):  # whatever a cluster that is gone says
                self.ray.kill(actor)

    def _place(self) -> Any:
        return self.kind.remote(self.job, self.plan, self.threads, os.getcwd())  # noqa: PTH109

    def _payload(self, reference: Any, actor: Any, task: Task) -> Any:
        try:
            payload = self.ray.get(reference)
        except self.ray.exceptions.RayError as error:  # the actor died, or its machine
            with suppress(Exception):
                self.ray.kill(actor)
            told = str(error).strip().splitlines() or [type(error).__name__]
            hint = "`ray status` and the logs of the cluster say more"
            return Ended("killed", f"its Ray worker died ({told[0][:200]})", hint, 0.0, "ray")
        if isinstance(payload, Missing):
            files = {path: self._file(path) for path in payload.paths}
            self.running[actor.run_with.remote(task, list(files), *files.values())] = actor, task
            return None
        self.idle.append(actor)
        return payload

    def _named(self, task: Task) -> Named:
        return tuple((f.path, f.size) for f in needed(task.model, {**self.job.given, **task.own}))

    def _file(self, path: str) -> Any:
        """A file in the cluster's store; those that all models share are kept there."""
        if path in self.sent:
            return self.sent[path]
        reference = self.ray.put(content(Path(path), renewable=True))
        if any(path == file.path for file in known_files("", self.job.given)):
            self.sent[path] = reference
        return reference


def needed(model: str, given: Mapping[str, Any]) -> list[Any]:
    """The files that a task names, and those that its model refers to (external weights)."""
    named = list(known_files(model, given))
    if not is_file(model):
        return named
    from bnaudit.inspection import inspect_file

    with remembered():
        with suppress(BnauditError, OSError):
            inspect_file(Path(model))
        own = {file.path for file in named}
        return named + [file for file in all_read() if file.path not in own]


class Missing:
    """What a worker says where it lacks files."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths


class Place:
    """An actor: one model at a time, in a process that is ended with it where that is needed."""

    def __init__(self, job: Job, plan: Plan, threads: int, folder: str) -> None:
        with suppress(OSError):  # of another machine
            os.chdir(folder)
        self.job, self.plan, self.threads = job, plan, threads
        self.seat = Seat(job, plan, threads)

    def run(self, task: Task, named: Named) -> Any:
        """What the task's function returned, how it ended, or what is missing here."""
        missing = [path for path, size in named if not _there(path, size)]
        return Missing(missing) if missing else self._payload(task)

    def run_with(self, task: Task, paths: list[str], *contents: bytes) -> Any:
        """The same with the files that were missing, which are here as long as the task."""
        with tempfile.TemporaryDirectory(prefix="bnaudit-") as folder:
            root = os.path.realpath(folder)
            for path, data in zip(paths, contents, strict=True):
                place = Path(moved(path, root))
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(data)
            payload = self._payload(moved_task(task, self.job, paths, root))
        return _moved_back(payload, root)

    def _payload(self, task: Task) -> Any:
        self.seat.begin(task)
        while not attended([self.seat]):
            continue
        return self.seat.take()[1]


def _there(path: str, size: int) -> bool:
    try:
        return Path(path).stat().st_size == size
    except OSError:
        return False


_RELATIVE, _ABSOLUTE = "relative", "absolute"


def moved(path: str, root: str) -> str:
    """Where a file that was sent is: below a folder, with the folders of its own path."""
    kind = _ABSOLUTE if os.path.isabs(path) else _RELATIVE  # noqa: PTH117
    return os.path.join(root, kind, os.path.normpath(path).lstrip("/").replace("..", "__"))  # noqa: PTH118


def moved_task(task: Task, job: Job, paths: list[str], root: str) -> Task:
    """The task with the paths of the files that were sent."""

    def text(value: str) -> str:
        for path in sorted(paths, key=len, reverse=True):
            if value == path or value.startswith(f"{path}:") or value.endswith(f"={path}"):
                return value.replace(path, moved(path, root))
        return value

    given = {**job.given, **task.own}
    elsewhere: dict[str, Any] = {"model": text(task.model)}
    for name in _PATHS:
        value = given.get(name)
        if isinstance(value, str):
            elsewhere[name] = text(value)
        elif value:
            elsewhere[name] = tuple(map(text, value))
    return replace(task, moved=elsewhere)


def _moved_back(payload: Any, root: str) -> Any:
    """What a row and a report say of the files, as they were named."""
    if isinstance(payload, Ended) or not isinstance(payload, tuple):
        return payload

    def plain(text: str) -> str:
        return text.replace(f"{root}/{_RELATIVE}/", "").replace(f"{root}/{_ABSOLUTE}/", "/")

    line, code, report = payload
    return plain(line.decode("ascii")).encode("ascii"), code, report and plain(report)
