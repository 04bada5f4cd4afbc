"""Which channels are worth a look: those that a rule's own limits single out, at each layer by itself.

A finding speaks for a run of layers, or for the whole model; here every layer has its own line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnaudit.records.values import Skipped
from bnaudit.summary.audit import is_synthetic
from bnaudit.summary.gain import gain_channels, leaks, middle, outlying

if TYPE_CHECKING:
    from bnaudit.records.drift import Channels, Drift
    from bnaudit.records.inspection import BatchNormStatics
    from bnaudit.records.layer import LayerReport
    from bnaudit.records.report import Report


@dataclass(frozen=True, slots=True)
class DriftLimits:
    """What makes a channel or a layer drift, compared with the end of its interval that is nearer to 0.

    Attributes:
        above: of a channel whose batches lie above what is stored.
        below: of one whose batches lie below it.
        layer: of a layer as a whole.
    """

    above: float
    below: float
    layer: float


@dataclass(frozen=True, slots=True)
class ChannelLimits:
    """The thresholds of the rules, as configured.

    Attributes:
        mean: of mean drift, in sigma.
        variance: of variance drift, in log2.
        ratio, deviations, left_out: of `bnaudit.summary.gain.outlying`.
        leak: largest share of eps in a channel's variance.
    """

    mean: DriftLimits
    variance: DriftLimits
    ratio: float
    deviations: float
    left_out: float
    leak: float


@dataclass(frozen=True, slots=True)
class Worst:
    """The channel that drifts most among those beyond their limit, or of a layer that drifts as a whole.

    Attributes:
        channel: which.
        value: its distance.
        median: over the layer's channels.
    """

    channel: int
    value: float
    median: float


@dataclass(frozen=True, slots=True)
class Conspicuous:
    """What stands out at one layer.

    Attributes:
        layer: which.
        mean, variance: drift, None within the limits and on synthetic data.
        silent: channels that no gradient reaches.
        switched_off: channels with a gamma near 0.
        outlying: channels whose stored |gamma|/sigma is far above the layer's.
        ratio: of the largest of these, over the layer's median.
        leak: the largest share of eps in a channel's variance, None within the limit.
    """

    layer: LayerReport
    mean: Worst | None
    variance: Worst | None
    silent: tuple[int, ...]
    switched_off: tuple[int, ...]
    outlying: tuple[int, ...]
    ratio: float
    leak: float | None

    @property
    def anything(self) -> bool:
        """Whether there is something to say."""
        found = (self.mean, self.variance, self.leak)
        return any(f is not None for f in found) or bool(
            self.silent or self.switched_off or self.outlying
        )


def conspicuous(report: Report, limits: ChannelLimits) -> list[Conspicuous]:
    """The layers with channels worth a look, in execution order.

    Args:
        report: an audit; only layers with channel statistics are looked at.
        limits: of the rules that it was judged by.
    """
    stored = {bn.name: bn for bn in (report.inspection.batchnorms if report.inspection else ())}
    drawn = is_synthetic(report)
    found = (
        _at(layer, layer.statistics, stored.get(layer.name), limits, drawn=drawn)
        for layer in report.layers
        if not isinstance(layer.statistics, Skipped)
    )
    return [entry for entry in found if entry.anything]


def _at(
    layer: LayerReport,
    channels: Channels,
    stored: BatchNormStatics | None,
    limits: ChannelLimits,
    *,
    drawn: bool,
) -> Conspicuous:
    far: tuple[int, ...] = ()
    gains = () if stored is None or stored.of_weights else gain_channels(stored)
    if stored is not None and gains and not isinstance(gains, Skipped):
        kept = [
            g if e <= limits.left_out else 0.0 for g, e in zip(gains, leaks(stored), strict=True)
        ]
        far = outlying(kept, limits.ratio, limits.deviations)
    dead, silent = frozenset(channels.dead_gamma), channels.dead_gradient
    leak = None if isinstance(layer.leak, Skipped) else layer.leak.maximum.median
    return Conspicuous(
        layer,
        mean=None if drawn else _worst(channels.mean_drift, dead, limits.mean),
        variance=None if drawn else _worst(channels.variance_drift, dead, limits.variance),
        silent=() if isinstance(silent, Skipped) else silent,
        switched_off=channels.dead_gamma,
        outlying=far,
        ratio=max(kept[c] for c in far) / middle([g for g in kept if g > 0]) if far else 1.0,
        leak=leak if leak is not None and leak > limits.leak else None,
    )


def _worst(drift: Drift | Skipped, dead: frozenset[int], limits: DriftLimits) -> Worst | None:
    """Drift of a channel without gamma changes nothing; without an interval nothing is sure."""
    if isinstance(drift, Skipped) or not drift.margin:
        return None
    living = [c for c in range(len(drift.signed)) if c not in dead]
    if not living:
        return None
    sides = {c: limits.above if drift.signed[c] > 0 else limits.below for c in living}
    beyond = [c for c in living if drift.surely(c) > sides[c]]
    if not beyond and (drift.excess is None or drift.excess.lower <= limits.layer):
        return None
    channel = max(beyond or living, key=drift.surely)
    return Worst(channel, abs(drift.signed[channel]), drift.median)
