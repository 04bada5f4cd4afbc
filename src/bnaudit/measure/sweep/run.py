"""From a model and a batch to a prepared tape with its layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bnaudit.measure.sweep.plan import Prepared, allowance, last_readers, pass_seconds
from bnaudit.measure.sweep.play import Site
from bnaudit.measure.sweep.record import Recorded, Recording
from bnaudit.measure.sweep.rules import prepare
from bnaudit.tap.call import BatchNormCall, differentiable, normalise
from bnaudit.tap.dispatch import tapped

if TYPE_CHECKING:
    from collections.abc import Collection

    from torch import Tensor

    from bnaudit.measure.session import Session
    from bnaudit.measure.sweep.tape import Step, Tape

Key = tuple[str, int]


def prepare_tape(
    session: Session, keys: Collection[Key], recorded: Recorded | None = None
) -> Prepared:
    """The tape of the first batch, ready to be swept.

    Args:
        session: the model and its batches.
        keys: the layers that are wanted.
        recorded: a pass over that batch, where there was one; else the model is run.

    Raises:
        RuntimeError: the model cannot be run or differentiated.
    """
    found = recorded or _record(session)
    for step in found.tape.steps:
        prepare(step)
    fuse(found.tape)
    prepared = _with_sites(found.tape, frozenset(keys), found.custom)
    parameters = sum(p.numel() * p.element_size() for p in session.placed.module.parameters())
    prepared.allowance = allowance(found.tape, parameters, session.placed.device)
    if found.seconds:
        prepared.slowness = found.seconds / pass_seconds(found.tape)
    return prepared


def _record(session: Session) -> Recorded:
    """One forward pass under the recorder, one backward for the gradients at curved calls."""
    recording = Recording()

    def normalised(call: BatchNormCall) -> Tensor:
        return normalise(call, differentiable(call.x), "batch")

    with tapped(session.placed.namer, recording.around(normalised), normalised) as tap:
        tap.start()
        with torch.enable_grad():
            with recording.forward():
                loss = session.execution.value(session.batches.items[0], 0)
            found = recording.backward_of(loss)
            if loss.requires_grad:
                loss.backward()
    return found


def _with_sites(tape: Tape, keys: frozenset[Key], custom: frozenset[Key]) -> Prepared:
    """Follows from which layers each call can be reached, and gives up those that meet an obstacle."""
    reached = [0] * tape.count
    found: list[Site] = []
    blocked: dict[int, str] = {}
    for index, step in enumerate(tape.steps):
        mask = 0
        for number in step.inputs:
            mask |= reached[number]
        if step.obstacle is not None:
            # What a lost tensor depends on is not known: nothing in front of it is trusted.
            lost = (1 << len(found)) - 1 if "another view" in step.obstacle else mask
            for i in range(len(found)):
                if lost >> i & 1:
                    blocked.setdefault(i, step.obstacle)
        norm = step.norm
        if norm is not None and norm.reached and step.key is not None and step.key in keys:
            mask |= 1 << len(found)
            found.append(Site(step.key, index, norm))
        for number in step.outputs:
            reached[number] = mask
    obstacles = {found[i].key: reason for i, reason in blocked.items()}
    obstacles |= dict.fromkeys(
        custom & keys, "an autograd function of the model's own is behind it"
    )
    sites = [site for site in found if site.key not in obstacles]
    return Prepared(tape, last_readers(tape), sites, obstacles, 0)


_FUSES = ("add", "add_")


def fuse(tape: Tape) -> None:
    """Moves the slope of a step into the step that made its input, where nobody else reads that."""
    readers = [0] * tape.count
    made: dict[int, Step] = {}
    for step in tape.steps:
        for number in step.inputs:
            readers[number] += 1
        made.update(dict.fromkeys(step.outputs, step))
    for step in tape.steps:
        if step.slope is not None and readers[step.inputs[0]] == 1:
            _into(made.get(step.inputs[0]), step)


def _into(maker: Step | None, step: Step) -> None:
    if maker is None or step.slope is None or maker.out_shapes[0].size != step.out_shapes[0].size:
        return
    if maker.norm is not None or maker.name in _FUSES:
        maker.fused, step.slope = step.slope, None
