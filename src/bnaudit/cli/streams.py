"""Facts about stdout and stderr, and keeping stdout for the report alone."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PIPED_WIDTH = 100
_NARROWEST = 60


@contextmanager
def stdout_reserved() -> Iterator[None]:
    """Sends whatever is printed meanwhile to stderr, also from C++: a scripted model may `print`."""
    sys.stdout.flush()
    with redirect_stdout(sys.stderr):
        try:
            saved = os.dup(1)
        except OSError:  # stdout is closed
            yield
            return
        try:
            os.dup2(2, 1)
            yield
        finally:
            os.dup2(saved, 1)
            os.close(saved)


def color_wanted(choice: str) -> bool:
    """Whether the table has colour: --color, then NO_COLOR and FORCE_COLOR, then the terminal."""
    if choice != "auto":
        return choice == "always"
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def table_width() -> int:
    """The terminal's width, or 100 columns where stdout is piped; COLUMNS overrides both."""
    if os.environ.get("COLUMNS", "").isdigit():
        return max(_NARROWEST, int(os.environ["COLUMNS"]))
    if not sys.stdout.isatty():
        return PIPED_WIDTH
    return max(_NARROWEST, shutil.get_terminal_size((PIPED_WIDTH, 24)).columns)


def unicode_stdout() -> bool:
    """Whether stdout can carry the table's Greek letters and bars."""
    return "utf" in (sys.stdout.encoding or "").lower()


def write_stdout(text: str) -> None:
    """Writes a report; a reader that has gone away (`| head`) ends it quietly."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes stdout once more at exit, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
