"""How much BatchNorm changes the gradients upstream of it, from its twins."""

from __future__ import annotations

from math import inf, isfinite, log
from typing import TYPE_CHECKING

from bnaudit.records.values import Skipped

if TYPE_CHECKING:
    from bnaudit.records.twins import ParameterEffect, Twin, Upstream

# A bias in front of a BatchNorm has no gradient but for rounding. In float32 some 1e-6 of the other
# gradients remain of it, and the factor between two such remainders means nothing.
_ROUNDING = 1e-5


def effect(gradients: Twin | ParameterEffect | Upstream) -> float | Skipped:
    """The twin's gradient norm over the model's: above 1, BatchNorm makes gradients smaller."""
    if gradients.grad_norm == 0:
        return Skipped("the gradient of the model is 0")
    return gradients.twin_grad_norm / gradients.grad_norm


def upstream_factor(found: Upstream | Skipped) -> float | Skipped:
    """How many times as large BatchNorm makes the gradients in front of it, end to end."""
    if isinstance(found, Skipped):
        return found
    times = found.grad_norm / found.twin_grad_norm if found.twin_grad_norm else inf
    return times if isfinite(times) else Skipped("without BatchNorm's backward the gradient is 0")


def most_affected(twin: Twin, limit: int) -> list[tuple[str, float]]:
    """(name, ratio) of the parameters whose gradient BatchNorm changes by the largest factor."""
    ratios = [
        (parameter.name, ratio)
        for parameter in twin.parameters
        if parameter.grad_norm > _ROUNDING * twin.grad_norm
        and not isinstance(ratio := effect(parameter), Skipped)
        and isfinite(ratio)
    ]
    # sorted is stable: of equal ones the first in the model's order.
    return sorted(ratios, key=lambda entry: -_distance(entry[1]))[:limit]


def only_in_twin(twin: Twin) -> int:
    """How many parameters have a gradient that BatchNorm cancels altogether, as it does a bias's."""
    return sum(
        parameter.grad_norm <= _ROUNDING * twin.grad_norm
        and parameter.twin_grad_norm > _ROUNDING * twin.twin_grad_norm
        for parameter in twin.parameters
    )


def _distance(ratio: float) -> float:
    return abs(log(ratio)) if ratio > 0 else inf
