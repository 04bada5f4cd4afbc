"""`--verify-gradients`: finite differences for some of the measured layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.errors import RunError
from bnaudit.measure.finite_difference import finite_differences, spread_over_depth
from bnaudit.measure.selection import measurable
from bnaudit.measure.session import in_float64
from bnaudit.records.values import Skipped
from bnaudit.tap.guard import untouched

if TYPE_CHECKING:
    from bnaudit.measure.collect import Collected
    from bnaudit.measure.session import Session
    from bnaudit.progress import Progress
    from bnaudit.records.layer import FiniteDifference

Key = tuple[str, int]


def verify_gradients(
    session: Session, collected: Collected, mode: str, count: int, progress: Progress
) -> dict[Key, FiniteDifference | Skipped]:
    """Finite differences at `count` layers spread over the depth, on the first batch.

    Args:
        session: the model and its batches.
        collected: the first-order pass; layers without a ratio are not candidates.
        mode: "batch" or "running".
        count: how many layers; -1 means all, 0 none.
        progress: told of each layer.
    """
    keys = measurable(collected, mode)
    if count == 0 or not keys:
        return {}
    chosen = spread_over_depth(keys, count)
    try:
        execution, namer = in_float64(session)
        with untouched(execution.module):
            return finite_differences(
                execution, namer, session.batches.items[0], chosen, mode, progress
            )
    except RunError as error:
        # The model ran as it is; that it does not in float64 is no reason to give up on the audit.
        return dict.fromkeys(chosen, Skipped(f"no run in float64: {error.message}"))
