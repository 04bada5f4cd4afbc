"""Judges records by the rules of a policy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bnaudit.judge.drifted import once
from bnaudit.judge.policy import DEFAULT_POLICY, Policy
from bnaudit.judge.rule import Needs
from bnaudit.judge.rules import RULES
from bnaudit.judge.story import told_once
from bnaudit.records.finding import NEEDS_RUN, NOT_SELECTED, RuleNotRun, Suppressed
from bnaudit.summary.audit import is_synthetic

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bnaudit.judge.rule import Rule
    from bnaudit.records.finding import Finding
    from bnaudit.records.inspection import Inspection
    from bnaudit.records.report import Report


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What the rules say.

    Attributes:
        findings: worst first, then in the order of the rules and of the layers.
        suppressed: findings that the policy silences.
        not_run: rules that had nothing to judge by.
    """

    findings: tuple[Finding, ...]
    suppressed: tuple[Suppressed, ...]
    not_run: tuple[RuleNotRun, ...]


def judge(report: Report, policy: Policy = DEFAULT_POLICY) -> Verdicts:
    """Judges an audit: what was measured, and what the file stores where the report has it.

    Args:
        report: without findings.
        policy: which rules, how strictly.
    """
    found: list[tuple[Rule, Finding]] = []
    not_run: list[RuleNotRun] = []
    not_run += _unselected(policy)
    with once():
        for rule in policy.selected(RULES):
            reason = _obstacle(rule, report)
            if reason is not None:
                not_run.append(RuleNotRun(rule.id, rule.name, reason))
            elif rule.check is not None:
                found += [(rule, finding) for finding in rule.check(rule, report)]
            elif rule.inspect is not None and report.inspection is not None:
                found += [(rule, finding) for finding in rule.inspect(rule, report.inspection)]
        verdicts = _verdicts(found, not_run, policy)
        return replace(verdicts, findings=_sorted(told_once(verdicts.findings, report)))


def judge_inspection(inspection: Inspection, policy: Policy = DEFAULT_POLICY) -> Verdicts:
    """Judges what a file stores, by the rules that need nothing else.

    Args:
        inspection: what was read.
        policy: which rules, how strictly.
    """
    found: list[tuple[Rule, Finding]] = []
    not_run: list[RuleNotRun] = []
    not_run += _unselected(policy)
    for rule in policy.selected(RULES):
        reason = rule.not_applicable(inspection) if rule.not_applicable else None
        if rule.inspect is None:
            not_run.append(RuleNotRun(rule.id, rule.name, NEEDS_RUN))
        elif reason is not None:
            not_run.append(RuleNotRun(rule.id, rule.name, reason))
        else:
            found += [(rule, finding) for finding in rule.inspect(rule, inspection)]
    verdicts = _verdicts(found, not_run, policy)
    return replace(verdicts, findings=_sorted(verdicts.findings))


def _unselected(policy: Policy) -> list[RuleNotRun]:
    run = {rule.id for rule in policy.selected(RULES)}
    return [RuleNotRun(r.id, r.name, NOT_SELECTED) for r in RULES if r.id not in run]


def _obstacle(rule: Rule, report: Report) -> str | None:
    """Why a rule cannot judge this audit, or None."""
    if rule.check is None or (rule.inspect is not None and rule.not_applicable is not None):
        if report.inspection is None:
            return "the model's stored parameters were not read"
        return rule.not_applicable(report.inspection) if rule.not_applicable else None
    if rule.needs is Needs.DATA and is_synthetic(report):
        if report.run is not None and report.run.data.matching is not None:
            return "circular: the batches were matched to the running statistics (pass data)"
        return "a synthetic batch says nothing about it (pass --data)"
    return rule.not_applicable(report) if rule.not_applicable else None


def _verdicts(
    found: Iterable[tuple[Rule, Finding]], not_run: list[RuleNotRun], policy: Policy
) -> Verdicts:
    kept: list[Finding] = []
    suppressed: list[Suppressed] = []
    for rule, finding in found:
        graded = policy.graded(rule, finding)
        by = policy.silenced_by(rule, graded)
        if by is None:
            kept.append(graded)
        else:
            suppressed.append(Suppressed(graded, by))
    return Verdicts(tuple(kept), tuple(suppressed), tuple(not_run))


def _sorted(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda f: -f.severity))
