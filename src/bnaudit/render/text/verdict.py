"""The last line of an audit or an inspection: a word, what it rests on, and what was found.

No rich here: formats for CI systems have the same line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.records.inspection import InspectionReport
from bnaudit.render.text.words import error_size, plural, significant
from bnaudit.summary.audit import summarize
from bnaudit.summary.inspection import summarize_inspection
from bnaudit.summary.outcome import word_of

if TYPE_CHECKING:
    from bnaudit.records.report import Report
    from bnaudit.summary.audit import SecondOrderSummary, Summary, WeightSpaceSummary
    from bnaudit.summary.inspection import InspectSummary
    from bnaudit.summary.residuals import Residual

GOOD, CAREFUL, BAD = "bold green", "bold yellow", "bold red"


def verdict_line(report: Report | InspectionReport) -> tuple[str, str, str]:
    """(word, style of the word, sentence). The word leads: eyes and `grep ^FAIL` look there."""
    word = word_of(report)
    style = GOOD if word == "PASS" else CAREFUL if word.startswith("PASS") else BAD
    parts = _inspected(report) if isinstance(report, InspectionReport) else _audited(report)
    return word, style, "; ".join(part for part in parts if part)


def why_nothing(report: Report) -> str:
    """Why there is no layer."""
    defined = len(report.model.defined)
    if defined == 0:
        return "the model defines no BatchNorm layer"
    return f"no batch went through any of the {plural(defined, 'BatchNorm layer')}"


def _inspected(report: InspectionReport) -> list[str]:
    summary = summarize_inspection(report)
    parts = ["the file has no BatchNorm layer"]
    if summary.layers:
        parts = [f"{plural(summary.layers, 'BatchNorm layer')} read, nothing was run"]
        if summary.gain is not None:
            parts.append(f"median |γ|/σ {significant(summary.gain)}")
    if report.suppressed:
        parts.append(f"{plural(len(report.suppressed), 'finding')} suppressed")
    parts.append(_counted(summary))
    return parts if report.baseline is None else [*parts, _known(report)]


def _audited(report: Report) -> list[str]:
    summary = summarize(report)
    measured = plural(summary.measured, "layer")
    if summary.verdict == "failed":
        stopped = f"{measured} measured before it stopped" if summary.measured else ""
        return ["the audit did not finish", stopped or "nothing was measured"]
    if summary.verdict == "nothing-to-audit":
        return [why_nothing(report), _counted(summary)]
    if summary.measured < summary.layers:
        measured = f"{summary.measured} of {plural(summary.layers, 'layer')}"
    difference = summary.worst_difference
    off = "" if difference is None else error_size(difference.relative_error)
    return [
        f"{measured} measured",
        _agreement(summary),
        f"finite differences off by at most {off}" if off else "",
        _second_order(summary.second_order),
        _weight_space(summary.weight_space),
        _counted(summary),
        _known(report) if report.findings else "",
    ]


def _agreement(summary: Summary) -> str:
    worst = summary.worst
    if worst is None or not summary.measured + summary.integrity_failed:
        return ""
    numbers = f"residual {error_size(worst.value)}, tolerance {error_size(worst.tolerance)}"
    if summary.integrity_failed:
        return f"theory and autograd disagree in {summary.integrity_failed} (worst {numbers})"
    return f"theory and autograd agree ({numbers})"


def _second_order(summary: SecondOrderSummary) -> str:
    """The bound is a fact beside the agreement: that it fails is no failure of the model."""
    what = "slope of the second-order sweep" if summary.swept else "second order"
    text = _agrees(what, summary.measured, summary.integrity_failed, summary.worst)
    if text and summary.worst_verification is not None:
        text += (
            f", curvature within {error_size(summary.worst_verification)} of double backward in "
            f"{plural(summary.verified, 'layer')}"
        )
    if text and summary.bound_layers:
        text += f", bound holds in {summary.bound_holding} of {summary.bound_layers}"
    return text


def _weight_space(summary: WeightSpaceSummary) -> str:
    text = _agrees("weight space", summary.measured, summary.integrity_failed, summary.worst)
    if summary.violations:
        return f"{text}, minimax bound exceeded {plural(summary.violations, 'time')}"
    return f"{text}, within the bound" if summary.measured else text


def _agrees(what: str, measured: int, failed: int, worst: Residual | None) -> str:
    if worst is None or measured + failed == 0:
        return ""
    value, tolerance = error_size(worst.value), error_size(worst.tolerance)
    if failed:
        return f"{what} disagrees in {failed} (worst residual {value}, tolerance {tolerance})"
    return f"{what} agrees (residual {value})"


def _counted(summary: Summary | InspectSummary) -> str:
    """`1 error, 0 warnings, 2 info`."""
    if not summary.errors + summary.warnings + summary.infos:
        return "no findings"
    counts = [plural(summary.errors, "error"), plural(summary.warnings, "warning")]
    return ", ".join([*counts, f"{summary.infos} info"] if summary.infos else counts)


def _known(report: Report | InspectionReport) -> str:
    held = report.baseline
    return "" if held is None else f"{held.new} new, {held.worse} worse, {held.known} known"
