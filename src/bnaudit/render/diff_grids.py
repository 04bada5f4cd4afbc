"""The tables of a comparison: numbers that changed, and stored values that moved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.records.values import Skipped
from bnaudit.render.table.layout import Elastic, Plan
from bnaudit.render.table.notes import Notes
from bnaudit.render.table.numbers import error_size, factor, percent, significant
from bnaudit.render.table.small_table import Field, SmallTable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

    from bnaudit.records.diff import Change, Movement, NumberChange
    from bnaudit.records.snapshot import Quantity
    from bnaudit.render.table.readers import Cell
    from bnaudit.render.table.text import Charset

METRICS = {
    "gain": "|γ|/σ",
    "reduction": "|g|/|G|",
    "curvature": "ρ",
    "mean_drift": "mean drift",
    "variance_drift": "var drift",
}


def number_lines(changes: Sequence[NumberChange], charset: Charset, width: int) -> list[Text]:
    """Header and one line for each number that changed."""
    table = SmallTable(changes, _NUMBERS, _NUMBER_PLAN, charset, width)
    return table.header() + [table.row(row) for row in range(len(changes))]


def movement_lines(
    movements: Sequence[Movement], frozen: frozenset[str], charset: Charset, width: int
) -> tuple[list[Text], Notes]:
    """Header and one line for each layer that is not the same, and why cells are empty.

    Args:
        movements: layers that moved.
        frozen: those of them that should not have.
        charset: what may be printed.
        width: of the page.
    """
    fields = [
        *_MOVEMENTS,
        Field("what", "moved", lambda m: _what(m, frozen), name=True),
    ]
    table = SmallTable(movements, fields, _MOVEMENT_PLAN, charset, width)
    lines = table.header() + [table.row(row) for row in range(len(movements))]
    notes = Notes(len(movements))
    for row, movement in enumerate(movements):
        table.explain(row, movement.layer, notes)
    return lines, notes


def _value(quantity: Quantity) -> str:
    return significant(quantity.value)


def _times(change: NumberChange) -> str:
    """How many times as much; a difference where the sign changed."""
    old, new = change.old.value, change.new.value
    if old * new > 0:
        return factor(new / old)
    return f"{new - old:+.2g}"


def _change(change: Change) -> Cell:
    return change if isinstance(change, Skipped) else _share(change)


def _share(change: float) -> str:
    if change == 0:
        return "0"
    return percent(change) if change >= 0.001 else error_size(change)


def _what(movement: Movement, frozen: frozenset[str]) -> str:
    parameters, statistics = movement.parameters, movement.statistics
    text = "both" if parameters and statistics else "parameters" if parameters else "statistics"
    text = text if parameters or statistics else "not comparable"
    return f"FROZEN: {text}" if movement.layer in frozen else text


_NUMBERS: list[Field[NumberChange]] = [
    Field("layer", "layer", lambda change: change.layer, name=True),
    Field("metric", "number", lambda change: METRICS[change.metric], name=True),
    Field("old", "old", lambda change: _value(change.old)),
    Field("new", "new", lambda change: _value(change.new), style="bold"),
    Field("times", "change", _times),
]
_NUMBER_PLAN = Plan(
    importance=("layer", "metric", "old", "new", "times"),
    elastic={"layer": Elastic(14, 48), "metric": Elastic(10, 10)},
)
_MOVEMENTS: list[Field[Movement]] = [
    Field("layer", "layer", lambda movement: movement.layer, name=True),
    Field("gamma", "γ", lambda movement: _change(movement.gamma)),
    Field("beta", "β", lambda movement: _change(movement.beta)),
    Field("mean", "mean", lambda movement: _change(movement.running_mean), "running"),
    Field("var", "variance", lambda movement: _change(movement.running_var), "running"),
]
_MOVEMENT_PLAN = Plan(
    importance=("layer", "what", "gamma", "beta", "mean", "var"),
    elastic={"layer": Elastic(14, 48), "what": Elastic(15, 23)},
)
