"""The network as it is deployed: the loss with running statistics beside that with each batch's own.

    gap = L(running) - L(batch),   on the same rows

What a layer has to do with it is found on one batch. Let all layers go together, t from 0 to 1, from the
running statistics to those that the batch has when every layer normalises with its own:

    mu(t) = mu_run + t (mu_B - mu_run),    ln v(t) = ln v_run + t (ln v_B - ln v_run),    v = var + eps,

so that L(0) is the deployed loss and L(1) that with batch statistics. The gap is the sum over the layers of

    share = - int_0^1 <dL/dmu, mu_B - mu_run> + <dL/d ln v, ln v_B - ln v_run> dt

(Aumann and Shapley 1974; "integrated gradients", Sundararajan, Taly, Yan 2017). In evaluation mode
z = gamma (x - mu)/sigma + beta with sigma^2 = v, hence

    dL/dmu = -(gamma/sigma) sum G = -(gamma/sigma) dL/dbeta,
    dL/d ln v = -1/2 sum G (z - beta) = -(gamma/2) dL/dgamma:

one backward pass gives all layers' derivatives, from BatchNorm's own kernels. The integral is taken by
Gauss-Legendre's rule with four points, exact for polynomials of degree 7 in t; what the shares leave of the
gap is said as the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import isfinite, sqrt
from typing import TYPE_CHECKING, Any

import torch

from bnaudit.data.loss import outputs_of
from bnaudit.data.outputs import primary
from bnaudit.errors import RunError
from bnaudit.measure.drift import student_t
from bnaudit.measure.explained import Layer, Trial, explanations
from bnaudit.measure.moments import channel_moments
from bnaudit.records.deployment import Deployment, Estimate, Evidence, LayerGap, Located, Outcome
from bnaudit.records.values import Skipped
from bnaudit.tap.call import as_given, normalise
from bnaudit.tap.dispatch import tapped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from bnaudit.data.batch import Batch
    from bnaudit.measure.collect import Collected, Found
    from bnaudit.measure.session import Session
    from bnaudit.options import AuditOptions
    from bnaudit.progress import Progress
    from bnaudit.tap.call import BatchNormCall

Key = tuple[str, int]
Statistics = tuple["Tensor", "Tensor"]
"""Mean and variance, (C,) float64 on the CPU."""

_NODES = (0.06943184420297371, 0.33000947820757187, 0.6699905217924281, 0.9305681557970262)
_WEIGHTS = (0.17392742256872692, 0.32607257743127307, 0.32607257743127307, 0.17392742256872692)
"""Gauss and Legendre's on [0, 1]."""

_BUDGET = 2e8
"""Values that further batches may send through BatchNorm layers, in each mode: some seconds on one core. A
count and not a time, so that equal runs give equal numbers."""

_WORTH = 0.05
"""Of the loss with batch statistics: a gap below is not located."""

_CANDIDATES, _OF_THE_LARGEST = 3, 0.25

_UNTRACKED = Skipped("no layer keeps running statistics: every batch is normalised by its own")
_NO_CLASSES = Skipped("the labels are no classes")


def measure_deployment(
    session: Session, collected: Collected, options: AuditOptions, progress: Progress
) -> Found:
    """Losses, decisions and outputs of both modes, and each layer's share where there is a gap.

    Args:
        session: the model and its batches.
        collected: the first-order pass, which ran the audited batches in one of the modes.
        options: which mode that was.
        progress: told of each batch.
    """
    found: Deployment | Skipped = Skipped(
        "made-up inputs say nothing of the deployed network (pass --data)"
    )
    shares: Mapping[Key, LayerGap] = {}
    if session.batches.info.source not in {"synthetic", "example"}:
        try:
            found, shares = _Modes(session, collected, options).measure(progress)
        except RunError as error:
            found = Skipped(f"not run in the other mode: {error.message}")
    reason = found if isinstance(found, Skipped) else found.located
    none = reason if isinstance(reason, Skipped) else Skipped("it keeps no running statistics")
    keys = dict.fromkeys(r.key for records in collected.batches for r in records)
    return {"deployment": found, "gap": {key: shares.get(key, none) for key in keys}}


@dataclass(frozen=True, slots=True)
class _Seen:
    """One batch in one mode: the loss, and the output that labels are for (rows, ...)."""

    loss: float
    output: Tensor


@dataclass(slots=True)
class _Modes:
    """Runs batches with either kind of statistics.

    `tracked` tells whether a call with running statistics was met.
    """

    session: Session
    collected: Collected
    options: AuditOptions
    tracked: bool = False

    def measure(self, progress: Progress) -> tuple[Deployment | Skipped, Mapping[Key, LayerGap]]:
        items, further = self.session.batches.items, self._further()
        progress.stage("deployment", len(items) + len(further))
        compared = _Compared(self.session)
        for index, batch in enumerate((*items, *further)):
            seen = {
                mode: self._known(index, mode) or self.run(batch, index, mode)
                for mode in ("running", "batch")
            }
            if not self.tracked and not any(r.running_var is not None for r in self.records(0)):
                return _UNTRACKED, {}
            compared.add(seen["batch"], seen["running"], batch.labels)
            progress.advance()
        gap = _estimate(compared.gaps, "loss")
        located, shares = self._locate(compared.gaps[: len(items)], gap, compared.batch)
        found = Deployment(
            batches=len(compared.gaps),
            rows=sum(b.rows for b in (*items, *further)),
            batch=Outcome(_estimate(compared.batch, "loss"), compared.accuracy("batch")),
            running=Outcome(_estimate(compared.running, "loss"), compared.accuracy("running")),
            gap=gap,
            distance=_estimate(compared.distances, "output"),
            changed=compared.changed(),
            located=located,
        )
        return found, shares

    def records(self, index: int) -> Sequence[Any]:
        return self.collected.batches[index]

    def _further(self) -> tuple[Batch, ...]:
        values = sum(r.m * r.channels for r in self.records(0))
        return self.session.batches.further[: int(_BUDGET // max(values, 1))]

    def _known(self, index: int, mode: str) -> _Seen | None:
        """What the first-order pass has of it."""
        if mode != self.options.mode or index >= len(self.collected.losses):
            return None
        output = self.collected.outputs[index]
        return None if output is None else _Seen(self.collected.losses[index], output)

    def run(
        self,
        batch: Batch,
        index: int,
        mode: str,
        statistics: Callable[[BatchNormCall], Tensor] | None = None,
    ) -> _Seen:
        def plain(call: BatchNormCall) -> Tensor:
            self.tracked |= call.running_var is not None
            return normalise(call, call.x, mode)

        with tapped(self.session.placed.namer, statistics or plain) as tap, torch.no_grad():
            tap.start()
            output, loss = self.session.execution.both(batch, index)
        return _Seen(float(loss), primary(outputs_of(output))[1].detach())

    def _locate(
        self, gaps: Sequence[float], gap: Estimate | Skipped, batch_losses: Sequence[float]
    ) -> tuple[Located | Skipped, Mapping[Key, LayerGap]]:
        if isinstance(gap, Skipped):
            return gap, {}
        sure = gap.mean if isinstance(gap.low, Skipped) else gap.low
        scale = sum(batch_losses) / len(batch_losses)
        if not (sure > 0 and gap.mean >= _WORTH * abs(scale)):
            return Skipped("there is no gap to speak of"), {}
        index = min(range(len(gaps)), key=lambda i: abs(gaps[i] - gap.mean))
        return _Location(self, index, gaps[index]).found()

    def statistics(self, index: int) -> dict[Key, tuple[int, Statistics]]:
        """Values per channel, and mean and variance, of each call on a batch that normalises by itself."""
        if self.options.mode == "batch" and self.options.layers is None:
            return {
                r.key: (r.m, (r.moments.mean, r.moments.var))
                for r in self.records(index)
                if r.moments is not None
            }
        return self.noted(self.session.batches.items[index], index)

    def noted(self, batch: Batch, index: int) -> dict[Key, tuple[int, Statistics]]:
        """The same of any batch."""
        found: dict[Key, tuple[int, Statistics]] = {}

        def noting(call: BatchNormCall) -> Tensor:
            moments = channel_moments(call.x, None, None)
            found[call.key] = (call.m, (moments.mean, moments.var))
            return normalise(call, call.x, "batch")

        self.run(batch, index, "batch", noting)
        return found


@dataclass(slots=True)
class _Compared:
    """The two modes beside each other, batch by batch."""

    session: Session
    batch: list[float] = field(default_factory=list)
    running: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    distances: list[float] = field(default_factory=list)
    right: dict[str, list[float]] = field(default_factory=lambda: {"batch": [], "running": []})
    differing: list[float] = field(default_factory=list)

    def add(self, batch: _Seen, running: _Seen, labels: Tensor | None) -> None:
        self.batch.append(batch.loss)
        self.running.append(running.loss)
        self.gaps.append(running.loss - batch.loss)
        y, other = batch.output.double(), running.output.double()
        spread = (y - y.mean(0)).norm()
        self.distances.append(float((other - y).norm() / spread) if spread > 0 else float("nan"))
        loss = self.session.execution.loss
        decisions = {
            mode: _decisions(seen.output, loss.name)
            for mode, seen in (("batch", batch), ("running", running))
        }
        classes = None if labels is None else _classes(labels.to(y.device), batch.output, loss.name)
        if classes is not None:
            counted = classes != _IGNORED
            for mode, decided in decisions.items():
                share = (decided == classes)[counted].double().mean()
                self.right[mode].append(float(share))
        if classes is not None or (loss.label_free and y.dim() == 2 and y.shape[1] > 1):
            differ = decisions["batch"] != decisions["running"]
            self.differing.append(float(differ.double().mean()))

    def accuracy(self, mode: str) -> Estimate | Skipped:
        return _estimate(self.right[mode], "accuracy") if self.right[mode] else _NO_CLASSES

    def changed(self) -> Estimate | Skipped:
        return _estimate(self.differing, "share") if self.differing else _NO_CLASSES


_IGNORED = -100  # as torch's cross_entropy


def _decisions(y: Tensor, loss: str) -> Tensor:
    """(rows, ...) class indices; of binary scores 0 and 1."""
    if loss == "bce":
        return (y > 0).long()
    return y.argmax(1) if y.dim() > 1 else y.argmax(0)


def _classes(labels: Tensor, y: Tensor, loss: str) -> Tensor | None:
    """The labels as `_decisions` has them, or None where they are no classes of this output."""
    if loss == "bce":
        return (labels.reshape(y.shape) > 0.5).long() if labels.numel() == y.numel() else None
    if labels.is_floating_point() or y.dim() < 2:
        return None
    shape = (y.shape[0], *y.shape[2:])
    fits = labels.numel() == y[:, 0].numel() and y.shape[1] > 1
    return labels.long().reshape(shape) if fits else None


def _estimate(values: Sequence[float], what: str) -> Estimate | Skipped:
    """Mean and 95 % interval over the batches."""
    odd = sum(not isfinite(value) for value in values)
    if odd or not values:
        return Skipped(f"the {what} is not finite in {odd} of {len(values)} batches")
    n = len(values)
    mean = sum(values) / n
    if n == 1:
        alone = Skipped("one batch has no spread")
        return Estimate(mean, alone, alone, 1)
    error = sqrt(sum((v - mean) ** 2 for v in values) / (n - 1) / n)
    margin = student_t(n - 1) * error
    return Estimate(mean, mean - margin, mean + margin, n)


@dataclass(frozen=True, slots=True)
class _Location:
    """The gap of one batch, layer by layer."""

    modes: _Modes
    index: int
    gap: float

    def found(self) -> tuple[Located | Skipped, Mapping[Key, LayerGap]]:
        own = self.modes.statistics(self.index)
        shares = self._shares({key: statistics for key, (_, statistics) in own.items()})
        if isinstance(shares, Skipped):
            return shares, {}
        largest = max(shares.values(), default=0.0)
        ranked = sorted(shares, key=lambda key: -shares[key])[:_CANDIDATES]
        deployed = self._loss(lambda call: normalise(call, call.x, "running"))
        alone: dict[str, float | Skipped] = {}
        for name, _ in (
            k for k in ranked if shares[k] > 0 and shares[k] >= _OF_THE_LARGEST * largest
        ):
            if name not in alone:
                less = deployed - self._loss(_own_at(name))
                alone[name] = less if isfinite(less) else Skipped("the loss is not finite then")
        located = Located(
            batch=self.index + 1,
            deployed=deployed,
            gap=self.gap,
            rest=self.gap - sum(shares.values()),
            recomputed=self._recomputed(own),
            evidence=self._explained(own, shares, deployed),
        )
        unmeasured = Skipped("not among the layers with the largest shares")
        return located, {
            key: LayerGap(share, alone.get(key[0], unmeasured)) for key, share in shares.items()
        }

    def _loss(self, handler: Callable[[BatchNormCall], Tensor]) -> float:
        batch = self.modes.session.batches.items[self.index]
        return self.modes.run(batch, self.index, "running", handler).loss

    def _shares(self, own: Mapping[Key, Statistics]) -> dict[Key, float] | Skipped:
        """Each call's integral; see the top of the file."""
        session = self.modes.session
        shares: dict[Key, float] = {}
        for t, weight in zip(_NODES, _WEIGHTS, strict=True):
            path = _Path(own, t)
            with tapped(session.placed.namer, path) as tap, torch.enable_grad():
                tap.start()
                loss = session.execution.value(session.batches.items[self.index], self.index)
                if path.impossible is not None:
                    return Skipped(path.impossible)
                leaves = [leaf for at in path.points for leaf in (at.gamma, at.beta)]
                gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
            for place, at in enumerate(path.points):
                of_gamma, of_beta = (
                    torch.zeros_like(at.gain) if g is None else g.to("cpu", torch.float64)
                    for g in gradients[2 * place : 2 * place + 2]
                )
                gamma = at.gamma.detach().to("cpu", torch.float64)
                slope = at.gain * of_beta * at.mean_step + gamma * of_gamma * at.log_step / 2
                shares[at.key] = shares.get(at.key, 0.0) + weight * float(slope.sum())
        if not all(map(isfinite, shares.values())):
            return Skipped("the loss is not finite between the running and the batch's statistics")
        return shares

    def _explained(
        self,
        own: Mapping[Key, tuple[int, Statistics]],
        shares: Mapping[Key, float],
        deployed: float,
    ) -> tuple[Evidence, ...]:
        records = {r.key: r for r in self.modes.records(0)}  # the ones that know who reads whom
        layers = {
            key: Layer(
                (r.running_mean, r.running_var),
                own[key][1],
                r.eps,
                max(share, 0.0),
                first=not r.reads if r.reads is not None else key == next(iter(shares)),
            )
            for key, share in shares.items()
            if (r := records.get(key)) is not None
            and r.running_mean is not None
            and r.running_var is not None
        }
        batch = self.modes.session.batches.items[self.index]
        trial = Trial(
            batch,
            self.gap,
            deployed,
            lambda other: self.modes.run(other, self.index, "running").loss,
            lambda other: {k: s for k, (_, s) in self.modes.noted(other, self.index).items()},
            lambda handler: self.modes.run(batch, self.index, "batch", handler),
        )
        return explanations(layers, trial)

    def _recomputed(self, own: Mapping[Key, tuple[int, Statistics]]) -> float | Skipped:
        """The loss of the batch with statistics pooled over all audited batches, and over a layer's calls."""
        values: dict[str, list[tuple[int, Statistics]]] = {}
        for index in range(len(self.modes.session.batches.items)):
            found = own if index == self.index else self.modes.statistics(index)
            for (name, _), part in found.items():
                values.setdefault(name, []).append(part)
        pooled = {name: _pooled(parts) for name, parts in values.items()}

        def mended(call: BatchNormCall) -> Tensor:
            if call.running_var is None or call.name not in pooled:
                return normalise(call, call.x, "running")
            mean, var = (t.to(call.running_var) for t in pooled[call.name])
            return normalise(replace(call, running_mean=mean, running_var=var), call.x, "running")

        loss = self._loss(mended)
        return loss if isfinite(loss) else Skipped("the loss is not finite with them")


def _own_at(name: str) -> Callable[[BatchNormCall], Tensor]:
    """Batch statistics at one layer, the running ones elsewhere."""
    return lambda call: normalise(call, call.x, "batch" if call.name == name else "running")


def _pooled(parts: Sequence[tuple[int, Statistics]]) -> Statistics:
    """Mean and unbiased variance of all values together."""
    counts = torch.tensor([m for m, _ in parts], dtype=torch.float64)
    total = float(counts.sum())
    weights = (counts / total)[:, None]
    means, variances = (torch.stack([s[k] for _, s in parts]) for k in (0, 1))
    mean = (weights * means).sum(0)
    var = (weights * (variances + (means - mean).square())).sum(0)
    return mean, var * total / max(total - 1, 1)


@dataclass(frozen=True, slots=True)
class _Point:
    """One call at a point of the path: its leaves, gamma/sigma, and how far its statistics go in all."""

    key: Key
    gamma: Tensor
    beta: Tensor
    gain: Tensor
    mean_step: Tensor
    log_step: Tensor


@dataclass(slots=True)
class _Path:
    """Normalises with statistics between the running (t = 0) and the batch's (t = 1)."""

    own: Mapping[Key, Statistics]
    t: float
    points: list[_Point] = field(default_factory=list)
    impossible: str | None = None

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
        point = _Point(
            call.key, gamma.requires_grad_(), beta.requires_grad_(), gain, mean_step, log_step
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
