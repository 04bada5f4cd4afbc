"""What an inspection amounts to: |gamma|/sigma of each layer, and the counts that renderers show alike."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite, nan, sqrt
from statistics import median
from typing import TYPE_CHECKING, Annotated, Literal

from bnaudit.records.finding import Severity
from bnaudit.records.values import Count, Limits, Skipped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnaudit.records.inspection import BatchNormStatics, InspectionReport

Verdict = Literal["clean", "findings", "nothing-to-audit"]


@dataclass(frozen=True, slots=True)
class StoredExtent:
    """A stored vector over its finite entries.

    Attributes:
        minimum: smallest finite one.
        maximum: largest finite one.
    """

    minimum: float
    maximum: float


def extent_of(values: Sequence[float] | None) -> StoredExtent | Skipped:
    """Smallest and largest finite value of a stored vector."""
    found = [value for value in values or () if isfinite(value)]
    if not found:
        return Skipped("no value is finite" if values else "none is stored")
    return StoredExtent(min(found), max(found))


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
    not_finite: Count


def gain_channels(layer: BatchNormStatics) -> tuple[float, ...] | Skipped:
    """|gamma|/sqrt(running_var + eps) of each channel; |gamma| is 1 where the layer has none.

    Where the file does not store eps (a state_dict) it counts as 0, which makes sigma a little smaller.
    """
    if layer.running_var is None:
        return Skipped("no running variance is stored")
    gamma = layer.gamma or (1.0,) * len(layer.running_var)
    if len(gamma) != len(layer.running_var):
        return Skipped(f"{len(gamma)} gamma for {len(layer.running_var)} variances")
    eps = layer.eps or 0.0
    return tuple(_ratio(g, v + eps) for g, v in zip(gamma, layer.running_var, strict=True))


def _ratio(gamma: float, variance: float) -> float:
    if variance == 0:
        return inf if gamma else nan
    return abs(gamma) / sqrt(variance) if variance > 0 else nan


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


@dataclass(frozen=True, slots=True)
class StoredChannels:
    """What a layer stores by channel.

    Attributes:
        gain: |gamma|/sqrt(running_var + eps).
        gamma: as stored, a Scale layer included.
        beta: as stored, a Scale layer included.
        running_mean: as stored.
        running_var: as stored.
    """

    gain: tuple[float, ...] | Skipped
    gamma: tuple[float, ...] | Skipped
    beta: tuple[float, ...] | Skipped
    running_mean: tuple[float, ...] | Skipped
    running_var: tuple[float, ...] | Skipped


def stored_channels(layer: BatchNormStatics) -> StoredChannels:
    """The layer's vectors, as far as there are any."""
    gain, missing = gain_channels(layer), Skipped("none is stored")
    vectors = (layer.gamma, layer.beta, layer.running_mean, layer.running_var)
    return StoredChannels(
        missing if isinstance(gain, Skipped) else gain,
        *(missing if vector is None else vector for vector in vectors),
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
        errors: findings of severity error.
        warnings: findings of severity warning.
        infos: findings of severity info.
        fail_on: severity at which findings make `exit_code` 1, None for never.
        allow_no_bn: whether a file without BatchNorm passes.
        verdict: "clean" means nothing above severity info, whatever the command was told to fail
            on.
        exit_code: what the command line exits with.
    """

    layers: Count
    channels: Count
    training: Count
    scale_absorbed: Count
    fold_candidates: Count | None
    decomposed: Count
    gain: float | None
    errors: Count
    warnings: Count
    infos: Count
    fail_on: Severity | None
    allow_no_bn: bool
    verdict: Verdict
    exit_code: Annotated[int, Limits(among=(0, 1, 3))]


def summarize_inspection(report: InspectionReport) -> InspectSummary:
    """Counts the layers and findings."""
    layers = report.inspection.batchnorms
    severities = [finding.severity for finding in report.findings]
    gains = [gain.median for layer in layers if isinstance(gain := gain_of(layer), StoredGain)]
    foldable = [is_foldable(layer) for layer in layers]
    known = any(value is not None for value in foldable)
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
        fail_on=report.fail_on,
        allow_no_bn=report.allow_no_bn,
        verdict=_verdict(report, severities),
        exit_code=report.exit_code,
    )


def _verdict(report: InspectionReport, severities: list[Severity]) -> Verdict:
    if not report.inspection.batchnorms:
        return "nothing-to-audit"
    return "findings" if any(s > Severity.INFO for s in severities) else "clean"
