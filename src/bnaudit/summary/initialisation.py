"""What a comparison says in one line: the numbers that the table's verdict and the JSON share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnaudit.records.initialisation import Alignment, ScaleTest
from bnaudit.records.values import Count, Skipped
from bnaudit.summary.gain import median_of

if TYPE_CHECKING:
    from bnaudit.records.initialisation import InitReport, Value


@dataclass(frozen=True, slots=True)
class InitSummary:
    """Over the weights of a report.

    Attributes:
        weights: compared.
        before: those that feed a BatchNorm; medians and counts below are over these.
        unknown: those of which it is not known.
        with_k: those before a BatchNorm that have a k.
        positive: those before a BatchNorm with k > 0.
        median_k: over those before a BatchNorm that have one.
        median_cosine: over those before a BatchNorm that have one.
        median_gain_share: median share of |W0 - W|^2 gained, over those with k > 0.
        tested: weights with a scale test.
        largest_change: the largest |dL|/|L| under W -> kW.
        largest_residual: largest residual of the identity.
        tolerance: what it has to stay below, None without a test.
        broken: weights whose residual is above it.
    """

    weights: Count
    before: Count
    unknown: Count
    with_k: int
    positive: Count
    median_k: float | None
    median_cosine: float | None
    median_gain_share: float | None
    tested: Count
    largest_change: float | None
    largest_residual: float | None
    tolerance: float | None
    broken: Count


def summarize(report: InitReport) -> InitSummary:
    """The summary of a report."""
    before = [w for w in report.weights if w.followed == "yes"]
    aligned = [w.alignment for w in before if isinstance(w.alignment, Alignment)]
    ks = _numbers([a.k for a in aligned])
    tests = [w.scale for w in report.weights if isinstance(w.scale, ScaleTest)]
    return InitSummary(
        weights=len(report.weights),
        before=len(before),
        unknown=sum(w.followed == "unknown" for w in report.weights),
        with_k=len(ks),
        positive=sum(k > 0 for k in ks),
        median_k=median_of(ks),
        median_cosine=median_of(_numbers([a.cosine for a in aligned])),
        median_gain_share=median_of(_numbers([a.gain_share for a in aligned])),
        tested=len(tests),
        largest_change=max(_numbers([t.largest_change for t in tests]), default=None),
        largest_residual=max(_numbers([t.residual for t in tests]), default=None),
        tolerance=tests[0].tolerance if tests else None,
        broken=sum(t.broken for t in tests),
    )


def _numbers(values: list[Value]) -> list[float]:
    return [value for value in values if not isinstance(value, Skipped)]
