"""The weights that feed each layer: what the minimax bound allows, and what was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.records.values import NOT_REQUESTED, Skipped
from bnaudit.render.text.layers import integrity_reason
from bnaudit.render.text.table import LEFT, Column, Notes, Refusal, Room, Row, Table
from bnaudit.render.text.words import plural, significant
from bnaudit.summary.residuals import trusted_first_order, weight_residual

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnaudit.records.layer import LayerReport
    from bnaudit.render.text.sheet import Sheet

_WIDE = 120
"""From here on there is room for the operator beside a parameter's name, and for more bounds."""


def write_weights(sheet: Sheet, layers: Sequence[LayerReport]) -> None:
    """One line for each layer that was measured, notes for those that could not be."""
    rows, notes = [], Notes(len(layers))
    for layer in layers:
        space = layer.weight_space
        if not isinstance(space, Skipped):
            rows.append(_row(layer))
        elif space != NOT_REQUESTED and trusted_first_order(layer) is not None:
            notes.add("feeding weights", space.reason, layer.label)
    if not rows:
        sheet.notes(notes)
        return
    table = Table(rows, _COLUMNS, sheet.charset, sheet.width, notes=notes)
    sheet.table(table)
    sheet.notes(notes)
    sheet.paragraphs(table.legend())


def _row(layer: LayerReport) -> Row[LayerReport]:
    residual, space = weight_residual(layer), layer.weight_space
    if residual is not None and residual.failed:
        refusal = Refusal(integrity_reason(residual), failed=True, roots=_NUMBERS)
        return Row(layer, layer.label, refusal=refusal)
    found = space if isinstance(space, Skipped) else space.violations
    exceeded = 0 if isinstance(found, Skipped) else found
    fault = ("minimax bound", f"exceeded {plural(exceeded, 'time')}")
    return Row(layer, layer.label, faults=(fault,) if exceeded else ())


_GRADIENT, _EFFECT = "|dL/dW|", "BN effect"
_NUMBERS = frozenset({"weight_space"})
_COLUMNS: tuple[Column[LayerReport], ...] = (
    Column("layer", "label", rank=1, align=LEFT, room=Room(14, 40)),
    Column(
        "feeder",
        "weight_space.feeder",
        # Without the operator.
        lambda feeder: feeder.partition(" ")[2] or feeder,
        rank=6,
        align=LEFT,
        room=Room(16, 60),
        when=lambda _, width: width < _WIDE,
    ),
    Column(
        "feeder",
        "weight_space.feeder",
        rank=6,
        align=LEFT,
        room=Room(16, 60),
        from_width=_WIDE,
    ),
    Column(
        "λ",
        "weight_space.spectral_norm",
        significant,
        rank=8,
        legend=(1, 1, " (λ: spectral norm of the feeder's input)"),
    ),
    Column(
        "λ centred", "weight_space.spectral_norm_centred", significant, rank=11, from_width=_WIDE
    ),
    Column(
        "no BN",
        "weight_space.bound_without",
        significant,
        rank=9,
        group=_GRADIENT,
        from_width=_WIDE,
        legend=(1, 2, "; no BN: without BatchNorm"),
    ),
    Column(
        "bound",
        "weight_space.bound",
        significant,
        rank=4,
        group=_GRADIENT,
        legend=(1, 0, "bound: the most the minimax theorem allows, λ|g|"),
    ),
    Column(
        "centred",
        "weight_space.bound_centred",
        significant,
        rank=10,
        group=_GRADIENT,
        from_width=_WIDE,
        legend=(1, 3, "; centred: with the input's mean removed"),
    ),
    Column(
        "measured", "weight_space.grad_norm", significant, rank=3, group=_GRADIENT, style="bold"
    ),
    Column(
        "tight",
        "weight_space.tightness",
        significant,
        rank=7,
        group=_GRADIENT,
        legend=(1, 4, "; tight: largest share a channel uses"),
    ),
    Column(
        "ratio",
        "weight_space.weight_ratio",
        significant,
        rank=2,
        group=_EFFECT,
        legend=(2, 0, "ratio: these gradients with / without BatchNorm's backward"),
    ),
    Column(
        "Π_w",
        "weight_space.projection",
        significant,
        rank=5,
        group=_EFFECT,
        legend=(2, 1, "; Π_w: energy after projection / before"),
    ),
)
