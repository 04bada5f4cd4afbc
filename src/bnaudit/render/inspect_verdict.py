"""The last line of an inspection: PASS or FAIL, what was read, and what was found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.render.inspect_summary import InspectSummary, summarize_inspection
from bnaudit.render.table.numbers import significant
from bnaudit.render.table.text import plural

if TYPE_CHECKING:
    from bnaudit.records.inspection import InspectionReport

_GOOD, _CAREFUL, _BAD = "bold green", "bold yellow", "bold red"


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
    parts.append(_counts(summary))
    if report.baseline is not None:
        known = report.baseline
        parts.append(f"{known.new} new, {known.worse} worse, {known.known} known")
    return word, style, "; ".join(parts)


def _word(report: InspectionReport, summary: InspectSummary) -> tuple[str, str]:
    if summary.exit_code == 3:
        return "NOTHING TO AUDIT (exit 3)", _BAD
    if summary.exit_code:
        return "FAIL", _BAD
    if not summary.layers:
        return "PASS (--allow-no-bn)", _CAREFUL
    if summary.errors and report.fail_on is None:
        return "PASS (--fail-on never)", _CAREFUL
    limit = report.fail_on
    if limit is not None and any(finding.severity >= limit for finding in report.findings):
        return "PASS (--baseline)", _CAREFUL
    return "PASS", _GOOD


def _counts(summary: InspectSummary) -> str:
    if not summary.errors + summary.warnings + summary.infos:
        return "no findings"
    counts = [plural(summary.errors, "error"), plural(summary.warnings, "warning")]
    if summary.infos:
        counts.append(f"{summary.infos} info")
    return ", ".join(counts)
