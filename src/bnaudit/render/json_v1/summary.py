"""`summary`: the report in a few numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.render.json_v1.values import Json, Skips, finite, metric
from bnaudit.summary.audit import summarize

if TYPE_CHECKING:
    from bnaudit.records.report import Report
    from bnaudit.summary.audit import (
        Difference,
        SecondOrderSummary,
        Summary,
        WeightSpaceSummary,
    )
    from bnaudit.summary.residuals import Residual


def summary_entry(report: Report) -> Json:
    """Counts, medians, worst residuals and the verdict."""
    summary = summarize(report)
    skips = Skips()
    return {
        "layers": summary.layers,
        "measured": summary.measured,
        "integrity_failed": summary.integrity_failed,
        "defined": summary.defined,
        "not_executed": summary.not_executed,
        "findings": {
            "error": summary.errors,
            "warning": summary.warnings,
            "info": summary.infos,
        },
        "median": _median(summary),
        "gradient_scale": metric(report.gradient_scale, "gradient_scale", skips),
        "worst_residual": _worst(summary.worst),
        "worst_finite_difference": _worst_difference(summary.worst_difference),
        "second_order": _second_order(summary.second_order),
        "weight_space": _weight_space(summary.weight_space),
        "fail_on": None if report.fail_on is None else report.fail_on.label,
        "allow_no_bn": report.allow_no_bn,
        "verdict": summary.verdict,
        "exit_code": summary.exit_code,
        "skipped": skips.entries,
    }


def _median(summary: Summary) -> Json:
    return {
        "statistics": summary.statistics,
        "gain": summary.gain,
        "reduction": summary.reduction,
    }


def _second_order(summary: SecondOrderSummary) -> Json:
    share = summary.bound_holding / summary.bound_layers if summary.bound_layers else None
    return {
        "measured": summary.measured,
        "integrity_failed": summary.integrity_failed,
        "worst_residual": _worst(summary.worst),
        "bound_layers": summary.bound_layers,
        "bound_holds": share,
    }


def _weight_space(summary: WeightSpaceSummary) -> Json:
    return {
        "measured": summary.measured,
        "integrity_failed": summary.integrity_failed,
        "worst_residual": _worst(summary.worst),
        "violations": summary.violations,
        "weight_ratio": summary.weight_ratio,
    }


def _worst(worst: Residual | None) -> Json:
    if worst is None:
        return dict.fromkeys(("layer", "residual", "tolerance", "fraction"))
    return {
        "layer": worst.layer,
        "residual": finite(worst.value),
        "tolerance": finite(worst.tolerance),
        "fraction": finite(worst.fraction),
    }


def _worst_difference(worst: Difference | None) -> Json:
    if worst is None:
        return dict.fromkeys(("layer", "relative_error"))
    return {"layer": worst.layer, "relative_error": finite(worst.relative_error)}
