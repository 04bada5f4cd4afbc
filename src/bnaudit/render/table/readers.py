"""What a cell of the layer table says of a layer, or why it says nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnaudit.records.values import NOT_REQUESTED, Skipped
from bnaudit.render.table.numbers import error_size, percent, significant, whole_percent
from bnaudit.summary.audit import gain_of
from bnaudit.summary.residuals import bound_holds, second_order_residual

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnaudit.records.curvature import SecondOrder
    from bnaudit.records.drift import Channels, Drift
    from bnaudit.records.layer import FirstOrder, Gain, LayerReport
    from bnaudit.records.values import Metric
    from bnaudit.summary.audit import Statistics
    from bnaudit.summary.residuals import Residual


@dataclass(frozen=True, slots=True)
class Withheld(Skipped):
    """A number that was computed and is not trusted."""


Cell = str | Skipped


def integrity_reason(residual: Residual) -> str:
    """The two numbers whose comparison failed."""
    value, tolerance = error_size(residual.value), error_size(residual.tolerance)
    return f"integrity: residual {value}, tolerance {tolerance}"


def show(metric: Metric, write: Callable[[float], str]) -> Cell:
    """The median over the batches."""
    return metric if isinstance(metric, Skipped) else write(metric.median)


def from_gain(
    pick: Callable[[Gain], Metric], write: Callable[[float], str]
) -> Callable[[LayerReport, Statistics], Cell]:
    """Reads |gamma|/sigma by the audited statistics."""

    def read(layer: LayerReport, statistics: Statistics) -> Cell:
        gain = gain_of(layer, statistics)
        return gain if isinstance(gain, Skipped) else show(pick(gain), write)

    return read


def from_order(
    pick: Callable[[FirstOrder], Metric], write: Callable[[float], str]
) -> Callable[[LayerReport, Statistics], Cell]:
    """Reads the first-order group."""

    def read(layer: LayerReport, _: Statistics) -> Cell:
        order = layer.first_order
        return order if isinstance(order, Skipped) else show(pick(order), write)

    return read


def from_curvature(
    read_order: Callable[[SecondOrder], Cell],
) -> Callable[[LayerReport, Statistics], Cell]:
    """Reads the second-order group, of which an integrity failure leaves nothing."""

    def read(layer: LayerReport, _: Statistics) -> Cell:
        order = layer.second_order
        if isinstance(order, Skipped):
            # The reason why there is no first order stands in the same line.
            return NOT_REQUESTED if isinstance(layer.first_order, Skipped) else order
        residual = second_order_residual(layer)
        if residual is not None and residual.failed:
            return Withheld(integrity_reason(residual))
        return read_order(order)

    return read


def from_drift(
    pick: Callable[[Channels], Drift | Skipped],
) -> Callable[[LayerReport, Statistics], Cell]:
    """Reads the channel with the largest drift."""

    def read(layer: LayerReport, _: Statistics) -> Cell:
        channels = layer.statistics
        if isinstance(channels, Skipped):
            return channels
        drift = pick(channels)
        return drift if isinstance(drift, Skipped) else significant(drift.maximum)

    return read


def bound_mark(order: SecondOrder) -> Cell:
    """Yes or no, in words: the bound is a fact to know, not a test that a layer fails."""
    holds = bound_holds(order)
    if holds is None:
        slack = order.bound_slack
        return slack if isinstance(slack, Skipped) else significant(slack.median)
    return "yes" if holds else "no"


def bound_channels(order: SecondOrder) -> Cell:
    """Share of the channels in which the bound holds."""
    return show(order.bound_holds, whole_percent)


def leak(layer: LayerReport, _: Statistics) -> Cell:
    """The median channel's."""
    return layer.leak if isinstance(layer.leak, Skipped) else significant(layer.leak.median.median)


def removed(layer: LayerReport, _: Statistics) -> Cell:
    """By both terms together: 1 - Pi."""
    order = layer.first_order
    if isinstance(order, Skipped):
        return order
    mean, xhat = order.removed_mean, order.removed_xhat
    if isinstance(mean, Skipped):
        return mean
    return xhat if isinstance(xhat, Skipped) else percent(mean.median + xhat.median)


def measured_iqr(layer: LayerReport, _: Statistics) -> Cell:
    """Half the interquartile range over the batches, relative to the median."""
    order = layer.first_order
    if isinstance(order, Skipped):
        return order
    metric = order.measured
    if isinstance(metric, Skipped):
        return metric
    if metric.n < 2:
        return Skipped("one batch has no spread")
    if metric.median == 0:
        return Skipped("relative to a median of 0")
    return percent((metric.q75 - metric.q25) / 2 / abs(metric.median))


def residual_cell(layer: LayerReport, _: Statistics) -> Cell:
    """The first-order integrity residual."""
    order = layer.first_order
    if isinstance(order, Skipped):
        return order
    return order.residual if isinstance(order.residual, Skipped) else error_size(order.residual)


# Not the quotient itself: it belongs to one batch, and beside a median over batches the difference
# between batches would look like a disagreement with theory.
def difference_error(layer: LayerReport, _: Statistics) -> Cell:
    """The error of the closed form against finite differences."""
    order = layer.first_order
    if isinstance(order, Skipped):
        return order
    quotient = order.finite_difference
    return quotient if isinstance(quotient, Skipped) else error_size(quotient.relative_error)
