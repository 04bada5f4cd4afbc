"""Where a document goes: stdout in one format, files in others, and a line on stderr where it is empty."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnaudit.cli.configured import configuration
from bnaudit.cli.streams import (
    append_step_summary,
    color_wanted,
    say_error,
    table_width,
    unicode_stdout,
    write_stdout,
)
from bnaudit.cli.writing import write_whole
from bnaudit.errors import BnauditError, UsageError
from bnaudit.files import is_file, was_read
from bnaudit.records.finding import Severity
from bnaudit.records.values import Skipped
from bnaudit.render.formats import FORMATS, Style, render, split_output

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bnaudit.records.inspection import InspectionReport
    from bnaudit.records.report import Report

    AnyReport = Report | InspectionReport

EXIT_NO_BATCHNORM = 3
EXIT_NOT_RUN = 4

_NO_BATCHNORM = "BN001"


@dataclass(frozen=True)
class Presentation:
    """What to show where.

    Attributes:
        document: one of `bnaudit.render.formats.DOCUMENTS`.
        stdout_format: a name of `bnaudit.render.formats.FORMATS`, or "none".
        outputs: path and format of the files to write as well.
        color: "auto", "always" or "never".
        channels: whether machine formats have per-channel arrays.
        progress: whether to show progress on stderr.
        verbose: 0, 1 (timings, what is suppressed) or 2 (library warnings and tracebacks).
        follows: whether a document stands above it; prose has an empty line between two.
    """

    document: str
    stdout_format: str
    outputs: tuple[tuple[Path, str], ...]
    color: str = "never"
    channels: bool = False
    progress: bool = False
    verbose: int = 0
    follows: bool = False


def presentation_of(
    document: str, given: dict[str, Any], models: Sequence[str | Path] = ()
) -> Presentation:
    """Where the options of a command send a document.

    Args:
        document: one of `bnaudit.render.formats.DOCUMENTS`.
        given: the command's options.
        models: the files that its arguments name, which are read.

    Raises:
        UsageError: a document would replace a file that is read, or two would go to one file, or to
            one stdout, or one has no file.
    """
    split = [split_output(text) for text in given["outputs"]]
    for name, text in split:
        if text == "-":
            raise UsageError(
                "--output names -, which is no file",
                hint=f"--format {name} writes to stdout; ./- is a file of this name",
            )
    outputs = tuple((Path(path), str(name)) for name, path in split)
    sources = _read_by(models, given)
    places = [os.path.realpath(path) for path, _ in outputs]
    for path, place in zip((path for path, _ in outputs), places, strict=True):
        if places.count(place) > 1:
            raise UsageError(
                f"--output names {path} twice", hint="a file holds one format: name another file"
            )
        if (source := next((s for s in sources if _same_file(path, s)), None)) is not None:
            raise _replaces_input(path, "" if Path(source) == path else f" (as {source})")
        if given["stdout_format"] != "none" and _is_stdout(path):
            raise UsageError(
                f"--output names {path}, which is stdout, where --format "
                f"{given['stdout_format']} goes",
                hint="--format none leaves it to --output, or --format alone says what goes there",
            )
    optional = {n: given[n] for n in ("color", "channels", "verbose") if n in given}
    progress = given.get("progress", False) and not given.get("quiet", False)
    return Presentation(document, given["stdout_format"], outputs, progress=progress, **optional)


def _read_by(models: Sequence[str | Path], given: dict[str, Any]) -> list[str]:
    """What may be read: FILE, NAME=FILE or FILE.py:NAME. A baseline is not here: -o may renew it."""
    named = [*map(str, models), *given.get("data", ())]
    named += [text for n in ("labels", "weights", "loss") if (text := given.get(n)) is not None]
    parts = ((text, text.partition("=")[2], text.rpartition(":")[0]) for text in named)
    return [*filter(None, (configuration().path, *chain.from_iterable(parts)))]


def _replaces_input(path: Path, alias: str = "") -> UsageError:
    return UsageError(
        f"--output names {path}, which this command reads{alias}",
        hint="the document would replace it: name another file",
    )


def _same_file(path: Path, source: str) -> bool:
    """Whether both are one regular file, whatever links lead to it; devices keep nothing."""
    return is_file(path) and is_file(Path(source)) and path.samefile(source)


def _is_stdout(path: Path) -> bool:
    """Whether a file is where stdout goes (/dev/stdout, or `> file`); /dev/null takes everything."""
    try:
        target, out = path.stat(), os.fstat(sys.__stdout__.fileno())  # type: ignore[union-attr]
        return os.path.samestat(target, out) and not os.path.samestat(out, Path(os.devnull).stat())
    except (OSError, ValueError, AttributeError):  # no such file yet, or stdout is closed
        return False


def present(content: Any, presentation: Presentation, *, failed: bool = False) -> None:
    """Writes a document to where it is wanted.

    Args:
        content: its record.
        presentation: where, and how it may look.
        failed: the audit stopped; people read the error line then, and a table only of what was found in
            the file, which may be the cause.

    Raises:
        UsageError: a file cannot be written; told last, as the document is on stdout all the same.
    """
    errors = []
    for path, name in presentation.outputs:
        style = Style(channels=presentation.channels)
        try:
            if was_read(path):  # by this command: a model's external weights, a part of an index
                raise _replaces_input(path)
            write_whole(path, render(name, content, style))
        except UsageError as error:
            errors.append(error)
        except OSError as error:
            hint = "name another file for it"
            failure = UsageError(f"{path}: cannot be written ({error.strerror})", hint=hint)
            failure.__cause__ = error
            errors.append(failure)
    wanted = presentation.stdout_format
    found = not failed or any(f.severity > Severity.INFO for f in content.findings)
    if wanted != "none" and (wanted != "table" or found):
        style = Style(
            width=table_width(),
            color=color_wanted(presentation.color),
            unicode=unicode_stdout(),
            channels=presentation.channels,
            verbose=presentation.verbose > 0,
        )
        parting = "\n" if presentation.follows and FORMATS[wanted].prose else ""
        write_stdout(parting + str(render(wanted, content, style)))
        if wanted == "github":
            append_step_summary(lambda: str(render("markdown", content, style)))
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
    # The rule for an empty audit may be suppressed, which makes nothing pass.
    reported = [*report.findings, *(entry.finding for entry in report.suppressed)]
    if report.exit_code == EXIT_NO_BATCHNORM:
        told = next((finding for finding in reported if finding.rule == _NO_BATCHNORM), None)
        if told is not None:
            say_error(told.message, told.fix)
            return
    worst = next((finding for finding in reported if finding.severity is Severity.ERROR), None)
    remedy = "the table, or `skipped` in the JSON, has the reason of each layer"
    say_error(_unmeasured(report), remedy if worst is None else worst.fix)


def _unmeasured(report: AnyReport) -> str:
    """The first layer's own reason: a finding beside it need not be the cause."""
    fact = "no BatchNorm layer could be measured"
    first = next(iter(getattr(report, "layers", ())), None)  # an inspection has none
    order = getattr(first, "first_order", None)
    missing = order if order is None or isinstance(order, Skipped) else order.measured
    return (
        f"{fact} ({first.label}: {missing.reason})"
        if first and isinstance(missing, Skipped)
        else fact
    )
