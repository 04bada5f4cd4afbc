"""Second order: Theorem 4.2 as an equality, by one sweep for all layers or by double backward.

Source: Santurkar, Tsipras, Ilyas, Madry, "How Does Batch Normalization Help Optimization?", NeurIPS
2018, arXiv 1805.11604. For any direction v at the layer's input x, per channel, with
w = v - mean v, p = <xhat,v>/m, D = gamma/sigma, s = <xhat,G>:

    Jv      = D (w - xhat p)
    v'Hx v  = (Jv)'Hz(Jv) + sum_c T_c(v)
    T_c(v)  = gamma/sigma^2 (-2 p <G,w> + 3 p^2 s - s |w|^2/m)
    T_c(g)  = gamma s/(m sigma^2) (-(1 + 2 leak) |g|^2 + D^2 leak^2 s^2/m)

It holds for each channel's row by itself. The theorem as it is usually stated has G'HzG in place of
(Jg)'Hz(Jg)/D^2; that is an assumption on Hz, evaluated here and reported as holding or not. Needed are
Hz(Jg) and Hz G at every layer, or their products alone: `sweep` has them for all layers from one pass,
`second_order_double` layer by layer. Where a layer cannot be swept, or many operators without a rule make
double backward cheaper, the second way is taken; the record says which.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from bnaudit.errors import RunError
from bnaudit.measure.collect import BATCH_ONLY, first_order_records, measurable
from bnaudit.measure.curvature import Rows, Totals, second_order_record, totals
from bnaudit.measure.finite_difference import spread_over_depth
from bnaudit.measure.second_order_double import double_backward_rows
from bnaudit.measure.second_order_sweep import sweep_layers
from bnaudit.measure.session import widened
from bnaudit.measure.sweep.plan import Detail
from bnaudit.records.curvature import (
    DOUBLE_BACKWARD,
    HESSIAN_VECTOR,
    SWEEP,
    SecondOrder,
    Verification,
)
from bnaudit.records.values import Skipped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from bnaudit.measure.collect import Collected, Found, LayerRecord
    from bnaudit.measure.session import Session
    from bnaudit.options import AuditOptions
    from bnaudit.progress import Progress
    from bnaudit.records.layer import ForwardMode

Key = tuple[str, int]


_METHOD = {Detail.CURVATURE: SWEEP, Detail.BOUND: SWEEP, Detail.CHANNELS: HESSIAN_VECTOR}


def measure_second_order(
    session: Session, collected: Collected, options: AuditOptions, progress: Progress
) -> Found:
    """Theorem 4.2 at each layer, and the first order once more in forward mode, on the first batch.

    Args:
        session: the model and its batches; call it inside `untouched`.
        collected: the first-order pass, which gives the moments of each layer.
        options: the mode, what is wanted of a layer, and how many layers to verify.
        progress: told of each layer.
    """
    keys = measurable(collected)
    if options.mode == "running":
        nothing = dict.fromkeys(keys, BATCH_ONLY)
        return {"second_order": nothing, "forward_mode": nothing}
    detail = Detail.BOUND if "second_order_bound" in options.metrics else Detail.CURVATURE
    detail = Detail.CHANNELS if options.channels else detail
    records, forward_modes = _curvatures(
        session, collected, keys, progress, detail=detail, memory=options.memory
    )
    count, memory = options.verify_second_order, options.memory
    measured = [key for key in keys if isinstance(records[key], SecondOrder)]
    verified = verify_second_order(session, measured, count, memory, progress, detail=detail)
    for key, verification in verified.items():
        record = records[key]
        if isinstance(record, SecondOrder):
            records[key] = replace(record, verification=verification)
    return {"second_order": records, "forward_mode": forward_modes}


def _curvatures(
    session: Session,
    collected: Collected,
    keys: Sequence[Key],
    progress: Progress,
    *,
    detail: Detail,
    memory: int | None,
) -> tuple[dict[Key, SecondOrder | Skipped], dict[Key, ForwardMode | Skipped]]:
    """Records and forward modes: by the sweep, and by double backward what cannot be swept."""
    progress.stage("second order", len(keys))
    recorded, collected.recorded = collected.recorded, None
    records = {r.key: r for r in collected.batches[0]}
    types = {key: str(records[key].dtype).removeprefix("torch.") for key in keys}
    half = {
        key: Skipped(f"{name} cannot carry second derivatives")
        for key, name in types.items()
        if name in {"float16", "bfloat16"}
    }
    keys = [key for key in keys if key not in half]
    if not keys:
        return dict(half), dict(half)
    swept = sweep_layers(session, records, keys, detail, memory, progress, recorded=recorded)
    del recorded
    rest = [key for key in keys if key not in swept.rows]
    bound = detail >= Detail.BOUND
    doubled = double_backward_rows(session, records, rest, progress, bound=bound) if rest else {}
    # What was refused is no measurement, though a slope came out of it.
    refused = {key: Skipped(f"not swept: {reason}") for key, reason in swept.obstacles.items()}
    slopes: dict[Key, ForwardMode | Skipped] = {**swept.forward_modes, **refused}
    unreached = Skipped("no gradient reaches this layer")
    forward_modes = {**half, **{key: slopes.get(key, unreached) for key in keys}}
    found: dict[Key, SecondOrder | Skipped] = {**half}
    for key in keys:
        by_sweep = key in swept.rows
        values, record = swept.rows[key] if by_sweep else doubled[key], records[key]
        if isinstance(values, Skipped):
            found[key] = values
            continue
        channels = record.evaluated()
        if isinstance(values, Rows):
            values = totals(values, channels.gain**2)
        rows = detail is Detail.CHANNELS
        order = second_order_record(values, channels, record.dtype, keep_rows=rows)
        method = _METHOD[detail] if by_sweep else DOUBLE_BACKWARD
        found[key] = order if isinstance(order, Skipped) else replace(order, method=method)
    return found, forward_modes


VERIFIED_TO = 1e-6
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
        memory: bytes that the sweep's tangents may take; None for a share of what is free.
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
            found[key] = Verification(_difference(ours, theirs, records[key]), VERIFIED_TO)
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
    channels = record.evaluated()
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
