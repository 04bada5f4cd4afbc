"""`second_order`: the curvature along the gradient of one layer."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from bnaudit.records.values import Skipped
from bnaudit.render.json_v1.values import Json, Skips, finite, metric, nulls, number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnaudit.records.curvature import SecondOrder, Verification

SECOND_ORDER = (
    "measured",
    "predicted",
    "residual",
    "tolerance",
    "transported",
    "correction",
    "correction_share",
    "rayleigh",
    "rayleigh_scaled",
    "bound",
    "bound_slack",
    "bound_holds",
    "rows",
    "method",
    "verification",
)
VERIFICATION = ("relative_difference", "tolerance")


def second_order_entry(
    order: SecondOrder | Skipped, path: str, skips: Skips, *, channels: bool
) -> Json:
    """The group with all its keys, whatever was measured."""
    if isinstance(order, Skipped):
        nothing = nulls(SECOND_ORDER, order, path, skips)
        return {**nothing, "verification": dict.fromkeys(VERIFICATION)}
    return {
        "measured": metric(order.measured, f"{path}.measured", skips),
        "predicted": metric(order.predicted, f"{path}.predicted", skips),
        "residual": number(order.residual, f"{path}.residual", skips),
        "tolerance": number(order.tolerance, f"{path}.tolerance", skips),
        "transported": metric(order.transported, f"{path}.transported", skips),
        "correction": metric(order.correction, f"{path}.correction", skips),
        "correction_share": metric(order.correction_share, f"{path}.correction_share", skips),
        "rayleigh": metric(order.rayleigh, f"{path}.rayleigh", skips),
        "rayleigh_scaled": metric(order.rayleigh_scaled, f"{path}.rayleigh_scaled", skips),
        "bound": metric(order.bound, f"{path}.bound", skips),
        "bound_slack": metric(order.bound_slack, f"{path}.bound_slack", skips),
        "bound_holds": metric(order.bound_holds, f"{path}.bound_holds", skips),
        "rows": _rows(order.rows, f"{path}.rows", skips) if channels else None,
        "method": order.method,
        "verification": _verification(order.verification, f"{path}.verification", skips),
    }


def _rows(rows: Sequence[tuple[float, float, float]], path: str, skips: Skips) -> list[Json] | None:
    if not rows:
        skips.add(path, "the run did not keep per-channel rows")
        return None
    bad = sum(not all(map(isfinite, row)) for row in rows)
    if bad:
        skips.add(path, f"{bad} of {len(rows)} rows with values that are not finite")
    return [
        {"measured": finite(measured), "predicted": finite(predicted), "bound": finite(bound)}
        for measured, predicted, bound in rows
    ]


def _verification(verification: Verification | Skipped, path: str, skips: Skips) -> Json:
    if isinstance(verification, Skipped):
        return nulls(VERIFICATION, verification, path, skips)
    return {
        name: number(getattr(verification, name), f"{path}.{name}", skips) for name in VERIFICATION
    }
