"""BN006: NaN or Inf among the stored values."""

from __future__ import annotations

from math import inf, isfinite
from typing import TYPE_CHECKING

from bnaudit.judge.aggregate import Hit, findings
from bnaudit.judge.examples import inspection as examples
from bnaudit.judge.rule import Needs, Rule
from bnaudit.judge.statics import listed
from bnaudit.records.finding import Severity
from bnaudit.records.inspection import Inspection

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnaudit.records.finding import Finding
    from bnaudit.records.inspection import BatchNormStatics
    from bnaudit.records.report import Report


def _inspect(rule: Rule, inspection: Inspection) -> Iterator[Finding]:
    hits = [hit for bn in inspection.batchnorms if (hit := _hit(rule, bn))]
    yield from findings(rule, hits, len(inspection.batchnorms), "have values that are not finite")


def _hit(rule: Rule, bn: BatchNormStatics) -> Hit | None:
    arrays = {
        "gamma": bn.gamma,
        "beta": bn.beta,
        "running_mean": bn.running_mean,
        "running_var": bn.running_var,
    }
    bad = {
        name: [channel for channel, v in enumerate(values) if not isfinite(v)]
        for name, values in arrays.items()
        if values and not all(map(isfinite, values))
    }
    channels = tuple(sorted({channel for found in bad.values() for channel in found}))
    if not channels:
        return None
    parts = [f"{name} in {listed(found)}" for name, found in bad.items() if found]
    message = f"NaN or Inf: {', '.join(parts)}"
    if bn.dtype == "float16" and inf in (bn.running_var or ()):
        message += "; the variance exceeded 65504, the largest float16"
    return Hit(bn.name, message, rule.severity, float(len(channels)), 0.0, channels)


def _not_applicable(subject: Inspection | Report) -> str | None:
    if isinstance(subject, Inspection) and not subject.batchnorms:
        return "there are no BatchNorm layers"
    return None


def _sick() -> Inspection:
    values = examples.statics("block1.bn").running_var
    return examples.changed("block1.bn", running_var=examples.with_value(values, 5, float("inf")))


RULE = Rule(
    id="BN006",
    name="non-finite",
    severity=Severity.ERROR,
    needs=Needs.FILE,
    summary="Looks for NaN and Inf in gamma, beta, running_mean and running_var.",
    why="A NaN spreads to every output. An Inf in the running variance does not: the channel quietly becomes "
    "constant, which accuracy may hardly show. Both come from training that diverged for a moment (a batch "
    "of one row has no unbiased variance, a loss scale that overflowed) or from a conversion to float16, and "
    "a running average never recovers from one.",
    fix="go back to a checkpoint from before the first NaN or Inf, or recompute the running statistics with "
    "bnaudit recalibrate if only they are affected",
    references=(
        "https://github.com/torch/nn/pull/1271",
        "https://github.com/pytorch/pytorch/issues/1381",
        "https://github.com/facebookresearch/SparseConvNet/issues/190",
    ),
    inspect=_inspect,
    healthy=examples.inspection,
    sick=_sick,
    not_applicable=_not_applicable,
)
