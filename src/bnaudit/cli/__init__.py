"""The command line's entry. Nothing is imported before Ctrl-C has its handler; what runs is in `commands`."""

from __future__ import annotations

import sys

from bnaudit.cli.interrupt import Interrupt


def main(args: list[str] | None = None) -> None:
    """Runs the command line and exits with its code; never shows a traceback unless -vv asks."""
    interrupt = Interrupt()
    try:
        code = run(sys.argv[1:] if args is None else args, interrupt)
    except KeyboardInterrupt:  # while an error was told
        interrupt.leave()
    interrupt.end(code)


def run(args: list[str], interrupt: Interrupt | None = None) -> int:
    """Runs the command line and returns its exit code."""
    from bnaudit.cli.commands import invoke

    return invoke(args, interrupt)
