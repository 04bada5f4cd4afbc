"""What the layers of healthy networks show, and which layers of a report lie outside.

Information, and no finding: outside is not ill. Sizes of weights are a convention (docs/theory.md, "What is
not a property of the function"), and |gamma|/sigma and |g|/|G| with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite, log
from typing import TYPE_CHECKING, Annotated

from bnaudit.records.drift import Channels, Drift
from bnaudit.records.layer import Extent, FirstOrder, Gain
from bnaudit.records.values import Finite, Limits, Skipped, Spread
from bnaudit.summary.residuals import trusted_first_order

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnaudit.records.layer import LayerReport
    from bnaudit.records.report import Report

ASSUMED_EPS = 1e-5
"""Of the networks behind the ranges; leak is in proportion to eps."""

HEALTHY_LAYERS = 1026
"""Of the 216 networks behind the ranges."""


QUANTITIES = ("gain", "reduction", "removed", "leak", "mean_drift", "variance_drift")
"""Those with a range."""


@dataclass(frozen=True, slots=True)
class Normal:
    """The range of one quantity.

    Attributes:
        low: the 0.1st percentile, 0 where small values are the healthy ones.
        high: the 99.9th.
        gauge: whether it depends on how large the weights happen to be.
        labelled: whether it is about gradients of a loss of the task.
        measured: the layer's value on the scale of the range, None where there is none.
    """

    low: float
    high: float
    gauge: bool
    labelled: bool
    measured: Callable[[LayerReport], float | None]


@dataclass(frozen=True, slots=True)
class Outside:
    """A layer outside the range of one quantity.

    Attributes:
        layer: its label.
        quantity: gain: median |gamma|/sigma of the batches; reduction: measured |g|/|G|; removed: share of
            the gradient's energy, by both terms; leak: of the median channel; mean_drift and
            variance_drift: the near end (`lower`) of the largest channel.
        value: the layer's.
        low: lower end of the range, for this layer's m and eps.
        high: its upper end.
    """

    layer: str
    quantity: Annotated[str, Limits(among=QUANTITIES)]
    value: Finite
    low: Finite
    high: Finite

    @property
    def distance(self) -> float:
        """How far outside, as the logarithm of a factor."""
        if self.value > self.high:
            return log(self.value / self.high) if self.high > 0 else inf
        return log(self.low / self.value) if self.value > 0 else inf


def _gain(layer: LayerReport) -> float | None:
    return layer.gain_batch.median.median if isinstance(layer.gain_batch, Gain) else None


def _reduction(layer: LayerReport) -> float | None:
    order = trusted_first_order(layer)
    return None if order is None or isinstance(order.measured, Skipped) else order.measured.median


def _removed(layer: LayerReport) -> float | None:
    order = trusted_first_order(layer)
    if not isinstance(order, FirstOrder):
        return None
    parts = [p.median for p in (order.removed_mean, order.removed_xhat) if isinstance(p, Spread)]
    return sum(parts) if len(parts) == 2 else None


def _leak(layer: LayerReport) -> float | None:
    return layer.leak.median.median if isinstance(layer.leak, Extent) else None


def _drift(name: str) -> Callable[[LayerReport], float | None]:
    def measured(layer: LayerReport) -> float | None:
        drift = (
            getattr(layer.statistics, name, None)
            if isinstance(layer.statistics, Channels)
            else None
        )
        return drift.lower if isinstance(drift, Drift) and isinstance(drift.lower, float) else None

    return measured


NORMAL: dict[str, Normal] = {
    "gain": Normal(0.132, 7.25, gauge=True, labelled=False, measured=_gain),
    "reduction": Normal(0.58, 7.37, gauge=True, labelled=True, measured=_reduction),
    "removed": Normal(0, 0.414, gauge=False, labelled=True, measured=_removed),
    "leak": Normal(0, 0.00118, gauge=False, labelled=False, measured=_leak),
    "mean_drift": Normal(0, 0.108, gauge=False, labelled=False, measured=_drift("mean_drift")),
    "variance_drift": Normal(
        0, 0.524, gauge=False, labelled=False, measured=_drift("variance_drift")
    ),
}
"""By quantity. Written down from `python -m bench.defects.normal FOLDER`: 216 trained networks (8
architectures, 9 regimes, 3 seeds), held-back rows in batches of 8, 32 and 64; docs/defects.md has the table.

removed is what goes beyond 2/m, as a share of what could: a random gradient loses 2/m by itself. Of drift the
near end of the interval, so that few rows are no drift. leak is that of eps = 1e-5.
"""


def limits(quantity: str, m: int, eps: float) -> tuple[float, float]:
    """Both ends of a range for a layer with m values per channel and this eps."""
    normal = NORMAL[quantity]
    if quantity == "removed":
        chance = min(2 / max(m, 1), 1.0)
        return 0.0, chance + (1 - chance) * normal.high
    if quantity == "leak":
        return 0.0, min(normal.high * eps / ASSUMED_EPS, 1.0)
    return normal.low, normal.high


def comparable(report: Report) -> bool:
    """Whether the ranges apply: batch statistics of given data, and layers that were measured."""
    run = report.run
    if run is None or run.mode != "batch" or run.data.made_up:
        return False
    return any(layer.measured for layer in report.layers)


def outside(report: Report) -> tuple[Outside, ...]:
    """Layers outside the ranges, the furthest first; a value that is not a number is another matter."""
    if report.run is None or not comparable(report):
        return ()
    labelled = not report.run.loss.label_free
    found = []
    for layer in report.layers:
        for quantity, normal in NORMAL.items():
            value = normal.measured(layer) if labelled or not normal.labelled else None
            low, high = limits(quantity, layer.m, layer.eps)
            if value is not None and (value < low or value > high) and isfinite(value):
                found.append(Outside(layer.label, quantity, value, low, high))
    return tuple(sorted(found, key=lambda entry: -entry.distance))
