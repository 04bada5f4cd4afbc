"""The first order once more in float64: what of a float32 gradient is more than rounding."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from bnaudit.errors import RunError
from bnaudit.measure.probe import FirstOrderProbe
from bnaudit.measure.session import in_float64
from bnaudit.records.values import Skipped
from bnaudit.tap.dispatch import tapped
from bnaudit.tap.guard import untouched

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bnaudit.measure.probe import LayerRecord
    from bnaudit.measure.session import Session

Key = tuple[str, int]

_LOST = 0.5
"""Of |G|^2: where two precisions differ by more, not even the leading digit is the gradient's."""


@contextmanager
def widened(session: Session) -> Iterator[Session]:
    """The session in float64, on a private copy where it runs in another precision.

    Raises:
        RunError: the model cannot be copied.
    """
    execution, namer = in_float64(session)
    placed = replace(
        session.placed,
        module=execution.module,
        device=execution.device,
        dtype=torch.float64,
        namer=namer,
    )
    with untouched(execution.module):
        yield replace(session, placed=placed, execution=execution)


def first_order_records(session: Session) -> dict[Key, LayerRecord]:
    """One forward and backward of the first batch, for the moments of every layer.

    Raises:
        RunError: the model cannot be differentiated.
    """
    probe = FirstOrderProbe("batch")
    with tapped(session.placed.namer, probe, probe.replay) as tap, torch.enable_grad():
        tap.start()
        loss = session.execution.value(session.batches.items[0], 0)
        if not loss.requires_grad:
            raise RunError("the model cannot be differentiated in float64")
        probe.begin()
        loss.backward()
        probe.finish()
    return {r.key: r for r in probe.records if r.obstacle is None}


def lost_in_rounding(
    session: Session, records: Mapping[Key, LayerRecord], keys: Sequence[Key]
) -> dict[Key, Skipped]:
    """The layers whose gradient is what rounding left of terms that cancel: float64 has another one.

    Second derivatives along such a direction are noise, however they are computed. Networks with
    constant weights are of this kind, and those whose output saturates.

    Args:
        session: the model and its batches.
        records: first order of the layers in the precision of the run.
        keys: the layers that are in doubt.
    """
    doubtful = [key for key in keys if records[key].dtype == torch.float32]
    if not doubtful:
        return {}
    try:
        with widened(session) as wide:
            exact = first_order_records(wide)
    except RunError:
        return {}
    reason = Skipped(
        "the gradient is what rounding left of cancelling terms: float64 has another one"
    )
    return {key: reason for key in doubtful if _differ(records[key], exact.get(key))}


def _differ(one: LayerRecord, other: LayerRecord | None) -> bool:
    if other is None or one.moments is None or other.moments is None:
        return False
    ours, theirs = float(one.moments.grad_out_sq.sum()), float(other.moments.grad_out_sq.sum())
    return abs(ours - theirs) > _LOST * max(ours, theirs)
