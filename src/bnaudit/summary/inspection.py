"""What an inspection amounts to: the counts that renderers show alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from bnaudit.records.finding import Severity
from bnaudit.records.inspection import InspectionReport
from bnaudit.records.values import Count, Limits
from bnaudit.summary.gain import StoredGain, gain_of, is_foldable, median_of
from bnaudit.summary.outcome import Verdict, count, verdict_of


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
    verdict: Annotated[Verdict, Limits(among=("clean", "findings", "nothing-to-audit"))]
    exit_code: Annotated[int, Limits(among=(0, 1, 3))]


def summarize_inspection(report: InspectionReport) -> InspectSummary:
    """Counts the layers and findings."""
    layers = report.inspection.batchnorms
    counts = count(report.findings)
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
        gain=median_of(gains),
        errors=counts.errors,
        warnings=counts.warnings,
        infos=counts.infos,
        fail_on=report.fail_on,
        allow_no_bn=report.allow_no_bn,
        verdict=verdict_of(report),
        exit_code=report.exit_code,
    )
