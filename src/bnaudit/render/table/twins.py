"""The model against its twins: what BatchNorm does to all gradients upstream of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.records.values import Skipped
from bnaudit.render.table.layout import Elastic, Plan
from bnaudit.render.table.numbers import error_size, factor, significant
from bnaudit.render.table.small_table import Field, SmallTable
from bnaudit.render.table.text import plural
from bnaudit.summary.twins import effect, most_affected, only_in_twin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

    from bnaudit.records.twins import Twin
    from bnaudit.render.table.readers import Cell
    from bnaudit.render.table.text import Charset

_AFFECTED = 3
# With a twin for every layer, the parameters of each would drown the table.
_DETAILED = 4

_PLAN = Plan(
    importance=("kind", "ratio", "twin", "measured", "layer", "parameters", "loss"),
    elastic={"kind": Elastic(8, 16), "layer": Elastic(12, 48)},
)


def twin_lines(twins: Sequence[Twin], charset: Charset, width: int) -> list[Text]:
    """Header and one line for each twin."""
    table = SmallTable(twins, _FIELDS, _PLAN, charset, width)
    return table.header() + [table.row(row) for row in range(len(twins))]


def affected_parameters(twins: Sequence[Twin]) -> list[tuple[str, str]]:
    """(twin, the parameters it affects most), for the twins that replace all layers."""
    detailed = twins if len(twins) <= _DETAILED else [twin for twin in twins if twin.layer is None]
    found = ((_name(twin), _affected(twin)) for twin in detailed[:_DETAILED])
    return [(name, text) for name, text in found if text]


def _name(twin: Twin) -> str:
    return twin.kind if twin.layer is None else f"{twin.kind} {twin.layer}"


def _affected(twin: Twin) -> str:
    parts = [f"{name} {factor(ratio)}" for name, ratio in most_affected(twin, _AFFECTED)]
    text = f"most affected: {', '.join(parts)}" if parts else ""
    cancelled = only_in_twin(twin)
    if not cancelled:
        return text
    return f"{text}; {plural(cancelled, 'parameter')} with a gradient in the twin only".lstrip("; ")


def _ratio(twin: Twin) -> Cell:
    ratio = effect(twin)
    return ratio if isinstance(ratio, Skipped) else factor(ratio)


_GRADIENT = "|dL/dθ| upstream"

_FIELDS: list[Field[Twin]] = [
    Field("kind", "twin", lambda twin: twin.kind, name=True),
    Field("layer", "replaces", lambda twin: twin.layer or "all layers", name=True),
    Field("parameters", "parameters", lambda twin: str(len(twin.parameters)), style="dim"),
    Field("loss", "loss off by", lambda twin: error_size(twin.loss_difference), style="dim"),
    Field("measured", "with BN", lambda twin: significant(twin.grad_norm), _GRADIENT),
    Field("twin", "of twin", lambda twin: significant(twin.twin_grad_norm), _GRADIENT),
    Field("ratio", "twin / BN", _ratio, _GRADIENT, style="bold"),
]
