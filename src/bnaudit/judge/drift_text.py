"""How a finding about drift reads: which channels, how sure, where it comes from, what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.judge.drifted import common_factor
from bnaudit.judge.obstacles import unlike_training
from bnaudit.records.finding import Severity

if TYPE_CHECKING:
    from bnaudit.judge.drifted import Drifting, Run
    from bnaudit.judge.rule import Details, Rule
    from bnaudit.records.report import Report

HEALTHY = (
    "216 trained networks (8 architectures, 9 regimes, 3 seeds; docs/defects.md), 8 batches of 32 "
    "held-back rows: "
)
"""The distribution that the thresholds of drift come from."""

_SHOWN = 4
_RECOMPUTE = (
    "compute the running statistics again with these weights (torch.optim.swa_utils.update_bn, or a "
    "pass over training data in train mode), and check how the checkpoint was put together"
)
_INPUT = (
    "feed the audit (and the deployed model) what training fed it: the same range, mean and std, "
    "channel order and crop; if this is the data of training, the statistics are stale: recompute them"
)


def listed(names: list[str]) -> str:
    """The first few, and how many more."""
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def channels_text(channels: tuple[int, ...]) -> str:
    """The channels by index: `channel 5`, `channels 3, 5, 9`."""
    named = listed([str(c) for c in channels])
    return f"channel {named}" if len(channels) == 1 else f"channels {named}"


def severity(rule: Rule, drifting: Drifting) -> Severity:
    """An error where a quarter of the layer is wrong, or its middle channel is by far."""
    far = drifting.middle > rule.limit("layer-error")
    wide = drifting.share >= rule.limit("share-error")
    return Severity.ERROR if far or wide else Severity.WARNING


def details(rule: Rule, run: Run, report: Report) -> Details:
    """What every finding about drift says besides its message."""
    start = run.start
    unlike = unlike_training(report) if start.place > 0 else None
    running = report.run is not None and report.run.mode == "running"
    sure = _confidence(start, _limit(rule, start), running=running)
    observed, interval = _observed(start)
    return {
        "layer": start.layer.label,
        "severity": severity(rule, start) if unlike is None else Severity.INFO,
        "fix": _fix(run),
        "observed": observed,
        "threshold": _limit(rule, start),
        "channels": () if start.whole and not start.channels else tuple(sorted(start.channels)),
        "interval": interval,
        "confidence": sure if unlike is None else f"{sure}; {unlike}",
    }


def _limit(rule: Rule, start: Drifting) -> float:
    return rule.limit("layer") if start.whole else _own_limit(rule, start)


def _own_limit(rule: Rule, start: Drifting) -> float:
    worst = start.drift.signed[start.channels[0]]
    name = "channel" if any(t.name == "channel" for t in rule.thresholds) else None
    return rule.limit(name or ("channel-above" if worst > 0 else "channel-below"))


def _observed(start: Drifting) -> tuple[float, tuple[float, float]]:
    if start.whole:
        return start.typical, start.interval
    worst, drift = start.channels[0], start.drift
    size, margin = abs(drift.signed[worst]), drift.margin[worst]
    return size, (max(size - margin, 0.0), size + margin)


def _confidence(start: Drifting, limit: float, *, running: bool) -> str:
    drift = start.drift
    if start.whole:
        least = sorted(drift.least[c] for c in start.living)[len(start.living) // 2]
        what = "95 % interval of what goes beyond sampling noise,"
    else:
        least = drift.least[start.channels[0]]
        what = "95 % interval"
    every = f", in each of the {drift.batches} batches" if least > limit else ""
    upstream = "; layers in front run on their stored statistics" if running else ""
    return f"{what} over {drift.batches} batches{every}{upstream}"


def origin(run: Run) -> str:
    """Where the drift comes from, as far as the layers tell."""
    start = run.start
    if start.place == 0 and start.whole:
        factor = common_factor(start)
        return "" if factor is None else _scale(factor)
    if start.place == 0:
        return "; the other channels of this first layer agree with theirs"
    return "; the layers in front agree with theirs, so the inputs are as in training"


def _scale(log2_variance: float) -> str:
    return (
        f"; all channels share the factor, as if inputs were {2 ** (log2_variance / 2):.3g} times "
        "those of training"
    )


def consequences(run: Run) -> str:
    """The layers behind that drift as well."""
    if not run.behind:
        return ""
    names = [d.layer.label for d in run.behind]
    rest = run.of - run.start.place - 1
    return f"; it goes on in {len(names)} of the {rest} layers behind ({listed(names)})"


def _fix(run: Run) -> str:
    if run.start.place > 0:
        return _RECOMPUTE
    return (
        _INPUT
        if run.start.whole
        else f"{_RECOMPUTE}; if this layer reads inputs, check their units"
    )
