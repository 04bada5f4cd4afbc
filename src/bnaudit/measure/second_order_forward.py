"""A layer's sums of Theorem 4.2 from the sweep forwards alone: no full Hessian-vector product is formed.

Three directions are born behind each BatchNorm: Jg, D^2 G and G. What curves behind it adds to
(Jg)'Hz(Jg), G'HzG and (D^2 G)'HzG, which is sum_j D_j^2 G_j'(Hz G)_j. Values by channel need Hz G itself.
The layer's own BatchNorm adds T(g). A check runs along, by which a layer goes to double backward: the loss's
slope along g, carried forwards past the same operators, is the |g|^2 that backward found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bnaudit.measure.curvature_rows import Totals
from bnaudit.measure.curvature_summary import TOLERANCE
from bnaudit.measure.second_order_sweep import (
    Swept,
    judge_slopes,
    moments_of,
    prepared_for,
)
from bnaudit.measure.sweep.bent_norm import project_and_bend
from bnaudit.measure.sweep.forwards import ALL, ALONG_G, carry_forwards
from bnaudit.measure.sweep.norm import project
from bnaudit.measure.sweep.plan import chunks, give_back
from bnaudit.measure.theory import first_order

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from bnaudit.measure.probe import LayerRecord
    from bnaudit.measure.session import Session
    from bnaudit.measure.sweep.norm import Norm
    from bnaudit.progress import Progress

Key = tuple[str, int]


def sweep_totals(
    session: Session,
    records: Mapping[Key, LayerRecord],
    keys: Sequence[Key],
    memory: int | None,
    progress: Progress,
    *,
    always: bool = False,
) -> Swept:
    """Sweeps the layers that can be, chunk by chunk, forwards.

    Args:
        session: the model and its batches.
        records: first order of the layers on the first batch.
        keys: the layers.
        memory: bytes that the tangents may take; None for a share of what is free.
        progress: told of each layer.
        always: also where double backward is estimated to be cheaper.
    """
    swept = Swept()
    prepared = prepared_for(session, records, keys, swept, always=always, back=False)
    if prepared is None:
        return swept
    for chunk in chunks(prepared, memory, ALL.width, back=False):
        give_back(session.placed.device)
        carried = carry_forwards(prepared.tape, prepared.dead, chunk, ALL)
        for site, slopes, forms in zip(chunk, carried.slopes, carried.forms, strict=True):
            record = records[site.key]
            found, slope_off = _totals(site.norm, record, slopes, forms)
            swept.rows[site.key] = found
            judge_slopes(site.key, record, float(slopes[0]), float(slopes[-1]), swept)
            tolerance = TOLERANCE.get(record.dtype, 0.0)
            if isinstance(swept.rows.get(site.key), Totals) and not slope_off <= tolerance:
                del swept.rows[site.key]
                swept.obstacles[site.key] = (
                    f"the loss's slope in forward mode is off by {slope_off:.1e}"
                )
            progress.advance()
    return swept


def _totals(norm: Norm, record: LayerRecord, slopes: Tensor, forms: Tensor) -> tuple[Totals, float]:
    """The sums, and by how much the loss's slope along g is off, relative to |D||G| |g|."""
    channels = first_order(moments_of(record), record.gamma, record.eps, record.m)
    g_sq = float(channels.grad_in_sq.sum())
    reference = float((channels.gain**2 * channels.grad_out_sq).sum().sqrt()) * g_sq**0.5
    slope_off = abs(float(slopes[0]) - g_sq) / reference if reference else 0.0
    g = project(norm.grad[None], norm)
    own = project_and_bend(g, norm, torch.empty_like(g), None, ALONG_G)[0, 0].cpu().double()
    transported, out_curvature, scaled = forms
    found = Totals(
        measured=transported + own,
        transported=transported,
        correction=own,
        out_curvature=out_curvature,
        bound=scaled + own,
        residual=slope_off,
    )
    return found, slope_off
