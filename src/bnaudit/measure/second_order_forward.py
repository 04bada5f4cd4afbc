"""A layer's sums of Theorem 4.2 from the sweep forwards alone: no full Hessian-vector product is formed.

Jg is born behind each BatchNorm, and for the bound D^2 G and G besides. What curves behind it adds to
(Jg)'Hz(Jg), G'HzG and (D^2 G)'HzG, which is sum_j D_j^2 G_j'(Hz G)_j. Values by channel need Hz G itself.
The layer's own BatchNorm adds T(g), in closed form. A check runs along, by which a layer goes to double
backward: the loss's slope along g, carried forwards past the same operators, is the |g|^2 of backward.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.measure.curvature_rows import Totals
from bnaudit.measure.curvature_summary import TOLERANCE
from bnaudit.measure.detail import Detail
from bnaudit.measure.sweep.form import ALL, ALONG_G
from bnaudit.measure.sweep.forwards import carry_forwards
from bnaudit.measure.swept import judge_slopes, moments_of
from bnaudit.measure.theory import first_order, own_curvature

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from bnaudit.measure.probe import LayerRecord
    from bnaudit.measure.sweep.play import Site
    from bnaudit.measure.sweep.run import Prepared
    from bnaudit.measure.swept import Swept
    from bnaudit.measure.theory import FirstOrderChannels

Key = tuple[str, int]


def sweep_totals(
    prepared: Prepared,
    sites: Sequence[Site],
    records: Mapping[Key, LayerRecord],
    swept: Swept,
    detail: Detail,
) -> None:
    """Sweeps some layers forwards.

    Args:
        prepared: the tape.
        sites: the layers, in execution order.
        records: their first order.
        swept: takes what is found.
        detail: whether the bound is wanted.
    """
    pairs = ALONG_G if detail is Detail.CURVATURE else ALL
    carried = carry_forwards(prepared.tape, prepared.dead, sites, pairs)
    for site, slopes, forms in zip(sites, carried.slopes, carried.forms, strict=True):
        record = records[site.key]
        channels = first_order(moments_of(record), record.gamma, record.eps, record.m)
        found, slope_off = _totals(record, channels, slopes, forms)
        swept.rows[site.key] = found
        along_big_g = float(slopes[-1]) if pairs is ALL else None
        judge_slopes(site.key, record, channels, float(slopes[0]), along_big_g, swept)
        swept_well = slope_off <= TOLERANCE.get(record.dtype, 0.0)
        if isinstance(swept.rows.get(site.key), Totals) and not swept_well:
            swept.refuse(site.key, f"the loss's slope in forward mode is off by {slope_off:.1e}")


def _totals(
    record: LayerRecord, channels: FirstOrderChannels, slopes: Tensor, forms: Tensor
) -> tuple[Totals, float]:
    """The sums, and by how much the loss's slope along g is off, relative to |D||G| |g|."""
    g_sq = float(channels.grad_in_sq.sum())
    reference = float((channels.gain**2 * channels.grad_out_sq).sum().sqrt()) * g_sq**0.5
    slope_off = abs(float(slopes[0]) - g_sq) / reference if reference else 0.0
    own = own_curvature(moments_of(record), channels, record.gamma, record.m).sum()
    transported, *at_output = forms
    found = Totals(
        measured=transported + own,
        transported=transported,
        correction=own,
        out_curvature=at_output[0] if at_output else None,
        bound=at_output[1] + own if at_output else None,
        residual=slope_off,
    )
    return found, slope_off
