"""What an inspection amounts to: |gamma|/sigma of each layer, and the counts that renderers show alike."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite, nan, sqrt
from statistics import median
from typing import TYPE_CHECKING, Literal

from bnaudit.records.finding import Severity
from bnaudit.records.values import Skipped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnaudit.records.inspection import BatchNormStatics, InspectionReport

Verdict = Literal["clean", "findings", "nothing-to-audit"]

ASSUMED_EPS = 1e-5
"""PyTorch's default, for the layers of a file that stores no eps (a state_dict)."""


@dataclass(frozen=True, slots=True)
class StoredGain:
    """|gamma|/sigma_running over the channels of a layer, as the file stores them.

    Attributes:
        minimum, median, maximum: over the finite channels.
        fraction_le_1: share of the finite channels at or below 1.
        not_finite: channels that have none: a variance that is NaN, infinite, or -eps and below.
    """

    minimum: float
    median: float
    maximum: float
    fraction_le_1: float
    not_finite: int


def eps_of(layer: BatchNormStatics) -> float:
    """The layer's eps, or `ASSUMED_EPS` where the file stores none."""
    return ASSUMED_EPS if layer.eps is None else layer.eps


def eps_notes(layers: Sequence[BatchNormStatics]) -> tuple[str, ...]:
    """The sentence of a report whose numbers rest on `ASSUMED_EPS`, if any does."""
    without = sum(layer.eps is None for layer in layers)
    if not without:
        return ()
    whose = "no eps" if without == len(layers) else f"no eps of {without} of {len(layers)} layers"
    return (f"the file stores {whose}: {ASSUMED_EPS:g}, PyTorch's default, is assumed",)


def gain_channels(layer: BatchNormStatics) -> tuple[float, ...] | Skipped:
    """|gamma|/sqrt(running_var + eps) of each channel; |gamma| is 1 where the layer has none.

    Infinite where the root is 0 and gamma is not; NaN where both are, or the root is none.
    """
    if layer.running_var is None:
        return Skipped("no running variance is stored")
    gamma = layer.gamma or (1.0,) * len(layer.running_var)
    if len(gamma) != len(layer.running_var):
        return Skipped(f"{len(gamma)} gamma for {len(layer.running_var)} variances")
    eps = eps_of(layer)

    def ratio(gamma: float, variance: float) -> float:
        if variance == 0:
            return inf if gamma else nan
        return abs(gamma) / sqrt(variance) if variance > 0 else nan

    return tuple(ratio(g, v + eps) for g, v in zip(gamma, layer.running_var, strict=True))


def gain_of(layer: BatchNormStatics) -> StoredGain | Skipped:
    """The spread of that over the channels."""
    values = gain_channels(layer)
    if isinstance(values, Skipped):
        return values
    finite = [value for value in values if isfinite(value)]
    if not finite:
        return Skipped("no channel has a finite |gamma|/sigma")
    return StoredGain(
        min(finite),
        median(finite),
        max(finite),
        sum(value <= 1 for value in finite) / len(finite),
        len(values) - len(finite),
    )


def is_foldable(layer: BatchNormStatics) -> bool | None:
    """Whether an exporter could fold the layer: it alone reads a layer with weights, right in front.

    One without statistics of its own stays. None where the file has no graph.
    """
    if layer.preceded_by is None:
        return None
    feeder = layer.feeder
    if feeder is None or layer.training or layer.of_weights or layer.running_var is None:
        return False
    return feeder.sole_reader and layer.preceded_by in {feeder.operator, "Add"}


@dataclass(frozen=True, slots=True)
class InspectSummary:
    """The inspection in a few numbers.

    Attributes:
        layers: BatchNorm layers that the file stores.
        channels: of all of them together, as far as they are known.
        training: layers whose training flag is set.
        scale_absorbed: layers that include a Scale layer.
        fold_candidates: layers that an exporter could fold, None where the file has no graph.
        decomposed: what is left of decomposed BatchNorms.
        gain: median over the layers of the layer's median |gamma|/sigma, None without any.
        errors, warnings, infos: findings by severity.
        verdict: "clean" means nothing above severity info, whatever the command was told to fail on.
        exit_code: what the command line exits with.
    """

    layers: int
    channels: int
    training: int
    scale_absorbed: int
    fold_candidates: int | None
    decomposed: int
    gain: float | None
    errors: int
    warnings: int
    infos: int
    verdict: Verdict
    exit_code: int


def summarize_inspection(report: InspectionReport) -> InspectSummary:
    """Counts the layers and findings."""
    layers = report.inspection.batchnorms
    severities = [finding.severity for finding in report.findings]
    gains = [gain.median for layer in layers if isinstance(gain := gain_of(layer), StoredGain)]
    foldable = [is_foldable(layer) for layer in layers]
    known = any(value is not None for value in foldable)
    verdict: Verdict = "findings" if any(s > Severity.INFO for s in severities) else "clean"
    if not layers:
        verdict = "nothing-to-audit"
    return InspectSummary(
        layers=len(layers),
        channels=sum(layer.channels or 0 for layer in layers),
        training=sum(layer.training is True for layer in layers),
        scale_absorbed=sum(layer.scale_absorbed for layer in layers),
        fold_candidates=sum(value is True for value in foldable) if known else None,
        decomposed=len(report.inspection.decomposed),
        gain=median(gains) if gains else None,
        errors=severities.count(Severity.ERROR),
        warnings=severities.count(Severity.WARNING),
        infos=severities.count(Severity.INFO),
        verdict=verdict,
        exit_code=report.exit_code,
    )
