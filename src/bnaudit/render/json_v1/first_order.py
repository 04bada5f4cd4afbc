"""`first_order`: the gradient-norm reduction of one layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.records.values import Skipped
from bnaudit.render.json_v1.values import Json, Skips, metric, nulls, number

if TYPE_CHECKING:
    from bnaudit.records.layer import FiniteDifference, FirstOrder, ForwardMode

FINITE_DIFFERENCE = ("measured", "predicted", "relative_error", "step")
FORWARD_MODE = ("measured", "predicted", "relative_error")


def first_order_entry(order: FirstOrder | Skipped, path: str, skips: Skips) -> Json:
    """The group with all its keys, whatever was measured."""
    if isinstance(order, Skipped):
        skips.add(path, order.reason)
        return _nothing()
    return {
        "statistics": order.statistics,
        "predicted": metric(order.predicted, f"{path}.predicted", skips),
        "measured": metric(order.measured, f"{path}.measured", skips),
        "residual": number(order.residual, f"{path}.residual", skips),
        "tolerance": number(order.tolerance, f"{path}.tolerance", skips),
        "finite_difference": _finite_difference(
            order.finite_difference, f"{path}.finite_difference", skips
        ),
        "forward_mode": _forward_mode(order.forward_mode, f"{path}.forward_mode", skips),
        "scale": metric(order.scale, f"{path}.scale", skips),
        "projection": metric(order.projection, f"{path}.projection", skips),
        "removed_mean": metric(order.removed_mean, f"{path}.removed_mean", skips),
        "removed_xhat": metric(order.removed_xhat, f"{path}.removed_xhat", skips),
        "grad_out_norm": metric(order.grad_out_norm, f"{path}.grad_out_norm", skips),
        "grad_in_norm": metric(order.grad_in_norm, f"{path}.grad_in_norm", skips),
    }


def _nothing() -> Json:
    return {
        "statistics": None,
        "predicted": None,
        "measured": None,
        "residual": None,
        "tolerance": None,
        "finite_difference": dict.fromkeys(FINITE_DIFFERENCE),
        "forward_mode": dict.fromkeys(FORWARD_MODE),
        "scale": None,
        "projection": None,
        "removed_mean": None,
        "removed_xhat": None,
        "grad_out_norm": None,
        "grad_in_norm": None,
    }


def _finite_difference(quotient: FiniteDifference | Skipped, path: str, skips: Skips) -> Json:
    if isinstance(quotient, Skipped):
        return nulls(FINITE_DIFFERENCE, quotient, path, skips)
    return {
        "measured": number(quotient.measured, f"{path}.measured", skips),
        "predicted": number(quotient.predicted, f"{path}.predicted", skips),
        "relative_error": number(quotient.relative_error, f"{path}.relative_error", skips),
        "step": number(quotient.step, f"{path}.step", skips),
    }


def _forward_mode(slopes: ForwardMode | Skipped, path: str, skips: Skips) -> Json:
    if isinstance(slopes, Skipped):
        return nulls(FORWARD_MODE, slopes, path, skips)
    return {name: number(getattr(slopes, name), f"{path}.{name}", skips) for name in FORWARD_MODE}
