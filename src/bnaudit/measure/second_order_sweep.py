"""The rows of Theorem 4.2 from the sweep, and what the sweep says of itself.

Two checks run along for every layer, and a layer that fails one goes to double backward:

- the loss's derivatives along g and G, carried forward, are |g|^2 and |G|^2 as backward has them;
- Hz is symmetric: <Hz(Jg), G> = <Hz G, Jg>, two different tangents there and back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from bnaudit.measure.curvature_rows import Products, curvature_rows
from bnaudit.measure.sweep.norm import project
from bnaudit.measure.sweep.plan import chunks, give_back, sweep_pays
from bnaudit.measure.sweep.play import play
from bnaudit.measure.sweep.run import prepare_tape
from bnaudit.measure.theory import first_order
from bnaudit.records.layer import ForwardMode
from bnaudit.records.values import Skipped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from bnaudit.measure.curvature_rows import Rows, Totals
    from bnaudit.measure.moments import Moments
    from bnaudit.measure.probe import LayerRecord
    from bnaudit.measure.session import Session
    from bnaudit.measure.sweep.norm import Norm
    from bnaudit.measure.sweep.play import Site
    from bnaudit.measure.sweep.run import Prepared
    from bnaudit.progress import Progress

Key = tuple[str, int]

_SLOPE = {torch.float64: 1e-6, torch.float32: 2e-2}
_SYMMETRY = {torch.float64: 1e-8, torch.float32: 1e-3}


@dataclass(slots=True)
class Swept:
    """What the sweep measured.

    Attributes:
        rows: by call, of full products or their totals alone; absent where the layer was not swept.
        forward_modes: by call, where it was.
        obstacles: why not, where it was not.
    """

    rows: dict[Key, Rows | Totals | Skipped] = field(default_factory=dict)
    forward_modes: dict[Key, ForwardMode | Skipped] = field(default_factory=dict)
    obstacles: dict[Key, str] = field(default_factory=dict)


def sweep_rows(
    session: Session,
    records: Mapping[Key, LayerRecord],
    keys: Sequence[Key],
    memory: int | None,
    progress: Progress,
    *,
    always: bool = False,
) -> Swept:
    """Sweeps the layers that can be, chunk by chunk.

    Args:
        session: the model and its batches.
        records: first order of the layers on the first batch.
        keys: the layers.
        memory: bytes that the tangents may take; None for a share of what is free.
        progress: told of each layer.
        always: also where double backward is estimated to be cheaper.
    """
    swept = Swept()
    prepared = prepared_for(session, records, keys, swept, always=always)
    if prepared is None:
        return swept
    for chunk in chunks(prepared, memory):
        give_back(session.placed.device)
        _sweep_chunk(prepared, chunk, records, swept)
        for _ in chunk:
            progress.advance()
    return swept


def prepared_for(
    session: Session,
    records: Mapping[Key, LayerRecord],
    keys: Sequence[Key],
    swept: Swept,
    *,
    always: bool,
    back: bool = True,
) -> Prepared | None:
    """The tape, or None where no layer is swept; `swept` is told why.

    Args:
        session: the model and its batches.
        records: first order of the layers.
        keys: the layers.
        swept: takes the obstacles.
        always: also where double backward is estimated to be cheaper.
        back: whether the tape is also walked backwards.
    """
    alive = [k for k in keys if records[k].moments is not None]
    try:
        prepared = prepare_tape(session, alive)
    except RuntimeError as error:
        first = next(iter(str(error).splitlines()), "unknown error")
        swept.obstacles = dict.fromkeys(keys, f"the model cannot be recorded: {first[:160]}")
        return None
    swept.obstacles = dict(prepared.obstacles)
    if not always and not sweep_pays(prepared, back=back):
        reason = "double backward is cheaper for this model"
        swept.obstacles |= {s.key: reason for s in prepared.sites if s.key not in swept.obstacles}
        return None
    return prepared


def _sweep_chunk(
    prepared: Prepared, chunk: Sequence[Site], records: Mapping[Key, LayerRecord], swept: Swept
) -> None:
    def returned(site: Site, hz_jg: Tensor, hz_big_g: Tensor) -> None:
        record = records[site.key]
        products, asymmetry = _products(site.norm, record, hz_jg, hz_big_g)
        if not asymmetry <= _SYMMETRY[record.dtype]:
            swept.obstacles[site.key] = f"its Hessian came out asymmetric by {asymmetry:.1e}"
            return
        moments = moments_of(record)
        channels = first_order(moments, record.gamma, record.eps, record.m)
        swept.rows[site.key] = curvature_rows(products, moments, channels, record)

    slopes = play(prepared.tape, prepared.dead, chunk, returned)
    for i, site in enumerate(chunk):
        along_g, along_big_g = slopes[2 * i : 2 * i + 2].double().tolist()
        judge_slopes(site.key, records[site.key], along_g, along_big_g, swept)


def moments_of(record: LayerRecord) -> Moments:
    """Of a layer that is swept, which has them."""
    if record.moments is None:
        raise AssertionError("layers without moments are not swept")
    return record.moments


def judge_slopes(
    key: Key, record: LayerRecord, along_g: float, along_big_g: float, swept: Swept
) -> None:
    """Compares the slopes with the squared norms that backward found."""
    channels = first_order(moments_of(record), record.gamma, record.eps, record.m)
    g_sq, big_g_sq = float(channels.grad_in_sq.sum()), float(channels.grad_out_sq.sum())
    if g_sq == 0:
        swept.rows[key] = Skipped("the gradient at this layer is zero")
        swept.forward_modes[key] = Skipped("the gradient at this layer is zero")
        return
    predicted = float((channels.predicted_sq.sum() / channels.grad_out_sq.sum()).sqrt())
    if along_g > 0 and along_big_g > 0:
        measured = (along_g / along_big_g) ** 0.5
        error = abs(measured - predicted) / predicted if predicted else float("inf")
        swept.forward_modes[key] = ForwardMode(measured, predicted, error)
    else:
        swept.forward_modes[key] = Skipped("the loss falls along its own gradient in forward mode")
    off = max(abs(along_g / g_sq - 1), abs(along_big_g / big_g_sq - 1))
    if not off <= _SLOPE[record.dtype]:
        swept.rows.pop(key, None)
        swept.obstacles[key] = f"the loss's slope in forward mode is off by {off:.1e}"


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
