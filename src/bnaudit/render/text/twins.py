"""The model against its twins: what BatchNorm does to all gradients upstream of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.records.values import NOT_REQUESTED, Skipped
from bnaudit.render.text.table import LEFT, Column, Room, Row, Table
from bnaudit.render.text.words import factor, plural, significant
from bnaudit.summary.twins import effect, most_affected, only_in_twin

if TYPE_CHECKING:
    from bnaudit.records.twins import Twin
    from bnaudit.render.text.sheet import Sheet
    from bnaudit.render.text.table import Cell

_AFFECTED = 3
# With a twin for every layer, the parameters of each would drown the table.
_DETAILED = 4

_KINDS = {
    "frozen": "frozen: scaled by γ/σ, nothing projected out",
    "identity": "identity: passed on as they are",
}


def write_twins(sheet: Sheet, twins: tuple[Twin, ...] | Skipped) -> None:
    """One line for each twin, the parameters that it affects most, and what the twins are."""
    if isinstance(twins, Skipped):
        if twins != NOT_REQUESTED:
            sheet.paragraphs([f"– twins: {twins.reason}"], "")
        return
    if not twins:
        return
    rows = [Row(twin, _name(twin)) for twin in twins]
    sheet.table(Table(rows, _COLUMNS, sheet.charset, sheet.width))
    detailed = twins if len(twins) <= _DETAILED else [twin for twin in twins if twin.layer is None]
    for twin in detailed[:_DETAILED]:
        most = [f"{name} {factor(ratio)}" for name, ratio in most_affected(twin, _AFFECTED)]
        told = [f"most affected: {', '.join(most)}"] if most else []
        cancelled = only_in_twin(twin)
        if cancelled:
            told.append(f"{plural(cancelled, 'parameter')} with a gradient in the twin only")
        if told:
            sheet.wrapped(f"{_name(twin)}: {'; '.join(told)}", "")
    kinds = {twin.kind for twin in twins}
    parts = "; ".join(text for kind, text in _KINDS.items() if kind in kinds)
    what = "twins: same values forward, other gradients backward" + (f" ({parts})" if parts else "")
    sheet.paragraphs([f"{what}; above ×1 BatchNorm makes the gradients smaller"])


def _name(twin: Twin) -> str:
    return twin.kind if twin.layer is None else f"{twin.kind} {twin.layer}"


def _effect(twin: Twin) -> Cell:
    ratio = effect(twin)
    return ratio if isinstance(ratio, Skipped) else factor(ratio)


_GRADIENT = "|dL/dθ| upstream"
_COLUMNS: tuple[Column[Twin], ...] = (
    Column("twin", "kind", str, 1, align=LEFT, room=Room(8, 16)),
    Column("replaces", "layer", str, 5, align=LEFT, room=Room(12, 48), absent="all layers"),
    Column("parameters", "parameters", lambda found: str(len(found)), 6, style="dim"),
    Column("with BN", "grad_norm", significant, 4, group=_GRADIENT),
    Column("of twin", "twin_grad_norm", significant, 3, group=_GRADIENT),
    Column("twin / BN", "", _effect, 2, group=_GRADIENT, style="bold"),
)
