"""BN018: channels whose running variance is smaller than eps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.judge.aggregate import Hit, findings
from bnaudit.judge.constant import told_of_by_data
from bnaudit.judge.examples import inspection as examples
from bnaudit.judge.rule import Needs, Rule, Threshold
from bnaudit.judge.statics import activations, eps_clause, largest, listed, without
from bnaudit.records.finding import Severity
from bnaudit.records.inspection import Inspection
from bnaudit.summary.gain import eps_of, leaks, middle

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bnaudit.records.finding import Finding
    from bnaudit.records.inspection import BatchNormStatics
    from bnaudit.records.report import Report

_ALIVE = 1e-3
"""Of the layer's largest |gamma|: below it a channel is dead, and its variance is of no interest."""

_HALF = 0.5


def _inspect(rule: Rule, inspection: Inspection) -> Iterator[Finding]:
    yield from _judged(rule, inspection, {})


def _check(rule: Rule, report: Report) -> Iterator[Finding]:
    if report.inspection is not None:
        yield from _judged(rule, report.inspection, told_of_by_data(report))


def _judged(
    rule: Rule, inspection: Inspection, told: Mapping[str, frozenset[int]]
) -> Iterator[Finding]:
    layers = [bn for bn in activations(inspection) if bn.running_var]
    collapsed = [(bn, _collapsed(rule, bn, told.get(bn.name, frozenset()))) for bn in layers]
    mostly = sum(len(channels) > _HALF * len(bn.running_var or ()) for bn, channels in collapsed)
    common = mostly >= rule.limit("fewest") and mostly > rule.limit("layers") * len(layers)
    hits = [
        hit
        for bn, channels in collapsed
        if channels and (hit := _hit(rule, bn, channels, common=common))
    ]
    yield from findings(rule, hits, len(layers), "have channels whose variance is below eps")


def _collapsed(rule: Rule, bn: BatchNormStatics, told: frozenset[int]) -> tuple[int, ...]:
    limit = rule.limit("leak")
    found = [c for c, leak in enumerate(leaks(bn)) if leak > limit and c not in told]
    gamma = bn.gamma or (1.0,) * len(bn.running_var or ())
    floor = _ALIVE * largest(gamma) if found else 0.0
    return tuple(c for c in found if c < len(gamma) and abs(gamma[c]) > floor)


def _hit(
    rule: Rule, bn: BatchNormStatics, channels: tuple[int, ...], *, common: bool
) -> Hit | None:
    variances = bn.running_var or ()
    count = len(variances)
    share = len(channels) / count
    leak = middle([leaks(bn)[c] for c in channels])
    bad = share >= rule.limit("share") or (common and share > _HALF)
    if not bad and all(variances[c] == 0 for c in channels):
        return None  # BN007 tells of constant channels
    varying = tuple(c for c in channels if variances[c] > 0)
    if bn.preceded_by == "input" and varying and not bad:
        return Hit(
            bn.name,
            f"input features {', '.join(map(str, varying[:5]))} of {count} vary by less than eps = "
            f"{eps_of(bn):g}, at least by {min(variances[c] for c in varying):.1e}: they are not normalised",
            rule.severity,
            share,
            rule.limit("share"),
            varying,
            confidence=eps_clause(bn),
            fix="scale these features up (or choose other units) and train again",
        )
    return Hit(
        bn.name,
        f"the running variance is below eps = {eps_of(bn):g} in {len(channels)} of {count} channels "
        f"({listed(channels)}), which have a healthy gamma: eps is {leak:.0%} of what they are divided by",
        rule.severity if bad else Severity.INFO,
        share,
        rule.limit("share"),
        channels,
        confidence=eps_clause(bn),
        fix=None
        if bad
        else "none needed: such channels occur in good models; what they pass on is nearly constant",
    )


def _not_applicable(subject: Inspection | Report) -> str | None:
    if not isinstance(subject, Inspection):
        return None
    return without(subject, "running_var", "running statistics")


def _sick() -> Inspection:
    values = examples.statics("block2.bn").running_var or ()
    return examples.changed("block2.bn", running_var=tuple(1e-7 * v for v in values))


RULE = Rule(
    id="BN018",
    name="collapsed-variance",
    severity=Severity.WARNING,
    needs=Needs.FILE,
    summary="Counts channels with a healthy gamma whose running variance is smaller than eps.",
    why="With eps above the variance the channel is not normalised any more: it is multiplied by "
    "gamma/sqrt(eps), its output has less than half the variance that gamma asks for, and the layer before "
    "it is no longer free in its scale. The usual cause is weight decay that shrank the incoming weights "
    "until eps showed, or inputs that died. Single channels, and even most of a layer, occur in good "
    "published models (torchvision's MobileNetV2: 72 % of one layer, in one of 52), so only a layer with "
    "nearly all of its channels, or a model with many such layers, is a warning.",
    fix="exclude the weights in front of BatchNorm from weight decay, or lower it, and train again; a "
    "smaller eps changes the function of the trained network",
    references=(
        "https://arxiv.org/abs/1805.11604",
        "https://github.com/tensorflow/models/pull/2755",
        "https://github.com/NVlabs/DIODE/issues/15",
    ),
    thresholds=(
        Threshold(
            "leak",
            0.5,
            "eps/(running_var + eps) of a channel that counts as collapsed",
            "from there on eps is more of the divisor than the variance",
        ),
        Threshold(
            "share",
            0.9,
            "share of collapsed channels from which a layer warns",
            "survey: at most 0.72 (torchvision's MobileNetV2), then 0.22; weights that shrink as a whole "
            "take all channels with them",
        ),
        Threshold(
            "layers",
            0.1,
            "or share of layers with more than half of their channels collapsed",
            "survey: at most 1 of 52",
        ),
        Threshold(
            "fewest",
            2.0,
            "such layers that it takes for that, however small the model is",
            "one such layer occurs in a good model, and is no sign of a common cause in a small one either",
        ),
    ),
    inspect=_inspect,
    check=_check,
    healthy=examples.inspection,
    sick=_sick,
    not_applicable=_not_applicable,
)
