"""The report as text for people. Importing this loads no rich; rendering does."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bnaudit.records.report import Report

MIN_WIDTH = 60


def report_to_text(
    report: Report,
    *,
    width: int = 100,
    color: bool = False,
    unicode: bool = True,
    verbose: bool = False,
) -> str:
    """The report as `bnaudit check` prints it: the same bytes for the same report, on any terminal.

    Args:
        report: what to print.
        width: columns to fit into; anything below 60 counts as 60.
        color: whether to emit ANSI colour. Nothing is said by colour alone.
        unicode: whether letters and lines beyond ASCII may be used.
        verbose: list what is otherwise counted: suppressed findings, rules that did not run.
    """
    from bnaudit.render.table.page import render_page

    width = max(width, MIN_WIDTH)
    return render_page(report, width=width, color=color, unicode=unicode, verbose=verbose)
