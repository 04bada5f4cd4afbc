"""One model of a fleet, audited in a worker process: a task in, the line of its row and its report out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnaudit.cli.check import audit_options
from bnaudit.cli.commands import explained
from bnaudit.cli.execute import load_and_audit, quiet_libraries
from bnaudit.files import all_read, is_file, remembered
from bnaudit.fleet import rows
from bnaudit.fleet.contents import files_of, settings_of
from bnaudit.fleet.machine import forget_peak, name_of, peak
from bnaudit.progress import Silent
from bnaudit.render.json_v1 import document_line, document_text

if TYPE_CHECKING:
    from bnaudit.fleet.engine import Job, Task

TARGET = f"{__name__}:audited"


def audited(job: Job, task: Task) -> tuple[bytes, int, str | None]:
    """Audits one model.

    Returns:
        The line of its row, its exit code, and its whole report as JSON where that is wanted.
    """
    config = job.context["config"]
    given = {**together(job.given, task.own), **task.moved}
    given["baseline"] = baseline_of(task, given.get("baseline"))
    known: dict[str, Any] = rows.common(job, task)
    known |= {"started": rows.now(), "worker": name_of()}
    begin, worked = time.perf_counter(), time.process_time()
    forget_peak()
    report = None
    with remembered(), quiet_libraries(0):
        try:
            model = given.pop("model", task.model)
            report, _ = load_and_audit(model, audit_options(given, config), Silent())
        except Exception as error:  # a row has a reason, whatever it was
            code, message, hint = explained(error)
        known |= {
            "seconds": time.perf_counter() - begin,
            "processor": time.process_time() - worked,
            "peak_memory": peak(),
        }
        files = files_of(all_read())
    if report is None:
        return document_line(rows.of_error(code, message, hint, files, **known)), code, None
    row = rows.of_report(report, files, **known)
    whole = document_text(report, channels=given["channels"]) if job.context["reports"] else None
    return document_line(row), row.exit_code, whole


def together(given: Any, own: Any) -> dict[str, Any]:
    """All options of one model; its own data drop the command's shapes, and the other way round."""
    merged = {**given, **own}
    for mine, other in (("data", "input_shapes"), ("input_shapes", "data")):
        if own.get(mine) and other not in own:
            merged[other] = {} if other == "input_shapes" else ()
    return merged


def settings_digest(job: Job, task: Task) -> str:
    """Of everything but files that the row of a task follows from."""
    settings = {key: setting.value for key, setting in job.context["config"].settings.items()}
    return settings_of(together(job.given, task.own), settings)


def baseline_of(task: Task, place: str | None) -> str | None:
    """The earlier report of one model: of a folder of reports that of its name, if there is one."""
    if place is None or not Path(place).is_dir():
        return place
    path = Path(place) / report_name(task)
    return str(path) if is_file(path) else None


def report_name(task: Task) -> str:
    """The file of a model's report in a folder of reports."""
    name = str(task.own.get("weights") or task.model)
    plain = "".join(c if c.isalnum() or c in "._-" else "_" for c in name)[-100:].lstrip(".")
    return f"{plain}.{task.entry[:8]}.json"
