"""An engine that audits nothing: every task has a row of the size of a real one, at once."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from bnaudit.fleet import rows
from bnaudit.fleet.engine import Result
from bnaudit.records.finding import Finding, Severity
from bnaudit.records.fleet import FileRead, FleetLayer, FleetRow
from bnaudit.render.json_v1 import document_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bnaudit.fleet.engine import Job, Plan, Task

LAYERS = 54
"""Of a ResNet-50, in number."""
_CONTENT = sha256(b"0").hexdigest()


class _Nine(NamedTuple):
    a: float
    b: float
    c: float
    d: float
    e: float
    f: float
    g: float
    h: float
    i: float


def _numbers(n: int) -> _Nine:
    return _Nine(*[1.0 / (n + k + 3) for k in range(9)])


def results(tasks: Iterable[Task], job: Job, plan: Plan) -> Iterator[Result]:
    """See `bnaudit.fleet.engine.Engine`."""
    del plan
    layers = tuple(
        FleetLayer(f"layer{n}.bn", "BatchNorm2d", 256, 6272, *_numbers(n), 0, int(n % 7 == 0))
        for n in range(LAYERS)
    )
    finding = Finding(
        "BN102",
        "few-values",
        Severity.WARNING,
        None,
        "few values in a batch" * 5,
        "a larger batch" * 5,
    )
    template = b""
    for task in tasks:
        known = rows.common(job, task)
        if not template:  # what a worker would do, once
            row = FleetRow(
                outcome="findings",
                exit_code=0,
                files=(FileRead(task.model, 1, 1, _CONTENT),),
                findings=(finding,) * 4,
                layers=layers,
                started=rows.now(),
                seconds=1.0,
                worker="simulated:1",
                **known,
            )
            template, first = document_line(row), task
        line = template.replace(first.model.encode(), task.model.encode())
        line = line.replace(first.entry.encode(), task.entry.encode())
        yield Result(task, (line.replace(first.settings.encode(), task.settings.encode()), 0, None))
