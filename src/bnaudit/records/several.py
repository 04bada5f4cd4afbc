"""Several models of one command, side by side."""

from __future__ import annotations

from dataclasses import dataclass

from bnaudit.records.inspection import InspectionReport
from bnaudit.records.report import Report
from bnaudit.records.run import Failure


@dataclass(frozen=True, slots=True)
class Entry:
    """One of the models.

    Attributes:
        path: as the user typed it, or as it was found in a folder.
        report: of an audit or an inspection, None where there is none.
        failure: why there is none, or why it is not whole.
        exit_code: that this model alone would give.
    """

    path: str
    report: Report | InspectionReport | None
    failure: Failure | None
    exit_code: int


@dataclass(frozen=True, slots=True)
class Several:
    """What one command said of several models.

    Attributes:
        command: "check" or "inspect".
        entries: a model each, in order.
    """

    command: str
    entries: tuple[Entry, ...]

    @property
    def exit_code(self) -> int:
        """The highest of all."""
        return max((entry.exit_code for entry in self.entries), default=0)
