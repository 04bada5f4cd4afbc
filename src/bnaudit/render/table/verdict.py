"""The last line: PASS or FAIL, what was measured, and whether theory and autograd agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.records.values import NOT_REQUESTED, Skipped
from bnaudit.render.passing import BAD, counted, passing_word
from bnaudit.render.table.numbers import error_size, significant
from bnaudit.render.table.text import plural
from bnaudit.summary.audit import summarize

if TYPE_CHECKING:
    from bnaudit.records.report import Report
    from bnaudit.summary.audit import SecondOrderSummary, Summary, WeightSpaceSummary
    from bnaudit.summary.residuals import Residual


def verdict_line(report: Report) -> tuple[str, str, str]:
    """(word, style of the word, sentence). The word leads: eyes and `grep ^FAIL` look there."""
    summary = summarize(report)
    word, style = _word(report, summary)
    if summary.verdict == "failed":
        parts = ["the audit did not finish", _before_it_stopped(summary)]
    elif summary.verdict == "nothing-to-audit":
        parts = [_why_nothing(report), counted(summary.errors, summary.warnings, summary.infos)]
    else:
        parts = [
            _layers(summary),
            _agreement(summary),
            _differences(summary),
            _second_order(summary.second_order),
            _weight_space(summary.weight_space),
            counted(summary.errors, summary.warnings, summary.infos),
            _known(report),
        ]
    return word, style, "; ".join(part for part in parts if part)


def nothing_to_audit(report: Report) -> str:
    """The sentence that stands where the table would."""
    fact = f"No BatchNorm to audit: {_why_nothing(report)}."
    if report.model.defined or report.findings:
        return fact
    return f"{fact} An inference export folds BatchNorm into convolutions: audit the model before."


def depth_sentence(report: Report) -> str:
    """How the gradient grows or shrinks through the network, measured and not multiplied up."""
    scale = report.gradient_scale
    if isinstance(scale, Skipped):
        return "" if scale == NOT_REQUESTED else f"– depth: {scale.reason}"
    return f"depth: |G| at the first layer is {significant(scale.median)} times that at the last"


def _why_nothing(report: Report) -> str:
    defined = len(report.model.defined)
    if defined == 0:
        return "the model defines no BatchNorm layer"
    return f"no batch went through any of the {plural(defined, 'BatchNorm layer')}"


def _word(report: Report, summary: Summary) -> tuple[str, str]:
    if summary.verdict == "failed":
        return f"FAILED (exit {summary.exit_code})", BAD
    if summary.exit_code == 3:
        return "NOTHING TO AUDIT (exit 3)", BAD
    if summary.exit_code == 4:
        return "NOTHING MEASURED (exit 4)", BAD
    if summary.exit_code != 0:
        return "FAIL", BAD
    return passing_word(report.findings, report.fail_on, empty=not summary.layers)


def _before_it_stopped(summary: Summary) -> str:
    if summary.measured == 0:
        return "nothing was measured"
    return f"{plural(summary.measured, 'layer')} measured before it stopped"


def _layers(summary: Summary) -> str:
    if summary.measured == summary.layers:
        return f"{plural(summary.layers, 'layer')} measured"
    return f"{summary.measured} of {plural(summary.layers, 'layer')} measured"


def _agreement(summary: Summary) -> str:
    worst = summary.worst
    if worst is None or not summary.measured + summary.integrity_failed:
        return ""
    numbers = f"residual {error_size(worst.value)}, tolerance {error_size(worst.tolerance)}"
    if summary.integrity_failed:
        return f"theory and autograd disagree in {summary.integrity_failed} (worst {numbers})"
    return f"theory and autograd agree ({numbers})"


def _differences(summary: Summary) -> str:
    worst = summary.worst_difference
    if worst is None:
        return ""
    return f"finite differences off by at most {error_size(worst.relative_error)}"


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


def _known(report: Report) -> str:
    if report.baseline is None or not report.findings:
        return ""
    baseline = report.baseline
    return f"{baseline.new} new, {baseline.worse} worse, {baseline.known} known"
