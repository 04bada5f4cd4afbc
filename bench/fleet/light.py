"""What a worker runs in place of an audit, without torch: a few milliseconds, and a row as of a real one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from bench.fleet import simulated

if TYPE_CHECKING:
    from bnaudit.fleet.engine import Job, Task

TARGET = f"{__name__}:audited"


def audited(job: Job, task: Task) -> tuple[bytes, int, str | None]:
    """As `bnaudit.cli.auditing.audited`."""
    time.sleep(0.01 + 0.03 * (int(task.entry[:2], 16) / 255))
    plan: Any = None
    (result,) = simulated.results([task], job, plan)
    line, code, report = result.payload
    return line, code, report
