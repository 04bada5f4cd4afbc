"""BN002: layers that the model defines and never runs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bnaudit.judge.examples import report as reports
from bnaudit.judge.rule import Needs, Rule
from bnaudit.records.finding import Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnaudit.records.finding import Finding
    from bnaudit.records.report import Report

_SHOWN = 3


def _check(rule: Rule, report: Report) -> Iterator[Finding]:
    idle = report.model.not_executed
    if not idle or not report.layers:
        return
    shown = ", ".join(idle[:_SHOWN]) + (", ..." if len(idle) > _SHOWN else "")
    yield rule.finding(
        f"{len(idle)} of {len(report.model.defined)} BatchNorm layers were not executed: {shown}",
        layer=idle[0] if len(idle) == 1 else None,
        observed=float(len(idle)),
        threshold=0.0,
        confidence="no batch of this audit reached them",
    )


def _sick() -> Report:
    healthy = reports.report()
    defined = (*healthy.model.defined, "aux.bn")
    return replace(healthy, model=replace(healthy.model, defined=defined, not_executed=("aux.bn",)))


RULE = Rule(
    id="BN002",
    name="not-executed",
    severity=Severity.INFO,
    needs=Needs.RUN,
    summary="Lists BatchNorm layers that no sample batch went through.",
    why="They are not audited. An auxiliary head that only trains is normal; anything else is dead "
    "weight or a branch that the sample data does not reach.",
    fix="none if they belong to a training-only head; otherwise give data that reaches them",
    check=_check,
    healthy=reports.report,
    sick=_sick,
)
