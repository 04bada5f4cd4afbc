"""The seam between a fleet and what runs it: tasks in, payloads out, in whatever order they end.

An engine is a function `results(tasks, job, plan)` in a file of its own and one line in `ENGINES`. It may end
at any time: whoever closes the iterator wants everything that runs ended, and nothing left behind.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

ENGINES = {"local": "bnaudit.fleet.local", "ray": "bnaudit.fleet.on_ray"}
"""Name -> module with a function `results`, imported where it is asked for."""


@dataclass(frozen=True, slots=True)
class Task:
    """One model to audit.

    Attributes:
        entry: which entry of the fleet it is.
        model: as it is named.
        own: options of its own, by parameter, over those of the job.
        runs_code: whether code of the user's runs in it, after which its process is not used again.
        settings: digest of all its options, for its row.
        attempt: how often it was tried, this time included.
        moved: options, and "model", whose files are elsewhere where it runs.
    """

    entry: str
    model: str
    own: Mapping[str, Any]
    runs_code: bool = False
    settings: str = ""
    attempt: int = 1
    moved: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Job:
    """What all tasks have in common; it is sent to each worker once.

    Attributes:
        target: "module:function" that a worker calls with the job and a task; it returns the payload.
        given: options by parameter.
        context: whatever else the function needs.
    """

    target: str
    given: Mapping[str, Any]
    context: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """How to run them.

    Attributes:
        jobs: models at a time; None for what the machine or the cluster has room for.
        threads: of each model; None for a fair share.
        reuse: models that one process audits before it is thrown away.
        tries: how often a model is tried whose process something else ended.
        address: of a cluster, None for one of its own.
    """

    jobs: int | None = None
    threads: int | None = None
    reuse: int = 50
    tries: int = 3
    address: str | None = None


class Ended(NamedTuple):
    """A process that left no payload.

    Attributes:
        outcome: "timeout", "memory", "crashed" or "killed".
        reason: one line.
        hint: its remedy.
        seconds: that it ran.
        worker: where.
    """

    outcome: str
    reason: str
    hint: str
    seconds: float
    worker: str


class Result(NamedTuple):
    """What became of a task.

    Attributes:
        task: that was run.
        payload: what its function returned, or how its process ended.
    """

    task: Task
    payload: Any


class Engine(Protocol):
    """What the module of an engine offers."""

    def results(self, tasks: Iterable[Task], job: Job, plan: Plan) -> Iterator[Result]:
        """Runs the tasks; each has exactly one result."""


def engine_of(name: str) -> Engine:
    """The engine of a name in `ENGINES`."""
    return cast("Engine", import_module(ENGINES[name]))


def limits_of(job: Job, task: Task | None) -> tuple[int | None, int | None]:
    """Seconds and bytes that a task may take, or one that says nothing of its own."""
    from bnaudit.config.options import BY_PARAMETER

    given = {**job.given, **(task.own if task else {})}
    size = given.get("max_memory")
    return given.get("timeout"), None if size is None else BY_PARAMETER["max_memory"].accept(size)
