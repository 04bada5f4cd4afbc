"""The first-order pass: every batch forward and backward once, every layer's moments on the way."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from bnaudit.errors import BnauditError, RunError, first_line
from bnaudit.measure.probe import FirstOrderProbe, LayerRecord
from bnaudit.measure.sweep.recording import Recorded, Recording
from bnaudit.tap.call import BatchNormCall, normalise
from bnaudit.tap.dispatch import tapped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from bnaudit.data.batch import Batch
    from bnaudit.measure.execution import Execution
    from bnaudit.measure.selection import Selection
    from bnaudit.progress import Progress
    from bnaudit.tap.dispatch import TapLog
    from bnaudit.tap.naming import Namer


@dataclass(slots=True)
class Collected:
    """What the batches left behind.

    Attributes:
        batches: per batch the records of its BatchNorm calls, in execution order.
        losses: per batch.
        executed: names of all BatchNorm calls, selected or not.
        instance_norms: InstanceNorm calls in the first batch.
        recorded: the first batch's pass for the second order, where it was asked for and could be recorded.
    """

    batches: list[list[LayerRecord]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    executed: list[str] = field(default_factory=list)
    instance_norms: int = 0
    recorded: Recorded | None = None


def collect(
    execution: Execution,
    namer: Namer,
    batches: Sequence[Batch],
    mode: str,
    selection: Selection,
    progress: Progress,
    *,
    record: bool = False,
) -> Collected:
    """Runs the batches and gathers the moments of every BatchNorm call.

    Args:
        execution: the model, placed.
        namer: of its layers.
        batches: to run.
        mode: "batch" or "running".
        selection: which layers to measure; the others only run.
        progress: told of each batch.
        record: also write down the first batch's pass, for the second order.

    Raises:
        RunError: the model cannot be run or differentiated.
        UsageError: no executed layer is selected.
    """
    run = _Runner(execution, namer, mode, selection)
    progress.stage("measuring", len(batches))
    passes: dict[int, _Pass] = {}
    # The first batch comes last: what is recorded of it is read next, and no other pass runs beside it.
    for index in (*range(1, len(batches)), 0):
        found = passes[index] = run(batches[index], index, record=record and index == 0)
        if not found.log.calls:
            # The whole forward ran without one; other batches take the same way.
            return Collected(instance_norms=found.log.instance_norms)
        progress.advance()
    ordered = [passes[index] for index in range(len(batches))]
    collected = Collected(
        batches=[found.probe.records for found in ordered],
        losses=[found.loss for found in ordered],
        executed=[name for found in ordered for name in found.probe.executed],
        instance_norms=ordered[0].log.instance_norms,
        recorded=ordered[0].recorded,
    )
    selection.require_one(collected.executed)
    return collected


@dataclass(frozen=True, slots=True)
class _Pass:
    """What one batch left behind."""

    probe: FirstOrderProbe
    log: TapLog
    loss: float
    recorded: Recorded | None


@dataclass(frozen=True, slots=True)
class _Runner:
    """Runs a batch forward and backward."""

    execution: Execution
    namer: Namer
    mode: str
    selection: Selection

    def __call__(self, batch: Batch, index: int, *, record: bool) -> _Pass:
        if record:
            # Whatever the recorder meets: what the model itself raises, the plain pass says.
            with suppress(Exception):
                return self._run(batch, index, Recording())
        return self._run(batch, index, None)

    def _run(self, batch: Batch, index: int, recording: Recording | None) -> _Pass:
        probe = FirstOrderProbe(self.mode, self.selection)
        handler = probe if recording is None else recording.around(probe)
        recorded = None
        with tapped(self.namer, handler, probe.replay) as tap, torch.enable_grad():
            tap.start()
            with nullcontext() if recording is None else recording.forward():
                loss = self.execution.value(batch, index)
            if tap.log.calls:
                _require_finite(loss, self.execution, self.namer, batch, index, self.mode)
                recorded = None if recording is None else recording.backward_of(loss)
                probe.begin()
                if index == 0:
                    probe.link()
                _backward(loss, tap.log)
                probe.finish()
            log = tap.log
        return _Pass(probe, log, float(loss.detach()), recorded)


def _backward(loss: Tensor, log: TapLog) -> None:
    if not loss.requires_grad:
        if log.without_grad:
            raise RunError(
                "the model runs its layers without autograd (torch.no_grad or inference mode inside)",
                hint="remove the no_grad from the model's forward, or export it without",
            )
        raise RunError(
            "no gradient flows from the model's output back to any BatchNorm layer",
            hint="the output is detached, or cut by argmax, round or a cast to integers: export the "
            "network up to its scores",
        )
    try:
        loss.backward()
    except BnauditError:
        raise
    except Exception as error:  # whatever a backward of the model's own raises
        if isinstance(error, torch.OutOfMemoryError):
            raise RunError(
                "the device ran out of memory", hint="pass a smaller --batch-size"
            ) from error
        raise RunError(f"the model cannot be differentiated: {first_line(error)}") from error


def _require_finite(
    loss: Tensor, execution: Execution, namer: Namer, batch: Batch, index: int, mode: str
) -> None:
    if bool(torch.isfinite(loss.detach())):
        return
    culprits: list[str] = []

    def watch(call: BatchNormCall) -> Tensor:
        z = normalise(call, call.x, mode)
        for what, t in (("input", call.x), ("output", z)):
            if not culprits and not bool(torch.isfinite(t).all()):
                culprits.append(f"the {what} of {call.name} is the first that is not finite")
        return z

    with tapped(namer, watch) as tap, torch.no_grad():
        tap.start()
        execution.value(batch, index)
    where = culprits[0] if culprits else "every BatchNorm layer is finite, the loss is not"
    raise RunError(
        f"the loss of batch {index + 1} is {float(loss.detach())}: {where}",
        hint="check the weights and statistics of that layer, the input scaling, and the labels",
    )
