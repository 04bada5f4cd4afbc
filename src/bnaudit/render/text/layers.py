"""The layer table of an audit: one line a layer, in execution order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from bnaudit.records.deployment import LayerGap
from bnaudit.records.layer import FirstOrder
from bnaudit.records.values import NOT_REQUESTED, Skipped
from bnaudit.render.text.cells import LogAxis, axis_for, draw
from bnaudit.render.text.table import LEFT, RIGHT, Column, Refusal, Room, Row, Table, Withheld
from bnaudit.render.text.words import error_size, percent, scientific, significant, whole_percent
from bnaudit.summary.audit import gain_of, gain_statistics, is_synthetic
from bnaudit.summary.outcome import worst_by_layer
from bnaudit.summary.residuals import (
    bound_holds,
    first_order_residual,
    second_order_residual,
    trusted_first_order,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnaudit.records.curvature import SecondOrder
    from bnaudit.records.drift import Channels
    from bnaudit.records.layer import Gain, LayerReport
    from bnaudit.records.report import Report
    from bnaudit.render.text.cells import Box, Charset
    from bnaudit.render.text.table import Cell
    from bnaudit.summary.residuals import Residual


@dataclass(frozen=True, slots=True)
class _Layer:
    """What the columns read; groups that are missing as a whole are Skipped."""

    layer: LayerReport
    gain: Gain | Skipped
    axis: LogAxis | None
    statistics: Channels | Skipped

    @property
    def first_order(self) -> FirstOrder | Skipped:
        return self.layer.first_order

    @property
    def curvature(self) -> SecondOrder | Skipped:
        residual, found = second_order_residual(self.layer), self.layer.second_order
        if residual is not None and residual.failed:
            return Withheld(integrity_reason(residual))
        # The reason why there is no first order stands in the same line.
        silent = isinstance(found, Skipped) and isinstance(self.first_order, Skipped)
        return NOT_REQUESTED if silent else found

    @property
    def box(self) -> Box | None:
        gain = self.gain
        if isinstance(gain, Skipped):
            return None
        return gain.minimum.median, gain.median.median, gain.maximum.median

    @property
    def refusal(self) -> Refusal | None:
        """Also over |gamma|/sigma where that is missing for the same reason."""
        same = self.gain == self.first_order
        roots = frozenset({"first_order", "gain"} if same else {"first_order"})
        if isinstance(self.first_order, Skipped):
            return Refusal(self.first_order.reason, failed=False, roots=roots)
        residual = first_order_residual(self.layer)
        if residual is None or not residual.failed:
            return None
        return Refusal(integrity_reason(residual), failed=True, roots=roots)


def layer_table(report: Report, charset: Charset, width: int) -> Table[_Layer]:
    """Lays the table out for `width` columns."""
    chosen, worst = gain_statistics(report), worst_by_layer(report.findings)
    unknown = Skipped("synthetic data") if is_synthetic(report) else None
    layers = [
        _Layer(layer, gain_of(layer, chosen), None, unknown or layer.statistics)
        for layer in report.layers
    ]
    axis = axis_for([layer.box for layer in layers if layer.box is not None])
    rows = [
        Row(replace(row, axis=axis), name := row.layer.label, worst.get(name), row.refusal)
        for row in layers
    ]
    table = Table(rows, _COLUMNS, charset, width)
    if not _curved(layers):
        # There are no columns whose gaps would tell.
        for layer in report.layers:
            why = layer.second_order
            if isinstance(why, Skipped) and why != NOT_REQUESTED and trusted_first_order(layer):
                table.notes.add("curvature", why.reason, layer.label)
    return table


def integrity_reason(residual: Residual) -> str:
    """The two numbers whose comparison failed."""
    value, tolerance = error_size(residual.value), error_size(residual.tolerance)
    return f"integrity: residual {value}, tolerance {tolerance}"


def _iqr(order: FirstOrder) -> Cell:
    """Half the interquartile range over the batches, relative to the median."""
    spread = order.measured
    if isinstance(spread, Skipped):
        return spread
    if spread.n < 2:
        return Skipped("one batch has no spread")
    if spread.median == 0:
        return Skipped("relative to a median of 0")
    return percent((spread.q75 - spread.q25) / 2 / abs(spread.median))


def _removed(order: FirstOrder) -> Cell:
    """By both terms together: 1 - Pi."""
    mean, xhat = order.removed_mean, order.removed_xhat
    if isinstance(mean, Skipped):
        return mean
    return xhat if isinstance(xhat, Skipped) else percent(mean.median + xhat.median)


def _holds(slack: float) -> str:
    """In words: the bound is a fact to know, not a test that a layer fails."""
    holds = bound_holds(slack)
    return significant(slack) if holds is None else "yes" if holds else "no"


def _verified(layers: Sequence[_Layer], _: int) -> bool:
    orders = [layer.first_order for layer in layers]
    return any(
        isinstance(o, FirstOrder) and not isinstance(o.finite_difference, Skipped) for o in orders
    )


def _drifts(layers: Sequence[_Layer], _: int) -> bool:
    return any(not isinstance(layer.statistics, Skipped) for layer in layers)


def _curved(layers: Sequence[_Layer], _: int = 0) -> bool:
    return any(not isinstance(layer.layer.second_order, Skipped) for layer in layers)


def _bounded(layers: Sequence[_Layer], _: int = 0) -> bool:
    orders = [layer.layer.second_order for layer in layers]
    return any(not isinstance(o, Skipped) and o.bound_slack != NOT_REQUESTED for o in orders)


def _both_terms(layers: Sequence[_Layer], width: int) -> bool:
    return width >= 120 or not _curved(layers)


GAIN = "|γ|/σ"

_Of = Callable[..., Column[_Layer]]
_gap: _Of = partial(Column, align=RIGHT, absent="", about=None)
_gain: _Of = partial(Column, group=GAIN)
_ratio: _Of = partial(Column, group="|g|/|G|")
_removed_by: _Of = partial(Column, group="removed by", align=RIGHT, when=_both_terms)
_curvature: _Of = partial(Column, group="curvature", align=RIGHT, absent="")
# Notes on drift stand under the conspicuous channels.
_drift: _Of = partial(Column, group="drift", from_width=140, when=_drifts, absent="", about=None)

# For every subject with `gain`, `box` and `axis`.
SPREAD: Column[Any] = _gain(
    "",
    "gain",
    str,
    12,
    (1, 1, ", ├●┤ min to max (log, ┊ at 1)"),
    style="cyan",
    room=Room(12, 24),
    draw=lambda row, width: draw(row.box, row.axis, width) if row.box else " " * width,
    scale=lambda row, width: row.axis.labels(width),
    when=lambda rows, _: rows[0].axis is not None,
)

_DRIFT = (5, 1, "; drift: batches against running statistics, largest channel")
_COLUMNS: tuple[Column[_Layer], ...] = (
    Column("layer", "layer.label", str, 1, align=LEFT, room=Room(20, 48)),
    Column("ch", "layer.channels", str, 14, align=RIGHT, style="dim"),
    Column("m", "layer.m", str, 13, align=RIGHT, style="dim"),
    _gain("median", "gain.median", significant, 4, (1, 0, ": median"), about="median |γ|/σ"),
    SPREAD,
    _gain(
        "≤1",
        "gain.fraction_le_1",
        whole_percent,
        7,
        (1, 2, ", share ≤1"),
        align=RIGHT,
        about="share of |γ|/σ ≤ 1",
    ),
    _gap(
        "gap",
        "layer.gap.share",
        significant,
        3,
        (
            6,
            0,
            "gap: its part of what running statistics add to the loss (no labels: to the outputs, squared)",
        ),
        when=lambda layers, _: any(isinstance(row.layer.gap, LayerGap) for row in layers),
    ),
    Column(
        "leak",
        "layer.leak.median",
        significant,
        16,
        (5, 0, "; leak: share of eps in the variance of the median channel"),
        from_width=140,
    ),
    _drift("mean", "statistics.mean_drift.maximum", significant, 18, _DRIFT),
    _drift("log2 var", "statistics.variance_drift.maximum", significant, 19, _DRIFT),
    _ratio(
        "predicted",
        "first_order.predicted",
        significant,
        3,
        (2, 1, " by theory (arXiv 1805.11604) and"),
    ),
    _ratio(
        "measured", "first_order.measured", significant, 2, (2, 2, " by autograd"), style="bold"
    ),
    # read off `measured`
    _ratio(
        "±",
        "first_order",
        _iqr,
        15,
        (2, 3, ", ± half the interquartile range"),
        align=RIGHT,
        from_width=120,
        about=None,
    ),
    # Not the quotient itself: it belongs to one batch, and beside a median over batches the difference
    # between batches would look like a disagreement with theory.
    _ratio(
        "fd error",
        "first_order.finite_difference.relative_error",
        error_size,
        5,
        (2, 4, "; fd error: theory against differences of the loss"),
        when=_verified,
        absent="",
    ),
    _ratio(
        "residual",
        "first_order.residual",
        error_size,
        21,
        (2, 5, "; residual: largest disagreement in a channel"),
        from_width=140,
    ),
    Column(
        "removed",
        "first_order",
        _removed,
        9,
        (3, 0, "removed: share of gradient energy projected out"),
        align=RIGHT,
        when=lambda layers, width: not _both_terms(layers, width),
    ),
    _removed_by("mean", "first_order.removed_mean", percent, 11, about="removed by mean"),
    _removed_by(
        "xhat",
        "first_order.removed_xhat",
        percent,
        10,
        (3, 0, "removed by: share of gradient energy projected out, along its mean and along xhat"),
        about="removed by xhat",
    ),
    _curvature(
        "ρ",
        "curvature.rayleigh",
        scientific,
        6,
        (4, 0, "; ρ = g'Hg/|g|²: curvature of the loss along g"),
        when=_curved,
    ),
    _curvature(
        "own",
        "curvature.correction_share",
        percent,
        17,
        (4, 1, "; own: share that is BatchNorm's own"),
        when=lambda layers, width: _curved(layers) and (width >= 140 or not _bounded(layers)),
        about="own share of the curvature",
    ),
    _curvature(
        "bound",
        "curvature.bound_slack",
        _holds,
        8,
        (4, 2, "; bound: the paper's bound on it holds (often not)"),
        when=_bounded,
        about="bound on the curvature",
    ),
    _curvature(
        "in ch",
        "curvature.bound_holds",
        whole_percent,
        20,
        (4, 3, "; in ch: in how many channels"),
        from_width=140,
        when=_bounded,
        about="channels within the bound",
    ),
)
