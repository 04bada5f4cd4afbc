"""Where drift starts: shared by the rules about means and about variances.

With batch statistics every layer normalises what it gets, so statistics that are wrong in one layer
disturb no other layer's comparison: what drifts by itself is wrong by itself. A change of the function
(other weights, other inputs) is handed on, past layers that hardly show it. Which of the two it is the
layers behind do not tell, and the remedy is the same. So a drifting layer is told of at the front-most one
that it reads from and that drifts no less, in means or in variances: that is where to look first. A layer
that drifts more severely than all in front of it is told by itself, so that a known small drift hides no
large one; behind a first layer that differs as a whole, everything is told there, since the inputs reach
all of it.

With running statistics (--mode running) a wrong layer shifts everything behind it as well.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from math import hypot
from operator import sub
from typing import TYPE_CHECKING

from bnaudit.judge.rule import Threshold
from bnaudit.records.finding import Severity
from bnaudit.records.values import Skipped
from bnaudit.summary.gain import middle

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bnaudit.judge.rule import Rule
    from bnaudit.records.drift import Drift
    from bnaudit.records.layer import LayerReport
    from bnaudit.records.report import Report

HEALTHY = (
    "216 trained networks (8 architectures, 9 regimes, 3 seeds; docs/defects.md), 8 batches of 32 "
    "held-back rows: "
)
"""The distribution that the thresholds of drift come from."""

_COST = "wrong statistics in 63 of those networks (python -m bench.defects.sweep --cost): "

MEAN = (
    Threshold(
        "channel",
        0.5,
        "|mean - running_mean| / sigma_running of one channel, at the near end of its interval",
        HEALTHY + "largest 0.11, of 1,026 layers",
    ),
    Threshold(
        "layer",
        0.1,
        "the middle of a layer's channels beyond what sampling makes, at the near end of its interval",
        HEALTHY + "largest 0.024",
    ),
    Threshold(
        "channel-error",
        0.7,
        "the same of one channel from which it is an error by itself",
        _COST
        + "0.5 sigma in one channel costs 5 points of accuracy in 3 % of cases, 1 in 16 %, 2 in 32 %",
    ),
    Threshold(
        "layer-error",
        0.15,
        "the same from which a whole layer is an error",
        _COST + "0.1 sigma, signs at random, in 0.3 %, 0.2 in 8 %, 0.3 in 25 %",
    ),
    Threshold(
        "share-error",
        0.25,
        "share of a layer's channels beyond their own limit from which it is an error",
        "a choice: one channel in a layer of four",
    ),
)

VARIANCE = (
    Threshold(
        "channel-above",
        1.0,
        "log2(variance / running variance) of one channel, at the near end of its interval",
        HEALTHY + "largest 0.64, of 1,026 layers",
    ),
    Threshold(
        "channel-below",
        2.0,
        "log2(running variance / variance) of one channel, at the near end of its interval",
        HEALTHY + "largest 1.05: rare large values, which a sample may miss but not invent",
    ),
    Threshold(
        "layer",
        0.35,
        "|log2|, the middle of a layer's channels beyond what sampling makes, at the near end of its "
        "interval",
        HEALTHY + "largest 0.22, in an autoencoder trained on shifted, noisy images; 4 of 64: 0.25",
    ),
    Threshold(
        "channel-above-error",
        1.4,
        "the same of a channel from which it is an error by itself",
        _COST
        + "a factor of 2 in one channel costs 5 points of accuracy in 0.8 % of cases, 4 in 12 %",
    ),
    Threshold(
        "channel-below-error",
        2.6,
        "the same of a channel from which it is an error by itself",
        _COST + "a factor of 4 in one channel in 2 %, 8 in 4 %, 64 in 11 %",
    ),
    Threshold(
        "layer-error",
        0.5,
        "the same from which a whole layer is an error",
        _COST
        + "a factor of 1.4 in the variance in 1 % (data above) and 8 % (data below), 2 in 17 and 29 %",
    ),
    Threshold(
        "share-error",
        0.25,
        "share of a layer's channels beyond their own limit from which it is an error",
        "a choice: one channel in a layer of four",
    ),
)

RULES = {"BN201": ("mean_drift", MEAN), "BN202": ("variance_drift", VARIANCE)}
"""Rule -> which drift of a layer it is about, and its thresholds unless configured."""


@dataclass(frozen=True, slots=True)
class Drifting:
    """One of a layer's two drifts, where it is beyond its limits.

    Attributes:
        drift: all its channels.
        living: channels with a gamma; drift of the others changes nothing.
        channels: those beyond their own limit, worst first; empty where only the layer is.
        middle: near end of the interval of the layer's excess over sampling noise.
        whole: whether the layer as a whole drifts, or half of its channels do.
        severity: an error where a quarter of the layer is wrong, its middle channel is by far, or a
            single one further still.
    """

    drift: Drift
    living: tuple[int, ...]
    channels: tuple[int, ...]
    middle: float
    whole: bool
    severity: Severity

    @property
    def typical(self) -> float:
        """Middle of the living channels' observed drift, without sign."""
        return middle(abs(self.drift.signed[c]) for c in self.living)

    @property
    def interval(self) -> tuple[float, float]:
        """Of the layer's excess."""
        excess = self.drift.excess
        return (0.0, 0.0) if excess is None else (excess.lower, excess.upper)


@dataclass(frozen=True, slots=True)
class Place:
    """A layer whose drift was judged.

    Attributes:
        layer: which.
        kinds: rule -> its drift, of those that are beyond their limits.
        quiet: whether the layer is beyond not even half of any limit.
        front: labels of all judged layers that it reads from, directly or not.
    """

    layer: LayerReport
    kinds: Mapping[str, Drifting]
    quiet: bool
    front: frozenset[str]

    @property
    def severity(self) -> Severity:
        """The worse of the two; only of a layer that drifts."""
        return max(drifting.severity for drifting in self.kinds.values())

    @property
    def reads_inputs(self) -> bool:
        """Whether no other layer stands in front."""
        return not self.front

    @property
    def whole(self) -> bool:
        """Whether the layer as a whole is off, in either way."""
        return any(drifting.whole for drifting in self.kinds.values())


@dataclass(frozen=True, slots=True)
class Cause:
    """What one finding is about: a layer that drifts, and those told of with it.

    Attributes:
        root: the layer.
        others: drifting layers that are told of here, in the order of the calls.
        behind: how many judged layers read from the root.
        in_front: drifting layers in front of the root, none as severe.
        agreeing: whether there are judged layers in front, and none shows half of a drift.
    """

    root: Place
    others: tuple[Place, ...]
    behind: int
    in_front: tuple[str, ...]
    agreeing: bool

    @property
    def several(self) -> bool:
        """Whether so many layers drift that none of them is a chance.

        The limits are beyond what one of 1,026 healthy layers shows.
        """
        return len(self.others) + 1 >= _SEVERAL


def causes(report: Report, rule: Rule) -> list[Cause]:
    """The causes of drift, in the order of the calls.

    Args:
        report: an audit on data.
        rule: BN201 or BN202, with its thresholds as configured; the other one's are the defaults.
    """
    limits = {
        other: {t.name: t.value for t in (rule.thresholds if other == rule.id else thresholds)}
        for other, (_, thresholds) in RULES.items()
    }
    places = _places(report, limits)
    drifting = [place for place in places if place.kinds]
    told: dict[str, list[Place]] = {}
    for place in drifting:
        told.setdefault(_root(place, drifting).layer.label, []).append(place)
    by_label = {place.layer.label: place for place in places}
    roots = _few({label: tuple(group) for label, group in told.items()}, by_label)
    found = []
    for label, group in roots.items():
        root = by_label[label]
        front = [place for place in places if place.layer.label in root.front]
        found.append(
            Cause(
                root,
                tuple(place for place in group if place is not root),
                sum(label in place.front for place in places),
                tuple(place.layer.label for place in front if place.kinds),
                bool(front) and all(place.quiet for place in front),
            )
        )
    return found


_known: ContextVar[dict[str, list[Place]] | None] = ContextVar("known", default=None)


@contextmanager
def once() -> Iterator[None]:
    """What runs inside judges one report: the layers' drift is found once for all rules of equal limits."""
    token = _known.set({})
    try:
        yield
    finally:
        _known.reset(token)


def _places(report: Report, limits: Mapping[str, Mapping[str, float]]) -> list[Place]:
    """The layers with a drift that can be judged, and what stands in front of each."""
    known = _known.get()
    if known is None:
        return _found(report, limits)
    key = f"{id(report)} {limits}"
    if key not in known:
        known[key] = _found(report, limits)
    return known[key]


def _found(report: Report, limits: Mapping[str, Mapping[str, float]]) -> list[Place]:
    running = report.run is not None and report.run.mode == "running"
    found: list[Place] = []
    front: dict[str, frozenset[str]] = {}
    before: tuple[str, ...] = ()
    for layer in report.layers:
        # What is not known is the order of the calls.
        reads = before[-1:] if layer.reads is None or running else layer.reads
        judged = {place.layer.label for place in found}
        near = frozenset(label for label in reads if label in judged)
        front[layer.label] = near.union(*(front.get(label, frozenset()) for label in reads))
        before = (*before, layer.label)
        if isinstance(layer.statistics, Skipped) or _ignores_its_statistics(report, layer):
            continue
        kinds = {
            rule: drift
            for rule, (attribute, _) in RULES.items()
            if not isinstance(drift := getattr(layer.statistics, attribute), Skipped)
            and drift.margin
        }
        dead = set(layer.statistics.dead_gamma)
        living = tuple(range(layer.channels))
        living = tuple(c for c in living if c not in dead) if dead else living
        if not kinds or not living:
            continue
        quiet = True
        beyond: dict[str, Drifting] = {}
        for rule, drift in kinds.items():
            sure = list(map(sub, map(abs, drift.signed), drift.margin))
            if _beyond(drift, sure, living, limits[rule], 0.5):
                quiet = False
                if drifting := _beyond(drift, sure, living, limits[rule], 1.0):
                    beyond[rule] = drifting
        found.append(Place(layer, beyond, quiet, front[layer.label]))
    return found


def _ignores_its_statistics(report: Report, layer: LayerReport) -> bool:
    """A file that runs the layer in training mode never uses what it stores (BN004)."""
    if report.model.format == "module":
        return False
    stored = () if report.inspection is None else report.inspection.batchnorms
    return layer.training_flag or any(bn.training and bn.name == layer.name for bn in stored)


def _beyond(
    drift: Drift,
    sure: list[float],
    living: tuple[int, ...],
    limits: Mapping[str, float],
    share: float,
) -> Drifting | None:
    """What is beyond a share of the limits, or None; `sure` is `drift.surely` by channel, below 0 too."""
    above, below = (share * channel_limit(limits, side) for side in (1.0, -1.0))
    channels: list[int] = []
    if not max(sure) <= min(above, below):
        signed = drift.signed
        channels = [c for c in living if sure[c] > (above if signed[c] > 0 else below)]
    middle = drift.excess.lower if drift.excess else 0.0
    whole = middle > share * limits["layer"]
    if not channels and not whole:
        return None
    channels.sort(key=lambda c: -sure[c])
    far = any(sure[c] > channel_limit(limits, drift.signed[c], "-error") for c in channels)
    wide = len(channels) >= limits["share-error"] * len(living)
    return Drifting(
        drift,
        living,
        tuple(channels),
        middle,
        whole or len(channels) >= _WHOLE * len(living),
        Severity.ERROR if far or wide or middle > limits["layer-error"] else Severity.WARNING,
    )


def channel_limit(limits: Mapping[str, float], signed: float, error: str = "") -> float:
    """Of one channel, by the side on which the data lies; with "-error" that of an error."""
    side = "above" if signed > 0 else "below"
    return limits.get(f"channel{error}", limits.get(f"channel-{side}{error}", 0.0))


_WHOLE = 0.5
"""Share of channels from which on the layer is meant, not its channels."""


def _root(place: Place, drifting: list[Place]) -> Place:
    """The front-most layer that drifts no less, or through which other inputs reach this one."""
    for other in drifting:
        if other.layer.label in place.front and (
            other.severity >= place.severity or (other.reads_inputs and other.whole)
        ):
            return other
        if other is place:
            return place
        if other.layer.name == place.layer.name:
            return _root(other, drifting)  # an earlier call of the same layer
    return place


def _few(
    told: Mapping[str, tuple[Place, ...]], by_label: Mapping[str, Place]
) -> dict[str, tuple[Place, ...]]:
    """The same; more layers of one severity than a person reads one by one are told at the first."""
    kept: dict[str, tuple[Place, ...]] = {}
    for severity in (Severity.ERROR, Severity.WARNING):
        of = [label for label in told if by_label[label].severity is severity]
        if len(of) > _MANY:
            of, rest = of[:1], of[1:]
            kept[of[0]] = (*told[of[0]], *(place for label in rest for place in told[label]))
        else:
            kept.update({label: told[label] for label in of})
    return {label: kept[label] for label in told if label in kept}


_SEVERAL = 3

_MANY = 3
"""Branches that drift side by side, each with a finding of its own."""


def expecting(report: Report) -> frozenset[str]:
    """Layers that show half of a drift: where something in front was changed, they still expect it."""
    limits = {
        rule: {t.name: t.value for t in thresholds} for rule, (_, thresholds) in RULES.items()
    }
    return frozenset(p.layer.label for p in _places(report, limits) if not p.quiet)


def drifting_channels(report: Report) -> dict[str, frozenset[int]]:
    """Label -> the channels whose variance drifts: beyond their own limit, or with the whole layer."""
    limits = {
        rule: {t.name: t.value for t in thresholds} for rule, (_, thresholds) in RULES.items()
    }
    places = _places(report, limits)
    found = {p.layer.label: p.kinds["BN202"] for p in places if "BN202" in p.kinds}
    return {name: frozenset(f.living if f.whole else f.channels) for name, f in found.items()}


@dataclass(frozen=True, slots=True)
class Apart:
    """Two calls of one layer, on inputs of different statistics.

    Attributes:
        calls: all calls of the layer whose drift is known, in their order.
        mean: sigma between the means of the two that are farthest, the middle channel's.
        variance: |log2| between their variances.
        sure_mean, sure_variance: the same at the near end of the interval.
    """

    calls: tuple[LayerReport, ...]
    mean: float
    variance: float
    sure_mean: float
    sure_variance: float


CALLS = (
    Threshold(
        "mean",
        0.2,
        "sigma between the means of two calls of a layer, the middle channel's, at the near end of its "
        "interval",
        "twice BN201's limit for a layer: one running mean between them is off by that from both",
    ),
    Threshold(
        "variance",
        0.7,
        "|log2| between their variances, likewise",
        "twice BN202's limit for a layer",
    ),
)


def calls_apart(report: Report, name: str, limits: Mapping[str, float]) -> Apart | None:
    """The two calls of a layer that are farthest apart, where they are so beyond a limit.

    Both are held against the same stored statistics, so that the difference of their drifts does not depend
    on these.

    Args:
        report: an audit on data.
        name: of the layer.
        limits: "mean" and "variance".
    """
    calls = tuple(x for x in report.layers if x.name == name and _drifts_of(x) is not None)
    dead = {
        c for x in calls if not isinstance(x.statistics, Skipped) for c in x.statistics.dead_gamma
    }
    worst: Apart | None = None
    for i, one in enumerate(calls):
        for two in calls[i + 1 :]:
            sizes = []
            for a, b in zip(_drifts_of(one) or (), _drifts_of(two) or (), strict=True):
                living = [c for c in range(one.channels) if c not in dead]
                off = [abs(a.signed[c] - b.signed[c]) for c in living]
                # What the running side adds to both margins is the same number in both drifts.
                noise = [hypot(a.margin[c], b.margin[c]) for c in living]
                sure = [max(d - n, 0.0) for d, n in zip(off, noise, strict=True)]
                sizes.append((middle(off), middle(sure)) if living else (0.0, 0.0))
            (mean, sure_mean), (variance, sure_variance) = sizes
            found = Apart(calls, mean, variance, sure_mean, sure_variance)
            if worst is None or _farness(found, limits) > _farness(worst, limits):
                worst = found
    return worst if worst is not None and _farness(worst, limits) > 1 else None


def _farness(found: Apart, limits: Mapping[str, float]) -> float:
    return max(found.sure_mean / limits["mean"], found.sure_variance / limits["variance"])


def _drifts_of(layer: LayerReport) -> tuple[Drift, Drift] | None:
    """Both drifts of a call, where they have an interval."""
    if isinstance(layer.statistics, Skipped):
        return None
    mean, variance = layer.statistics.mean_drift, layer.statistics.variance_drift
    if isinstance(mean, Skipped) or isinstance(variance, Skipped):
        return None
    return (mean, variance) if mean.margin and variance.margin else None


def common_factor(drifting: Drifting) -> float | None:
    """log2 of the factor that all channels' variances are off by, or None where they disagree.

    A change of the input's scale by k multiplies every variance behind a linear layer by k^2.
    """
    signed = sorted(drifting.drift.signed[c] for c in drifting.living)
    n = len(signed)
    low, high = signed[n // 10], signed[n - 1 - n // 10]
    centre = middle(signed)
    return centre if high - low <= _AGREEMENT * max(abs(centre), 1.0) else None


_AGREEMENT = 0.25
"""Of the factor's log2 (at least 1): how far channels that share a factor may lie apart, 10th to 90th
percentile. Sampling alone puts the channels of a healthy layer 0.1 to 0.5 apart."""
