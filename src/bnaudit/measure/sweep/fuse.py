"""Slopes that follow a BatchNorm or a sum go into that call's rule: one pass over the stack less."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bnaudit.measure.sweep.tape import Step, Tape

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
