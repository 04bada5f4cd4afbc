"""The weights that feed each layer: what the minimax bound allows, and what was measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnaudit.records.values import NOT_REQUESTED, Skipped
from bnaudit.render.table.layout import Elastic, Plan
from bnaudit.render.table.notes import Notes
from bnaudit.render.table.numbers import significant
from bnaudit.render.table.readers import integrity_reason, show
from bnaudit.render.table.small_table import Field, SmallTable
from bnaudit.render.table.text import plural
from bnaudit.summary.residuals import trusted_first_order, weight_residual

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.text import Text

    from bnaudit.records.layer import LayerReport
    from bnaudit.records.values import Metric
    from bnaudit.records.weights import WeightSpace
    from bnaudit.render.table.readers import Cell
    from bnaudit.render.table.text import Charset

_SHORT_BELOW = 120


@dataclass(frozen=True, slots=True)
class _Row:
    layer: LayerReport
    space: WeightSpace


@dataclass(frozen=True, slots=True)
class WeightBlock:
    """The block in its parts; `lines` are empty where no layer was measured.

    Attributes:
        lines: header and rows.
        notes: why numbers are missing, and where the bound was exceeded.
        columns: keys of the columns that are shown.
    """

    lines: Sequence[Text]
    notes: Notes
    columns: frozenset[str]


def weight_block(layers: Sequence[LayerReport], charset: Charset, width: int) -> WeightBlock:
    """One line for each layer that was measured, notes for those that could not be."""
    notes = Notes(len(layers))
    rows = []
    for layer in layers:
        space = layer.weight_space
        if not isinstance(space, Skipped):
            rows.append(_Row(layer, space))
        elif space != NOT_REQUESTED and trusted_first_order(layer) is not None:
            notes.add("feeding weights", space.reason, layer.label)
    if not rows:
        return WeightBlock((), notes, frozenset())
    table = SmallTable(rows, _fields(width), _PLAN, charset, width)
    lines = table.header()
    for place, row in enumerate(rows):
        residual = weight_residual(row.layer)
        if residual is not None and residual.failed:
            lines.append(table.row(place, charset.clean(f"✗ {integrity_reason(residual)}")))
            continue
        lines.append(table.row(place))
        table.explain(place, row.layer.label, notes)
        if row.space.violations and not isinstance(row.space.violations, Skipped):
            times = plural(row.space.violations, "time")
            notes.add("minimax bound", f"exceeded {times}", row.layer.label, failed=True)
    return WeightBlock(lines, notes, table.columns)


_PLAN = Plan(
    importance=(
        "layer",
        "ratio",
        "measured",
        "bound",
        "projection",
        "feeder",
        "tightness",
        "spectral_norm",
        "bound_without",
        "bound_centred",
        "spectral_norm_centred",
    ),
    elastic={"layer": Elastic(14, 40), "feeder": Elastic(16, 60)},
)


def _number(pick: Callable[[WeightSpace], Metric]) -> Callable[[_Row], Cell]:
    return lambda row: show(pick(row.space), significant)


def _parameter(row: _Row) -> str:
    """Without the operator, where the place is short."""
    return row.space.feeder.partition(" ")[2] or row.space.feeder


def _fields(width: int) -> list[Field[_Row]]:
    gradient = "|dL/dW|"
    fields: list[Field[_Row]] = [
        Field("layer", "layer", lambda row: row.layer.label, name=True),
        Field(
            "feeder",
            "feeder",
            _parameter if width < _SHORT_BELOW else lambda row: row.space.feeder,
            name=True,
        ),
        Field("spectral_norm", "λ", _number(lambda space: space.spectral_norm)),
        Field("bound_without", "no BN", _number(lambda space: space.bound_without), gradient),
        Field("bound", "bound", _number(lambda space: space.bound), gradient),
        Field("bound_centred", "centred", _number(lambda space: space.bound_centred), gradient),
        Field(
            "measured", "measured", _number(lambda space: space.grad_norm), gradient, style="bold"
        ),
        Field("tightness", "tight", _number(lambda space: space.tightness), gradient),
        Field("ratio", "ratio", _number(lambda space: space.weight_ratio), "BN effect"),
        Field("projection", "Π_w", _number(lambda space: space.projection), "BN effect"),
    ]
    if width >= _SHORT_BELOW:
        centred = _number(lambda space: space.spectral_norm_centred)
        fields.insert(3, Field("spectral_norm_centred", "λ centred", centred))
        return fields
    return [field for field in fields if field.key not in {"bound_without", "bound_centred"}]
