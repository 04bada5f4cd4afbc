"""BN210: one BatchNorm in several places, whose inputs have different statistics."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bnaudit.judge.drifted import CALLS, calls_apart
from bnaudit.judge.examples.channels import statistics, uniform
from bnaudit.judge.examples.report import report
from bnaudit.judge.obstacles import no_interval, unlike_training
from bnaudit.judge.remedies import SEPARATE
from bnaudit.judge.rule import Needs, Rule
from bnaudit.records.finding import Severity
from bnaudit.records.report import Report
from bnaudit.records.values import Skipped
from bnaudit.summary.gain import middle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnaudit.judge.drifted import Apart
    from bnaudit.records.finding import Finding
    from bnaudit.records.inspection import Inspection


def _check(rule: Rule, report: Report) -> Iterator[Finding]:
    limits = {t.name: t.value for t in rule.thresholds}
    unlike = unlike_training(report)
    for layer in report.layers:
        found = calls_apart(report, layer.name, limits) if layer.call == 1 else None
        if found is None:
            continue
        by_mean = found.sure_mean / limits["mean"] >= found.sure_variance / limits["variance"]
        yield rule.finding(
            f"one BatchNorm in {len(found.calls)} places, on inputs {found.mean:.2g} sigma and a factor of "
            f"{2**found.variance:.3g} in variance apart; from what is stored: {_each(found)}",
            layer=layer.label,
            severity=rule.severity if unlike is None else Severity.INFO,
            observed=found.mean if by_mean else found.variance,
            threshold=limits["mean" if by_mean else "variance"],
            confidence="95 % interval over the batches" + (f"; {unlike}" if unlike else ""),
        )


def _each(found: Apart) -> str:
    """How far each call is from what is stored."""
    told = []
    for call in found.calls:
        drifts = call.statistics
        if isinstance(drifts, Skipped):
            continue
        mean, variance = drifts.mean_drift, drifts.variance_drift
        if not isinstance(mean, Skipped) and not isinstance(variance, Skipped):
            told.append(
                f"{call.label} {middle(map(abs, mean.signed)):.2g} sigma, x{2 ** middle(variance.signed):.3g}"
            )
    return ", ".join(told)


def _not_applicable(subject: Inspection | Report) -> str | None:
    reason = no_interval(subject)
    if reason is None and isinstance(subject, Report):
        several = any(layer.call > 1 for layer in subject.layers)
        return None if several else "no layer is called more than once"
    return reason


def _twice(mean: float) -> Report:
    """The healthy audit with its second layer called twice, off from what is stored in both directions."""
    healthy = report()
    first, layer, *others = healthy.layers
    one, two = (replace(statistics(), mean_drift=uniform(m)) for m in (-mean, mean))
    calls = (replace(layer, statistics=one), replace(layer, call=2, statistics=two))
    return replace(healthy, layers=(first, *calls, *others))


RULE = Rule(
    id="BN210",
    name="shared-statistics",
    severity=Severity.WARNING,
    needs=Needs.DATA,
    summary="Compares the inputs of a layer that is called several times with each other, by channel.",
    why="Detection heads share their layers over a pyramid of features, siamese networks over their inputs. "
    "Weights can be shared; statistics cannot, unless the inputs are alike: in training each call "
    "normalises with its own, in inference all of them with one average, which lies between and fits none. "
    "Computing it again gives another such average.",
    fix=SEPARATE,
    references=(
        "https://github.com/open-mmlab/mmdetection/issues/6515",
        "https://github.com/pytorch/pytorch/issues/1738",
        "https://github.com/keras-team/keras/issues/8794",
    ),
    thresholds=CALLS,
    check=_check,
    healthy=lambda: _twice(0.03),
    sick=lambda: _twice(0.135),
    not_applicable=_not_applicable,
)
