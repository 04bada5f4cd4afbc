"""BN013: so few batches that the running statistics still hold their initial values."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from bnaudit.judge.aggregate import Hit, findings
from bnaudit.judge.examples import inspection as examples
from bnaudit.judge.rule import Needs, Rule, Threshold
from bnaudit.judge.statics import activations, statistics_untouched, without
from bnaudit.records.finding import Severity
from bnaudit.records.inspection import Inspection

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnaudit.records.finding import Finding
    from bnaudit.records.inspection import BatchNormStatics
    from bnaudit.records.report import Report

_TORCH_MOMENTUM = 0.1
_MARGIN = 0.999
"""Below 1 by more than rounding of a running variance."""


def _inspect(rule: Rule, inspection: Inspection) -> Iterator[Finding]:
    layers = [
        bn for bn in activations(inspection) if (bn.batches_tracked or 0) > 0 and bn.running_var
    ]
    refuted = {bn.batches_tracked for bn in layers if _refuted(bn)}
    hits = [
        hit
        for bn in layers
        if bn.batches_tracked not in refuted and (hit := _hit(rule, bn, bn.batches_tracked or 0))
    ]
    yield from findings(rule, hits, len(layers), "have seen few batches")


def _initial_weight(bn: BatchNormStatics) -> float:
    """(1 - momentum)^n: what the initial mean 0 and variance 1 still count for."""
    # A file that stores eps would store momentum too: there None is the cumulative average, which
    # keeps nothing of the initial values. A state_dict stores neither.
    absent = 0.0 if bn.eps is not None else _TORCH_MOMENTUM
    momentum = absent if bn.momentum is None else bn.momentum
    if not 0 < momentum <= 1:
        return 0.0
    return float((1.0 - momentum) ** (bn.batches_tracked or 0))


def _refuted(bn: BatchNormStatics) -> bool:
    """Whether a variance is too small to hold the initial 1 with that weight.

    running_var = w*1 + (1-w)*(an average of variances, none negative) is at least w. Statistics that
    were recomputed as a cumulative average (update_bn) have a small count and no such part.
    """
    lowest = min((v for v in bn.running_var or () if isfinite(v)), default=1.0)
    return lowest < _MARGIN * _initial_weight(bn)


def _hit(rule: Rule, bn: BatchNormStatics, batches: int) -> Hit | None:
    weight = _initial_weight(bn)
    if statistics_untouched(bn) or weight <= rule.limit("weight"):
        return None
    assumed = bn.momentum is None
    return Hit(
        bn.name,
        f"num_batches_tracked is {batches}: {f'at momentum {_TORCH_MOMENTUM} (assumed) ' * assumed}the "
        f"initial mean 0 and variance 1 still count for {weight:.1%} of the running statistics",
        rule.severity if weight > rule.limit("much") else Severity.INFO,
        weight,
        rule.limit("weight"),
        confidence=(
            f"the file stores no momentum; {_TORCH_MOMENTUM}, PyTorch's default, is assumed"
            if assumed
            else "derived from the stored counter; a counter that was reset would say the same"
        ),
    )


def _not_applicable(subject: Inspection | Report) -> str | None:
    if not isinstance(subject, Inspection):
        return None
    reason = without(subject, "batches_tracked", "num_batches_tracked")
    if reason is None and not any(bn.batches_tracked for bn in activations(subject)):
        return "num_batches_tracked is 0 everywhere, which says nothing"
    return reason


def _sick() -> Inspection:
    variances = examples.statics("stem.bn").running_var or ()
    return examples.everywhere(batches_tracked=12, running_var=tuple(0.3 + v for v in variances))


RULE = Rule(
    id="BN013",
    name="few-batches",
    severity=Severity.WARNING,
    needs=Needs.FILE,
    summary="Computes from num_batches_tracked what the initial statistics still count for.",
    why="After n batches the running statistics hold (1 - momentum)^n of their initial values, mean 0 and "
    "variance 1: 28 % after 12 batches at PyTorch's momentum, 1.0 % after 44; at 0.01, Keras' default, "
    "it takes 459. Inference then normalises with numbers that the network never produced, while "
    "training looks fine. The counter is not trusted further than that: 0 or a missing counter says "
    "nothing (conversions and loading reset it), and a variance that is smaller than the weight of the "
    "initial 1 refutes it, as after a recomputation by torch.optim.swa_utils.update_bn.",
    fix="train longer, or recompute the running statistics with bnaudit recalibrate",
    references=(
        "https://github.com/tensorflow/tensorflow/issues/1122",
        "https://github.com/keras-team/keras/issues/7265",
        "https://github.com/pytorch/pytorch/issues/110361",
    ),
    thresholds=(
        Threshold(
            "weight",
            0.01,
            "(1 - momentum)^n above it is mentioned",
            "1 % of a variance of 1 is visible where channels have variances of 0.1",
        ),
        Threshold(
            "much",
            0.1,
            "(1 - momentum)^n above it is a warning",
            "21 batches at momentum 0.1: an epoch of most data sets has more",
        ),
    ),
    inspect=_inspect,
    healthy=examples.inspection,
    sick=_sick,
    not_applicable=_not_applicable,
)
