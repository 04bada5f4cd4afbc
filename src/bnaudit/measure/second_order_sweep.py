"""The sweep over a model's layers, chunk by chunk from the loss's end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.errors import first_line
from bnaudit.measure.detail import Detail
from bnaudit.measure.second_order_double import OUT_OF_GRAPH
from bnaudit.measure.second_order_forward import sweep_totals
from bnaudit.measure.second_order_hessian import sweep_rows
from bnaudit.measure.sweep.plan import chunks, give_back, sweep_pays
from bnaudit.measure.sweep.run import prepare_tape
from bnaudit.measure.swept import Swept
from bnaudit.measure.wide import lost_in_rounding

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bnaudit.measure.probe import LayerRecord
    from bnaudit.measure.session import Session
    from bnaudit.measure.sweep.play import Site
    from bnaudit.measure.sweep.recording import Recorded
    from bnaudit.measure.sweep.run import Prepared
    from bnaudit.progress import Progress

Key = tuple[str, int]

_WAYS = {
    Detail.CURVATURE: sweep_totals,
    Detail.BOUND: sweep_totals,
    Detail.CHANNELS: sweep_rows,
}


def sweep_layers(
    session: Session,
    records: Mapping[Key, LayerRecord],
    keys: Sequence[Key],
    detail: Detail,
    memory: int | None,
    progress: Progress,
    *,
    recorded: Recorded | None = None,
    always: bool = False,
) -> Swept:
    """Sweeps the layers that can be.

    The layers nearest to the loss come first, whose way is short: where their slopes are off because the
    whole gradient is rounding, the long ways are not walked.

    Args:
        session: the model and its batches.
        records: first order of the layers on the first batch.
        keys: the layers.
        detail: what is wanted of them.
        memory: bytes that the tangents may take; None for a share of what is free.
        progress: told of each layer.
        recorded: the first batch's pass, where it was recorded already.
        always: also where double backward is estimated to be cheaper.
    """
    swept = Swept()
    alive = [key for key in keys if records[key].moments is not None]
    prepared = _prepared(session, alive, swept, recorded)
    if prepared is None or not (always or _pays(prepared, detail, swept)):
        return swept
    known_rounding = False
    groups = chunks(prepared, memory, detail)
    for chunk in reversed(groups):
        sites = [site for site in chunk if site.key not in swept.rows]
        if sites:
            if len(groups) > 1:
                give_back(session.placed.device)
            _sweep(prepared, sites, records, swept, detail)
        if not known_rounding and any(site.key in swept.obstacles for site in sites):
            known_rounding = True
            for key, reason in lost_in_rounding(session, records, alive).items():
                swept.skip(key, reason)
        for _ in chunk:
            progress.advance()
    return swept


def _sweep(
    prepared: Prepared,
    sites: Sequence[Site],
    records: Mapping[Key, LayerRecord],
    swept: Swept,
    detail: Detail,
) -> None:
    try:
        _WAYS[detail](prepared, sites, records, swept, detail)
    except Exception as error:  # a rule that fails, or memory: double backward remains
        for site in sites:
            swept.forward_modes.pop(site.key, None)
            swept.refuse(site.key, f"the sweep failed: {first_line(error)}")


def _prepared(
    session: Session, keys: Sequence[Key], swept: Swept, recorded: Recorded | None
) -> Prepared | None:
    """The tape, or None where the model cannot be recorded."""
    try:
        prepared = prepare_tape(session, keys, recorded)
    except Exception as error:  # the model under the recorder, or the recorder: see the reason
        reason = f"the model cannot be recorded: {first_line(error)}"
        swept.obstacles = dict.fromkeys(keys, reason)
        return None
    swept.obstacles = dict.fromkeys(keys, OUT_OF_GRAPH) | prepared.obstacles
    for site in prepared.sites:
        del swept.obstacles[site.key]
    return prepared


def _pays(prepared: Prepared, detail: Detail, swept: Swept) -> bool:
    if sweep_pays(prepared, detail):
        return True
    reason = "double backward is cheaper for this model"
    swept.obstacles |= {s.key: reason for s in prepared.sites if s.key not in swept.obstacles}
    return False
