"""What an inspection amounts to: the counts that renderers show alike."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from bnaudit.summary.gain import StoredGain, gain_of, is_foldable
from bnaudit.summary.outcome import count, verdict_of

if TYPE_CHECKING:
    from bnaudit.records.inspection import InspectionReport
    from bnaudit.summary.outcome import Verdict


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
        gain=median(gains) if gains else None,
        errors=counts.errors,
        warnings=counts.warnings,
        infos=counts.infos,
        verdict=verdict_of(report),
        exit_code=report.exit_code,
    )
