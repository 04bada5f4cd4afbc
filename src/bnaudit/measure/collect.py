"""The first-order pass: every batch forward and backward once, every layer's moments on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from bnaudit.errors import RunError
from bnaudit.measure.probe import FirstOrderProbe, LayerRecord
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
    """

    batches: list[list[LayerRecord]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    executed: list[str] = field(default_factory=list)
    instance_norms: int = 0


def collect(
    execution: Execution,
    namer: Namer,
    batches: Sequence[Batch],
    mode: str,
    selection: Selection,
    progress: Progress,
) -> Collected:
    """Runs the batches and gathers the moments of every BatchNorm call.

    Args:
        execution: the model, placed.
        namer: of its layers.
        batches: to run.
        mode: "batch" or "running".
        selection: which layers to measure; the others only run.
        progress: told of each batch.

    Raises:
        RunError: the model cannot be run or differentiated.
        UsageError: no executed layer is selected.
    """
    collected = Collected()
    progress.stage("measuring", len(batches))
    for index, batch in enumerate(batches):
        probe = FirstOrderProbe(mode, selection)
        with tapped(namer, probe, probe.replay) as tap, torch.enable_grad():
            tap.start()
            loss = execution.value(batch, index)
            if tap.log.calls:
                _require_finite(loss, execution, namer, batch, index, mode)
                _backward(loss, tap.log)
                probe.finish()
            log = tap.log
        if not log.calls:
            # The whole forward ran without one; other batches take the same way.
            return Collected(instance_norms=log.instance_norms)
        collected.executed += probe.executed
        collected.batches.append(probe.records)
        collected.losses.append(float(loss.detach()))
        collected.instance_norms = log.instance_norms
        progress.advance()
    selection.require_one(collected.executed)
    return collected


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
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise RunError(
                "the device ran out of memory", hint="pass a smaller --batch-size"
            ) from error
        first = next(iter(str(error).splitlines()), "unknown error")
        raise RunError(f"the model cannot be differentiated: {first[:240]}") from error


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
