"""BN105: the sweep and double backward give different curvatures at a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.judge.examples import report as reports
from bnaudit.judge.examples.channels import spread
from bnaudit.judge.rule import Needs, Rule
from bnaudit.records.curvature import SWEEP, SecondOrder, Verification
from bnaudit.records.finding import Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnaudit.records.finding import Finding
    from bnaudit.records.report import Report


def _check(rule: Rule, report: Report) -> Iterator[Finding]:
    for layer in report.layers:
        order = layer.second_order
        verification = order.verification if isinstance(order, SecondOrder) else None
        if not isinstance(verification, Verification):
            continue
        difference, tolerance = verification.relative_difference, verification.tolerance
        if difference <= tolerance:
            continue
        yield rule.finding(
            f"the sweep and double backward differ by {difference:.1e} of the curvature in float64; "
            f"rounding explains at most {tolerance:.0e}",
            layer=layer.label,
            observed=difference,
            threshold=tolerance,
            confidence="in float64, on the first batch",
        )


def _sick() -> Report:
    value = spread(2e-4)
    order = SecondOrder(
        measured=value,
        predicted=value,
        residual=3e-8,
        tolerance=1e-5,
        transported=value,
        correction=value,
        correction_share=value,
        rayleigh=value,
        rayleigh_scaled=value,
        bound=value,
        bound_slack=value,
        bound_holds=value,
        method=SWEEP,
        verification=Verification(1e-3, 1e-6),
    )
    return reports.changed("block1.bn", second_order=order)


RULE = Rule(
    id="BN105",
    name="second-order-verification",
    severity=Severity.ERROR,
    needs=Needs.RUN,
    summary="Compares the second-order sweep with double backward, where --verify-second-order ran both.",
    why="Both compute the same Hessian-vector products, one by carrying tangents through the model's "
    "operators, the other by PyTorch's autograd alone. Where they differ, an operator behind the layer has a "
    "derivative of its own, or the forward pass is not the same twice (randomness, state).",
    fix="look for randomness, in-place state or custom operators behind this layer; if there are none, "
    "bnaudit has a bug worth a report",
    references=("https://arxiv.org/abs/1805.11604",),
    check=_check,
    healthy=reports.report,
    sick=_sick,
)
