"""BN101: autograd and the closed form disagree at a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.judge.rule import Rule
from bnaudit.records.finding import Severity
from bnaudit.records.layer import FirstOrder
from bnaudit.records.values import Skipped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnaudit.records.finding import Finding
    from bnaudit.records.report import Report


def _check(rule: Rule, report: Report) -> Iterator[Finding]:
    for layer in report.layers:
        order = layer.first_order
        if not layer.integrity_failed or not isinstance(order, FirstOrder):
            continue
        if isinstance(order.residual, Skipped):
            continue
        yield rule.finding(
            f"the measured gradient differs from the closed form by {order.residual:.1e} of |D||G|; "
            f"rounding explains at most {order.tolerance:.0e}. The layer's numbers are withheld.",
            layer=layer.label,
            observed=order.residual,
            threshold=order.tolerance,
        )


RULE = Rule(
    id="BN101",
    name="integrity",
    severity=Severity.ERROR,
    summary="Checks autograd's |dL/dx| of each layer against the closed form of BatchNorm's backward.",
    why="The closed form is an equality. Where it does not hold, something else than BatchNorm was "
    "measured: a wrong capture, a custom backward, or numbers beyond the precision of the run.",
    fix="run again with --dtype float64; if it stays, this layer is not a plain BatchNorm, or bnaudit "
    "has a bug worth a report",
    check=_check,
)
