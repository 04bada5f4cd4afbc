"""BN101: what autograd computes and the closed form disagree at a layer."""

from __future__ import annotations

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
        parts = {
            "the measured gradient": layer.first_order,
            "the measured curvature": layer.second_order,
            "the measured weight gradient": layer.weight_space,
        }
        for what, part in parts.items():
            if isinstance(part, Skipped) or isinstance(part.residual, Skipped):
                continue
            if part.residual <= part.tolerance:
                continue
            yield rule.finding(
                f"{what} differs from the closed form by {part.residual:.1e} of its scale; rounding "
                f"explains at most {part.tolerance:.0e}. These numbers of the layer are withheld.",
                layer=layer.label,
                observed=part.residual,
                threshold=part.tolerance,
                confidence="the worst channel of all batches; the closed form is an equality",
            )


RULE = Rule(
    id="BN101",
    name="integrity",
    severity=Severity.ERROR,
    needs=Needs.RUN,
    summary="Checks autograd's gradients and curvature of each layer against BatchNorm's closed forms.",
    why="The closed forms are equalities. Where one does not hold, something else than BatchNorm was "
    "measured: a wrong capture, a custom backward, or numbers beyond the precision of the run. The tolerance "
    "is what rounding explains in the precision of the run (1e-5 in float32, docs/theory.md).",
    fix="run again with --dtype float64; if it stays, this layer is not a plain BatchNorm, or bnaudit "
    "has a bug worth a report",
    references=("https://arxiv.org/abs/1805.11604",),
    check=_check,
    healthy=reports.report,
    sick=lambda: reports.changed("block1.bn", first_order=reports.withheld(0.21)),
)
