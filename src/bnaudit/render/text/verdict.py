"""The last line of an audit or an inspection: a word, what it rests on, and what was found.

No rich here: formats for CI systems have the same line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.records.inspection import InspectionReport
from bnaudit.render.text.words import error_size, plural, significant
from bnaudit.summary.audit import summarize
from bnaudit.summary.deployment import deployed, mean_of
from bnaudit.summary.inspection import summarize_inspection
from bnaudit.summary.outcome import word_of

if TYPE_CHECKING:
    from bnaudit.records.report import Report
    from bnaudit.summary.audit import SecondOrderSummary, Summary, WeightSpaceSummary
    from bnaudit.summary.inspection import InspectSummary

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
    weights, difference = summary.weight_space, summary.worst_difference
    held = ", within the bound" if weights.measured else ""
    if weights.violations:
        held = f", minimax bound exceeded {plural(weights.violations, 'time')}"
    off = "" if difference is None else error_size(difference.relative_error)
    return [
        _deployed(report),
        f"{measured} measured",
        _agrees("theory and autograd", summary, many=True),
        f"finite differences off by at most {off}" if off else "",
        _second_order(summary.second_order),
        _agrees("weight space", weights) + held,
        _counted(summary),
        _known(report) if report.findings else "",
    ]


def _deployed(report: Report) -> str:
    """The two losses, where the loss is one of the task."""
    found, run = deployed(report), report.run
    if found is None or run is None or run.loss.label_free:
        return ""
    running, batch = mean_of(found.running.loss), mean_of(found.batch.loss)
    if batch is None:
        return ""
    loss = "not finite" if running is None else significant(running)
    return f"deployed loss {loss}, {significant(batch)} with batch statistics"


def _second_order(summary: SecondOrderSummary) -> str:
    """The bound is a fact beside the agreement: that it fails is no failure of the model."""
    what = "slope of the second-order sweep" if summary.swept else "second order"
    text = _agrees(what, summary)
    if text and summary.worst_verification is not None:
        text += (
            f", curvature within {error_size(summary.worst_verification)} of double backward in "
            f"{plural(summary.verified, 'layer')}"
        )
    if text and summary.bound_layers:
        text += f", bound holds in {summary.bound_holding} of {summary.bound_layers}"
    return text


def _agrees(
    what: str, summary: Summary | SecondOrderSummary | WeightSpaceSummary, *, many: bool = False
) -> str:
    """Whether two ways to compute the same thing agree; `many` says that `what` is a plural."""
    worst, failed = summary.worst, summary.integrity_failed
    if worst is None or summary.measured + failed == 0:
        return ""
    value, tolerance = error_size(worst.value), error_size(worst.tolerance)
    if failed:
        how = f"disagree in {failed} (worst" if many else f"disagrees in {failed} (worst"
        return f"{what} {how} residual {value}, tolerance {tolerance})"
    return (
        f"{what} agree (residual {value}, tolerance {tolerance})"
        if many
        else f"{what} agrees (residual {value})"
    )


def _counted(summary: Summary | InspectSummary) -> str:
    """`1 error, 0 warnings, 2 info`."""
    if not summary.errors + summary.warnings + summary.infos:
        return "no findings"
    counts = [plural(summary.errors, "error"), plural(summary.warnings, "warning")]
    return ", ".join([*counts, f"{summary.infos} info"] if summary.infos else counts)


def _known(report: Report | InspectionReport) -> str:
    held = report.baseline
    return "" if held is None else f"{held.new} new, {held.worse} worse, {held.known} known"
