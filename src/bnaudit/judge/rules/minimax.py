"""BN104: a weight gradient exceeds the minimax bound."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bnaudit.judge.examples import report as reports
from bnaudit.judge.rule import Needs, Rule
from bnaudit.records.finding import Severity
from bnaudit.records.values import Skipped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnaudit.records.finding import Finding
    from bnaudit.records.report import Report


def _check(rule: Rule, report: Report) -> Iterator[Finding]:
    for layer in report.layers:
        space = layer.weight_space
        if isinstance(space, Skipped) or space.integrity_failed:
            continue
        if isinstance(space.violations, Skipped) or not space.violations:
            continue
        yield rule.finding(
            f"{space.violations} output channels of {space.feeder} have a weight gradient above the "
            "minimax bound",
            layer=layer.label,
            observed=float(space.violations),
            threshold=0.0,
            confidence="on the first batch, beyond rounding",
        )


def _sick() -> Report:
    space = replace(reports.weight_space(), violations=2)
    return reports.changed("block1.bn", weight_space=space)


RULE = Rule(
    id="BN104",
    name="minimax-bound",
    severity=Severity.ERROR,
    needs=Needs.RUN,
    summary="Checks that no weight gradient exceeds the minimax bound of Theorem 4.4.",
    why="The bound is a theorem: |U'g| is at most the spectral norm of U times |g|. A violation means that "
    "the spectral norm or the gradient was not measured rightly.",
    fix="run again with --dtype float64; if it stays, it is a bug worth a report",
    references=("https://arxiv.org/abs/1805.11604",),
    check=_check,
    healthy=reports.report,
    sick=_sick,
)
