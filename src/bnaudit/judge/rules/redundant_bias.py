"""BN014: a bias in front of a BatchNorm, which subtracts it again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.judge.examples import inspection as examples
from bnaudit.judge.rule import Needs, Rule
from bnaudit.judge.statics import activations, without_graph
from bnaudit.records.finding import Severity
from bnaudit.records.inspection import Feeder, Inspection

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnaudit.records.finding import Finding
    from bnaudit.records.report import Report

_SHOWN = 3


def _inspect(rule: Rule, inspection: Inspection) -> Iterator[Finding]:
    behind = [
        (bn.name, bn.feeder)
        for bn in activations(inspection)
        if bn.feeder is not None and bn.feeder.bias and bn.feeder.sole_reader
    ]
    if not behind:
        return
    shown = ", ".join(feeder.weight for _, feeder in behind[:_SHOWN])
    more = ", ..." if len(behind) > _SHOWN else ""
    yield rule.finding(
        f"{len(behind)} of {len(activations(inspection))} BatchNorm layers follow a layer with a bias, which "
        f"they subtract again ({shown}{more})",
        layer=behind[0][0] if len(behind) == 1 else None,
        observed=float(len(behind)),
        threshold=0.0,
    )


def _not_applicable(subject: Inspection | Report) -> str | None:
    return without_graph(subject) if isinstance(subject, Inspection) else None


RULE = Rule(
    id="BN014",
    name="redundant-bias",
    severity=Severity.INFO,
    needs=Needs.FILE,
    summary="Lists layers whose bias the BatchNorm behind them makes redundant.",
    why="BatchNorm subtracts the mean, and with it any bias added just before: in training the bias has no "
    "effect and no gradient, in inference it is part of the running mean. It costs memory and a little "
    "compute, and is no defect: several published networks keep it so that their weights still load.",
    fix="none needed; in a new network set bias=False in front of BatchNorm",
    references=(
        "https://github.com/huggingface/pytorch-image-models/issues/357",
        "https://github.com/keras-team/keras-cv/pull/697",
        "https://arxiv.org/abs/1502.03167",
    ),
    inspect=_inspect,
    healthy=examples.inspection,
    sick=lambda: examples.changed(
        "block1.bn", feeder=Feeder("block1.conv.weight", "Conv", bias=True, sole_reader=True)
    ),
    not_applicable=_not_applicable,
)
