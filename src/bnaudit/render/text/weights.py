"""The weights that feed each layer: what the minimax bound allows, and what was measured."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bnaudit.records.values import NOT_REQUESTED, Skipped
from bnaudit.render.text.layers import integrity_reason
from bnaudit.render.text.table import LEFT, Column, Notes, Refusal, Room, Row, Table
from bnaudit.render.text.words import plural, significant
from bnaudit.summary.residuals import trusted_first_order, weight_residual

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bnaudit.records.layer import LayerReport
    from bnaudit.render.text.sheet import Sheet

_WIDE = 120
"""From here on there is room for the operator beside a parameter's name, and for more bounds."""


def write_weights(sheet: Sheet, layers: Sequence[LayerReport]) -> None:
    """One line for each layer that was measured, notes for those that could not be."""
    rows, notes = [], Notes(len(layers))
    for layer in layers:
        space, residual = layer.weight_space, weight_residual(layer)
        if isinstance(space, Skipped):
            if space != NOT_REQUESTED and trusted_first_order(layer) is not None:
                notes.add("feeding weights", space.reason, layer.label)
        elif residual is not None and residual.failed:
            refusal = Refusal(integrity_reason(residual), failed=True, roots=_NUMBERS)
            rows.append(Row(layer, layer.label, refusal=refusal))
        else:
            exceeded = 0 if isinstance(space.violations, Skipped) else space.violations
            fault = ("minimax bound", f"exceeded {plural(exceeded, 'time')}")
            rows.append(Row(layer, layer.label, faults=(fault,) if exceeded else ()))
    if not rows:
        sheet.notes(notes)
        return
    table = Table(rows, _COLUMNS, sheet.charset, sheet.width, notes=notes)
    sheet.table(table, title="weights that feed the layers")
    sheet.notes(notes)
    sheet.paragraphs(table.legend())


_EFFECT = "BN effect"
_gradient: Callable[..., Column[LayerReport]] = partial(Column, group="|dL/dW|")
_NUMBERS = frozenset({"weight_space"})
_COLUMNS: tuple[Column[LayerReport], ...] = (
    Column("layer", "label", str, 1, align=LEFT, room=Room(14, 40)),
    # Without the operator.
    Column(
        "feeder",
        "weight_space.feeder",
        lambda feeder: feeder.partition(" ")[2] or feeder,
        6,
        align=LEFT,
        room=Room(16, 60),
        when=lambda _, width: width < _WIDE,
    ),
    Column(
        "feeder", "weight_space.feeder", str, 6, align=LEFT, room=Room(16, 60), from_width=_WIDE
    ),
    Column(
        "λ",
        "weight_space.spectral_norm",
        significant,
        8,
        (1, 1, " (λ: spectral norm of the feeder's input)"),
    ),
    Column("λ centred", "weight_space.spectral_norm_centred", significant, 11, from_width=_WIDE),
    _gradient(
        "no BN",
        "weight_space.bound_without",
        significant,
        9,
        (1, 2, "; no BN: without BatchNorm"),
        from_width=_WIDE,
    ),
    _gradient(
        "bound",
        "weight_space.bound",
        significant,
        4,
        (1, 0, "bound: the most the minimax theorem allows, λ|g|"),
    ),
    _gradient(
        "centred",
        "weight_space.bound_centred",
        significant,
        10,
        (1, 3, "; centred: with the input's mean removed"),
        from_width=_WIDE,
    ),
    _gradient("measured", "weight_space.grad_norm", significant, 3, style="bold"),
    _gradient(
        "tight",
        "weight_space.tightness",
        significant,
        7,
        (1, 4, "; tight: largest share a channel uses"),
    ),
    Column(
        "ratio",
        "weight_space.weight_ratio",
        significant,
        2,
        (2, 0, "ratio: these gradients with / without BatchNorm's backward"),
        group=_EFFECT,
    ),
    Column(
        "Π_w",
        "weight_space.projection",
        significant,
        5,
        (2, 1, "; Π_w: energy after projection / before"),
        group=_EFFECT,
    ),
)
