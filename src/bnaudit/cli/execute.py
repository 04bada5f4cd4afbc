"""Running an audit for the command line: libraries kept quiet, the report on stdout alone."""

from __future__ import annotations

import os
import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bnaudit.cli.streams import (
    append_step_summary,
    color_wanted,
    stdout_reserved,
    table_width,
    unicode_stdout,
    write_stdout,
)
from bnaudit.errors import BnauditError, UsageError
from bnaudit.render.formats import FORMATS, Style

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnaudit.cli.params import Output
    from bnaudit.options import AuditOptions
    from bnaudit.progress import Progress
    from bnaudit.records.report import Report

EXIT_NO_BATCHNORM = 3
EXIT_NOT_RUN = 4


@dataclass(frozen=True, slots=True)
class Presentation:
    """What to show where.

    Attributes:
        stdout_format: a name of `bnaudit.render.formats.FORMATS`, or "none".
        outputs: files to write as well.
        color: "auto", "always" or "never".
        progress: whether to show progress on stderr.
        verbose: 0, 1 (timings) or 2 (library warnings and tracebacks).
    """

    stdout_format: str
    outputs: tuple[Output, ...]
    color: str
    progress: bool
    verbose: int


def execute(model: str, options: AuditOptions, presentation: Presentation) -> int:
    """Audits, renders, and returns the exit code.

    Raises:
        BnauditError: nothing could be loaded. A failure after loading is reported and then
            raised, so that a consumer of JSON gets a document in either case.
    """
    start = time.perf_counter()
    with stdout_reserved(), quiet_libraries(presentation.verbose):
        report, error = _audited(model, options, presentation)
    _present(report, presentation, options)
    if presentation.verbose:
        spent = {**(report.run.seconds if report.run else {}), "total": time.perf_counter() - start}
        click.echo("; ".join(f"{k} {v:.2f} s" for k, v in spent.items()), err=True)
    if error is not None:
        raise error
    if presentation.stdout_format != "table" and report.exit_code in {
        EXIT_NO_BATCHNORM,
        EXIT_NOT_RUN,
    }:
        _say_why_nothing(report)
    return report.exit_code


def _say_why_nothing(report: Report) -> None:
    """The table says it at length; whoever reads only stderr has to hear of it as well."""
    if report.findings:
        click.echo(f"error: {report.findings[0].message}", err=True)
        click.echo(f"hint: {report.findings[0].fix}", err=True)
    else:
        click.echo("error: no BatchNorm layer could be measured", err=True)
        click.echo(
            "hint: the table, or `skipped` in the JSON, has the reason of each layer", err=True
        )


def _audited(
    model: str, options: AuditOptions, presentation: Presentation
) -> tuple[Report, BnauditError | None]:
    from bnaudit.cli.progress import shown

    with shown(presentation.progress) as progress:
        progress.stage("loading")
        return load_and_audit(model, options, progress)


def load_and_audit(
    model: str, options: AuditOptions, progress: Progress
) -> tuple[Report, BnauditError | None]:
    """The report, and the error with which it stopped, if it did.

    Raises:
        BnauditError: nothing could be loaded.
    """
    from bnaudit.load.reference import factory_reference
    from bnaudit.load.sniff import sniff

    if factory_reference(model) is None:
        sniff(Path(model))  # a wrong file is told in milliseconds, not after the import of torch
    from bnaudit.load import load
    from bnaudit.pipeline import audit_loaded, failed_report, loading

    start = time.perf_counter()
    loaded = load(model, loading(options))
    spent = time.perf_counter() - start
    try:
        report = audit_loaded(loaded, model, options, progress)
    except BnauditError as error:
        return failed_report(loaded, model, error, options), error
    if report.run is None:
        return report, None
    seconds = {"load": spent, **report.run.seconds}
    return replace(report, run=replace(report.run, seconds=seconds)), None


def _present(report: Report, presentation: Presentation, options: AuditOptions) -> None:
    failed = [e for o in presentation.outputs if (e := _write(o, report, options)) is not None]
    wanted = presentation.stdout_format
    # Of a failure people read the error line; a consumer of a machine format gets its document.
    if wanted != "none" and not (wanted == "table" and report.failure is not None):
        style = Style(
            width=table_width(),
            color=color_wanted(presentation.color),
            unicode=unicode_stdout(),
            channels=options.channels,
            verbose=presentation.verbose > 0,
        )
        write_stdout(FORMATS[wanted].render(report, style))
        if wanted == "github":
            append_step_summary(lambda: FORMATS["markdown"].render(report, style))
    if failed:  # told last: what was measured is on stdout all the same
        raise failed[0]


def _write(output: Output, report: Report, options: AuditOptions) -> UsageError | None:
    text = FORMATS[output.format].render(report, Style(channels=options.channels))
    try:
        output.path.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        failed = UsageError(f"{output.path}: cannot be written ({error.strerror})")
        failed.__cause__ = error
        return failed
    return None


@contextmanager
def quiet_libraries(verbose: int) -> Iterator[None]:
    """No warning of a library reaches the terminal, unless -vv asks for them."""
    with warnings.catch_warnings():
        if verbose < 2:
            warnings.simplefilter("ignore")
            os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        yield
