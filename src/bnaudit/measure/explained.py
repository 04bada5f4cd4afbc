"""Why the running statistics do not fit: what has to be supposed so that they would, each with a number.

Suppositions about the statistics give others in place of the batch's own, and are held against the running
ones. With P the running and Q the supposed statistics of a layer, v = var + eps, over its channels

    distance = mean of (mu_P - mu_Q)^2 / v_Q + (ln v_P - ln v_Q)^2,

and over the layers it is weighted by their shares of the gap. What a supposition explains is
1 - distance(supposed) / distance(the batch's own). Suppositions about the inputs are tried out: what they
explain is the share of the gap that is gone with such inputs.

Where neither speaks, which layers are off says something. The batch's own statistics are those of a network
that normalises what arrives at every layer, so that a layer in front whose statistics are wrong does not make
those behind wrong too: a few layers that are off alone were changed, and inputs that are others show most
where they are read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite, log
from statistics import median
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F  # noqa: N812  # the field's name for it

from bnaudit.data.preprocessing import is_image, undone
from bnaudit.errors import BnauditError
from bnaudit.records.deployment import Evidence
from bnaudit.tap.call import normalise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor

    from bnaudit.data.batch import Batch
    from bnaudit.tap.call import BatchNormCall

Key = tuple[str, int]
Statistics = tuple["Tensor", "Tensor"]

_LEAST = 0.97
"""Of the statistics' distance: a supposition that explains less is not told."""

_EXACT, _RESIZED, _OF_THE_DISTANCE = 0.95, 0.6, 0.25
"""What other inputs have to explain, of the gap and of the distance: resized ones do not come back whole."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One call's statistics.

    Attributes:
        running, own: mean and variance, stored and of the audited batches; (C,) float64.
        eps: of the layer.
        share: of the gap, at least 0.
        first: whether no other BatchNorm stands in front.
    """

    running: Statistics
    own: Statistics
    eps: float
    share: float
    first: bool


@dataclass(frozen=True, slots=True)
class Trial:
    """How suppositions are tried out on the located batch.

    Attributes:
        batch: it.
        gap: of this batch.
        deployed: its loss with running statistics.
        loss: the same for other inputs.
        statistics: those that other inputs have where every layer normalises with its own.
        run: the network with a handler of BatchNorm calls.
    """

    batch: Batch
    gap: float
    deployed: float
    loss: Callable[[Batch], float]
    statistics: Callable[[Batch], Mapping[Key, Statistics]]
    run: Callable[[Callable[[BatchNormCall], Tensor]], object]


def explanations(layers: Mapping[Key, Layer], trial: Trial) -> tuple[Evidence, ...]:
    """What explains the statistics' distance, or with other inputs the gap as well; the best first."""
    own = {key: layer.own for key, layer in layers.items()}
    whole = _distance(layers, own)
    if not (whole > 0 and isfinite(whole)):
        return ()
    found = [*_about_inputs(layers, trial, whole), *_about_statistics(layers, trial, whole)]
    return tuple(sorted(found or _by_place(layers), key=lambda e: -e.explains))


_FITS, _OFF, _FEW, _MOST, _AT_INPUTS = 0.1, 0.02, 0.25, 0.75, 3.0
"""Distances of a layer that fits (256 rows, heavy tails: up to 0.09) and of one that is off; the share of the
layers that are few, and that are most; how much more off the inputs' readers may be than the others. Trained
networks after further training, or extrapolated: most layers from 0.02 to 1.4, readers at most 2.1 times the
others' median; with other inputs 10 times and more."""


def _by_place(layers: Mapping[Key, Layer]) -> Iterator[Evidence]:
    """What it says which layers are off."""
    off = {
        key: _distance({key: replace(at, share=1.0)}, {key: at.own}) for key, at in layers.items()
    }
    gap = sum(layer.share for layer in layers.values())
    if gap <= 0:
        return

    def evidence(cause: str, keys: list[Key]) -> Evidence:
        return Evidence(cause, float(len(keys)), sum(layers[k].share for k in keys) / gap)

    edited = [key for key, d in off.items() if d > max(_FITS, _FITS * max(off.values()))]
    others = [d for key, d in off.items() if key not in edited]
    if (
        0 < len(edited) <= max(1, _FEW * len(off))
        and others
        and max(others) <= _FITS
        and not any(layers[key].first for key in edited)
    ):
        yield evidence("edited-layers", edited)
        return
    wrong = [key for key, d in off.items() if d >= _OFF]
    at_inputs, behind = (
        [d for k, d in off.items() if layers[k].first is first] for first in (True, False)
    )
    spread = len(behind) > 1 and len(wrong) >= _MOST * len(off)
    if spread and at_inputs and max(at_inputs) <= _AT_INPUTS * median(behind):
        yield evidence("other-weights", wrong)


_AT_THE_FRONT = 0.1
"""Of the gap, that the layers which read the inputs have to make: other values change their statistics."""


def _about_inputs(layers: Mapping[Key, Layer], trial: Trial, whole: float) -> Iterator[Evidence]:
    for cause, value, inputs in _other_inputs(layers, trial):
        other = replace(trial.batch, inputs=inputs)
        try:
            explains = (trial.deployed - trial.loss(other)) / trial.gap
            if not explains >= (_RESIZED if cause == "other-resolution" else _EXACT):
                continue
            found = trial.statistics(other)
        except BnauditError:
            continue  # of this size, say, the network cannot be run
        if not found.keys() >= layers.keys():
            continue  # they take another way through the network
        left = _distance(layers, found)
        if 1 - left / whole >= _OF_THE_DISTANCE:
            yield Evidence(cause, value, min(explains, 1.0))


def _other_inputs(
    layers: Mapping[Key, Layer], trial: Trial
) -> Iterator[tuple[str, float | None, tuple[Tensor, ...]]]:
    """(cause, its number, inputs as they would have been): of the first floating-point input."""
    inputs = trial.batch.inputs
    place = next((i for i, t in enumerate(inputs) if t.is_floating_point() and t.dim() > 1), None)
    if place is None:
        return
    x = inputs[place]

    def given(y: Tensor) -> tuple[Tensor, ...]:
        return (*inputs[:place], y.to(x.dtype), *inputs[place + 1 :])

    if sum(layer.share for layer in layers.values() if layer.first) >= _AT_THE_FRONT * trial.gap:
        for cause, value, y in _other_values(layers, trial, x, given):
            yield cause, value, given(y)
    if x.dim() == 4:
        for times in (0.5, 2.0):
            if min(x.shape[2:]) * times >= _SMALLEST:
                size = [int(n * times) for n in x.shape[2:]]
                other = F.interpolate(
                    x.float(), size, mode="bilinear", antialias=True, align_corners=False
                )
                yield "other-resolution", 1 / times, given(other)


def _other_values(
    layers: Mapping[Key, Layer],
    trial: Trial,
    x: Tensor,
    given: Callable[[Tensor], tuple[Tensor, ...]],
) -> Iterator[tuple[str, float | None, Tensor]]:
    """The same for inputs of the same shape."""
    factor = _factor(layers)
    if factor is not None:
        yield "inputs-scaled", factor, x / factor
    moved = trial.statistics(replace(trial.batch, inputs=given(x + 1)))
    shift = _shift(layers, moved)
    if shift is not None:
        yield "inputs-shifted", shift, x - shift
    others = [d for d in range(x.dim()) if d != 1]
    centred = x - x.mean(others, keepdim=True)
    yield "inputs-not-standardised", None, centred / _spread(x, others)
    if is_image(x):
        yield from undone(x)


_SMALLEST = 4
"""Pixels a side."""

_FACTOR = 0.1
"""ln: inputs that are 10 % off."""


def _factor(layers: Mapping[Key, Layer]) -> float | None:
    """How many times larger the inputs are: sigma over the running sigma of the first layers' channels."""
    ratios = [
        ((layer.own[1] + layer.eps) / (layer.running[1] + layer.eps)).sqrt()
        for layer in layers.values()
        if layer.first
    ]
    if not ratios:
        return None
    factor = float(torch.cat(ratios).log().mean().exp())
    return factor if isfinite(factor) and factor > 0 and abs(log(factor)) > _FACTOR else None


def _spread(x: Tensor, others: list[int]) -> Tensor:
    """Standard deviation of every feature or channel; 1 of one that is constant."""
    std = x.std(others, keepdim=True, correction=0)
    return torch.where(std > 0, std, 1)


def _shift(layers: Mapping[Key, Layer], moved: Mapping[Key, Statistics]) -> float | None:
    """What was added to the inputs, by least squares, from what adding 1 does to the first layers' means."""
    along = square = 0.0
    for key, layer in layers.items():
        if layer.first and key in moved:
            step = moved[key][0] - layer.own[0]
            v = layer.running[1] + layer.eps
            along += float((step * (layer.own[0] - layer.running[0]) / v).sum())
            square += float((step.square() / v).sum())
    shift = along / square if square > 0 else 0.0
    return shift if isfinite(shift) and shift != 0 else None


def _about_statistics(
    layers: Mapping[Key, Layer], trial: Trial, whole: float
) -> Iterator[Evidence]:
    left = {share: _distance(layers, _mixed(layers, share)) for share in _SHARES}
    share = min(left, key=lambda share: left[share])
    if 1 - left[share] / whole >= _LEAST:
        yield Evidence("initial-statistics", 1 - share, 1 - left[share] / whole)
    single = _single(trial)
    if single.keys() >= layers.keys():
        explains = 1 - _distance(layers, single) / whole
        if explains >= _LEAST:
            yield Evidence("single-row-statistics", None, explains)


_SHARES = tuple(n / 50 for n in range(2, 50))
"""Of the data in a running average. Statistics that are wholly the initial ones show in the file (BN005)."""


def _mixed(layers: Mapping[Key, Layer], share: float) -> dict[Key, Statistics]:
    """What running averages hold that began at mean 0 and variance 1 and have this share of the data's."""
    return {
        key: (share * layer.own[0], share * layer.own[1] + (1 - share))
        for key, layer in layers.items()
    }


def _distance(layers: Mapping[Key, Layer], supposed: Mapping[Key, Statistics]) -> float:
    """See the top of the file."""
    total = 0.0
    for key, layer in layers.items():
        mean, var = supposed[key]
        v, stored = var + layer.eps, layer.running[1] + layer.eps
        off = (layer.running[0] - mean).square() / v + (stored / v).log().square()
        total += layer.share * float(off.mean())
    return total


def _single(trial: Trial) -> dict[Key, Statistics]:
    """The statistics where every row is a batch of its own, averaged over the rows; variances unbiased."""
    found: dict[Key, Statistics] = {}

    def alone(call: BatchNormCall) -> Tensor:
        rows = [call.x[i : i + 1] for i in range(call.x.shape[0])]
        m = call.m // len(rows)
        if m > 1:
            flat = call.x.flatten(2).double()
            found[call.key] = (flat.mean((0, 2)).cpu(), flat.var(2).mean(0).cpu())
        return torch.cat([normalise(call, row, "batch" if m > 1 else "running") for row in rows])

    trial.run(alone)
    return found
