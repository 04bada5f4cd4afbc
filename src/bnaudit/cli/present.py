"""Where a report goes: stdout in one format, files in others, and a line on stderr where it is empty."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnaudit.cli.streams import (
    append_step_summary,
    color_wanted,
    say_error,
    table_width,
    unicode_stdout,
    write_stdout,
)
from bnaudit.errors import BnauditError, UsageError
from bnaudit.records.finding import Severity
from bnaudit.records.inspection import InspectionReport
from bnaudit.records.values import Skipped
from bnaudit.render.formats import FORMATS, Style

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnaudit.cli.params import Output
    from bnaudit.render.formats import AnyReport

EXIT_NO_BATCHNORM = 3
EXIT_NOT_RUN = 4

_NO_BATCHNORM = "BN001"

_PROSE = ("table", "markdown")


@dataclass(frozen=True, slots=True)
class Presentation:
    """What to show where.

    Attributes:
        stdout_format: a name of `bnaudit.render.formats.FORMATS`, or "none".
        outputs: files to write as well.
        color: "auto", "always" or "never".
        channels: whether machine formats have per-channel arrays.
        progress: whether to show progress on stderr.
        verbose: 0, 1 (timings, what is suppressed) or 2 (library warnings and tracebacks).
        follows: whether a report stands above it; prose has an empty line between two.
    """

    stdout_format: str
    outputs: tuple[Output, ...]
    color: str
    channels: bool
    progress: bool
    verbose: int
    follows: bool = False


def present(report: AnyReport, presentation: Presentation, *, failed: bool = False) -> None:
    """Writes a report to where it is wanted.

    Args:
        report: of an audit or an inspection.
        presentation: where, and how it may look.
        failed: the audit stopped; people read the error line then, and no table.

    Raises:
        UsageError: a file cannot be written; told last, as the report is on stdout all the same.
    """
    errors = [e for o in presentation.outputs if (e := _write(o, report, presentation)) is not None]
    wanted = presentation.stdout_format
    if wanted != "none" and not (wanted == "table" and failed):
        style = Style(
            width=table_width(),
            color=color_wanted(presentation.color),
            unicode=unicode_stdout(),
            channels=presentation.channels,
            verbose=presentation.verbose > 0,
        )
        parting = "\n" if presentation.follows and wanted in _PROSE else ""
        write_stdout(parting + FORMATS[wanted].render(report, style))
        if wanted == "github":
            append_step_summary(lambda: FORMATS["markdown"].render(report, style))
    if errors:
        raise errors[0]


@contextmanager
def annotated(model: str, presentation: Presentation) -> Iterator[None]:
    """An error that leaves no report is an annotation on GitHub too: stderr is folded away there.

    Raises:
        BnauditError: what was raised inside.
    """
    try:
        yield
    except BnauditError as error:
        if presentation.stdout_format == "github":
            from bnaudit.render.github import error_to_github
            from bnaudit.render.markdown import error_to_markdown

            message, hint = error.message, error.hint
            write_stdout(error_to_github(model, message, hint))
            append_step_summary(lambda: error_to_markdown(model, message, hint))
        raise


def say_why_nothing(report: AnyReport, presentation: Presentation) -> None:
    """The table says at length why nothing was audited; readers of stderr alone have to hear of it too."""
    if presentation.stdout_format == "table":
        return
    if report.exit_code not in (EXIT_NO_BATCHNORM, EXIT_NOT_RUN):
        return
    say_error(*_reason(report))


def _reason(report: AnyReport) -> tuple[str, str]:
    """Fact and remedy of an empty audit: the rule for it may be suppressed, which makes nothing pass."""
    reported = [*report.findings, *(entry.finding for entry in report.suppressed)]
    if report.exit_code == EXIT_NO_BATCHNORM:
        told = next((finding for finding in reported if finding.rule == _NO_BATCHNORM), None)
        if told is not None:
            return told.message, told.fix
    worst = next((finding for finding in reported if finding.severity is Severity.ERROR), None)
    remedy = "the table, or `skipped` in the JSON, has the reason of each layer"
    return _unmeasured(report), remedy if worst is None else worst.fix


def _unmeasured(report: AnyReport) -> str:
    """The first layer's own reason: a finding beside it need not be the cause."""
    fact = "no BatchNorm layer could be measured"
    if isinstance(report, InspectionReport) or not report.layers:
        return fact
    first = report.layers[0]
    order = first.first_order
    missing = order if isinstance(order, Skipped) else order.measured
    return f"{fact} ({first.label}: {missing.reason})" if isinstance(missing, Skipped) else fact


def _write(output: Output, report: AnyReport, presentation: Presentation) -> UsageError | None:
    text = FORMATS[output.format].render(report, Style(channels=presentation.channels))
    try:
        output.path.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        failed = UsageError(
            f"{output.path}: cannot be written ({error.strerror})", hint="name another file for it"
        )
        failed.__cause__ = error
        return failed
    return None
