"""The rows of Theorem 4.2 from full Hessian-vector products, by the sweep there and back.

Two checks run along for every layer, and a layer that fails one goes to double backward:

- the loss's derivatives along g and G, carried forward, are |g|^2 and |G|^2 as backward has them;
- Hz is symmetric: <Hz(Jg), G> = <Hz G, Jg>, two different tangents there and back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bnaudit.measure.curvature_rows import Products, curvature_rows
from bnaudit.measure.sweep.norm import project
from bnaudit.measure.sweep.play import play
from bnaudit.measure.swept import judge_slopes, moments_of
from bnaudit.measure.theory import first_order

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from bnaudit.measure.detail import Detail
    from bnaudit.measure.probe import LayerRecord
    from bnaudit.measure.sweep.norm import Norm
    from bnaudit.measure.sweep.play import Site
    from bnaudit.measure.sweep.run import Prepared
    from bnaudit.measure.swept import Swept

Key = tuple[str, int]

_SYMMETRY = {torch.float64: 1e-8, torch.float32: 1e-3}


def sweep_rows(
    prepared: Prepared,
    sites: Sequence[Site],
    records: Mapping[Key, LayerRecord],
    swept: Swept,
    _detail: Detail,
) -> None:
    """Sweeps some layers there and back.

    Args:
        prepared: the tape.
        sites: the layers, in execution order.
        records: their first order.
        swept: takes what is found.
    """

    def returned(site: Site, hz_jg: Tensor, hz_big_g: Tensor) -> None:
        record = records[site.key]
        products, asymmetry = _products(site.norm, record, hz_jg, hz_big_g)
        if not asymmetry <= _SYMMETRY[record.dtype]:
            swept.refuse(site.key, f"its Hessian came out asymmetric by {asymmetry:.1e}")
            return
        moments = moments_of(record)
        channels = first_order(moments, record.gamma, record.eps, record.m)
        swept.rows[site.key] = curvature_rows(products, moments, channels, record)

    slopes = play(prepared.tape, prepared.dead, sites, returned)
    for i, site in enumerate(sites):
        along_g, along_big_g = slopes[2 * i : 2 * i + 2].double().tolist()
        record = records[site.key]
        channels = first_order(moments_of(record), record.gamma, record.eps, record.m)
        judge_slopes(site.key, record, channels, along_g, along_big_g, swept)


def _products(
    norm: Norm, record: LayerRecord, hz_jg: Tensor, hz_big_g: Tensor
) -> tuple[Products, float]:
    """What the rows are made of, and by how much <Hz(Jg), G> and <Hz G, Jg> differ."""
    big_g = norm.grad
    g = project(big_g[None], norm)
    jg = project(g, norm)[0]
    hx_g = _at_input(norm, record.eps, g[0], hz_jg)
    one, other = float((hz_jg * big_g).sum()), float((hz_big_g * jg).sum())
    scale = float(hz_jg.norm() * big_g.norm() + hz_big_g.norm() * jg.norm())
    asymmetry = abs(one - other) / scale if scale > 0 else 0.0
    return Products(norm.xhat, g[0], big_g, hx_g, hz_jg, hz_big_g), asymmetry


def _at_input(norm: Norm, eps: float, g: Tensor, hz_jg: Tensor) -> Tensor:
    """Hx g = J'Hz(Jg) + the derivative of J'G along g, by autograd on the BatchNorm alone.

    The closed form says what it is; so that it is measured and not assumed, the layer's own part comes
    from PyTorch's backward and double backward of BatchNorm.
    """
    shape = [-1 if d == 1 else 1 for d in range(g.dim())]
    x = (norm.xhat / norm.rstd.view(shape)).requires_grad_()
    with torch.enable_grad():
        z = torch.ops.aten.native_batch_norm.default(
            x, norm.gamma, None, None, None, True, 0.0, eps
        )[0]
        big_g = norm.grad.detach().requires_grad_()
        (pulled,) = torch.autograd.grad(z, x, big_g, create_graph=True)
        (found,) = torch.autograd.grad([z, pulled], [x], [hz_jg, g])
    return found
