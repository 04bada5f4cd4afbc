"""Why the running statistics do not fit: what has to be supposed so that they would, each with a number.

Suppositions about the statistics give others in place of the batch's own, and are held against the running
ones. With P the running and Q the supposed statistics of a layer, v = var + eps, over its channels

    distance = mean of (mu_P - mu_Q)^2 / v_Q + (ln v_P - ln v_Q)^2,

and over the layers it is weighted by their shares of the gap. What a supposition explains is
1 - distance(supposed) / distance(the batch's own). Suppositions about the inputs are tried out: what they
explain is the share of the gap that is gone with such inputs. What was done otherwise to the values comes
from the first layers (`bnaudit.measure.preparation`); the resolution, which they may not show, is tried here.

Where neither speaks, which layers are off says something. The batch's own statistics are those of a network
that normalises what arrives at every layer, so that a layer in front whose statistics are wrong does not make
those behind wrong too: a few layers that are off alone were changed, and inputs that are others show most
where they are read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite
from statistics import median
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F  # noqa: N812  # the field's name for it

from bnaudit.errors import BnauditError
from bnaudit.records.deployment import Evidence
from bnaudit.tap.call import normalise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor

    from bnaudit.data.batch import Batch
    from bnaudit.measure.preparation import Layer, Statistics
    from bnaudit.tap.call import BatchNormCall

Key = tuple[str, int]

_LEAST = 0.97
"""Of the statistics' distance: a supposition that explains less is not told."""

_EXACT, _RESIZED, _OF_THE_DISTANCE = 0.5, 0.6, 0.25
"""What other inputs have to explain: of the gap, those that explain the first layers, and those of another
size, which do not come back whole; and of the distance."""


@dataclass(frozen=True, slots=True)
class Trial:
    """How suppositions are tried out on the located batch.

    Attributes:
        batch: it.
        gap: of this batch.
        deployed: its loss with running statistics.
        shares: of the gap by call, at least 0.
        own: statistics by call, of the audited batches.
        prepared: what the first layers say of the inputs, and the batch as it would have been.
        loss: the same for other inputs.
        statistics: those that other inputs have where every layer normalises with its own.
        run: the network with a handler of BatchNorm calls.
    """

    batch: Batch
    gap: float
    deployed: float
    shares: Mapping[Key, float]
    own: Mapping[Key, Statistics]
    prepared: tuple[Evidence, Batch] | None
    loss: Callable[[Batch], float]
    statistics: Callable[[Batch], Mapping[Key, Statistics]]
    run: Callable[[Callable[[BatchNormCall], Tensor]], object]


def explanations(layers: Mapping[Key, Layer], trial: Trial) -> tuple[Evidence, ...]:
    """What explains the statistics' distance, or with other inputs the gap as well; the best first."""
    whole = _distance(layers, trial.shares, trial.own)
    if not (whole > 0 and isfinite(whole)):
        return ()
    found = [*_about_inputs(layers, trial, whole), *_about_statistics(layers, trial, whole)]
    return tuple(sorted(found or _by_place(layers, trial), key=lambda e: -e.explains))


_FITS, _OFF, _FEW, _MOST, _AT_INPUTS = 0.1, 0.02, 0.25, 0.75, 3.0
"""Distances of a layer that fits (256 rows, heavy tails: up to 0.09) and of one that is off; the share of the
layers that are few, and that are most; how much more off the inputs' readers may be than the others. Trained
networks after further training, or extrapolated: most layers from 0.02 to 1.4, readers at most 2.1 times the
others' median; with other inputs 10 times and more."""


def _by_place(layers: Mapping[Key, Layer], trial: Trial) -> Iterator[Evidence]:
    """What it says which layers are off."""
    off = {
        key: _distance({key: at}, {key: 1.0}, {key: trial.own[key]}) for key, at in layers.items()
    }
    gap = sum(trial.shares[key] for key in layers)
    if gap <= 0:
        return

    def evidence(cause: str, keys: list[Key]) -> Evidence:
        return Evidence(cause, float(len(keys)), sum(trial.shares[k] for k in keys) / gap)

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


def _about_inputs(layers: Mapping[Key, Layer], trial: Trial, whole: float) -> Iterator[Evidence]:
    for evidence, other in _other_inputs(trial):
        try:
            explains = (trial.deployed - trial.loss(other)) / trial.gap
            if not explains >= (_RESIZED if evidence.cause == "other-resolution" else _EXACT):
                continue
            found = trial.statistics(other)
        except BnauditError:
            continue  # of this size, say, the network cannot be run
        if not found.keys() >= layers.keys():
            continue  # they take another way through the network
        left = _distance(layers, trial.shares, found)
        if 1 - left / whole >= _OF_THE_DISTANCE:
            yield replace(evidence, explains=min(explains, 1.0))


def _other_inputs(trial: Trial) -> Iterator[tuple[Evidence, Batch]]:
    """What may be supposed, and the batch as it would have been."""
    if trial.prepared is not None:
        yield trial.prepared
    inputs = trial.batch.inputs
    place = next((i for i, t in enumerate(inputs) if t.is_floating_point() and t.dim() == 4), None)
    if place is None:
        return
    x = inputs[place]
    for times in (0.5, 2.0):
        if min(x.shape[2:]) * times >= _SMALLEST:
            size = [int(n * times) for n in x.shape[2:]]
            other = F.interpolate(
                x.float(), size, mode="bilinear", antialias=True, align_corners=False
            )
            given = (*inputs[:place], other.to(x.dtype), *inputs[place + 1 :])
            yield Evidence("other-resolution", 1 / times, 0.0), replace(trial.batch, inputs=given)


_SMALLEST = 4
"""Pixels a side."""


def _about_statistics(
    layers: Mapping[Key, Layer], trial: Trial, whole: float
) -> Iterator[Evidence]:
    left = {share: _distance(layers, trial.shares, _mixed(trial.own, share)) for share in _SHARES}
    share = min(left, key=lambda share: left[share])
    # What is left of the variance 1 is in every running variance, whatever the data.
    least = min(float(layer.running[1].min()) for layer in layers.values())
    if 1 - left[share] / whole >= _LEAST and least >= 0.9 * (1 - share):
        yield Evidence("initial-statistics", 1 - share, 1 - left[share] / whole)
    single = _single(trial)
    if single.keys() >= layers.keys():
        explains = 1 - _distance(layers, trial.shares, single) / whole
        if explains >= _LEAST:
            yield Evidence("single-row-statistics", None, explains)


_SHARES = tuple(n / 50 for n in range(2, 50))
"""Of the data in a running average. Statistics that are wholly the initial ones show in the file (BN005)."""


def _mixed(own: Mapping[Key, Statistics], share: float) -> dict[Key, Statistics]:
    """What running averages hold that began at mean 0 and variance 1 and have this share of the data's."""
    return {key: (share * mean, share * var + (1 - share)) for key, (mean, var) in own.items()}


def _distance(
    layers: Mapping[Key, Layer], shares: Mapping[Key, float], supposed: Mapping[Key, Statistics]
) -> float:
    """See the top of the file."""
    total = 0.0
    for key, layer in layers.items():
        mean, var = supposed[key]
        v, stored = var + layer.eps, layer.running[1] + layer.eps
        off = (layer.running[0] - mean).square() / v + (stored / v).log().square()
        total += shares[key] * float(off.mean())
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
