"""BN011: values that float16 cannot hold."""

from __future__ import annotations

from math import inf, isfinite, log10
from typing import TYPE_CHECKING

from bnaudit.judge.aggregate import Hit, findings
from bnaudit.judge.examples import inspection as examples
from bnaudit.judge.rule import Needs, Rule, Threshold
from bnaudit.judge.statics import (
    activations,
    gains,
    half_untouched,
    listed,
    statistics_untouched,
    without,
)
from bnaudit.records.finding import Severity
from bnaudit.records.inspection import Inspection
from bnaudit.summary.gain import eps_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bnaudit.records.finding import Finding
    from bnaudit.records.inspection import BatchNormStatics
    from bnaudit.records.report import Report

_HALF = "float16"
_CASTING = "read from the file; it matters only where BatchNorm itself runs in float16"


def _inspect(rule: Rule, inspection: Inspection) -> Iterator[Finding]:
    layers = [bn for bn in activations(inspection) if bn.running_var or bn.gamma]
    hits = [
        hit
        for bn in layers
        if (hit := _cut_off(rule, bn) or _stored(rule, bn) or _converted(rule, bn))
    ]
    yield from findings(rule, hits, len(layers), "leave the range of float16")


def _cut_off(rule: Rule, bn: BatchNormStatics) -> Hit | None:
    """Running variances that end at a round number or at float16's largest: no average of data does."""
    variances = [v for v in bn.running_var or () if 0 < v < inf]
    if statistics_untouched(bn) or half_untouched(bn) or not variances:
        return None
    top, low = max(variances), min(variances)
    high = top in {rule.limit("largest"), 65500.0} or (top >= _LARGE and _is_power_of_ten(top))
    if not high and not (low <= _SMALL and _is_power_of_ten(low)):
        return None
    bound = top if high else low
    channels = _channels(bn.running_var, bound)
    return Hit(
        bn.name,
        f"the running variance of {listed(channels)} is exactly {bound:g}, as if larger or smaller values "
        f"were cut off there: what the data gave is lost",
        Severity.WARNING if high or len(channels) > 1 else Severity.INFO,
        bound,
        rule.limit("largest"),
        channels,
        confidence="read from the file; no average of data is a round number",
        fix="convert the network again without clipping, or recompute the running statistics with "
        "bnaudit recalibrate",
    )


_LARGE, _SMALL = 1e3, 1e-4


def _is_power_of_ten(value: float) -> bool:
    """In float32 or float16, whose rounding is relative."""
    nearest = 10.0 ** round(log10(value))
    return abs(value / nearest - 1) < _ROUNDING


_ROUNDING = 1e-6


def _stored(rule: Rule, bn: BatchNormStatics) -> Hit | None:
    """A layer that is stored in float16: what did not survive."""
    if bn.dtype != _HALF:
        return None
    limit = rule.limit("largest")
    lost = _channels(bn.running_var, inf)
    if lost:
        return Hit(
            bn.name,
            f"the running variance of {listed(lost)} is Inf in float16 (it exceeded {limit:.0f}): the "
            "channel's output is constant",
            rule.severity,
            inf,
            limit,
            lost,
        )
    zero = _channels(bn.running_var, 0.0)
    if eps_of(bn) <= rule.limit("smallest") and zero and bn.eps is not None:
        return Hit(
            bn.name,
            f"eps = {bn.eps:g} is 0 in float16, and so is the variance of {listed(zero)}: a division by 0",
            rule.severity,
            bn.eps,
            rule.limit("smallest"),
            zero,
        )
    wide = _above(gains(bn), limit)
    if not wide:
        return _too_small(rule, bn)
    return Hit(
        bn.name,
        f"gamma/sigma of {listed(wide)} exceeds {limit:.0f}: folding it in float16 gives Inf",
        Severity.WARNING,
        max(g for g in gains(bn) if isfinite(g)),
        limit,
        wide,
    )


def _too_small(rule: Rule, bn: BatchNormStatics) -> Hit | None:
    """gamma/sigma with few digits left: what is folded with it loses them, or all of them."""
    normal = rule.limit("normal")
    lost = tuple(c for c, g in enumerate(gains(bn)) if 0 < g < normal)
    if not lost:
        return None
    return Hit(
        bn.name,
        f"gamma/sigma of {listed(lost)} is below {normal:.1e}: float16 holds it, and weights folded with it, "
        "with a few digits or as 0",
        Severity.WARNING,
        min(g for g in gains(bn) if g > 0),
        normal,
        lost,
    )


def _converted(rule: Rule, bn: BatchNormStatics) -> Hit | None:
    """A layer that is not: what a conversion to float16 would lose."""
    if bn.dtype == _HALF:
        return None
    limit = rule.limit("largest")
    values = {
        "running_var": bn.running_var,
        "running_mean": bn.running_mean,
        "gamma": bn.gamma,
        "beta": bn.beta,
        "gamma/sigma": gains(bn),
    }
    over = {name: found for name, v in values.items() if (found := _above(v or (), limit))}
    if not over:
        return None
    what = ", ".join(f"{name} ({listed(found)})" for name, found in over.items())
    top = max(abs(v) for name in over for v in values[name] or () if isfinite(v))
    return Hit(
        bn.name,
        f"{what} would overflow in float16: at most {top:.3g}",
        Severity.INFO,
        top,
        limit,
        tuple(sorted({c for found in over.values() for c in found})),
        confidence=_CASTING,
        fix="keep BatchNorm in float32 when the network is converted to float16, or fold it before",
    )


def _channels(values: Sequence[float] | None, wanted: float) -> tuple[int, ...]:
    return tuple(c for c, v in enumerate(values or ()) if v == wanted)


def _above(values: Sequence[float], limit: float) -> tuple[int, ...]:
    """Channels beyond the limit; what is Inf or NaN already is another rule's business."""
    if not values or max(map(abs, values)) <= limit:  # not where the first is NaN
        return ()
    return tuple(c for c, v in enumerate(values) if isfinite(v) and abs(v) > limit)


def _not_applicable(subject: Inspection | Report) -> str | None:
    if not isinstance(subject, Inspection):
        return None
    return without(subject, "running_var", "running statistics")


def _sick() -> Inspection:
    values = examples.statics("stem.bn").running_var
    lost = examples.with_value(values, 9, inf)
    return examples.changed("stem.bn", running_var=lost, dtype=_HALF)


RULE = Rule(
    id="BN011",
    name="half-range",
    severity=Severity.ERROR,
    needs=Needs.FILE,
    summary="Looks for statistics that float16 cannot hold, in files of float16 and before a conversion.",
    why="A running variance above 65504 becomes Inf in float16 and the channel's output becomes beta, "
    "silently: nothing is NaN. Variances of that size are ordinary where activations are large (a detector "
    "of PP-OCR has 1e8, CREPE 5e5, both healthy), so in a file of float32 this is an info about a conversion "
    "that may never happen. eps is safe in float16 down to about 6e-8; below 3e-8 it is 0. bfloat16 has "
    "float32's range.",
    fix="keep BatchNorm in float32 (mixed precision does), or fold it into the weights before converting",
    references=(
        "https://github.com/apple/coreai-torch/pull/54",
        "https://github.com/microsoft/tensorflow-directml-plugin/pull/321",
        "https://github.com/matterport/Mask_RCNN/issues/753",
        "https://github.com/pytorch/pytorch/pull/126525",
    ),
    thresholds=(
        Threshold(
            "largest", 65504.0, "absolute value", "the largest finite float16 (IEEE 754 binary16)"
        ),
        Threshold(
            "smallest",
            2.0**-25,
            "eps at or below it is 0 in float16",
            "half the smallest float16 above 0 (2^-24); rounding to even makes 0 of it",
        ),
        Threshold(
            "normal",
            2.0**-14,
            "gamma/sigma below it is stored with fewer than 11 bits",
            "the smallest normal float16 (IEEE 754 binary16)",
        ),
    ),
    inspect=_inspect,
    healthy=examples.inspection,
    sick=_sick,
    not_applicable=_not_applicable,
)
