"""Facts about stdout and stderr, and keeping stdout for the report alone."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bnaudit.errors import UsageError
from bnaudit.escaping import printable
from bnaudit.files import exists, opened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PIPED_WIDTH = 100
_SUMMARY_LIMIT = 2**20  # bytes that GitHub takes of one step
_NARROWEST = 60


@contextmanager
def stdout_reserved() -> Iterator[None]:
    """Sends whatever is printed meanwhile to stderr, also from C++: a scripted model may `print`."""
    if sys.stdout is not None:
        sys.stdout.flush()
    with redirect_stdout(sys.stderr):
        try:
            saved, other = os.dup(1), os.dup(2)
        except OSError:  # one of them is closed
            yield
            return
        try:
            os.dup2(other, 1)
            yield
        finally:
            os.dup2(saved, 1)
            os.close(saved)
            os.close(other)


def color_wanted(choice: str) -> bool:
    """Whether the table has colour: --color, then NO_COLOR and FORCE_COLOR, then the terminal."""
    if choice != "auto":
        return choice == "always"
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return sys.stdout is not None and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def table_width() -> int:
    """The terminal's width, or 100 columns where stdout is piped; COLUMNS overrides both."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isascii() and columns.isdecimal():
        return max(_NARROWEST, int(columns))
    if sys.stdout is None or not sys.stdout.isatty():
        return PIPED_WIDTH
    return max(_NARROWEST, shutil.get_terminal_size((PIPED_WIDTH, 24)).columns)


def unicode_stdout() -> bool:
    """Whether stdout can carry the table's Greek letters and bars."""
    return sys.stdout is not None and "utf" in (sys.stdout.encoding or "").lower()


def write_stdout(text: str) -> None:
    """Writes a report; a reader that has gone away (`| head`) ends it quietly.

    Raises:
        UsageError: stdout takes nothing more (a full disk).
    """
    if sys.stdout is None:  # closed by the shell: nobody wants it
        return
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # Python flushes stdout once more at exit, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise UsageError(
                f"stdout: cannot be written ({error.strerror})", hint="-o FILE writes a report too"
            ) from error


class Helpful(click.Command):
    """A command whose --help is written like every other document: a full disk or a pipe is told."""

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        """Click's own, which writes with `click.echo`, and another end."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.callback = _show_help
        return option


def _show_help(ctx: click.Context, _: click.Parameter, given: bool) -> None:
    if given and not ctx.resilient_parsing:
        write_stdout(f"{ctx.get_help()}\n")
        ctx.exit()


def append_step_summary(render: Callable[[], str]) -> None:
    """Adds Markdown to the step's summary where GitHub Actions offers a file for it.

    A summary that cannot be written, or has no room left, is no reason to fail the step.
    """
    name = os.environ.get("GITHUB_STEP_SUMMARY")
    if not name:
        return
    data = render().encode("utf-8", "replace")
    try:
        path = Path(name)
        if exists(path):
            opened(path, renewable=True).close()  # a FIFO or a device has no end to add to
        used = path.stat().st_size if exists(path) else 0
        if used + len(data) <= _SUMMARY_LIMIT:
            with path.open("ab", buffering=0) as file:
                written = 0
                try:
                    written = file.write(data)
                finally:
                    if written < len(data):  # a full disk: half a table would swallow what follows
                        file.truncate(used)
    except OSError as error:
        click.echo(f"note: the step summary cannot be written ({error.strerror})", err=True)


def say_error(message: str, hint: str | None) -> None:
    """Fact and remedy on stderr, a line each."""
    click.echo(f"error: {_line(message)}", err=True)
    if hint:
        click.echo(f"hint: {_line(hint)}", err=True)


def _line(text: str) -> str:
    """One line; names from files and shells reach a terminal without their control characters."""
    return printable(" ".join(text.split()))
