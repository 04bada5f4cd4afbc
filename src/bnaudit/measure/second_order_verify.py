"""`--verify-second-order`: the sweep against double backward at some layers, both in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bnaudit.errors import RunError
from bnaudit.measure.curvature_rows import Rows, Totals, totals
from bnaudit.measure.finite_difference import spread_over_depth
from bnaudit.measure.second_order_double import double_backward_rows
from bnaudit.measure.second_order_forward import sweep_totals
from bnaudit.measure.second_order_sweep import moments_of, sweep_rows
from bnaudit.measure.theory import first_order
from bnaudit.measure.wide import first_order_records, widened
from bnaudit.records.curvature import Verification
from bnaudit.records.values import Skipped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from bnaudit.measure.probe import LayerRecord
    from bnaudit.measure.session import Session
    from bnaudit.progress import Progress

Key = tuple[str, int]

TOLERANCE = 1e-6
"""Rounding leaves below 1e-9; at the kinks of hardswish and its kin the two may take other sides."""


def verify_second_order(
    session: Session,
    keys: Sequence[Key],
    count: int,
    memory: int | None,
    progress: Progress,
    *,
    rows: bool,
) -> dict[Key, Verification | Skipped]:
    """Compares the two ways at `count` layers spread over the depth, on the first batch.

    Args:
        session: the model and its batches.
        keys: the layers that have a second order.
        count: how many layers; -1 means all, 0 none.
        memory: as in `measure_second_order`.
        progress: told of each layer.
        rows: verify the full products, by channel.
    """
    if count == 0 or not keys:
        return {}
    chosen = spread_over_depth(keys, count)
    progress.stage("verifying second order", 2 * len(chosen))
    try:
        with widened(session) as wide:
            return _compared(wide, chosen, memory, progress, rows=rows)
    except RunError as error:
        return dict.fromkeys(chosen, Skipped(f"no run in float64: {error.message}"))


def _compared(
    session: Session,
    keys: Sequence[Key],
    memory: int | None,
    progress: Progress,
    *,
    rows: bool,
) -> dict[Key, Verification | Skipped]:
    records = {key: r for key, r in first_order_records(session).items() if key in set(keys)}
    present = [key for key in keys if key in records and records[key].dtype == torch.float64]
    sweep = sweep_rows if rows else sweep_totals
    swept = sweep(session, records, present, memory, progress, always=True)
    double = double_backward_rows(session, records, present, progress)
    found: dict[Key, Verification | Skipped] = {}
    for key in keys:
        ours, theirs = swept.rows.get(key), double.get(key)
        if isinstance(ours, Rows | Totals) and isinstance(theirs, Rows):
            found[key] = Verification(_difference(ours, theirs, records[key]), TOLERANCE)
        elif isinstance(theirs, Skipped):
            found[key] = theirs
        else:
            reason = swept.obstacles.get(key, "not measured in float64")
            found[key] = Skipped(f"not swept: {reason}")
    return found


def _difference(ours: Rows | Totals, theirs: Rows, record: LayerRecord) -> float:
    scale = _total(theirs.transported) + _total(theirs.correction)
    out_scale = _total(theirs.out_curvature)
    if isinstance(ours, Rows):
        return _largest(ours, theirs, scale, out_scale)
    channels = first_order(moments_of(record), record.gamma, record.eps, record.m)
    summed = totals(theirs, channels.gain**2)
    scaled = _total(channels.gain**2 * theirs.out_curvature)
    bound = float((ours.bound - summed.bound).abs()) / (scaled + scale or 1.0)
    return max(_largest(ours, summed, scale, out_scale), bound)


def _largest(ours: Rows | Totals, theirs: Rows | Totals, scale: float, out_scale: float) -> float:
    pairs = (
        (ours.measured - theirs.measured, scale),
        (ours.transported - theirs.transported, scale),
        (ours.correction - theirs.correction, scale),
        (ours.out_curvature - theirs.out_curvature, out_scale),
    )
    return max(_total(d) / s if s > 0 else _total(d) for d, s in pairs)


def _total(t: Tensor) -> float:
    return float(t.abs().sum())
