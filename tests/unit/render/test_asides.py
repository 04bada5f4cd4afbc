"""What fails nothing is told all the same: one line, and on request one by one."""

from __future__ import annotations

from dataclasses import replace

from bnaudit.judge.policy import Policy
from bnaudit.judge.verdicts import judge
from bnaudit.records.finding import RuleNotRun, Suppressed
from bnaudit.render.text.sheet import aside_lines

from . import samples
from .sick import sick


def test_nothing_is_said_of_nothing() -> None:
    assert aside_lines(samples.healthy(), verbose=True) == []


def test_suppressed_findings_are_counted_by_rule_and_reason() -> None:
    entries = [Suppressed(f, "ignore: BN1") for f in judge(sick()).findings if f.rule == "BN101"]
    report = replace(sick(), suppressed=(*entries, replace(entries[0], by="layers 'x': BN101")))
    (line,) = aside_lines(report, verbose=False)
    times = f"{len(entries)} times " if len(entries) > 1 else ""
    assert line == (
        f"{len(entries) + 1} findings suppressed: BN101 {times}(ignore: BN1), "
        "BN101 (layers 'x': BN101)"
    )
    listed = aside_lines(report, verbose=True)
    assert len(listed) == 1 + len(report.suppressed)
    assert all(
        e.finding.message in text for e, text in zip(report.suppressed, listed[1:], strict=True)
    )
    assert "findings suppressed" in report.to_table()
    assert entries[0].finding.message[:20] not in replace(report, findings=()).to_table()


def test_rules_that_did_not_run_share_their_reason() -> None:
    verdicts = judge(samples.healthy(), Policy(select=("BN101",)))
    report = replace(
        samples.healthy(), rules_not_run=(*verdicts.not_run, RuleNotRun("BN999", "x", "no data"))
    )
    (line,) = aside_lines(report, verbose=False)
    assert line == "1 rule not run: BN999 (-v says why)"  # the others were not selected
    listed = aside_lines(report, verbose=True)
    assert len(listed) == 3
    assert listed[-1] == "  BN999 x: no data"
