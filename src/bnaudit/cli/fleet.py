"""`bnaudit fleet`: many models, each audited in a process, a row for each in one file."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnaudit.cli.configured import config_options, configuration, settled, tell_notes
from bnaudit.cli.options import Command, FileName, options_of
from bnaudit.cli.present import present, presentation_of
from bnaudit.cli.progress import shown
from bnaudit.config.options import BY_PARAMETER
from bnaudit.errors import UsageError
from bnaudit.files import remembered
from bnaudit.fleet.engine import ENGINES, Ended, Job, Plan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnaudit.cli.present import Presentation
    from bnaudit.fleet.engine import Result, Task
    from bnaudit.fleet.results import Results
    from bnaudit.progress import Progress
    from bnaudit.records.fleet import Fleet

_OF_AUDITS = ("format", "output", "baseline")
"""Options that say what becomes of one audit's report, where they are not typed."""
_RETRIED = ("killed",)
"""Outcomes that say nothing of the model: the next run tries again."""
_LISTED = ("json",)
"""Formats that have all models."""


class _OwnOption(click.Option):
    heading = "Fleet"


_OWN = (
    _OwnOption(
        ["--results"],
        type=FileName("results", Path),
        default=Path("fleet.jsonl"),
        show_default=True,
        metavar="FILE",
        help="A row for each model, as JSON Lines; what stands there already is not done again.",
    ),
    _OwnOption(
        ["--status"],
        is_flag=True,
        help="Show what stands in the file named instead of models, and do nothing.",
    ),
    _OwnOption(
        ["--reports"],
        type=click.Path(file_okay=False, path_type=Path),
        metavar="FOLDER",
        help="Also write each model's whole report there, as JSON; --baseline FOLDER takes it.",
    ),
    _OwnOption(
        ["--table"],
        type=FileName("table", Path),
        metavar="FILE",
        help="Also write a row for each layer of each model: .csv, or .parquet (pip install "
        "'bnaudit[tables]').",
    ),
    _OwnOption(
        ["--retry"],
        is_flag=True,
        help="Try again what was out of time or memory, crashed, or could not be measured.",
    ),
    _OwnOption(
        ["-j", "--jobs"],
        type=click.IntRange(1),
        metavar="N",
        help="Models at a time. [default: one for each processor]",
    ),
    _OwnOption(
        ["--threads"],
        type=click.IntRange(1),
        metavar="N",
        help="Threads of each model. [default: processors divided by --jobs]",
    ),
    _OwnOption(
        ["--reuse"],
        type=click.IntRange(1),
        default=Plan().reuse,
        show_default=True,
        metavar="N",
        help="Models that one process audits, one after the other; 1 gives each a new one, as "
        "models that are code of yours always have.",
    ),
    _OwnOption(
        ["--engine"],
        type=click.Choice(list(ENGINES)),
        default="local",
        show_default=True,
        help="What runs them: processes of this machine, or a Ray cluster (pip install "
        "'bnaudit[fleet]').",
    ),
    _OwnOption(
        ["--address"],
        metavar="ADDRESS",
        help="Of a Ray cluster, or auto. [default: one on this machine, for this run]",
    ),
)


@click.command(
    "fleet",
    cls=Command,
    short_help="Audit many models.",
    params=[*_OWN, *options_of("fleet", typed=_OF_AUDITS), *config_options(typed=_OF_AUDITS)],
    examples=(
        "bnaudit fleet 'zoo/**/*.onnx' --data batch.npz --timeout 600 --max-memory 8GB",
        "bnaudit fleet models.csv --results release.jsonl --reports reports",
        "bnaudit fleet package.nets:resnet --weights 'run/*.pt' --data batch.npz",
        "bnaudit fleet --status release.jsonl",
        "jq -r 'select(.exit_code > 1) | .model' fleet.jsonl",
    ),
)
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True, type=FileName("model"))
def command(sources: tuple[str, ...], **given: Any) -> int:
    """Audit many models, each in a process of its own; the highest exit code counts.

    SOURCE is a model as for `check`, a pattern ('zoo/**/*.onnx'), a folder, or a list: YAML or CSV with a
    row for each model and options of its own (model, data, weights, ...). A factory takes a pattern or a
    folder as --weights. A model that crashes, hangs or takes too much memory is a row with its reason.
    Started again, the command goes on where it was ended: a row holds as long as the model, its data and
    options are the same.
    """
    tell_notes(quiet=given["quiet"])
    given = settled(given)
    own = {name: given.pop(name) for name in [str(option.name) for option in _OWN]}
    presentation = presentation_of("fleet", given, sources)
    if own["table"] is not None:
        from bnaudit.fleet.tables import check

        check(own["table"])
    if own["status"]:
        return _status(sources, own, presentation, given)
    return _run(sources, own, presentation, given)


def _status(
    sources: tuple[str, ...], own: dict[str, Any], presentation: Presentation, given: dict[str, Any]
) -> int:
    from bnaudit.fleet.results import Results
    from bnaudit.fleet.standing import fleet_of

    if len(sources) > 1:
        raise UsageError(
            "--status takes one file of rows", hint="bnaudit fleet --status fleet.jsonl"
        )
    with closing(Results(Path(sources[0]), write=False)) as results:
        fleet = fleet_of(results, None, total=None, **_wanted(presentation, given))
        _shown(fleet, own["table"], presentation)
    return fleet.exit_code


def _wanted(presentation: Presentation, given: dict[str, Any]) -> dict[str, Any]:
    from bnaudit.fleet.standing import SHOWN

    formats = {presentation.stdout_format, *(name for _, name in presentation.outputs)}
    listed = bool(given["verbose"]) or not formats.isdisjoint(_LISTED)
    fail_on = BY_PARAMETER["fail_on"].accept(given["fail_on"])
    return {"most": None if listed else SHOWN, "fail_on": fail_on}


def _run(
    sources: tuple[str, ...], own: dict[str, Any], presentation: Presentation, given: dict[str, Any]
) -> int:
    from bnaudit.cli.auditing import settings_digest
    from bnaudit.fleet.entries import read_entries
    from bnaudit.fleet.results import Results
    from bnaudit.fleet.standing import fleet_of

    with remembered():  # what was looked at here is not kept in mind
        tasks, notes = read_entries(sources, given)
    if own["reports"] is not None:
        _make_folder(own["reports"])
    with closing(Results(own["results"], write=True)) as results:
        job, plan = _job(given, own), _plan(own)
        tasks = [replace(task, settings=settings_digest(job, task)) for task in tasks]
        left = [task for task in tasks if not _holds(results, job, task, retry=own["retry"])]
        with shown(presentation.progress) as progress:
            for result in _results(left, own["engine"], job, plan, progress):
                _keep(result, results, job, own["reports"])
        entries = {task.entry for task in tasks}
        fleet = fleet_of(
            results,
            entries,
            total=len(tasks),
            skipped=len(tasks) - len(left),
            notes=notes,
            **_wanted(presentation, given),
        )
        _shown(fleet, own["table"], presentation)
    return fleet.exit_code


def _shown(fleet: Fleet, table: Path | None, presentation: Presentation) -> None:
    if table is not None:
        from bnaudit.fleet.tables import write_table

        write_table(table, fleet.rows)
    present(fleet, presentation)


def _job(given: dict[str, Any], own: dict[str, Any]) -> Job:
    from bnaudit.cli.auditing import TARGET

    context = {"config": configuration(), "reports": own["reports"] is not None}
    return Job(TARGET, given, context)


def _plan(own: dict[str, Any]) -> Plan:
    if own["address"] is not None and own["engine"] == "local":
        raise UsageError("--address names a cluster", hint="--engine ray uses it")
    return Plan(own["jobs"], own["threads"], own["reuse"], address=own["address"])


def _results(
    tasks: list[Task], engine: str, job: Job, plan: Plan, progress: Progress
) -> Iterator[Result]:
    """Each result as it comes; whatever ends this ends everything that runs."""
    from bnaudit.fleet.engine import engine_of

    if not tasks:
        return
    progress.stage("auditing", len(tasks))
    with closing(engine_of(engine).results(tasks, job, plan)) as found:  # type: ignore[type-var]
        for result in found:
            yield result
            progress.advance()


def _holds(results: Results, job: Job, task: Task, *, retry: bool) -> bool:
    """Whether the row of a task is there, and would come out the same."""
    from bnaudit.fleet.contents import unchanged
    from bnaudit.fleet.engine import limits_of

    row = results.row(task.entry)
    if row is None or row["outcome"] in _RETRIED or row["settings"] != task.settings:
        return False
    timeout, most = limits_of(job, task)
    ended = row["outcome"] in ("timeout", "memory", "crashed")
    if retry and (ended or row["exit_code"] in (4, 70)):
        return False
    other_limits = (row["timeout"], row["max_memory"]) != (timeout, most)
    return not (row["outcome"] in ("timeout", "memory") and other_limits) and unchanged(row)


def _keep(result: Result, results: Results, job: Job, reports: Path | None) -> None:
    """Writes a row, and the report before it: a row says that its model is done."""
    from bnaudit.cli.auditing import report_name
    from bnaudit.cli.writing import write_whole
    from bnaudit.fleet.contents import files_of, known_files

    task, payload = result
    if isinstance(payload, Ended):
        from bnaudit.fleet import rows
        from bnaudit.render.json_v1 import document_line

        given = {**job.given, **task.own}
        files = files_of(known_files(task.model, given))
        known = rows.common(job, task)
        results.add(task.entry, document_line(rows.of_end(payload, files, **known)))
        return
    line, _, report = payload
    if report is not None and reports is not None:
        path = reports / report_name(task)
        try:
            write_whole(path, report)
        except OSError as error:
            hint = "make room, and the same command goes on from there"
            raise UsageError(f"{path}: cannot be written ({error.strerror})", hint=hint) from error
    results.add(task.entry, line)


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be made ({error.strerror})", hint="name another"
        ) from error
