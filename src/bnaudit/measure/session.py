"""A model with its batches, placed and ready: what every measurement starts from."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from bnaudit.data.head import Head
from bnaudit.data.loss import LABEL_FREE, choose_loss
from bnaudit.data.prepare import prepare
from bnaudit.data.row_check import Runnable, objection
from bnaudit.errors import UsageError
from bnaudit.load.arguments import with_values
from bnaudit.measure.execution import (
    Call,
    Execution,
    native_dtype,
    place,
    private_copy,
    resolve_device,
)
from bnaudit.measure.settling import Settled, settled
from bnaudit.tap.guard import State, untouched
from bnaudit.tap.naming import Namer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import nn

    from bnaudit.data.batch import Batches
    from bnaudit.load.model import InputSpec, LoadedModel
    from bnaudit.options import AuditOptions
    from bnaudit.records.matching import Mismatch


@dataclass(frozen=True, slots=True)
class Placed:
    """A module on its device, in its dtype, with the names of its layers."""

    loaded: LoadedModel
    module: nn.Module
    device: torch.device
    dtype: torch.dtype
    namer: Namer


@dataclass(frozen=True, slots=True)
class Session:
    """A placed model with batches and a loss.

    Attributes:
        placed: the model.
        execution: runs it on a batch.
        batches: what it is run on.
        notes: what had to be assumed, for the report.
        declared: the inputs of the file, those too that `--input` has set.
        mismatch: layer -> how far matched batches are from what it stores; None of other batches.
    """

    placed: Placed
    execution: Execution
    batches: Batches
    notes: tuple[str, ...]
    declared: tuple[InputSpec, ...] = ()
    mismatch: Mapping[str, Mismatch] | None = None


def place_model(loaded: LoadedModel, options: AuditOptions) -> Placed:
    """Puts the model where the options want it; float16 models run as float32 by default.

    Raises:
        UsageError: the device is not there, or cannot compute in this dtype.
    """
    device = resolve_device(options.device)
    native = loaded.dtype or native_dtype(loaded.module)
    if options.dtype is not None:
        wanted: torch.dtype | None = getattr(torch, options.dtype)
    else:
        wanted = torch.float32 if native == torch.float16 else None
    if device.type == "mps" and (wanted or native) == torch.float64:
        raise UsageError("mps has no float64", hint="use --dtype float32, or --device cpu")
    module = place(loaded, device, wanted)
    return Placed(loaded, module, device, wanted or native, Namer(module, loaded.labels))


def open_session(
    placed: Placed,
    options: AuditOptions,
    *,
    draw: bool = False,
    made: Callable[[Session], Session] | None = None,
) -> Session:
    """Prepares batches and loss. The model is run for it: call inside `untouched`.

    Args:
        placed: the model.
        options: data, labels, loss and seed.
        draw: whether labels may be drawn from the model where there are none.
        made: what makes other batches of those that fit the model, before anything is run for a loss.

    Args:
        placed: the model.
        options: data, labels, loss and seed.
        made: what makes other batches of those that fit the model, before anything is run for a loss.

    Raises:
        UsageError, DataError: options or data do not fit the model.
        RunError: the model cannot be run at its exported batch size.
    """
    session = _with_batches(placed, options)
    if made is not None:
        session = made(session)
    found = Settled(session.execution, session.placed.namer, session.batches)
    found = settled(found, options, draw=draw)
    return replace(session, execution=found.execution, batches=found.batches)


def _with_batches(placed: Placed, options: AuditOptions) -> Session:
    """The session at a batch size that the model runs at, with a loss that needs nothing."""
    loaded = with_values(placed.loaded, options.inputs)
    declared = placed.loaded.inputs
    placed = replace(placed, loaded=loaded)
    bound = None if loaded.lifted else loaded.static_batch
    batches, notes = prepare(options, loaded, bound)
    call = Call(batches.names, loaded.values, loaded.arrange)
    execution = Execution(
        placed.module,
        choose_loss(LABEL_FREE, None, options.seed),
        placed.device,
        placed.dtype,
        options.seed,
        call,
        State(placed.module),
        Head(""),
        options.loss_output,
        loaded.outputs,
    )
    session = Session(placed, execution, batches, notes, declared)
    exported = loaded.static_batch
    if not loaded.lifted or exported is None:
        return session
    original = _as_exported(session, options)
    size = batches.info.batch_size
    if size == exported:
        return original
    reason = _objection(session, original, exported)
    if reason is None:
        note = f"exported at batch size {exported}, run at {size} (rows proved independent)"
        return replace(session, notes=(*notes, note))
    if options.batch_size is not None or options.input_shapes:
        raise UsageError(
            f"the model was exported at batch size {exported} and cannot be run at {size}: {reason}",
            hint="export it with a dynamic batch axis, or leave the batch size out",
        )
    batches, notes = prepare(options, original.placed.loaded, exported)
    note = f"audited at the exported batch size {exported}: {reason}"
    return replace(original, batches=batches, notes=(*notes, note))


def _as_exported(session: Session, options: AuditOptions) -> Session:
    """The session with the model as the file has it, for its own batch size alone."""
    loaded = session.placed.loaded
    if loaded.unlifted is None:
        return session
    again = replace(loaded.unlifted(), path=loaded.path)
    placed = place_model(with_values(again, options.inputs), options)
    placed.module.requires_grad_(False)  # nobody else has it: there is nothing to put back
    execution = replace(session.execution, module=placed.module)
    return replace(session, placed=placed, execution=execution)


def _objection(session: Session, original: Session, exported: int) -> str | None:
    """The proof in the precision of the run, and in float64 where rounding leaves a doubt."""
    batch, same = session.batches.items[0], original is session
    lifted = Runnable(session.execution, session.placed.namer)
    other = lifted if same else Runnable(original.execution, original.placed.namer)
    reason = objection(lifted, other, batch, exported)
    if reason is None or session.placed.dtype == torch.float64:
        return reason
    lifted = Runnable(*in_float64(session))
    other = lifted if same else Runnable(*in_float64(original))
    return objection(lifted, other, batch, exported)


def in_float64(session: Session) -> tuple[Execution, Namer]:
    """The session's model in float64: itself, or a private copy (on the CPU where mps lacks it)."""
    placed = session.placed
    if placed.dtype == torch.float64:
        return session.execution, placed.namer
    device = torch.device("cpu") if placed.device.type == "mps" else placed.device
    session.execution.state.restore()  # a tensor of the last call's graph cannot be copied
    module = private_copy(placed.loaded).to(device=device, dtype=torch.float64)
    if placed.loaded.adapt is not None:
        placed.loaded.adapt(module, device, torch.float64)
    return session.execution.on(module, device, torch.float64), placed.namer.of_copy(module)


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
