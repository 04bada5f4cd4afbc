"""Documents as text for people, a page each. Importing this loads no rich; rendering does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bnaudit.judge.rule import RuleList
from bnaudit.records.diff import Diff
from bnaudit.records.fleet import Fleet
from bnaudit.records.initialisation import InitReport
from bnaudit.records.inspection import InspectionReport
from bnaudit.records.landscape import Landscape
from bnaudit.records.recalibration import Recalibration
from bnaudit.records.report import Report
from bnaudit.records.several import Several
from bnaudit.records.training import Trend
from bnaudit.render.columns import ALL

if TYPE_CHECKING:
    from bnaudit.render.columns import View
    from bnaudit.render.text.sheet import Sheet


def document_to_text(
    record: Any,
    *,
    width: int = 100,
    color: bool = False,
    unicode: bool = True,
    verbose: bool = False,
    view: View = ALL,
) -> str:
    """A document as its command prints it: the same bytes for the same record, on any terminal.

    Args:
        record: `Report`, `InspectionReport`, `Diff`, `InitReport`, `Landscape`, `Recalibration`, `Trend`,
            `Fleet`, `Several` or `RuleList`.
        width: columns to fit into; anything below 60 counts as 60.
        color: whether to emit ANSI colour. Nothing is said by colour alone.
        unicode: whether letters and lines beyond ASCII may be used.
        verbose: list what is otherwise counted: suppressed findings, rules that did not run.
        view: columns and rows of the main table.
    """
    if isinstance(record, RuleList):
        from bnaudit.render.text.rules import rules_to_text  # plain text, without rich

        return rules_to_text(record, width)
    from bnaudit.render.text.sheet import Sheet

    sheet = Sheet(width, unicode=unicode, view=view)
    write_page(sheet, record, verbose=verbose)
    return sheet.text(color=color)


def write_page(sheet: Sheet, record: Any, *, verbose: bool) -> None:
    """Writes a document's blocks on a sheet, of text or of another kind.

    Args:
        sheet: to write on.
        record: any of `document_to_text` but the rules.
        verbose: see there.
    """
    from bnaudit.render.text import (
        audit,
        difference,
        fleet,
        initialisation,
        inspection,
        landscape,
        recalibration,
        several,
        trend,
    )

    if isinstance(record, Report):
        audit.write_audit(sheet, record, verbose=verbose)
    elif isinstance(record, InspectionReport):
        inspection.write_inspection(sheet, record, verbose=verbose)
    elif isinstance(record, Diff):
        difference.write_difference(sheet, record)
    elif isinstance(record, InitReport):
        initialisation.write_initialisation(sheet, record)
    elif isinstance(record, Landscape):
        landscape.write_landscape(sheet, record)
    elif isinstance(record, Recalibration):
        recalibration.write_recalibration(sheet, record)
    elif isinstance(record, Trend):
        trend.write_trend(sheet, record)
    elif isinstance(record, Fleet):
        fleet.write_fleet(sheet, record)
    elif isinstance(record, Several):
        several.write_several(sheet, record)
    else:
        raise TypeError(f"{type(record).__name__} has no page")
