"""Running an audit for the command line: libraries kept quiet, the report on stdout alone."""

from __future__ import annotations

import os
import time
import warnings
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bnaudit.cli.limits import reported
from bnaudit.cli.present import annotated, present, say_why_nothing
from bnaudit.cli.streams import stdout_reserved
from bnaudit.errors import BnauditError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnaudit.cli.present import Presentation
    from bnaudit.documents import Report
    from bnaudit.options import AuditOptions
    from bnaudit.progress import Progress


def execute(model: str, options: AuditOptions, presentation: Presentation) -> int:
    """Audits, renders, and returns the exit code.

    Raises:
        BnauditError: nothing could be loaded. A failure after loading is reported and then
            raised, so that a consumer of JSON gets a document in either case.
    """
    start = time.perf_counter()
    with (
        annotated(model, presentation),
        stdout_reserved(),
        quiet_libraries(presentation.verbose),
    ):
        report, error = _audited(model, options, presentation)
    present(report, presentation, failed=report.failure is not None)
    if presentation.verbose:
        spent = {**(report.run.seconds if report.run else {}), "total": time.perf_counter() - start}
        click.echo("; ".join(f"{k} {v:.2f} s" for k, v in spent.items()), err=True)
    if error is not None:
        raise error
    say_why_nothing(report, presentation)
    return report.exit_code


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
    from bnaudit.pipeline import audit_loaded, failed_report, load_to_audit

    start = time.perf_counter()
    loaded = load_to_audit(model, options)
    spent = time.perf_counter() - start
    try:
        with reported():
            report = audit_loaded(loaded, model, options, progress)
    except BnauditError as error:
        return failed_report(loaded, model, error, options), error
    if report.run is None:
        return report, None
    seconds = {"load": spent, **report.run.seconds}
    return replace(report, run=replace(report.run, seconds=seconds)), None


@contextmanager
def quiet_libraries(verbose: int) -> Iterator[None]:
    """No warning of a library reaches the terminal, unless -vv asks for them."""
    with warnings.catch_warnings():
        if verbose < 2:
            warnings.simplefilter("ignore")
            os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        yield
