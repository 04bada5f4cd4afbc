"""Theorem 4.2 at a model's layers from the sweep, chunk by chunk from the loss's end.

Forwards alone no full Hessian-vector product is formed: Jg is born behind each BatchNorm, and for the bound
D^2 G and G besides. What curves behind it adds to (Jg)'Hz(Jg), G'HzG and (D^2 G)'HzG, which is
sum_j D_j^2 G_j'(Hz G)_j. Values by channel need Hz G itself, and are swept there and back. The layer's own
BatchNorm adds T(g), in closed form.

Checks run along, and a layer that fails one goes to double backward: the loss's slopes along g and G, carried
forwards past the same operators, are the |g|^2 and |G|^2 of backward; and Hz, where it was formed, is
symmetric: <Hz(Jg), G> = <Hz G, Jg>, two different tangents there and back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from bnaudit.errors import RunError, first_line
from bnaudit.measure.collect import first_order_records
from bnaudit.measure.curvature import TOLERANCE, Products, Totals, curvature_rows
from bnaudit.measure.second_order_double import OUT_OF_GRAPH
from bnaudit.measure.session import widened
from bnaudit.measure.sweep.closed_form import project
from bnaudit.measure.sweep.plan import Detail, chunks, expected, give_back, sweep_pays
from bnaudit.measure.sweep.play import carry_forwards, play
from bnaudit.measure.sweep.run import prepare_tape
from bnaudit.measure.sweep.stack import ALL, ALONG_G
from bnaudit.measure.theory import own_curvature
from bnaudit.records.layer import ForwardMode
from bnaudit.records.values import Skipped
from bnaudit.tap.call import pulled_back

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from bnaudit.measure.collect import LayerRecord
    from bnaudit.measure.curvature import Rows
    from bnaudit.measure.moments import Moments
    from bnaudit.measure.session import Session
    from bnaudit.measure.sweep.closed_form import Norm
    from bnaudit.measure.sweep.plan import Prepared
    from bnaudit.measure.sweep.play import Site
    from bnaudit.measure.sweep.record import Recorded
    from bnaudit.measure.theory import FirstOrderChannels
    from bnaudit.progress import Progress

Key = tuple[str, int]


_SLOPE = {torch.float64: 1e-6, torch.float32: 2e-2}


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

    def skip(self, key: Key, reason: Skipped) -> None:
        """Neither order of this layer has a number."""
        self.rows[key] = self.forward_modes[key] = reason
        self.obstacles.pop(key, None)

    def refuse(self, key: Key, reason: str) -> None:
        """What was found of this layer is not to be trusted: it goes another way."""
        self.rows.pop(key, None)
        self.obstacles[key] = reason


def moments_of(record: LayerRecord) -> Moments:
    """Of a layer that is swept, which has them."""
    if record.moments is None:
        raise AssertionError("layers without moments are not swept")
    return record.moments


def judge_slopes(
    key: Key,
    record: LayerRecord,
    channels: FirstOrderChannels,
    along_g: float,
    along_big_g: float | None,
    swept: Swept,
) -> None:
    """Compares the loss's slopes along g and G with the squared norms that backward found.

    Args:
        key: of the layer.
        record: what was recorded of it.
        channels: its first order.
        along_g: the slope along g, carried forwards.
        along_big_g: along G, where it was carried.
        swept: takes the verdict.
    """
    g_sq, big_g_sq = float(channels.grad_in_sq.sum()), float(channels.grad_out_sq.sum())
    if g_sq == 0:
        swept.skip(key, Skipped("the gradient at this layer is zero"))
        return
    if along_g > 0:
        measured = (along_g / big_g_sq) ** 0.5
        predicted = float((channels.predicted_sq.sum() / big_g_sq).sqrt())
        error = abs(measured - predicted) / predicted if predicted else float("inf")
        swept.forward_modes[key] = ForwardMode(measured, predicted, error)
    else:
        reason = f"the loss's slope along its own gradient is {along_g:.1e} in forward mode"
        swept.forward_modes[key] = Skipped(reason)
    off = abs(along_g / g_sq - 1)
    if along_big_g is not None:
        off = max(off, abs(along_big_g / big_g_sq - 1))
    if not off <= _SLOPE[record.dtype]:
        swept.refuse(key, f"the loss's slope in forward mode is off by {off:.1e}")


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
        channels = record.evaluated()
        g_sq = float(channels.grad_in_sq.sum())
        reference = float((channels.gain**2 * channels.grad_out_sq).sum().sqrt()) * g_sq**0.5
        slope_off = abs(float(slopes[0]) - g_sq) / reference if reference else 0.0
        own = own_curvature(moments_of(record), channels, record.gamma, record.m).sum()
        transported, *at_output = forms
        swept.rows[site.key] = Totals(
            measured=transported + own,
            transported=transported,
            correction=own,
            out_curvature=at_output[0] if at_output else None,
            bound=at_output[1] + own if at_output else None,
            residual=slope_off,
        )
        along_big_g = float(slopes[-1]) if pairs is ALL else None
        judge_slopes(site.key, record, channels, float(slopes[0]), along_big_g, swept)
        swept_well = slope_off <= TOLERANCE.get(record.dtype, 0.0)
        if isinstance(swept.rows.get(site.key), Totals) and not swept_well:
            swept.refuse(site.key, f"the loss's slope in forward mode is off by {slope_off:.1e}")


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
        norm = site.norm
        big_g = norm.grad
        g = project(big_g[None], norm)
        jg = project(g, norm)[0]
        hx_g = _at_input(norm, record.eps, g[0], hz_jg)
        one, other = float((hz_jg * big_g).sum()), float((hz_big_g * jg).sum())
        scale = float(hz_jg.norm() * big_g.norm() + hz_big_g.norm() * jg.norm())
        asymmetry = abs(one - other) / scale if scale > 0 else 0.0
        if not asymmetry <= _SYMMETRY[record.dtype]:
            swept.refuse(site.key, f"its Hessian came out asymmetric by {asymmetry:.1e}")
            return
        moments = moments_of(record)
        channels = record.evaluated()
        products = Products(norm.xhat, g[0], big_g, hx_g, hz_jg, hz_big_g)
        swept.rows[site.key] = curvature_rows(products, moments, channels, record)

    slopes = play(prepared.tape, prepared.dead, sites, returned)
    for i, site in enumerate(sites):
        along_g, along_big_g = slopes[2 * i : 2 * i + 2].double().tolist()
        record = records[site.key]
        channels = record.evaluated()
        judge_slopes(site.key, record, channels, along_g, along_big_g, swept)


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
        (pulled,) = pulled_back([z], [x], [big_g], create=True)
        if pulled is None:
            raise AssertionError("BatchNorm reads its input")
        (found,) = pulled_back([z, pulled], [x], [hz_jg, g])
    return torch.zeros_like(x) if found is None else found


_LOST = 0.5
"""Of |G|^2: where two precisions differ by more, not even the leading digit is the gradient's."""


def lost_in_rounding(
    session: Session, records: Mapping[Key, LayerRecord], keys: Sequence[Key]
) -> dict[Key, Skipped]:
    """The layers whose gradient is what rounding left of terms that cancel: float64 has another one.

    Second derivatives along such a direction are noise, however they are computed. Networks with
    constant weights are of this kind, and those whose output saturates.

    Args:
        session: the model and its batches.
        records: first order of the layers in the precision of the run.
        keys: the layers that are in doubt.
    """
    doubtful = [key for key in keys if records[key].dtype == torch.float32]
    if not doubtful:
        return {}
    try:
        with widened(session) as wide:
            exact = first_order_records(wide)
    except RunError:
        return {}
    reason = Skipped(
        "the gradient is what rounding left of cancelling terms: float64 has another one"
    )
    lost: dict[Key, Skipped] = {}
    for key in doubtful:
        one, other = records[key].moments, exact[key].moments if key in exact else None
        if one is not None and other is not None:
            ours, theirs = float(one.grad_out_sq.sum()), float(other.grad_out_sq.sum())
            if abs(ours - theirs) > _LOST * max(ours, theirs):
                lost[key] = reason
    return lost


_WAYS = {
    Detail.CURVATURE: sweep_totals,
    Detail.BOUND: sweep_totals,
    Detail.CHANNELS: sweep_rows,
}


_CHEAPER = "double backward is cheaper for this model"


_SHORTER = "--metrics first_order,statistics leaves it out, --layers PATTERN restricts it"


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
    if prepared is None:
        return swept
    if not always and not sweep_pays(prepared, detail):
        swept.obstacles = {site.key: _CHEAPER for site in prepared.sites} | swept.obstacles
        return swept
    known_rounding = False
    groups = chunks(prepared, memory, detail)
    seconds, shares = expected(prepared, detail)
    progress.expect(seconds, _SHORTER)
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
        progress.advance(sum(shares[site.key] for site in chunk))
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
