"""BN015: Dropout directly in front of a BatchNorm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.judge.aggregate import Hit, findings
from bnaudit.judge.examples import inspection as examples
from bnaudit.judge.rule import Needs, Rule
from bnaudit.judge.statics import activations, without_graph
from bnaudit.records.finding import Severity
from bnaudit.records.inspection import Inspection

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnaudit.records.finding import Finding
    from bnaudit.records.report import Report


def _inspect(rule: Rule, inspection: Inspection) -> Iterator[Finding]:
    hits = [
        Hit(
            bn.name,
            f"reads the output of {bn.preceded_by}: its running variance was gathered with the noise of "
            "training, which inference does not have",
            rule.severity,
            observed=1.0,
            threshold=0.0,
        )
        for bn in activations(inspection)
        if "dropout" in (bn.preceded_by or "").lower()
    ]
    yield from findings(rule, hits, len(activations(inspection)), "read the output of a Dropout")


def _not_applicable(subject: Inspection | Report) -> str | None:
    return without_graph(subject) if isinstance(subject, Inspection) else None


RULE = Rule(
    id="BN015",
    name="dropout-before",
    severity=Severity.INFO,
    needs=Needs.FILE,
    summary="Looks for Dropout directly in front of a BatchNorm.",
    why="Dropout with probability p raises the variance of its output in training by up to 1/(1-p) and not "
    "in inference. The running variance is the one of training, so every channel is scaled a little too low "
    "in inference (variance shift). Whether it hurts shows only on data: BN2xx measure the drift. Exporters "
    "for inference remove Dropout, so a clean file proves nothing.",
    fix="move the Dropout behind the last BatchNorm, or recompute the running statistics with Dropout off",
    references=(
        "https://arxiv.org/abs/1801.05134",
        "https://github.com/luigibonati/mlcolvar/pull/205",
    ),
    inspect=_inspect,
    healthy=examples.inspection,
    sick=lambda: examples.changed("head.bn", preceded_by="Dropout", feeder=None),
    not_applicable=_not_applicable,
)
