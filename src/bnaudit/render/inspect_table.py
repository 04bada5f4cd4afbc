"""An inspection as text for people: a header, a line a layer, what is left of others, findings, a verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.render.table import MIN_WIDTH

if TYPE_CHECKING:
    from bnaudit.records.inspection import InspectionReport


def inspection_to_text(
    report: InspectionReport,
    *,
    width: int = 100,
    color: bool = False,
    unicode: bool = True,
    verbose: bool = False,
) -> str:
    """The inspection as `bnaudit inspect` prints it.

    Args:
        report: what to print.
        width: columns to fit into; anything below 60 counts as 60.
        color: whether to emit ANSI colour. Nothing is said by colour alone.
        unicode: whether letters and lines beyond ASCII may be used.
        verbose: list what is otherwise counted: suppressed findings, rules that did not run.
    """
    from bnaudit.render.inspect_page import render_inspection  # rich: only whoever prints pays

    width = max(width, MIN_WIDTH)
    return render_inspection(report, width=width, color=color, unicode=unicode, verbose=verbose)
