"""How a finding about drift reads: which channels, how sure, where it comes from, what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.judge.drifted import CALLS, calls_apart, causes, channel_limit, common_factor
from bnaudit.judge.obstacles import one_class, unlike_training
from bnaudit.judge.remedies import INPUT, RECOMPUTE, SEPARATE, prepared, remedy, supposed
from bnaudit.records.finding import Severity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bnaudit.judge.drifted import Cause, Drifting
    from bnaudit.judge.rule import Details, Rule
    from bnaudit.records.finding import Finding
    from bnaudit.records.report import Report

_SHOWN = 4
_CALLS = {t.name: t.value for t in CALLS}


def listed(names: list[str]) -> str:
    """The first few, and how many more."""
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def channels_text(channels: tuple[int, ...]) -> str:
    """The channels by index: `channel 5`, `channels 3, 5, 9`."""
    named = listed([str(c) for c in channels])
    return f"channel {named}" if len(channels) == 1 else f"channels {named}"


def findings(rule: Rule, report: Report, fact: Callable[[Drifting], str]) -> Iterator[Finding]:
    """A finding for each cause of drift whose front-most layer has this rule's drift.

    Args:
        rule: BN201 or BN202.
        report: an audit on data.
        fact: what a layer's drift is, without a "; " in it.
    """
    for cause in causes(report, rule):
        start = cause.root.kinds.get(rule.id)
        if start is None:
            continue
        shared = calls_apart(report, cause.root.layer.name, _CALLS) is not None
        message = fact(start) + ("" if shared else _origin(cause, report)) + _others(cause)
        yield rule.finding(message, **_details(rule, cause, start, report, shared=shared))


def _origin(cause: Cause, report: Report) -> str:
    """Where the drift comes from, as far as the layers tell."""
    root, factor = cause.root, _scale(cause)
    evidence = prepared(report, root.layer.label)
    if evidence is not None:
        return f"; {supposed(evidence, 'drift of the first layers')}"
    if root.reads_inputs and root.whole:
        if factor is None:
            return ""
        return f"; all channels share the factor, as if inputs were {factor:.3g} times those of training"
    if root.reads_inputs:
        return "; the other channels of this first layer agree with theirs"
    told = ""
    if cause.in_front:
        told = f"; in front of it {listed(list(cause.in_front))} drifts too, by less"
    elif cause.agreeing and unlike_training(report) is None:
        told = "; the layers in front agree with theirs, so the inputs are as in training"
    return told


def _scale(cause: Cause) -> float | None:
    """The factor that would explain all variances of a layer that is off as a whole, or None."""
    variance = cause.root.kinds.get("BN202")
    factor = None if variance is None or not variance.whole else common_factor(variance)
    return None if factor is None else float(2 ** (factor / 2))


def _others(cause: Cause) -> str:
    """The layers that are told of here as well."""
    behind = [p.layer.label for p in cause.others if cause.root.layer.label in p.front]
    beside = [
        p.layer.label
        for p in cause.others
        if p.layer.label not in behind and p.layer.name != cause.root.layer.name
    ]
    told = ""
    if behind:
        told += f"; {len(behind)} of the {cause.behind} layers behind drift too ({listed(behind)})"
    if beside:
        told += f"; so do {len(beside)} layers beside it ({listed(beside)})"
    return told


def _details(rule: Rule, cause: Cause, start: Drifting, report: Report, *, shared: bool) -> Details:
    """What every finding about drift says besides its message."""
    unlike = unlike_training(report)
    if cause.root.reads_inputs:
        # Rows of one class are other inputs; their scale is that of all.
        known = _scale(cause) is not None or prepared(report, cause.root.layer.label) is not None
        unlike = None if known else one_class(report)
    fix = SEPARATE if shared else RECOMPUTE
    if cause.root.reads_inputs and not shared:
        fix = (
            INPUT
            if cause.root.whole
            else f"{RECOMPUTE}; if this layer reads inputs, check their units"
        )
    if not shared:
        fix = remedy(report, cause.root.layer.label) or fix
    limits = {t.name: t.value for t in rule.thresholds}
    worst = start.channels[0] if start.channels else 0
    limit = limits["layer"] if start.whole else channel_limit(limits, start.drift.signed[worst])
    size, margin = abs(start.drift.signed[worst]), start.drift.margin[worst]
    running = report.run is not None and report.run.mode == "running"
    sure = _confidence(start, limit, running=running)
    severity = max([start.severity, *(p.severity for p in cause.others)])
    if cause.several:
        severity = Severity.ERROR
    return {
        "layer": cause.root.layer.label,
        "severity": severity if unlike is None else Severity.INFO,
        "fix": fix,
        "observed": start.typical if start.whole else size,
        "threshold": limit,
        "channels": () if start.whole and not start.channels else tuple(sorted(start.channels)),
        "interval": start.interval if start.whole else (max(size - margin, 0.0), size + margin),
        "confidence": sure if unlike is None else f"{sure}; {unlike}",
    }


def _confidence(start: Drifting, limit: float, *, running: bool) -> str:
    drift = start.drift
    if start.whole:
        least = sorted(drift.least[c] for c in start.living)[len(start.living) // 2]
        what = "95 % interval of what goes beyond sampling noise,"
    else:
        least = drift.least[start.channels[0]]
        what = "95 % interval"
    parts = "batches" if drift.groups == drift.batches else "groups of rows"
    every = f", in each of the {drift.groups} {parts}" if least > limit else ""
    upstream = "; layers in front run on their stored statistics" if running else ""
    return f"{what} over {drift.groups} {parts}{every}{upstream}"
