"""Documents as text for people. Importing this loads no rich; rendering does."""

from __future__ import annotations

from typing import Any

from bnaudit.records.diff import Diff
from bnaudit.records.initialisation import InitReport
from bnaudit.records.inspection import InspectionReport


def document_to_text(
    record: Any,
    *,
    width: int = 100,
    color: bool = False,
    unicode: bool = True,
    verbose: bool = False,
) -> str:
    """A record as its command prints it."""
    if isinstance(record, InspectionReport):
        from bnaudit.render.inspect_table import inspection_to_text

        return inspection_to_text(
            record, width=width, color=color, unicode=unicode, verbose=verbose
        )
    if isinstance(record, InitReport):
        from bnaudit.render.init_table import init_to_text

        return init_to_text(record, width=width, unicode=unicode)
    if isinstance(record, Diff):
        from bnaudit.render.diff_table import diff_to_text

        return diff_to_text(record, width=width, color=color, unicode=unicode)
    from bnaudit.render.table import report_to_text

    return report_to_text(record, width=width, color=color, unicode=unicode, verbose=verbose)
