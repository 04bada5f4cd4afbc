"""The last line of an inspection: PASS or FAIL, what was read, and what was found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.render.passing import BAD, counted, passing_word
from bnaudit.render.table.numbers import significant
from bnaudit.render.table.text import plural
from bnaudit.summary.inspection import InspectSummary, summarize_inspection

if TYPE_CHECKING:
    from bnaudit.records.inspection import InspectionReport


def inspection_verdict(report: InspectionReport) -> tuple[str, str, str]:
    """(word, style of the word, sentence), as `verdict_line` has it for audits."""
    summary = summarize_inspection(report)
    word, style = _word(report, summary)
    parts = [f"{plural(summary.layers, 'BatchNorm layer')} read, nothing was run"]
    if summary.gain is not None:
        parts.append(f"median |γ|/σ {significant(summary.gain)}")
    if not summary.layers:
        parts = ["the file has no BatchNorm layer"]
    if report.suppressed:
        parts.append(f"{plural(len(report.suppressed), 'finding')} suppressed")
    parts.append(counted(summary.errors, summary.warnings, summary.infos))
    if report.baseline is not None:
        known = report.baseline
        parts.append(f"{known.new} new, {known.worse} worse, {known.known} known")
    return word, style, "; ".join(parts)


def _word(report: InspectionReport, summary: InspectSummary) -> tuple[str, str]:
    if summary.exit_code == 3:
        return "NOTHING TO AUDIT (exit 3)", BAD
    if summary.exit_code:
        return "FAIL", BAD
    return passing_word(report.findings, report.fail_on, empty=not summary.layers)
