"""The BatchNorm layers of a file that was inspected, as states of a run."""

from __future__ import annotations

from dataclasses import replace
from math import isfinite
from typing import TYPE_CHECKING

from bnaudit.judge.statics import statistics_untouched
from bnaudit.records.drift import DEAD_GAMMA
from bnaudit.records.training import LayerState
from bnaudit.records.values import Skipped
from bnaudit.summary.gain import gain_of, leaks, median_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnaudit.records.inspection import BatchNormStatics


_UNTOUCHED = Skipped("the statistics are as initialised: no batch has been seen")


def state_of(layer: BatchNormStatics) -> LayerState:
    """What is stored of a layer."""
    if statistics_untouched(layer):
        # |gamma| itself would stand for |gamma|/sigma, and the first step would look like a jump.
        state = state_of(replace(layer, running_mean=None, running_var=None))
        return replace(
            state,
            gain=_UNTOUCHED,
            gain_minimum=_UNTOUCHED,
            gain_maximum=_UNTOUCHED,
            leak=_UNTOUCHED,
            leak_maximum=_UNTOUCHED,
        )
    gain = gain_of(layer)
    found = list(filter(isfinite, leaks(layer)))
    no_leak = Skipped(
        "no running variance is stored" if layer.running_var is None else "no variance is finite"
    )
    middle = median_of(found)
    return LayerState(
        name=layer.name,
        channels=layer.channels or 0,
        gain=gain if isinstance(gain, Skipped) else gain.median,
        gain_minimum=gain if isinstance(gain, Skipped) else gain.minimum,
        gain_maximum=gain if isinstance(gain, Skipped) else gain.maximum,
        leak=no_leak if middle is None else middle,
        leak_maximum=max(found) if found else no_leak,
        dead_gamma=dead_gamma(layer.gamma),
    )


def dead_gamma(gamma: Sequence[float] | None) -> int | Skipped:
    """How many channels gamma switches off."""
    if gamma is None:
        return Skipped("no gamma is stored")
    sizes = [abs(g) for g in gamma]
    if not all(map(isfinite, sizes)):
        return Skipped("gamma is not finite")
    top = max(sizes, default=0.0)
    return sum(size < DEAD_GAMMA * top or top == 0 for size in sizes)
