"""The columns of the layer table: what each shows, and how much it matters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnaudit.records.values import Skipped
from bnaudit.render.summary import gain_of
from bnaudit.render.table.numbers import error_size, percent, significant, whole_percent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bnaudit.records.layer import FirstOrder, Gain, LayerReport
    from bnaudit.records.values import Metric
    from bnaudit.render.summary import Statistics

Cell = str | Skipped


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        key: its name in `BY_IMPORTANCE`.
        title: above the numbers.
        group: above the titles, over all neighbours of the same group.
        about: what it shows, for the notes on missing values.
        read: the cell of a layer, or why it has none.
        from_width: the narrowest page that shows it.
        needs: "gain" or "first_order" for cells that such a group fills; "" for the others.
    """

    key: str
    title: str
    group: str
    about: str
    read: Callable[[LayerReport, Statistics], Cell]
    from_width: int = 0
    needs: str = ""


# Each column is kept if it fits beside those before it; the first two are always kept.
BY_IMPORTANCE = (
    "layer",
    "measured",
    "predicted",
    "gain",
    "finite_difference",
    "fraction_le_1",
    "removed_xhat",
    "removed_mean",
    "spread",
    "m",
    "channels",
    "measured_iqr",
    "leak",
    "residual",
)


def columns_for(layers: Sequence[LayerReport], width: int) -> list[Column]:
    """The columns worth a place on a page of that width, before any has to be dropped."""
    verified = any(_has_finite_difference(layer) for layer in layers)
    return [
        column
        for column in _COLUMNS
        if width >= column.from_width and (verified or column.key != "finite_difference")
    ]


def _has_finite_difference(layer: LayerReport) -> bool:
    order = layer.first_order
    return not isinstance(order, Skipped) and not isinstance(order.finite_difference, Skipped)


def _show(metric: Metric, write: Callable[[float], str]) -> Cell:
    return metric if isinstance(metric, Skipped) else write(metric.median)


def _from_gain(
    pick: Callable[[Gain], Metric], write: Callable[[float], str]
) -> Callable[[LayerReport, Statistics], Cell]:
    def read(layer: LayerReport, statistics: Statistics) -> Cell:
        gain = gain_of(layer, statistics)
        return gain if isinstance(gain, Skipped) else _show(pick(gain), write)

    return read


def _from_order(
    pick: Callable[[FirstOrder], Metric], write: Callable[[float], str]
) -> Callable[[LayerReport, Statistics], Cell]:
    def read(layer: LayerReport, _: Statistics) -> Cell:
        order = layer.first_order
        return order if isinstance(order, Skipped) else _show(pick(order), write)

    return read


def _leak(layer: LayerReport, _: Statistics) -> Cell:
    return layer.leak if isinstance(layer.leak, Skipped) else significant(layer.leak.median.median)


def _measured_iqr(layer: LayerReport, _: Statistics) -> Cell:
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


def _residual(layer: LayerReport, _: Statistics) -> Cell:
    order = layer.first_order
    if isinstance(order, Skipped):
        return order
    return order.residual if isinstance(order.residual, Skipped) else error_size(order.residual)


# Not the quotient itself: it belongs to one batch, and beside a median over batches the difference
# between batches would look like a disagreement with theory.
def _difference_error(layer: LayerReport, _: Statistics) -> Cell:
    order = layer.first_order
    if isinstance(order, Skipped):
        return order
    quotient = order.finite_difference
    return quotient if isinstance(quotient, Skipped) else error_size(quotient.relative_error)


_GAIN, _RATIO, _REMOVED = "|γ|/σ", "|g|/|G|", "removed by"

_COLUMNS = (
    Column("layer", "layer", "", "name", lambda layer, _: layer.label),
    Column("channels", "ch", "", "channels", lambda layer, _: str(layer.channels)),
    Column("m", "m", "", "m", lambda layer, _: str(layer.m)),
    Column(
        "gain",
        "median",
        _GAIN,
        "median |γ|/σ",
        _from_gain(lambda gain: gain.median, significant),
        needs="gain",
    ),
    Column("spread", "", _GAIN, "spread of |γ|/σ", lambda *_: "", needs="gain"),
    Column(
        "fraction_le_1",
        "≤1",
        _GAIN,
        "share of |γ|/σ ≤ 1",
        _from_gain(lambda gain: gain.fraction_le_1, whole_percent),
        needs="gain",
    ),
    Column("leak", "leak", "", "leak", _leak, from_width=140),
    Column(
        "predicted",
        "predicted",
        _RATIO,
        "predicted",
        _from_order(lambda order: order.predicted, significant),
        needs="first_order",
    ),
    Column(
        "measured",
        "measured",
        _RATIO,
        "measured",
        _from_order(lambda order: order.measured, significant),
        needs="first_order",
    ),
    Column(
        "measured_iqr",
        "±",
        _RATIO,
        "±",
        _measured_iqr,
        from_width=120,
        needs="first_order",
    ),
    Column(
        "finite_difference",
        "fd error",
        _RATIO,
        "fd error",
        _difference_error,
        needs="first_order",
    ),
    Column(
        "residual",
        "residual",
        _RATIO,
        "residual",
        _residual,
        from_width=140,
        needs="first_order",
    ),
    Column(
        "removed_mean",
        "mean",
        _REMOVED,
        "removed by mean",
        _from_order(lambda order: order.removed_mean, percent),
        needs="first_order",
    ),
    Column(
        "removed_xhat",
        "xhat",
        _REMOVED,
        "removed by xhat",
        _from_order(lambda order: order.removed_xhat, percent),
        needs="first_order",
    ),
)
