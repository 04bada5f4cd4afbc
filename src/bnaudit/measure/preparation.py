"""Whether the inputs were prepared otherwise than in training, by the layers that read them.

Nothing that the network learns stands in front of the first layers but weights: what they get is a matter of
the inputs. With P the running and Q the measured statistics of a layer, v = var + eps, over the channels of
these layers

    distance = mean of (mu_P - mu_Q)^2 / (v_P + v_Q) + (ln v_P - ln v_Q)^2,

of which the spread of the batches makes noise = mean_b distance(batch b, all) / (B - 1). Where the distance
is beyond the noise, what is usual (`bnaudit.data.preprocessing`) is done to the inputs, one at a time, and
the layers are measured again; what a preparation explains is

    1 - (distance(prepared) - noise) / (distance - noise).

Two are fitted. A factor: with k^2 the middle channel's ratio of variances, x / k and -x / k. An offset:
adding 1 to the inputs moves each mean by S, linearly, so that d = sum S (mu_P - mu_Q) / v_P / sum S^2 / v_P
is the offset by least squares; with S the way from inputs of 0 to x, it is a factor by the means. Several
inputs are looked at one by one, each by the layers that it reaches, and then all together.

Statistics of other weights are not explained so: a handful of numbers cannot mend all channels, and with
inputs as in training most layers behind have to agree with what they store, each normalising by itself.
Else a factor of the weights in front would pass for one of the inputs. Statistics at their initial values
belong to no inputs.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from math import isfinite
from typing import TYPE_CHECKING

import torch

from bnaudit.data.preprocessing import (
    Preparation,
    after,
    elsewhere,
    fitted,
    is_prepared,
    plain,
    standardised,
)
from bnaudit.records.deployment import Evidence
from bnaudit.tap.call import normalise
from bnaudit.tap.dispatch import tapped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor

    from bnaudit.data.batch import Batch
    from bnaudit.measure.collect import Collected
    from bnaudit.measure.session import Session
    from bnaudit.options import AuditOptions
    from bnaudit.tap.call import BatchNormCall

    Change = Callable[[Tensor], Tensor]

Key = tuple[str, int]
Statistics = tuple["Tensor", "Tensor"]

_BATCHES = 4
"""That are prepared otherwise."""

_LOOK = 0.01
"""The least distance that is looked into: all means a tenth of sigma off, BN201's limit of a whole layer."""

_EXPLAINS = 0.8
"""Of the distance, that a preparation has to explain."""

_PLAIN, _SMALL = 2.0, 0.01
"""How many times as much as the best a plainer preparation may leave, and how much in any case."""

_MEAN, _VARIANCE = 0.1, 0.35
"""Limits of BN201 and BN202 for a layer as a whole, from 216 healthy networks."""


@dataclass(frozen=True, slots=True)
class Layer:
    """What one call stores.

    Attributes:
        running: mean and variance; (C,) float64.
        eps: of the layer.
        first: whether no other BatchNorm stands in front.
    """

    running: Statistics
    eps: float
    first: bool

    @property
    def at_start(self) -> bool:
        """Whether the running statistics were never updated."""
        return not bool(self.running[0].any()) and bool((self.running[1] == 1).all())

    def agrees(self, found: Statistics) -> bool:
        """Whether the layer as a whole does not drift from these."""
        v = self.running[1] + self.eps
        mean = (found[0] - self.running[0]).abs() / v.sqrt()
        variance = ((found[1] + self.eps) / v).log2().abs()
        return bool(mean.median() < _MEAN) and bool(variance.median() < _VARIANCE)


@dataclass(frozen=True, slots=True)
class Otherwise:
    """Inputs that look prepared otherwise than in training.

    Attributes:
        evidence: what was done, for the report.
        places: of the inputs in a batch.
        apply: what should have been done to each.
    """

    evidence: Evidence
    places: Sequence[int]
    apply: Change

    def mended(self, batch: Batch) -> Batch:
        """The batch as it would have been, in the dtypes that it has."""
        return _mended(batch, self.places, self.apply)


def prepared_otherwise(
    session: Session, collected: Collected, options: AuditOptions
) -> tuple[Otherwise, ...]:
    """The same of an audit, looked for once.

    Args:
        session: the model and its batches.
        collected: the first-order pass, which keeps what was found.
        options: which mode it ran in, and for which layers.
    """
    if collected.prepared is None:
        collected.prepared = search(session, session.batches.items, _layers(collected, options))
    return tuple(collected.prepared)


def _layers(collected: Collected, options: AuditOptions) -> dict[Key, Layer]:
    layers: dict[Key, Layer] = {}
    for r in collected.batches[0]:
        if r.running_mean is not None and r.running_var is not None:
            # Where layers were left out, calls are missing between those that there are.
            known = options.layers is None and r.reads is not None
            first = not r.reads if known else r.key == (collected.executed[0], 1)
            layers[r.key] = Layer((r.running_mean, r.running_var), r.eps, first)
    return layers


def search(
    session: Session, batches: Sequence[Batch], layers: Mapping[Key, Layer]
) -> tuple[Otherwise, ...]:
    """What explains the first layers' statistics, of each input that looks prepared otherwise.

    Args:
        session: runs the network, up to its first layers.
        batches: as they are.
        layers: all calls with running statistics.
    """
    layers = {
        key: layer
        for key, layer in layers.items()
        if not layer.at_start and bool(layer.running[1].isfinite().all())
    }
    front = {key: layer for key, layer in layers.items() if layer.first}
    tries = _Search(session, tuple(batches[:_BATCHES]), layers, front)
    places = [i for i, t in enumerate(batches[0].inputs) if is_prepared(t)]
    if not front or not places:
        return ()
    found = [e for place in places if (e := tries.explained([place])) is not None]
    if not found and len(places) > 1:
        together = tries.explained(places)
        found = [] if together is None else [together]
    return tuple(found)


def pooled(parts: Sequence[tuple[int, Statistics]]) -> Statistics:
    """Mean and unbiased variance of the values of all batches together.

    Args:
        parts: how many values a channel has, mean and variance.
    """
    counts = torch.tensor([m for m, _ in parts], dtype=torch.float64)
    total = float(counts.sum())
    weights = (counts / total)[:, None]
    means, variances = (torch.stack([s[k] for _, s in parts]) for k in (0, 1))
    mean = (weights * means).sum(0)
    var = (weights * (variances + (means - mean).square())).sum(0)
    return mean, var * total / max(total - 1, 1)


class _EnoughError(Exception):
    """Ends a forward pass behind the first layers. A model that catches it goes on, which does no harm.

    Of an exception that is none of Exception's the modules' hooks are not told, and threads of a model's own
    would keep what they were given.
    """


@dataclass(frozen=True, slots=True)
class _Pass:
    """What layers get: pooled over the batches, and the noise of their distances."""

    found: Mapping[Key, Statistics]
    noise: Mapping[Key, float]

    @classmethod
    def of(
        cls, parts: Sequence[Mapping[Key, tuple[int, Statistics]]], layers: Mapping[Key, Layer]
    ) -> _Pass:
        """Of the batches, for the layers that all of them reached."""
        found, noise, count = {}, {}, len(parts)
        for key in parts[0]:
            if all(key in part for part in parts):
                found[key] = pooled([part[key] for part in parts])
                apart = [_distance(part[key][1], found[key], layers[key].eps) for part in parts]
                noise[key] = sum(apart) / count / (count - 1) if count > 1 else 0.0
        return cls(found, noise)

    def beyond(self, layers: Mapping[Key, Layer]) -> float:
        """The mean distance of the layers beyond their noise."""
        apart = (
            _distance(self.found[k], v.running, v.eps) - self.noise[k] for k, v in layers.items()
        )
        return sum(max(d, 0.0) for d in apart) / max(len(layers), 1)


@dataclass(slots=True)
class _Search:
    """Tries preparations, and keeps those that explain."""

    session: Session
    batches: tuple[Batch, ...]
    layers: Mapping[Key, Layer]
    front: Mapping[Key, Layer]

    def explained(self, places: Sequence[int]) -> Otherwise | None:
        """What was done otherwise to these inputs, which are mended in what follows."""
        own = self._statistics(places, lambda x: x)
        if own is None or not own.beyond(self.front) > _LOOK:
            return None
        moved = self._statistics(places, lambda x: x + 1)
        touched = {
            key: layer
            for key, layer in self.front.items()
            if moved is not None and bool((moved.found[key][0] != own.found[key][0]).any())
        }
        whole = own.beyond(touched)
        if not _LOOK < whole < float("inf"):
            return None
        for preparations in self._preparations(places, touched, own):
            tried = []
            for preparation in preparations:
                found = self._statistics(places, preparation.apply)
                left = float("inf") if found is None else found.beyond(touched)
                if found is not None and 1 - left / whole >= _EXPLAINS:
                    agree = all(layer.agrees(found.found[key]) for key, layer in touched.items())
                    tried += [(left, preparation)] * agree
            least = min((left for left, _ in tried), default=0.0) * _PLAIN + _SMALL
            for left, best in tried:
                if left <= least and (mended := self._mended(places, best, touched)):
                    return self._otherwise(places, best, 1 - left / whole, mended)
        return None

    def _mended(
        self, places: Sequence[int], best: Preparation, touched: Mapping[Key, Layer]
    ) -> list[Key]:
        """The calls that agree more with what they store then; none unless most layers behind agree."""
        before = self._statistics(places, lambda x: x, everywhere=True)
        then = self._statistics(places, best.apply, everywhere=True)
        if before is None or then is None:
            return []
        behind = {k: v for k, v in self.layers.items() if k in then.found and not v.first}
        if sum(layer.agrees(then.found[k]) for k, layer in behind.items()) * 2 < len(behind):
            return []
        less = [k for k, v in behind.items() if then.beyond({k: v}) < before.beyond({k: v}) / 2]
        return [*touched, *less]

    def _otherwise(
        self, places: Sequence[int], best: Preparation, explains: float, mended: list[Key]
    ) -> Otherwise:
        names = self.session.batches.names
        evidence = Evidence(
            cause=best.cause,
            value=best.value,
            explains=explains,
            code=best.code,
            inputs=tuple(names[i] for i in places) if len(names) > 1 else (),
            layers=tuple(n if k == 1 else f"{n}#{k}" for n, k in mended),
        )
        otherwise = Otherwise(evidence, places, best.apply)
        self.batches = tuple(map(otherwise.mended, self.batches))
        return otherwise

    def _preparations(
        self, places: Sequence[int], touched: Mapping[Key, Layer], own: _Pass
    ) -> Iterator[Iterator[Preparation]]:
        """The plainest first: one change of places or of the values, then both."""
        x = _numbers(torch.cat([batch.inputs[places[0]] for batch in self.batches]))
        moves = list(elsewhere(x))
        yield chain(moves, plain(x), self._fitted(places, touched, own), standardised(x))
        yield chain.from_iterable(
            (
                after(move, then)
                for then in chain(plain(move.apply(x)), self._fitted(places, touched, found, move))
            )
            for move in moves
            if (found := self._statistics(places, move.apply)) is not None
        )

    def _fitted(
        self,
        places: Sequence[int],
        touched: Mapping[Key, Layer],
        own: _Pass,
        move: Preparation | None = None,
    ) -> Iterator[Preparation]:
        ratios = [
            (own.found[k][1] / layer.running[1]).log()[layer.running[1] > layer.eps] / 2
            for k, layer in touched.items()
        ]
        if not torch.cat(ratios).numel():
            return
        size = float(torch.cat(ratios).median().exp())
        if not 0 < size < float("inf"):
            return

        def moved(x: Tensor) -> Tensor:
            return x if move is None else move.apply(x)

        yield fitted(1, size, 0.0)
        # Of samples with large means, these tell the factor better.
        times = self._multiple(places, touched, lambda x: 0 * x, moved)
        if times is not None and times > 0:
            yield fitted(1, 1 / times, 0.0)

        def divided(by: float, plus: float, x: Tensor) -> Tensor:
            return moved(x) / by + plus

        for by in (1.0, size, -size):
            ends = (partial(divided, by, plus) for plus in (0.0, 1.0))
            plus = self._multiple(places, touched, *ends)
            if plus is not None:
                yield fitted(1 if by > 0 else -1, abs(by), by * plus)

    def _multiple(
        self,
        places: Sequence[int],
        touched: Mapping[Key, Layer],
        start: Change,
        end: Change,
    ) -> float | None:
        """How many times the way from one preparation to another leads to the running means."""
        here, there = (self._statistics(places, change) for change in (start, end))
        if here is None or there is None:
            return None
        along = square = 0.0
        for key, layer in touched.items():
            mean, v = here.found[key][0], layer.running[1] + layer.eps
            way = there.found[key][0] - mean
            along += float((way * (layer.running[0] - mean) / v).sum())
            square += float((way.square() / v).sum())
        found = along / square if square > 0 else 0.0
        return found if isfinite(found) and found != 0 else None

    def _statistics(
        self, places: Sequence[int], change: Change, *, everywhere: bool = False
    ) -> _Pass | None:
        """Over all batches, of the first layers or of all; None where the network takes no such inputs."""
        parts: list[Mapping[Key, tuple[int, Statistics]]] = []
        found: dict[Key, tuple[int, Statistics]] = {}
        wanted = self.layers if everywhere else self.front

        def noting(call: BatchNormCall) -> Tensor:
            if call.key in wanted:
                x = call.x.detach()
                x = x.cpu() if x.device.type == "mps" else x  # which has no float64
                others = [d for d in range(x.dim()) if d != 1]
                var, mean = torch.var_mean(x.double(), others, correction=0)
                found[call.key] = call.m, (mean.cpu(), var.cpu())
                if len(found) == len(wanted):
                    raise _EnoughError
            return normalise(call, call.x, "batch")

        with tapped(self.session.placed.namer, noting) as tap, torch.no_grad():
            for index, batch in enumerate(self.batches):
                found.clear()
                tap.start()
                with suppress(Exception):  # also what other inputs make a model raise
                    self.session.execution.both(_mended(batch, places, change), index)
                if not found.keys() >= self.front.keys():
                    return None
                parts.append(dict(found))
        return _Pass.of(parts, self.layers)


def _numbers(x: Tensor) -> Tensor:
    return x if x.is_floating_point() else x.float()


def _mended(batch: Batch, places: Sequence[int], change: Change) -> Batch:
    inputs = list(batch.inputs)
    for place in places:
        x = inputs[place]
        y = change(_numbers(x))
        whole = y if x.is_floating_point() else y.round().clamp(0, 255)
        inputs[place] = whole.to(x.dtype)
    return replace(batch, inputs=tuple(inputs))


def _distance(found: Statistics, against: Statistics, eps: float) -> float:
    one, two = found[1] + eps, against[1] + eps
    apart = (found[0] - against[0]).square() / (one + two) + (one / two).log().square()
    return float(apart.mean())
