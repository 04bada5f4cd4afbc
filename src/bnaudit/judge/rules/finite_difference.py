"""BN103: finite differences of the loss contradict the theorem at a layer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bnaudit.judge.examples import report as reports
from bnaudit.judge.rule import Needs, Rule, Threshold
from bnaudit.records.finding import Severity
from bnaudit.records.layer import FiniteDifference, FirstOrder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnaudit.records.finding import Finding
    from bnaudit.records.report import Report


def _check(rule: Rule, report: Report) -> Iterator[Finding]:
    limit = rule.limit("relative-error")
    for layer in report.layers:
        order = layer.first_order
        difference = order.finite_difference if isinstance(order, FirstOrder) else None
        if not isinstance(difference, FiniteDifference) or difference.relative_error <= limit:
            continue
        yield rule.finding(
            f"finite differences of the loss give a reduction of {difference.measured:.3g} where the "
            f"closed form predicts {difference.predicted:.3g} ({difference.relative_error:.0%} off)",
            layer=layer.label,
            observed=difference.relative_error,
            threshold=limit,
            confidence="in float64, on the first batch",
        )


def _sick() -> Report:
    difference = FiniteDifference(0.62, 1.2, 0.48, 1e-6)
    order = replace(reports.first_order(), finite_difference=difference)
    return reports.changed("block1.bn", first_order=order)


RULE = Rule(
    id="BN103",
    name="finite-difference",
    severity=Severity.ERROR,
    needs=Needs.RUN,
    summary="Compares the predicted reduction with finite differences, where --verify-gradients took them.",
    why="Finite differences use no backward pass of any kind. If they contradict the closed form, the "
    "model's forward is not a function of its input alone (randomness, state), or its gradient is not the "
    "derivative of what it computes (straight-through estimators, detached branches, custom backward).",
    fix="look for randomness, in-place state, detach or custom autograd functions behind this layer",
    references=("https://arxiv.org/abs/1805.11604",),
    thresholds=(
        Threshold(
            "relative-error",
            0.02,
            "|measured - predicted| over the predicted reduction",
            "ten times the largest error that a ReLU inside the step left on trained networks (2e-3)",
        ),
    ),
    check=_check,
    healthy=reports.report,
    sick=_sick,
)
