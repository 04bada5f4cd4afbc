"""BN007: a running variance below zero, or exactly zero."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.judge.aggregate import Hit, findings
from bnaudit.judge.constant import told_of_by_data
from bnaudit.judge.examples import inspection as examples
from bnaudit.judge.rule import Needs, Rule
from bnaudit.judge.statics import activations, listed, without
from bnaudit.records.finding import Severity
from bnaudit.records.inspection import Inspection
from bnaudit.summary.gain import eps_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bnaudit.records.finding import Finding
    from bnaudit.records.inspection import BatchNormStatics
    from bnaudit.records.report import Report


def _inspect(rule: Rule, inspection: Inspection) -> Iterator[Finding]:
    yield from _judged(rule, inspection, {})


def _check(rule: Rule, report: Report) -> Iterator[Finding]:
    if report.inspection is not None:
        yield from _judged(rule, report.inspection, told_of_by_data(report))


def _judged(
    rule: Rule, inspection: Inspection, told: Mapping[str, frozenset[int]]
) -> Iterator[Finding]:
    layers = [bn for bn in activations(inspection) if bn.running_var]
    negative = [hit for bn in layers if (hit := _negative(rule, bn))]
    zero = [hit for bn in layers if (hit := _zero(bn, told.get(bn.name, frozenset())))]
    yield from findings(rule, negative, len(layers), "have negative running variances")
    yield from findings(
        rule, zero, len(layers), "have channels whose running variance is exactly 0"
    )


def _negative(rule: Rule, bn: BatchNormStatics) -> Hit | None:
    variances = bn.running_var or ()
    if min(variances) >= 0:  # not where the first is NaN
        return None
    channels = tuple(c for c, var in enumerate(variances) if var < 0)
    if not channels:
        return None
    lowest = min(variances[c] for c in channels)
    lost = [c for c in channels if variances[c] + eps_of(bn) <= 0]
    effect = f"var + eps has no root in {listed(lost)}" if lost else "eps still covers them"
    return Hit(
        bn.name,
        f"{len(channels)} of {len(variances)} running variances are negative, the lowest "
        f"{lowest:.3g} ({listed(channels)}); {effect}",
        rule.severity if lost else Severity.WARNING,
        lowest,
        0.0,
        channels,
    )


def _zero(bn: BatchNormStatics, told: frozenset[int]) -> Hit | None:
    variances = bn.running_var or ()
    if 0 not in variances:
        return None
    channels = tuple(c for c, var in enumerate(variances) if var == 0 and c not in told)
    if not channels:
        return None
    return Hit(
        bn.name,
        f"the running variance is exactly 0 in {len(channels)} of {len(variances)} channels "
        f"({listed(channels)}), as a constant input leaves it",
        Severity.INFO,
        0.0,
        0.0,
        channels,
        fix="none needed if their input is constant: such channels occur in good models and can be pruned; "
        "bnaudit check with --data sees whether it is",
    )


def _not_applicable(subject: Inspection | Report) -> str | None:
    if not isinstance(subject, Inspection):
        return None
    return without(subject, "running_var", "running statistics")


def _sick() -> Inspection:
    values = examples.statics("stem.bn").running_var
    return examples.changed("stem.bn", running_var=examples.with_value(values, 2, -0.3))


RULE = Rule(
    id="BN007",
    name="negative-variance",
    severity=Severity.ERROR,
    needs=Needs.FILE,
    summary="Looks for running variances below zero; those exactly zero are mentioned as info.",
    why="A variance is never negative: such a file was damaged, converted with its values in the wrong "
    "order, or averaged with negative weights. Where var + eps is not positive the channel is NaN. Exactly 0 "
    "is another matter: the channel's input was constant in training, as behind filters that died. Good "
    "published models have such channels (EfficientNet-Lite0: 4 of 32 in its first layer), with a healthy "
    "gamma that no longer does anything, so this is explained and never fails a build.",
    fix="convert or average the weights again; check the order in which mean and variance are read",
    references=(
        "https://github.com/marvis/pytorch-caffe-darknet-convert/issues/48",
        "https://github.com/pytorch/pytorch/issues/106605",
        "https://github.com/tensorflow/tensorflow/issues/18334",
        "https://github.com/google/flax/issues/1491",
    ),
    inspect=_inspect,
    check=_check,
    healthy=examples.inspection,
    sick=_sick,
    not_applicable=_not_applicable,
)
