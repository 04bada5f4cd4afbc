"""The layer table of an audit: one line a layer, in execution order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
    box: Box | None
    axis: LogAxis | None
    curvature: SecondOrder | Skipped
    statistics: Channels | Skipped

    @property
    def first_order(self) -> FirstOrder | Skipped:
        return self.layer.first_order


def layer_table(report: Report, charset: Charset, width: int) -> Table[_Layer]:
    """Lays the table out for `width` columns."""
    chosen, worst = gain_statistics(report), worst_by_layer(report.findings)
    gains = [gain_of(layer, chosen) for layer in report.layers]
    boxes = [None if isinstance(gain, Skipped) else _box(gain) for gain in gains]
    axis = axis_for([box for box in boxes if box is not None])
    unknown = Skipped("synthetic data") if is_synthetic(report) else None
    rows = []
    for layer, gain, box in zip(report.layers, gains, boxes, strict=True):
        curvature, statistics = _trusted(layer), unknown or layer.statistics
        subject = _Layer(layer, gain, box, axis, curvature, statistics)
        rows.append(Row(subject, layer.label, worst.get(layer.label), _refusal(layer, gain)))
    table = Table(rows, _COLUMNS, charset, width)
    if not _curved([row.subject for row in rows]):
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


def _box(gain: Gain) -> Box:
    return gain.minimum.median, gain.median.median, gain.maximum.median


def _trusted(layer: LayerReport) -> SecondOrder | Skipped:
    residual = second_order_residual(layer)
    if residual is not None and residual.failed:
        return Withheld(integrity_reason(residual))
    # The reason why there is no first order stands in the same line.
    silent = isinstance(layer.second_order, Skipped) and isinstance(layer.first_order, Skipped)
    return NOT_REQUESTED if silent else layer.second_order


def _refusal(layer: LayerReport, gain: Gain | Skipped) -> Refusal | None:
    """Also over |gamma|/sigma where that is missing for the same reason."""
    roots = frozenset({"first_order", "gain"} if gain == layer.first_order else {"first_order"})
    if isinstance(layer.first_order, Skipped):
        return Refusal(layer.first_order.reason, failed=False, roots=roots)
    residual = first_order_residual(layer)
    if residual is None or not residual.failed:
        return None
    return Refusal(integrity_reason(residual), failed=True, roots=roots)


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
_RATIO, _REMOVED, _CURVATURE = "|g|/|G|", "removed by", "curvature"

# For every subject with `gain`, `box` and `axis`.
SPREAD: Column[Any] = Column(
    "",
    "gain",
    rank=12,
    group=GAIN,
    style="cyan",
    room=Room(12, 24),
    draw=lambda row, width: draw(row.box, row.axis, width) if row.box else " " * width,
    scale=lambda row, width: row.axis.labels(width),
    when=lambda rows, _: rows[0].axis is not None,
    legend=(1, 1, ", ├●┤ min to max (log, ┊ at 1)"),
)

_DRIFT = (5, 1, "; drift: batches against running statistics, largest channel")
_COLUMNS: tuple[Column[_Layer], ...] = (
    Column("layer", "layer.label", rank=1, align=LEFT, room=Room(20, 48)),
    Column("ch", "layer.channels", rank=14, align=RIGHT, style="dim"),
    Column("m", "layer.m", rank=13, align=RIGHT, style="dim"),
    Column(
        "median",
        "gain.median",
        significant,
        rank=4,
        group=GAIN,
        about="median |γ|/σ",
        legend=(1, 0, ": median"),
    ),
    SPREAD,
    Column(
        "≤1",
        "gain.fraction_le_1",
        whole_percent,
        rank=7,
        group=GAIN,
        align=RIGHT,
        about="share of |γ|/σ ≤ 1",
        legend=(1, 2, ", share ≤1"),
    ),
    Column(
        "leak",
        "layer.leak.median",
        significant,
        rank=16,
        from_width=140,
        legend=(5, 0, "; leak: share of eps in the variance of the median channel"),
    ),
    Column(
        "mean",
        "statistics.mean_drift.maximum",
        significant,
        rank=18,
        group="drift",
        from_width=140,
        when=_drifts,
        absent="",
        about=None,  # explained under the conspicuous channels
        legend=_DRIFT,
    ),
    Column(
        "log2 var",
        "statistics.variance_drift.maximum",
        significant,
        rank=19,
        group="drift",
        from_width=140,
        when=_drifts,
        absent="",
        about=None,
        legend=_DRIFT,
    ),
    Column(
        "predicted",
        "first_order.predicted",
        significant,
        rank=3,
        group=_RATIO,
        legend=(2, 1, " by theory (arXiv 1805.11604) and"),
    ),
    Column(
        "measured",
        "first_order.measured",
        significant,
        rank=2,
        group=_RATIO,
        style="bold",
        legend=(2, 2, " by autograd"),
    ),
    Column(
        "±",
        "first_order",
        _iqr,
        rank=15,
        group=_RATIO,
        align=RIGHT,
        from_width=120,
        about=None,  # read off `measured`
        legend=(2, 3, ", ± half the interquartile range"),
    ),
    # Not the quotient itself: it belongs to one batch, and beside a median over batches the difference
    # between batches would look like a disagreement with theory.
    Column(
        "fd error",
        "first_order.finite_difference.relative_error",
        error_size,
        rank=5,
        group=_RATIO,
        when=_verified,
        absent="",
        legend=(2, 4, "; fd error: theory against differences of the loss"),
    ),
    Column(
        "residual",
        "first_order.residual",
        error_size,
        rank=21,
        group=_RATIO,
        from_width=140,
        legend=(2, 5, "; residual: largest disagreement in a channel"),
    ),
    Column(
        "removed",
        "first_order",
        _removed,
        rank=9,
        align=RIGHT,
        when=lambda layers, width: not _both_terms(layers, width),
        legend=(3, 0, "removed: share of gradient energy projected out"),
    ),
    Column(
        "mean",
        "first_order.removed_mean",
        percent,
        rank=11,
        group=_REMOVED,
        align=RIGHT,
        when=_both_terms,
        about="removed by mean",
    ),
    Column(
        "xhat",
        "first_order.removed_xhat",
        percent,
        rank=10,
        group=_REMOVED,
        align=RIGHT,
        when=_both_terms,
        about="removed by xhat",
        legend=(
            3,
            0,
            "removed by: share of gradient energy projected out, along its mean and along xhat",
        ),
    ),
    Column(
        "ρ",
        "curvature.rayleigh",
        scientific,
        rank=6,
        group=_CURVATURE,
        align=RIGHT,
        when=_curved,
        absent="",
        legend=(4, 0, "; ρ = g'Hg/|g|²: curvature of the loss along g"),
    ),
    Column(
        "own",
        "curvature.correction_share",
        percent,
        rank=17,
        group=_CURVATURE,
        align=RIGHT,
        when=lambda layers, width: _curved(layers) and (width >= 140 or not _bounded(layers)),
        about="own share of the curvature",
        absent="",
        legend=(4, 1, "; own: share that is BatchNorm's own"),
    ),
    Column(
        "bound",
        "curvature.bound_slack",
        _holds,
        rank=8,
        group=_CURVATURE,
        align=RIGHT,
        when=_bounded,
        about="bound on the curvature",
        absent="",
        legend=(4, 2, "; bound: the paper's bound on it holds (often not)"),
    ),
    Column(
        "in ch",
        "curvature.bound_holds",
        whole_percent,
        rank=20,
        group=_CURVATURE,
        align=RIGHT,
        from_width=140,
        when=_bounded,
        about="channels within the bound",
        absent="",
        legend=(4, 3, "; in ch: in how many channels"),
    ),
)
