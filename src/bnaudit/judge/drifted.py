"""Where drift starts: shared by the rules about means and about variances.

With batch statistics every layer normalises what it gets, so statistics that are wrong in one layer
disturb no other layer's comparison: what drifts by itself is wrong by itself. What is handed on is a
change of the function (other weights, other inputs), and it shows in the layers behind without a gap. So
the drifting layers are cut into runs, and a run is one finding, at its first layer. A run ends at a layer
that shows less than half of what would make it drift.

With running statistics (--mode running) a wrong layer shifts everything behind it as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from bnaudit.records.values import Skipped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bnaudit.records.drift import Channels, Drift
    from bnaudit.records.layer import LayerReport
    from bnaudit.records.report import Report

    Pick = Callable[[Channels], Drift | Skipped]


@dataclass(frozen=True, slots=True)
class Limits:
    """What makes a layer drift; all are compared with the end of the interval that is nearer to 0.

    Attributes:
        above: of a single channel whose batches lie above what is stored.
        below: of one whose batches lie below it.
        layer: of a layer as a whole.
    """

    above: float
    below: float
    layer: float

    def halved(self) -> Limits:
        """For telling a layer that does not drift from one that hardly does."""
        return Limits(self.above / 2, self.below / 2, self.layer / 2)


@dataclass(frozen=True, slots=True)
class Drifting:
    """A layer that drifts.

    Attributes:
        place: among the layers that have this drift, from 0.
        layer: which.
        drift: all its channels.
        living: channels with a gamma; drift of the others changes nothing.
        channels: those beyond their own limit, worst first; empty where only the layer is.
        middle: near end of the interval of the layer's excess over sampling noise.
        whole: whether the layer as a whole drifts, or half of its channels do.
    """

    place: int
    layer: LayerReport
    drift: Drift
    living: tuple[int, ...]
    channels: tuple[int, ...]
    middle: float
    whole: bool

    @property
    def share(self) -> float:
        """Of the living channels that are beyond their own limit."""
        return len(self.channels) / len(self.living)

    @property
    def typical(self) -> float:
        """Middle of the living channels' observed drift, without sign."""
        return median(abs(self.drift.signed[c]) for c in self.living)

    @property
    def interval(self) -> tuple[float, float]:
        """Of the layer's excess."""
        excess = self.drift.excess
        return (0.0, 0.0) if excess is None else (excess.lower, excess.upper)


@dataclass(frozen=True, slots=True)
class Run:
    """Layers that drift one behind the other.

    Attributes:
        start: the first.
        behind: the others.
        of: how many layers have this drift at all.
    """

    start: Drifting
    behind: tuple[Drifting, ...]
    of: int


def runs(report: Report, pick: Pick, limits: Limits) -> list[Run]:
    """The runs of drifting layers, in execution order.

    Args:
        report: an audit on data.
        pick: which of a layer's drifts.
        limits: what makes a layer drift.
    """
    judged = list(_judged(report, pick))
    found: list[list[Drifting]] = []
    open_run: list[Drifting] | None = None
    for place, (layer, drift, living) in enumerate(judged):
        drifting = _drifting(place, layer, drift, living, limits)
        if drifting is not None and open_run is None:
            open_run = [drifting]
            found.append(open_run)
        elif drifting is not None and open_run is not None:
            open_run.append(drifting)
        elif _drifting(place, layer, drift, living, limits.halved()) is None:
            open_run = None
    return [Run(run[0], tuple(run[1:]), len(judged)) for run in found]


def _judged(report: Report, pick: Pick) -> Iterable[tuple[LayerReport, Drift, tuple[int, ...]]]:
    for layer in report.layers:
        if isinstance(layer.statistics, Skipped):
            continue
        drift = pick(layer.statistics)
        if isinstance(drift, Skipped) or not drift.margin:
            continue
        dead = set(layer.statistics.dead_gamma)
        living = tuple(c for c in range(len(drift.signed)) if c not in dead)
        if living:
            yield layer, drift, living


def _drifting(
    place: int, layer: LayerReport, drift: Drift, living: tuple[int, ...], limits: Limits
) -> Drifting | None:
    sure = {c: drift.surely(c) for c in living}
    beyond = [c for c in living if sure[c] > _limit(limits, drift.signed[c])]
    middle = drift.excess.lower if drift.excess else 0.0
    if not beyond and middle <= limits.layer:
        return None
    beyond.sort(key=lambda c: -sure[c])
    whole = middle > limits.layer or len(beyond) >= _WHOLE * len(living)
    return Drifting(place, layer, drift, living, tuple(beyond), middle, whole)


def _limit(limits: Limits, signed: float) -> float:
    return limits.above if signed > 0 else limits.below


_WHOLE = 0.5
"""Share of channels from which on the layer is meant, not its channels."""


def common_factor(drifting: Drifting) -> float | None:
    """log2 of the factor that all channels' variances are off by, or None where they disagree.

    A change of the input's scale by k multiplies every variance behind a linear layer by k^2.
    """
    signed = sorted(drifting.drift.signed[c] for c in drifting.living)
    n = len(signed)
    low, high = signed[n // 10], signed[n - 1 - n // 10]
    middle = median(signed)
    return middle if high - low <= _AGREEMENT * max(abs(middle), 1.0) else None


_AGREEMENT = 0.25
"""Of the factor's log2 (at least 1): how far channels that share a factor may lie apart, 10th to 90th
percentile. Sampling alone puts the channels of a healthy layer 0.1 to 0.5 apart."""
