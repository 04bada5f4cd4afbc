"""The metrics beyond the first order: one line a metric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bnaudit.data.synthetic import ASSUMED
from bnaudit.errors import RunError
from bnaudit.measure.collect import Selection, collect, measurable
from bnaudit.measure.finite_difference import verify_gradients
from bnaudit.measure.second_order import Curvatures, measure_second_order, verify_second_order
from bnaudit.measure.statistics import channel_statistics
from bnaudit.measure.sweep.plan import Detail
from bnaudit.measure.twins import measure_twins
from bnaudit.measure.weight_space import measure_weight_space
from bnaudit.records.curvature import SecondOrder
from bnaudit.records.values import NOT_REQUESTED, Skipped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from bnaudit.measure.collect import Collected
    from bnaudit.measure.session import Session
    from bnaudit.options import AuditOptions
    from bnaudit.progress import Progress
    from bnaudit.records.layer import FiniteDifference
    from bnaudit.records.twins import Twin

Key = tuple[str, int]
Results = dict[Key, Any]

_RUNNING = Skipped("the theorem is about batch statistics (--mode batch)")
_NO_FIRST_ORDER = Skipped("not measured on the first batch: not executed there, or m is too small")


@dataclass(frozen=True, slots=True)
class Measured:
    """Everything that was measured, still by call.

    Attributes:
        collected: the first-order pass.
        differences: finite differences by call.
        further: metric name -> call -> record.
        twins: the model against its twins.
    """

    collected: Collected
    differences: Mapping[Key, FiniteDifference | Skipped]
    further: Mapping[str, Mapping[Key, Any]]
    twins: tuple[Twin, ...] | Skipped = NOT_REQUESTED


def collect_first_order(session: Session, options: AuditOptions, progress: Progress) -> Collected:
    """The first-order pass over all batches, for the selected layers.

    Raises:
        RunError: the model cannot be run or differentiated.
        UsageError: no executed layer is selected.
    """
    try:
        return collect(
            session.execution,
            session.placed.namer,
            session.batches.items,
            options.mode,
            Selection(options.layers),
            progress,
            record="second_order" in options.metrics and options.mode == "batch",
        )
    except RunError as error:
        assumed = [note for note in session.notes if note.endswith(ASSUMED)]
        if not assumed:
            raise
        hint = f"{'; '.join(assumed)}: pass --input-shape, or --data"
        raise RunError(error.message, hint=hint) from error


def _second_order(
    session: Session, collected: Collected, options: AuditOptions, progress: Progress
) -> Curvatures:
    keys = measurable(collected)
    if options.mode == "running":
        return Curvatures(dict.fromkeys(keys, _RUNNING), dict.fromkeys(keys, _RUNNING))
    detail = _detail(options)
    found = measure_second_order(
        session, collected, keys, progress, detail=detail, memory=options.memory
    )
    measured = [key for key in keys if isinstance(found.records[key], SecondOrder)]
    verified = verify_second_order(
        session,
        measured,
        options.verify_second_order,
        options.memory,
        progress,
        detail=detail,
    )
    return found.verified(verified)


def _detail(options: AuditOptions) -> Detail:
    if options.channels:
        return Detail.CHANNELS
    return Detail.BOUND if "second_order_bound" in options.metrics else Detail.CURVATURE


def _statistics(
    session: Session, collected: Collected, _options: AuditOptions, _progress: Progress
) -> Results:
    return channel_statistics(collected.batches, source=session.batches.info.source)


def _weight_space(
    session: Session, collected: Collected, options: AuditOptions, progress: Progress
) -> Results:
    return measure_weight_space(session, collected, options.mode, measurable(collected), progress)


# Named as the fields of `LayerReport` that hold them.
_BY_LAYER: dict[
    str, Callable[[Session, Collected, AuditOptions, Progress], Results | Curvatures]
] = {
    "second_order": _second_order,
    "statistics": _statistics,
    "weight_space": _weight_space,
}


def measure_all(
    session: Session,
    collected: Collected,
    options: AuditOptions,
    progress: Progress,
    stage: Callable[[str], AbstractContextManager[None]],
) -> Measured:
    """What was asked for beyond the first-order pass; call inside `untouched`.

    Args:
        session: the model and its batches.
        collected: the first-order pass.
        options: which metrics.
        progress: told of stages and steps.
        stage: times a stage by name.
    """
    calls = [r.key for records in collected.batches for r in records]
    further: dict[str, Results] = {}
    for name, measure in _BY_LAYER.items():
        if name in options.metrics:
            with stage(name):
                found = measure(session, collected, options, progress)
            nothing = dict.fromkeys(calls, _NO_FIRST_ORDER)
            if isinstance(found, Curvatures):
                further["forward_mode"] = {**nothing, **found.forward_modes}
                found = found.records
            further[name] = {**nothing, **found}
    with stage("verify"):
        differences = verify_gradients(
            session, collected, options.mode, options.verify_gradients, progress
        )
    twins: tuple[Twin, ...] | Skipped = NOT_REQUESTED
    if "twins" in options.metrics:
        with stage("twins"):
            twins = _twins(session, options, progress)
    return Measured(collected, differences, further, twins)


def _twins(
    session: Session, options: AuditOptions, progress: Progress
) -> tuple[Twin, ...] | Skipped:
    if options.mode == "running":
        return Skipped("twins replace the backward of batch statistics (--mode batch)")
    return measure_twins(session, options.twins, progress)
