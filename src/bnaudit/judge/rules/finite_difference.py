"""BN103: finite differences of the loss contradict the theorem at a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.judge.rule import Needs, Rule
from bnaudit.records.finding import Severity
from bnaudit.records.layer import FiniteDifference, FirstOrder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnaudit.records.finding import Finding
    from bnaudit.records.report import Report

LIMIT = 0.02
"""Ten times the largest error that a ReLU inside the step was seen to leave on trained nets (2e-3)."""


def _check(rule: Rule, report: Report) -> Iterator[Finding]:
    for layer in report.layers:
        order = layer.first_order
        difference = order.finite_difference if isinstance(order, FirstOrder) else None
        if not isinstance(difference, FiniteDifference) or difference.relative_error <= LIMIT:
            continue
        yield rule.finding(
            f"finite differences of the loss give a reduction of {difference.measured:.3g} where the "
            f"closed form predicts {difference.predicted:.3g} ({difference.relative_error:.0%} off)",
            layer=layer.label,
            observed=difference.relative_error,
            threshold=LIMIT,
        )


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
    check=_check,
)
