"""What a report amounts to: the counts, medians and verdict that every renderer shows alike."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite
from statistics import median
from typing import TYPE_CHECKING, Literal

from bnaudit.records.finding import Severity
from bnaudit.records.values import Skipped

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bnaudit.records.layer import FirstOrder, Gain, LayerReport
    from bnaudit.records.report import Report

Verdict = Literal["clean", "findings", "nothing-to-audit", "failed"]
Statistics = Literal["batch", "running"]


@dataclass(frozen=True, slots=True)
class Residual:
    """The integrity residual of one layer beside what it must stay below.

    Attributes:
        layer: the layer's label.
        value: the largest over channels and batches.
        tolerance: given by the precision of the run.
    """

    layer: str
    value: float
    tolerance: float

    @property
    def fraction(self) -> float:
        """Of the tolerance; infinite where not a number, so that such a layer ranks as worst."""
        if not isfinite(self.value):
            return inf
        if self.tolerance > 0:
            return self.value / self.tolerance
        return inf if self.value > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Difference:
    """How far the closed form is from finite differences at one layer, relative to itself."""

    layer: str
    relative_error: float


@dataclass(frozen=True, slots=True)
class Summary:
    """The report in a few numbers.

    Attributes:
        layers: BatchNorm calls in the report.
        measured: those with a gradient-norm reduction that passed the integrity check.
        integrity_failed: those whose autograd gradient disagrees with the closed form.
        defined, not_executed: BatchNorm layers of the model, and those no batch went through.
        errors, warnings, infos: findings by severity.
        statistics: which sigma `gain` uses.
        gain: median over layers of the layer's median |gamma|/sigma.
        reduction: median over measured layers of measured |g|/|G|.
        worst: the residual that is largest relative to its tolerance.
        worst_difference: the largest error against finite differences, where any were taken.
        verdict: "clean" means nothing above severity info, whatever the run was told to fail on.
        exit_code: what the command line exits with.
    """

    layers: int
    measured: int
    integrity_failed: int
    defined: int
    not_executed: int
    errors: int
    warnings: int
    infos: int
    statistics: Statistics
    gain: float | None
    reduction: float | None
    worst: Residual | None
    worst_difference: Difference | None
    verdict: Verdict
    exit_code: int


def summarize(report: Report) -> Summary:
    """Count the layers and findings of a report and judge it as a whole."""
    statistics = gain_statistics(report)
    trusted = [
        order for layer in report.layers if (order := trusted_first_order(layer)) is not None
    ]
    gains = [gain_of(layer, statistics) for layer in report.layers]
    severities = [finding.severity for finding in report.findings]
    return Summary(
        layers=len(report.layers),
        measured=sum(layer.measured for layer in report.layers),
        integrity_failed=sum(layer.integrity_failed for layer in report.layers),
        defined=len(report.model.defined),
        not_executed=len(report.model.not_executed),
        errors=severities.count(Severity.ERROR),
        warnings=severities.count(Severity.WARNING),
        infos=severities.count(Severity.INFO),
        statistics=statistics,
        gain=_median(gain.median.median for gain in gains if not isinstance(gain, Skipped)),
        reduction=_median(
            order.measured.median for order in trusted if not isinstance(order.measured, Skipped)
        ),
        worst=worst_residual(report),
        worst_difference=worst_difference(report),
        verdict=_verdict(report),
        exit_code=report.exit_code,
    )


def gain_statistics(report: Report) -> Statistics:
    """Which sigma to show |gamma|/sigma for: the audited one, if any layer has it."""
    if report.run is not None and report.run.mode == "running":
        return "running"
    measured = any(not isinstance(layer.gain_batch, Skipped) for layer in report.layers)
    return "batch" if measured or not report.layers else "running"


def gain_of(layer: LayerReport, statistics: Statistics) -> Gain | Skipped:
    """|gamma|/sigma of a layer by the statistics that `gain_statistics` chose."""
    return layer.gain_batch if statistics == "batch" else layer.gain_running


def residual_of(layer: LayerReport) -> Residual | None:
    """The layer's integrity residual, or None where none was computed."""
    order = layer.first_order
    if isinstance(order, Skipped) or isinstance(order.residual, Skipped):
        return None
    return Residual(layer.label, order.residual, order.tolerance)


def trusted_first_order(layer: LayerReport) -> FirstOrder | None:
    """The first-order numbers where they were measured and passed the integrity check."""
    if isinstance(layer.first_order, Skipped) or layer.integrity_failed:
        return None
    return layer.first_order


def worst_residual(report: Report) -> Residual | None:
    """The residual that comes nearest to its tolerance or exceeds it most."""
    residuals = [found for layer in report.layers if (found := residual_of(layer)) is not None]
    return max(residuals, key=lambda residual: residual.fraction, default=None)


def worst_difference(report: Report) -> Difference | None:
    """The largest error against finite differences; one that is not a number ranks as worst."""
    found = [
        Difference(layer.label, order.finite_difference.relative_error)
        for layer in report.layers
        if (order := trusted_first_order(layer)) is not None
        and not isinstance(order.finite_difference, Skipped)
    ]
    return max(
        found,
        key=lambda difference: (
            difference.relative_error if isfinite(difference.relative_error) else inf
        ),
        default=None,
    )


def _verdict(report: Report) -> Verdict:
    if report.failure is not None:
        return "failed"
    if not report.layers:
        return "nothing-to-audit"
    if any(finding.severity > Severity.INFO for finding in report.findings):
        return "findings"
    return "clean"


def _median(values: Iterable[float]) -> float | None:
    finite = [value for value in values if isfinite(value)]
    return median(finite) if finite else None
