"""BN106: what was measured is not the network in the file."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bnaudit.judge.examples import report as reports
from bnaudit.judge.rule import Needs, Rule
from bnaudit.records.finding import Severity
from bnaudit.records.values import Skipped
from bnaudit.records.verification import UNCOMPARED, OutputGap, Verification

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnaudit.records.finding import Finding
    from bnaudit.records.inspection import Inspection
    from bnaudit.records.report import Report


def _check(rule: Rule, report: Report) -> Iterator[Finding]:
    found = None if report.run is None else report.run.verification
    if isinstance(found, Skipped) and found.reason.startswith(UNCOMPARED):
        yield rule.finding(
            f"--verify was asked for, and nothing was compared: the outputs {found.reason}",
            fix="install onnxruntime or give data that the file takes; or leave --verify out",
            observed=None,
            threshold=None,
        )
    if found is None or isinstance(found, Skipped) or found.agrees:
        return
    worst = max(found.outputs, key=lambda gap: gap.relative)
    yield rule.finding(
        f"the output {worst.name!r} of the converted model differs from {found.reference} by "
        f"{worst.max_abs:.1e}, {worst.relative:.1e} of its scale; rounding explains at most "
        f"{found.tolerance:.0e}",
        observed=worst.relative,
        threshold=found.tolerance,
        confidence="on the first batch, in inference mode",
    )


def _not_applicable(subject: Inspection | Report) -> str | None:
    run = getattr(subject, "run", None)
    found = None if run is None else run.verification
    if found is None:
        return "nothing was run"
    compared = not isinstance(found, Skipped) or found.reason.startswith(UNCOMPARED)
    return None if compared else found.reason


def _example(relative: float) -> Report:
    report = reports.report()
    gap = OutputGap("logits", relative * 3.0, relative)
    seen = Verification("onnxruntime 1.32.0", 1e-4, (gap,))
    return (
        report
        if report.run is None
        else replace(report, run=replace(report.run, verification=seen))
    )


RULE = Rule(
    id="BN106",
    name="conversion-mismatch",
    severity=Severity.ERROR,
    needs=Needs.RUN,
    summary="Compares a converted model's outputs with a runtime that reads the file, where --verify "
    "asked for it.",
    why="ONNX files are run in PyTorch, operator by operator. If the outputs differ by more than rounding, "
    "an operator was translated wrongly, and every number of the report is about another network.",
    fix="report it with the file as a bug of bnaudit; until then audit the network as TorchScript",
    references=("https://github.com/Talmaj/onnx2pytorch/issues/44",),
    check=_check,
    healthy=lambda: _example(2e-7),
    sick=lambda: _example(0.03),
    not_applicable=_not_applicable,
)
