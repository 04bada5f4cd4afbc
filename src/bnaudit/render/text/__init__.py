"""Documents as text for people, a page each. Importing this loads no rich; rendering does."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bnaudit.records.diff import Diff
    from bnaudit.records.initialisation import InitReport
    from bnaudit.records.inspection import InspectionReport
    from bnaudit.records.report import Report


def report_to_text(
    report: Report,
    *,
    width: int = 100,
    color: bool = False,
    unicode: bool = True,
    verbose: bool = False,
) -> str:
    """An audit as `bnaudit check` prints it.

    Args:
        report: what to print.
        width: columns to fit into; anything below 60 counts as 60.
        color: whether to emit ANSI colour. Nothing is said by colour alone.
        unicode: whether letters and lines beyond ASCII may be used.
        verbose: list what is otherwise counted: suppressed findings, rules that did not run.
    """
    from bnaudit.render.text.audit import write_audit
    from bnaudit.render.text.sheet import Sheet

    sheet = Sheet(width, unicode=unicode)
    write_audit(sheet, report, verbose=verbose)
    return sheet.text(color=color)


def inspection_to_text(
    report: InspectionReport,
    *,
    width: int = 100,
    color: bool = False,
    unicode: bool = True,
    verbose: bool = False,
) -> str:
    """An inspection as `bnaudit inspect` prints it; arguments as for `report_to_text`."""
    from bnaudit.render.text.inspection import write_inspection
    from bnaudit.render.text.sheet import Sheet

    sheet = Sheet(width, unicode=unicode)
    write_inspection(sheet, report, verbose=verbose)
    return sheet.text(color=color)


def diff_to_text(diff: Diff, *, width: int = 100, color: bool = False, unicode: bool = True) -> str:
    """A comparison as `bnaudit diff` prints it; arguments as for `report_to_text`."""
    from bnaudit.render.text.difference import write_difference
    from bnaudit.render.text.sheet import Sheet

    sheet = Sheet(width, unicode=unicode)
    write_difference(sheet, diff)
    return sheet.text(color=color)


def init_to_text(
    report: InitReport, *, width: int = 100, color: bool = False, unicode: bool = True
) -> str:
    """A comparison with the start as `bnaudit init` prints it; arguments as for `report_to_text`."""
    from bnaudit.render.text.initialisation import write_initialisation
    from bnaudit.render.text.sheet import Sheet

    sheet = Sheet(width, unicode=unicode)
    write_initialisation(sheet, report)
    return sheet.text(color=color)
