"""BN106: what was measured is not the network in the file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.judge.rule import Rule
from bnaudit.records.finding import Severity
from bnaudit.records.values import Skipped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnaudit.records.finding import Finding
    from bnaudit.records.report import Report


def _check(rule: Rule, report: Report) -> Iterator[Finding]:
    found = None if report.run is None else report.run.verification
    if found is None or isinstance(found, Skipped) or found.agrees:
        return
    worst = max(found.outputs, key=lambda gap: gap.relative)
    yield rule.finding(
        f"the output {worst.name!r} of the converted model differs from {found.reference} by "
        f"{worst.relative:.1e} of its scale; rounding explains at most {found.tolerance:.0e}",
        observed=worst.relative,
        threshold=found.tolerance,
    )


RULE = Rule(
    id="BN106",
    name="conversion-mismatch",
    severity=Severity.ERROR,
    summary="Compares a converted model's outputs with a runtime that reads the file, where --verify "
    "asked for it.",
    why="ONNX files are run in PyTorch, operator by operator. If the outputs differ by more than rounding, "
    "an operator was translated wrongly, and every number of the report is about another network.",
    fix="report it with the file as a bug of bnaudit; until then audit the network as TorchScript",
    check=_check,
)
