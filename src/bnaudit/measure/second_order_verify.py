"""`--verify-second-order`: the sweep against double backward at some layers, both in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bnaudit.errors import RunError
from bnaudit.measure.curvature_rows import Rows, Totals, totals
from bnaudit.measure.detail import Detail
from bnaudit.measure.finite_difference import spread_over_depth
from bnaudit.measure.second_order_double import double_backward_rows
from bnaudit.measure.second_order_sweep import sweep_layers
from bnaudit.measure.swept import moments_of
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
"""Rounding leaves below 1e-10 (docs/performance.md); constants that PyTorch rounds to float32, 3e-8."""


def verify_second_order(
    session: Session,
    keys: Sequence[Key],
    count: int,
    memory: int | None,
    progress: Progress,
    *,
    detail: Detail,
) -> dict[Key, Verification | Skipped]:
    """Compares the two ways at `count` layers spread over the depth, on the first batch.

    Args:
        session: the model and its batches.
        keys: the layers that have a second order.
        count: how many layers; -1 means all, 0 none.
        memory: as in `measure_second_order`.
        progress: told of each layer.
        detail: what was wanted of a layer.
    """
    if count == 0 or not keys:
        return {}
    chosen = spread_over_depth(keys, count)
    progress.stage("verifying second order", 2 * len(chosen))
    try:
        with widened(session) as wide:
            return _compared(wide, chosen, memory, progress, detail=detail)
    except RunError as error:
        return dict.fromkeys(chosen, Skipped(f"no run in float64: {error.message}"))


def _compared(
    session: Session,
    keys: Sequence[Key],
    memory: int | None,
    progress: Progress,
    *,
    detail: Detail,
) -> dict[Key, Verification | Skipped]:
    records = {key: r for key, r in first_order_records(session).items() if key in set(keys)}
    present = [key for key in keys if key in records and records[key].dtype == torch.float64]
    swept = sweep_layers(session, records, present, detail, memory, progress, always=True)
    bound = detail >= Detail.BOUND
    double = double_backward_rows(session, records, present, progress, bound=bound)
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
    at_output = theirs.out_curvature
    out_scale = 0.0 if at_output is None else _total(at_output)
    if isinstance(ours, Rows):
        return _largest(ours, theirs, scale, out_scale)
    channels = first_order(moments_of(record), record.gamma, record.eps, record.m)
    summed = totals(theirs, channels.gain**2)
    largest = _largest(ours, summed, scale, out_scale)
    if ours.bound is None or summed.bound is None or at_output is None:
        return largest
    scaled = _total(channels.gain**2 * at_output)
    return max(largest, float((ours.bound - summed.bound).abs()) / (scaled + scale or 1.0))


def _largest(ours: Rows | Totals, theirs: Rows | Totals, scale: float, out_scale: float) -> float:
    pairs = [
        (ours.measured - theirs.measured, scale),
        (ours.transported - theirs.transported, scale),
        (ours.correction - theirs.correction, scale),
    ]
    if ours.out_curvature is not None and theirs.out_curvature is not None:
        pairs.append((ours.out_curvature - theirs.out_curvature, out_scale))
    return max(_total(d) / s if s > 0 else _total(d) for d, s in pairs)


def _total(t: Tensor) -> float:
    return float(t.abs().sum())
