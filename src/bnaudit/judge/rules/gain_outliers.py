"""BN010: channels whose |gamma|/sigma is far above that of their layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.judge.aggregate import Hit, findings
from bnaudit.judge.examples import inspection as examples
from bnaudit.judge.rule import Needs, Rule, Threshold
from bnaudit.judge.statics import activations, gains, listed, without
from bnaudit.records.finding import Severity
from bnaudit.records.inspection import Inspection
from bnaudit.summary.gain import leaks, middle, outlying

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bnaudit.records.finding import Finding
    from bnaudit.records.inspection import BatchNormStatics
    from bnaudit.records.report import Report


def _inspect(rule: Rule, inspection: Inspection) -> Iterator[Finding]:
    layers = [bn for bn in activations(inspection) if bn.running_var]
    hits = [hit for bn in layers if (hit := _hit(rule, bn))]
    yield from findings(rule, hits, len(layers), "have channels of a far larger |gamma|/sigma")


def _hit(rule: Rule, bn: BatchNormStatics) -> Hit | None:
    limit = rule.limit("leak")
    gain = [g if share <= limit else 0.0 for g, share in zip(gains(bn), leaks(bn), strict=False)]
    found = _outliers(rule, gain)
    if not found:
        return None
    by_gamma = set(_outliers(rule, [abs(g) for g in bn.gamma or ()]))
    usual = middle([g for g in gain if g > 0])
    worst = max(found, key=lambda c: gain[c])
    ratio = gain[worst] / usual
    if by_gamma & set(found):
        cause, severity = "|gamma| itself stands out", rule.severity
        sure = "read from the file; a next layer whose weights are smaller by the same factor would undo it"
    else:
        cause, severity = "their running variance is small", Severity.INFO
        sure = "a channel whose incoming weights are scaled down looks the same and is harmless"
    return Hit(
        bn.name,
        f"|gamma|/sigma of {listed(found)} is far above the layer's median, at most {ratio:.0f} times "
        f"(channel {worst}); {cause}",
        severity,
        ratio,
        rule.limit("ratio"),
        found,
        confidence=sure,
    )


def _outliers(rule: Rule, values: Sequence[float]) -> tuple[int, ...]:
    return outlying(values, rule.limit("ratio"), rule.limit("deviations"))


def _not_applicable(subject: Inspection | Report) -> str | None:
    if not isinstance(subject, Inspection):
        return None
    return without(subject, "running_var", "running statistics")


def _sick() -> Inspection:
    gamma = examples.with_value(examples.statics("block2.bn").gamma, 11, 60.0)
    return examples.changed("block2.bn", gamma=gamma)


RULE = Rule(
    id="BN010",
    name="gain-outliers",
    severity=Severity.WARNING,
    needs=Needs.FILE,
    summary="Looks for channels whose |gamma|/sigma is far above the median of their layer.",
    why="Folding multiplies the weights of a channel by gamma/sigma. One channel far above the others "
    "stretches the range that all channels of a quantised tensor share, and its gradient is multiplied by "
    "the same factor. The absolute size of the ratio says nothing, it follows the scale of the weights, so "
    "channels are compared within their layer. Even so, scaling a channel's incoming weights down leaves "
    "the network as it was and raises the ratio: where |gamma| itself is not the cause, the finding is an "
    "info. Channels whose variance is mostly eps are left to BN018.",
    fix="quantise per channel, or equalise the channels across layers before folding; look at how the "
    "channel was trained if gamma exploded",
    references=(
        "https://arxiv.org/abs/1805.11604",
        "https://arxiv.org/abs/1906.04721",
        "https://github.com/onnxruntime/onnxruntime-qnn/pull/622",
        "https://github.com/jakc4103/DFQ/issues/37",
    ),
    thresholds=(
        Threshold(
            "ratio",
            20.0,
            "|gamma|/sigma over the layer's median",
            "survey: at most 13.5, of |gamma| alone 10.1 (both EfficientNet-Lite0); half as much again",
        ),
        Threshold(
            "deviations",
            4.0,
            "and as many robust standard deviations of the logarithm (1.4826 MAD)",
            "keeps layers quiet whose channels spread widely; a normal spread passes it once in 30,000",
        ),
        Threshold(
            "leak",
            0.5,
            "channels with eps/(var + eps) above it are left out",
            "there eps, not the variance, sets the ratio (BN018)",
        ),
    ),
    inspect=_inspect,
    healthy=examples.inspection,
    sick=_sick,
    not_applicable=_not_applicable,
)
