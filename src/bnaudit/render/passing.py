"""What the verdicts of audits and inspections share: the word of a pass, and the count of findings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.records.finding import Severity
from bnaudit.render.table.text import plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnaudit.records.finding import Finding

GOOD, CAREFUL, BAD = "bold green", "bold yellow", "bold red"


def passing_word(
    findings: Sequence[Finding], fail_on: Severity | None, *, empty: bool
) -> tuple[str, str]:
    """(word, style). A pass that rests on an option says so: it is not a clean bill.

    Args:
        findings: of the report.
        fail_on: severity that would have failed it, or None.
        empty: whether there was no layer to look at.
    """
    if empty:
        return "PASS (--allow-no-bn)", CAREFUL
    if fail_on is None:
        errors = any(finding.severity is Severity.ERROR for finding in findings)
        return ("PASS (--fail-on never)", CAREFUL) if errors else ("PASS", GOOD)
    if any(finding.severity >= fail_on for finding in findings):
        return "PASS (--baseline)", CAREFUL
    return "PASS", GOOD


def counted(errors: int, warnings: int, infos: int) -> str:
    """`1 error, 0 warnings, 2 info`."""
    if not errors + warnings + infos:
        return "no findings"
    counts = [plural(errors, "error"), plural(warnings, "warning")]
    return ", ".join([*counts, f"{infos} info"] if infos else counts)
