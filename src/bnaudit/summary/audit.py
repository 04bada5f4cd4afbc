"""What a report amounts to: the counts, medians and verdict that every renderer shows alike."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite
from typing import TYPE_CHECKING, Literal

from bnaudit.records.curvature import SWEEP
from bnaudit.records.finding import Severity
from bnaudit.records.values import Count, Metric, Skipped
from bnaudit.summary.deployment import Conclusion, conclusion
from bnaudit.summary.gain import median_of
from bnaudit.summary.normal import Outside, outside
from bnaudit.summary.outcome import Verdict, count, verdict_of
from bnaudit.summary.residuals import (
    Residual,
    bound_holds,
    first_order_residual,
    second_order_residual,
    trusted_first_order,
    trusted_second_order,
    trusted_weight_space,
    weight_residual,
    worst,
)
from bnaudit.summary.twins import upstream_factor

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bnaudit.records.layer import Gain, LayerReport
    from bnaudit.records.report import Report

Statistics = Literal["batch", "running"]


@dataclass(frozen=True, slots=True)
class Difference:
    """How far the closed form is from finite differences at one layer.

    Attributes:
        layer: the layer's label.
        relative_error: of the closed form; None where it is not finite.
    """

    layer: str
    relative_error: float


@dataclass(frozen=True, slots=True)
class SecondOrderSummary:
    """What the second-order theorem amounts to over the layers.

    Attributes:
        measured: layers with second-order numbers that passed the integrity check.
        integrity_failed: those whose double backward disagrees with the closed form.
        worst: the residual that is largest relative to its tolerance.
        bound_layers: layers where the theorem's right side, as usually stated, was compared.
        bound_holding: those where it holds.
        swept: of the measured ones, those by the sweep alone: its residual is that of the loss's
            slope, and no second opinion on the curvature.
        verified: layers at which it was compared with double backward.
        worst_verification: the largest relative difference there, None without.
    """

    measured: Count
    integrity_failed: Count
    worst: Residual | None
    bound_layers: Count
    bound_holding: int
    swept: int = 0
    verified: int = 0
    worst_verification: float | None = None

    @property
    def bound_holds(self) -> float | None:
        """Share of the layers in which the bound holds, None where it was not compared."""
        return self.bound_holding / self.bound_layers if self.bound_layers else None


@dataclass(frozen=True, slots=True)
class WeightSpaceSummary:
    """What the minimax bound amounts to over the layers.

    Attributes:
        measured: layers whose feeding weights were measured and passed the integrity check.
        integrity_failed: those whose residual exceeds its tolerance: their numbers are withheld.
        worst: the residual that is largest relative to its tolerance.
        violations: output channels and batches beyond the bound, over the measured layers; the
            theorem says 0.
        weight_ratio: median over the measured layers of |U'g| / |U'G|.
    """

    measured: Count
    integrity_failed: Count
    worst: Residual | None
    violations: Count
    weight_ratio: float | None


@dataclass(frozen=True, slots=True)
class Summary:
    """The report in a few numbers.

    Attributes:
        layers: BatchNorm calls in the report.
        measured: those with a gradient-norm reduction that passed the integrity check.
        integrity_failed: those whose residual exceeds its tolerance: autograd and the closed form
            disagree, and their numbers are withheld.
        defined, not_executed: BatchNorm layers of the model, and those no batch went through.
        errors: findings of severity error.
        warnings: findings of severity warning.
        infos: findings of severity info.
        statistics: which sigma `gain` uses.
        gain: median over layers of the layer's median |gamma|/sigma.
        reduction: median over measured layers of measured |g|/|G|.
        gradient_scale: |dL/dz| at the first measured layer over that at the last; rescaling weights
            in front of a BatchNorm does not change it.
        worst: the first-order integrity residual that is largest relative to its tolerance.
        worst_difference: the largest relative error of the closed form against finite differences
            of the loss, where any were taken.
        second_order: the same counts for the curvature.
        weight_space: the same counts for the weights that feed the layers.
        deployed: whether the network as deployed does what it was trained to do, by the rules BN209 and
            BN208. as-trained: it does. worse: its running statistics make it worse. guessing: with
            either statistics it is no better on these labels than one constant answer. Without
            labels, unmoved or moved: whether running statistics give other outputs than the batch's.
            None where it was not compared or not judged.
        upstream: how many times as large BatchNorm makes the gradients of the weights in front of it, end
            to end; rescaling those weights changes it.
        outside: layers outside what healthy networks show, the furthest first. Information, and no
            finding.
        fail_on: severity at which findings make `exit_code` 1, None for never.
        allow_no_bn: whether a model without BatchNorm passes.
        verdict: clean: nothing above severity info. findings: at least one warning or error,
            whether or not it fails the run. nothing-to-audit: no BatchNorm was executed. failed:
            the audit stopped.
        exit_code: what the command line exits with: 0 pass, 1 findings at or above `fail_on`, 2
            usage or unreadable input, 3 nothing to audit, 4 cannot be run or measured, 70 a bug in
            bnaudit.
    """

    layers: Count
    measured: Count
    integrity_failed: Count
    defined: Count
    not_executed: Count
    errors: Count
    warnings: Count
    infos: Count
    statistics: Statistics
    gain: float | None
    reduction: float | None
    gradient_scale: Metric
    worst: Residual | None
    worst_difference: Difference | None
    second_order: SecondOrderSummary
    weight_space: WeightSpaceSummary
    deployed: Conclusion | None
    upstream: float | Skipped
    outside: tuple[Outside, ...]
    fail_on: Severity | None
    allow_no_bn: bool
    verdict: Verdict
    exit_code: int


def summarize(report: Report) -> Summary:
    """Count the layers and findings of a report and judge it as a whole."""
    statistics = gain_statistics(report)
    trusted = [
        order for layer in report.layers if (order := trusted_first_order(layer)) is not None
    ]
    gains = [gain_of(layer, statistics) for layer in report.layers]
    counts = count(report.findings)
    return Summary(
        layers=len(report.layers),
        measured=sum(layer.measured for layer in report.layers),
        integrity_failed=sum(layer.integrity_failed for layer in report.layers),
        defined=len(report.model.defined),
        not_executed=len(report.model.not_executed),
        errors=counts.errors,
        warnings=counts.warnings,
        infos=counts.infos,
        statistics=statistics,
        gain=median_of(gain.median.median for gain in gains if not isinstance(gain, Skipped)),
        reduction=median_of(
            order.measured.median for order in trusted if not isinstance(order.measured, Skipped)
        ),
        gradient_scale=report.gradient_scale,
        worst=worst(first_order_residual(layer) for layer in report.layers),
        worst_difference=worst_difference(report),
        second_order=_second_order(report.layers),
        weight_space=_weight_space(report.layers),
        deployed=conclusion(report),
        upstream=upstream_factor(report.upstream),
        outside=outside(report),
        fail_on=report.fail_on,
        allow_no_bn=report.allow_no_bn,
        verdict=verdict_of(report),
        exit_code=report.exit_code,
    )


def is_synthetic(report: Report) -> bool:
    """Whether the batches were made up, so that nothing follows about data the model has seen."""
    return report.run is not None and report.run.data.made_up


def gain_statistics(report: Report) -> Statistics:
    """Which sigma to show |gamma|/sigma for: the audited one, if any layer has it."""
    if report.run is not None and report.run.mode == "running":
        return "running"
    measured = any(not isinstance(layer.gain_batch, Skipped) for layer in report.layers)
    return "batch" if measured or not report.layers else "running"


def gain_of(layer: LayerReport, statistics: Statistics) -> Gain | Skipped:
    """|gamma|/sigma of a layer by the statistics that `gain_statistics` chose."""
    return layer.gain_batch if statistics == "batch" else layer.gain_running


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


def _second_order(layers: Sequence[LayerReport]) -> SecondOrderSummary:
    residuals = [second_order_residual(layer) for layer in layers]
    trusted = [order for layer in layers if (order := trusted_second_order(layer)) is not None]
    slacks = [o.bound_slack.median for o in trusted if not isinstance(o.bound_slack, Skipped)]
    holds = [held for slack in slacks if (held := bound_holds(slack)) is not None]
    verified = [
        order.verification.relative_difference
        for order in trusted
        if not isinstance(order.verification, Skipped)
    ]
    return SecondOrderSummary(
        measured=sum(not isinstance(order.measured, Skipped) for order in trusted),
        integrity_failed=_count_failed(residuals),
        worst=worst(residuals),
        bound_layers=len(holds),
        bound_holding=sum(holds),
        swept=sum(order.method == SWEEP for order in trusted),
        verified=len(verified),
        worst_verification=max(verified, default=None),
    )


def _weight_space(layers: Sequence[LayerReport]) -> WeightSpaceSummary:
    residuals = [weight_residual(layer) for layer in layers]
    trusted = [space for layer in layers if (space := trusted_weight_space(layer)) is not None]
    ratios = [space.weight_ratio for space in trusted]
    return WeightSpaceSummary(
        measured=sum(not isinstance(space.grad_norm, Skipped) for space in trusted),
        integrity_failed=_count_failed(residuals),
        worst=worst(residuals),
        violations=sum(n for s in trusted if not isinstance(n := s.violations, Skipped)),
        weight_ratio=median_of(ratio.median for ratio in ratios if not isinstance(ratio, Skipped)),
    )


def _count_failed(residuals: Iterable[Residual | None]) -> int:
    return sum(residual is not None and residual.failed for residual in residuals)
