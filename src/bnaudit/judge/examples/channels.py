"""What the channels of a healthy layer show, and drifts to put in its place."""

from __future__ import annotations

from bnaudit.judge.examples.inspection import CHANNELS
from bnaudit.records.drift import Channels, Drift, Excess
from bnaudit.records.values import Spread

BATCHES = 8
_MARGIN = 0.04


def spread(value: float, by: float = 0.05) -> Spread:
    """A quantity that varies by a few percent over the batches."""
    return Spread(value, value * (1 - by), value * (1 + by), BATCHES)


def drift(signed: dict[int, float] | None = None, *, everywhere: float = 0.02) -> Drift:
    """A drift record of 16 channels.

    Args:
        signed: channel -> its signed drift.
        everywhere: that of the others, with alternating sign.
    """
    named = signed or {}
    values = [named.get(c, everywhere * (-1) ** c) for c in range(CHANNELS)]
    size = sorted(map(abs, values))
    middle = max(size[CHANNELS // 2] - 0.01, 0.005)
    return Drift(
        median=size[CHANNELS // 2],
        p95=size[-2],
        maximum=size[-1],
        channel=max(range(CHANNELS), key=lambda c: abs(values[c])),
        sampling_error=0.01,
        signed=tuple(values),
        margin=(_MARGIN,) * CHANNELS,
        least=tuple(max(abs(value) - 0.03, 0.0) for value in values),
        excess=Excess(middle, middle - 0.005, middle + 0.005),
        batches=BATCHES,
        groups=BATCHES,
    )


def uniform(value: float) -> Drift:
    """The same signed drift in every channel."""
    return drift(dict.fromkeys(range(CHANNELS), value))


def statistics() -> Channels:
    """What a healthy layer shows."""
    return Channels((), (), 1.6, drift(), drift(), grad_xhat_norm=spread(0.02))
