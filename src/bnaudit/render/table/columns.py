"""The columns of the layer table: what each shows, and how much it matters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnaudit.records.values import NOT_REQUESTED, Skipped
from bnaudit.render.table import readers
from bnaudit.render.table.layout import Elastic, Plan
from bnaudit.render.table.numbers import percent, scientific, significant, whole_percent
from bnaudit.summary.audit import is_synthetic

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnaudit.records.layer import LayerReport
    from bnaudit.records.report import Report
    from bnaudit.render.table.readers import Cell
    from bnaudit.summary.audit import Statistics


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        key: its name in `PLAN`.
        title: above the numbers.
        group: above the titles, over all neighbours of the same group.
        about: what it shows, for the notes on missing values.
        read: the cell of a layer, or why it has none.
        from_width: the narrowest page that shows it.
        needs: "gain", "first_order", "second_order" or "drift" for cells that such a group fills;
            "" for the others.
        aligned: whether decimal points stand under each other.
    """

    key: str
    title: str
    group: str
    about: str
    read: Callable[[LayerReport, Statistics], Cell]
    from_width: int = 0
    needs: str = ""
    aligned: bool = False


PLAN = Plan(
    importance=(
        "layer",
        "measured",
        "predicted",
        "gain",
        "finite_difference",
        "rayleigh",
        "fraction_le_1",
        "bound",
        "removed",
        "removed_xhat",
        "removed_mean",
        "spread",
        "m",
        "channels",
        "measured_iqr",
        "leak",
        "correction",
        "mean_drift",
        "variance_drift",
        "bound_channels",
        "residual",
    ),
    elastic={"layer": Elastic(20, 48), "spread": Elastic(12, 24, drawn=True)},
)


def columns_for(report: Report, width: int) -> list[Column]:
    """The columns worth a place on a page of that width, before any has to be dropped."""
    absent = _absent(report, width)
    return [
        column for column in _COLUMNS if width >= column.from_width and column.key not in absent
    ]


def _absent(report: Report, width: int) -> set[str]:
    layers = report.layers
    absent = set()
    if not any(_has_finite_difference(layer) for layer in layers):
        absent.add("finite_difference")
    if is_synthetic(report) or all(isinstance(layer.statistics, Skipped) for layer in layers):
        absent |= {column.key for column in _COLUMNS if column.needs == "drift"}
    curved = any(not isinstance(layer.second_order, Skipped) for layer in layers)
    if not curved:
        absent |= {column.key for column in _COLUMNS if column.needs == "second_order"}
    if not any(_has_bound(layer) for layer in layers):
        absent |= {"bound", "bound_channels"}
    elif width < _OWN_BESIDE_BOUND_FROM:
        absent.add("correction")
    # The two terms have a column each where there is room for both.
    absent |= {"removed_mean", "removed_xhat"} if curved and width < _SPLIT_FROM else {"removed"}
    return absent


_SPLIT_FROM = 120
_OWN_BESIDE_BOUND_FROM = 140


def _has_bound(layer: LayerReport) -> bool:
    order = layer.second_order
    return not isinstance(order, Skipped) and order.bound_slack != NOT_REQUESTED


def _has_finite_difference(layer: LayerReport) -> bool:
    order = layer.first_order
    return not isinstance(order, Skipped) and not isinstance(order.finite_difference, Skipped)


_GAIN, _RATIO, _REMOVED, _CURVATURE = "|γ|/σ", "|g|/|G|", "removed by", "curvature"

_COLUMNS = (
    Column("layer", "layer", "", "name", lambda layer, _: layer.label),
    Column("channels", "ch", "", "channels", lambda layer, _: str(layer.channels)),
    Column("m", "m", "", "m", lambda layer, _: str(layer.m)),
    Column(
        "gain",
        "median",
        _GAIN,
        "median |γ|/σ",
        readers.from_gain(lambda gain: gain.median, significant),
        needs="gain",
        aligned=True,
    ),
    Column("spread", "", _GAIN, "spread of |γ|/σ", lambda *_: "", needs="gain"),
    Column(
        "fraction_le_1",
        "≤1",
        _GAIN,
        "share of |γ|/σ ≤ 1",
        readers.from_gain(lambda gain: gain.fraction_le_1, whole_percent),
        needs="gain",
    ),
    Column("leak", "leak", "", "leak", readers.leak, from_width=140, aligned=True),
    Column(
        "mean_drift",
        "mean",
        "drift",
        "mean drift",
        readers.from_drift(lambda channels: channels.mean_drift),
        from_width=140,
        needs="drift",
        aligned=True,
    ),
    Column(
        "variance_drift",
        "log2 var",
        "drift",
        "variance drift",
        readers.from_drift(lambda channels: channels.variance_drift),
        from_width=140,
        needs="drift",
        aligned=True,
    ),
    Column(
        "predicted",
        "predicted",
        _RATIO,
        "predicted",
        readers.from_order(lambda order: order.predicted, significant),
        needs="first_order",
        aligned=True,
    ),
    Column(
        "measured",
        "measured",
        _RATIO,
        "measured",
        readers.from_order(lambda order: order.measured, significant),
        needs="first_order",
        aligned=True,
    ),
    Column(
        "measured_iqr",
        "±",
        _RATIO,
        "±",
        readers.measured_iqr,
        from_width=120,
        needs="first_order",
    ),
    Column(
        "finite_difference",
        "fd error",
        _RATIO,
        "fd error",
        readers.difference_error,
        needs="first_order",
        aligned=True,
    ),
    Column(
        "residual",
        "residual",
        _RATIO,
        "residual",
        readers.residual_cell,
        from_width=140,
        needs="first_order",
        aligned=True,
    ),
    Column("removed", "removed", "", "removed", readers.removed, needs="first_order"),
    Column(
        "removed_mean",
        "mean",
        _REMOVED,
        "removed by mean",
        readers.from_order(lambda order: order.removed_mean, percent),
        needs="first_order",
    ),
    Column(
        "removed_xhat",
        "xhat",
        _REMOVED,
        "removed by xhat",
        readers.from_order(lambda order: order.removed_xhat, percent),
        needs="first_order",
    ),
    Column(
        "rayleigh",
        "ρ",
        _CURVATURE,
        "ρ",
        readers.from_curvature(lambda order: readers.show(order.rayleigh, scientific)),
        needs="second_order",
    ),
    Column(
        "correction",
        "own",
        _CURVATURE,
        "own share of the curvature",
        readers.from_curvature(lambda order: readers.show(order.correction_share, percent)),
        needs="second_order",
    ),
    Column(
        "bound",
        "bound",
        _CURVATURE,
        "bound on the curvature",
        readers.from_curvature(readers.bound_mark),
        needs="second_order",
    ),
    Column(
        "bound_channels",
        "in ch",
        _CURVATURE,
        "channels within the bound",
        readers.from_curvature(readers.bound_channels),
        from_width=140,
        needs="second_order",
    ),
)
