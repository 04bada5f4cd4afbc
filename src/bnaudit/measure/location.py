"""Where the gap between running and batch statistics comes from, layer by layer, on one batch.

Let all layers go together, t from 0 to 1, from the running statistics to those that the batch has when every
layer normalises with its own:

    mu(t) = mu_run + t (mu_B - mu_run),    ln v(t) = ln v_run + t (ln v_B - ln v_run),    v = var + eps,

so that L(0) is the deployed loss and L(1) that with batch statistics. The gap is the sum over the layers of

    share = - int_0^1 <dL/dmu, mu_B - mu_run> + <dL/d ln v, ln v_B - ln v_run> dt

(Aumann and Shapley 1974; "integrated gradients", Sundararajan, Taly, Yan 2017). In evaluation mode
z = gamma (x - mu)/sigma + beta with sigma^2 = v, hence

    dL/dmu = -(gamma/sigma) sum G = -(gamma/sigma) dL/dbeta,
    dL/d ln v = -1/2 sum G (z - beta) = -(gamma/2) dL/dgamma:

one backward pass gives all layers' derivatives, from BatchNorm's own kernels. The integral is taken by
Gauss-Radau's rule with four points, t = 0 among them, exact for polynomials of degree 6 in t; what the shares
leave of the gap is said as the rest.

Without labels the loss says nothing: in its place stands the squared distance of the outputs to those with
batch statistics, over what these differ from row to row, which is 0 at t = 1.

The layer to mend is another question: a layer behind one that is wrong may take off as much, since it
normalises what arrives. So single layers are switched to the statistics of what arrives at them: all of a
small network, else those with the largest shares, and those for which the pass at t = 0 promises most,
-<dL/dmu, mu - mu_run> - <dL/d ln v, ln v - ln v_run> with the statistics that arrive there.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import isfinite
from typing import TYPE_CHECKING

import torch

from bnaudit.data.decisions import distance, squared_distance
from bnaudit.data.loss import outputs_of
from bnaudit.data.outputs import primary
from bnaudit.measure.explained import Trial, explanations
from bnaudit.measure.moments import channel_moments
from bnaudit.measure.preparation import Layer, pooled, prepared_otherwise
from bnaudit.records.deployment import Evidence, LayerGap, Located
from bnaudit.records.values import Skipped
from bnaudit.tap.call import as_given, normalise
from bnaudit.tap.dispatch import tapped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from bnaudit.data.batch import Batch
    from bnaudit.measure.modes import Modes, Statistics
    from bnaudit.tap.call import BatchNormCall

Key = tuple[str, int]

_NODES = (0.0, 0.212340538239153, 0.590533135559265, 0.911412040487296)
_WEIGHTS = (0.0625, 0.328844319980060, 0.388193468843172, 0.220462211176768)
"""Gauss and Radau's on [0, 1], with the left end."""

_ALL, _BY_SHARE, _BY_PROMISE = 8, 2, 2
"""Networks of so many layers are switched layer by layer; of others so many by each of the two rankings."""


@dataclass(frozen=True, slots=True)
class Location:
    """The gap of one batch, layer by layer.

    Attributes:
        modes: runs it.
        index: which batch.
        gap: its loss with running statistics less that with its own; without labels the squared distance.
        reference: without labels, its outputs with its own statistics.
    """

    modes: Modes
    index: int
    gap: float
    reference: Tensor | None = None

    def found(self) -> tuple[Located | Skipped, Mapping[Key, LayerGap]]:
        """The records of the gap and of each layer's part; the layers have none where it cannot be told."""
        count = len(self.modes.session.batches.items)
        every = [self.modes.statistics(index) for index in range(count)]
        own = every[self.index]
        passes = [self._pass({k: s for k, (_, s) in own.items()}, t) for t in _NODES]
        impossible = next((p.impossible for p in passes if p.impossible), None)
        if impossible is not None:
            return Skipped(impossible), {}
        shares: dict[Key, float] = {}
        for path, weight in zip(passes, _WEIGHTS, strict=True):
            for at in path.points:
                shares[at.key] = shares.get(at.key, 0.0) - weight * at.slope(
                    at.mean_step, at.log_step
                )
        if not all(map(isfinite, shares.values())):
            reason = "the loss is not finite between the running and the batch's statistics"
            return Skipped(reason), {}
        deployed = passes[0].loss
        alone: dict[str, float | Skipped] = {}
        for name in self._worth_switching(shares, passes[0]):
            less = deployed - self._loss(_own_at(name))
            alone[name] = less if isfinite(less) else Skipped("the loss is not finite then")
        located = Located(
            batch=self.index + 1,
            deployed=deployed,
            gap=self.gap,
            rest=self.gap - sum(shares.values()),
            recomputed=self._recomputed(every),
            evidence=self._explained(every, shares, deployed),
        )
        unmeasured = Skipped("not among the layers that promise most")
        return located, {
            key: LayerGap(share, alone.get(key[0], unmeasured)) for key, share in shares.items()
        }

    def _worth_switching(self, shares: Mapping[Key, float], start: _Path) -> list[str]:
        """Names of the layers; see the top of the file."""
        names = list(dict.fromkeys(name for name, _ in shares))
        if len(names) <= _ALL:
            return names
        promised: dict[Key, float] = {at.key: at.promise for at in start.points}
        chosen: list[str] = []
        for ranking, count in ((shares, _BY_SHARE), (promised, _BY_PROMISE)):
            best = sorted(names, key=lambda n: -sum(v for k, v in ranking.items() if k[0] == n))
            chosen += [n for n in best if n not in chosen][:count]
        return chosen

    def _loss(self, handler: Callable[[BatchNormCall], Tensor]) -> float:
        batch = self.modes.session.batches.items[self.index]
        seen = self.modes.run(batch, self.index, "running", handler)
        if self.reference is None:
            return seen.loss
        return distance(seen.output.double(), self.reference) ** 2

    def _with_others(self, other: Batch) -> float:
        """The same for other inputs, whose outputs with their own statistics are others too."""
        running = self.modes.run(other, self.index, "running")
        if self.reference is None:
            return running.loss
        own = self.modes.run(other, self.index, "batch")
        return distance(running.output.double(), own.output.double()) ** 2

    def _pass(self, own: Mapping[Key, Statistics], t: float) -> _Path:
        """The loss at a point of the path, with its derivatives along every layer's statistics."""
        session = self.modes.session
        path = _Path(own, t)
        with tapped(session.placed.namer, path) as tap, torch.enable_grad():
            tap.start()
            batch = session.batches.items[self.index]
            output, loss = session.execution.both(batch, self.index)
            if self.reference is not None:
                loss = squared_distance(primary(outputs_of(output))[1], self.reference)
            if path.impossible is None:
                leaves = [leaf for at in path.points for leaf in (at.gamma, at.beta)]
                gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
                for place, at in enumerate(path.points):
                    at.takes(*gradients[2 * place : 2 * place + 2])
        path.loss = float(loss.detach())
        return path

    def _explained(
        self,
        every: Sequence[Mapping[Key, tuple[int, Statistics]]],
        shares: Mapping[Key, float],
        deployed: float,
    ) -> tuple[Evidence, ...]:
        records = {r.key: r for r in self.modes.records(0)}  # the ones that know who reads whom
        layers = {
            key: Layer(
                (r.running_mean, r.running_var),
                r.eps,
                first=not r.reads if r.reads is not None else key == next(iter(shares)),
            )
            for key in shares
            if (r := records.get(key)) is not None
            and r.running_mean is not None
            and r.running_var is not None
        }
        batch = self.modes.session.batches.items[self.index]
        found = prepared_otherwise(self.modes.session, self.modes.collected, self.modes.options)
        mended = batch
        for otherwise in found:
            mended = otherwise.mended(mended)
        trial = Trial(
            batch,
            self.gap,
            deployed,
            {key: max(share, 0.0) for key, share in shares.items()},
            {key: pooled([found[key] for found in every if key in found]) for key in layers},
            (found[0].evidence, mended) if found else None,
            self._with_others,
            lambda other: {k: s for k, (_, s) in self.modes.noted(other, self.index).items()},
            lambda handler: self.modes.run(batch, self.index, "batch", handler),
        )
        return explanations(layers, trial)

    def _recomputed(self, every: Sequence[Mapping[Key, tuple[int, Statistics]]]) -> float | Skipped:
        """The loss of the batch with statistics pooled over all audited batches, and over a layer's calls."""
        values: dict[str, list[tuple[int, Statistics]]] = {}
        for found in every:
            for (name, _), part in found.items():
                values.setdefault(name, []).append(part)
        whole = {name: pooled(parts) for name, parts in values.items()}

        def mended(call: BatchNormCall) -> Tensor:
            if call.running_var is None or call.name not in whole:
                return normalise(call, call.x, "running")
            mean, var = (t.to(call.running_var) for t in whole[call.name])
            return normalise(replace(call, running_mean=mean, running_var=var), call.x, "running")

        loss = self._loss(mended)
        return loss if isfinite(loss) else Skipped("the loss is not finite with them")


def _own_at(name: str) -> Callable[[BatchNormCall], Tensor]:
    """Batch statistics at one layer, the running ones elsewhere."""
    return lambda call: normalise(call, call.x, "batch" if call.name == name else "running")


@dataclass(slots=True)
class _Point:
    """One call at a point of the path.

    Attributes:
        key: which call.
        gamma, beta: the leaves that are differentiated.
        gain: gamma/sigma.
        mean_step, log_step: how far its statistics go in all.
        arriving: how far they would go to those of what arrives; at t = 0 alone.
        of_mean, of_log: dL/dmu and dL/d ln v, (C,).
    """

    key: Key
    gamma: Tensor
    beta: Tensor
    gain: Tensor
    mean_step: Tensor
    log_step: Tensor
    arriving: tuple[Tensor, Tensor] | None
    of_mean: Tensor = field(default_factory=lambda: torch.zeros(()))
    of_log: Tensor = field(default_factory=lambda: torch.zeros(()))

    def takes(self, of_gamma: Tensor | None, of_beta: Tensor | None) -> None:
        """The derivatives of the loss to the leaves."""
        along, total = (
            torch.zeros_like(self.gain) if g is None else g.to("cpu", torch.float64)
            for g in (of_gamma, of_beta)
        )
        self.of_mean = -self.gain * total
        self.of_log = -self.gamma.detach().to("cpu", torch.float64) * along / 2

    def slope(self, mean_step: Tensor, log_step: Tensor) -> float:
        """The derivative of the loss along these steps of the statistics."""
        return float((self.of_mean * mean_step + self.of_log * log_step).sum())

    @property
    def promise(self) -> float:
        """What the statistics of what arrives would take off, if the loss were linear."""
        return 0.0 if self.arriving is None else -self.slope(*self.arriving)


@dataclass(slots=True)
class _Path:
    """Normalises with statistics between the running (t = 0) and the batch's (t = 1)."""

    own: Mapping[Key, Statistics]
    t: float
    points: list[_Point] = field(default_factory=list)
    impossible: str | None = None
    loss: float = 0.0

    def __call__(self, call: BatchNormCall) -> Tensor:
        own = self.own.get(call.key)
        if own is None or call.running_mean is None or call.running_var is None:
            return normalise(call, call.x, "running")
        stored = call.running_var.to("cpu", torch.float64) + call.eps
        if not bool((stored > 0).all() and stored.isfinite().all()):
            self.impossible = f"the running variance of {call.name} is negative or not finite"
            return normalise(call, call.x, "running")
        mean = call.running_mean.to("cpu", torch.float64)
        mean_step, log_step = own[0] - mean, ((own[1] + call.eps) / stored).log()
        v = stored * (self.t * log_step).exp()
        gamma, beta = (
            fill if given is None else given.detach().clone()
            for given, fill in (
                (call.gamma, torch.ones_like(call.running_var)),
                (call.beta, torch.zeros_like(call.running_var)),
            )
        )
        gain = gamma.to("cpu", torch.float64) / v.sqrt()
        arriving = None
        if self.t == 0:
            here = channel_moments(call.x.detach(), None, None)[0]
            arriving = here.mean - mean, ((here.var + call.eps) / stored).log()
        point = _Point(
            call.key,
            gamma.requires_grad_(),
            beta.requires_grad_(),
            gain,
            mean_step,
            log_step,
            arriving,
        )
        self.points.append(point)
        at = replace(
            call,
            gamma=gamma,
            beta=beta,
            running_mean=(mean + self.t * mean_step).to(call.running_mean),
            running_var=(v - call.eps).to(call.running_var),
        )
        return as_given(at)
