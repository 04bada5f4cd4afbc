"""BN016: a BatchNorm directly behind a BatchNorm."""

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
            f"reads the output of another BatchNorm ({bn.preceded_by}), whose gamma and beta it "
            "normalises away",
            rule.severity,
            observed=1.0,
            threshold=0.0,
        )
        for bn in activations(inspection)
        if "batchnorm" in (bn.preceded_by or "").lower().replace("_", "")
    ]
    yield from findings(rule, hits, len(activations(inspection)), "read another BatchNorm's output")


def _not_applicable(subject: Inspection | Report) -> str | None:
    return without_graph(subject) if isinstance(subject, Inspection) else None


RULE = Rule(
    id="BN016",
    name="batchnorm-after-batchnorm",
    severity=Severity.WARNING,
    needs=Needs.FILE,
    summary="Looks for a BatchNorm that reads the output of another one.",
    why="The second layer subtracts the mean and divides by the deviation of an output that the first one "
    "has just given a mean and a deviation: gamma and beta of the first have no effect in training and "
    "receive no gradient beyond what eps leaves. It is usually a leftover: a block that ends in BatchNorm "
    "before one that begins with it, or a normalisation added twice by a conversion.",
    fix="remove one of the two; in a trained network the first can be folded into the second exactly",
    references=("https://arxiv.org/abs/1502.03167", "https://arxiv.org/abs/1805.11604"),
    inspect=_inspect,
    healthy=examples.inspection,
    sick=lambda: examples.changed("block2.bn", preceded_by="BatchNormalization", feeder=None),
    not_applicable=_not_applicable,
)
