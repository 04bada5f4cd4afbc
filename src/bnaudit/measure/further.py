"""The first order, and what was asked for beyond it: each metric by the function that its line names."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from bnaudit.data.synthetic import ASSUMED
from bnaudit.errors import RunError
from bnaudit.measure.collect import Selection, collect
from bnaudit.measure.enough import until_sure
from bnaudit.measure.finite_difference import verify_gradients
from bnaudit.metrics import METRICS
from bnaudit.records.values import Skipped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from bnaudit.measure.collect import Collected
    from bnaudit.measure.session import Session
    from bnaudit.options import AuditOptions
    from bnaudit.progress import Progress
    from bnaudit.records.layer import FiniteDifference

Key = tuple[str, int]

_NO_FIRST_ORDER = Skipped("not measured on the first batch: not executed there, or m is too small")


@dataclass(frozen=True, slots=True)
class Measured:
    """Everything that was measured, still by call.

    Attributes:
        collected: the first-order pass.
        differences: finite differences by call.
        layers: field of `LayerReport` -> call -> record.
        network: field of `Report` -> its value.
    """

    collected: Collected
    differences: Mapping[Key, FiniteDifference | Skipped]
    layers: Mapping[str, Mapping[Key, Any]]
    network: Mapping[str, Any]


def collect_first_order(
    session: Session, options: AuditOptions, progress: Progress
) -> tuple[Session, Collected]:
    """The first-order pass for the selected layers, over as many batches as are asked for or needed.

    Returns:
        The session with the batches that were run, and what they left behind.

    Raises:
        RunError: the model cannot be run or differentiated.
        UsageError: no executed layer is selected.
    """
    try:
        collected = collect(
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
    return until_sure(session, collected, options, progress), collected


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
    nothing = {
        r.key: Skipped(r.obstacle) if r.obstacle else _NO_FIRST_ORDER
        for records in reversed(collected.batches)
        for r in records
    }
    layers: dict[str, dict[Key, Any]] = {}
    network: dict[str, Any] = {}
    for name, info in METRICS.items():
        if info.measured_by is None or name not in options.metrics:
            continue
        module, _, function = info.measured_by.partition(":")
        with stage(name):
            measure = getattr(import_module(module), function)
            found = measure(session, collected, options, progress)
        for field, records in found.items():
            if isinstance(records, dict):
                layers[field] = {**nothing, **records}
            else:
                network[field] = records
    if session.mismatch is not None:
        none = Skipped("it keeps no running statistics that one batch could have")
        layers["mismatch"] = {key: session.mismatch.get(key[0], none) for key in nothing}
    with stage("verify"):
        differences = verify_gradients(
            session, collected, options.mode, options.verify_gradients, progress
        )
    return Measured(collected, differences, layers, network)
